//! The plain model: what Redis should hold, and what each agent believes.
//!
//! Here is what several steps share; the steps themselves are in `step.rs` and `plan.rs`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::LazyLock;

use model::goal::{Counts, Status};
use model::lease::{Epoch, Pulse};
use model::task::{Cause, DEFAULT_MAX_ATTEMPTS, MAX_LOSSES, State, transition};
use model::{Role, TaskId, TaskSpec};

use super::plan::Plan;
use super::step::Answer;
use super::{AGENTS, ROLES};
use crate::world::{T0, task};

/// What the jitter of failed attempts is drawn from, here and there.
pub(super) const JITTER_SEED: u64 = 7;
/// The same jitter as the script is told it.
static JITTER: LazyLock<f64> = LazyLock::new(|| {
    let drawn = fastrand::Rng::with_seed(JITTER_SEED).f64();
    format!("{drawn:.3}").parse().unwrap()
});

/// The longest that a task waits after a failure or a loss, in microseconds.
const LONGEST_DELAY: u64 = 60_000_000;

/// When a READY task may be claimed that may not be now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// Microseconds.
    At(u64),
    /// Only when a person or another plan says so.
    Parked,
}

#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) spec: TaskSpec,
    pub(super) deps: BTreeSet<TaskId>,
    pub(super) status: State,
    pub(super) owner: Option<usize>,
    pub(super) incarnation: u64,
    pub(super) epoch: u64,
    /// Of the lease.
    pub(super) beat: u64,
    pub(super) attempt: u32,
    pub(super) failures: u32,
    pub(super) losses: u32,
    pub(super) max_attempts: u32,
    pub(super) waiting: usize,
    pub(super) generation: u64,
    pub(super) seq: u64,
    pub(super) priority: u32,
    pub(super) role: Option<Role>,
    pub(super) detours: u32,
    pub(super) due: Option<Due>,
    /// The epoch that its holder settled last.
    pub(super) settled: Option<u64>,
    /// The plan changed while it ran.
    pub(super) stale: bool,
}

impl Task {
    pub(super) fn new(
        spec: TaskSpec,
        deps: BTreeSet<TaskId>,
        seq: u64,
        generation: u64,
        epoch: u64,
    ) -> Self {
        Self {
            status: if deps.is_empty() { State::Ready } else { State::Blocked },
            owner: None,
            incarnation: 0,
            epoch,
            beat: 0,
            attempt: 0,
            failures: 0,
            losses: 0,
            max_attempts: spec.max_attempts.unwrap_or(DEFAULT_MAX_ATTEMPTS),
            waiting: deps.len(),
            generation,
            seq,
            priority: spec.priority,
            role: spec.role.clone(),
            detours: 0,
            due: None,
            settled: None,
            stale: false,
            spec,
            deps,
        }
    }

    fn is_claimable(&self) -> bool {
        self.status == State::Ready && self.due.is_none()
    }

    /// The order within a ready queue.
    pub(super) fn place(&self) -> (Reverse<u32>, u64) {
        (Reverse(self.priority), self.seq)
    }
}

/// What Redis knows of an agent's name.
#[derive(Debug, Clone, Default)]
pub(super) struct Agent {
    /// The process that has the name.
    pub(super) incarnation: Option<u64>,
    pub(super) last: u64,
    pub(super) held: Option<(TaskId, u64)>,
    pub(super) beat: u64,
    pub(super) paused: bool,
}

/// A grant as its holder knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) incarnation: u64,
    pub(super) task: TaskId,
    pub(super) epoch: u64,
}

/// What an agent's process believes.
#[derive(Debug, Clone, Default)]
pub(super) struct Worker {
    pub(super) incarnation: u64,
    pub(super) held: Option<Held>,
    /// What it settled or lost last.
    pub(super) past: Option<Held>,
}

