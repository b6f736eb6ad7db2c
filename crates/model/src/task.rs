//! A task: one node of a goal's DAG, its five states and the legal moves
//! between them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{Role, TaskId};

/// The highest priority. It is bounded so that priority and position fit into
/// the 53 bits of a sorted set's score.
pub const MAX_PRIORITY: u32 = 1_000_000;

/// How often a task may fail before it is [`State::Failed`], unless it or its
/// goal says otherwise.
pub const DEFAULT_MAX_ATTEMPTS: u32 = 3;

/// How often a task may lose its agent (killed, silent, out of memory) before
/// it counts as the cause and is [`State::Failed`].
///
/// It is apart from the failed attempts: an agent that somebody kills is no
/// fault of the task, but a task that kills every agent must not do so for ever.
pub const MAX_LOSSES: u32 = 10;

/// How long one attempt may take unless the task or its goal says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// What a person or a planner says of a task: one value of `dag:<goal>:nodes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// Its id within the goal.
    pub id: TaskId,
    /// One line for people.
    pub title: String,
    /// Higher runs first; 0 to [`MAX_PRIORITY`].
    #[serde(default)]
    pub priority: u32,
    /// Which agents may take it; any agent of the goal where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Files that must exist in the goal's working folder afterwards, relative to it.
    #[serde(default)]
    pub expected_artifacts: Vec<String>,
    /// Shell commands that must exit 0 afterwards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verify: Vec<String>,
    /// A shell block that is run as it stands, whatever the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// How long one attempt may take, in seconds; [`DEFAULT_TIMEOUT`] where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_secs: Option<u64>,
    /// How often it may fail; [`DEFAULT_MAX_ATTEMPTS`] where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// What its model calls may cost, in millionths of a US dollar; only the goal's
    /// budget counts where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_micros: Option<u64>,
    /// Working folder, relative to the project; that of the goal where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Anything else a planner said, for people and prompts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

impl TaskSpec {
    /// A task with this id and title and nothing else said.
    #[must_use]
    pub fn new(id: TaskId, title: impl Into<String>) -> Self {
        Self {
            id,
            title: title.into(),
            priority: 0,
            role: None,
            expected_artifacts: Vec::new(),
            verify: Vec::new(),
            run: None,
            timeout_secs: None,
            max_attempts: None,
            budget_micros: None,
            folder: None,
            metadata: BTreeMap::new(),
        }
    }

    /// How long one attempt may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout_secs.map_or(DEFAULT_TIMEOUT, Duration::from_secs)
    }
}

/// Where a task stands. Waiting for a retry, a usage limit or an approval is
/// [`State::Ready`] or [`State::Blocked`] with a reason, not a state of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Waits for dependencies.
    Blocked,
    /// May be claimed, now or from `not_before` on.
    Ready,
    /// An agent holds its lease.
    Running,
    /// Its completion was accepted. Final within a generation.
    Done,
    /// It may not be tried again unless a person says so.
    Failed,
}

impl State {
    /// All states, in the order of a task's life.
    pub const ALL: [Self; 5] =
        [Self::Blocked, Self::Ready, Self::Running, Self::Done, Self::Failed];

    /// The word in Redis.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no task state: expected blocked, ready, running, done or failed", .0.escape_debug())]
pub struct UnknownState(pub String);

impl FromStr for State {
    type Err = UnknownState;
    fn from_str(word: &str) -> Result<Self, UnknownState> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or_else(|| UnknownState(word.to_owned()))
    }
}

/// Why a task changes state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// The last dependency is done.
    Unblock,
    /// A new plan added a dependency that is not done.
    Block,
    /// An agent was granted the lease.
    Claim,
    /// The holder reported success, with evidence.
    Complete,
    /// The holder reported failure; attempts are left.
    Retry,
    /// The holder reported failure, or its agent was lost, for the last allowed time.
    Fail,
    /// The holder died or fell silent.
    Lose,
    /// The holder handed it back (shutdown, pause).
    Release,
    /// The holder put another task in front of it.
    Detour,
    /// A person took it away (`DROP-TASK`).
    Drop,
    /// A person asked for another try of a failed task (`orch retry`).
    Reset,
    /// A new plan changed what the task is.
    Revise,
}

