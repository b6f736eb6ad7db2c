//! Which grants this process has begun to run.
//!
//! A repeated claim gets the same grant again, so that a lost reply does no harm. But a
//! Redis that came back with older data may grant what was run to its end already; run
//! again under that very grant, nobody could tell one run from the other by its epoch.

use std::collections::VecDeque;

use model::TaskId;
use model::lease::Epoch;
use store::task::Grant;

/// How many are remembered: more than an agent runs between two copies of Redis' data.
const KEPT: usize = 4_096;

/// The last grants that were begun, oldest first.
#[derive(Debug, Default)]
pub(super) struct Begun(VecDeque<(TaskId, Epoch)>);

impl Begun {
    /// Whether a grant was not begun before; from now on it counts as begun.
    pub(super) fn is_new(&mut self, grant: &Grant) -> bool {
        let is_known = self.0.iter().any(|(task, epoch)| {
            // The epoch first: it alone tells nearly all of them apart.
            *epoch == grant.epoch && *task == grant.task
        });
        if !is_known {
            if self.0.len() == KEPT {
                self.0.pop_front();
            }
            self.0.push_back((grant.task.clone(), grant.epoch));
        }
        !is_known
    }
}
