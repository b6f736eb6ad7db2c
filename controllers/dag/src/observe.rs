//! Seeing: one goal as it is declared, as it stands, and what is under way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::goal::Status;
use model::task::State;
use model::{Declared, GoalId, Role};
use store::goal::{Figures, Goal};
use tokio::time::Instant;

use crate::memory::{Case, Diagnosis, Retry};
use crate::plan::{self, Desired, Snapshot, Target};
use crate::planner::Planner;
use crate::work::Work;
use crate::{Error, Goals};

impl<P: Planner> Goals<P> {
    /// Reads all that deciding about `id` needs. One round trip where nothing is due.
    pub(crate) async fn observe(&self, id: &GoalId) -> Result<Snapshot, Error> {
        let declared = Arc::clone(&self.declared.borrow());
        let desired = declared
            .goals
            .get(id)
            .map(|spec| Desired { spec_hash: spec.spec_hash.clone(), title: spec.title.clone() });
        let actual = self.store.goal(id).await?;
        let work = self.memory.of(id, |notes| notes.work.as_mut().map(Work::look));
        let mut seen = Snapshot { desired, actual, work, ..Snapshot::default() };
        if let (Some(desired), Some(goal)) = (&seen.desired, &seen.actual) {
            seen.hold = self.hold(goal, &plan::target(goal, &desired.spec_hash));
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
        let attempts = plan::attempts(goal, target);
        if attempts == 0 || plan::given_up(goal, target) {
            return Duration::ZERO;
        }
        let now = Instant::now();
        self.memory.of(&goal.id, |notes| {
            let known = notes.retry.as_ref();
            let known = known.filter(|r| r.target == *target && r.attempts == attempts);
            let at = known.map_or_else(|| now + self.wall_hold(goal), |retry| retry.at);
            notes.retry = Some(Retry { target: target.clone(), attempts, at });
            at.saturating_duration_since(now)
        })
    }

    /// The wait by the wall clock, which may have jumped since it was written: no
    /// more than the longest wait there is.
    fn wall_hold(&self, goal: &Goal) -> Duration {
        let left = goal.planning.not_before_ms.saturating_sub(wall_millis());
        Duration::from_millis(left).min(self.settings.planning_backoff.max)
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
        let case = Case { roles, generation: goal.generation, status: goal.status };
        let known = self.memory.of(&goal.id, |notes| {
            let same = notes.diagnosis.as_ref().filter(|diagnosis| diagnosis.of == case);
            same.map(|diagnosis| diagnosis.problem.clone())
        });
        if let Some(problem) = known {
            return Ok(problem);
        }
        let problem = self.diagnose(goal, &case.roles).await?;
        let diagnosis = Diagnosis { of: case, problem: problem.clone() };
        self.memory.of(&goal.id, |notes| notes.diagnosis = Some(diagnosis));
        Ok(problem)
    }

    async fn diagnose(&self, goal: &Goal, roles: &BTreeSet<Role>) -> Result<Option<String>, Error> {
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
        Ok(describe(&waiting))
    }
}

fn describe(waiting: &BTreeMap<Role, usize>) -> Option<String> {
    let parts: Vec<String> = waiting
        .iter()
        .map(|(role, count)| {
            let tasks = if *count == 1 { "1 task needs" } else { &format!("{count} tasks need") };
            format!("{tasks} the role {role}, which no declared agent of this goal has")
        })
        .collect();
    let first = waiting.keys().next()?;
    Some(format!("{}: declare an agent with `Role: {first}`", parts.join("; ")))
}

/// The wall clock, in milliseconds since the epoch.
pub(crate) fn wall_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
