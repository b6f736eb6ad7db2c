//! One step of the model, and what it should be answered.

use std::collections::BTreeSet;

use model::goal::Status;
use model::lease::Epoch;
use model::task::{Cause, State};
use model::{TaskId, TaskSpec};
use store::dag::Difference;
use store::lease::Reaped;
use store::task::{Detoured, Settled};

use super::op::{Act, Deed, Op};
use super::reference::{Due, Held, Reference, Task, delay_after, id, role};
use crate::world::{SECOND, task};

/// How many detours a task may take.
pub(super) const MAX_DETOURS: u32 = 3;
/// What one claim and one promotion look at.
const PROMOTED_PER_CLAIM: usize = 16;
const PROMOTED_PER_CALL: usize = 1_000;

/// What came of asking for a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Claimed {
    Granted { task: TaskId, epoch: u64, attempt: u32, generation: u64 },
    Empty,
    Paused,
    Taken,
    Fenced,
}

/// The reply to a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing was asked of Redis, or nothing that the model knows of.
    Nothing,
    Claimed(Claimed),
    Settled(Settled, Option<Claimed>),
    Detoured(Detoured),
    Registered(u64),
    Left(bool),
    /// `None` where the process is fenced.
    Beat(Option<Alive>),
    Buried(Option<Option<TaskId>>),
    Reaped(Option<Reaped>),
    /// Whether a directive had an effect.
    Applied(bool),
    Retried(Option<Result<State, State>>),
    /// When the next task is due, in microseconds from now.
    Next(Option<u64>),
    RolledUp(bool),
    Repaired(u64),
    Accepted(Option<Difference>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Alive {
    pub(super) lease: Option<bool>,
    pub(super) holds: Option<(TaskId, Epoch)>,
    pub(super) paused: bool,
}

impl Reference {
    pub(super) fn step(&mut self, op: &Op) {
        self.answer = match op {
            Op::Agent(n, act) => self.act(*n, act),
            Op::Other(deed) => self.deed(deed),
        };
    }

    fn act(&mut self, n: usize, act: &Act) -> Answer {
        match act {
            Act::Claim => Answer::Claimed(self.claim(n, self.workers[n].incarnation, None)),
            Act::Want(t) => {
                Answer::Claimed(self.claim(n, self.workers[n].incarnation, Some(id(*t))))
            }
            Act::Complete { wants_next } => self.end(n, *wants_next, Self::complete),
            Act::Fail { permanent: true, wants_next } => {
                self.end(n, *wants_next, |this, id| this.fail(id, true))
            }
            Act::Fail { permanent: false, wants_next } => {
                self.end(n, *wants_next, |this, id| this.fail(id, false))
            }
            Act::Release => self.end(n, false, |this, id| {
                this.hand_back(id, Cause::Release);
                Settled::Released
            }),
            Act::Park => self.end(n, false, Self::park),
            Act::Detour => self.detour(n),
            Act::Call { .. } => Answer::Nothing,
            Act::Repeat => {
                let Some(past) = &self.workers[n].past else { return Answer::Nothing };
                let refusal = self.refusal(n, past);
                Answer::Settled(refusal.expect("what is past is over"), None)
            }
            Act::Beat => self.beat(n),
            Act::Restart => {
                self.forget(n);
                Answer::Registered(self.register(n))
            }
            Act::Leave => self.leave(n),
        }
    }

    fn deed(&mut self, deed: &Deed) -> Answer {
        match deed {
            Deed::Bury(n, is_own) => self.bury(*n, *is_own),
            Deed::Watch => {
                self.watched = self.leases();
                Answer::Nothing
            }
            Deed::Reap(t) => {
                let watched = self.watched.keys().nth(t % self.watched.len().max(1)).cloned();
                let id = watched.unwrap_or_else(|| id(*t));
                let now = self.pulse(&id);
                let Some(seen) = self.watched.remove(&id).or(now) else {
                    return Answer::Reaped(None);
                };
                if now != Some(seen) {
                    return Answer::Reaped(Some(Reaped::Stale));
                }
                self.lose(&id);
                Answer::Reaped(Some(Reaped::Yes))
            }
            Deed::Drop(t) => {
                let runs = self.tasks.get(&id(*t)).is_some_and(|t| t.status == State::Running);
                if runs {
                    self.hand_back(&id(*t), Cause::Drop);
                }
                Answer::Applied(runs)
            }
            Deed::Elevate(t, priority) => {
                let is_open =
                    |task: &&mut Task| !matches!(task.status, State::Done | State::Failed);
                let task = self.tasks.get_mut(&id(*t)).filter(is_open);
                Answer::Applied(task.map(|task| task.priority = *priority).is_some())
            }
            Deed::Pause(n, paused) => {
                self.agents[*n].paused = *paused;
                Answer::Applied(true)
            }
            Deed::Retry(t) => self.retry(&id(*t)),
            Deed::Promote => {
                self.promote(PROMOTED_PER_CALL);
                let due = self.tasks.values().filter_map(|task| match task.due {
                    Some(Due::At(due)) => Some(due.saturating_sub(self.now)),
                    Some(Due::Parked) | None => None,
                });
                Answer::Next(due.min())
            }
            Deed::RollUp => {
                let status = self.counts().status();
                let changes = status != self.status;
                self.status = status;
                Answer::RolledUp(changes)
            }
            Deed::Repair => Answer::Repaired(0),
            Deed::Replan(plan) => Answer::Accepted(self.accept(plan)),
            Deed::Clock(seconds) => {
                self.now = self.now.saturating_add_signed(seconds * SECOND as i64);
                Answer::Nothing
            }
        }
    }

    fn claim(&mut self, n: usize, incarnation: u64, wanted: Option<TaskId>) -> Claimed {
        if self.agents[n].incarnation != Some(incarnation) {
            return Claimed::Fenced;
        }
        if let Some(running) = self.running_of(n) {
            return self.granted(n, running);
        }
        if self.agents[n].paused {
            return Claimed::Paused;
        }
        if self.status != Status::Active {
            return Claimed::Empty;
        }
        self.promote(PROMOTED_PER_CLAIM);
        let (own, any) = (self.queue(Some(&role(n))), self.queue(None));
        let Some(wanted) = wanted else {
            let place = |id: &&TaskId| self.tasks[*id].place();
            let best = any.first().into_iter().chain(own.first()).min_by_key(|id| place(id));
            return match best.map(|id| (*id).clone()) {
                Some(best) => self.grant(n, best),
                None => Claimed::Empty,
            };
        };
        if own.contains(&&wanted) || any.contains(&&wanted) {
            self.grant(n, wanted)
        } else {
            Claimed::Taken
        }
    }

    fn grant(&mut self, n: usize, id: TaskId) -> Claimed {
        for dep in &self.tasks[&id].deps {
            assert_eq!(self.tasks[dep].status, State::Done, "{id} waits for {dep}");
        }
        self.change(&id, Cause::Claim);
        let (now, incarnation) = (self.now, self.workers[n].incarnation);
        let task = self.task(&id);
        task.epoch = (task.epoch + 1).max(now);
        task.attempt += 1;
        (task.owner, task.incarnation, task.beat) = (Some(n), incarnation, 0);
        (task.stale, task.due) = (false, None);
        let epoch = task.epoch;
        self.raise_floor(epoch);
        self.agents[n].held = Some((id.clone(), epoch));
        self.granted(n, id)
    }

    /// The agent is told what it holds.
    fn granted(&mut self, n: usize, id: TaskId) -> Claimed {
        let task = &self.tasks[&id];
        let (epoch, attempt, generation) = (task.epoch, task.attempt, task.generation);
        let incarnation = self.workers[n].incarnation;
        self.workers[n].held = Some(Held { incarnation, task: id.clone(), epoch });
        Claimed::Granted { task: id, epoch, attempt, generation }
    }

    /// The holder ends its attempt by `how`, and asks for the next task.
    fn end(
        &mut self,
        n: usize,
        wants_next: bool,
        how: impl FnOnce(&mut Self, &TaskId) -> Settled,
    ) -> Answer {
        let Some(held) = self.forget(n) else { return Answer::Nothing };
        let settled = self.refusal(n, &held).unwrap_or_else(|| {
            self.task(&held.task).settled = Some(held.epoch);
            how(self, &held.task)
        });
        let asks = wants_next && settled != Settled::Fenced;
        Answer::Settled(settled, asks.then(|| self.claim(n, held.incarnation, None)))
    }

    /// Whether the plan changed meanwhile: then the task is given back, whatever came of it.
    fn supersede(&mut self, id: &TaskId) -> bool {
        let is_stale = self.task(id).stale;
        if is_stale {
            self.hand_back(id, Cause::Release);
        }
        is_stale
    }

    fn complete(&mut self, id: &TaskId) -> Settled {
        if self.supersede(id) {
            return Settled::Superseded;
        }
        self.end_lease(id);
        self.change(id, Cause::Complete);
        let first = self.completed.insert((id.clone(), self.tasks[id].generation));
        assert!(first, "{id} is completed twice");
        let waits = |task: &&Task| task.deps.contains(id);
        let dependents: Vec<_> =
            self.tasks.values().filter(waits).map(|task| task.spec.id.clone()).collect();
        for dependent in dependents {
            let task = self.task(&dependent);
            task.waiting -= 1;
            if task.waiting == 0 && task.status == State::Blocked {
                self.unblock(&dependent);
            }
        }
        Settled::Done
    }

    fn fail(&mut self, id: &TaskId, permanent: bool) -> Settled {
        self.end_lease(id);
        let task = self.task(id);
        let changed = std::mem::take(&mut task.stale);
        task.failures = if changed { 0 } else { task.failures + 1 };
        let failures = task.failures;
        if !changed && (permanent || failures >= task.max_attempts) {
            self.change(id, Cause::Fail);
            return Settled::Failed;
        }
        self.change(id, Cause::Retry);
        self.settle_ready(id, delay_after(failures));
        Settled::Retry
    }

    fn park(&mut self, id: &TaskId) -> Settled {
        if self.supersede(id) {
            return Settled::Superseded;
        }
        self.hand_back(id, Cause::Release);
        let task = self.task(id);
        task.due = (task.status == State::Ready).then_some(Due::Parked);
        Settled::Parked
    }

    fn detour(&mut self, n: usize) -> Answer {
        let Some(held) = self.workers[n].held.clone() else { return Answer::Nothing };
        self.detours += 1;
        let refusal = self.refusal(n, &held);
        if refusal.is_none() && !self.tasks[&held.task].stale {
            if self.tasks[&held.task].detours >= MAX_DETOURS {
                return Answer::Detoured(Detoured::Exhausted);
            }
            self.forget(n);
            return Answer::Detoured(self.insert(&held));
        }
        self.forget(n);
        Answer::Detoured(match refusal {
            Some(Settled::Already) => Detoured::Already,
            Some(_) => Detoured::Fenced,
            None => {
                self.task(&held.task).settled = Some(held.epoch);
                self.supersede(&held.task);
                Detoured::Superseded
            }
        })
    }

    fn insert(&mut self, held: &Held) -> Detoured {
        let new = task(&format!("detour{}", self.detours));
        let (generation, floor) = (self.tasks[&held.task].generation, self.floor);
        let waiting = self.task(&held.task);
        waiting.detours += 1;
        waiting.waiting += 1;
        waiting.settled = Some(held.epoch);
        waiting.deps.insert(new.clone());
        let (round, seq, priority) = (waiting.detours, waiting.seq, waiting.priority);
        let spec = TaskSpec::new(new.clone(), "a detour");
        let mut inserted = Task::new(spec, BTreeSet::new(), seq, generation, floor);
        inserted.priority = priority;
        self.tasks.insert(new.clone(), inserted);
        self.hand_back(&held.task, Cause::Detour);
        Detoured::Inserted { round, task: new }
    }

    fn beat(&mut self, n: usize) -> Answer {
        let now = self.now;
        let worker = &self.workers[n];
        if self.agents[n].incarnation != Some(worker.incarnation) {
            self.forget(n);
            return Answer::Beat(None);
        }
        let held = worker.held.clone();
        let lease = held.as_ref().map(|held| self.refusal(n, held).is_none());
        let agent = &mut self.agents[n];
        agent.beat = (agent.beat + 1).max(now);
        let (beat, paused) = (agent.beat, agent.paused);
        let holds = agent.held.clone().map(|(task, epoch)| (task, Epoch(epoch)));
        match (lease, held) {
            (Some(true), Some(held)) => self.task(&held.task).beat = beat,
            (Some(false), _) => drop(self.forget(n)),
            (Some(true) | None, _) => {}
        }
        Answer::Beat(Some(Alive { lease, holds, paused }))
    }

    fn leave(&mut self, n: usize) -> Answer {
        self.forget(n);
        let incarnation = self.workers[n].incarnation;
        let agent = &self.agents[n];
        if agent.incarnation != Some(incarnation) {
            // Again is as good as the first time.
            return Answer::Left(agent.incarnation.is_none() && agent.last == incarnation);
        }
        if let Some(id) = self.running_of(n) {
            let task = self.task(&id);
            task.settled = Some(task.epoch);
            self.hand_back(&id, Cause::Release);
        }
        self.unregister(n);
        Answer::Left(true)
    }

    fn bury(&mut self, n: usize, is_own: bool) -> Answer {
        if !is_own || self.agents[n].incarnation != Some(self.workers[n].incarnation) {
            return Answer::Buried(None);
        }
        let lost = self.lose_task_of(n);
        self.unregister(n);
        Answer::Buried(Some(lost))
    }

    fn unregister(&mut self, n: usize) {
        let agent = &mut self.agents[n];
        (agent.incarnation, agent.held, agent.beat) = (None, None, 0);
    }

    /// The agent lets go of what it believes that it holds.
    fn forget(&mut self, n: usize) -> Option<Held> {
        let held = self.workers[n].held.take()?;
        self.workers[n].past = Some(held.clone());
        Some(held)
    }

    fn retry(&mut self, id: &TaskId) -> Answer {
        let Some(task) = self.tasks.get_mut(id) else { return Answer::Retried(None) };
        let parked = task.due == Some(Due::Parked);
        if task.status != State::Failed && !parked {
            return Answer::Retried(Some(Err(task.status)));
        }
        (task.failures, task.losses, task.detours) = (0, 0, 0);
        task.stale = false;
        if !parked {
            self.change(id, Cause::Reset);
            if self.status == Status::Failed {
                self.status = Status::Active;
            }
        }
        self.settle_ready(id, 0);
        Answer::Retried(Some(Ok(self.tasks[id].status)))
    }
}