impl Cause {
    /// All causes.
    pub const ALL: [Self; 12] = [
        Self::Unblock,
        Self::Block,
        Self::Claim,
        Self::Complete,
        Self::Retry,
        Self::Fail,
        Self::Lose,
        Self::Release,
        Self::Detour,
        Self::Drop,
        Self::Reset,
        Self::Revise,
    ];

    /// The word in Redis: the `kind` of the event is `task-<cause>`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unblock => "unblock",
            Self::Block => "block",
            Self::Claim => "claim",
            Self::Complete => "complete",
            Self::Retry => "retry",
            Self::Fail => "fail",
            Self::Lose => "lose",
            Self::Release => "release",
            Self::Detour => "detour",
            Self::Drop => "drop",
            Self::Reset => "reset",
            Self::Revise => "revise",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Every legal transition of a task within one plan and between plans.
///
/// A pair that is not listed is refused by every script.
pub const TRANSITIONS: &[(State, Cause, State)] = &[
    (State::Blocked, Cause::Unblock, State::Ready),
    (State::Ready, Cause::Block, State::Blocked),
    (State::Ready, Cause::Claim, State::Running),
    (State::Running, Cause::Complete, State::Done),
    (State::Running, Cause::Retry, State::Ready),
    (State::Running, Cause::Fail, State::Failed),
    (State::Running, Cause::Lose, State::Ready),
    (State::Running, Cause::Release, State::Ready),
    // The other task is READY then: this one is blocked right after.
    (State::Running, Cause::Detour, State::Ready),
    (State::Running, Cause::Drop, State::Ready),
    // A reset task whose dependencies are not done is blocked again right after.
    (State::Failed, Cause::Reset, State::Ready),
    // A new plan may undo anything but what is running: that finishes first.
    (State::Blocked, Cause::Revise, State::Ready),
    (State::Ready, Cause::Revise, State::Ready),
    (State::Done, Cause::Revise, State::Ready),
    (State::Failed, Cause::Revise, State::Ready),
];

/// The state after `cause`, or `None` where the table has no such transition.
#[must_use]
pub fn transition(from: State, cause: Cause) -> Option<State> {
    TRANSITIONS.iter().find(|(f, c, _)| (*f, *c) == (from, cause)).map(|(_, _, to)| *to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_should_name_each_pair_once() {
        for (i, (from, cause, _)) in TRANSITIONS.iter().enumerate() {
            let again = TRANSITIONS[i + 1..].iter().any(|(f, c, _)| (f, c) == (from, cause));
            assert!(!again, "{from} on {cause} stands twice");
        }
    }

    #[test]
    fn done_should_be_left_only_by_a_new_plan() {
        for cause in Cause::ALL {
            let to = transition(State::Done, cause);
            assert_eq!(to.is_some(), cause == Cause::Revise, "{cause}");
        }
    }

    #[test]
    fn running_should_be_entered_only_by_a_claim() {
        for (from, cause, to) in TRANSITIONS {
            if *to == State::Running {
                assert_eq!((*from, *cause), (State::Ready, Cause::Claim));
            }
        }
    }

    #[test]
    fn every_cause_should_be_in_the_table() {
        for cause in Cause::ALL {
            assert!(TRANSITIONS.iter().any(|(_, c, _)| *c == cause), "{cause}");
        }
    }

    #[test]
    fn words_should_read_back() {
        for state in State::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
            assert_eq!(serde_json::to_string(&state).unwrap(), format!("\"{state}\""));
        }
        assert!("Ready".parse::<State>().is_err());
    }
}
