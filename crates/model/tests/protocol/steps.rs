//! Every step that somebody may take next.
//!
//! A process that is paused is one that takes no step while others do, so pauses need
//! no step of their own. The same goes for slow replies.

use model::task::State;
use stateright::{Model, Property};

use crate::bugs::Bug;
use crate::rules::{Rule, properties};
use crate::shared::{AGENTS, Claimed, Settled, TASKS, Verdict, Writer};
use crate::system::{Ask, Budget, Doing, Process, System, Who};

/// The protocol under the faults of `budget`, as the product has it or with a bug.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Protocol {
    pub(crate) budget: Budget,
    pub(crate) bug: Bug,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Net {
    Fine,
    /// It takes effect, and nobody learns of it.
    ReplyLost,
    /// It takes effect at any later time.
    Late,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Claim(Who, u8, Net),
    Report(Who, Verdict, Net),
    Beat(Who),
    Start(u8),
    Bury(u8),
    Suspect(u8),
    Reap,
    Deliver,
    Crash(u8),
    Replace(u8),
    Save,
    Restore,
    /// A lock runs out; only for [`Bug::LockByTtlOnly`].
    Expire(u8),
    /// The second script of a bug.
    Second(Who),
}

impl Protocol {
    /// Steps that are taken sooner or later, as long as they are possible.
    pub(crate) fn steps(&self, system: &System, actions: &mut Vec<Action>) {
        for (who, from, doing) in system.living() {
            match doing {
                Doing::Idle => {
                    let claim = |task| Action::Claim(who, task, Net::Fine);
                    actions.extend(self.wanted(system, from).map(claim));
                }
                Doing::Working { .. } => {
                    actions.push(Action::Report(who, Verdict::Complete, Net::Fine));
                    actions.push(Action::Beat(who));
                }
                Doing::Reporting { verdict, .. } => {
                    actions.push(Action::Report(who, verdict, Net::Fine));
                }
                Doing::Taking(_) | Doing::Unblocking(_) => actions.push(Action::Second(who)),
            }
        }
        for agent in 0..AGENTS {
            if system.present[agent].is_none() {
                actions.push(Action::Start(agent as u8));
            }
            if system.dead[agent] != 0 {
                actions.push(Action::Bury(agent as u8));
            }
        }
        if system.suspect.is_some() {
            actions.push(Action::Reap);
        } else if self.bug != Bug::DeathUnnoticed {
            let silent = |task: &u8| !system.is_worked_on(*task);
            actions.extend(running(system).filter(silent).map(Action::Suspect));
        }
        if system.late.is_some() {
            actions.push(Action::Deliver);
        }
    }

    /// Steps that may be taken, or never.
    fn faults(&self, system: &System, actions: &mut Vec<Action>) {
        let left = &system.left;
        for agent in 0..AGENTS {
            let Some(process) = system.present[agent] else { continue };
            let agent = agent as u8;
            if left.crashes > 0 {
                actions.push(Action::Crash(agent));
            }
            if left.replacements > 0 && system.older[usize::from(agent)].is_none() {
                actions.push(Action::Replace(agent));
            }
            self.disturb(system, agent, process, actions);
        }
        if left.suspicions > 0 {
            if system.suspect.is_none() {
                let worked_on = |task: &u8| system.is_worked_on(*task);
                actions.extend(running(system).filter(worked_on).map(Action::Suspect));
            }
            if self.bug == Bug::LockByTtlOnly {
                actions.extend(running(system).map(Action::Expire));
            }
        }
        if system.saved.is_some() {
            actions.push(Action::Restore);
        } else if left.restores > 0 {
            actions.push(Action::Save);
        }
    }

