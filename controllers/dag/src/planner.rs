//! Who makes plans: the one thing that this controller asks of the program around it.

use model::{Dag, GoalSpec};

/// Makes a goal's plan. It may take minutes: it runs beside the passes.
pub trait Planner: Send + Sync + 'static {
    /// A checked plan for `goal`.
    ///
    /// The future is dropped at any await when its plan is not wanted any more, and
    /// must then end whatever it started.
    ///
    /// # Errors
    /// [`PlanError`] says whether another attempt may go better.
    fn plan(&self, goal: &GoalSpec) -> impl Future<Output = Result<Dag, PlanError>> + Send;

    /// What `goal` is planned with, in words: attempts that failed or wait with other
    /// means count no more, so that whoever changes them need not ask again. What this
    /// planner falls back on where the goal says nothing belongs in here, too.
    fn means(&self, goal: &GoalSpec) -> String {
        let parts = [
            goal.provider.map(|provider| provider.to_string()),
            goal.model.clone(),
            goal.budget_micros.map(|micros| format!("{micros} micros")),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PlanError {
    /// Whether another attempt may go better.
    pub kind: PlanErrorKind,
    /// Why, and what to do, for the person who wrote the goal.
    pub message: String,
}

/// Whether another attempt may go better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanErrorKind {
    /// It cannot: not before the declaration changes or a person writes `REPARSE`.
    Refused,
    /// It may.
    Failed,
    /// Nothing is wrong, but it cannot be made now: a usage limit, a budget. It costs
    /// no attempt.
    Held {
        /// When it is tried again, in milliseconds since the epoch; every
        /// [`crate::HOLD_RETRY`] where nobody knows.
        until_ms: Option<u64>,
    },
}

impl PlanError {
    /// This goal cannot be planned as it is declared.
    #[must_use]
    pub fn refused(message: impl Into<String>) -> Self {
        Self { kind: PlanErrorKind::Refused, message: message.into() }
    }

    /// This attempt failed.
    #[must_use]
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: PlanErrorKind::Failed, message: message.into() }
    }

    /// Planning waits, until this time (milliseconds since the epoch) where it is known.
    /// `message` says for what and, where a person can do something about it, what.
    #[must_use]
    pub fn held(message: impl Into<String>, until_ms: Option<u64>) -> Self {
        Self { kind: PlanErrorKind::Held { until_ms }, message: message.into() }
    }
}
