//! What the loop around a controller's pass costs, and how much of that is for telling of
//! it: with the subscriber of `orch run` and no collector, against none at all.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reconcile::{CancellationToken, Outcome, Reconciler, Settings, Waker, controller};
use tokio::sync::Notify;

use crate::report::{Report, Wanted};

/// Keys that are woken at a time, and how often.
const KEYS: u64 = 1_000;
const TIMES: u32 = 100;
const ROUNDS: usize = 7;

#[derive(Clone, Default)]
struct Nothing {
    left: Arc<AtomicU64>,
    done: Arc<Notify>,
}

impl Reconciler for Nothing {
    type Key = u64;
    type Error = Infallible;

    fn name(&self) -> &'static str {
        "nothing"
    }

    async fn keys(&self) -> Result<Vec<u64>, Infallible> {
        Ok(Vec::new())
    }

    async fn reconcile(&self, _: &u64) -> Result<Outcome, Infallible> {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.done.notify_one();
        }
        Ok(Outcome::unchanged())
    }
}

/// The time of a pass that does nothing, all of it: queue, task, span, counters.
pub(crate) async fn measure() -> Report {
    let bare = rounds().await;
    orch::tell_as_orchestrator();
    let told = rounds().await;
    let telling: Vec<f64> = told.iter().zip(&bare).map(|(told, bare)| told - bare).collect();
    let mut report = Report::new("passes");
    report.add("a pass that does nothing", "us", &told);
    report.add("the same where nobody listens", "us", &bare);
    report.want("telling of an untraced pass", "us", &telling, Wanted::AtMost(2.0));
    report
}

async fn rounds() -> Vec<f64> {
    let nothing = Nothing::default();
    let settings = Settings { resync: Duration::from_secs(3600), ..Settings::default() };
    let (controller, waker, _) = controller(nothing.clone(), settings);
    let cancel = CancellationToken::new();
    let running = tokio::spawn({
        let cancel = cancel.clone();
        async move { controller.run(cancel).await }
    });
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        times.push(round(&nothing, &waker).await);
    }
    cancel.cancel();
    running.await.unwrap().unwrap();
    times
}

async fn round(nothing: &Nothing, waker: &Waker<u64>) -> f64 {
    let began = Instant::now();
    for _ in 0..TIMES {
        nothing.left.store(KEYS, Ordering::Relaxed);
        for key in 0..KEYS {
            waker.wake(key);
        }
        nothing.done.notified().await;
    }
    began.elapsed().as_secs_f64() * 1e6 / (u64::from(TIMES) * KEYS) as f64
}
