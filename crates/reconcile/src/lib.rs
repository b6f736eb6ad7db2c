//! A level-triggered reconcile loop: queue, backoff, resync, panic containment, spans.
//!
//! It knows no domain. A [`Reconciler`] says which keys there are and what one
//! pass over a key does; the kit decides when passes run and survives them.
//!
//! # Guarantees
//!
//! - Equal keys merge. A key is never in two passes at a time; whatever is asked
//!   for while its pass runs causes exactly one more pass after it.
//! - Up to [`Settings::workers`] passes run at a time, each in a task of its own.
//!   One that returns an error, panics or exceeds [`Settings::pass_timeout`] has
//!   failed: its key backs off, exponentially and with jitter. Nothing shortens
//!   that wait, wakes and resyncs included, and the first success ends it.
//! - On start and every [`Settings::resync`] all of [`Reconciler::keys`] are looked
//!   at. Wakes go first, but while both wait at least every fourth pass is a
//!   resync's: neither can starve the other. A `keys` that fails, panics or hangs
//!   backs off too, and hinders no wake.
//! - A key that is idle and healthy costs no memory.
//! - Each pass has a span `reconcile{controller,key,trigger}` that follows from the
//!   spans which woke it. An error is logged when its text changes, not per retry.
//!
//! # Assumptions
//!
//! - Passes are idempotent and read the world anew: a wake carries a key and
//!   nothing else, may be lost, and may be merged with others.
//! - Passes do not block their thread. The timeout drops a pass where it awaits;
//!   one that never awaits keeps its worker (and only that) until it does.
//! - A pass that is dropped at any await, by its timeout or at shutdown, does no
//!   harm; the next one repairs what it left.
//!
//! # Use
//!
//! ```
//! use std::convert::Infallible;
//! use reconcile::{CancellationToken, Outcome, Reconciler, Settings, controller, supervise};
//!
//! struct Nothing;
//! impl Reconciler for Nothing {
//!     type Key = String;
//!     type Error = Infallible;
//!     fn name(&self) -> &'static str { "nothing" }
//!     async fn keys(&self) -> Result<Vec<String>, Infallible> { Ok(vec![]) }
//!     async fn reconcile(&self, _: &String) -> Result<Outcome, Infallible> {
//!         Ok(Outcome::unchanged())
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let cancel = CancellationToken::new();
//! let settings = Settings::default();
//! let (controller, waker, stats) = controller(Nothing, settings);
//! waker.wake("a key".to_owned());
//! let running = tokio::spawn({
//!     let (cancel, stats) = (cancel.clone(), stats.clone());
//!     async move {
//!         supervise(&stats, settings.backoff, &cancel, || controller.run(cancel.clone())).await;
//!     }
//! });
//! while stats.snapshot().passes == 0 { tokio::task::yield_now().await; }
//! cancel.cancel();
//! running.await.unwrap();
//! # });
//! ```

mod chain;
mod contain;
mod controller;
mod fault;
mod queue;
mod resync;
mod spans;
mod stats;
mod supervise;
mod unchanged;

pub mod backoff;

use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use tokio_util::sync::CancellationToken;

pub use crate::backoff::{Backoff, Policy};
pub use crate::chain::error_chain;
pub use crate::controller::{Controller, Error, Waker, controller};
pub use crate::spans::{action, note_plan};
pub use crate::stats::{LastError, Life, Oldest, Snapshot, Stats};
pub use crate::supervise::supervise;
pub use crate::unchanged::Unchanged;

/// What names one thing to reconcile. Everything suitable is one.
pub trait Key: Clone + Ord + Display + Send + Sync + 'static {}

impl<T: Clone + Ord + Display + Send + Sync + 'static> Key for T {}

/// What a controller owns: which keys there are, and what one pass over a key does.
pub trait Reconciler: Send + Sync + 'static {
    /// Names one thing that it reconciles.
    type Key: Key;
    /// Why a pass, or the listing of keys, failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The controller's name in spans, logs and statistics.
    fn name(&self) -> &'static str;

    /// All keys that a resync must look at.
    fn keys(&self) -> impl Future<Output = Result<Vec<Self::Key>, Self::Error>> + Send;

    /// Read desired and actual state of `key`, decide, act.
    fn reconcile(
        &self,
        key: &Self::Key,
    ) -> impl Future<Output = Result<Outcome, Self::Error>> + Send;
}

/// What a pass that succeeded did, and whether it wants to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Outcome {
    /// It changed something.
    pub acted: bool,
    /// Look again after this long without being woken. It holds until the key's next
    /// pass, whatever causes that one: each pass says anew what it needs.
    pub again_after: Option<Duration>,
}

impl Outcome {
    /// Desired equals actual: nothing was written.
    pub const fn unchanged() -> Self {
        Self { acted: false, again_after: None }
    }

    /// Something was changed.
    pub const fn acted() -> Self {
        Self { acted: true, again_after: None }
    }

    /// Look again after `delay` at the latest; the earliest of several wins.
    pub fn again_after(self, delay: Duration) -> Self {
        let earliest = self.again_after.map_or(delay, |other| other.min(delay));
        Self { again_after: Some(earliest), ..self }
    }
}

/// How a controller runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How many passes may run at a time; 0 counts as 1.
    pub workers: usize,
    /// How long after a resync the next one starts.
    pub resync: Duration,
    /// How long one pass, or one listing of the keys, may take.
    pub pass_timeout: Duration,
    /// How long a key waits after failures.
    pub backoff: Policy,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: 4,
            resync: Duration::from_secs(5),
            pass_timeout: Duration::from_secs(30),
            backoff: Policy::default(),
        }
    }
}

/// Locks even after a panic: nothing here calls foreign code between two steps
/// that belong together, so what a panic leaves behind is consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcome_should_keep_the_earliest_of_several_delays() {
        let (short, long) = (Duration::from_secs(1), Duration::from_secs(2));
        assert_eq!(Outcome::acted().again_after(long).again_after(short).again_after, Some(short));
        assert_eq!(Outcome::acted().again_after(short).again_after(long).again_after, Some(short));
    }
}
