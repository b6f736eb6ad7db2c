//! Runs passes: the doing. What runs next, the [`queue`](crate::queue) decides.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, Span, field};

use crate::contain::{Failure, contain};
use crate::queue::{Picked, Queue, Setback, Trigger};
use crate::stats::{Oldest, QueueView, Stats};
use crate::{Key, Outcome, Reconciler, Settings, fault, lock, resync};

/// Why a controller's loop ended although nobody told it to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Two runs would not disturb each other's passes, but nobody wants them.
    #[error("controller `{name}` runs already: end that run first")]
    AlreadyRunning {
        /// The controller's name.
        name: &'static str,
    },
    /// The task that lists keys is gone; without it a lost wake stays lost.
    #[error("the resync of controller `{name}` ended by itself: run the controller again")]
    Resync {
        /// The controller's name.
        name: &'static str,
        /// How it ended, where it did not just return.
        source: Option<JoinError>,
    },
}

/// A controller for `reconciler`, the handle that wakes it, and its statistics.
///
/// Wakes are kept from now on; passes run while [`Controller::run`] does.
pub fn controller<R: Reconciler>(
    reconciler: R,
    settings: Settings,
) -> (Controller<R>, Waker<R::Key>, Stats) {
    let shared = Arc::new(Shared {
        queue: Mutex::new(Queue::<R::Key>::new(settings.backoff)),
        changed: Notify::new(),
        resync_now: Notify::new(),
    });
    let stats = Stats::with_queue(reconciler.name(), {
        let shared = Arc::clone(&shared);
        move |now| {
            let gauges = lock(&shared.queue).gauges(now);
            let oldest = gauges.oldest.map(|(key, age)| Oldest { key: key.to_string(), age });
            QueueView {
                queued: gauges.queued,
                in_flight: gauges.in_flight,
                backing_off: gauges.backing_off,
                oldest,
            }
        }
    });
    let waker = Waker(Arc::clone(&shared));
    let context = Context { reconciler, settings, shared, stats: stats.clone() };
    let controller = Controller { context: Arc::new(context), sole: tokio::sync::Mutex::new(()) };
    (controller, waker, stats)
}

/// What the controller, its wakers and its statistics share.
pub(crate) struct Shared<K> {
    pub(crate) queue: Mutex<Queue<K>>,
    /// The loop should look at the queue.
    pub(crate) changed: Notify,
    pub(crate) resync_now: Notify,
}

/// Says that it may be time to look at a key. Never blocks, never fails.
pub struct Waker<K>(Arc<Shared<K>>);

impl<K> Clone for Waker<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Key> Waker<K> {
    /// Asks for a pass over `key`. Its span will follow from the current one, which
    /// stays open until then: call this within the span of the event, not of a loop.
    pub fn wake(&self, key: K) {
        let span = Span::current();
        lock(&self.0.queue).wake(key, span, Instant::now());
        self.0.changed.notify_one();
    }

    /// Asks for a resync now, for events that may concern any key. While resyncs
    /// fail it does not shorten their backoff.
    pub fn resync(&self) {
        self.0.resync_now.notify_one();
    }
}

impl<K> std::fmt::Debug for Waker<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waker").finish_non_exhaustive()
    }
}

/// What every pass needs.
pub(crate) struct Context<R: Reconciler> {
    pub(crate) reconciler: R,
    pub(crate) settings: Settings,
    pub(crate) shared: Arc<Shared<R::Key>>,
    pub(crate) stats: Stats,
}

impl<R: Reconciler> Context<R> {
    pub(crate) fn name(&self) -> &'static str {
        self.stats.name()
    }
}

/// A reconciler with its queue, ready to run.
pub struct Controller<R: Reconciler> {
    context: Arc<Context<R>>,
    sole: tokio::sync::Mutex<()>,
}

impl<R: Reconciler> Controller<R> {
    /// Runs passes until `cancel`, then lets those in flight finish, for
    /// [`Settings::pass_timeout`] at most.
    ///
    /// It may be run again afterwards, also when it was dropped or has failed: the
    /// queue and the backoffs live on. Run it under [`supervise`](crate::supervise()).
    pub async fn run(&self, cancel: CancellationToken) -> Result<(), Error> {
        let name = self.context.name();
        let _sole = self.sole.try_lock().map_err(|_| Error::AlreadyRunning { name })?;
        let resync = tokio::spawn(resync::run(Arc::clone(&self.context)));
        let mut resync = AbortOnDropHandle::new(resync);
        let mut passes = JoinSet::new();
        while !cancel.is_cancelled() {
            let due = self.start_passes(&mut passes);
            tokio::select! {
                () = cancel.cancelled() => {}
                ended = &mut resync => {
                    return Err(Error::Resync { name, source: ended.err() });
                }
                Some(ended) = passes.join_next() => self.note_end(ended),
                () = self.context.shared.changed.notified() => {}
                () = sleep_until_some(due) => {}
            }
        }
        drop(resync);
        let deadline = Instant::now() + self.context.settings.pass_timeout;
        while let Ok(Some(ended)) = timeout_at(deadline, passes.join_next()).await {
            self.note_end(ended);
        }
        Ok(())
    }

