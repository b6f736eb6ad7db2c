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
}
