//! Which key runs next: the deciding, without a runtime and without a clock.
//!
//! Flow: a key that is asked for is queued in one of two lanes, is picked, runs,
//! and either leaves the queue or waits for a due time. A key has one place at any
//! time, so merging and exclusivity need no further bookkeeping; one that is idle
//! and healthy has none and is not stored at all.
//!
//! The fresh lane holds wakes, due retries and due second looks, the other one
//! holds resyncs. Fresh keys go first, but every [`RESYNC_SHARE`]th pick for which
//! both lanes compete is a resync's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use tracing::Span;

use crate::Key;
use crate::backoff::{Backoff, Policy};

/// Of so many picks for which both lanes compete, one is a resync's.
const RESYNC_SHARE: u32 = 4;

/// The span of a pass follows from so many of the spans that woke it: each of them
/// stays open until then, so a flood of wakes must not keep all of them.
const MAX_LINKS: usize = 4;

/// What a due time too far for the clock is set to.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// Why a pass runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    Wake,
    Resync,
    /// The last pass wanted to look again.
    Again,
    /// The last pass failed.
    Retry,
}

impl Trigger {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Wake => "wake",
            Self::Resync => "resync",
            Self::Again => "again",
            Self::Retry => "retry",
        }
    }

    const fn lane(self) -> Lane {
        match self {
            Self::Wake | Self::Again | Self::Retry => Lane::Fresh,
            Self::Resync => Lane::Resync,
        }
    }
}

/// A key whose pass must run now; it stays taken until it succeeded or failed.
#[derive(Debug)]
pub(crate) struct Picked<K> {
    pub(crate) key: K,
    pub(crate) trigger: Trigger,
    /// The spans that asked for it.
    pub(crate) links: Vec<Span>,
}

/// What became of a failed pass.
#[derive(Debug)]
pub(crate) struct Setback {
    /// The text differs from that of the key's failure before.
    pub(crate) news: bool,
    pub(crate) failures: u32,
    pub(crate) retry_in: Duration,
}

/// The queue at one moment.
#[derive(Debug)]
pub(crate) struct Gauges<K> {
    pub(crate) queued: usize,
    pub(crate) in_flight: usize,
    pub(crate) backing_off: usize,
    pub(crate) oldest: Option<(K, Duration)>,
}

#[derive(Debug)]
pub(crate) struct Queue<K> {
    policy: Policy,
    entries: BTreeMap<K, Entry>,
    lanes: Lanes<K>,
    /// Every entry with a due time, soonest first.
    timers: BTreeSet<(Instant, K)>,
}

#[derive(Debug)]
struct Entry {
    place: Place,
    /// When it is to be queued afresh; a request in the meantime keeps it until the pick.
    due: Option<Instant>,
    /// Since when it is asked for and no pass begun later has succeeded.
    since: Option<Instant>,
    links: Vec<Span>,
    failing: Option<Box<Failing>>,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    /// Until `due`.
    Waiting,
    Queued {
        ticket: u64,
        trigger: Trigger,
    },
    /// `again` is what was asked for meanwhile, and since when.
    Running {
        again: Option<(Trigger, Instant)>,
    },
}

#[derive(Debug)]
struct Failing {
    backoff: Backoff,
    text: String,
}

impl<K: Key> Queue<K> {
    pub(crate) const fn new(policy: Policy) -> Self {
        Self { policy, entries: BTreeMap::new(), lanes: Lanes::new(), timers: BTreeSet::new() }
    }

    /// Somebody asks for a look at `key`, within `span`.
    pub(crate) fn wake(&mut self, key: K, span: Span, now: Instant) {
        let entry = self.ask(key, Trigger::Wake, now);
        let known = entry.links.iter().any(|link| link.id() == span.id());
        if !span.is_none() && !known && entry.links.len() < MAX_LINKS {
            entry.links.push(span);
        }
    }

