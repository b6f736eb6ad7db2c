//! A goal: what a person wants, and its one DAG of tasks.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::GoalId;
use crate::provider::Provider;
use crate::task::TaskSpec;

/// One declared goal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GoalSpec {
    /// Its id.
    pub id: GoalId,
    /// One line for people: the first line of its text, or its id.
    pub title: String,
    /// What is wanted, in prose: what a planner reads.
    pub text: String,
    /// Priority of tasks that name none.
    pub priority: u32,
    /// How often a task may fail that does not say itself.
    pub max_attempts: Option<u32>,
    /// Time limit of an attempt of a task that does not say itself, in seconds.
    pub timeout_secs: Option<u64>,
    /// Working folder, relative to the project; `.orch/work/<goal>` where absent.
    pub folder: Option<String>,
    /// LLM provider of its planner, where it is not the run's.
    pub provider: Option<Provider>,
    /// Model of its planner, where it is not the provider's default.
    pub model: Option<String>,
    /// What all its model calls together may cost, in millionths of a US dollar.
    pub budget_micros: Option<u64>,
    /// Whether a builder's task is followed by a review and an integration; see
    /// [`crate::review`].
    pub review: bool,
    /// The plan a person pinned, with the ids each task waits for; no model is
    /// asked where it is present; but see [`Self::tasks_are_fallback`].
    pub tasks: Option<Vec<PinnedTask>>,
    /// Whether [`Self::tasks`] pin the plan only where there is no model to ask: where
    /// the goal's provider is [`Provider::Offline`].
    pub tasks_are_fallback: bool,
    /// Fingerprint of what is wanted: of all of the above but the provider, the model
    /// and the budget, which say how. Where it changes, the goal is planned again.
    pub spec_hash: String,
}

impl GoalSpec {
    /// A goal of which nothing but the id is said.
    #[must_use]
    pub fn new(id: GoalId) -> Self {
        Self {
            id,
            title: String::new(),
            text: String::new(),
            priority: 0,
            max_attempts: None,
            timeout_secs: None,
            folder: None,
            provider: None,
            model: None,
            budget_micros: None,
            review: false,
            tasks: None,
            tasks_are_fallback: false,
            spec_hash: String::new(),
        }
    }

    /// The plan that a person pinned, as far as it is in force for `provider`.
    #[must_use]
    pub fn plan_for(&self, provider: Provider) -> Option<&[PinnedTask]> {
        let counts = match provider {
            Provider::Offline => true,
            Provider::Claude | Provider::Codex | Provider::Command => !self.tasks_are_fallback,
        };
        self.tasks.as_deref().filter(|_| counts)
    }
}

/// A task as a person pinned it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PinnedTask {
    /// The task.
    #[serde(flatten)]
    pub spec: TaskSpec,
    /// The tasks it waits for.
    pub after: Vec<crate::TaskId>,
}

/// Where a goal stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Declared; no plan was accepted yet.
    Draft,
    /// Its tasks are worked on.
    Active,
    /// Every task is done.
    Complete,
    /// Nothing can run any more and something failed.
    Failed,
}

impl Status {
    /// All statuses.
    pub const ALL: [Self; 4] = [Self::Draft, Self::Active, Self::Complete, Self::Failed];

    /// The word in Redis.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Active => "active",
            Self::Complete => "complete",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no goal status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no goal status: expected draft, active, complete or failed", .0.escape_debug())]
pub struct UnknownStatus(pub String);

impl FromStr for Status {
    type Err = UnknownStatus;
    fn from_str(word: &str) -> Result<Self, UnknownStatus> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == word)
            .ok_or_else(|| UnknownStatus(word.to_owned()))
    }
}

/// How many tasks of a goal are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Waiting for dependencies.
    pub blocked: u64,
    /// Claimable now or later.
    pub ready: u64,
    /// Held by an agent.
    pub running: u64,
    /// Accepted.
    pub done: u64,
    /// Given up.
    pub failed: u64,
}

impl Counts {
    /// Those that may still be done.
    const fn unfinished(&self) -> u64 {
        self.blocked.saturating_add(self.ready).saturating_add(self.running)
    }

    /// All tasks.
    #[must_use]
    pub const fn total(&self) -> u64 {
        // They are read from Redis, where anybody may write.
        self.unfinished().saturating_add(self.done).saturating_add(self.failed)
    }

    /// What the goal's status should be once its plan was accepted.
    ///
    /// A failed task alone does not fail the goal: what does not depend on it
    /// still runs to its end first.
    #[must_use]
    pub const fn status(&self) -> Status {
        if self.unfinished() == 0 && self.failed == 0 {
            Status::Complete
        } else if self.failed > 0 && self.ready == 0 && self.running == 0 {
            Status::Failed
        } else {
            Status::Active
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goal_should_fail_only_once_nothing_can_run() {
        let counts = Counts { blocked: 2, running: 1, failed: 1, done: 3, ..Counts::default() };
        assert_eq!(counts.status(), Status::Active);
        assert_eq!(Counts { running: 0, ..counts }.status(), Status::Failed);
        assert_eq!(Counts { running: 0, ready: 1, ..counts }.status(), Status::Active);
    }

    /// Regression, found by fuzzing: the sum of counts that somebody wrote into Redis by
    /// hand overflowed.
    #[test]
    fn counts_of_any_size_should_add_up_without_overflow() {
        let most = u64::MAX;
        let counts = Counts { blocked: most, ready: 1, running: most, done: most, failed: most };
        assert_eq!((counts.total(), counts.status()), (most, Status::Active));
        let rest = Counts { blocked: 0, ready: 1, running: 0, failed: 0, ..counts };
        assert_eq!((rest.total(), rest.status()), (most, Status::Active));
    }

    #[test]
    fn fallback_tasks_should_be_the_plan_only_without_a_model() {
        let mut goal = GoalSpec::new(GoalId::new("g").unwrap());
        assert_eq!(goal.plan_for(Provider::Offline), None);
        goal.tasks = Some(Vec::new());
        assert!(Provider::ALL.into_iter().all(|provider| goal.plan_for(provider).is_some()));
        goal.tasks_are_fallback = true;
        let planned = |provider: &Provider| goal.plan_for(*provider).is_some();
        assert_eq!(
            Provider::ALL.into_iter().filter(planned).collect::<Vec<_>>(),
            [Provider::Offline]
        );
    }

    #[test]
    fn goal_should_be_complete_when_every_task_is_done() {
        assert_eq!(Counts { done: 3, ..Counts::default() }.status(), Status::Complete);
        let stuck = Counts { done: 3, blocked: 1, ..Counts::default() };
        assert_eq!(stuck.status(), Status::Active);
    }
}
