//! Planning beside the passes: one planner at a time per goal, ended with its owner.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use model::{Dag, GoalId, GoalSpec};
use reconcile::Waker;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, Span};

use crate::plan::{Progress, Seen, Target};
use crate::planner::{PlanError, PlanErrorKind, Planner};

/// Filled once the controller that wakes exists.
pub(crate) type LateWaker = Arc<OnceLock<Waker<GoalId>>>;

/// A planner at work, or what it made. Dropped, it is ended.
pub(crate) struct Work {
    target: Target,
    task: AbortOnDropHandle<()>,
    result: oneshot::Receiver<Result<Dag, PlanError>>,
    began: Instant,
    stopped: bool,
    ended: Option<Result<Arc<Dag>, PlanError>>,
}

impl Work {
    /// Sets `planner` to work on `goal`; `waker` is told when it ends, however it does.
    pub(crate) fn start<P: Planner>(
        planner: Arc<P>,
        goal: GoalSpec,
        target: Target,
        limit: Duration,
        waker: LateWaker,
    ) -> Self {
        let (sender, result) = oneshot::channel();
        // Its own trace: a pass's span must not stay open for minutes.
        let span = tracing::info_span!(parent: None, "planning", goal = %goal.id);
        span.follows_from(Span::current());
        let work = async move {
            // Dropped last, also by a panic or an abort: whoever it wakes finds the
            // result sent, or the sender gone.
            let _wake = WakeOnDrop { waker, goal: goal.id.clone() };
            let sender = sender;
            let made = timeout(limit, planner.plan(&goal)).await.unwrap_or_else(|_| {
                let text = format!("no plan came within {} s", limit.as_secs());
                Err(PlanError::failed(text))
            });
            // Nobody listens where the plan is not wanted any more.
            _ = sender.send(made);
        };
        let task = AbortOnDropHandle::new(tokio::spawn(work.instrument(span)));
        Self { target, task, result, began: Instant::now(), stopped: false, ended: None }
    }

    /// Tells the planner to end. It counts as running until it has.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        self.task.abort();
    }

    /// What a pass sees of it.
    pub(crate) fn look(&mut self) -> Seen {
        if self.ended.is_none() {
            self.ended = match self.result.try_recv() {
                Ok(made) => Some(made.map(Arc::new)),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Closed) => Some(Err(PlanError::failed("the planner panicked"))),
            };
        }
        let progress = match &self.ended {
            None if self.stopped => Progress::Stopping,
            None => Progress::Running,
            Some(_) if self.stopped => Progress::Stopped,
            Some(Ok(_)) => Progress::Planned,
            Some(Err(PlanError { kind: PlanErrorKind::Refused, message })) => {
                Progress::Refused(message.clone())
            }
            Some(Err(PlanError { kind: PlanErrorKind::Failed, message })) => {
                Progress::Failed(message.clone())
            }
            Some(Err(PlanError { kind: PlanErrorKind::Held { until_ms }, message })) => {
                Progress::Held { message: message.clone(), until_ms: *until_ms }
            }
        };
        Seen { target: self.target.clone(), progress, age: self.began.elapsed() }
    }

    /// The plan, once it is made.
    pub(crate) fn made(&self) -> Option<Arc<Dag>> {
        self.ended.as_ref()?.as_ref().ok().cloned()
    }
}

struct WakeOnDrop {
    waker: LateWaker,
    goal: GoalId,
}

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        // Without a waker the next resync finds the result.
        if let Some(waker) = self.waker.get() {
            waker.wake(self.goal.clone());
        }
    }
}
