//! What must hold: the promises as properties of every state, and a witness for those
//! that are about a step.

use model::task::{MAX_LOSSES, State};
use stateright::{Model as _, Property};

use crate::shared::{DEPENDENCIES, MAX_ATTEMPTS, Shared, TASKS, Writer};
use crate::steps::Protocol;
use crate::system::System;

/// One promise; the numbers are those of the design.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// S1: states change by the table, the counts add up, and READY is what waits for
    /// nothing.
    OneState,
    /// S2: at most one completion is accepted for each task, but for what a restored
    /// Redis forgot.
    OneCompletion,
    /// S3: a holder's write is accepted only under the current epoch and incarnation.
    Fenced,
    /// S4: epochs and incarnations only grow, also across a restore.
    EpochsGrow,
    /// S5: what runs or is done waited for nothing.
    DependenciesDone,
    /// S6: a task fails and loses its agent only so often, and then it is FAILED.
    AttemptsBounded,
    /// S7: who writes is the process that has its agent's name.
    OneWriter,
    /// A lease is of one running task and one agent, which knows of it.
    OneHolder,
    /// A lease ends only for the silence or the death that was seen.
    LeaseKept,
    /// L: where nothing can happen any more, every task has ended.
    AllEnd,
    /// Each step leads on: no run goes round in a circle.
    Progress,
}

impl Rule {
    pub(crate) const ALL: [Self; 11] = [
        Self::OneState,
        Self::OneCompletion,
        Self::Fenced,
        Self::EpochsGrow,
        Self::DependenciesDone,
        Self::AttemptsBounded,
        Self::OneWriter,
        Self::OneHolder,
        Self::LeaseKept,
        Self::AllEnd,
        Self::Progress,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::OneState => "S1 one state, counts add up",
            Self::OneCompletion => "S2 one completion",
            Self::Fenced => "S3 old epochs are fenced",
            Self::EpochsGrow => "S4 epochs only grow",
            Self::DependenciesDone => "S5 dependencies are done",
            Self::AttemptsBounded => "S6 attempts are bounded",
            Self::OneWriter => "S7 one writer of a name",
            Self::OneHolder => "one holder",
            Self::LeaseKept => "a lease is kept while it is renewed",
            Self::AllEnd => "L all tasks end",
            Self::Progress => "no circles",
        }
    }
}

/// What was seen of the steps so far. It is no part of the protocol, and a restored
/// Redis does not bring back an older one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Witness {
    /// By task: the highest epoch that was ever granted.
    pub(crate) granted: [u8; TASKS],
    /// By agent: the highest incarnation that ever registered.
    pub(crate) registered: [u8; crate::shared::AGENTS],
    /// The rules that a step broke, as bits.
    broken: u16,
}

impl Witness {
    pub(crate) fn breaks(&mut self, rule: Rule) {
        self.broken |= 1 << rule as u16;
    }

    fn holds(&self, rule: Rule) -> bool {
        self.broken & 1 << rule as u16 == 0
    }

    /// The highest number that was ever given out.
    pub(crate) fn highest(&self) -> u8 {
        self.granted.into_iter().chain(self.registered).max().unwrap_or(0)
    }

    pub(crate) fn grant(&mut self, task: u8, epoch: u8) {
        let last = &mut self.granted[usize::from(task)];
        let grows = epoch > *last;
        *last = epoch.max(*last);
        if !grows {
            self.breaks(Rule::EpochsGrow);
        }
    }

    pub(crate) fn register(&mut self, agent: u8, incarnation: u8) {
        let last = &mut self.registered[usize::from(agent)];
        let grows = incarnation > *last;
        *last = incarnation.max(*last);
        if !grows {
            self.breaks(Rule::EpochsGrow);
        }
    }

    /// Something of `from` is about to be accepted.
    pub(crate) fn write(&mut self, shared: &Shared, from: Writer) {
        if shared.agent(from.agent).incarnation != from.incarnation {
            self.breaks(Rule::OneWriter);
        }
    }

    /// The end of an attempt is about to be accepted.
    pub(crate) fn settle(&mut self, shared: &Shared, from: Writer, task: u8, epoch: u8) {
        if !shared.is_current(from, task, epoch) {
            self.breaks(Rule::Fenced);
        }
    }
}

/// Whether something is so in a state.
type Holds = fn(&Protocol, &System) -> bool;

