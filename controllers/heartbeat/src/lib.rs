//! The heartbeat controller: heartbeat files on one side, what they ask for on the
//! other; and whether each agent still beats.
//!
//! # Flow
//! The key is an agent's name: each has one heartbeat file. A pass reads the file,
//! what was consumed of it, and the agent's record; [`plan::decide`] says which lines
//! a person has added and how the agent does; the rest applies the lines, one script
//! call each, records the liveness where it changed, and brings the file of answers
//! (`<name>.ack.md` beside the heartbeat file) up to date. Passes are woken by changes
//! of the files' folders and by the resync, which looks at all declared agents and all
//! that are registered, and lists those for which there may be something to do.
//!
//! # Guarantees
//! - Each line that a person adds is applied exactly once, in the order of the file,
//!   whether it is appended, or the file is rewritten, truncated or saved by rename.
//!   Applying a line and recording that it was consumed are one script, guarded by
//!   the version that was read: a crash, a lost reply or another leader between any
//!   two steps neither repeats nor loses one.
//! - A line that is no directive is answered too, with what to write instead.
//! - A last line without line end is taken once it has stayed as it is for 2 s.
//! - The heartbeat file is never written or created: it is the human's.
//! - The file of answers follows from what Redis holds, is written whole or not at
//!   all, and only when its content differs. A pass after a crash writes what is
//!   missing. What cannot be written does not undo a directive.
//! - A file that cannot be read (a FIFO, too large, outside the project, not UTF-8)
//!   stops nothing else: the reason stands in [`Problems`].
//! - An agent's liveness changes only by what we saw ourselves: a gap between two
//!   looks of more than half a TTL (we were stopped, or Redis was away) starts the
//!   count over.
//!
//! # Assumptions
//! Paths in declarations are absolute. A reconciler lives for one term of leadership;
//! [`Problems`] may live longer.
//!
//! # Caveats
//! - What was consumed is known per agent and for one path. A file under another path
//!   is new: all of its lines are applied. So are they again when Redis lost its data.
//! - A line that is taken out and put in again, with a pass in between, is a new line.
//!   A file that is written with the content it had asks for nothing.
//! - A program that rewrites a file in place can be seen half-way. Lines count as gone
//!   only when the file has stayed as it is for 100 ms, or has kept changing for 2 s.
//! - Comparing a file of tens of thousands of lines in a new order can keep a thread
//!   busy for up to 2 s.
//!
//! # Not here
//! What a directive does: the store's script. What follows from `REPARSE`: the DAG
//! controller, which sees the goal's counter. Ending agents that fell silent: the
//! agent controller.

mod ack;
mod act;
mod observe;
pub mod plan;
mod problems;
mod settled;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{AgentName, Declared};
use reconcile::{Controller, Outcome, Stats, Unchanged, Waker};
use store::agent::Incarnation;
use store::{Lead, Store};
use tokio::sync::watch;
use tokio::time::Instant;

pub use crate::problems::Problems;

use crate::plan::Liveness;
use crate::settled::Settled;

/// How many times per TTL each agent is looked at, at least: below that, the gap
/// between two looks would count as time in which nobody looked.
const LOOKS_PER_TTL: u32 = 4;

/// How the controller behaves.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// An agent whose beat stands still for so long is silent.
    pub ttl: Duration,
    /// The kit's settings. All agents are looked at once per resync, and at least
    /// four times per TTL where the resync is longer than that.
    pub kit: reconcile::Settings,
}

/// The controller for one term of leadership. What is wrong with the files of which
/// agent is kept in `problems`, which begins empty.
#[must_use]
pub fn controller(
    store: Store,
    project_root: PathBuf,
    declared: watch::Receiver<Arc<Declared>>,
    problems: Problems,
    lead: Lead,
    settings: Settings,
) -> (Controller<Reconciler>, Waker<AgentName>, Stats) {
    let mut kit = settings.kit;
    kit.resync = kit.resync.min(settings.ttl / LOOKS_PER_TTL);
    let ttl = settings.ttl;
    reconcile::controller(reconciler(store, project_root, declared, problems, lead, ttl), kit)
}

