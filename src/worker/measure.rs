//! How an agent's calls to Redis go, told from time to time: an agent has no port at
//! which somebody could ask.

use std::time::Duration;

use store::Store;
use store::calls::Calls;
use tokio::time::{sleep, timeout};

/// Between two reports.
const EVERY: Duration = Duration::from_secs(10);
/// How long the last report may take.
const LAST_LIMIT: Duration = Duration::from_millis(200);

/// What was measured and not told yet. Clones share it.
#[derive(Clone)]
pub(super) struct Measure {
    store: Store,
    calls: Calls,
}

impl Measure {
    /// Measures the calls of `store`, and tells of them until the process ends.
    pub(super) fn start(store: &Store) -> Self {
        let measure = Self { store: store.clone(), calls: store.measure_calls() };
        tokio::spawn({
            let measure = measure.clone();
            async move {
                loop {
                    sleep(EVERY).await;
                    measure.tell().await;
                }
            }
        });
        measure
    }

    async fn tell(&self) {
        // What cannot be told is lost: it may have been added all the same.
        if let Err(error) = self.store.add_measures(self.calls.take()).await {
            tracing::debug!(target: "runtime", %error, "Measures are lost");
        }
    }

    /// Tells what is left, within a bound.
    pub(super) async fn end(&self) {
        _ = timeout(LAST_LIMIT, self.tell()).await;
    }
}
