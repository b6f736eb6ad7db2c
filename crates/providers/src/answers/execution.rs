//! The answer to [`crate::prompts::Execute`].

use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{Answer, cell, lenient};
use crate::Step;
use crate::prompts::one_line;

/// The most files of an answer; what comes after is not recorded.
const MAX_OUTPUTS: usize = 500;
/// The longest path or description, in bytes.
const MAX_OUTPUT_BYTES: usize = 1024;
/// The longest notes, in bytes.
const MAX_NOTES_BYTES: usize = 16 * 1024;
/// The most follow-ups.
const MAX_FOLLOW_UPS: usize = 20;
/// The longest follow-up, in bytes.
const MAX_FOLLOW_UP_BYTES: usize = 500;

/// What an agent says of the task that it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Execution {
    /// How it went.
    #[serde(deserialize_with = "status")]
    pub status: ExecutionStatus,
    /// The files that were written or changed.
    #[serde(default, deserialize_with = "outputs")]
    pub outputs: Vec<Output>,
    /// What whoever goes on from here must know.
    #[serde(default, deserialize_with = "notes")]
    pub notes: String,
    /// What is worth doing that the task did not ask for.
    #[serde(default, deserialize_with = "follow_ups")]
    pub follow_ups: Vec<String>,
}

/// How a task went, as the agent has it. It says nothing of whether it is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExecutionStatus {
    /// All that the task asks for is there.
    Done,
    /// It was tried and did not work.
    Failed,
    /// It cannot be done before a person or another task provides something.
    Blocked,
}

impl ExecutionStatus {
    /// The word in answers and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Blocked => "blocked",
        }
    }
}

/// A file that a task wrote, as the agent has it: a claim, until somebody looks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// Its path, relative to the working folder.
    pub path: String,
    /// What is in it.
    pub description: String,
}

impl Answer for Execution {
    const STEP: Step = Step::Execute;
    cell!();
}

fn status<'de, D: Deserializer<'de>>(from: D) -> Result<ExecutionStatus, D::Error> {
    let word = lenient::text(from)?.to_ascii_lowercase();
    match word.as_str() {
        "done" | "complete" | "completed" | "success" => Ok(ExecutionStatus::Done),
        "failed" | "failure" | "error" => Ok(ExecutionStatus::Failed),
        "blocked" => Ok(ExecutionStatus::Blocked),
        other => Err(D::Error::custom(format!(
            "`{}` is no status: expected done, failed or blocked",
            one_line(other, 40)
        ))),
    }
}

fn notes<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(lenient::prose(&lenient::lines(from)?, MAX_NOTES_BYTES))
}

fn follow_ups<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let texts = lenient::texts(from)?.into_iter().take(MAX_FOLLOW_UPS);
    Ok(texts.map(|text| one_line(&text, MAX_FOLLOW_UP_BYTES)).collect())
}

/// A list of outputs, of paths, or an object of both; or a single one.
fn outputs<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Output>, D::Error> {
    let value = Value::deserialize(from)?;
    let outputs = match &value {
        Value::Null => Vec::new(),
        Value::Bool(_) | Value::Number(_) => {
            return Err(D::Error::custom(format!(
                "expected a list of {{path, description}}, not {}",
                lenient::kind(&value)
            )));
        }
        Value::String(_) => listed(std::slice::from_ref(&value)).map_err(D::Error::custom)?,
        Value::Array(items) => listed(items).map_err(D::Error::custom)?,
        Value::Object(fields) if fields.get("path").is_some_and(Value::is_string) => {
            listed(std::slice::from_ref(&value)).map_err(D::Error::custom)?
        }
        Value::Object(fields) => {
            fields.iter().take(MAX_OUTPUTS).map(|(path, said)| output(path, said)).collect()
        }
    };
    Ok(outputs.into_iter().filter(|output: &Output| !output.path.is_empty()).collect())
}

fn listed(items: &[Value]) -> Result<Vec<Output>, String> {
    let mut outputs = Vec::new();
    for (at, item) in items.iter().take(MAX_OUTPUTS).enumerate() {
        let path = match item {
            Value::String(path) => path,
            Value::Object(fields) => match fields.get("path").and_then(Value::as_str) {
                Some(path) => path,
                None => return Err(format!("[{at}] has no `path`")),
            },
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
                return Err(format!(
                    "[{at}] is {}; expected {{path, description}}",
                    lenient::kind(item)
                ));
            }
        };
        outputs.push(output(path, item.get("description").unwrap_or(&Value::Null)));
    }
    Ok(outputs)
}

fn output(path: &str, description: &Value) -> Output {
    Output {
        path: one_line(path, MAX_OUTPUT_BYTES),
        description: one_line(&lenient::flat(description), MAX_OUTPUT_BYTES),
    }
}