/// Every rule, and a few states that must be found for the search to mean anything.
pub(crate) fn properties() -> Vec<Property<Protocol>> {
    let rules: [(Rule, Holds); Rule::ALL.len()] = [
        (Rule::OneState, |_, s| s.witness.holds(Rule::OneState) && has_one_state(&s.shared)),
        (Rule::OneCompletion, |_, s| s.shared.tasks.iter().all(|t| t.completions <= 1)),
        (Rule::Fenced, |_, s| s.witness.holds(Rule::Fenced)),
        (Rule::EpochsGrow, |_, s| s.witness.holds(Rule::EpochsGrow)),
        (Rule::DependenciesDone, |_, s| has_dependencies_done(&s.shared)),
        (Rule::AttemptsBounded, |_, s| has_bounded_attempts(&s.shared)),
        (Rule::OneWriter, |_, s| s.witness.holds(Rule::OneWriter)),
        (Rule::OneHolder, |_, s| has_one_holder(&s.shared)),
        (Rule::LeaseKept, |_, s| s.witness.holds(Rule::LeaseKept)),
        (Rule::AllEnd, |protocol, s| have_ended(&s.shared) || can_go_on(protocol, s)),
        (Rule::Progress, |_, s| s.witness.holds(Rule::Progress)),
    ];
    let mut all: Vec<Property<Protocol>> = rules
        .into_iter()
        .map(|(rule, holds)| Property::<Protocol>::always(rule.name(), holds))
        .collect();
    all.extend(reached().map(|(name, holds)| Property::<Protocol>::sometimes(name, holds)));
    all
}

pub(crate) fn reached() -> [(&'static str, Holds); 4] {
    let is_done: Holds = |_, s| s.shared.tasks.iter().all(|t| t.state == State::Done);
    let has_failed: Holds = |_, s| s.shared.tasks.iter().any(|t| t.state == State::Failed);
    let is_parallel: Holds =
        |_, s| s.shared.tasks.iter().filter(|t| t.state == State::Running).count() == 2;
    let is_fenced: Holds = |_, s| s.has_outdated_holder();
    [
        ("all tasks are done", is_done),
        ("a task is given up", has_failed),
        ("two tasks run", is_parallel),
        ("somebody works on what is no longer its own", is_fenced),
    ]
}

fn has_one_state(shared: &Shared) -> bool {
    let is_open = |dep: &&u8| shared.task(**dep).state != State::Done;
    shared.counts == shared.counted()
        && shared.tasks.iter().zip(DEPENDENCIES).all(|(task, deps)| {
            let open = deps.iter().filter(is_open).count();
            let agrees = match task.state {
                State::Blocked => open > 0,
                State::Ready | State::Running | State::Failed => open == 0,
                State::Done => true,
            };
            agrees && usize::from(task.waiting) == open
        })
}

fn has_dependencies_done(shared: &Shared) -> bool {
    shared.tasks.iter().zip(DEPENDENCIES).all(|(task, deps)| match task.state {
        State::Running | State::Done => {
            deps.iter().all(|dep| shared.task(*dep).state == State::Done)
        }
        State::Blocked | State::Ready | State::Failed => true,
    })
}

fn has_bounded_attempts(shared: &Shared) -> bool {
    shared.tasks.iter().all(|task| {
        let is_spent = task.failures >= MAX_ATTEMPTS || u32::from(task.losses) >= MAX_LOSSES;
        is_spent == (task.state == State::Failed)
    })
}

fn has_one_holder(shared: &Shared) -> bool {
    (0..TASKS as u8).zip(&shared.tasks).all(|(id, task)| {
        let holds = |agent: u8| shared.agent(agent).held == Some((id, task.epoch));
        let claims = shared.agents.iter().filter(|a| a.held.is_some_and(|h| h.0 == id)).count();
        match (task.state, task.owner) {
            (State::Running, Some(owner)) => {
                let registered = shared.agent(owner).incarnation;
                claims == 1 && holds(owner) && registered == task.incarnation
            }
            (State::Running, None) => false,
            (State::Blocked | State::Ready | State::Done | State::Failed, owner) => {
                claims == 0 && owner.is_none()
            }
        }
    })
}

/// DONE, FAILED, or waiting for ever for one that is FAILED.
pub(crate) fn have_ended(shared: &Shared) -> bool {
    let mut is_stuck = [false; TASKS];
    for (id, task) in shared.tasks.iter().enumerate() {
        // Dependencies have lower numbers.
        is_stuck[id] = match task.state {
            State::Failed => true,
            State::Blocked => DEPENDENCIES[id].iter().any(|dep| is_stuck[usize::from(*dep)]),
            State::Ready | State::Running | State::Done => false,
        };
    }
    shared.tasks.iter().zip(is_stuck).all(|(task, stuck)| stuck || task.state == State::Done)
}

/// Whether a step is left that is taken sooner or later.
fn can_go_on(protocol: &Protocol, system: &System) -> bool {
    let mut actions = Vec::new();
    protocol.steps(system, &mut actions);
    actions.into_iter().any(|action| protocol.next_state(system, action).is_some())
}
