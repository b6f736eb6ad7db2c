//! What to do about one agent: a pure function of what was seen.

use std::fmt;
use std::time::Duration;

use model::agent::Phase;
use process::Identity;
use store::agent::Incarnation;

/// How many deaths in a row make a crash loop, as people should see it.
const CRASH_LOOP_DEATHS: u32 = 3;

/// Why one is buried of whom only its beat can be seen.
pub(crate) const SILENT_THERE: &str = "it fell silent on its host";

/// The bounds that a plan obeys.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// An agent whose beat stands still for so long is silent.
    pub ttl: Duration,
    /// A process that has not registered for so long never will.
    pub register: Duration,
    /// Time between SIGTERM and SIGKILL.
    pub grace: Duration,
}

/// What was seen of one agent, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Fingerprint of its declaration; `None` where it is not declared.
    pub declared: Option<String>,
    /// The process that holds the name, according to Redis.
    pub registered: Option<Registered>,
    /// The living processes of that name on this host, registered or not.
    pub processes: Vec<Local>,
    /// How long it may not be started yet.
    pub start_in: Duration,
    /// How often it died in a row, without having been well in between.
    pub deaths: u32,
    /// Incarnations that held the name and are dead, whose attempts may have left
    /// something running.
    pub leftovers: Vec<Incarnation>,
}

/// The process that holds the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Which process of the name.
    pub incarnation: Incarnation,
    /// Which process of the host.
    pub identity: Identity,
    /// Fingerprint of the declaration it was started with.
    pub spec_hash: String,
    /// Whether it runs on this host.
    pub local: bool,
    /// Whether it lives, as far as this host can know.
    pub alive: bool,
    /// How long its beat has stood still.
    pub silent_for: Duration,
}

/// A living process of the name on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// Which process.
    pub identity: Identity,
    /// How long we have known it.
    pub age: Duration,
    /// How long ago it lost the name, where it held it and does no more.
    pub left: Option<Duration>,
    /// What we asked of it, and how long ago.
    pub asked: Option<(Request, Duration)>,
}

/// What a process can be asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Finish the task, take no other, leave.
    Retire,
    /// Hand the task back and leave.
    Terminate,
    /// Nothing: it is ended by the kernel.
    Kill,
}

/// Why a process is made to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Nobody declares its name any more.
    Undeclared,
    /// It was started with another declaration.
    Changed,
    /// Another process has its name.
    Replaced,
    /// It did not take its name in time.
    Unregistered,
    /// It gave its name back unasked and stayed.
    Lingering,
    /// Its beat stands still.
    Silent,
}

impl Reason {
    /// Whether its end is a death, for which the next start has to wait.
    pub(crate) const fn is_failure(self) -> bool {
        match self {
            Self::Undeclared | Self::Changed | Self::Replaced => false,
            Self::Unregistered | Self::Lingering | Self::Silent => true,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Undeclared => "it is no longer declared",
            Self::Changed => "it is declared differently",
            Self::Replaced => "another process has its name",
            Self::Unregistered => "it did not register",
            Self::Lingering => "it gave its name back and did not end",
            Self::Silent => "it fell silent",
        })
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// End whatever a dead incarnation's attempts left running.
    Clear(Incarnation),
    /// End what a dead incarnation held.
    Bury(Incarnation, &'static str),
    /// Start a process.
    Spawn,
    /// Make a process leave.
    Ask(Identity, Request, Reason),
}

/// What to do, what to show, and when to look again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub actions: Vec<Action>,
    /// What the agent is doing.
    pub phase: Phase,
    /// Look again after this long, although nothing wakes us.
    pub look_again: Option<Duration>,
}

impl Plan {
    fn wait(&mut self, delay: Duration) {
        self.look_again = Some(self.look_again.map_or(delay, |other| other.min(delay)));
    }

