//! Who acts: at most one process at a time for each controller.
//!
//! The lead is a lease like a task's: its epoch goes with every write, so a leader
//! that was stopped and goes on changes nothing. That the holder is gone is known at
//! once where it ran on this host, and else after its beat stood still for
//! [`LEADER_TTL`] on our own clock.

use std::time::Duration;

use model::lease::{Epoch, Pulse};
use process::{Exit, Identity};
use reconcile::{CancellationToken, Unchanged};
use store::Store;
use store::lead::{Answer, Candidate, Controller, Leader};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::report::Standby;

/// How long a leader's beat may stand still.
const LEADER_TTL: Duration = Duration::from_millis(1_500);
/// The same for a leader whose process we see living on this host: it is merely slow.
const LIVING_LEADER_TTL: Duration = Duration::from_millis(4_500);
/// How often the leader beats.
const BEAT: Duration = Duration::from_millis(400);
/// How often who stands by looks.
const LOOK: Duration = Duration::from_millis(250);
/// For how long a standby's word holds.
const STANDBY_TTL: Duration = Duration::from_secs(3);

/// One process's part in the election.
pub(crate) struct Election {
    store: Store,
    candidate: Candidate,
    controllers: Vec<Controller>,
}

impl Election {
    pub(crate) fn new(
        store: Store,
        this: Identity,
        host: &str,
        controllers: &[Controller],
    ) -> Self {
        let candidate = Candidate {
            holder: format!("{host}-{}-{}", this.pid, this.start_time),
            pid: this.pid,
            start_time: this.start_time,
            host: host.to_owned(),
        };
        Self { store, candidate, controllers: controllers.to_vec() }
    }

    /// This process, as others see it.
    pub(crate) const fn candidate(&self) -> &Candidate {
        &self.candidate
    }

    /// Waits until this process leads. `None` where `cancel` came first.
    pub(crate) async fn win(&self, cancel: &CancellationToken) -> Option<Epoch> {
        let mut pulses = Unchanged::new(LEADER_TTL / 2);
        let mut dead: Vec<(Controller, Pulse)> = Vec::new();
        let mut standing_by: Option<Standby> = None;
        while !cancel.is_cancelled() {
            let asked = Instant::now();
            match self.store.lead(&self.candidate, &self.controllers, &dead).await {
                Ok(Answer::Held(epoch)) => {
                    if standing_by.is_some() {
                        _ = self.store.end_standby(&self.candidate.holder).await;
                    }
                    tracing::info!(target: "orchestrator", %epoch, "Leading");
                    return Some(epoch);
                }
                Ok(Answer::Standby(leader)) => {
                    let still = pulses
                        .look(leader.controller, leader.pulse, asked, Instant::now())
                        .unwrap_or_default();
                    let patience = match self.local(&leader) {
                        Some(process) if !process.is_alive() => Duration::ZERO,
                        Some(_) => LIVING_LEADER_TTL,
                        None => LEADER_TTL,
                    };
                    if still >= patience {
                        dead.retain(|(controller, _)| *controller != leader.controller);
                        dead.push((leader.controller, leader.pulse));
                        continue;
                    }
                    self.say_standby(&leader, &mut standing_by).await;
                    self.wait_for(&leader, cancel).await;
                }
                Err(error) => {
                    tracing::warn!(target: "orchestrator",
                        error = reconcile::error_chain(&error), "Cannot ask for the lead");
                    sleep(LOOK).await;
                }
            }
        }
        _ = self.store.end_standby(&self.candidate.holder).await;
        None
    }

    /// Keeps the lead until it is lost or `cancel` comes. Whether it was lost.
    pub(crate) async fn keep(&self, epoch: Epoch, cancel: &CancellationToken) -> bool {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return false,
                _ = beat.tick() => {}
            }
            match self.store.lead(&self.candidate, &self.controllers, &[]).await {
                Ok(Answer::Held(same)) if same == epoch => {}
                Ok(Answer::Held(_)) => {
                    tracing::warn!(target: "orchestrator", "Redis forgot who leads; starting over");
                    return true;
                }
                Ok(Answer::Standby(leader)) => {
                    tracing::warn!(target: "orchestrator", by = leader.who.holder, "Lost the lead");
                    return true;
                }
                // Whoever leads meanwhile fences us; till then there is nothing to do.
                Err(error) => {
                    tracing::warn!(target: "orchestrator",
                        error = reconcile::error_chain(&error), "Cannot keep the lead")
                }
            }
        }
    }

    /// Lets another process lead at once.
    pub(crate) async fn resign(&self) {
        if let Err(error) = self.store.resign(&self.candidate, &self.controllers).await {
            tracing::warn!(target: "orchestrator",
                error = reconcile::error_chain(&error), "Cannot resign");
        }
    }

    fn local(&self, leader: &Leader) -> Option<Identity> {
        let same_host = leader.who.host == self.candidate.host;
        same_host.then_some(Identity { pid: leader.who.pid, start_time: leader.who.start_time })
    }

    /// Until it is time to look again, or the leader's process ends.
    async fn wait_for(&self, leader: &Leader, cancel: &CancellationToken) {
        let exit = async {
            match self.local(leader).and_then(|process| Exit::watch(process).ok()) {
                Some(exit) => _ = exit.wait().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = cancel.cancelled() => {}
            _ = timeout(LOOK, exit) => {}
        }
    }

    async fn say_standby(&self, leader: &Leader, standing_by: &mut Option<Standby>) {
        let standby = standing_by.get_or_insert_with(|| {
            tracing::info!(target: "orchestrator", leader = leader.who.holder, "Standing by");
            Standby {
                holder: self.candidate.holder.clone(),
                pid: self.candidate.pid,
                host: self.candidate.host.clone(),
                since: jiff::Timestamp::now(),
            }
        });
        let ttl = u64::try_from(STANDBY_TTL.as_millis()).unwrap_or(u64::MAX);
        let json = serde_json::json!(standby).to_string();
        if let Err(error) = self.store.report_standby(&self.candidate.holder, &json, ttl).await {
            tracing::debug!(target: "orchestrator",
                error = reconcile::error_chain(&error), "Cannot say that this process stands by");
        }
    }
}
