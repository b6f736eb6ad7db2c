//! Reading hashes into records: what is absent, and what is not as expected.

use std::collections::HashMap;
use std::str::FromStr;

use crate::error::Error;

/// A hash's fields and values.
pub(crate) type Fields = HashMap<String, String>;

/// A hash as Redis gave it.
#[derive(Debug, Default)]
pub(crate) struct Hash {
    key: String,
    fields: HashMap<String, String>,
}

impl Hash {
    pub(crate) fn new(key: impl Into<String>, fields: HashMap<String, String>) -> Self {
        Self { key: key.into(), fields }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// A text, '' where absent.
    pub(crate) fn text(&self, field: &str) -> String {
        self.fields.get(field).cloned().unwrap_or_default()
    }

    /// A text, `None` where absent or empty.
    pub(crate) fn some(&self, field: &str) -> Option<String> {
        self.fields.get(field).filter(|value| !value.is_empty()).cloned()
    }

    /// A parsed value, `None` where absent or empty.
    pub(crate) fn parsed<T: FromStr>(
        &self,
        field: &str,
        expected: &'static str,
    ) -> Result<Option<T>, Error> {
        match self.fields.get(field).filter(|value| !value.is_empty()) {
            None => Ok(None),
            Some(value) => match value.parse() {
                Ok(parsed) => Ok(Some(parsed)),
                Err(_) => Err(Error::malformed(format!("{} {field}", self.key), value, expected)),
            },
        }
    }

    /// A number, 0 where absent.
    pub(crate) fn number<T: FromStr + Default>(&self, field: &str) -> Result<T, Error> {
        Ok(self.parsed(field, "a number")?.unwrap_or_default())
    }

    /// A value that must be there.
    pub(crate) fn required<T: FromStr>(
        &self,
        field: &str,
        expected: &'static str,
    ) -> Result<T, Error> {
        self.parsed(field, expected)?
            .ok_or_else(|| Error::malformed(format!("{} {field}", self.key), "", expected))
    }
}

/// The beginning of `text`, at most `limit` bytes.
pub(crate) fn shortened(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}
