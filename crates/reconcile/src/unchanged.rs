//! "Has not changed for one TTL on our own monotonic clock."
//!
//! Whether a holder, a leader or an agent is alive is judged by its beat: as long
//! as the value changes it lives. No wall clock takes part, neither theirs nor
//! ours, so clocks that jump expire nothing early or twice.
//!
//! A watcher can be away too: stopped (SIGSTOP, a debugger), in a paused machine, or
//! without Redis. Its clock runs on meanwhile, and what it reads afterwards looks
//! unchanged for all that time, although its author may have been away with it. So a
//! gap between two looks that is longer than the caller allows is a new first sight:
//! nothing of it counts, not even a part, for that part can be all that was missing to
//! a verdict. A look that took long is such a gap as well. This can only delay a verdict,
//! never hasten it. The verdict remains a guess in any case: act on it through a fenced
//! write that checks the value again. (While the machine is suspended, the monotonic
//! clock of Linux stands still.)

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// For how long the value of each key has been seen to be the same.
#[derive(Debug, Clone)]
pub struct Unchanged<K, V> {
    longest_gap: Duration,
    seen: BTreeMap<K, Seen<V>>,
}

#[derive(Debug, Clone)]
struct Seen<V> {
    value: V,
    since: Instant,
    looked: Instant,
}

impl<K: Ord, V: PartialEq> Unchanged<K, V> {
    /// Nothing seen yet; looks at one key may be `longest_gap` apart.
    #[must_use]
    pub const fn new(longest_gap: Duration) -> Self {
        Self { longest_gap, seen: BTreeMap::new() }
    }

    /// `key` had `value` at some moment between `asked` and `answered`: for how long it
    /// has been the same. `None` at first sight, and after a gap.
    pub fn look(
        &mut self,
        key: K,
        value: V,
        asked: Instant,
        answered: Instant,
    ) -> Option<Duration> {
        let new = |value| Seen { value, since: answered, looked: answered };
        let Some(seen) = self.seen.get_mut(&key) else {
            self.seen.insert(key, new(value));
            return None;
        };
        if answered.saturating_duration_since(seen.looked) > self.longest_gap {
            *seen = new(value);
            return None;
        }
        seen.looked = seen.looked.max(answered);
        if seen.value != value {
            *seen = new(value);
            return Some(Duration::ZERO);
        }
        // Until it was asked: of the time that the answer took nobody can say.
        Some(asked.saturating_duration_since(seen.since))
    }

    /// Forgets `key`: when it is seen again, it is new.
    pub fn forget(&mut self, key: &K) {
        self.seen.remove(key);
    }

    /// Forgets every key for which `keep` is false. Who lists all keys calls it
    /// with what the list holds, so that keys which are gone cost nothing.
    pub fn retain(&mut self, mut keep: impl FnMut(&K) -> bool) {
        self.seen.retain(|key, _| keep(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Looks that take no time, at these seconds.
    fn looker(longest_gap: u32) -> impl FnMut(&'static str, u32, u32) -> Option<Duration> {
        let (mut beats, start) = (Unchanged::new(longest_gap * SECOND), Instant::now());
        move |key, value, at| beats.look(key, value, start + at * SECOND, start + at * SECOND)
    }

    #[test]
    fn time_should_count_from_the_first_sight_of_a_value() {
        let mut look = looker(100);
        assert_eq!(look("a", 1, 0), None);
        assert_eq!(look("a", 1, 1), Some(SECOND));
        assert_eq!(look("a", 1, 5), Some(5 * SECOND));
        assert_eq!(look("b", 1, 5), None);
        assert_eq!(look("a", 2, 6), Some(Duration::ZERO));
        assert_eq!(look("a", 2, 8), Some(2 * SECOND));
        // Back to an earlier value is a change too.
        assert_eq!(look("a", 1, 9), Some(Duration::ZERO));
    }

    #[test]
    fn gap_between_two_looks_should_start_the_count_over() {
        let mut look = looker(15);
        look("a", 1, 0);
        assert_eq!(look("a", 1, 15), Some(15 * SECOND));
        assert_eq!(look("a", 1, 29), Some(29 * SECOND));
        // Close to being due, we were stopped for a minute.
        assert_eq!(look("a", 1, 89), None);
        assert_eq!(look("a", 1, 90), Some(SECOND));
    }

    #[test]
    fn look_that_took_long_should_be_a_gap_and_count_until_it_was_asked() {
        let (mut beats, start) = (Unchanged::new(15 * SECOND), Instant::now());
        let mut look = |asked: u32, answered: u32| {
            beats.look("a", 1, start + asked * SECOND, start + answered * SECOND)
        };
        look(0, 0);
        assert_eq!(look(10, 14), Some(10 * SECOND));
        // Redis was away, and two looks waited for it.
        assert_eq!(look(15, 75), None);
        assert_eq!(look(16, 75), Some(Duration::ZERO));
        assert_eq!(look(76, 76), Some(SECOND));
    }

    #[test]
    fn an_older_now_should_count_nothing_and_never_twice() {
        let mut look = looker(100);
        look("a", 1, 5);
        assert_eq!(look("a", 1, 0), Some(Duration::ZERO));
        assert_eq!(look("a", 1, 6), Some(SECOND));
    }

    #[test]
    fn forgotten_keys_should_be_new_again_and_cost_nothing() {
        let (mut beats, now) = (Unchanged::new(SECOND), Instant::now());
        for key in ["a", "b", "c"] {
            beats.look(key, 1, now, now);
        }
        beats.forget(&"a");
        beats.retain(|key| *key != "b");
        assert_eq!(beats.seen.len(), 1);
        assert_eq!(beats.look("a", 1, now, now), None);
        assert_eq!(beats.look("c", 1, now, now), Some(Duration::ZERO));
    }
}
