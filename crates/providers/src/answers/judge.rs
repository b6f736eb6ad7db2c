//! The answers that choose and judge.

use model::{TaskId, TaskSpec};
use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Answer, MAX_SUMMARY_CHARS, RECOVERY_CONFIDENCE, cell, lenient};
use crate::Step;
use crate::prompts::one_line;

/// The longest reason, title, step or finding, in bytes.
const MAX_TEXT_BYTES: usize = 2 * 1024;
/// The most findings.
const MAX_FINDINGS: usize = 50;
/// The most steps of a rescue.
const MAX_STEPS: usize = 20;

/// The task that comes next.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct Selection {
    /// Its id, one of those offered.
    #[serde(deserialize_with = "lenient::any_id")]
    #[schemars(with = "String")]
    pub selected_task_id: TaskId,
    /// Why, in one sentence.
    #[serde(default, deserialize_with = "sentence")]
    pub justification: String,
    /// How sure, from 0 to 1.
    #[serde(default, deserialize_with = "lenient::confidence")]
    pub confidence: f64,
}

impl Answer for Selection {
    const STEP: Step = Step::Select;
    cell!();
}

impl Selection {
    /// Whether it was offered.
    ///
    /// # Errors
    /// In words, for the model, with what was.
    pub fn check(&self, candidates: &[TaskSpec]) -> Result<(), String> {
        const SHOWN: usize = 50;
        if candidates.iter().any(|task| task.id == self.selected_task_id) {
            return Ok(());
        }
        let names: Vec<&str> = candidates.iter().take(SHOWN).map(|task| task.id.as_str()).collect();
        Err(format!(
            "selected_task_id: `{}` was not offered: choose one of {}",
            self.selected_task_id,
            names.join(", ")
        ))
    }
}

/// What came of a task.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Summary {
    /// One or two sentences, at most 400 characters.
    #[serde(deserialize_with = "summary")]
    pub summary: String,
}

impl Answer for Summary {
    const STEP: Step = Step::Summarise;
    cell!();

    fn validate(&self) -> Result<(), String> {
        if self.summary.is_empty() {
            return Err("summary: it is empty".to_owned());
        }
        Ok(())
    }
}

/// Whether a task is really done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Review {
    /// Whether it will do.
    #[serde(deserialize_with = "verdict")]
    pub verdict: Verdict,
    /// Each: where, what is wrong, and what would be right.
    #[serde(default, deserialize_with = "findings")]
    pub findings: Vec<String>,
}

/// Whether what was done will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All that was asked for is there.
    Pass,
    /// Something that was asked for is missing or wrong.
    Fail,
}

impl Answer for Review {
    const STEP: Step = Step::Review;
    cell!();

    fn validate(&self) -> Result<(), String> {
        match self.verdict {
            Verdict::Fail if self.findings.is_empty() => {
                Err("findings: a `fail` needs at least one: say what is wrong".to_owned())
            }
            Verdict::Fail | Verdict::Pass => Ok(()),
        }
    }
}

/// Whether a failed task can be rescued, and how.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct Recovery {
    /// Whether an agent can remove the cause.
    #[serde(deserialize_with = "lenient::boolean")]
    pub recoverable: bool,
    /// The cause.
    #[serde(default, deserialize_with = "sentence")]
    pub reason: String,
    /// What to do first, in one line; empty where nothing helps.
    #[serde(default, deserialize_with = "sentence")]
    pub remediation_title: String,
    /// How, in order; empty where nothing helps.
    #[serde(default, deserialize_with = "steps")]
    pub remediation_steps: Vec<String>,
    /// How sure, from 0 to 1.
    #[serde(default, deserialize_with = "lenient::confidence")]
    pub confidence: f64,
}

impl Answer for Recovery {
    const STEP: Step = Step::Recover;
    cell!();

    fn validate(&self) -> Result<(), String> {
        if self.recoverable && self.remediation_title.is_empty() {
            return Err("remediation_title: say what to do, or set `recoverable` to false".into());
        }
        if self.recoverable && self.remediation_steps.is_empty() {
            return Err("remediation_steps: say how, or set `recoverable` to false".into());
        }
        Ok(())
    }
}

impl Recovery {
    /// Whether an agent should try, with at least [`RECOVERY_CONFIDENCE`].
    #[must_use]
    pub fn is_worth_trying(&self) -> bool {
        self.recoverable && self.confidence >= RECOVERY_CONFIDENCE
    }
}

fn sentence<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    lenient::text_or_empty(from).map(|text| one_line(&text, MAX_TEXT_BYTES))
}

fn summary<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let line = one_line(&lenient::lines(from)?, 4 * MAX_SUMMARY_CHARS);
    if line.chars().count() <= MAX_SUMMARY_CHARS {
        return Ok(line);
    }
    // Asking again for a shorter one would cost more than the end is worth.
    Ok(line.chars().take(MAX_SUMMARY_CHARS - 1).chain(['…']).collect())
}

fn verdict<'de, D: Deserializer<'de>>(from: D) -> Result<Verdict, D::Error> {
    let word = lenient::text(from)?.to_ascii_lowercase();
    match word.as_str() {
        "pass" | "passed" => Ok(Verdict::Pass),
        "fail" | "failed" => Ok(Verdict::Fail),
        other => {
            let shown = one_line(other, 40);
            Err(D::Error::custom(format!("`{shown}` is no verdict: expected pass or fail")))
        }
    }
}

fn findings<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    bounded(lenient::texts(from)?, MAX_FINDINGS)
}

fn steps<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    bounded(lenient::texts(from)?, MAX_STEPS)
}

fn bounded<E>(texts: Vec<String>, max: usize) -> Result<Vec<String>, E> {
    Ok(texts.iter().take(max).map(|text| one_line(text, MAX_TEXT_BYTES)).collect())
}