#[derive(Clone)]
pub(super) struct Reference {
    pub(super) first: Plan,
    pub(super) now: u64,
    pub(super) tasks: BTreeMap<TaskId, Task>,
    pub(super) status: Status,
    pub(super) generation: u64,
    /// Below it no task begins that comes into the plan.
    pub(super) floor: u64,
    pub(super) agents: [Agent; AGENTS],
    pub(super) workers: [Worker; AGENTS],
    /// Leases as the reaper saw them.
    pub(super) watched: BTreeMap<TaskId, Pulse>,
    /// How many detours were asked for.
    pub(super) detours: u32,
    pub(super) completed: BTreeSet<(TaskId, u64)>,
    /// What the last step should be answered.
    pub(super) answer: Answer,
}

/// Only how it began: the rest follows from the steps.
impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)
    }
}

pub(super) fn id(n: usize) -> TaskId {
    task(&format!("t{n}"))
}

pub(super) fn role(agent: usize) -> Role {
    ROLES[agent % ROLES.len()].parse().unwrap()
}

/// Microseconds, doubling from `first` seconds to a minute.
fn doubling(first: f64, times: u32) -> f64 {
    (first * f64::from(2_u32.pow(times.min(30)))).min(60.0) * 1_000_000.0
}

/// How long a task waits after its `failures`-th failure.
pub(super) fn delay_after(failures: u32) -> u64 {
    (doubling(1.0, failures.saturating_sub(1)) * (1.0 - 0.5 * *JITTER)).floor() as u64
}

impl Reference {
    /// The plan is accepted and every agent has registered.
    pub(super) fn new(first: Plan) -> Self {
        let mut reference = Self {
            now: T0,
            tasks: BTreeMap::new(),
            status: Status::Draft,
            generation: 0,
            floor: 0,
            agents: Default::default(),
            workers: Default::default(),
            watched: BTreeMap::new(),
            detours: 0,
            completed: BTreeSet::new(),
            answer: Answer::Nothing,
            first: first.clone(),
        };
        reference.accept(&first);
        for n in 0..AGENTS {
            reference.register(n);
        }
        reference
    }

    pub(super) fn task(&mut self, id: &TaskId) -> &mut Task {
        self.tasks.get_mut(id).unwrap()
    }

    pub(super) fn raise_floor(&mut self, epoch: u64) {
        self.floor = self.floor.max(epoch);
    }

    /// The lease of a task, if it runs.
    pub(super) fn pulse(&self, id: &TaskId) -> Option<Pulse> {
        let task = self.tasks.get(id).filter(|task| task.status == State::Running)?;
        Some(Pulse { epoch: Epoch(task.epoch), beat: task.beat })
    }

    pub(super) fn leases(&self) -> BTreeMap<TaskId, Pulse> {
        self.tasks.keys().filter_map(|id| Some((id.clone(), self.pulse(id)?))).collect()
    }

    pub(super) fn counts(&self) -> Counts {
        let count = |state| self.tasks.values().filter(|task| task.status == state).count() as u64;
        Counts {
            blocked: count(State::Blocked),
            ready: count(State::Ready),
            running: count(State::Running),
            done: count(State::Done),
            failed: count(State::Failed),
        }
    }

    /// The ids of a ready queue, best first.
    pub(super) fn queue(&self, role: Option<&Role>) -> Vec<&TaskId> {
        let is_in = |task: &Task| task.is_claimable() && task.role.as_ref() == role;
        let mut queue: Vec<_> = self.tasks.iter().filter(|(_, task)| is_in(task)).collect();
        queue.sort_by_key(|(id, task)| (task.place(), *id));
        queue.into_iter().map(|(id, _)| id).collect()
    }

    /// The only way in which a task changes its state.
    pub(super) fn change(&mut self, id: &TaskId, cause: Cause) {
        let task = self.task(id);
        let to = transition(task.status, cause);
        task.status = to.unwrap_or_else(|| panic!("{id} is {} and got a {cause}", task.status));
    }

