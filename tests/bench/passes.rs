//! What the loop around a pass costs where nobody asked for traces.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use reconcile::{CancellationToken, Outcome, Reconciler, Settings, controller};

use crate::median;

const PASSES: u64 = 200_000;
const ROUNDS: usize = 5;

struct Nothing;

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
        Ok(Outcome::unchanged())
    }
}

/// Prints the time of a pass that does nothing, all of it: queue, task, span, counters.
pub(crate) async fn measure() {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        times.push(round().await);
    }
    println!("a pass that does nothing       {:>6.2} us  wanted below 2", median(&times));
}

async fn round() -> f64 {
    let settings = Settings { resync: Duration::from_secs(3600), ..Settings::default() };
    let (controller, waker, stats) = controller(Nothing, settings);
    for key in 0..PASSES {
        waker.wake(key);
    }
    let cancel = CancellationToken::new();
    let began = Instant::now();
    let running = tokio::spawn({
        let cancel = cancel.clone();
        async move { controller.run(cancel).await }
    });
    while stats.snapshot().passes < PASSES {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = began.elapsed();
    cancel.cancel();
    _ = running.await;
    #[allow(clippy::cast_precision_loss, reason = "some thousands")]
    let each = took.as_secs_f64() * 1e6 / PASSES as f64;
    each
}
