//! Reading hashes into records: what is absent, and what is not as expected.
//!
//! Anybody may write into Redis, so a hash can hold anything. What cannot be read is an
//! error that names key and field; nothing here panics.

use std::collections::HashMap;
use std::str::FromStr;

use redis::{FromRedisValue, ParsingError, Value};

use crate::error::Error;

/// How much of a field's name an error shows, in bytes, where anybody may have chosen it.
const MAX_SHOWN_BYTES: usize = 128;

/// A hash's fields and values. Bytes that are no UTF-8 are replaced: one of them in a text
/// for people must not make the whole record unreadable, and in a number or an id it is an
/// error like any other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(HashMap<String, String>);

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for Fields {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let pairs = pairs.into_iter();
        Self(pairs.map(|(name, value)| (text(name.as_ref()), text(value.as_ref()))).collect())
    }
}

impl FromRedisValue for Fields {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let pairs: HashMap<Vec<u8>, Vec<u8>> = redis::from_redis_value(value)?;
        Ok(pairs.into_iter().collect())
    }
}

/// A hash as Redis gave it.
#[derive(Debug, Clone, Default)]
pub struct Hash {
    key: String,
    fields: HashMap<String, String>,
}

impl Hash {
    /// What stands under `key`, which errors name.
    #[must_use]
    pub fn new(key: impl Into<String>, fields: Fields) -> Self {
        Self { key: key.into(), fields: fields.0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The names of all fields.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(String::as_str)
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

/// The error for an entry of a hash that holds one text for each field.
pub(crate) fn no_entry(key: &str, field: &str, entry: &str, expected: &'static str) -> Error {
    let field = shortened(field, MAX_SHOWN_BYTES).escape_debug();
    Error::malformed(format!("{key} {field}"), entry, expected)
}

/// The beginning of `text`, at most `limit` bytes.
pub(crate) fn shortened(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}
