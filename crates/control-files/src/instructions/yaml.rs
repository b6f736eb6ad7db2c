//! The reference's form: an `agents:` list in YAML.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::Context;
use super::agents::Raw;
use super::blocks::Code;
use super::settings::{Setting, Spot, normal_key};

/// Whether `code` looks as if it declared agents. Other YAML in the file is none
/// of ours, however wrong it may be.
pub(super) fn declares_agents(code: &Code) -> bool {
    let declares = |line: &str| {
        let rest = line.trim_end().strip_prefix("agents").map(str::trim_start);
        rest.is_some_and(|rest| rest.starts_with(':'))
    };
    match code.language.as_str() {
        "yaml" | "yml" => code.text.lines().any(declares),
        "" => {
            let says = |line: &&str| !line.trim().is_empty() && !line.starts_with('#');
            code.text.lines().find(says).is_some_and(declares)
        }
        _ => false,
    }
}

#[derive(Deserialize)]
struct Document {
    agents: Option<Vec<Spanned<Node>>>,
}

/// One entry of the list.
enum Node {
    Agent(Vec<(Spanned<String>, Spanned<Value>)>),
    Other,
}

/// One value: its text as written, where it is a single one.
enum Value {
    Text(String),
    /// A number, a truth value or nothing: the source has its spelling, which
    /// `001` would lose on the way.
    Plain,
    Nested,
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NodeVisitor;
        impl<'de> Visitor<'de> for NodeVisitor {
            type Value = Node;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an agent's keys and values")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Node::Agent(entries))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Node::Other)
            }
            fn visit_str<E>(self, _: &str) -> Result<Node, E> {
                Ok(Node::Other)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
                Ok(Node::Other)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
                Ok(Node::Other)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
                Ok(Node::Other)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
                Ok(Node::Other)
            }
            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Other)
            }
        }
        deserializer.deserialize_any(NodeVisitor)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;
        impl<'de> Visitor<'de> for ValueVisitor {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Value::Nested)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Value::Nested)
            }
            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.to_owned()))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
                Ok(Value::Plain)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
                Ok(Value::Plain)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
                Ok(Value::Plain)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
                Ok(Value::Plain)
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Plain)
            }
        }
        deserializer.deserialize_any(ValueVisitor)
    }
}

/// The agents that `code` declares; what cannot be read is reported.
pub(super) fn agents(context: &mut Context<'_>, code: &Code) -> Vec<Raw> {
    let options = serde_saphyr::options! { with_snippet: false };
    let document: Document = match serde_saphyr::from_str_with_options(&code.text, options) {
        Ok(document) => document,
        Err(error) => {
            let location = error.location();
            let at = location.map_or(0, |location| offset(&code.text, &location));
            let place = code.place(at);
            let message = format!("these agents cannot be read: {}", plain(&error));
            let help = "write `agents:` and under it a list of `- name: ..`, `  goal: ..`";
            context.error(&(place..place), message, Some(help.to_owned()));
            return Vec::new();
        }
    };
    let mut agents = Vec::new();
    for node in document.agents.unwrap_or_default() {
        let place = code.place(offset(&code.text, &node.referenced));
        let entries = match node.value {
            Node::Agent(entries) => entries,
            Node::Other => Vec::new(),
        };
        agents.extend(agent(context, code, place, entries));
    }
    agents
}

fn agent(
    context: &mut Context<'_>,
    code: &Code,
    place: usize,
    entries: Vec<(Spanned<String>, Spanned<Value>)>,
) -> Option<Raw> {
    let mut name = None;
    let mut settings = Vec::new();
    for (key, value) in entries {
        let key_at = code.place(offset(&code.text, &key.referenced));
        let key_range = key_at..key_at + key.value.len();
        let at = offset(&code.text, &value.referenced);
        let length = value.referenced.span().byte_len().and_then(|n| usize::try_from(n).ok());
        let raw = code.text.get(at..at + length.unwrap_or(0)).unwrap_or_default().trim();
        let text = match value.value {
            Value::Text(text) => text,
            Value::Plain if matches!(raw, "~" | "null" | "Null" | "NULL") => String::new(),
            Value::Plain => raw.to_owned(),
            Value::Nested => {
                let message = format!("`{}` must be a single value", key.value.escape_debug());
                context.error(&key_range, message, Some("write it as `key: value`".to_owned()));
                continue;
            }
        };
        let at = code.place(at);
        let value = Spot { text, range: at..at + raw.len() };
        if normal_key(&key.value) == "name" {
            name = Some(value);
        } else {
            settings.push(Setting { key: normal_key(&key.value), key_range, value });
        }
    }
    if name.is_none() {
        let help = "begin each entry with `- name: <agent>`".to_owned();
        context.error(&(place..place), "this agent has no name", Some(help));
    }
    name.map(|name| Raw { name, settings })
}

/// The byte in `text` that `location` means.
fn offset(text: &str, location: &serde_saphyr::Location) -> usize {
    if let Some(at) = location.span().byte_offset().and_then(|at| usize::try_from(at).ok())
        && at <= text.len()
    {
        return at;
    }
    let line = usize::try_from(location.line().saturating_sub(1)).unwrap_or(usize::MAX);
    let column = usize::try_from(location.column().saturating_sub(1)).unwrap_or(usize::MAX);
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let rest = text.get(start..).unwrap_or_default();
    start + rest.char_indices().nth(column).map_or(0, |(at, _)| at)
}

/// The message alone, on one line, without the place, which counts from the block.
fn plain(error: &serde_saphyr::Error) -> String {
    let text = super::settings::one_line(&error.without_snippet().to_string());
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}
