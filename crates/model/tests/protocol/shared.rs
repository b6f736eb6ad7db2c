//! What Redis holds, and the scripts that change it, as far as the protocol goes.
//!
//! Each method of [`Script`] is one script: it happens whole or not at all. It moves
//! tasks only by the product's own table.

use model::task::{Cause, MAX_LOSSES, State, transition};

use crate::bugs::Bug;
use crate::rules::{Rule, Witness};

pub(crate) const TASKS: usize = 4;
pub(crate) const AGENTS: usize = 2;
/// The last task waits for two which wait for the first.
pub(crate) const DEPENDENCIES: [&[u8]; TASKS] = [&[], &[0], &[0], &[1, 2]];
pub(crate) const MAX_ATTEMPTS: u8 = 2;
/// How often each task lost its agent before the first step: two more end it, and that
/// is within what is explored.
const LOSSES_BEFORE: u8 = MAX_LOSSES as u8 - 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Task {
    pub(crate) state: State,
    pub(crate) owner: Option<u8>,
    pub(crate) incarnation: u8,
    /// The last grant; 0 is none.
    pub(crate) epoch: u8,
    pub(crate) beat: u8,
    pub(crate) waiting: u8,
    pub(crate) failures: u8,
    pub(crate) losses: u8,
    /// The epoch under which it was last settled by its holder.
    pub(crate) settled: u8,
    /// Its lock has not run out; only [`Bug::LockByTtlOnly`] asks.
    pub(crate) is_locked: bool,
    /// How many completions were accepted, as the events tell it.
    pub(crate) completions: u8,
}

/// What Redis knows of an agent's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Registration {
    /// The process that has the name; 0 is none.
    pub(crate) incarnation: u8,
    /// The highest that ever had it.
    pub(crate) last: u8,
    /// The task it holds, under which epoch.
    pub(crate) held: Option<(u8, u8)>,
}

/// All that a restored Redis brings back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Shared {
    pub(crate) tasks: [Task; TASKS],
    pub(crate) agents: [Registration; AGENTS],
    /// By the order of [`State::ALL`].
    pub(crate) counts: [u8; State::ALL.len()],
}

/// Who speaks: one process of an agent's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Writer {
    pub(crate) agent: u8,
    pub(crate) incarnation: u8,
}

/// How a holder's attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Verdict {
    Complete,
    Fail,
    Release,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claimed {
    Granted { task: u8, epoch: u8 },
    Nothing,
    Fenced,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    Accepted,
    Already,
    Fenced,
}

impl Shared {
    pub(crate) fn new() -> Self {
        let task = |n: usize| Task {
            state: if DEPENDENCIES[n].is_empty() { State::Ready } else { State::Blocked },
            owner: None,
            incarnation: 0,
            epoch: 0,
            beat: 0,
            waiting: DEPENDENCIES[n].len() as u8,
            failures: 0,
            losses: LOSSES_BEFORE,
            settled: 0,
            is_locked: false,
            completions: 0,
        };
        let tasks = std::array::from_fn(task);
        let mut shared = Self { tasks, agents: [Registration::default(); AGENTS], counts: [0; 5] };
        shared.counts = shared.counted();
        shared
    }

    /// The counts as they should be.
    pub(crate) fn counted(&self) -> [u8; State::ALL.len()] {
        State::ALL.map(|state| self.tasks.iter().filter(|task| task.state == state).count() as u8)
    }

    pub(crate) fn task(&self, task: u8) -> &Task {
        &self.tasks[usize::from(task)]
    }

    pub(crate) fn agent(&self, agent: u8) -> &Registration {
        &self.agents[usize::from(agent)]
    }

    /// Whether a write of `from` under this grant should be accepted: what the scripts
    /// must not get wrong, said apart from them.
    pub(crate) fn is_current(&self, from: Writer, task: u8, epoch: u8) -> bool {
        let t = self.task(task);
        t.state == State::Running
            && (t.owner, t.incarnation, t.epoch) == (Some(from.agent), from.incarnation, epoch)
            && self.agent(from.agent).incarnation == from.incarnation
    }
}

/// A script while it runs.
pub(crate) struct Script<'a> {
    pub(crate) shared: &'a mut Shared,
    pub(crate) witness: &'a mut Witness,
    pub(crate) clock: u8,
    pub(crate) bug: Bug,
}

