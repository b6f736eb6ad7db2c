//! What the leader tells `orch status`: how its controllers do, and what is wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::AgentName;
use reconcile::{CancellationToken, Stats};
use store::Store;
use store::lead::{Candidate, Controller};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::report::{ControllerReport, Problem};

/// How often the controllers' figures are written.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// What is wrong, by where it is noticed.
pub(crate) struct Problems {
    instructions: watch::Receiver<Arc<Vec<Problem>>>,
    /// Kept, because without its source a receiver ends, and not every process runs the
    /// heartbeat controller.
    heartbeats: heartbeat_controller::Problems,
    changes: watch::Receiver<BTreeMap<AgentName, Vec<String>>>,
}

impl Problems {
    pub(crate) fn new(
        instructions: watch::Receiver<Arc<Vec<Problem>>>,
        heartbeats: heartbeat_controller::Problems,
    ) -> Self {
        let changes = heartbeats.subscribe();
        Self { instructions, heartbeats, changes }
    }

    fn all(&self) -> Vec<Problem> {
        let mut all: Vec<Problem> = self.instructions.borrow().to_vec();
        for (agent, problems) in self.heartbeats.current() {
            all.extend(problems.iter().map(|text| Problem::error(format!("{agent}: {text}"))));
        }
        all
    }

    /// Until one of them changes. Whether there may be changes yet.
    async fn changed(&mut self) -> bool {
        tokio::select! {
            changed = self.instructions.changed() => changed.is_ok(),
            changed = self.changes.changed() => changed.is_ok(),
        }
    }
}

/// Publishes until `cancel`. What Redis does not take is told again.
pub(crate) async fn publish(
    store: Store,
    mut problems: Problems,
    stats: Vec<(Controller, Stats)>,
    who: Candidate,
    cancel: CancellationToken,
) {
    let mut told: Option<Vec<Problem>> = None;
    loop {
        let shown = problems.all();
        if told.as_ref() != Some(&shown) {
            match store.report_problems(&serde_json::json!(shown).to_string()).await {
                Ok(()) => told = Some(shown),
                Err(error) => {
                    tracing::debug!(target: "orchestrator",
                        error = reconcile::error_chain(&error), "Cannot publish problems");
                }
            }
        }
        let reports: Vec<(&str, String)> = stats
            .iter()
            .map(|(controller, stats)| {
                let report = ControllerReport::new(*controller, &who, &stats.snapshot());
                (controller.as_str(), serde_json::json!(report).to_string())
            })
            .collect();
        if let Err(error) = store.report_controllers(&reports).await {
            tracing::debug!(target: "orchestrator",
                error = reconcile::error_chain(&error), "Cannot publish reports");
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = sleep(REPORT_EVERY) => {}
            more = problems.changed() => if !more { return },
        }
    }
}
