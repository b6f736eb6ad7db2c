//! The agent's link to Redis, beside its work: signs of life, lease renewal, wakes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::TaskId;
use model::lease::Epoch;
use store::Store;
use store::agent::{Beat, Control, Doing, Incarnation};
use store::task::Grant;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::settings::Agent;

/// Wait after a failed read of the inbox.
const INBOX_AGAIN: Duration = Duration::from_millis(200);
/// Wait after a failed sign of life.
const BEAT_AGAIN: Duration = Duration::from_millis(200);

/// Why the agent ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Leaving {
    /// Asked to finish its task first.
    Retired,
    /// Told to stop.
    Stopped,
    /// Redis was not heard of for one TTL.
    CutOff,
    /// Another process has its name.
    Fenced,
}

impl Leaving {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Retired => "declared differently",
            Self::Stopped => "told to stop",
            Self::CutOff => "Redis was away for too long",
            Self::Fenced => "another process has this agent's name",
        }
    }
}

/// A handle on the link. Clones share it.
#[derive(Clone)]
pub(super) struct Link(Arc<Shared>);

struct Shared {
    settings: Arc<Agent>,
    incarnation: Incarnation,
    state: Mutex<State>,
    /// There may be work, or something to obey.
    wake: Notify,
    /// A sign of life is due now.
    beat_now: Notify,
    /// The present task is to be handed back.
    stopped: CancellationToken,
}

struct State {
    leaving: Option<Leaving>,
    holding: Option<Holding>,
    /// There is nothing to do until a wake.
    waits: bool,
    control: Control,
    /// When Redis last answered.
    heard: Instant,
}

struct Holding {
    task: TaskId,
    epoch: Epoch,
    lost: CancellationToken,
}

/// What goes on beside the agent's work. It ends when this is dropped: an agent within the
/// process of others is not all of it.
pub(super) type Beside = [AbortOnDropHandle<()>; 2];