    /// What an agent may do besides going on, and what may become of its requests.
    fn disturb(&self, system: &System, agent: u8, process: Process, actions: &mut Vec<Action>) {
        let who = Who::Present(agent);
        let mut ways = vec![];
        if system.left.messages > 0 {
            ways.push(Net::ReplyLost);
            if system.late.is_none() {
                ways.push(Net::Late);
            }
        }
        let mut say = |verdict, fine: bool| {
            actions.extend(ways.iter().map(|net| Action::Report(who, verdict, *net)));
            if fine {
                actions.push(Action::Report(who, verdict, Net::Fine));
            }
        };
        match process.doing {
            Doing::Idle => {
                let from = Writer { agent, incarnation: process.incarnation };
                for task in self.wanted(system, from) {
                    actions.extend(ways.iter().map(|net| Action::Claim(who, task, *net)));
                }
            }
            Doing::Working { .. } => {
                say(Verdict::Complete, false);
                if system.left.failures > 0 {
                    say(Verdict::Fail, true);
                }
                if system.left.releases > 0 {
                    say(Verdict::Release, true);
                }
            }
            Doing::Reporting { verdict, .. } => say(verdict, false),
            Doing::Taking(_) | Doing::Unblocking(_) => {}
        }
    }

    /// Which tasks it makes a difference to ask for.
    fn wanted(&self, system: &System, from: Writer) -> impl Iterator<Item = u8> + use<> {
        let (shared, bug) = (system.shared, self.bug);
        let registered = shared.agent(from.agent);
        let is_told = registered.incarnation != from.incarnation || registered.held.is_some();
        let is_claimable = move |task: &u8| {
            let t = shared.task(*task);
            let has_expired = bug == Bug::LockByTtlOnly && !t.is_locked;
            t.state == State::Ready || (t.state == State::Running && has_expired)
        };
        // Who is told something else than a grant is told so whatever it asks for.
        let any = (is_told && bug != Bug::StaleIncarnationAccepted).then_some(0);
        let each = (0..TASKS as u8).filter(move |task| any.is_none() && is_claimable(task));
        any.into_iter().chain(each)
    }

    fn claim(&self, next: &mut System, who: Who, from: Writer, task: u8) {
        let is_ready = next.shared.task(task).state == State::Ready;
        let holds = next.shared.agent(from.agent).held.is_some();
        if self.bug == Bug::ClaimInTwoSteps && is_ready && !holds {
            return next.does(who, Doing::Taking(task));
        }
        match next.script(self.bug).claim(from, task) {
            Claimed::Granted { task, epoch } => next.does(who, Doing::Working { task, epoch }),
            Claimed::Nothing => {}
            // It ends itself.
            Claimed::Fenced => next.set(who, None),
        }
    }

    fn ask(&self, next: &mut System, from: Writer, ask: Ask) -> Option<Settled> {
        match ask {
            Ask::Claim(task) => {
                next.script(self.bug).claim(from, task);
                None
            }
            Ask::Report { task, epoch, verdict } => {
                Some(next.script(self.bug).settle(from, task, epoch, verdict))
            }
        }
    }

    fn report(&self, next: &mut System, who: Who, from: Writer, ask: Ask, net: Net) {
        let Ask::Report { task, epoch, verdict } = ask else { return };
        match net {
            Net::Fine => {
                let settled = self.ask(next, from, ask);
                let has_second = settled == Some(Settled::Accepted)
                    && (self.bug, verdict) == (Bug::UnblockApart, Verdict::Complete);
                next.does(who, if has_second { Doing::Unblocking(task) } else { Doing::Idle });
            }
            Net::ReplyLost | Net::Late => {
                self.disturbed(next, from, ask, net);
                next.does(who, Doing::Reporting { task, epoch, verdict });
            }
        }
    }

    fn disturbed(&self, next: &mut System, from: Writer, ask: Ask, net: Net) {
        next.left.messages -= 1;
        if net == Net::Late {
            next.late = Some((from, ask));
        } else {
            self.ask(next, from, ask);
        }
    }

