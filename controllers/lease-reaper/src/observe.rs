//! What is seen of leases, and for how long it has been the same.

use model::TaskId;
use tokio::time::Instant;

use crate::Reconciler;
use crate::plan::{Held, Snapshot};

impl Reconciler {
    /// Reads one lease.
    pub(crate) async fn observe(&self, task: &TaskId) -> Result<Snapshot, store::Error> {
        let asked = Instant::now();
        let pulse = self.store.lease(task).await?;
        let answered = Instant::now();
        let mut pulses = self.pulses();
        let held = pulse.map(|pulse| {
            let silent = pulses.look(task.clone(), pulse, asked, answered).unwrap_or_default();
            Held { pulse, silent }
        });
        if held.is_none() {
            pulses.forget(task);
        }
        Ok(Snapshot { task: task.clone(), held })
    }
}
