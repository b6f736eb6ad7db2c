//! What is seen of leases, and for how long it has been the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::TaskId;
use model::lease::Pulse;
use reconcile::Unchanged;
use tokio::time::Instant;

use crate::Reconciler;
use crate::plan::{Held, Snapshot};

/// For how long each lease's pulse has stood still, as far as we were there to see.
///
/// Time is counted by [`Unchanged`]. What is added here is that a gap between two
/// looks at a lease starts its count over: [`Unchanged`] alone would let a part of
/// the gap count, and that part can be all that was missing.
#[derive(Debug)]
pub(crate) struct Pulses {
    longest_gap: Duration,
    looked: BTreeMap<TaskId, Instant>,
    unchanged: Unchanged<TaskId, Pulse>,
}

impl Pulses {
    pub(crate) const fn new(longest_gap: Duration) -> Self {
        let unchanged = Unchanged::new(longest_gap);
        Self { longest_gap, looked: BTreeMap::new(), unchanged }
    }

    /// `task` had `pulse` at `now` or later: how long that has been so.
    pub(crate) fn look_at(&mut self, task: &TaskId, pulse: Pulse, now: Instant) -> Duration {
        let before = self.looked.insert(task.clone(), now);
        if before.is_some_and(|then| now.saturating_duration_since(then) > self.longest_gap) {
            self.unchanged.forget(task);
        }
        self.unchanged.observe(task.clone(), pulse, now)
    }

    /// The same for every lease there is; those that are not are forgotten.
    pub(crate) fn look_at_all(
        &mut self,
        leases: Vec<(TaskId, Pulse)>,
        now: Instant,
    ) -> Vec<(TaskId, Duration)> {
        let held: BTreeSet<&TaskId> = leases.iter().map(|(task, _)| task).collect();
        self.looked.retain(|task, _| held.contains(task));
        self.unchanged.retain(|task| held.contains(task));
        leases
            .into_iter()
            .map(|(task, pulse)| {
                let silent = self.look_at(&task, pulse, now);
                (task, silent)
            })
            .collect()
    }

    pub(crate) fn forget(&mut self, task: &TaskId) {
        self.looked.remove(task);
        self.unchanged.forget(task);
    }
}

impl Reconciler {
    /// Reads one lease.
    pub(crate) async fn observe(&self, task: &TaskId) -> Result<Snapshot, store::Error> {
        let now = Instant::now();
        let pulse = self.store.lease(task).await?;
        let mut pulses = self.pulses();
        let held = match pulse {
            Some(pulse) => Some(Held { pulse, silent: pulses.look_at(task, pulse, now) }),
            None => {
                pulses.forget(task);
                None
            }
        };
        Ok(Snapshot { task: task.clone(), held })
    }
}

#[cfg(test)]
mod tests {
    use model::lease::Epoch;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const GAP: Duration = Duration::from_secs(15);

    fn task(id: &str) -> TaskId {
        TaskId::new(id).unwrap()
    }

    fn pulse(beat: u64) -> Pulse {
        Pulse { epoch: Epoch(1), beat }
    }

    #[test]
    fn silence_should_be_counted_from_first_sight_and_end_with_a_beat() {
        let (mut pulses, start) = (Pulses::new(GAP), Instant::now());
        for (at, beat, silent) in [(0, 1, 0), (10, 1, 10), (20, 1, 20), (30, 2, 0), (40, 2, 10)] {
            let seen = pulses.look_at(&task("a"), pulse(beat), start + at * SECOND);
            assert_eq!(seen, silent * SECOND, "after {at} s");
        }
    }

    #[test]
    fn gap_between_two_looks_should_start_the_count_over() {
        let (mut pulses, start) = (Pulses::new(GAP), Instant::now());
        pulses.look_at(&task("a"), pulse(1), start);
        pulses.look_at(&task("a"), pulse(1), start + 15 * SECOND);
        // One second from being due, we are stopped for a minute.
        let silent = pulses.look_at(&task("a"), pulse(1), start + 29 * SECOND);
        assert_eq!(silent, 29 * SECOND);
        let stopped_until = start + 89 * SECOND;
        assert_eq!(pulses.look_at(&task("a"), pulse(1), stopped_until), Duration::ZERO);
        assert_eq!(pulses.look_at(&task("a"), pulse(1), stopped_until + SECOND), SECOND);
    }

    #[test]
    fn lease_that_ended_should_cost_nothing_and_be_new_when_it_comes_again() {
        let (mut pulses, start) = (Pulses::new(GAP), Instant::now());
        let lease = |id| (task(id), pulse(1));
        pulses.look_at_all(vec![lease("a"), lease("b")], start);
        let seen = pulses.look_at_all(vec![lease("b")], start + SECOND);
        assert_eq!(seen, [(task("b"), SECOND)]);
        assert_eq!(pulses.looked.len(), 1);
        let seen = pulses.look_at_all(vec![lease("a"), lease("b")], start + 2 * SECOND);
        assert_eq!(seen, [(task("a"), Duration::ZERO), (task("b"), 2 * SECOND)]);
    }
}
