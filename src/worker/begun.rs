//! Which grants this process has begun to run.
//!
//! A repeated claim gets the same grant again, so that a lost reply does no harm. But a
//! Redis that came back with older data may grant what was run to its end already; run
//! again under that very grant, nobody could tell one run from the other by its epoch.

use std::collections::{HashSet, VecDeque};

use model::TaskId;
use model::lease::Epoch;
use store::task::Grant;

/// How many are remembered: more than an agent runs between two copies of Redis' data.
const KEPT: usize = 4_096;

/// The last grants that were begun.
#[derive(Debug, Default)]
pub(super) struct Begun {
    /// Oldest first.
    grants: VecDeque<(TaskId, Epoch)>,
    /// Of all of them: it alone tells nearly every two apart.
    epochs: HashSet<Epoch>,
}

impl Begun {
    /// Whether a grant was not begun before; from now on it counts as begun.
    pub(super) fn is_new(&mut self, grant: &Grant) -> bool {
        let Grant { task, epoch, .. } = grant;
        let is_known = self.epochs.contains(epoch)
            && self.grants.iter().any(|(known, of)| of == epoch && known == task);
        if !is_known {
            if self.grants.len() == KEPT
                && let Some((_, oldest)) = self.grants.pop_front()
            {
                self.epochs.remove(&oldest);
            }
            self.grants.push_back((task.clone(), *epoch));
            self.epochs.insert(*epoch);
        }
        !is_known
    }
}