impl Script<'_> {
    fn task(&mut self, task: u8) -> &mut Task {
        &mut self.shared.tasks[usize::from(task)]
    }

    fn agent(&mut self, agent: u8) -> &mut Registration {
        &mut self.shared.agents[usize::from(agent)]
    }

    /// The only way in which a task changes its state.
    fn change(&mut self, task: u8, cause: Cause) {
        let from = self.shared.task(task).state;
        let Some(to) = transition(from, cause) else {
            return self.witness.breaks(Rule::OneState);
        };
        let place = |state| State::ALL.iter().position(|one| *one == state).unwrap();
        self.shared.counts[place(from)] -= 1;
        self.shared.counts[place(to)] += 1;
        self.task(task).state = to;
    }

    fn fences(&self, from: Writer) -> bool {
        self.bug != Bug::StaleIncarnationAccepted
            && self.shared.agent(from.agent).incarnation != from.incarnation
    }

    /// `claim`: the task that the agent holds already, else `wanted`, if it is READY.
    pub(crate) fn claim(&mut self, from: Writer, wanted: u8) -> Claimed {
        if self.fences(from) {
            return Claimed::Fenced;
        }
        if let Some((task, epoch)) = self.running(from.agent) {
            self.witness.write(self.shared, from);
            return Claimed::Granted { task, epoch };
        }
        let expired = self.has_expired(wanted);
        if self.shared.task(wanted).state != State::Ready && !expired {
            return Claimed::Nothing;
        }
        if expired {
            self.end_lease(wanted);
            self.change(wanted, Cause::Lose);
        }
        self.change(wanted, Cause::Claim);
        self.grant(from, wanted)
    }

    /// Only for the bug that has no epochs: the lock alone says who holds a task.
    fn has_expired(&self, task: u8) -> bool {
        let t = self.shared.task(task);
        self.bug == Bug::LockByTtlOnly && t.state == State::Running && !t.is_locked
    }

    fn running(&self, agent: u8) -> Option<(u8, u8)> {
        let held = self.shared.agent(agent).held?;
        let t = self.shared.task(held.0);
        let runs = t.state == State::Running && t.epoch == held.1 && t.owner == Some(agent);
        runs.then_some(held)
    }

    fn grant(&mut self, from: Writer, task: u8) -> Claimed {
        self.witness.write(self.shared, from);
        let epoch = self.grown(self.shared.task(task).epoch);
        self.witness.grant(task, epoch);
        let t = self.task(task);
        *t = Task {
            owner: Some(from.agent),
            incarnation: from.incarnation,
            epoch,
            beat: 0,
            is_locked: true,
            ..*t
        };
        self.agent(from.agent).held = Some((task, epoch));
        Claimed::Granted { task, epoch }
    }

    /// The second half of a claim that is two scripts, by [`Bug::ClaimInTwoSteps`].
    pub(crate) fn take(&mut self, from: Writer, task: u8) -> Claimed {
        if self.fences(from) {
            return Claimed::Fenced;
        }
        if self.shared.task(task).state == State::Ready {
            self.change(task, Cause::Claim);
        }
        self.grant(from, task)
    }

    fn grown(&self, old: u8) -> u8 {
        match self.bug {
            Bug::EpochFromCounterOnly => old + 1,
            Bug::None
            | Bug::EpochNotChecked
            | Bug::LockByTtlOnly
            | Bug::ClaimInTwoSteps
            | Bug::DependencySkipped
            | Bug::StaleIncarnationAccepted
            | Bug::ReaperWithoutRecheck
            | Bug::BuryWithoutIncarnation
            | Bug::RetryWithoutCap
            | Bug::UnblockApart
            | Bug::RepeatAccepted
            | Bug::DeathUnnoticed => (old + 1).max(self.clock),
        }
    }

    fn standing(&self, from: Writer, task: u8, epoch: u8) -> Settled {
        let t = self.shared.task(task);
        if self.fences(from) {
            return Settled::Fenced;
        }
        let owns = t.state == State::Running && t.owner == Some(from.agent);
        let is_held = match self.bug {
            Bug::EpochNotChecked => owns && t.incarnation == from.incarnation,
            Bug::LockByTtlOnly => t.state == State::Running && (owns || !t.is_locked),
            Bug::RepeatAccepted => t.epoch == epoch && t.incarnation == from.incarnation,
            Bug::StaleIncarnationAccepted => owns && t.epoch == epoch,
            Bug::None
            | Bug::EpochFromCounterOnly
            | Bug::ClaimInTwoSteps
            | Bug::DependencySkipped
            | Bug::ReaperWithoutRecheck
            | Bug::BuryWithoutIncarnation
            | Bug::RetryWithoutCap
            | Bug::UnblockApart
            | Bug::DeathUnnoticed => owns && t.epoch == epoch && t.incarnation == from.incarnation,
        };
        if t.settled == epoch && self.bug != Bug::RepeatAccepted {
            Settled::Already
        } else if is_held {
            Settled::Accepted
        } else {
            Settled::Fenced
        }
    }

    /// `complete`, `fail` and `release`.
    pub(crate) fn settle(
        &mut self,
        from: Writer,
        task: u8,
        epoch: u8,
        verdict: Verdict,
    ) -> Settled {
        let standing = self.standing(from, task, epoch);
        if standing != Settled::Accepted {
            return standing;
        }
        self.witness.write(self.shared, from);
        self.witness.settle(self.shared, from, task, epoch);
        self.task(task).settled = epoch;
        self.end_lease(task);
        match verdict {
            Verdict::Complete => {
                self.change(task, Cause::Complete);
                self.task(task).completions += 1;
                if self.bug != Bug::UnblockApart {
                    self.unblock_after(task);
                }
            }
            Verdict::Fail => {
                self.task(task).failures += 1;
                let is_last = self.shared.task(task).failures >= MAX_ATTEMPTS
                    && self.bug != Bug::RetryWithoutCap;
                self.change(task, if is_last { Cause::Fail } else { Cause::Retry });
            }
            Verdict::Release => self.change(task, Cause::Release),
        }
        Settled::Accepted
    }

    /// Counts a done task off those that wait for it. A part of `complete`, but for
    /// [`Bug::UnblockApart`].
    pub(crate) fn unblock_after(&mut self, done: u8) {
        for dependent in 0..TASKS as u8 {
            if !DEPENDENCIES[usize::from(dependent)].contains(&done) {
                continue;
            }
            let t = self.task(dependent);
            t.waiting = t.waiting.saturating_sub(1);
            let is_free = t.waiting == 0 || self.bug == Bug::DependencySkipped;
            if is_free && self.shared.task(dependent).state == State::Blocked {
                self.change(dependent, Cause::Unblock);
            }
        }
    }

    fn end_lease(&mut self, task: u8) {
        let t = self.task(task);
        let (owner, epoch) = (t.owner.take(), t.epoch);
        t.is_locked = false;
        if let Some(owner) = owner {
            let held = &mut self.agent(owner).held;
            *held = held.filter(|held| *held != (task, epoch));
        }
    }

    fn lose(&mut self, task: u8) {
        self.end_lease(task);
        let t = self.task(task);
        t.losses += 1;
        let is_last = u32::from(t.losses) >= MAX_LOSSES;
        self.change(task, if is_last { Cause::Fail } else { Cause::Lose });
    }

    /// `beat`: whether the named grant is still held.
    pub(crate) fn beat(&mut self, from: Writer, task: u8, epoch: u8) -> bool {
        if self.standing(from, task, epoch) != Settled::Accepted {
            return false;
        }
        self.witness.write(self.shared, from);
        self.task(task).beat += 1;
        true
    }

    /// `register`: a new process takes the name, and what the old one held is lost.
    pub(crate) fn register(&mut self, agent: u8) -> u8 {
        if let Some((task, _)) = self.running(agent)
            && self.bug != Bug::DeathUnnoticed
        {
            self.lose(task);
        }
        let incarnation = self.grown(self.shared.agent(agent).last);
        self.witness.register(agent, incarnation);
        *self.agent(agent) = Registration { incarnation, last: incarnation, held: None };
        incarnation
    }

    /// `bury`: this incarnation is dead.
    pub(crate) fn bury(&mut self, dead: Writer) {
        let is_other = self.shared.agent(dead.agent).incarnation != dead.incarnation;
        if is_other && self.bug != Bug::BuryWithoutIncarnation {
            return;
        }
        if let Some((task, _)) = self.running(dead.agent) {
            if is_other {
                self.witness.breaks(Rule::LeaseKept);
            }
            self.lose(task);
        }
        self.agent(dead.agent).incarnation = 0;
    }

    /// `reap`: this lease did not change for one TTL, when it was looked at.
    pub(crate) fn reap(&mut self, task: u8, seen: (u8, u8)) {
        let t = self.shared.task(task);
        if t.state != State::Running {
            return;
        }
        if (t.epoch, t.beat) != seen {
            if self.bug != Bug::ReaperWithoutRecheck {
                return;
            }
            self.witness.breaks(Rule::LeaseKept);
        }
        self.lose(task);
    }
}
