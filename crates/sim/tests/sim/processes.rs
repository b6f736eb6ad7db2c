//! The processes of the simulated host: what its kernel and its systemg know.

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent_controller::Processes;
use model::AgentName;
use process::{Identity, Signal};
use supervisor::{Error, SpawnRequest, Supervisor};

/// The first pid. There are few, so that they are soon used again.
const FIRST_PID: u32 = 100;
/// How many pids there are.
const PIDS: u32 = 24;

/// What is asked of an agent's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asked {
    /// SIGUSR1.
    Retire,
    /// SIGTERM.
    Leave,
}

/// One process.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) identity: Identity,
    /// What it was started with; none for an orchestrator.
    pub(crate) request: Option<SpawnRequest>,
    /// What it was asked and has not obeyed.
    pub(crate) asked: Option<Asked>,
    /// It ends only by SIGKILL.
    pub(crate) stubborn: bool,
    /// It got a SIGTERM, whatever it made of it.
    is_warned: bool,
}

/// What the agent controller did that it should not.
#[derive(Debug, Clone)]
pub(crate) enum Deed {
    /// It killed a process without having asked it to leave.
    Killed(String, Identity),
    /// It started a process though one of that name lived.
    Doubled(String, Identity),
}

/// How the next start of a process goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpawnFault {
    /// It is started, and nobody is told.
    TimesOut,
    /// It is not started.
    Refused,
    /// It is started and dies at once.
    DiesAtOnce,
}

#[derive(Default)]
struct Inner {
    alive: BTreeMap<u32, Process>,
    next_pid: u32,
    ticks: u64,
    /// Started and not seen by the simulation.
    born: Vec<u32>,
    /// Ended and not seen by the simulation.
    dead: Vec<Process>,
    deeds: Vec<Deed>,
    spawn_fault: Option<SpawnFault>,
    next_is_stubborn: bool,
}

/// All processes. Clones are the same table.
#[derive(Clone, Default)]
pub(crate) struct Table(Arc<Mutex<Inner>>);

impl Table {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a process by hand; one with a request is an agent's.
    pub(crate) fn start(&self, request: Option<SpawnRequest>) -> Identity {
        self.inner().start(request, true)
    }

    pub(crate) fn end(&self, pid: u32) {
        self.inner().end(pid);
    }

    pub(crate) fn get(&self, pid: u32) -> Option<Process> {
        self.inner().alive.get(&pid).cloned()
    }

    /// All that live, by pid.
    pub(crate) fn all(&self) -> Vec<Process> {
        self.inner().alive.values().cloned().collect()
    }

    pub(crate) fn born(&self) -> Vec<u32> {
        std::mem::take(&mut self.inner().born)
    }

    pub(crate) fn dead(&self) -> Vec<Process> {
        std::mem::take(&mut self.inner().dead)
    }

    pub(crate) fn deeds(&self) -> Vec<Deed> {
        std::mem::take(&mut self.inner().deeds)
    }

    pub(crate) fn fail_spawn(&self, fault: Option<SpawnFault>) {
        self.inner().spawn_fault = fault;
    }

    pub(crate) fn make_stubborn(&self) {
        self.inner().next_is_stubborn = true;
    }
}

impl Inner {
    fn start(&mut self, request: Option<SpawnRequest>, by_hand: bool) -> Identity {
        let free = (0..PIDS)
            .map(|n| FIRST_PID + (self.next_pid + n) % PIDS)
            .find(|pid| !self.alive.contains_key(pid));
        let pid = free.expect("fewer processes than pids");
        self.next_pid = (pid - FIRST_PID + 1) % PIDS;
        self.ticks += 1;
        let identity = Identity { pid, start_time: self.ticks };
        let stubborn = request.is_some() && std::mem::take(&mut self.next_is_stubborn);
        if let Some(request) = &request {
            self.born.push(pid);
            let name = &request.name;
            let same = |other: &&Process| other.request.as_ref().is_some_and(|r| r.name == *name);
            if let Some(other) = self.alive.values().find(same).filter(|_| !by_hand) {
                self.deeds.push(Deed::Doubled(name.clone(), other.identity));
            }
        }
        let process = Process { identity, request, asked: None, stubborn, is_warned: false };
        self.alive.insert(pid, process);
        identity
    }

    fn end(&mut self, pid: u32) {
        if let Some(process) = self.alive.remove(&pid) {
            // The next process may well have its pid.
            self.next_pid = pid - FIRST_PID;
            self.dead.push(process);
        }
    }
}

/// What an agent was started as.
pub(crate) fn value<'a>(request: &'a SpawnRequest, name: &str) -> &'a str {
    let at = request.args.iter().position(|arg| arg == name).expect("an argument");
    &request.args[at + 1]
}

impl Supervisor for Table {
    async fn spawn(&self, request: &SpawnRequest) -> Result<Identity, Error> {
        let mut inner = self.inner();
        match inner.spawn_fault.take() {
            None => Ok(inner.start(Some(request.clone()), false)),
            Some(SpawnFault::TimesOut) => {
                inner.start(Some(request.clone()), false);
                let after = std::time::Duration::from_secs(5);
                Err(Error::TimedOut { action: "start".to_owned(), after })
            }
            Some(SpawnFault::Refused) => Err(Error::SpawnRate { name: request.name.clone() }),
            Some(SpawnFault::DiesAtOnce) => {
                let identity = inner.start(Some(request.clone()), false);
                inner.end(identity.pid);
                Ok(identity)
            }
        }
    }
}

impl Processes for Table {
    fn of(&self, pid: u32) -> io::Result<Option<Identity>> {
        Ok(self.inner().alive.get(&pid).map(|process| process.identity))
    }

    async fn find(&self, fleet: &str) -> io::Result<Vec<(AgentName, Identity)>> {
        let inner = self.inner();
        let found = inner.alive.values().filter_map(|process| {
            let request = process.request.as_ref()?;
            let ours = value(request, agent_controller::arguments::FLEET) == fleet;
            let name = value(request, agent_controller::arguments::AGENT_NAME);
            ours.then(|| (AgentName::new(name).expect("an agent's name"), process.identity))
        });
        Ok(found.collect())
    }

    fn signal(&self, process: &Identity, signal: Signal) -> io::Result<bool> {
        let mut inner = self.inner();
        let Some(found) = inner.alive.get_mut(&process.pid).filter(|p| p.identity == *process)
        else {
            return Ok(false);
        };
        if signal == Signal::TERM {
            found.is_warned = true;
        }
        if signal == Signal::KILL {
            if let Some(request) = found.request.as_ref().filter(|_| !found.is_warned) {
                let deed = Deed::Killed(request.name.clone(), *process);
                inner.deeds.push(deed);
            }
            inner.end(process.pid);
        } else if !found.stubborn {
            let asked = if signal == Signal::USR1 { Asked::Retire } else { Asked::Leave };
            found.asked = found.asked.max(Some(asked));
        }
        Ok(true)
    }

    /// The simulation wakes the controller itself, or does not.
    fn exit(
        &self,
        _: Identity,
    ) -> io::Result<impl Future<Output = io::Result<()>> + Send + 'static> {
        Ok(pending())
    }

    async fn end_attempts(&self, _: String) -> io::Result<usize> {
        Ok(0)
    }
}