    /// SIGTERM once, SIGKILL after the grace.
    fn end(&mut self, process: &Local, limits: &Limits, why: Reason) {
        match process.asked {
            None | Some((Request::Retire, _)) => {
                self.actions.push(Action::Ask(process.identity, Request::Terminate, why));
                self.wait(limits.grace);
            }
            Some((Request::Terminate, since)) if since >= limits.grace => {
                self.actions.push(Action::Ask(process.identity, Request::Kill, why));
            }
            Some((Request::Terminate, since)) => self.wait(limits.grace - since),
            Some((Request::Kill, _)) => {}
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clear(incarnation) => write!(f, "clear {incarnation}"),
            Self::Bury(incarnation, why) => write!(f, "bury {incarnation} ({why})"),
            Self::Spawn => f.write_str("spawn"),
            Self::Ask(process, request, why) => {
                let word = match request {
                    Request::Retire => "retire",
                    Request::Terminate => "terminate",
                    Request::Kill => "kill",
                };
                write!(f, "{word} {process} ({why})")
            }
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for action in &self.actions {
            write!(f, "{action}; ")?;
        }
        write!(f, "{}", self.phase)
    }
}

/// Decides what to do about one agent.
#[must_use]
pub fn decide(seen: &Snapshot, limits: &Limits) -> Plan {
    let mut plan = Plan { actions: Vec::new(), phase: Phase::Gone, look_again: None };
    // Before anything is released: the next holder of a task must not work beside
    // what the last one left running.
    plan.actions.extend(seen.leftovers.iter().copied().map(Action::Clear));
    let holder = decide_holder(seen, limits, &mut plan);
    for process in &seen.processes {
        if holder.is_none_or(|holder| holder.identity != process.identity) {
            decide_other(seen, holder, process, limits, &mut plan);
        }
    }
    plan.phase = match (&seen.declared, holder) {
        (Some(hash), Some(holder)) if *hash == holder.spec_hash => Phase::Running,
        (Some(_) | None, Some(_)) => Phase::Draining,
        (None, None) if seen.processes.is_empty() => Phase::Gone,
        (None, None) => Phase::Draining,
        (Some(_), None) if !seen.processes.is_empty() => Phase::Starting,
        (Some(_), None) if seen.start_in.is_zero() => {
            plan.actions.push(Action::Spawn);
            plan.wait(limits.register);
            Phase::Starting
        }
        (Some(_), None) => {
            plan.wait(seen.start_in);
            waiting(seen.deaths)
        }
    };
    plan
}

/// The phase of one that is not started yet, after so many deaths in a row.
pub(crate) const fn waiting(deaths: u32) -> Phase {
    if deaths >= CRASH_LOOP_DEATHS { Phase::CrashLoop } else { Phase::Restarting }
}

/// What becomes of the process that holds the name. `None` where nobody does, or
/// nobody will after this plan.
fn decide_holder<'a>(
    seen: &'a Snapshot,
    limits: &Limits,
    plan: &mut Plan,
) -> Option<&'a Registered> {
    let holder = seen.registered.as_ref()?;
    if !holder.alive {
        if !seen.leftovers.contains(&holder.incarnation) {
            plan.actions.push(Action::Clear(holder.incarnation));
        }
        plan.actions.push(Action::Bury(holder.incarnation, "its process ended"));
        return None;
    }
    let silent = holder.silent_for >= limits.ttl;
    if !silent {
        plan.wait(limits.ttl - holder.silent_for);
    }
    let Some(process) = seen.processes.iter().find(|p| p.identity == holder.identity) else {
        // On another host only its beat can tell.
        if silent {
            plan.actions.push(Action::Bury(holder.incarnation, SILENT_THERE));
            return None;
        }
        return Some(holder);
    };
    match (&seen.declared, process.asked) {
        (_, Some((Request::Kill, _))) => {}
        // Not SIGTERM: who does not beat does not listen either.
        _ if silent => {
            plan.actions.push(Action::Ask(process.identity, Request::Kill, Reason::Silent));
        }
        (None, _) | (Some(_), Some((Request::Terminate, _))) => {
            plan.end(process, limits, Reason::Undeclared);
        }
        (Some(hash), None) if *hash != holder.spec_hash => {
            plan.actions.push(Action::Ask(process.identity, Request::Retire, Reason::Changed));
        }
        (Some(_), None | Some((Request::Retire, _))) => {}
    }
    Some(holder)
}

