//! The lease reaper: leases on one side, their living holders on the other.
//!
//! # Flow
//! Each resync reads all leases at once ([`store::Store::leases`], one HGETALL) and
//! notes for how long each pulse has stood still on our monotonic clock. Only what
//! could come due before the next resync becomes a key; its pass reads that one
//! lease again, and [`plan::decide`] says whether to leave it, to look again at the
//! moment it would be due, or to reap it. So a fleet of healthy holders costs one
//! command per resync, however many leases there are, and a silent one is reaped
//! when its time is over, not a resync later.
//!
//! # Guarantees
//! - A lease whose pulse has not changed for one TTL is reaped: its task goes back
//!   to READY, or to FAILED where it has cost too many agents.
//! - A lease whose pulse changes is never reaped, whatever any wall clock says: the
//!   script compares the pulse with the one that was judged before it acts.
//! - Nothing is reaped on the strength of time in which nobody looked. A gap between
//!   two looks of more than half a TTL (we were stopped, the virtual machine was
//!   paused, Redis was away) starts the count over, because holders may have been
//!   away with us or could not reach Redis either. A second look always comes first.
//! - Every write is fenced by the lead: a pass of who leads no more fails with
//!   [`store::Error::NotLeader`] and changes nothing.
//!
//! # Assumptions
//! Holders renew at least three times per TTL, so that one lost renewal costs
//! nothing. A reconciler lives for one term of leadership.
//!
//! # Caveats
//! A new leader has seen nothing yet: its count begins at its first sight of each
//! lease, so after a change of leader a dead holder's lease lasts up to one TTL
//! longer. A confirmed death need not wait for this: the agent controller buries the
//! incarnation, which ends its lease at once, and what is left to do here is nothing.
//!
//! # Not here
//! What becomes of a task that lost its holder. The store's script decides that.

mod act;
mod observe;
pub mod plan;

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::TaskId;
use model::lease::Pulse;
use reconcile::{Controller, Outcome, Stats, Unchanged, Waker};
use store::{Lead, Store};
use tokio::time::Instant;

/// How many times per TTL all leases are looked at, at least: below that, the gap
/// between two looks would count as time in which nobody looked.
const LOOKS_PER_TTL: u32 = 4;

/// How the reaper behaves.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// A lease whose pulse stands still for so long is reaped.
    pub ttl: Duration,
    /// The kit's settings. All leases are looked at once per resync, and at least
    /// four times per TTL where the resync is longer than that.
    pub kit: reconcile::Settings,
}

impl Settings {
    /// With a resync that comes often enough for one TTL.
    fn bounded(mut self) -> Self {
        self.kit.resync = self.kit.resync.min(self.ttl / LOOKS_PER_TTL);
        self
    }
}

/// The reaper for one term of leadership.
#[must_use]
pub fn controller(
    store: Store,
    lead: Lead,
    settings: Settings,
) -> (Controller<Reconciler>, Waker<TaskId>, Stats) {
    let settings = settings.bounded();
    reconcile::controller(reconciler(store, lead, settings), settings.kit)
}

/// The same without its loop, for one who decides himself when which pass runs.
#[must_use]
pub fn reconciler(store: Store, lead: Lead, settings: Settings) -> Reconciler {
    let Settings { ttl, kit } = settings.bounded();
    let pulses = Mutex::new(Unchanged::new(ttl / 2));
    Reconciler { store, lead, ttl, look_every: kit.resync, pulses }
}

/// The pulse of each lease.
type Pulses = Unchanged<TaskId, Pulse>;

/// Reconciles one lease at a time; see the crate's documentation.
pub struct Reconciler {
    store: Store,
    lead: Lead,
    ttl: Duration,
    look_every: Duration,
    pulses: Mutex<Pulses>,
}

impl Reconciler {
    /// Locks even after a panic: each change of what was seen is one call.
    fn pulses(&self) -> MutexGuard<'_, Pulses> {
        self.pulses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl reconcile::Reconciler for Reconciler {
    type Key = TaskId;
    type Error = store::Error;

    fn name(&self) -> &'static str {
        "lease"
    }

    /// Only leases that could come due before the next listing.
    async fn keys(&self) -> Result<Vec<TaskId>, store::Error> {
        let asked = Instant::now();
        let leases = self.store.leases().await?;
        let answered = Instant::now();
        let held: BTreeSet<&TaskId> = leases.iter().map(|(task, _)| task).collect();
        let mut pulses = self.pulses();
        pulses.retain(|task| held.contains(task));
        let soon = self.ttl.saturating_sub(self.look_every);
        let due = leases.iter().filter(|(task, pulse)| {
            let silent = pulses.look(task.clone(), *pulse, asked, answered);
            silent.is_some_and(|silent| silent >= soon)
        });
        Ok(due.map(|(task, _)| task.clone()).collect())
    }

    async fn reconcile(&self, task: &TaskId) -> Result<Outcome, store::Error> {
        let snapshot = self.observe(task).await?;
        let plan = plan::decide(&snapshot, self.ttl);
        tracing::trace!(%plan, "lease is judged");
        self.carry_out(task, &plan).await
    }
}