    /// Starts what may start. Returns when to look again without being told.
    fn start_passes(&self, passes: &mut JoinSet<()>) -> Option<Instant> {
        let context = &self.context;
        while passes.len() < context.settings.workers.max(1) {
            let mut queue = lock(&context.shared.queue);
            let Some(picked) = queue.pick(Instant::now()) else {
                return queue.next_due();
            };
            drop(queue);
            let Picked { key, trigger, links } = picked;
            let taken = Taken { context: Arc::clone(context), key, settled: false };
            passes.spawn(pass(taken, trigger, links));
        }
        // All workers are busy: the end of a pass comes first.
        None
    }

    /// A pass contains what it runs; what ends its task otherwise is a fault in a
    /// key's `Display` or in a subscriber. The key has been given back.
    fn note_end(&self, ended: Result<(), JoinError>) {
        if let Err(error) = ended {
            let error = error.to_string();
            tracing::error!(controller = self.context.name(), error, "pass was lost");
        }
    }
}

impl<R: Reconciler> std::fmt::Debug for Controller<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller").field("name", &self.context.name()).finish_non_exhaustive()
    }
}

async fn sleep_until_some(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// A key taken from the queue. If no verdict is given it is given back as failed
/// when this is dropped, which for an aborted pass happens only once its future is
/// gone: a controller that is run again right after its run was dropped cannot have
/// the same key in two passes.
struct Taken<R: Reconciler> {
    context: Arc<Context<R>>,
    key: R::Key,
    settled: bool,
}

impl<R: Reconciler> Taken<R> {
    fn settle<T>(mut self, verdict: impl FnOnce(&mut Queue<R::Key>, &R::Key) -> T) -> T {
        self.settled = true;
        verdict(&mut lock(&self.context.shared.queue), &self.key)
    }
}

impl<R: Reconciler> Drop for Taken<R> {
    fn drop(&mut self) {
        // Once settled, the key may already be in its next pass.
        if !self.settled {
            let shared = &self.context.shared;
            let text = "the pass was dropped before its end";
            lock(&shared.queue).failed(&self.key, text, Instant::now());
            shared.changed.notify_one();
        }
    }
}

async fn pass<R: Reconciler>(taken: Taken<R>, trigger: Trigger, links: Vec<Span>) {
    let span = tracing::info_span!(
        "reconcile",
        controller = taken.context.name(),
        key = %taken.key,
        trigger = trigger.as_str(),
        otel.status_code = field::Empty,
        otel.status_description = field::Empty,
        plan = field::Empty,
        outcome = field::Empty,
        next_in_ms = field::Empty,
    );
    for link in &links {
        span.follows_from(link);
    }
    drop(links);
    let limit = Some(taken.context.settings.pass_timeout);
    let work = contain(limit, || {
        fault::inject(taken.context.name());
        taken.context.reconciler.reconcile(&taken.key)
    });
    let result = work.instrument(span.clone()).await;
    let _entered = span.enter();
    match result {
        Ok(outcome) => succeeded(taken, outcome, &span),
        Err(failure) => failed(taken, &failure, &span),
    }
}

fn note_next(span: &Span, after: Option<Duration>) {
    if let Some(after) = after {
        span.record("next_in_ms", u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    }
}

fn succeeded<R: Reconciler>(taken: Taken<R>, outcome: Outcome, span: &Span) {
    let Outcome { acted, again_after } = outcome;
    span.record("outcome", if acted { "acted" } else { "unchanged" });
    note_next(span, again_after);
    let stats = taken.context.stats.clone();
    let recovered = taken.settle(|queue, key| queue.succeeded(key, again_after, Instant::now()));
    if let Some(failures) = recovered {
        tracing::info!(failures, "reconcile recovered");
    }
    stats.pass_succeeded(acted);
}

fn failed<R: Reconciler>(taken: Taken<R>, failure: &Failure, span: &Span) {
    let outcome = match failure {
        Failure::Failed(_) => "failed",
        Failure::Panicked(_) => "panicked",
        Failure::TimedOut(_) => "timed out",
    };
    span.record("outcome", outcome);
    span.record("otel.status_code", "ERROR");
    let (stats, key, error) = (taken.context.stats.clone(), taken.key.to_string(), failure.text());
    span.record("otel.status_description", error.as_str());
    let setback = taken.settle(|queue, key| queue.failed(key, &error, Instant::now()));
    if let Some(Setback { news, failures, retry_in }) = setback {
        note_next(span, Some(retry_in));
        if news {
            tracing::warn!(error, failures, ?retry_in, "reconcile failed");
        } else {
            tracing::debug!(error, failures, ?retry_in, "reconcile failed again");
        }
    }
    stats.pass_failed(key, failure, error);
}
