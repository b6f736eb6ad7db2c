//! For how long each agent's beat has stood still, as far as we were there to see.

use std::collections::BTreeMap;
use std::time::Duration;

use model::AgentName;
use reconcile::Unchanged;
use store::agent::Incarnation;
use tokio::time::Instant;

use crate::plan::Sign;

/// Time is counted by [`Unchanged`]. What is added here is that a gap between two
/// looks at an agent is a new first sight: [`Unchanged`] alone would let a part of
/// the gap count, and that part can be all that was missing.
#[derive(Debug)]
pub(crate) struct Beats {
    longest_gap: Duration,
    looked: BTreeMap<AgentName, Instant>,
    unchanged: Unchanged<AgentName, (Incarnation, u64)>,
}

impl Beats {
    pub(crate) const fn new(longest_gap: Duration) -> Self {
        let unchanged = Unchanged::new(longest_gap);
        Self { longest_gap, looked: BTreeMap::new(), unchanged }
    }

    /// `agent` had this beat at `now` or later; `None` is no process of that name.
    pub(crate) fn look(
        &mut self,
        agent: &AgentName,
        beat: Option<(Incarnation, u64)>,
        now: Instant,
    ) -> Sign {
        let Some(beat) = beat else {
            self.looked.remove(agent);
            self.unchanged.forget(agent);
            return Sign::Absent;
        };
        let before = self.looked.insert(agent.clone(), now);
        let gap = before.map(|then| now.saturating_duration_since(then));
        let seen_lately = gap.is_some_and(|gap| gap <= self.longest_gap);
        if !seen_lately {
            self.unchanged.forget(agent);
        }
        let still = self.unchanged.observe(agent.clone(), beat, now);
        if seen_lately { Sign::Still(still) } else { Sign::FirstSeen }
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&AgentName) -> bool) {
        self.looked.retain(|agent, _| keep(agent));
        self.unchanged.retain(keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn beat_should_be_counted_from_first_sight_and_anew_after_a_gap() {
        let (mut beats, start) = (Beats::new(15 * SECOND), Instant::now());
        let agent = AgentName::new("a").unwrap();
        let beat = |number| Some((Incarnation(1), number));
        for (at, beat, sign) in [
            (0, None, Sign::Absent),
            (1, beat(1), Sign::FirstSeen),
            (11, beat(1), Sign::Still(10 * SECOND)),
            (12, beat(2), Sign::Still(Duration::ZERO)),
            (22, beat(2), Sign::Still(10 * SECOND)),
            // We were stopped for a minute.
            (82, beat(2), Sign::FirstSeen),
            (83, beat(2), Sign::Still(SECOND)),
            (84, Some((Incarnation(2), 2)), Sign::Still(Duration::ZERO)),
            (85, None, Sign::Absent),
            (86, Some((Incarnation(2), 2)), Sign::FirstSeen),
        ] {
            assert_eq!(beats.look(&agent, beat, start + at * SECOND), sign, "after {at} s");
        }
        beats.retain(|_| false);
        assert!(beats.looked.is_empty());
    }
}