/// What becomes of a process of the name that does not hold it: it may be about to
/// register, may have left, or may be one that was replaced.
fn decide_other(
    seen: &Snapshot,
    holder: Option<&Registered>,
    process: &Local,
    limits: &Limits,
    plan: &mut Plan,
) {
    let replaced = holder.is_some_and(|holder| {
        process.left.is_some()
            || holder.local && process.identity.start_time < holder.identity.start_time
    });
    if replaced {
        plan.end(process, limits, Reason::Replaced);
    } else if seen.declared.is_none() {
        plan.end(process, limits, Reason::Undeclared);
    } else {
        let (since, limit, why) = match process.left {
            // It gives its name back first and ends then.
            Some(left) => (left, limits.grace, Reason::Lingering),
            None => (process.age, limits.register, Reason::Unregistered),
        };
        match process.asked {
            None | Some((Request::Retire, _)) if since < limit => plan.wait(limit - since),
            None | Some(_) => plan.end(process, limits, why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        ttl: Duration::from_secs(30),
        register: Duration::from_secs(10),
        grace: Duration::from_secs(5),
    };
    const SECOND: Duration = Duration::from_secs(1);

    fn identity(pid: u32) -> Identity {
        Identity { pid, start_time: u64::from(pid) * 10 }
    }

    fn local(pid: u32) -> Local {
        Local { identity: identity(pid), age: SECOND, left: None, asked: None }
    }

    fn registered(pid: u32) -> Registered {
        Registered {
            incarnation: Incarnation(u64::from(pid)),
            identity: identity(pid),
            spec_hash: "a".into(),
            local: true,
            alive: true,
            silent_for: Duration::ZERO,
        }
    }

    fn declared() -> Snapshot {
        Snapshot { declared: Some("a".into()), ..Snapshot::default() }
    }

    fn healthy() -> Snapshot {
        Snapshot { registered: Some(registered(7)), processes: vec![local(7)], ..declared() }
    }

    fn plan(seen: &Snapshot) -> String {
        decide(seen, &LIMITS).to_string()
    }

    #[test]
    fn declared_agent_should_be_started_once() {
        assert_eq!(plan(&declared()), "spawn; starting");
        let starting = Snapshot { processes: vec![local(7)], ..declared() };
        assert_eq!(plan(&starting), "starting");
        assert_eq!(plan(&healthy()), "running");
    }

    #[test]
    fn dead_agent_should_be_buried_and_started_in_one_plan() {
        let mut seen = healthy();
        seen.processes.clear();
        seen.registered.as_mut().unwrap().alive = false;
        assert_eq!(plan(&seen), "clear 7; bury 7 (its process ended); spawn; starting");
        seen.start_in = SECOND;
        seen.deaths = 2;
        assert_eq!(plan(&seen), "clear 7; bury 7 (its process ended); restarting");
        seen.deaths = 3;
        assert_eq!(plan(&seen), "clear 7; bury 7 (its process ended); crash-loop");
        assert_eq!(decide(&seen, &LIMITS).look_again, Some(SECOND));
    }

    #[test]
    fn silent_agent_should_be_killed_where_it_is_ours_and_buried_where_not() {
        let mut seen = healthy();
        seen.registered.as_mut().unwrap().silent_for = LIMITS.ttl - SECOND;
        assert_eq!(plan(&seen), "running");
        assert_eq!(decide(&seen, &LIMITS).look_again, Some(SECOND));
        seen.registered.as_mut().unwrap().silent_for = LIMITS.ttl;
        assert_eq!(plan(&seen), "kill 7@70 (it fell silent); running");
        seen.processes.clear();
        seen.registered.as_mut().unwrap().local = false;
        assert_eq!(plan(&seen), "bury 7 (it fell silent on its host); spawn; starting");
    }

    #[test]
    fn changed_agent_should_retire_once_and_keep_its_task() {
        let mut seen = healthy();
        seen.declared = Some("b".into());
        assert_eq!(plan(&seen), "retire 7@70 (it is declared differently); draining");
        seen.processes[0].asked = Some((Request::Retire, SECOND * 3600));
        assert_eq!(plan(&seen), "draining");
    }

    #[test]
    fn removed_agent_should_be_terminated_and_killed_after_the_grace() {
        let mut seen = Snapshot { declared: None, ..healthy() };
        assert_eq!(plan(&seen), "terminate 7@70 (it is no longer declared); draining");
        seen.processes[0].asked = Some((Request::Terminate, SECOND));
        assert_eq!(plan(&seen), "draining");
        assert_eq!(decide(&seen, &LIMITS).look_again, Some(SECOND * 4));
        seen.processes[0].asked = Some((Request::Terminate, LIMITS.grace));
        assert_eq!(plan(&seen), "kill 7@70 (it is no longer declared); draining");
        seen.processes[0].asked = Some((Request::Kill, SECOND));
        assert_eq!(plan(&seen), "draining");
        assert_eq!(plan(&Snapshot::default()), "gone");
    }

    #[test]
    fn of_two_processes_the_newest_should_stay() {
        let mut seen = healthy();
        seen.processes.push(local(3));
        assert_eq!(plan(&seen), "terminate 3@30 (another process has its name); running");
        // A newer one is about to register.
        seen.processes[1] = local(9);
        assert_eq!(plan(&seen), "running");
        seen.processes[1].age = LIMITS.register;
        assert_eq!(plan(&seen), "terminate 9@90 (it did not register); running");
    }

    #[test]
    fn process_that_lost_its_name_should_be_ended_at_once() {
        let mut seen = healthy();
        // It started later than the holder, and registered earlier.
        seen.processes.push(Local { left: Some(Duration::ZERO), ..local(9) });
        assert_eq!(plan(&seen), "terminate 9@90 (another process has its name); running");
        // So it is where the holder is on another host.
        seen.registered.as_mut().unwrap().local = false;
        seen.processes.remove(0);
        assert_eq!(plan(&seen), "terminate 9@90 (another process has its name); running");
    }

    #[test]
    fn process_that_gave_its_name_back_should_have_the_grace_to_end() {
        let mut leaving = Local { left: Some(SECOND), ..local(7) };
        leaving.asked = Some((Request::Retire, SECOND * 60));
        let mut seen = Snapshot { processes: vec![leaving], ..declared() };
        assert_eq!(plan(&seen), "starting");
        assert_eq!(decide(&seen, &LIMITS).look_again, Some(SECOND * 4));
        seen.processes[0].left = Some(LIMITS.grace);
        assert_eq!(plan(&seen), "terminate 7@70 (it gave its name back and did not end); starting");
    }

    #[test]
    fn leftovers_should_be_cleared_before_anything_is_released_and_once() {
        let mut seen = healthy();
        seen.leftovers = vec![Incarnation(3), Incarnation(7)];
        assert_eq!(plan(&seen), "clear 3; clear 7; running");
        seen.processes.clear();
        seen.registered.as_mut().unwrap().alive = false;
        let expected = "clear 3; clear 7; bury 7 (its process ended); spawn; starting";
        assert_eq!(plan(&seen), expected);
    }

    #[test]
    fn killed_agent_should_not_be_killed_again() {
        let mut seen = healthy();
        seen.registered.as_mut().unwrap().silent_for = LIMITS.ttl;
        seen.processes[0].asked = Some((Request::Terminate, SECOND));
        assert_eq!(plan(&seen), "kill 7@70 (it fell silent); running");
        seen.processes[0].asked = Some((Request::Kill, SECOND));
        assert_eq!(plan(&seen), "running");
    }

    #[test]
    fn process_that_never_registers_should_be_ended_before_another_starts() {
        let mut seen = Snapshot { processes: vec![local(7)], ..declared() };
        seen.processes[0].age = LIMITS.register;
        assert_eq!(plan(&seen), "terminate 7@70 (it did not register); starting");
        seen.processes[0].asked = Some((Request::Terminate, LIMITS.grace));
        assert_eq!(plan(&seen), "kill 7@70 (it did not register); starting");
    }

    #[test]
    fn agent_of_another_host_should_be_left_alone_while_it_beats() {
        let mut seen = healthy();
        seen.processes.clear();
        seen.registered.as_mut().unwrap().local = false;
        assert_eq!(plan(&seen), "running");
    }
}
