//! The whole system: what Redis holds, what each process believes, and what is on its
//! way.

use model::task::State;

use crate::bugs::Bug;
use crate::rules::Witness;
use crate::shared::{AGENTS, Script, Shared, Verdict, Writer};

/// How often each thing may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Budget {
    /// A process dies.
    pub(crate) crashes: u8,
    /// A process is taken for dead and replaced, and lives on.
    pub(crate) replacements: u8,
    /// A holder that lives is taken for silent.
    pub(crate) suspicions: u8,
    /// A request or its reply is lost, or arrives late and a second time.
    pub(crate) messages: u8,
    /// An attempt fails.
    pub(crate) failures: u8,
    /// A task is handed back.
    pub(crate) releases: u8,
    /// A lease is renewed. No fault, but without a bound there is no end.
    pub(crate) beats: u8,
    /// Redis comes back with what it held some time ago.
    pub(crate) restores: u8,
}

impl Budget {
    fn left(self) -> u8 {
        self.crashes
            + self.replacements
            + self.suspicions
            + self.messages
            + self.failures
            + self.releases
            + self.beats
            + self.restores
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Doing {
    Idle,
    Working {
        task: u8,
        epoch: u8,
    },
    /// It sent this and knows no answer: it says it again.
    Reporting {
        task: u8,
        epoch: u8,
        verdict: Verdict,
    },
    /// Between the two scripts of [`Bug::ClaimInTwoSteps`].
    Taking(u8),
    /// Between the two scripts of [`Bug::UnblockApart`].
    Unblocking(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) incarnation: u8,
    pub(crate) doing: Doing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Ask {
    Claim(u8),
    Report { task: u8, epoch: u8, verdict: Verdict },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct System {
    pub(crate) shared: Shared,
    /// What a restore would bring back.
    pub(crate) saved: Option<Shared>,
    /// It stands still as long as it can: epochs must grow without it, too. It never
    /// goes back.
    pub(crate) clock: u8,
    /// By agent: its process.
    pub(crate) present: [Option<Process>; AGENTS],
    /// By agent: one that was replaced and does not know.
    pub(crate) older: [Option<Process>; AGENTS],
    /// By agent: an incarnation that was seen dead and is not buried yet; 0 is none.
    pub(crate) dead: [u8; AGENTS],
    /// A lease that the reaper looks at: task, epoch and beat.
    pub(crate) suspect: Option<(u8, (u8, u8))>,
    /// A request that is still on its way, though its sender gave up waiting.
    pub(crate) late: Option<(Writer, Ask)>,
    pub(crate) left: Budget,
    pub(crate) witness: Witness,
}

/// One process of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Present(u8),
    Older(u8),
}

impl System {
    /// Before the first step: every agent has a process, which is not registered yet.
    pub(crate) fn new(budget: Budget) -> Self {
        Self {
            shared: Shared::new(),
            saved: None,
            clock: 0,
            present: [None; AGENTS],
            older: [None; AGENTS],
            dead: [0; AGENTS],
            suspect: None,
            late: None,
            left: budget,
            witness: Witness::default(),
        }
    }

    pub(crate) fn process(&self, who: Who) -> Option<Process> {
        match who {
            Who::Present(agent) => self.present[usize::from(agent)],
            Who::Older(agent) => self.older[usize::from(agent)],
        }
    }

    pub(crate) fn set(&mut self, who: Who, process: Option<Process>) {
        match who {
            Who::Present(agent) => self.present[usize::from(agent)] = process,
            Who::Older(agent) => self.older[usize::from(agent)] = process,
        }
    }

    pub(crate) fn does(&mut self, who: Who, doing: Doing) {
        let process = self.process(who).map(|process| Process { doing, ..process });
        self.set(who, process);
    }

    pub(crate) fn living(&self) -> impl Iterator<Item = (Who, Writer, Doing)> {
        let all = (0..AGENTS as u8).flat_map(|agent| [Who::Present(agent), Who::Older(agent)]);
        all.filter_map(move |who| {
            let (Who::Present(agent) | Who::Older(agent)) = who;
            let process = self.process(who)?;
            Some((who, Writer { agent, incarnation: process.incarnation }, process.doing))
        })
    }

    /// Whether a process works under this very grant, so that it will be heard of.
    pub(crate) fn is_worked_on(&self, task: u8) -> bool {
        let t = self.shared.task(task);
        self.living().any(|(_, from, doing)| {
            (Some(from.agent), from.incarnation) == (t.owner, t.incarnation)
                && doing.holds() == Some((task, t.epoch))
        })
    }

    pub(crate) fn has_outdated_holder(&self) -> bool {
        self.living().any(|(_, from, doing)| {
            doing.holds().is_some_and(|(task, epoch)| !self.shared.is_current(from, task, epoch))
        })
    }

    pub(crate) fn script(&mut self, bug: Bug) -> Script<'_> {
        Script { shared: &mut self.shared, witness: &mut self.witness, clock: self.clock, bug }
    }

    /// Grows with every step, and cannot do so for ever: so no run goes round in a
    /// circle, and each that is not disturbed any more comes to an end.
    pub(crate) fn rank(&self) -> impl Ord + use<> {
        let all = |numbers: &mut dyn Iterator<Item = u8>| numbers.map(u32::from).sum::<u32>();
        let faults = 2 * u32::from(u8::MAX - self.left.left()) + u32::from(self.saved.is_some());
        let epochs = self.shared.tasks.iter().map(|task| task.epoch);
        let incarnations = self.shared.agents.iter().map(|agent| agent.last);
        let grants = all(&mut epochs.chain(incarnations));
        let tasks = all(&mut self.shared.tasks.iter().map(|task| match task.state {
            State::Blocked => 0,
            State::Running => 1,
            State::Ready => 2,
            State::Done | State::Failed => 3,
        }));
        let buried = self.shared.agents.iter().filter(|agent| agent.incarnation == 0).count();
        let gone = 2 * AGENTS - self.living().count();
        let work = all(&mut self.living().map(|(_, from, doing)| {
            let is_current = doing.holds().is_some_and(|(t, e)| self.shared.is_current(from, t, e));
            match (doing, is_current) {
                (Doing::Working { .. }, false) => 0,
                (Doing::Reporting { .. }, false) => 1,
                (Doing::Idle | Doing::Taking(_) | Doing::Unblocking(_), _) => 2,
                (Doing::Working { .. }, true) => 3,
                (Doing::Reporting { .. }, true) => 4,
            }
        }));
        let reaper = self.suspect.map_or(1, |(task, seen)| {
            let t = self.shared.task(task);
            if t.state == State::Running && (t.epoch, t.beat) == seen { 2 } else { 0 }
        });
        let known = self.dead.iter().filter(|dead| **dead == 0).count();
        ((faults, grants, tasks, buried), (gone, work, reaper), (self.late.is_none(), known))
    }
}

impl Doing {
    /// Task and epoch of the grant that the process believes in.
    fn holds(self) -> Option<(u8, u8)> {
        match self {
            Self::Working { task, epoch } | Self::Reporting { task, epoch, .. } => {
                Some((task, epoch))
            }
            Self::Idle | Self::Taking(_) | Self::Unblocking(_) => None,
        }
    }
}
