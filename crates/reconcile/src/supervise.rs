//! Keeps a long-lived loop alive.
//!
//! A controller's passes are contained one by one; this is for the loop around
//! them, and for every other loop of a process. Whatever ends one that was not told
//! to end (a panic, an error, an early return) is recorded, and it starts again
//! after its backoff. Never given up: a loop that is down is down for everybody.

use std::error::Error;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::backoff::{Backoff, Policy};
use crate::contain::contain;
use crate::stats::Stats;

/// Runs what `start` returns, again and again, until `cancel`.
///
/// The future must watch `cancel` itself and end: it is not dropped, so that it can
/// finish what it has begun. Who cannot wait for that drops this one, or bounds it
/// with a timeout. A run that lasted for the policy's `reset_after` forgives the
/// failures before it.
pub async fn supervise<F, Fut, E>(
    stats: &Stats,
    policy: Policy,
    cancel: &CancellationToken,
    mut start: F,
) where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let _ended = EndedOnDrop(stats);
    let mut backoff = Backoff::new(policy);
    let mut told = None;
    while !cancel.is_cancelled() {
        stats.started();
        let began = Instant::now();
        let result = contain(None, &mut start).await;
        if cancel.is_cancelled() {
            if let Err(failure) = result {
                let error = failure.text();
                tracing::warn!(name = stats.name(), error, "loop failed while it was ending");
            }
            return;
        }
        let text = match result {
            Ok(()) => "it returned although nobody told it to end".to_owned(),
            Err(failure) => failure.text(),
        };
        let restart_in = backoff.failed(began.elapsed());
        stats.restarting(text.clone());
        if told.as_ref() != Some(&text) {
            let failures = backoff.failures();
            tracing::error!(name = stats.name(), error = text, failures, ?restart_in, "loop ended");
            told = Some(text);
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            () = sleep(restart_in) => {}
        }
    }
}

/// Also a supervisor that is dropped must not leave its loop looking alive.
struct EndedOnDrop<'a>(&'a Stats);

impl Drop for EndedOnDrop<'_> {
    fn drop(&mut self) {
        self.0.ended();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;
    use std::future::pending;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::stats::Life;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn loop_should_be_restarted_whichever_way_it_ends() {
        let (stats, cancel, runs) = (Stats::new("x"), CancellationToken::new(), Cell::new(0));
        let start = || {
            runs.set(runs.get() + 1);
            let run = runs.get();
            let (stats, cancel) = (stats.clone(), cancel.clone());
            async move {
                assert_eq!(stats.snapshot().life, Life::Running);
                match run {
                    1 => panic!("oh"),
                    2 => Err("dear"),
                    3 => Ok(()),
                    _ => {
                        cancel.cancel();
                        Ok(())
                    }
                }
            }
        };
        supervise(&stats, Policy::default(), &cancel, start).await;
        assert_eq!(runs.get(), 4);
        let snapshot = stats.snapshot();
        assert_eq!((snapshot.life, snapshot.restarts), (Life::Ended, 3));
        let last = snapshot.last_error.unwrap();
        assert_eq!((last.key, last.text.contains("returned")), (None, true));
    }

    #[tokio::test(start_paused = true)]
    async fn restarts_should_back_off_and_health_should_forgive() {
        let (stats, cancel) = (Stats::new("x"), CancellationToken::new());
        let began = Cell::new(Vec::new());
        let start = || {
            let mut all = began.take();
            all.push(Instant::now());
            let run = all.len();
            began.set(all);
            let cancel = cancel.clone();
            async move {
                match run {
                    9 => tokio::time::sleep(2 * MINUTE).await,
                    11 => cancel.cancel(),
                    _ => {}
                }
                Err::<(), _>("no")
            }
        };
        supervise(&stats, Policy::default(), &cancel, start).await;
        let began = began.take();
        let delay = |run: usize| began[run] - began[run - 1];
        assert!(delay(1) < Duration::from_secs(1), "{:?}", delay(1));
        assert!(delay(8) > Duration::from_secs(25), "{:?}", delay(8));
        assert!(delay(9) < 2 * MINUTE + Duration::from_secs(1), "{:?}", delay(9));
        assert!(delay(10) < Duration::from_secs(1), "{:?}", delay(10));
    }

    #[tokio::test(start_paused = true)]
    async fn cancel_should_end_a_wait_for_the_restart_at_once() {
        let (stats, cancel) = (Stats::new("x"), CancellationToken::new());
        let policy = Policy { first: MINUTE, ..Policy::default() };
        let start = || async { Err::<(), _>("no") };
        let supervised = supervise(&stats, policy, &cancel, start);
        let end = async {
            while stats.snapshot().life != Life::Restarting {
                tokio::task::yield_now().await;
            }
            cancel.cancel();
        };
        let began = Instant::now();
        tokio::join!(supervised, end);
        assert_eq!(Instant::now(), began);
        assert_eq!(stats.snapshot().life, Life::Ended);
    }

    #[tokio::test(start_paused = true)]
    async fn loop_should_finish_what_it_has_begun_when_it_is_told_to_end() {
        let (stats, cancel, finished) = (Stats::new("x"), CancellationToken::new(), Cell::new(0));
        let start = || async {
            cancel.cancelled().await;
            tokio::time::sleep(MINUTE).await;
            finished.set(finished.get() + 1);
            Ok::<(), Infallible>(())
        };
        let supervised = supervise(&stats, Policy::default(), &cancel, start);
        tokio::join!(supervised, async { cancel.cancel() });
        assert_eq!((finished.get(), stats.snapshot().restarts), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_supervisor_should_not_look_alive() {
        let (stats, cancel) = (Stats::new("x"), CancellationToken::new());
        let start = pending::<Result<(), Infallible>>;
        let supervised = supervise(&stats, Policy::default(), &cancel, start);
        assert!(timeout(MINUTE, supervised).await.is_err());
        assert_eq!(stats.snapshot().life, Life::Ended);
    }
}
