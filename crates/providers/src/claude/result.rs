//! The line of JSON in which `claude` sums a run up.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::call::Usage;
use crate::common::{head, micros, name};

/// How the line begins.
const START: &str = r#"{"type":"result""#;
/// How much of a denied call is shown, in bytes.
const SHOWN_BYTES: usize = 80;

/// The line, as far as it is read. Text is borrowed where it holds no escapes: it may be
/// megabytes.
#[derive(Debug, Deserialize)]
pub(super) struct Outcome<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default, borrow)]
    pub(super) subtype: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(super) is_error: bool,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) api_error_status: Option<u16>,
    #[serde(default, borrow)]
    result: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "lenient")]
    errors: Vec<String>,
    #[serde(default)]
    pub(super) structured_output: Option<Value>,
    #[serde(default, borrow)]
    pub(super) session_id: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "lenient")]
    total_cost_usd: Option<f64>,
    #[serde(default, deserialize_with = "lenient")]
    usage: Tokens,
    #[serde(default, rename = "modelUsage", deserialize_with = "lenient")]
    models: BTreeMap<String, ModelUsage>,
    #[serde(default)]
    pub(super) permission_denials: Vec<Denial>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tokens {
    input_tokens: u64,
    output_tokens: u64,
    cache_read_input_tokens: u64,
    cache_creation_input_tokens: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ModelUsage {
    input_tokens: u64,
    output_tokens: u64,
    cache_read_input_tokens: u64,
    cache_creation_input_tokens: u64,
    #[serde(rename = "costUSD")]
    cost_usd: f64,
}

/// A call of a tool that was not allowed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Denial {
    tool_name: String,
    tool_input: Value,
}

impl Denial {
    /// The call, for a person.
    pub(super) fn call(&self) -> String {
        let tool = head(&self.tool_name, SHOWN_BYTES);
        match super::shown(&self.tool_input) {
            Some(input) if input.len() > SHOWN_BYTES => {
                format!("{tool}({}..)", head(input, SHOWN_BYTES))
            }
            Some(input) => format!("{tool}({input})"),
            None => tool.to_owned(),
        }
    }

    /// The rule that would have allowed it, and not much more.
    pub(super) fn rule(&self) -> String {
        let command = self.tool_input.get("command").and_then(Value::as_str).unwrap_or_default();
        let program = command.split_whitespace().next().unwrap_or_default();
        let plain = |char: char| char.is_ascii_alphanumeric() || "._-/".contains(char);
        let fits = (1..=SHOWN_BYTES).contains(&program.len());
        if self.tool_name == "Bash" && fits && program.chars().all(plain) {
            return format!("Bash({program}:*)");
        }
        head(&self.tool_name, SHOWN_BYTES).to_owned()
    }
}

impl<'a> Outcome<'a> {
    /// What the model said, or why there is nothing.
    pub(super) fn text(&self) -> Cow<'_, str> {
        match &self.result {
            Some(result) => Cow::Borrowed(result),
            None if self.errors.is_empty() => {
                Cow::Borrowed(self.subtype.as_deref().unwrap_or("no reason given"))
            }
            None => Cow::Owned(self.errors.join("; ")),
        }
    }

    /// As [`Outcome::text`], without a copy where there is an answer.
    pub(super) fn into_text(self) -> String {
        match self.result {
            Some(result) => result.into_owned(),
            None => self.text().into_owned(),
        }
    }

    /// Of all models that took part.
    pub(super) fn usage(&self) -> Usage {
        let cost_micros = self.total_cost_usd.and_then(micros);
        if self.models.is_empty() {
            return Usage { cost_micros, ..self.usage.usage() };
        }
        let mut usage = Usage { cost_micros, ..Usage::default() };
        for model in self.models.values() {
            let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
            add(&mut usage.input_tokens, model.input_tokens);
            add(&mut usage.output_tokens, model.output_tokens);
            add(&mut usage.cache_read_tokens, model.cache_read_input_tokens);
            add(&mut usage.cache_write_tokens, model.cache_creation_input_tokens);
        }
        usage
    }

    /// The model that most was spent on.
    pub(super) fn model(&self) -> Option<String> {
        let most = self
            .models
            .iter()
            .max_by(|(_, one), (_, other)| one.cost_usd.total_cmp(&other.cost_usd));
        most.and_then(|(model, _)| name(model))
    }
}

impl Tokens {
    const fn usage(&self) -> Usage {
        Usage {
            cost_micros: None,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            cache_read_tokens: self.cache_read_input_tokens,
            cache_write_tokens: self.cache_creation_input_tokens,
        }
    }
}

/// A figure or list that a later version writes differently is as if it were not there:
/// the answer beside it still counts.
fn lenient<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// What sums a run up: the last such line, or the end of one behind other text.
pub(super) fn last(stdout: &str) -> Option<Outcome<'_>> {
    let lines = stdout.lines().rev().map(str::trim).filter(|line| line.starts_with('{'));
    let behind = || stdout.rfind(START).map(|at| stdout[at..].trim());
    lines.chain(std::iter::once_with(behind).flatten()).find_map(|line| {
        let outcome = serde_json::from_str::<Outcome<'_>>(line).ok()?;
        (outcome.kind == "result").then_some(outcome)
    })
}

/// Whether the line was begun; for output without a line that can be read.
pub(super) fn is_cut(stdout: &str) -> bool {
    stdout.contains(START)
}

/// What a line cost whose middle is missing, from what stands at its end. A model cannot
/// forge it: within a string, these quotes would be escaped.
pub(super) fn usage_at_end(stdout: &str) -> Usage {
    let behind = |key: &str| stdout.rfind(key).map(|at| &stdout[at + key.len()..]);
    let tokens = behind("\"usage\":").and_then(first::<Tokens>).unwrap_or_default();
    let cost = behind("\"total_cost_usd\":").and_then(first::<f64>);
    Usage { cost_micros: cost.and_then(micros), ..tokens.usage() }
}

/// The JSON value with which `text` begins.
fn first<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::Deserializer::from_str(text).into_iter::<T>().next()?.ok()
}
