//! Cutting text to size, and saying so.

use std::borrow::Cow;

use super::{MAX_ERROR_BYTES, MAX_ERRORS, MAX_LIST_BYTES, MAX_MEMORY_BYTES, MAX_MEMORY_LINES};

/// At most the first `max` bytes of `text`.
pub(crate) fn clip(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    let kept = &text[..text.floor_char_boundary(max)];
    Cow::Owned(format!("{kept}\n[cut here: {} more bytes]", text.len() - kept.len()))
}

/// At most `max` bytes of `text`: its beginning and its end, for what a program said
/// last is mostly why it failed.
pub(super) fn clip_middle(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    let head = &text[..text.floor_char_boundary(max / 2)];
    let tail = &text[text.ceil_char_boundary(text.len() - max / 2)..];
    let cut = text.len() - head.len() - tail.len();
    Cow::Owned(format!("{head}\n[cut here: {cut} bytes]\n{tail}"))
}

/// `text` in one line of at most `max` bytes.
pub(crate) fn one_line(text: &str, max: usize) -> String {
    // Nobody reads what is cut away, and an error can be megabytes long.
    let begin = &text[..text.floor_char_boundary(max.saturating_mul(4))];
    let mut line = String::with_capacity(begin.len().min(max));
    for word in begin.split(|c: char| c.is_whitespace() || c.is_control()) {
        if word.is_empty() {
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if line.len() <= max && begin.len() == text.len() {
        return line;
    }
    line.truncate(line.floor_char_boundary(max));
    line.push('…');
    line
}

/// A list of at most `max` items and [`MAX_LIST_BYTES`], and how many it leaves out.
pub(super) fn list<T>(
    items: impl ExactSizeIterator<Item = T>,
    max: usize,
    line: impl Fn(T) -> String,
) -> String {
    let total = items.len();
    let mut lines = Vec::new();
    let mut bytes = 0;
    for item in items.take(max) {
        let line = line(item);
        bytes += line.len() + 1;
        if bytes > MAX_LIST_BYTES {
            break;
        }
        lines.push(line);
    }
    if lines.len() < total {
        lines.push(format!("[{} more are left out]", total - lines.len()));
    }
    lines.join("\n")
}

/// The newest of an agent's memory, oldest first.
pub(super) fn memory(entries: &[String]) -> String {
    let mut kept = Vec::new();
    let mut bytes = 0;
    for entry in entries.iter().rev().take(MAX_MEMORY_LINES) {
        let line = format!("- {}", one_line(entry, MAX_MEMORY_BYTES / 2));
        bytes += line.len() + 1;
        if bytes > MAX_MEMORY_BYTES {
            break;
        }
        kept.push(line);
    }
    if kept.len() < entries.len() {
        kept.push(format!("[{} older entries are left out]", entries.len() - kept.len()));
    }
    kept.reverse();
    kept.join("\n")
}

/// The errors of attempts, oldest first: equal ones once, with how often they came.
pub(super) fn errors(errors: &[String]) -> String {
    let mut groups: Vec<(&str, Vec<usize>)> = Vec::new();
    for (at, error) in errors.iter().enumerate() {
        let error = error.trim();
        match groups.iter().position(|(known, _)| *known == error) {
            Some(known) => {
                let (_, mut attempts) = groups.remove(known);
                attempts.push(at + 1);
                groups.push((error, attempts));
            }
            None => groups.push((error, vec![at + 1])),
        }
    }
    let older = groups.len().saturating_sub(MAX_ERRORS);
    let mut parts = Vec::new();
    if older > 0 {
        parts.push(format!("[{older} older errors are left out]"));
    }
    for (error, attempts) in groups.iter().skip(older) {
        let heading = match attempts.as_slice() {
            [only] => format!("Attempt {only}:"),
            many => format!(
                "Attempts {}: failed the same way {} times: do something different.",
                numbers(many),
                many.len()
            ),
        };
        parts.push(format!("{heading}\n{}", clip_middle(error, MAX_ERROR_BYTES)));
    }
    parts.join("\n\n")
}

fn numbers(attempts: &[usize]) -> String {
    const SHOWN: usize = 10;
    let mut text: Vec<String> = attempts.iter().take(SHOWN).map(ToString::to_string).collect();
    if attempts.len() > SHOWN {
        text.push("…".to_owned());
    }
    text.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_should_fall_between_characters_and_be_told() {
        let text = "ä".repeat(10);
        assert_eq!(clip(&text, 20), text);
        assert_eq!(clip(&text, 5), "ää\n[cut here: 16 more bytes]");
        assert_eq!(clip_middle(&text, 10), "ää\n[cut here: 12 bytes]\nää");
    }

    #[test]
    fn line_should_hold_no_breaks_and_no_control_characters() {
        assert_eq!(one_line(" a\r\n\n b\u{1b}[2Jc ", 80), "a b [2Jc");
        assert_eq!(one_line("äöü", 3), "ä…");
        assert!(one_line(&"x ".repeat(1_000_000), 50).len() < 60);
    }

    #[test]
    fn memory_should_keep_the_newest() {
        let entries: Vec<String> = (0..60).map(|n| format!("fact {n}")).collect();
        let text = memory(&entries);
        assert!(text.starts_with("[10 older entries are left out]\n- fact 10\n"), "{text}");
        assert!(text.ends_with("- fact 59"), "{text}");
        let large = ["x", "y", "z"].map(|text| text.repeat(4000));
        let text = memory(&large);
        assert!(text.starts_with("[1 older entries are left out]\n- yy"), "{text}");
        assert!(text.len() <= MAX_MEMORY_BYTES + 64);
        assert_eq!(memory(&[]), "");
    }

    #[test]
    fn equal_errors_should_be_counted_and_asked_to_be_avoided() {
        let all = ["no jq", "no net", "no jq\n"].map(str::to_owned);
        assert_eq!(
            errors(&all),
            "Attempt 2:\nno net\n\n\
             Attempts 1, 3: failed the same way 2 times: do something different.\nno jq"
        );
        assert_eq!(errors(&[]), "");
    }

    #[test]
    fn errors_should_be_bounded_and_keep_their_end() {
        let all: Vec<String> =
            (0..8).map(|n| format!("{n}{}end of {n}", "x".repeat(100_000))).collect();
        let text = errors(&all);
        assert!(text.starts_with("[3 older errors are left out]\n\nAttempt 4:\n3xx"), "{text}");
        assert!(text.ends_with("end of 7"), "{text}");
        assert!(text.len() < 6 * MAX_ERROR_BYTES);
    }
}