    /// It is time for a look at each of `keys`.
    pub(crate) fn resync(&mut self, keys: impl IntoIterator<Item = K>, now: Instant) {
        for key in keys {
            self.ask(key, Trigger::Resync, now);
        }
    }

    fn ask(&mut self, key: K, asked: Trigger, now: Instant) -> &mut Entry {
        let entry = self.entries.entry(key.clone()).or_insert_with(Entry::idle);
        match &mut entry.place {
            Place::Running { again } => {
                let first = again.map_or(now, |(_, since)| since);
                let urgent = again.map_or(asked, |(before, _)| before.more_urgent(asked));
                *again = Some((urgent, first));
            }
            Place::Queued { ticket, trigger } => {
                if trigger.lane() == Lane::Resync && asked.lane() == Lane::Fresh {
                    self.lanes.remove(Lane::Resync, *ticket);
                    *ticket = self.lanes.push(Lane::Fresh, key);
                    *trigger = asked;
                }
            }
            // The backoff of a failing key is not shortened by anything.
            Place::Waiting if entry.failing.is_some() => {}
            Place::Waiting => {
                // The due time stays until the pick: it may come up before a resync's turn.
                let ticket = self.lanes.push(asked.lane(), key);
                entry.place = Place::Queued { ticket, trigger: asked };
                entry.since = Some(now);
            }
        }
        entry
    }

    /// The next key to run, if there is one.
    pub(crate) fn pick(&mut self, now: Instant) -> Option<Picked<K>> {
        self.queue_what_is_due(now);
        let key = self.lanes.pop()?;
        let entry = self.entries.get_mut(&key)?;
        let trigger = match entry.place {
            Place::Queued { trigger, .. } => trigger,
            Place::Waiting | Place::Running { .. } => return None,
        };
        // The pass will say anew when it wants to look again.
        if let Some(due) = entry.due.take() {
            self.timers.remove(&(due, key.clone()));
        }
        entry.place = Place::Running { again: None };
        Some(Picked { key, trigger, links: std::mem::take(&mut entry.links) })
    }

    fn queue_what_is_due(&mut self, now: Instant) {
        while self.timers.first().is_some_and(|(due, _)| *due <= now) {
            let Some((due, key)) = self.timers.pop_first() else {
                return;
            };
            let Some(entry) = self.entries.get_mut(&key) else {
                continue;
            };
            entry.due = None;
            entry.since.get_or_insert(due);
            let trigger = if entry.failing.is_some() { Trigger::Retry } else { Trigger::Again };
            match &mut entry.place {
                Place::Waiting => {
                    let ticket = self.lanes.push(Lane::Fresh, key);
                    entry.place = Place::Queued { ticket, trigger };
                }
                Place::Queued { ticket, trigger: before } => {
                    if before.lane() == Lane::Resync {
                        self.lanes.remove(Lane::Resync, *ticket);
                        *ticket = self.lanes.push(Lane::Fresh, key);
                        *before = trigger;
                    }
                }
                // Its due time was taken away when it was picked.
                Place::Running { .. } => {}
            }
        }
    }

    /// When [`pick`](Self::pick) may return more than now, unless something is asked for.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// The pass over `key` succeeded. Returns how often it had failed before, if it had.
    pub(crate) fn succeeded(
        &mut self,
        key: &K,
        again_after: Option<Duration>,
        now: Instant,
    ) -> Option<u32> {
        let entry = self.entries.get_mut(key)?;
        let failures = entry.failing.take().map(|failing| failing.backoff.failures());
        let asked = match entry.place {
            Place::Running { again } => again,
            Place::Waiting | Place::Queued { .. } => None,
        };
        entry.since = None;
        if let Some((trigger, since)) = asked {
            let ticket = self.lanes.push(trigger.lane(), key.clone());
            entry.place = Place::Queued { ticket, trigger };
            entry.since = Some(since);
        } else if let Some(delay) = again_after {
            let due = later(now, delay);
            entry.place = Place::Waiting;
            entry.due = Some(due);
            self.timers.insert((due, key.clone()));
        } else {
            self.entries.remove(key);
        }
        failures
    }

