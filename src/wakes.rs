//! Hints for the controllers: what happened in Redis, and which files changed.
//! A lost one costs a resync, never more.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use control_files::Watch;
use model::{AgentName, Declared, GoalId};
use reconcile::{CancellationToken, Waker};
use store::Store;
use store::event::{Event, Position};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

/// How long one read of the stream waits.
const EVENTS_WAIT: Duration = Duration::from_secs(5);
/// Between two reads: many events of one key make one wake.
const EVENTS_PAUSE: Duration = Duration::from_millis(5);
/// After a failed read.
const EVENTS_AGAIN: Duration = Duration::from_millis(200);

/// Whom to wake; a controller that does not run here is `None`.
#[derive(Clone, Default)]
pub(crate) struct Wakers {
    pub(crate) agent: Option<Waker<AgentName>>,
    pub(crate) dag: Option<Waker<GoalId>>,
    pub(crate) heartbeat: Option<Waker<AgentName>>,
}

impl Wakers {
    fn route(&self, event: &Event) {
        match event.kind.as_str() {
            "agent-register" | "agent-deregister" => {
                if let (Some(waker), Ok(agent)) =
                    (&self.agent, AgentName::new(event.field("agent")))
                {
                    waker.wake(agent);
                }
            }
            // These change a goal's counts for the better, or delay something.
            "task-complete" | "task-fail" | "task-retry" | "task-lose" | "task-release"
            | "task-drop" | "task-reset" | "goal-active" => {
                if let (Some(waker), Ok(goal)) = (&self.dag, GoalId::new(event.field("goal"))) {
                    waker.wake(goal);
                }
            }
            "directive" => {
                if let Some(waker) = &self.dag {
                    waker.resync();
                }
            }
            _ => {}
        }
    }

    fn resync(&self) {
        if let Some(waker) = &self.agent {
            waker.resync();
        }
        if let Some(waker) = &self.dag {
            waker.resync();
        }
        if let Some(waker) = &self.heartbeat {
            waker.resync();
        }
    }
}

/// Passes on what happens in Redis.
pub(crate) async fn follow_events(store: Store, wakers: Wakers, cancel: CancellationToken) {
    let follow = async {
        let mut position: Option<Position> = None;
        let mut waiting = None;
        loop {
            let step = async {
                let position = match &mut position {
                    Some(position) => position,
                    None => position.insert(store.end_of_events().await?),
                };
                let waiting = match &mut waiting {
                    Some(waiting) => waiting,
                    None => waiting.insert(store.waiting()?),
                };
                waiting.events(position, EVENTS_WAIT).await
            };
            match step.await {
                Ok(events) => {
                    events.iter().for_each(|event| wakers.route(event));
                    sleep(EVENTS_PAUSE).await;
                }
                Err(error) => {
                    tracing::debug!(target: "orchestrator", %error, "Cannot read events");
                    // Redis may come back with an older stream: from its end, then.
                    position = None;
                    wakers.resync();
                    sleep(EVENTS_AGAIN).await;
                }
            }
        }
    };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = follow => {}
    }
}

/// Passes on changes of the declaration and of heartbeat files.
pub(crate) async fn follow_files(
    mut declared: watch::Receiver<Arc<Declared>>,
    wakers: Wakers,
    cancel: CancellationToken,
) {
    let (changed, mut changes) = mpsc::unbounded_channel();
    let mut files = Watch::new(move |path| _ = changed.send(path))
        .inspect_err(
            |error| tracing::warn!(target: "orchestrator", %error, "Cannot watch heartbeat files"),
        )
        .ok();
    loop {
        let agents = by_heartbeat(&declared.borrow_and_update());
        if let Some(files) = &mut files
            && let Err(error) = files.set(agents.keys().cloned().collect())
        {
            tracing::warn!(target: "orchestrator", %error, "Cannot watch heartbeat files");
        }
        wakers.resync();
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                changed = declared.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                Some(path) = changes.recv() => {
                    for agent in agents.get(&path).into_iter().flatten() {
                        if let Some(waker) = &wakers.heartbeat {
                            waker.wake(agent.clone());
                        }
                    }
                }
            }
        }
    }
}

fn by_heartbeat(declared: &Declared) -> BTreeMap<PathBuf, BTreeSet<AgentName>> {
    let mut map: BTreeMap<PathBuf, BTreeSet<AgentName>> = BTreeMap::new();
    for agent in declared.agents.values() {
        map.entry(agent.heartbeat.clone()).or_default().insert(agent.name.clone());
    }
    map
}
