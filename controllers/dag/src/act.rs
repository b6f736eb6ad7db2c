//! Doing: each step of a plan, every one harmless when it is repeated, comes late,
//! or is the last before a crash. Each write is fenced by the leader's epoch.

use std::sync::Arc;
use std::time::Duration;

use model::goal::{Counts, Status};
use model::task::State;
use model::{Dag, GoalId};
use reconcile::{Backoff, Outcome};
use store::dag::Difference;
use store::goal::Planning;
use store::task::Task;
use tracing::Instrument as _;

use crate::plan::{self, NEVER_MS, Plan, Snapshot, Step, Target};
use crate::planner::Planner;
use crate::work::Work;
use crate::{Error, Goals, observe};

/// The longest error that is stored with a goal, in characters.
const LONGEST_ERROR_CHARS: usize = 2_000;
/// How many failed tasks a goal's reason names.
const FAILED_NAMED: usize = 3;
/// The longest reason of one task within a goal's, in characters.
const LONGEST_TASK_REASON_CHARS: usize = 300;

impl<P: Planner> Goals<P> {
    /// Carries out `plan`, made from `seen`.
    pub(crate) async fn act(
        &self,
        id: &GoalId,
        seen: &Snapshot,
        plan: Plan,
    ) -> Result<Outcome, Error> {
        let mut outcome = Outcome { acted: false, again_after: plan.again_after };
        for step in plan.steps {
            let span = reconcile::action(step.word());
            let step = async {
                Ok::<Outcome, Error>(match step {
                    Step::Note(fields) => self.note(id, seen, &fields).await?,
                    Step::Start(target) => self.start(id, target),
                    Step::Stop => {
                        self.memory.of(id, |notes| notes.work.as_mut().map(Work::stop));
                        Outcome::acted()
                    }
                    Step::Discard => {
                        self.memory.of(id, |notes| notes.work = None);
                        Outcome::acted()
                    }
                    Step::Accept { target, settle } => {
                        self.accept(id, seen, &target, settle).await?
                    }
                    Step::Record { target, attempts, error, give_up } => {
                        self.record(id, &target, attempts, &error, give_up).await?
                    }
                    Step::Hold { target, attempts, message, until_ms } => {
                        self.wait(id, seen, &target, attempts, &message, until_ms).await?
                    }
                    Step::Settle(target) => {
                        self.settle(id, &target).await?;
                        Outcome::acted()
                    }
                    Step::Repair(why) => self.repair(id, seen, why).await?,
                    Step::Promote => self.promote(id).await?,
                    Step::RollUp { generation, counts } => {
                        self.roll_up(id, generation, &counts).await?
                    }
                })
            };
            let done = step.instrument(span).await?;
            outcome.acted |= done.acted;
            outcome = done.again_after.map_or(outcome, |delay| outcome.again_after(delay));
        }
        Ok(outcome)
    }

    async fn note(
        &self,
        id: &GoalId,
        seen: &Snapshot,
        fields: &[(&str, String)],
    ) -> Result<Outcome, Error> {
        self.store.note_goal(&self.lead, id, "", fields).await?;
        if let Some((_, problem)) = fields.iter().find(|(name, _)| *name == "problem") {
            if problem.is_empty() {
                tracing::info!(goal = %id, "goal has no problem any more");
            } else {
                tracing::warn!(goal = %id, problem, "goal has a problem");
            }
        }
        // A new goal is planned next.
        Ok(match seen.actual {
            None => Outcome::acted().again_after(Duration::ZERO),
            Some(_) => Outcome::acted(),
        })
    }

    fn start(&self, id: &GoalId, target: Target) -> Outcome {
        let declared = Arc::clone(&self.declared.borrow());
        // It may have changed since it was seen; then the next pass knows better.
        let spec = declared.goals.get(id).filter(|spec| spec.spec_hash == target.spec_hash);
        let Some(spec) = spec else { return Outcome::unchanged().again_after(Duration::ZERO) };
        let (planner, waker) = (Arc::clone(&self.planner), Arc::clone(&self.waker));
        let limit = self.settings.planning_limit;
        let work = Work::start(planner, spec.clone(), target, limit, waker);
        self.memory.of(id, |notes| notes.work = Some(work));
        Outcome::acted()
    }

