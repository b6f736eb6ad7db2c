//! What people ask of a loop: is it alive, what did it do, what waits, what hurts?
//!
//! Counters only grow. What is in the queue is read at the moment of the snapshot,
//! not reported by the loop, so the age of the oldest key keeps growing when the
//! loop hangs: a dead loop cannot look healthy.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::contain::Failure;
use crate::lock;

/// A loop at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The loop's name.
    pub name: &'static str,
    /// Whether it runs.
    pub life: Life,
    /// How often the loop itself was restarted.
    pub restarts: u64,
    /// Passes that ended, in whichever way.
    pub passes: u64,
    /// Passes that changed something.
    pub acted: u64,
    /// Passes that failed, panics and timeouts included.
    pub failures: u64,
    /// Passes that panicked.
    pub panics: u64,
    /// Passes that took longer than they may.
    pub timeouts: u64,
    /// Resyncs that listed all keys.
    pub resyncs: u64,
    /// Resyncs that could not.
    pub resync_failures: u64,
    /// Keys that wait for a free worker.
    pub queued: usize,
    /// Keys whose pass runs.
    pub in_flight: usize,
    /// Keys that wait because they failed.
    pub backing_off: usize,
    /// How long ago the last pass ended.
    pub last_pass: Option<Duration>,
    /// How long ago the last resync listed all keys.
    pub last_resync: Option<Duration>,
    /// What waits longest for a successful pass.
    pub oldest: Option<Oldest>,
    /// What failed last; it may have healed since.
    pub last_error: Option<LastError>,
}

/// Whether a supervised loop runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Life {
    /// Nobody has started it.
    #[default]
    New,
    /// It runs.
    Running,
    /// It ended by itself and waits for its restart.
    Restarting,
    /// It was told to end, and did.
    Ended,
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::New => "new",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Ended => "ended",
        })
    }
}

/// The key that waits longest for a successful pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oldest {
    /// The key.
    pub key: String,
    /// For how long: since the first request that no later successful pass has answered.
    pub age: Duration,
}

/// The last failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// Whose pass it was; `None` for a resync or the loop itself.
    pub key: Option<String>,
    /// The error and its sources.
    pub text: String,
    /// How long ago it happened.
    pub elapsed: Duration,
}

/// A handle to one loop's statistics; clones show the same.
#[derive(Clone)]
pub struct Stats {
    name: &'static str,
    counters: Arc<Mutex<Counters>>,
    queue: Option<Arc<ReadQueue>>,
}

type ReadQueue = dyn Fn(Instant) -> QueueView + Send + Sync;

/// What is read of a queue whose keys have become text.
#[derive(Default)]
pub(crate) struct QueueView {
    pub(crate) queued: usize,
    pub(crate) in_flight: usize,
    pub(crate) backing_off: usize,
    pub(crate) oldest: Option<Oldest>,
}

#[derive(Debug, Default)]
struct Counters {
    life: Life,
    restarts: u64,
    passes: u64,
    acted: u64,
    failures: u64,
    panics: u64,
    timeouts: u64,
    resyncs: u64,
    resync_failures: u64,
    last_pass: Option<Instant>,
    last_resync: Option<Instant>,
    last_error: Option<(Option<String>, String, Instant)>,
}

impl Stats {
    /// For a loop that is no controller; see [`supervise`](crate::supervise()).
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, counters: Arc::default(), queue: None }
    }

    pub(crate) fn with_queue(
        name: &'static str,
        read: impl Fn(Instant) -> QueueView + Send + Sync + 'static,
    ) -> Self {
        Self { queue: Some(Arc::new(read)), ..Self::new(name) }
    }

    /// The loop's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// How it stands now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        let view = self.queue.as_ref().map(|read| read(now)).unwrap_or_default();
        let counters = lock(&self.counters);
        let ago = |then: Instant| now.saturating_duration_since(then);
        let last_error = counters.last_error.as_ref().map(|(key, text, then)| LastError {
            key: key.clone(),
            text: text.clone(),
            elapsed: ago(*then),
        });
        Snapshot {
            name: self.name,
            life: counters.life,
            restarts: counters.restarts,
            passes: counters.passes,
            acted: counters.acted,
            failures: counters.failures,
            panics: counters.panics,
            timeouts: counters.timeouts,
            resyncs: counters.resyncs,
            resync_failures: counters.resync_failures,
            queued: view.queued,
            in_flight: view.in_flight,
            backing_off: view.backing_off,
            last_pass: counters.last_pass.map(ago),
            last_resync: counters.last_resync.map(ago),
            oldest: view.oldest,
            last_error,
        }
    }

    pub(crate) fn pass_succeeded(&self, acted: bool) {
        let mut counters = lock(&self.counters);
        counters.passes += 1;
        counters.acted += u64::from(acted);
        counters.last_pass = Some(Instant::now());
    }

    pub(crate) fn pass_failed(&self, key: String, failure: &Failure, text: String) {
        let mut counters = lock(&self.counters);
        let now = Instant::now();
        counters.passes += 1;
        counters.failures += 1;
        match failure {
            Failure::Failed(_) => {}
            Failure::Panicked(_) => counters.panics += 1,
            Failure::TimedOut(_) => counters.timeouts += 1,
        }
        counters.last_pass = Some(now);
        counters.last_error = Some((Some(key), text, now));
    }

    pub(crate) fn resynced(&self) {
        let mut counters = lock(&self.counters);
        counters.resyncs += 1;
        counters.last_resync = Some(Instant::now());
    }

    pub(crate) fn resync_failed(&self, text: String) {
        let mut counters = lock(&self.counters);
        counters.resync_failures += 1;
        counters.last_error = Some((None, text, Instant::now()));
    }

    pub(crate) fn started(&self) {
        lock(&self.counters).life = Life::Running;
    }

    pub(crate) fn restarting(&self, text: String) {
        let mut counters = lock(&self.counters);
        counters.life = Life::Restarting;
        counters.restarts += 1;
        counters.last_error = Some((None, text, Instant::now()));
    }

    pub(crate) fn ended(&self) {
        lock(&self.counters).life = Life::Ended;
    }
}

impl fmt::Debug for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stats").field("name", &self.name).finish_non_exhaustive()
    }
}
