//! The agent controller: declared agents on one side, their processes on the other.
//!
//! # Flow
//! A pass reads what is declared of one agent, what Redis says of it, and whether
//! its processes live; [`plan::decide`] says what follows; the rest carries it out.
//! Passes are woken by the end of a process (pidfd), by registrations, by changed
//! declarations, and by the resync, which also searches `/proc` for processes that
//! nobody remembers.
//!
//! # Guarantees
//! - A declared agent is started, and started again whenever its process ends: at
//!   once the first time, then after 0.25 s doubling to 60 s; never given up.
//! - What a dead agent held is released before the next one starts, and what its
//!   attempt left running is ended before that.
//! - Of two processes of one name the newest incarnation stays.
//! - A living agent of an earlier term is adopted, whoever started it.
//! - A signal reaches only the process whose start time matches.
//! - Whoever leads no more starts and ends nothing: before each action that Redis does
//!   not see there is a write that it refuses.
//! - No agent is silent on the strength of time in which nobody looked.
//!
//! # Assumptions
//! The agents' command line carries [`arguments::FLEET`] and
//! [`arguments::AGENT_NAME`]. All agents that are to be started run on this host;
//! agents of other hosts are left alone while they beat.
//!
//! # Caveats
//! A leader that is stopped right between being allowed to start a process and doing
//! so can start a second one of that name. The older of the two is then fenced, and
//! ended. In the same way one that is stopped in the middle can end an agent that the
//! next leader would have kept; that one is then replaced.
//!
//! # Not here
//! Tasks. That a task needs another attempt is the store's business.

mod act;
pub mod arguments;
pub mod attempt;
mod drain;
mod memory;
mod observe;
pub mod plan;
mod processes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use model::agent::Phase;
use model::{AgentName, AgentSpec, Declared};
use process::Identity;
use reconcile::{Controller, Outcome, Policy, Stats, Unchanged, Waker};
use store::agent::Incarnation;
use store::{Lead, Store};
use supervisor::{SpawnRequest, Supervisor};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

pub use drain::drain;
pub use processes::{Kernel, Processes};

use crate::memory::Memory;
use crate::plan::{Limits, decide};

/// How many times per TTL all agents are looked at, at least: below that, the gap
/// between two looks would count as time in which nobody looked.
const LOOKS_PER_TTL: u32 = 4;

/// Why a pass failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state could not be read or written.
    #[error("reading or writing the agent's state")]
    Store(#[from] store::Error),
    /// The kernel's list of processes could not be read.
    #[error("looking for processes of the fleet in /proc")]
    Processes {
        /// What the system said.
        source: std::io::Error,
    },
    /// A process could not be signalled.
    #[error("sending a signal to process {process}")]
    Signal {
        /// Which.
        process: Identity,
        /// What the system said.
        source: std::io::Error,
    },
}

/// How to start the process of an agent.
pub type Command = Arc<dyn Fn(&AgentSpec) -> SpawnRequest + Send + Sync>;

/// What the controller works with.
pub struct Parts<S, P = Kernel> {
    /// The shared state.
    pub store: Store,
    /// What starts processes.
    pub supervisor: S,
    /// The processes of this host.
    pub processes: P,
    /// What is declared.
    pub declared: watch::Receiver<Arc<Declared>>,
    /// What tells this project's processes from another's.
    pub fleet: String,
    /// This host, as agents name it when they register.
    pub host: String,
    /// How to start an agent.
    pub command: Command,
}

/// How the controller behaves.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The bounds of [`plan::decide`].
    pub limits: Limits,
    /// How a crashing agent is slowed down.
    pub respawn: Policy,
    /// The kit's settings. All agents are looked at once per resync, and at least four
    /// times per TTL where the resync is longer than that.
    pub kit: reconcile::Settings,
}

/// The controller for one term of leadership.
#[must_use]
pub fn controller<S: Supervisor, P: Processes>(
    parts: Parts<S, P>,
    lead: Lead,
    settings: Settings,
) -> (Controller<Reconciler<S, P>>, Waker<AgentName>, Stats) {
    let reconciler = reconciler(parts, lead, settings);
    let (kit, waker) = (reconciler.settings.kit, Arc::clone(&reconciler.waker));
    let (controller, ours, stats) = reconcile::controller(reconciler, kit);
    // Nothing else sets it.
    _ = waker.set(ours.clone());
    (controller, ours, stats)
}

/// The same without its loop, for one who decides himself when which pass runs: nothing
/// but the next pass notices that a process has ended.
#[must_use]
pub fn reconciler<S: Supervisor, P: Processes>(
    parts: Parts<S, P>,
    lead: Lead,
    mut settings: Settings,
) -> Reconciler<S, P> {
    let ttl = settings.limits.ttl;
    settings.kit.resync = settings.kit.resync.min(ttl / LOOKS_PER_TTL);
    Reconciler {
        parts,
        lead,
        settings,
        waker: Arc::default(),
        memories: Mutex::default(),
        beats: Mutex::new(Unchanged::new(ttl / 2)),
    }
}

