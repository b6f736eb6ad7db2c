//! Seeing: one goal as it is declared, as it stands, and what is under way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::goal::Status;
use model::review::Stage;
use model::task::State;
use model::{Declared, GoalId, Role};
use store::goal::{Figures, Goal};
use tokio::time::Instant;

use crate::memory::{Case, Diagnosis, Retry};
use crate::plan::{self, Desired, Snapshot, Target};
use crate::planner::Planner;
use crate::work::Work;
use crate::{Error, Goals};

/// How much of a goal's text those are told who work on it.
const LONGEST_TEXT_BYTES: usize = 16 * 1024;

impl<P: Planner> Goals<P> {
    /// Reads all that deciding about `id` needs. One round trip where nothing is due.
    pub(crate) async fn observe(&self, id: &GoalId) -> Result<Snapshot, Error> {
        let declared = Arc::clone(&self.declared.borrow());
        let desired = declared.goals.get(id).map(|spec| Desired {
            spec_hash: spec.spec_hash.clone(),
            title: spec.title.clone(),
            means: self.planner.means(spec),
            budget_micros: spec.budget_micros,
            text: beginning(&spec.text),
            review: spec.review,
        });
        let actual = self.store.goal(id).await?;
        let work = self.memory.of(id, |notes| notes.work.as_mut().map(Work::look));
        let mut seen = Snapshot { desired, actual, work, ..Snapshot::default() };
        if let (Some(desired), Some(goal)) = (&seen.desired, &seen.actual) {
            seen.hold = self.hold(goal, &plan::target(goal, desired));
            seen.figures = self.figures(goal).await?;
            let vain = self.memory.of(id, |notes| {
                if seen.figures.is_some() && notes.vain != seen.figures {
                    notes.vain = None;
                }
                notes.vain
            });
            seen.vain_repair = vain.is_some();
            seen.problem = match vain.as_ref().and_then(Figures::contradiction) {
                Some(why) => Some(format!("{why}, and a repair changed nothing: write REPARSE")),
                None => self.problem(goal, &declared).await?,
            };
        }
        Ok(seen)
    }

    /// How long the next attempt at `target` has to wait.
    fn hold(&self, goal: &Goal, target: &Target) -> Duration {
        let held = plan::held(goal, target).is_some();
        let failed = plan::attempts(goal, target) > 0 && !plan::given_up(goal, target);
        if !held && !failed {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let left = goal.planning.not_before_ms.saturating_sub(wall_millis());
        let left = Duration::from_millis(left);
        self.memory.of(&goal.id, |notes| {
            let known = notes.retry.as_ref().filter(|retry| retry.of == goal.planning);
            let known = known.map(|retry| retry.at);
            let at = if held {
                // A limit may well be reset in a week: only what was seen before bounds
                // it, so that a wall clock that is set right shortens the wait, and one
                // that jumps does not prolong it.
                known.map_or(now + left, |at| at.min(now + left))
            } else {
                // The wall clock may have jumped since that time was written: no more
                // than the longest wait there is.
                known.unwrap_or(now + left.min(self.settings.planning_backoff.max))
            };
            notes.retry = Some(Retry { of: goal.planning.clone(), at });
            at.saturating_duration_since(now)
        })
    }

    /// The figures, where it is time for a look at them or the status would change.
    async fn figures(&self, goal: &Goal) -> Result<Option<Figures>, Error> {
        if goal.generation == 0 {
            return Ok(None);
        }
        let now = Instant::now();
        let checked = self.memory.of(&goal.id, |notes| notes.checked);
        let due = checked.is_none_or(|at| now.duration_since(at) >= self.settings.drift_check);
        if !due && goal.counts.status() == goal.status {
            return Ok(None);
        }
        let figures = self.store.figures(&goal.id).await?;
        self.memory.of(&goal.id, |notes| notes.checked = Some(now));
        Ok(Some(figures))
    }

    /// What keeps tasks from running that no task can say: nobody may take them.
    async fn problem(&self, goal: &Goal, declared: &Declared) -> Result<Option<String>, Error> {
        let agents = declared.agents.values().filter(|agent| agent.goal == goal.id);
        let roles: BTreeSet<Role> = agents.map(|agent| agent.role.clone()).collect();
        let review = declared.goals.get(&goal.id).is_some_and(|spec| spec.review);
        let case = Case { roles, review, generation: goal.generation, status: goal.status };
        let known = self.memory.of(&goal.id, |notes| {
            let same = notes.diagnosis.as_ref().filter(|diagnosis| diagnosis.of == case);
            same.map(|diagnosis| diagnosis.problem.clone())
        });
        if let Some(problem) = known {
            return Ok(problem);
        }
        let problem = self.diagnose(goal, &case).await?;
        let diagnosis = Diagnosis { of: case, problem: problem.clone() };
        self.memory.of(&goal.id, |notes| notes.diagnosis = Some(diagnosis));
        Ok(problem)
    }

    async fn diagnose(&self, goal: &Goal, case: &Case) -> Result<Option<String>, Error> {
        let roles = &case.roles;
        if goal.status == Status::Complete {
            return Ok(None);
        }
        if roles.is_empty() {
            return Ok(Some(format!(
                "no declared agent has this goal: declare one with `Goal: {}`",
                goal.id
            )));
        }
        let wanted = self.store.goal_roles(&goal.id).await?;
        let served = |role: &str| role.is_empty() || roles.iter().any(|r| r.as_str() == role);
        if wanted.iter().all(|role| served(role)) {
            return Ok(None);
        }
        // The set also holds roles of plans before this one: only now, that it may
        // be so, the tasks themselves are looked at.
        let mut waiting = BTreeMap::<Role, usize>::new();
        for task in self.store.tasks(&goal.id).await? {
            let open = task.status != State::Done;
            if let Some(role) = task.role.filter(|role| open && !served(role.as_str())) {
                *waiting.entry(role).or_default() += 1;
            }
        }
        Ok(describe(&waiting, case.review))
    }
}

fn describe(waiting: &BTreeMap<Role, usize>, review: bool) -> Option<String> {
    let parts: Vec<String> = waiting
        .iter()
        .map(|(role, count)| {
            let tasks = if *count == 1 { "1 task needs" } else { &format!("{count} tasks need") };
            format!("{tasks} the role {role}, which no declared agent of this goal has")
        })
        .collect();
    let first = waiting.keys().next()?;
    let mut remedy = format!("declare an agent with `Role: {first}`");
    for role in waiting.keys().skip(1) {
        remedy.push_str(&format!(" and one with `Role: {role}`"));
    }
    let of_stage = |role: &Role| Stage::ALL.into_iter().any(|stage| stage.role() == role.as_str());
    if review && waiting.keys().any(of_stage) {
        remedy.push_str(", or do without `Review: on`");
    }
    Some(format!("{}: {remedy}", parts.join("; ")))
}

/// As much of a goal's text as fits into the hash that every pass reads.
fn beginning(text: &str) -> String {
    text[..text.floor_char_boundary(LONGEST_TEXT_BYTES)].to_owned()
}

/// The wall clock, in milliseconds since the epoch.
pub(crate) fn wall_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
