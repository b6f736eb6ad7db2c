//! How an agent's calls to Redis go, told from time to time: an agent has no port at
//! which somebody could ask.

use std::sync::Arc;
use std::time::Duration;

use store::Store;
use store::calls::{Calls, Measures};
use tokio::sync::Mutex;
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
    report: Arc<Mutex<Report>>,
}

/// The report that is made. It stays the same until it is known to have arrived, for only
/// then it counts once.
struct Report {
    writer: String,
    number: u64,
    measures: Measures,
}

impl Measure {
    /// Measures the calls of `store`, and tells of them until the process ends.
    pub(super) fn start(store: &Store) -> Self {
        let writer = uuid::Uuid::new_v4().to_string();
        let report = Report { writer, number: 0, measures: Measures::new() };
        let measure = Self {
            store: store.clone(),
            calls: store.measure_calls(),
            report: Arc::new(Mutex::new(report)),
        };
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
        if let Err(error) = self.try_to_tell().await {
            tracing::debug!(target: "runtime", %error, "Measures are told later");
        }
    }

    async fn try_to_tell(&self) -> Result<(), store::Error> {
        let mut report = self.report.lock().await;
        if !report.measures.is_empty() {
            self.send(&mut report).await?;
        }
        report.number += 1;
        report.measures = self.calls.take();
        self.send(&mut report).await
    }

    async fn send(&self, report: &mut Report) -> Result<(), store::Error> {
        self.store.add_measures(&report.writer, report.number, &report.measures).await?;
        report.measures.clear();
        Ok(())
    }

    /// Tells what is left, within a bound.
    pub(super) async fn end(&self) {
        _ = timeout(LAST_LIMIT, self.tell()).await;
    }
}

#[cfg(test)]
mod tests {
    use testkit::{FaultProxy, Mode, RedisServer};

    use super::*;

    #[tokio::test]
    async fn report_without_an_answer_should_be_told_again_and_count_once() {
        let server = RedisServer::start();
        let proxy = FaultProxy::start(server.port());
        let url: store::RedisUrl = proxy.url().parse().unwrap();
        let store = Store::new(&store::Options::from(url)).await.unwrap();
        let measure = Measure::start(&store);
        let counted = async || {
            let told = store.measures().await.unwrap();
            told.get("list goals").map(|call| call.buckets.iter().sum::<u64>())
        };
        store.goal_ids().await.unwrap();
        measure.tell().await;
        assert_eq!(counted().await, Some(1));

        // The first is executed and its answer lost; the second never arrives.
        for (mode, then, at_last) in [(Mode::CutOnReply, 2, 3), (Mode::Refuse, 3, 5)] {
            store.goal_ids().await.unwrap();
            proxy.set(mode);
            if mode == Mode::Refuse {
                proxy.cut();
            }
            measure.try_to_tell().await.unwrap_err();
            proxy.set(Mode::Forward);
            store.goal_ids().await.unwrap();
            assert_eq!(counted().await, Some(then), "{mode:?}");
            measure.tell().await;
            assert_eq!(counted().await, Some(at_last), "{mode:?}");
        }
    }
}
