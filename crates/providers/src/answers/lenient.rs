//! Reading what is meant where it is written another way than the schema says.

use model::task::MAX_PRIORITY;
use model::{Role, TaskId};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::prompts::{clip, printable};

/// What a value is, for people.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A text; numbers and truth values as they are written.
pub(super) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

pub(super) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let value = Value::deserialize(from)?;
    text_of(&value)
        .ok_or_else(|| D::Error::custom(format!("expected a text, not {}", kind(&value))))
}

/// A text, or nothing.
pub(super) fn maybe_text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let value = Value::deserialize(from)?;
    if value.is_null() {
        return Ok(None);
    }
    match text_of(&value) {
        Some(text) => Ok(Some(text).filter(|text| !text.is_empty())),
        None => Err(D::Error::custom(format!("expected a text or null, not {}", kind(&value)))),
    }
}

/// A text, or nothing for it.
pub(super) fn text_or_empty<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    maybe_text(from).map(Option::unwrap_or_default)
}

/// A list of texts; a single one, and objects in the list, are taken too.
pub(super) fn texts<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let value = Value::deserialize(from)?;
    let items = match &value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(items) => items.iter().map(flat).collect(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            vec![flat(&value)]
        }
    };
    Ok(items.into_iter().filter(|text: &String| !text.is_empty()).collect())
}

/// Anything in one text: `key: value; key: value` for an object.
pub(super) fn flat(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => text_of(value).unwrap_or_default(),
        Value::Array(items) => items.iter().map(flat).collect::<Vec<_>>().join("; "),
        Value::Object(fields) => {
            let show = |(key, value)| format!("{key}: {}", flat(value));
            fields.iter().map(show).collect::<Vec<_>>().join("; ")
        }
    }
}

/// Prose of at most `max` bytes, safe to show.
pub(super) fn prose(text: &str, max: usize) -> String {
    printable(clip(text, max).into_owned())
}

/// Several texts or one: one text, a line each.
pub(super) fn lines<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    texts(from).map(|texts| texts.join("\n"))
}

pub(super) fn boolean<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    let value = Value::deserialize(from)?;
    let word = text_of(&value).unwrap_or_default().to_ascii_lowercase();
    match word.as_str() {
        "true" | "yes" => Ok(true),
        "false" | "no" => Ok(false),
        _ => Err(D::Error::custom("expected true or false")),
    }
}

/// How sure a model is: 0 where it does not say, for that moves nothing.
pub(super) fn confidence<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let value = Value::deserialize(from)?;
    if value.is_null() {
        return Ok(0.0);
    }
    let written = text_of(&value).unwrap_or_default();
    let number = match written.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|number| number / 100.0),
        None => written.parse(),
    };
    match number {
        Ok(number) if (0.0..=1.0).contains(&number) => Ok(number),
        Ok(_) | Err(_) => Err(D::Error::custom("expected a number from 0 to 1")),
    }
}

/// A priority; a whole number may be written `10.0` or `"10"`.
pub(super) fn priority<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    let value = Value::deserialize(from)?;
    if value.is_null() {
        return Ok(None);
    }
    let number = text_of(&value).and_then(|text| text.parse::<f64>().ok());
    match number {
        Some(number)
            if number.fract() == 0.0 && (0.0..=f64::from(MAX_PRIORITY)).contains(&number) =>
        {
            Ok(Some(number as u32))
        }
        Some(_) | None => {
            let shown = flat(&value);
            let shown: String = shown.chars().take(40).collect();
            Err(D::Error::custom(format!(
                "`{shown}` is no priority: expected a whole number from 0 to {MAX_PRIORITY}, \
                 or null"
            )))
        }
    }
}

/// An id as a plan may give one. Never mended: another id is another task.
pub(super) fn plain_id<'de, D: Deserializer<'de>>(from: D) -> Result<TaskId, D::Error> {
    let id = any_id(from)?;
    if !id.is_plain() {
        let limit = model::id::MAX_ID_BYTES;
        return Err(D::Error::custom(format!(
            "the id has {} bytes; at most {limit} are allowed",
            id.as_str().len()
        )));
    }
    Ok(id)
}

/// An id as it may be stored.
pub(super) fn any_id<'de, D: Deserializer<'de>>(from: D) -> Result<TaskId, D::Error> {
    TaskId::new(text(from)?).map_err(D::Error::custom)
}

pub(super) fn role<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Role>, D::Error> {
    maybe_text(from)?.map(Role::new).transpose().map_err(D::Error::custom)
}
