//! The reference's form: an `agents:` list in YAML.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::Context;
use super::agents::{self, Raw};
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
    Single(Scalar),
    List(Vec<Spanned<Scalar>>),
    Nested,
}

/// What has no parts.
enum Scalar {
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
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
                ScalarVisitor.visit_map(map)?;
                Ok(Value::Nested)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Value::List(items))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
                ScalarVisitor.visit_str(text).map(Value::Single)
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
                ScalarVisitor.visit_u64(number).map(Value::Single)
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
                ScalarVisitor.visit_i64(number).map(Value::Single)
            }
            fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
                ScalarVisitor.visit_f64(number).map(Value::Single)
            }
            fn visit_bool<E: Error>(self, truth: bool) -> Result<Value, E> {
                ScalarVisitor.visit_bool(truth).map(Value::Single)
            }
            fn visit_unit<E: Error>(self) -> Result<Value, E> {
                ScalarVisitor.visit_unit().map(Value::Single)
            }
        }
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a single value")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Nested)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Nested)
    }
    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }
    fn visit_u64<E>(self, _: u64) -> Result<Scalar, E> {
        Ok(Scalar::Plain)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Scalar, E> {
        Ok(Scalar::Plain)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Scalar, E> {
        Ok(Scalar::Plain)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Scalar, E> {
        Ok(Scalar::Plain)
    }
    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::Plain)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
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
    let mut found = Vec::new();
    for node in document.agents.unwrap_or_default() {
        let place = code.place(offset(&code.text, &node.referenced));
        let entries = match node.value {
            Node::Agent(entries) => entries,
            Node::Other => Vec::new(),
        };
        found.extend(agent(context, code, place, entries));
    }
    found
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
        let name_of_key = normal_key(&key.value);
        let place = &value.referenced;
        let (value, items) = match &value.value {
            Value::Single(scalar) => (spot(code, place, scalar), Vec::new()),
            Value::List(items) if agents::takes_list(&name_of_key) => {
                let text = String::new();
                let at = code.place(offset(&code.text, place));
                let spots = items.iter().map(|item| spot(code, &item.referenced, &item.value));
                // Where one has parts itself, the whole list is refused.
                match spots.collect::<Option<Vec<_>>>() {
                    Some(items) => (Some(Spot { text, range: at..at }), items),
                    None => (None, Vec::new()),
                }
            }
            Value::List(_) | Value::Nested => (None, Vec::new()),
        };
        let Some(value) = value else {
            let written = key.value.escape_debug();
            let (message, help) = if agents::takes_list(&name_of_key) {
                let help = format!("write it as `{name_of_key}: [a, b]`");
                (format!("`{written}` must be a list of single values"), help)
            } else {
                (format!("`{written}` must be a single value"), "write it as `key: value`".into())
            };
            context.error(&key_range, message, Some(help));
            continue;
        };
        if name_of_key == "name" {
            name = Some(value);
        } else {
            settings.push(Setting { key: name_of_key, key_range, value, items });
        }
    }
    if name.is_none() {
        let help = "begin each entry with `- name: <agent>`".to_owned();
        context.error(&(place..place), "this agent has no name", Some(help));
    }
    name.map(|name| Raw { name, settings })
}

/// A single value and where it stands; `None` for what has parts.
fn spot(code: &Code, place: &serde_saphyr::Location, scalar: &Scalar) -> Option<Spot> {
    let at = offset(&code.text, place);
    let length = place.span().byte_len().and_then(|n| usize::try_from(n).ok());
    let raw = code.text.get(at..at + length.unwrap_or(0)).unwrap_or_default().trim();
    let text = match scalar {
        Scalar::Text(text) => text.clone(),
        Scalar::Plain if matches!(raw, "~" | "null" | "Null" | "NULL") => String::new(),
        Scalar::Plain => raw.to_owned(),
        Scalar::Nested => return None,
    };
    let at = code.place(at);
    Some(Spot { text, range: at..at + raw.len() })
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