    pub(super) fn settle_ready(&mut self, id: &TaskId, delay: u64) {
        let due = self.now + delay;
        let task = self.task(id);
        if task.waiting > 0 {
            task.due = None;
            self.change(id, Cause::Block);
        } else {
            task.due = (delay > 0).then_some(Due::At(due));
        }
    }

    pub(super) fn unblock(&mut self, id: &TaskId) {
        self.change(id, Cause::Unblock);
        self.task(id).due = None;
    }

    pub(super) fn end_lease(&mut self, id: &TaskId) {
        let task = self.task(id);
        let (owner, epoch) = (task.owner.take().unwrap(), task.epoch);
        let held = &mut self.agents[owner].held;
        if *held == Some((id.clone(), epoch)) {
            *held = None;
        }
    }

    /// The holder gives it back, or a person takes it away.
    pub(super) fn hand_back(&mut self, id: &TaskId, cause: Cause) {
        self.end_lease(id);
        self.change(id, cause);
        self.task(id).stale = false;
        self.settle_ready(id, 0);
    }

    /// The holder is gone.
    pub(super) fn lose(&mut self, id: &TaskId) {
        self.end_lease(id);
        let task = self.task(id);
        task.losses += 1;
        task.stale = false;
        let losses = task.losses;
        if losses >= MAX_LOSSES {
            return self.change(id, Cause::Fail);
        }
        self.change(id, Cause::Lose);
        let delay = losses.checked_sub(2).map_or(0, |times| doubling(0.25, times) as u64);
        self.settle_ready(id, delay);
    }

    /// The task that the agent's registration says it runs, where it does.
    pub(super) fn running_of(&self, n: usize) -> Option<TaskId> {
        let (id, epoch) = self.agents[n].held.as_ref()?;
        let task = self.tasks.get(id)?;
        let runs = task.status == State::Running && task.epoch == *epoch && task.owner == Some(n);
        runs.then(|| id.clone())
    }

    pub(super) fn lose_task_of(&mut self, n: usize) -> Option<TaskId> {
        let id = self.running_of(n)?;
        self.lose(&id);
        Some(id)
    }

    pub(super) fn register(&mut self, n: usize) -> u64 {
        self.lose_task_of(n);
        let agent = &mut self.agents[n];
        let incarnation = (agent.last + 1).max(self.now);
        *agent = Agent {
            incarnation: Some(incarnation),
            last: incarnation,
            held: None,
            beat: 0,
            paused: agent.paused,
        };
        self.workers[n].incarnation = incarnation;
        incarnation
    }

    /// Makes claimable what has waited long enough, at most `limit`.
    pub(super) fn promote(&mut self, limit: usize) {
        let now = self.now;
        self.promote_where(limit, |due| due <= now);
        // The clock was set back since: nothing is delayed for so long.
        self.promote_where(limit, |due| due > now + LONGEST_DELAY);
    }

    fn promote_where(&mut self, limit: usize, is_due: impl Fn(u64) -> bool) {
        let is_due = |task: &&mut Task| matches!(task.due, Some(Due::At(due)) if is_due(due));
        let mut due: Vec<_> = self.tasks.values_mut().filter(is_due).collect();
        due.sort_by(|a, b| (a.due, &a.spec.id).cmp(&(b.due, &b.spec.id)));
        due.into_iter().take(limit).for_each(|task| task.due = None);
    }

    /// Whether a write of this holder counts: `None` is yes.
    pub(super) fn refusal(&self, n: usize, by: &Held) -> Option<store::task::Settled> {
        use store::task::Settled;
        if self.agents[n].incarnation != Some(by.incarnation) {
            return Some(Settled::Fenced);
        }
        let Some(task) = self.tasks.get(&by.task) else { return Some(Settled::Fenced) };
        if task.settled == Some(by.epoch) {
            return Some(Settled::Already);
        }
        let holder = (task.owner, task.incarnation, task.epoch);
        let holds = task.status == State::Running && holder == (Some(n), by.incarnation, by.epoch);
        (!holds).then_some(Settled::Fenced)
    }
}