    /// Puts the planner's plan in force. It is kept until that is done, so that a
    /// Redis that is away costs no second planning.
    async fn accept(
        &self,
        id: &GoalId,
        seen: &Snapshot,
        target: &Target,
        settle: bool,
    ) -> Result<Outcome, Error> {
        let again = Outcome::unchanged().again_after(Duration::ZERO);
        let made = self.memory.of(id, |notes| notes.work.as_ref().and_then(Work::made));
        let (Some(dag), Some(desired), Some(goal)) = (made, &seen.desired, &seen.actual) else {
            return Ok(again);
        };
        let (hash, title) = (target.spec_hash.as_str(), desired.title.as_str());
        let plan = Dag::clone(&dag);
        match self.store.accept(&self.lead, id, plan, hash, title).await {
            Ok(Some(difference)) if goal.generation > 0 => self.changed(id, &difference).await?,
            Ok(Some(_)) => {
                let (nodes, edges) = (dag.tasks().len(), dag.edge_count());
                // The line of the reference, from the logger of that name.
                tracing::info!(
                    target: "orchestrator", code = "dag-created", goal = %id, nodes, edges,
                    "DAG created for goal {id}: {nodes} nodes, {edges} edges"
                );
            }
            Ok(None) if goal.spec_hash != hash => {
                let fields = [("spec_hash", hash.to_owned()), ("title", title.to_owned())];
                self.store.note_goal(&self.lead, id, "", &fields).await?;
            }
            Ok(None) => {}
            Err(error @ Error::IdTaken { .. }) => {
                // No other plan of this declaration would fare better.
                let attempts = plan::attempts(goal, target).saturating_add(1);
                return self.record(id, target, attempts, &error.to_string(), true).await;
            }
            Err(error) => return Err(error),
        }
        if settle {
            self.settle(id, target).await?;
        }
        self.memory.of(id, |notes| notes.work = None);
        Ok(Outcome::acted().again_after(Duration::ZERO))
    }

    async fn changed(&self, id: &GoalId, difference: &Difference) -> Result<(), Error> {
        let difference = difference.summary();
        tracing::info!(target: "orchestrator", code = "dag-changed", goal = %id,
            "DAG changed for goal {id}: {difference}");
        let fields = [("difference", difference)];
        self.store.note_goal(&self.lead, id, "goal-difference", &fields).await
    }

