//! For how long each agent's beat has stood still, as far as we were there to see.
//!
//! Time is counted by [`Unchanged`]. What is added is that a gap between two looks
//! starts the count over: we may have been stopped, or without Redis, and so may the
//! agents, who could not beat then. [`Unchanged`] alone would let a part of the gap
//! count, and that part can be all that was missing to a verdict.

use std::collections::BTreeMap;
use std::time::Duration;

use model::AgentName;
use reconcile::Unchanged;
use store::agent::Incarnation;
use tokio::time::Instant;

/// What of a registration changes while its process is well.
pub(crate) type Pulse = (Incarnation, u64);

/// The pulses seen last.
#[derive(Debug)]
pub(crate) struct Beats {
    longest_gap: Duration,
    looked: BTreeMap<AgentName, Instant>,
    unchanged: Unchanged<AgentName, Pulse>,
}

impl Beats {
    pub(crate) const fn new(longest_gap: Duration) -> Self {
        let unchanged = Unchanged::new(longest_gap);
        Self { longest_gap, looked: BTreeMap::new(), unchanged }
    }

    /// `name` had `pulse` at some moment between `began` and `now`: how long that has
    /// been so. A read that took long is a gap too: its value may be of its end, and
    /// nobody could beat in between.
    pub(crate) fn look_at(
        &mut self,
        name: &AgentName,
        pulse: Pulse,
        began: Instant,
        now: Instant,
    ) -> Duration {
        let before = self.looked.insert(name.clone(), now);
        let gap = before.is_some_and(|then| now.saturating_duration_since(then) > self.longest_gap);
        if gap {
            self.unchanged.forget(name);
        }
        // Silent until the read began: of the time that it took nobody can say.
        self.unchanged.observe(name.clone(), pulse, if gap { now } else { began })
    }

    /// Forgets every agent for which `keep` is false.
    pub(crate) fn retain(&mut self, keep: impl Fn(&AgentName) -> bool) {
        self.looked.retain(|name, _| keep(name));
        self.unchanged.retain(keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn gap_between_two_looks_should_start_the_count_over() {
        let (mut beats, start) = (Beats::new(15 * SECOND), Instant::now());
        let name = AgentName::new("a").unwrap();
        let mut look = |pulse, began: u32, now: u32| {
            let [began, now] = [began, now].map(|at| start + at * SECOND);
            beats.look_at(&name, (Incarnation(1), pulse), began, now)
        };
        assert_eq!(look(1, 0, 0), Duration::ZERO);
        assert_eq!(look(1, 15, 15), 15 * SECOND);
        assert_eq!(look(1, 28, 29), 28 * SECOND);
        // Close to being due, Redis is away for a minute. Two looks waited for it.
        assert_eq!(look(1, 29, 89), Duration::ZERO);
        assert_eq!(look(1, 40, 89), Duration::ZERO);
        assert_eq!(look(1, 90, 90), SECOND);
        assert_eq!(look(2, 91, 91), Duration::ZERO);
        beats.retain(|_| false);
        assert!(beats.looked.is_empty());
    }
}
