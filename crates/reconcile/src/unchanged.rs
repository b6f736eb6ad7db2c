//! "Has not changed for one TTL on our own monotonic clock."
//!
//! Whether a holder, a leader or an agent is alive is judged by its beat: as long
//! as the value changes it lives. No wall clock takes part, neither theirs nor
//! ours, so clocks that jump expire nothing early or twice.
//!
//! Caveat, a watcher that slept: on Linux the monotonic clock stands still while
//! the machine is suspended, but it runs on while a process is stopped (SIGSTOP, a
//! debugger), while a virtual machine is paused, and while Redis is away. A beat
//! that is read once before and once after such a gap looks unchanged for the
//! whole of it, although nobody can say that its author was silent: it may have
//! slept with us, or had no Redis either. Construct with [`Unchanged::new`] and a
//! gap somewhat above the usual distance of two observations: of any longer time
//! without a look, no more than that counts. It can only delay a verdict, never
//! hasten it. The verdict remains a guess in any case: act on it through a fenced
//! write that checks the value again.

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
    last: Instant,
    unchanged: Duration,
}

impl<K: Ord, V: PartialEq> Unchanged<K, V> {
    /// Nothing seen yet; between two observations of a key at most `longest_gap` counts.
    #[must_use]
    pub const fn new(longest_gap: Duration) -> Self {
        Self { longest_gap, seen: BTreeMap::new() }
    }

    /// `key` has `value` at `now`: how long it has been the same, zero when new or changed.
    pub fn observe(&mut self, key: K, value: V, now: Instant) -> Duration {
        match self.seen.get_mut(&key) {
            Some(seen) if seen.value == value => {
                let gap = now.saturating_duration_since(seen.last);
                seen.unchanged = seen.unchanged.saturating_add(gap.min(self.longest_gap));
                seen.last = seen.last.max(now);
                seen.unchanged
            }
            Some(_) | None => {
                self.seen.insert(key, Seen { value, last: now, unchanged: Duration::ZERO });
                Duration::ZERO
            }
        }
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

impl<K: Ord, V: PartialEq> Default for Unchanged<K, V> {
    /// Every gap counts in full: see the module's caveat.
    fn default() -> Self {
        Self::new(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn time_should_count_from_the_first_sight_of_a_value() {
        let (mut beats, start) = (Unchanged::default(), Instant::now());
        assert_eq!(beats.observe("a", 1, start), Duration::ZERO);
        assert_eq!(beats.observe("a", 1, start + SECOND), SECOND);
        assert_eq!(beats.observe("a", 1, start + 5 * SECOND), 5 * SECOND);
        assert_eq!(beats.observe("b", 1, start + 5 * SECOND), Duration::ZERO);
        assert_eq!(beats.observe("a", 2, start + 6 * SECOND), Duration::ZERO);
        assert_eq!(beats.observe("a", 2, start + 8 * SECOND), 2 * SECOND);
        // Back to an earlier value is a change too.
        assert_eq!(beats.observe("a", 1, start + 9 * SECOND), Duration::ZERO);
    }

    #[test]
    fn time_without_a_look_should_count_up_to_the_longest_gap() {
        let (mut beats, start) = (Unchanged::new(3 * SECOND), Instant::now());
        beats.observe("a", 1, start);
        assert_eq!(beats.observe("a", 1, start + 2 * SECOND), 2 * SECOND);
        assert_eq!(beats.observe("a", 1, start + 600 * SECOND), 5 * SECOND);
        assert_eq!(beats.observe("a", 1, start + 601 * SECOND), 6 * SECOND);
    }

    #[test]
    fn an_older_now_should_count_nothing_and_never_twice() {
        let (mut beats, start) = (Unchanged::default(), Instant::now());
        beats.observe("a", 1, start + 5 * SECOND);
        assert_eq!(beats.observe("a", 1, start), Duration::ZERO);
        assert_eq!(beats.observe("a", 1, start + 6 * SECOND), SECOND);
    }

    #[test]
    fn forgotten_keys_should_be_new_again_and_cost_nothing() {
        let (mut beats, start) = (Unchanged::default(), Instant::now());
        for key in ["a", "b", "c"] {
            beats.observe(key, 1, start);
        }
        beats.forget(&"a");
        beats.retain(|key| *key != "b");
        assert_eq!(beats.seen.len(), 1);
        assert_eq!(beats.observe("a", 1, start + SECOND), Duration::ZERO);
        assert_eq!(beats.observe("b", 1, start + SECOND), Duration::ZERO);
        assert_eq!(beats.observe("c", 1, start + SECOND), SECOND);
    }
}