    async fn record(
        &self,
        id: &GoalId,
        target: &Target,
        attempts: u32,
        error: &str,
        give_up: bool,
    ) -> Result<Outcome, Error> {
        let error = shortened(error, LONGEST_ERROR_CHARS);
        let (kind, not_before_ms) = if give_up {
            tracing::error!(goal = %id, attempts, error, "planning was given up");
            ("goal-plan-failed", NEVER_MS)
        } else {
            let retry_in = self.delay(attempts);
            tracing::warn!(goal = %id, attempts, error, ?retry_in, "planning failed");
            let delay = u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX);
            // Never is for those that are given up.
            let at = observe::wall_millis().saturating_add(delay).min(NEVER_MS - 1);
            ("goal-plan-retry", at)
        };
        let planning = Planning {
            spec_hash: target.spec_hash.clone(),
            reparses: target.reparses,
            attempts,
            error: Some(error),
            not_before_ms,
            held: None,
            means: target.means.clone(),
        };
        self.store.note_planning(&self.lead, id, kind, &planning).await?;
        self.memory.of(id, |notes| notes.work = None);
        Ok(Outcome::acted().again_after(Duration::ZERO))
    }

    /// Records that planning has to wait. Nothing failed: the attempts stay as they were.
    async fn wait(
        &self,
        id: &GoalId,
        seen: &Snapshot,
        target: &Target,
        attempts: u32,
        message: &str,
        until_ms: Option<u64>,
    ) -> Result<Outcome, Error> {
        let held = shortened(message, LONGEST_ERROR_CHARS);
        let known = seen.actual.as_ref().and_then(|goal| plan::held(goal, target));
        let is_new = known != Some(&held);
        if is_new {
            tracing::warn!(goal = %id, held, until_ms, "planning waits");
        }
        let now = observe::wall_millis();
        let retry_ms = u64::try_from(crate::HOLD_RETRY.as_millis()).unwrap_or(u64::MAX);
        // One that is over though the planner says that it holds is one of unknown end.
        let until_ms = until_ms.filter(|until| *until > now);
        let not_before_ms = until_ms.unwrap_or(now.saturating_add(retry_ms)).min(NEVER_MS - 1);
        let error = seen.actual.as_ref().and_then(|goal| goal.planning.error.clone());
        let planning = Planning {
            spec_hash: target.spec_hash.clone(),
            reparses: target.reparses,
            attempts,
            // That of the attempts before, if those still count.
            error: error.filter(|_| attempts > 0),
            not_before_ms,
            held: Some(held),
            means: target.means.clone(),
        };
        let kind = if is_new { "goal-plan-held" } else { "" };
        self.store.note_planning(&self.lead, id, kind, &planning).await?;
        self.memory.of(id, |notes| notes.work = None);
        Ok(Outcome::acted().again_after(Duration::ZERO))
    }

    /// How long to wait after so many failures in a row.
    fn delay(&self, attempts: u32) -> Duration {
        let mut backoff = Backoff::new(self.settings.planning_backoff);
        (0..attempts).fold(Duration::ZERO, |_, _| backoff.failed(Duration::ZERO))
    }

    async fn settle(&self, id: &GoalId, target: &Target) -> Result<(), Error> {
        let planning = Planning {
            spec_hash: target.spec_hash.clone(),
            reparses: target.reparses,
            ..Planning::default()
        };
        self.store.note_planning(&self.lead, id, "", &planning).await
    }

    async fn repair(&self, id: &GoalId, seen: &Snapshot, why: &str) -> Result<Outcome, Error> {
        let changes = self.store.repair(&self.lead, id).await?;
        if changes == 0 {
            // Recounting all of it again and again would help nobody.
            tracing::warn!(goal = %id, why, "goal looks wrong, and a repair found nothing to change");
            self.memory.of(id, |notes| notes.vain = seen.figures);
            return Ok(Outcome::unchanged());
        }
        tracing::warn!(goal = %id, why, changes, "goal repaired");
        self.memory.of(id, |notes| notes.checked = None);
        Ok(Outcome::acted().again_after(Duration::ZERO))
    }

    async fn promote(&self, id: &GoalId) -> Result<Outcome, Error> {
        let next = self.store.promote(id).await?;
        Ok(next.map_or(Outcome::unchanged(), |due| Outcome::unchanged().again_after(due)))
    }

    async fn roll_up(
        &self,
        id: &GoalId,
        generation: u64,
        counts: &Counts,
    ) -> Result<Outcome, Error> {
        let status = counts.status();
        let reason = match status {
            Status::Draft | Status::Active => String::new(),
            Status::Complete if counts.done == 1 => "its task is done".to_owned(),
            Status::Complete => format!("all {} tasks are done", counts.done),
            Status::Failed => why_failed(&self.store.tasks(id).await?, counts.blocked),
        };
        if !self.store.roll_up(&self.lead, id, generation, counts, &reason).await? {
            // Something moved meanwhile.
            return Ok(Outcome::unchanged().again_after(Duration::ZERO));
        }
        match status {
            Status::Draft | Status::Active | Status::Complete => {
                tracing::info!(goal = %id, %status, reason, "goal changed");
            }
            Status::Failed => tracing::error!(goal = %id, %status, reason, "goal changed"),
        }
        Ok(Outcome::acted())
    }
}

/// `task-002 failed: no such file; 3 tasks wait for it; `orch retry task-002` ..`
fn why_failed(tasks: &[Task], blocked: u64) -> String {
    let failed: Vec<&Task> = tasks.iter().filter(|task| task.status == State::Failed).collect();
    let named = &failed[..failed.len().min(FAILED_NAMED)];
    let mut parts: Vec<String> = named
        .iter()
        .map(|task| {
            let reason = task.reason.as_deref().or(task.last_error.as_deref());
            let reason =
                shortened(reason.unwrap_or("no reason was given"), LONGEST_TASK_REASON_CHARS);
            format!("{} failed: {reason}", task.id)
        })
        .collect();
    if failed.len() > named.len() {
        parts.push(format!("{} more failed", failed.len() - named.len()));
    }
    let them = if failed.len() == 1 { "it" } else { "them" };
    match blocked {
        0 => {}
        1 => parts.push(format!("1 task waits for {them}")),
        _ => parts.push(format!("{blocked} tasks wait for {them}")),
    }
    if let Some(first) = named.first() {
        parts.push(format!("`orch retry {}` tries it again", first.id));
    }
    parts.join("; ")
}

fn shortened(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}..", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_should_be_shortened_between_characters() {
        assert_eq!(shortened("äöü", 3), "äöü");
        assert_eq!(shortened("äöü", 2), "äö..");
    }
}
