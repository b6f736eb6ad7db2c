//! Carrying out a plan. A stale one is harmless: the script compares the pulse again.

use model::TaskId;
use reconcile::Outcome;
use store::lease::Reaped;
use tracing::Instrument as _;

use crate::Reconciler;
use crate::plan::Plan;

impl Reconciler {
    pub(crate) async fn carry_out(
        &self,
        task: &TaskId,
        plan: &Plan,
    ) -> Result<Outcome, store::Error> {
        let (seen, reason) = match plan {
            Plan::Nothing { .. } => return Ok(Outcome::unchanged()),
            Plan::Wait { look_again, .. } => {
                return Ok(Outcome::unchanged().again_after(*look_again));
            }
            Plan::Reap { seen, reason, .. } => (seen, reason),
        };
        reconcile::note_plan(plan);
        let reap = self.store.reap(&self.lead, task, seen.pulse, reason);
        let reaped = reap.instrument(reconcile::action("reap")).await?;
        // Whatever is seen of this task next is another lease, or another beat.
        self.pulses().forget(task);
        match reaped {
            Reaped::Yes => {
                let pulse = seen.pulse;
                tracing::warn!(target: "orchestrator", %task, %pulse, reason, "Lease was reaped");
                Ok(Outcome::acted())
            }
            Reaped::Stale => Ok(Outcome::unchanged()),
        }
    }
}