    /// The pass over `key` failed, for the reason in `text`.
    pub(crate) fn failed(&mut self, key: &K, text: &str, now: Instant) -> Option<Setback> {
        let policy = self.policy;
        let entry = self.entries.get_mut(key)?;
        let failing = entry.failing.get_or_insert_with(|| {
            Box::new(Failing { backoff: Backoff::new(policy), text: String::new() })
        });
        let retry_in = failing.backoff.failed(Duration::ZERO);
        let failures = failing.backoff.failures();
        let news = failures == 1 || failing.text != text;
        if news {
            text.clone_into(&mut failing.text);
        }
        // What was asked for meanwhile is answered by the retry.
        let due = later(now, retry_in);
        entry.place = Place::Waiting;
        entry.due = Some(due);
        self.timers.insert((due, key.clone()));
        Some(Setback { news, failures, retry_in })
    }

    /// What people ask of it; looks at every entry.
    pub(crate) fn gauges(&self, now: Instant) -> Gauges<K> {
        let (mut in_flight, mut backing_off) = (0, 0);
        let mut oldest: Option<(&K, Instant)> = None;
        for (key, entry) in &self.entries {
            match entry.place {
                Place::Running { .. } => in_flight += 1,
                Place::Waiting if entry.failing.is_some() => backing_off += 1,
                Place::Waiting | Place::Queued { .. } => {}
            }
            // A second look that is overdue counts even if nobody picks any more.
            let since = entry.since.or(entry.due.filter(|due| *due <= now));
            if let Some(since) = since
                && oldest.is_none_or(|(_, other)| since < other)
            {
                oldest = Some((key, since));
            }
        }
        let oldest = oldest.map(|(key, since)| (key.clone(), now.saturating_duration_since(since)));
        Gauges { queued: self.lanes.len(), in_flight, backing_off, oldest }
    }
}

impl Entry {
    const fn idle() -> Self {
        Self { place: Place::Waiting, due: None, since: None, links: Vec::new(), failing: None }
    }
}

impl Trigger {
    /// Of two reasons for the same pass, the one that names its lane.
    fn more_urgent(self, other: Self) -> Self {
        if self.lane() == Lane::Fresh { self } else { other }
    }
}

fn later(now: Instant, delay: Duration) -> Instant {
    now.checked_add(delay).unwrap_or_else(|| now + FAR)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Fresh,
    Resync,
}

/// Two lanes, each first in, first out, from which a key can also be taken midway.
#[derive(Debug)]
struct Lanes<K> {
    fresh: BTreeMap<u64, K>,
    resync: BTreeMap<u64, K>,
    next_ticket: u64,
    /// Picks in a row that the fresh lane won while the other one waited.
    lost: u32,
}

impl<K> Lanes<K> {
    const fn new() -> Self {
        Self { fresh: BTreeMap::new(), resync: BTreeMap::new(), next_ticket: 0, lost: 0 }
    }

    fn lane(&mut self, lane: Lane) -> &mut BTreeMap<u64, K> {
        match lane {
            Lane::Fresh => &mut self.fresh,
            Lane::Resync => &mut self.resync,
        }
    }

    fn push(&mut self, lane: Lane, key: K) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.lane(lane).insert(ticket, key);
        ticket
    }

    fn remove(&mut self, lane: Lane, ticket: u64) {
        self.lane(lane).remove(&ticket);
    }

    fn pop(&mut self) -> Option<K> {
        let lane = if self.resync.is_empty() {
            Lane::Fresh
        } else if self.fresh.is_empty() || self.lost + 1 >= RESYNC_SHARE {
            Lane::Resync
        } else {
            self.lost += 1;
            return self.fresh.pop_first().map(|(_, key)| key);
        };
        self.lost = 0;
        self.lane(lane).pop_first().map(|(_, key)| key)
    }

    fn len(&self) -> usize {
        self.fresh.len() + self.resync.len()
    }
}

#[cfg(test)]
mod tests;
