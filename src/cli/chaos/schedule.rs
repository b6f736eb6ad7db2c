//! Which faults, and when: all of it follows from the seed and is known before the first
//! one. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// What kind of process a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Agent,
    Orchestrator,
    Redis,
    Sysg,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Agent, Self::Orchestrator, Self::Redis, Self::Sysg];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Orchestrator => "orchestrator",
            Self::Redis => "redis",
            Self::Sysg => "sysg",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One fault to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Planned {
    /// Not before so long after the start.
    pub(super) after: Duration,
    pub(super) kind: Kind,
    /// Which of the processes of that kind: see [`choose`].
    pub(super) pick: u64,
}

/// The faults that `seed` stands for, of these kinds, each as likely as the others.
///
/// Nothing in the system starts sysg again. So where a fault would end it
/// (`ends_sysg`), it is the last one, and the only one of its kind.
pub(super) fn schedule(
    seed: u64,
    kinds: &[Kind],
    ends_sysg: bool,
    every: Duration,
    count: u32,
) -> Vec<Planned> {
    let mut random = fastrand::Rng::with_seed(seed);
    let last_is_sysg = ends_sysg && kinds.contains(&Kind::Sysg);
    let kinds: Vec<Kind> =
        kinds.iter().copied().filter(|kind| !(last_is_sysg && *kind == Kind::Sysg)).collect();
    let count = if kinds.is_empty() { count.min(u32::from(last_is_sysg)) } else { count };
    (0..count)
        .map(|n| {
            // Drawn in any case, so that the draws before the last do not depend on it.
            let (draw, pick) = (random.usize(..kinds.len().max(1)), random.u64(..));
            let is_last = n + 1 == count;
            let drawn = if last_is_sysg && is_last { None } else { kinds.get(draw).copied() };
            Planned { after: every * n, kind: drawn.unwrap_or(Kind::Sysg), pick }
        })
        .collect()
}

/// Which of `names` a fault hits: of those that were hit least often, the one that `pick`
/// says. So all come to their turn, and none is driven into its crash loop before it has
/// to be. `None` where there are no names.
pub(super) fn choose(names: &[&str], hits: &BTreeMap<String, u32>, pick: u64) -> Option<usize> {
    let times = |name: &str| hits.get(name).copied().unwrap_or(0);
    let fewest = names.iter().map(|name| times(name)).min()?;
    let open: Vec<usize> = (0..names.len()).filter(|n| times(names[*n]) == fewest).collect();
    let index = usize::try_from(pick % u64::try_from(open.len()).ok()?).ok()?;
    open.get(index).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(5);

    fn kinds(planned: &[Planned]) -> Vec<Kind> {
        planned.iter().map(|planned| planned.kind).collect()
    }

    #[test]
    fn schedule_should_be_the_same_for_the_same_seed_only() {
        let of = |seed| schedule(seed, &Kind::ALL, false, EVERY, 40);
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
        assert_eq!(of(7)[3].after, Duration::from_secs(15));
        // A longer run begins like a shorter one.
        assert_eq!(schedule(7, &Kind::ALL, false, EVERY, 3), of(7)[..3]);
        for kind in Kind::ALL {
            assert!(kinds(&of(7)).contains(&kind), "{kind} never comes");
        }
    }

    #[test]
    fn schedule_should_end_sysg_last_and_once() {
        let planned = kinds(&schedule(7, &Kind::ALL, true, EVERY, 40));
        let (last, others) = planned.split_last().unwrap();
        assert_eq!(*last, Kind::Sysg);
        assert!(!others.contains(&Kind::Sysg), "{others:?}");
        assert_eq!(kinds(&schedule(7, &[Kind::Sysg], true, EVERY, 40)), [Kind::Sysg]);
        // One that is only stopped can be stopped again.
        assert_eq!(kinds(&schedule(7, &[Kind::Sysg], false, EVERY, 3)), [Kind::Sysg; 3]);
        assert_eq!(schedule(7, &[Kind::Sysg], true, EVERY, 0), []);
        assert_eq!(schedule(7, &[], false, EVERY, 3), []);
    }

    #[test]
    fn choice_should_hit_everyone_before_anyone_twice() {
        let names = ["a", "b", "c"];
        let mut hits: BTreeMap<String, u32> = BTreeMap::new();
        for round in 1..=4 {
            for pick in [u64::MAX, 1, 17] {
                let chosen = choose(&names, &hits, pick).unwrap();
                *hits.entry(names[chosen].to_owned()).or_default() += 1;
            }
            assert!(hits.len() == 3 && hits.values().all(|times| *times == round), "{hits:?}");
        }
        assert_eq!(choose(&[], &hits, 3), None);
        assert_eq!(choose(&names, &BTreeMap::new(), 4), Some(1));
    }
}