/// The same without its loop, for one who decides himself when which pass runs.
#[must_use]
pub fn reconciler(
    store: Store,
    project_root: PathBuf,
    declared: watch::Receiver<Arc<Declared>>,
    problems: Problems,
    lead: Lead,
    ttl: Duration,
) -> Reconciler {
    problems.retain(|_| false);
    let memory = Mutex::new(Memory {
        beats: Unchanged::new(ttl / 2),
        beating: BTreeSet::new(),
        texts: Unchanged::new(Duration::MAX),
        postponed: BTreeMap::new(),
        settled: BTreeMap::new(),
    });
    Reconciler { store, project_root, declared, problems, lead, ttl, memory }
}

/// Reconciles one agent's heartbeat at a time; see the crate's documentation.
pub struct Reconciler {
    store: Store,
    project_root: PathBuf,
    declared: watch::Receiver<Arc<Declared>>,
    problems: Problems,
    lead: Lead,
    ttl: Duration,
    memory: Mutex<Memory>,
}

/// What only time shows. Losing it costs a delay.
struct Memory {
    /// Of each agent's registration.
    beats: Unchanged<AgentName, (Incarnation, u64)>,
    /// Whose beat we have seen change, less than one TTL ago.
    beating: BTreeSet<AgentName>,
    /// Fingerprint of each heartbeat file's text.
    texts: Unchanged<AgentName, u64>,
    /// Since when lines are held back because the file may be half-way rewritten.
    postponed: BTreeMap<AgentName, Instant>,
    /// Of whose files nothing was left to do, and what they and Redis were then.
    settled: BTreeMap<AgentName, Settled>,
}

impl Reconciler {
    /// Locks even after a panic: each change is one call.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl reconcile::Reconciler for Reconciler {
    type Key = AgentName;
    type Error = store::Error;

    fn name(&self) -> &'static str {
        "heartbeat"
    }

    /// Only those for which there may be something to do: one listing and one look at each
    /// file say so.
    async fn keys(&self) -> Result<Vec<AgentName>, store::Error> {
        let asked = Instant::now();
        let agents = self.store.agents().await?;
        let answered = Instant::now();
        let mut keys: BTreeSet<AgentName> = self.declared.borrow().agents.keys().cloned().collect();
        let is_listed = |agent: &store::agent::Agent| {
            let recorded = Liveness::recorded(agent);
            keys.contains(&agent.name)
                || agent.registered.is_some()
                || recorded.is_some_and(|is| is != Liveness::Gone)
        };
        let agents: Vec<store::agent::Agent> = agents.into_iter().filter(is_listed).collect();
        keys.extend(agents.iter().map(|agent| agent.name.clone()));
        {
            let mut memory = self.memory();
            memory.beats.retain(|agent| keys.contains(agent));
            memory.beating.retain(|agent| keys.contains(agent));
            memory.texts.retain(|agent| keys.contains(agent));
            memory.postponed.retain(|agent, _| keys.contains(agent));
            memory.settled.retain(|agent, _| keys.contains(agent));
            self.problems.retain(|agent| keys.contains(agent));
        }
        let prints = self.prints().await;
        for agent in &agents {
            let sign = self.judge(&agent.name, agent.registered.as_ref(), asked, answered);
            let recorded = Liveness::recorded(agent);
            let liveness = plan::liveness(sign, recorded, self.ttl);
            let is_right = liveness.is_none() || liveness == recorded;
            if is_right && self.is_settled(agent, prints.get(&agent.name)) {
                keys.remove(&agent.name);
            }
        }
        Ok(keys.into_iter().collect())
    }

    async fn reconcile(&self, agent: &AgentName) -> Result<Outcome, store::Error> {
        let declared = self.declared.borrow().clone();
        let snapshot = self.observe(agent, &declared).await?;
        let plan = plan::decide(&snapshot, self.ttl);
        tracing::trace!(%plan, "heartbeat is judged");
        self.carry_out(&declared, &snapshot, &plan).await
    }
}