    /// What a process does.
    fn act(&self, next: &mut System, who: Who, action: Action) -> Option<()> {
        let process = next.process(who)?;
        let (Who::Present(agent) | Who::Older(agent)) = who;
        let from = Writer { agent, incarnation: process.incarnation };
        match (action, process.doing) {
            (Action::Claim(_, task, Net::Fine), _) => self.claim(next, who, from, task),
            (Action::Claim(_, task, net), _) => self.disturbed(next, from, Ask::Claim(task), net),
            (Action::Report(_, verdict, net), Doing::Working { task, epoch }) => {
                match verdict {
                    Verdict::Complete => {}
                    Verdict::Fail => next.left.failures -= 1,
                    Verdict::Release => next.left.releases -= 1,
                }
                self.report(next, who, from, Ask::Report { task, epoch, verdict }, net);
            }
            (Action::Report(_, verdict, net), Doing::Reporting { task, epoch, .. }) => {
                self.report(next, who, from, Ask::Report { task, epoch, verdict }, net);
            }
            (Action::Beat(_), Doing::Working { task, epoch }) => {
                if !next.script(self.bug).beat(from, task, epoch) {
                    next.does(who, Doing::Idle);
                } else {
                    next.left.beats = next.left.beats.checked_sub(1)?;
                }
            }
            (Action::Second(_), Doing::Taking(task)) => {
                next.does(who, Doing::Idle);
                if let Claimed::Granted { task, epoch } = next.script(self.bug).take(from, task) {
                    next.does(who, Doing::Working { task, epoch });
                }
            }
            (Action::Second(_), Doing::Unblocking(task)) => {
                next.script(self.bug).unblock_after(task);
                next.does(who, Doing::Idle);
            }
            _ => return None,
        }
        Some(())
    }

    fn start(&self, next: &mut System, agent: u8) {
        let incarnation = next.script(self.bug).register(agent);
        next.set(Who::Present(agent), Some(Process { incarnation, doing: Doing::Idle }));
    }

    fn step(&self, next: &mut System, action: Action) -> Option<()> {
        match action {
            Action::Claim(who, ..)
            | Action::Report(who, ..)
            | Action::Beat(who)
            | Action::Second(who) => self.act(next, who, action)?,
            Action::Start(agent) => self.start(next, agent),
            Action::Bury(agent) => {
                let incarnation = std::mem::take(&mut next.dead[usize::from(agent)]);
                if self.bug != Bug::DeathUnnoticed {
                    next.script(self.bug).bury(Writer { agent, incarnation });
                }
            }
            Action::Suspect(task) => {
                next.left.suspicions -= u8::from(next.is_worked_on(task));
                let t = next.shared.task(task);
                next.suspect = Some((task, (t.epoch, t.beat)));
            }
            Action::Reap => {
                let (task, seen) = next.suspect.take()?;
                next.script(self.bug).reap(task, seen);
            }
            Action::Deliver => {
                let (from, ask) = next.late.take()?;
                self.ask(next, from, ask);
            }
            Action::Crash(agent) => {
                next.left.crashes -= 1;
                let process = next.present[usize::from(agent)].take()?;
                next.dead[usize::from(agent)] = process.incarnation;
            }
            Action::Replace(agent) => {
                next.left.replacements -= 1;
                next.older[usize::from(agent)] = next.present[usize::from(agent)];
                self.start(next, agent);
            }
            Action::Save => next.saved = Some(next.shared),
            Action::Restore => {
                next.left.restores -= 1;
                next.shared = next.saved.take()?;
                // Time went on meanwhile.
                next.clock = next.witness.highest() + 1;
            }
            Action::Expire(task) => {
                next.left.suspicions -= 1;
                next.shared.tasks[usize::from(task)].is_locked = false;
            }
        }
        Some(())
    }
}

fn running(system: &System) -> impl Iterator<Item = u8> {
    (0..TASKS as u8).filter(move |task| system.shared.task(*task).state == State::Running)
}

impl Model for Protocol {
    type State = System;
    type Action = Action;

    fn init_states(&self) -> Vec<System> {
        let mut system = System::new(self.budget);
        (0..AGENTS as u8).for_each(|agent| self.start(&mut system, agent));
        vec![system]
    }

    fn actions(&self, system: &System, actions: &mut Vec<Action>) {
        self.steps(system, actions);
        self.faults(system, actions);
    }

    fn next_state(&self, last: &System, action: Action) -> Option<System> {
        let mut next = *last;
        self.step(&mut next, action)?;
        if next == *last {
            return None;
        }
        if self.bug == Bug::None && next.rank() <= last.rank() {
            next.witness.breaks(Rule::Progress);
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties()
    }
}