/// What of a registration changes while its process is well.
type Beats = Unchanged<AgentName, (Incarnation, u64)>;

/// Reconciles one agent at a time; see the crate's documentation.
pub struct Reconciler<S, P = Kernel> {
    parts: Parts<S, P>,
    lead: Lead,
    settings: Settings,
    waker: Arc<OnceLock<Waker<AgentName>>>,
    memories: Mutex<BTreeMap<AgentName, Memory>>,
    beats: Mutex<Beats>,
}

impl<S: Supervisor, P: Processes> Reconciler<S, P> {
    fn memories(&self) -> MutexGuard<'_, BTreeMap<AgentName, Memory>> {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn beats(&self) -> MutexGuard<'_, Beats> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_memory(&self) -> Memory {
        Memory::new(self.settings.respawn)
    }

    /// Remembers a process that was found, while it lives.
    fn found(&self, name: &AgentName, process: Identity) {
        let mut memories = self.memories();
        if memories.get(name).is_some_and(|memory| memory.knows(&process)) {
            return;
        }
        // Looked at while locked: what was seen dead is forgotten under this lock, and
        // must not come back to die a second time.
        if self.parts.processes.is_alive(&process) {
            self.remember(&mut memories, name, process);
        }
    }

    /// Remembers a process that was just started; it may have died since.
    fn started(&self, name: &AgentName, process: Identity) {
        self.remember(&mut self.memories(), name, process).started();
    }

    /// Wakes the key of `name` when the process ends.
    fn remember<'a>(
        &self,
        memories: &'a mut BTreeMap<AgentName, Memory>,
        name: &AgentName,
        process: Identity,
    ) -> &'a mut Memory {
        let memory = memories.entry(name.clone()).or_insert_with(|| self.new_memory());
        if !memory.knows(&process) {
            memory.sight(process, self.watch(name, process), Instant::now());
        }
        memory
    }

    /// Without a watch (no file descriptor is left) the resync notices the end.
    fn watch(&self, name: &AgentName, process: Identity) -> Option<AbortOnDropHandle<()>> {
        let exit = self
            .parts
            .processes
            .exit(process)
            .inspect_err(|error| {
                tracing::warn!(target: "orchestrator", agent = %name, %process, %error, "Process is not watched");
            })
            .ok()?;
        let (name, waker) = (name.clone(), Arc::clone(&self.waker));
        let wait = async move {
            if exit.await.is_ok()
                && let Some(waker) = waker.get()
            {
                waker.wake(name);
            }
        };
        Some(AbortOnDropHandle::new(tokio::spawn(wait)))
    }
}

impl<S: Supervisor, P: Processes> reconcile::Reconciler for Reconciler<S, P> {
    type Key = AgentName;
    type Error = Error;

    fn name(&self) -> &'static str {
        "agent"
    }

    /// Only those for which there is something to do: one round trip looks at all.
    async fn keys(&self) -> Result<Vec<AgentName>, Error> {
        let mut unknown: BTreeSet<AgentName> = self.find_processes().await?;
        unknown.extend(self.parts.declared.borrow().agents.keys().cloned());
        let began = Instant::now();
        let records = self.parts.store.agents().await?;
        let listed: BTreeSet<AgentName> =
            records.iter().map(|record| record.name.clone()).collect();
        self.beats().retain(|name| listed.contains(name));
        let mut due = Vec::new();
        for record in records {
            let name = record.name.clone();
            unknown.remove(&name);
            let noted = record.status.phase;
            let plan = decide(&self.interpret(record, began).snapshot, &self.settings.limits);
            let soon = plan.look_again.is_some_and(|delay| delay < self.settings.kit.resync);
            if !plan.actions.is_empty() || noted != Some(plan.phase) || soon {
                due.push(name);
            }
        }
        self.memories().retain(|_, memory| !memory.is_idle());
        due.extend(unknown);
        Ok(due)
    }

    async fn reconcile(&self, name: &AgentName) -> Result<Outcome, Error> {
        let observed = self.observe(name).await?;
        let plan = decide(&observed.snapshot, &self.settings.limits);
        let done = self.carry_out(&observed.record, &plan).await?;
        let outcome = if done.acted { Outcome::acted() } else { Outcome::unchanged() };
        // A start that failed sets a delay that the plan did not know yet.
        let wait = match done.phase {
            Phase::Restarting | Phase::CrashLoop => {
                self.memories().get(name).map(|memory| memory.start_in(Instant::now()))
            }
            Phase::Pending | Phase::Starting | Phase::Running | Phase::Draining | Phase::Gone => {
                None
            }
        };
        Ok([plan.look_again, wait].into_iter().flatten().fold(outcome, Outcome::again_after))
    }
}
