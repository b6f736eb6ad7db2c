//! What models answer: a type and a JSON schema for each step.
//!
//! # Guarantees
//! A schema is what we ask for, and fits what the strictest programs accept: one object,
//! nothing referred to, nothing optional, no rules beyond types. Reading is more tolerant
//! than that (a number in quotes, a single string for a list, a field too many), because
//! asking again costs money, but never guesses an id. What is read is bounded in length.
//! Errors name the place (`nodes[3].id: ..`) and what is allowed, for they go back to
//! the model.

mod execution;
mod judge;
mod lenient;
mod plan;
mod strict;

use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use execution::{Execution, ExecutionStatus, Output};
pub use judge::{Recovery, Review, Selection, Summary, Verdict};
pub use plan::{Edge, Node, Plan, PlanLimits};

use crate::Step;
use crate::prompts::one_line;

/// The most tasks that a model may plan for a goal, unless somebody says otherwise.
pub const DEFAULT_MAX_TASKS: usize = 50;
/// The longest summary, in characters.
pub const MAX_SUMMARY_CHARS: usize = 400;
/// Below this confidence a failed task is for a person, not for an agent.
pub const RECOVERY_CONFIDENCE: f64 = 0.75;
/// The longest error about an answer, in bytes: it may quote what came.
const MAX_PROBLEM_BYTES: usize = 600;

/// What a step's model answers.
pub trait Answer: DeserializeOwned + JsonSchema + Send {
    /// The step.
    const STEP: Step;

    /// Where [`schema`] is kept once it was made.
    #[doc(hidden)]
    fn cell() -> &'static OnceLock<Value>;

    /// What types cannot say.
    ///
    /// # Errors
    /// In words, for the model.
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }
}

macro_rules! cell {
    () => {
        fn cell() -> &'static std::sync::OnceLock<serde_json::Value> {
            static CELL: std::sync::OnceLock<serde_json::Value> = std::sync::OnceLock::new();
            &CELL
        }
    };
}
use cell;

/// The JSON schema of `T`, made once.
#[must_use]
pub fn schema<T: Answer>() -> Value {
    T::cell().get_or_init(strict::schema::<T>).clone()
}

/// Reads an answer.
///
/// # Errors
/// In words, for the model: where, and what is allowed there.
pub fn parse<T: Answer>(value: &Value) -> Result<T, String> {
    // Some answer with the JSON as a string.
    let inner = value.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let value = inner.as_ref().unwrap_or(value);
    if !value.is_object() {
        return Err(format!("expected one JSON object, not {}", lenient::kind(value)));
    }
    let answer: T = serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let problem = one_line(&error.inner().to_string(), MAX_PROBLEM_BYTES);
        if path == "." { problem } else { format!("{path}: {problem}") }
    })?;
    answer.validate().map_err(|problem| one_line(&problem, MAX_PROBLEM_BYTES))?;
    Ok(answer)
}

#[cfg(test)]
mod tests;
