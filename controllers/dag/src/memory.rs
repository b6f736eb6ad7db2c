//! What is remembered of each goal between two passes. Losing it costs a few reads
//! and at most one planning: all that must outlive this process is in Redis.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use model::goal::Status;
use model::{GoalId, Role};
use store::goal::{Figures, Planning};
use tokio::time::Instant;

use crate::work::Work;

/// One goal's.
#[derive(Default)]
pub(crate) struct Notes {
    /// The planner at work, or what it left.
    pub(crate) work: Option<Work>,
    /// When a pass last looked.
    pub(crate) looked: Option<Instant>,
    /// When the figures were last read.
    pub(crate) checked: Option<Instant>,
    /// The figures that a repair could not change.
    pub(crate) vain: Option<Figures>,
    /// When planning is tried again.
    pub(crate) retry: Option<Retry>,
    /// The last diagnosis.
    pub(crate) diagnosis: Option<Diagnosis>,
}

/// When planning is tried again after what stands in `of`. On our own monotonic clock
/// from the first sight on, so that no jump of the wall clock prolongs the wait.
pub(crate) struct Retry {
    pub(crate) of: Planning,
    pub(crate) at: Instant,
}

/// What keeps tasks from running, and what it was found from.
pub(crate) struct Diagnosis {
    pub(crate) of: Case,
    pub(crate) problem: Option<String>,
}

/// A diagnosis holds until one of these changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Case {
    /// Of the declared agents that have this goal.
    pub(crate) roles: BTreeSet<Role>,
    /// Whether the goal asks for reviews.
    pub(crate) review: bool,
    pub(crate) generation: u64,
    pub(crate) status: Status,
}

/// All goals' notes. As many as there are goals; passes of one goal never overlap.
#[derive(Default)]
pub(crate) struct Memory(Mutex<HashMap<GoalId, Notes>>);

impl Memory {
    /// Calls `look` with the notes of `goal`.
    pub(crate) fn of<T>(&self, goal: &GoalId, look: impl FnOnce(&mut Notes) -> T) -> T {
        // A panic between two fields leaves nothing that a later pass cannot mend.
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(notes) = notes.get_mut(goal) {
            return look(notes);
        }
        look(notes.entry(goal.clone()).or_default())
    }
}
