//! What the leader tells `orch status`: how its controllers do, and what is wrong.

use std::sync::Arc;
use std::time::Duration;

use reconcile::{CancellationToken, Stats};
use store::Store;
use store::lead::{Candidate, Controller};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::report::{ControllerReport, Problem};

/// How often the controllers' figures are written.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// Publishes until `cancel`. What Redis does not take is told again.
pub(crate) async fn publish(
    store: Store,
    mut problems: watch::Receiver<Arc<Vec<Problem>>>,
    stats: Vec<(Controller, Stats)>,
    who: Candidate,
    cancel: CancellationToken,
) {
    problems.mark_changed();
    loop {
        if problems.has_changed().unwrap_or(false) {
            let shown = problems.borrow_and_update().clone();
            let json = serde_json::json!(*shown).to_string();
            if let Err(error) = store.report_problems(&json).await {
                tracing::debug!(target: "orchestrator", %error, "Cannot publish problems");
                problems.mark_changed();
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
            tracing::debug!(target: "orchestrator", %error, "Cannot publish reports");
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = sleep(REPORT_EVERY) => {}
            changed = problems.changed() => match changed {
                Ok(()) => problems.mark_changed(),
                Err(_) => return,
            },
        }
    }
}