impl Link {
    pub(super) fn start(
        store: &Store,
        settings: &Arc<Agent>,
        incarnation: Incarnation,
        control: Control,
    ) -> Result<(Self, Beside), store::Error> {
        let state =
            State { leaving: None, holding: None, waits: false, control, heard: Instant::now() };
        let link = Self(Arc::new(Shared {
            settings: Arc::clone(settings),
            incarnation,
            state: Mutex::new(state),
            wake: Notify::new(),
            beat_now: Notify::new(),
            stopped: CancellationToken::new(),
        }));
        let listening = tokio::spawn(link.clone().listen(store.waiting()?));
        let beating = tokio::spawn(link.clone().beat(store.clone()));
        Ok((link, [listening, beating].map(AbortOnDropHandle::new)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task is being run from now on. The token says that it is no longer ours.
    pub(super) fn begin(&self, grant: &Grant) -> CancellationToken {
        let lost = CancellationToken::new();
        self.state().holding =
            Some(Holding { task: grant.task.clone(), epoch: grant.epoch, lost: lost.clone() });
        lost
    }

    /// No task is being run.
    pub(super) fn end(&self) {
        self.state().holding = None;
    }

    /// The token that says: hand the task back.
    pub(super) fn stopped(&self) -> CancellationToken {
        self.0.stopped.clone()
    }

    pub(super) fn leaving(&self) -> Option<Leaving> {
        self.state().leaving
    }

    pub(super) fn control(&self) -> Control {
        self.state().control.clone()
    }

    /// Whether Redis has not been heard of for so long that nothing can be ours.
    pub(super) fn is_cut_off(&self) -> bool {
        self.leaving().is_some_and(|why| why >= Leaving::CutOff)
    }

    /// Ends the agent; a graver reason replaces a milder one.
    pub(super) fn leave(&self, why: Leaving) {
        let mut state = self.state();
        state.leaving = state.leaving.max(Some(why));
        if why >= Leaving::CutOff
            && let Some(holding) = &state.holding
        {
            holding.lost.cancel();
        }
        if why == Leaving::Stopped {
            self.0.stopped.cancel();
        }
        self.0.wake.notify_one();
    }

    /// Waits for a wake, for `limit` at most.
    pub(super) async fn wait_for_wake(&self, limit: Duration) {
        _ = timeout(limit, self.0.wake.notified()).await;
    }

    /// Waits for work. Each sign of life asks whether a wake was missed, so only who wants to
    /// look more often than that looks by itself.
    pub(super) async fn wait_for_work(&self, cadence: Duration) {
        self.state().waits = true;
        if cadence < self.0.settings.common.heartbeat_interval {
            self.wait_for_wake(cadence).await;
        } else {
            self.0.wake.notified().await;
        }
        self.state().waits = false;
    }

    /// Passes tokens of the inbox on, and the time: a wait that ends without one says that
    /// the next sign of life is due. A timer of five seconds would wake an idle process three
    /// times, because it is kept in a wheel, whose levels it goes through.
    async fn listen(self, mut waiting: store::Waiting) {
        let settings = &self.0.settings;
        loop {
            match waiting.inbox(&settings.name, settings.common.heartbeat_interval).await {
                Ok(is_wake) => {
                    if is_wake {
                        self.0.wake.notify_one();
                    }
                    self.0.beat_now.notify_one();
                }
                Err(error) => {
                    tracing::debug!(target: "runtime", agent = %settings.name,
                        error = reconcile::error_chain(&error), "Inbox");
                    tokio::time::sleep(INBOX_AGAIN).await;
                }
            }
        }
    }

    /// Gives signs of life.
    async fn beat(self, store: Store) {
        let settings = &self.0.settings;
        let ttl = settings.common.lease_ttl;
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        loop {
            let (holds, waits, deadline) = {
                let state = self.state();
                let holds =
                    state.holding.as_ref().map(|holding| (holding.task.clone(), holding.epoch));
                (holds, state.waits, state.heard + ttl)
            };
            let doing = match &holds {
                Some((task, epoch)) => Doing::Runs(task, *epoch),
                None if waits => Doing::Waits,
                None => Doing::Else,
            };
            let sign = store.beat(&settings.name, self.0.incarnation, ttl_ms, doing, "");
            // The deadline holds also while a call hangs.
            let pause = match timeout_at(deadline, sign).await {
                Ok(Ok(answer)) => {
                    self.heard(answer, holds);
                    // Whoever waits for tokens calls before that, unless its connection is dead.
                    settings.common.heartbeat_interval * 3 / 2
                }
                Ok(Err(error)) => {
                    tracing::warn!(target: "runtime", agent = %settings.name,
                        error = reconcile::error_chain(&error), "No sign of life given");
                    BEAT_AGAIN
                }
                Err(_) => BEAT_AGAIN,
            };
            if Instant::now() >= self.state().heard + ttl {
                self.leave(Leaving::CutOff);
            }
            _ = timeout(pause, self.0.beat_now.notified()).await;
        }
    }

    fn heard(&self, answer: Beat, named: Option<(TaskId, Epoch)>) {
        let (should_claim, lease, control, holds) = match answer {
            Beat::Fenced => return self.leave(Leaving::Fenced),
            Beat::Ok { should_claim, lease, control, holds } => {
                (should_claim, lease, control, holds)
            }
        };
        let mut state = self.state();
        state.heard = Instant::now();
        if state.control.paused != control.paused {
            let agent = &self.0.settings.name;
            let word = if control.paused { "Paused" } else { "Resumed" };
            tracing::info!(target: "runtime", %agent, "{word} by a directive");
        }
        state.control = control;
        if should_claim && state.waits {
            self.0.wake.notify_one();
        }
        match (&state.holding, lease, named) {
            // About the task that is still being run, not about one before it.
            (Some(holding), Some(false), Some((_, epoch))) if holding.epoch == epoch => {
                holding.lost.cancel();
            }
            // A claim whose reply was lost: claiming again shows it.
            (None, None, None) if holds.is_some() => self.0.wake.notify_one(),
            _ => {}
        }
    }
}
