//! What is seen of the stream of events from outside while things break: what was
//! accepted once must still be there at the end.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use store::Store;
use store::event::{Event, Position};
use tokio_util::task::AbortOnDropHandle;

/// How long one read waits for the first event.
const WAIT: Duration = Duration::from_secs(1);
/// Between two tries while Redis is away.
const AGAIN: Duration = Duration::from_millis(20);

/// An accepted completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) epoch: u64,
    pub(crate) generation: String,
}

/// All that was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// How many events of each kind, also those that a restore undid.
    pub(crate) kinds: BTreeMap<String, u64>,
    /// What was accepted since Redis last lost data, by task.
    pub(crate) accepted: HashMap<String, Accepted>,
    /// Promises that were seen broken.
    pub(crate) broken: Vec<String>,
    epochs: HashMap<String, u64>,
}

impl Seen {
    fn event(&mut self, event: &Event) {
        *self.kinds.entry(event.kind.clone()).or_default() += 1;
        let (task, epoch) = (event.field("task"), event.field("epoch").parse().unwrap_or(0));
        match event.kind.as_str() {
            "task-claim" => {
                let last = self.epochs.insert(task.to_owned(), epoch).unwrap_or(0);
                if epoch <= last {
                    self.broken.push(format!("{task} was granted under {epoch} after {last}"));
                }
            }
            "task-complete" => {
                let generation = event.field("generation").to_owned();
                let now = Accepted { epoch, generation };
                let before = self.accepted.insert(task.to_owned(), now.clone());
                if let Some(before) = before {
                    self.broken.push(format!("{task} was accepted twice: {before:?}, {now:?}"));
                }
            }
            _ => {}
        }
    }

    /// How many events of a kind.
    pub(crate) fn count(&self, kind: &str) -> u64 {
        self.kinds.get(kind).copied().unwrap_or(0)
    }
}

/// Follows the stream until it is dropped.
pub(crate) struct Witness {
    seen: Arc<Mutex<Seen>>,
    _reader: AbortOnDropHandle<()>,
}

impl Witness {
    /// Sees all that happens from now on.
    pub(crate) fn start(store: &Store) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let reader = tokio::spawn(follow(store.clone(), Arc::clone(&seen)));
        Self { seen, _reader: AbortOnDropHandle::new(reader) }
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts from now on; what was accepted stays accepted.
    pub(crate) fn count_anew(&self) {
        self.seen().kinds.clear();
    }

    /// Redis is gone and comes back with older data, or with none: what was accepted
    /// since is undone.
    pub(crate) fn data_is_older(&self) {
        self.seen().accepted.clear();
    }
}

async fn follow(store: Store, seen: Arc<Mutex<Seen>>) {
    let mut position = Position("0".to_owned());
    let mut waiting = store.waiting().unwrap();
    loop {
        match waiting.events(&mut position, WAIT).await {
            Ok(events) => {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                events.iter().for_each(|event| seen.event(event));
            }
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}
