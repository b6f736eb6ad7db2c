//! An error with its causes, for where one line is all there is.

use std::error::Error;

/// The error's text and those of its causes, outermost first, joined by `: `. A cause
/// is left out whose text the line holds already: some libraries repeat their causes.
#[must_use]
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    #[test]
    fn chain_should_name_each_cause_once() {
        let root = Layer { text: "no route", source: None };
        let middle = Layer { text: "connecting: no route", source: Some(Box::new(root)) };
        let outer = Layer { text: "reading a goal", source: Some(Box::new(middle)) };
        assert_eq!(error_chain(&outer), "reading a goal: connecting: no route");
    }
}
