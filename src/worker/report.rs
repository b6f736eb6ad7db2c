//! Telling Redis what came of an attempt.

use store::task::{After, Claim, Detour, Detoured, Grant, Holder, Memory, Report, Settled};

use super::attempt::{Finished, SentBack};
use super::{REPORT_AGAIN, Worker};

/// How often a task may take another in front of it, of each kind.
const DETOURS: u32 = 3;

impl Worker {
    /// Reports the end of an attempt, and saves `memory` with it where the report takes it
    /// along. What to do next, where that was asked for, and whether the memory is saved.
    pub(super) async fn report(
        &self,
        grant: &Grant,
        finished: &Finished,
        memory: Option<Memory<'_>>,
    ) -> (Option<Claim>, bool) {
        let (agent, task) = (&self.settings.name, &grant.task);
        // With a model the agent chooses first.
        let next = self.link.leaving().is_none() && self.mind.is_none();
        let next_ttl_ms = next.then(|| self.settings.common.lease_ttl_ms());
        let after = After { next_ttl_ms, memory };
        let holder = Holder { agent, incarnation: self.incarnation, task, epoch: grant.epoch };
        let settled = match finished {
            Finished::Done { artifacts, summary } => {
                let report = Report::Done { artifacts, progress: summary };
                self.insist(async || self.store.settle(holder, report, after).await).await
            }
            Finished::Failed { error, permanent } => {
                let report = Report::Failed { error, permanent: *permanent };
                self.insist(async || self.store.settle(holder, report, after).await).await
            }
            Finished::Detour(back) => self.detour(holder, back).await,
            Finished::Held { reason, .. } => {
                self.insist(async || Ok((self.store.release(holder, reason).await?, None))).await
            }
            Finished::Parked { reason } => self.park(holder, grant, reason).await,
            Finished::Stopped => {
                let reason = format!("{agent} was stopped");
                self.insist(async || Ok((self.store.release(holder, &reason).await?, None))).await
            }
            Finished::Lost => None,
        };
        self.tell(task, finished, settled.as_ref().map(|(settled, _)| *settled));
        let takes_it_along = matches!(finished, Finished::Done { .. } | Finished::Failed { .. });
        let is_taken = settled.as_ref().is_some_and(|(settled, _)| *settled != Settled::Fenced);
        let is_saved = takes_it_along && is_taken;
        (settled.and_then(|(_, next)| next), is_saved)
    }

    /// Gives back what was run under this very grant before, so that it is granted anew.
    pub(super) async fn give_back(&self, grant: &Grant) {
        let (agent, task) = (&self.settings.name, &grant.task);
        tracing::warn!(target: "runtime", %agent, %task, epoch = %grant.epoch,
            "Redis has forgotten what came of task {task}: it is granted anew");
        let holder = Holder { agent, incarnation: self.incarnation, task, epoch: grant.epoch };
        let reason = format!("{agent} ran it under this grant before, which Redis has forgotten");
        _ = self.insist(async || self.store.release(holder, &reason).await).await;
    }

    /// A budget is spent. Where it is the goal's, nothing is claimed until that is
    /// raised; the task's own would let others of the goal go on.
    async fn park(
        &self,
        holder: Holder<'_>,
        grant: &Grant,
        reason: &str,
    ) -> Option<(Settled, Option<Claim>)> {
        let of_task = match grant.spec.budget_micros {
            None => false,
            Some(budget) => {
                let spent = self.insist(async || self.store.task(holder.task).await).await?;
                spent.is_some_and(|task| task.cost_micros >= budget)
            }
        };
        if of_task {
            self.insist(async || Ok((self.store.park(holder, reason).await?, None))).await
        } else {
            self.insist(async || Ok((self.store.release(holder, reason).await?, None))).await
        }
    }

    /// Puts another task in front of this one, or fails it where that was tried often
    /// enough.
    async fn detour(
        &self,
        holder: Holder<'_>,
        back: &SentBack,
    ) -> Option<(Settled, Option<Claim>)> {
        let SentBack { spec, error, kind } = back;
        let detour = Detour { spec, error, limit: DETOURS, kind: *kind };
        let fail = |error: String| async move {
            self.insist(async || self.store.fail(holder, &error, true, None).await).await
        };
        let detoured = loop {
            match self.store.detour(holder, &detour).await {
                Ok(detoured) => break detoured,
                Err(error) if error.is_transient() && !self.link.is_cut_off() => {
                    tokio::time::sleep(REPORT_AGAIN).await;
                }
                Err(error) => return fail(format!("{}: {error}", back.error)).await,
            }
        };
        match detoured {
            Detoured::Inserted { round, task } => {
                let agent = &self.settings.name;
                tracing::info!(target: "runtime", %agent, task = %holder.task, round, by = %task,
                    "Task {} waits for {task}", holder.task);
                Some((Settled::Released, None))
            }
            Detoured::Exhausted => {
                let what = kind.as_str();
                fail(format!("{error}; no more tries: {DETOURS} rounds of {what} did not help"))
                    .await
            }
            Detoured::Already => Some((Settled::Already, None)),
            Detoured::Superseded => Some((Settled::Superseded, None)),
            Detoured::Fenced => Some((Settled::Fenced, None)),
        }
    }

    /// Repeats a report while Redis is away, for as long as the lease may be ours.
    async fn insist<T>(&self, report: impl AsyncFn() -> Result<T, store::Error>) -> Option<T> {
        loop {
            let error = match report().await {
                Ok(answer) => return Some(answer),
                Err(error) => error,
            };
            tracing::warn!(target: "runtime", agent = %self.settings.name,
                error = reconcile::error_chain(&error), "Cannot report");
            if !error.is_transient() || self.link.is_cut_off() {
                return None;
            }
            tokio::time::sleep(REPORT_AGAIN).await;
        }
    }

    fn tell(&self, task: &model::TaskId, finished: &Finished, settled: Option<Settled>) {
        let agent = &self.settings.name;
        match settled {
            Some(Settled::Done | Settled::Already) if matches!(finished, Finished::Done { .. }) => {
                tracing::info!(target: "runtime", %agent, %task, "Task {task} completed");
            }
            Some(Settled::Retry | Settled::Failed | Settled::Already | Settled::Done) => {
                if let Finished::Failed { error, .. } = finished {
                    tracing::warn!(target: "runtime", %agent, %task, error, "Task {task} failed");
                }
            }
            Some(Settled::Superseded) => tracing::info!(target: "runtime", %agent, %task,
                "Task {task} changed while it ran; it runs again"),
            Some(Settled::Released) => {
                if let Finished::Held { reason, .. } | Finished::Parked { reason } = finished {
                    tracing::warn!(target: "runtime", %agent, %task, reason, "Task {task} handed back");
                } else if !matches!(finished, Finished::Detour(_)) {
                    tracing::info!(target: "runtime", %agent, %task, "Task {task} handed back");
                }
            }
            Some(Settled::Parked) => tracing::warn!(target: "runtime", %agent, %task,
                "Task {task} waits until its budget is raised"),
            Some(Settled::Fenced) | None => tracing::warn!(target: "runtime", %agent, %task,
                "Task {task} is no longer ours; what it did here does not count"),
        }
    }
}
