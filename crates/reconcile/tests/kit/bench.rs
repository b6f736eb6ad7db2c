//! A reconciler whose behaviour each test writes down, and what it saw.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use reconcile::{
    CancellationToken, Controller, Outcome, Reconciler, Settings, Snapshot, Stats, Waker,
    controller,
};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub(crate) type Key = &'static str;
pub(crate) type Doing<T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + Send>>;

#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Fault {
    pub(crate) text: String,
    #[source]
    pub(crate) source: Option<std::io::Error>,
}

pub(crate) fn fault(text: &str) -> Fault {
    Fault { text: text.to_owned(), source: None }
}

/// What a pass does, given its key and how many passes over that key began before.
type Passing = dyn Fn(Key, usize) -> Doing<Outcome> + Send + Sync;
/// What a listing does, given how many began before.
type Listing = dyn Fn(usize) -> Doing<Vec<Key>> + Send + Sync;

#[derive(Default)]
pub(crate) struct Seen {
    /// Every pass that began, in order.
    pub(crate) begun: Vec<(Key, Instant)>,
    passes: BTreeMap<Key, usize>,
    pub(crate) ended: Vec<Key>,
    pub(crate) listings: Vec<Instant>,
    pub(crate) running: Vec<Key>,
    pub(crate) most_at_a_time: usize,
    /// A key was in two passes at a time.
    pub(crate) overlapped: bool,
}

pub(crate) struct Scripted {
    pass: Box<Passing>,
    keys: Box<Listing>,
    seen: Arc<Mutex<Seen>>,
}

impl Reconciler for Scripted {
    type Key = Key;
    type Error = Fault;

    fn name(&self) -> &'static str {
        "scripted"
    }

    async fn keys(&self) -> Result<Vec<Key>, Fault> {
        let before = {
            let mut seen = self.seen.lock().unwrap();
            seen.listings.push(Instant::now());
            seen.listings.len() - 1
        };
        (self.keys)(before).await
    }

    async fn reconcile(&self, key: &Key) -> Result<Outcome, Fault> {
        let key = *key;
        let before = {
            let mut seen = self.seen.lock().unwrap();
            let count = seen.passes.entry(key).or_default();
            let before = *count;
            *count += 1;
            seen.begun.push((key, Instant::now()));
            seen.overlapped |= seen.running.contains(&key);
            seen.running.push(key);
            seen.most_at_a_time = seen.most_at_a_time.max(seen.running.len());
            before
        };
        let _left = Left(key, Arc::clone(&self.seen));
        let outcome = (self.pass)(key, before).await;
        self.seen.lock().unwrap().ended.push(key);
        outcome
    }
}

/// Also a pass that is dropped, or panics, has left.
struct Left(Key, Arc<Mutex<Seen>>);

impl Drop for Left {
    fn drop(&mut self) {
        let mut seen = self.1.lock().unwrap();
        let at = seen.running.iter().position(|key| *key == self.0).unwrap();
        seen.running.remove(at);
    }
}

pub(crate) struct Bench {
    pub(crate) controller: Arc<Controller<Scripted>>,
    pub(crate) waker: Waker<Key>,
    pub(crate) stats: Stats,
    pub(crate) seen: Arc<Mutex<Seen>>,
    pub(crate) cancel: CancellationToken,
}

/// No resync but the first, one worker.
pub(crate) fn settings() -> Settings {
    Settings { workers: 1, resync: Duration::from_secs(1_000_000), ..Settings::default() }
}

/// From the first test on. Else a thread that meets a span while another begins to capture
/// could note, for good and for all threads, that nobody wants this span.
pub(crate) fn somebody_listens() {
    static LISTENER: Once = Once::new();
    LISTENER.call_once(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry()).unwrap();
    });
}

pub(crate) fn bench(
    settings: Settings,
    keys: impl Fn(usize) -> Doing<Vec<Key>> + Send + Sync + 'static,
    pass: impl Fn(Key, usize) -> Doing<Outcome> + Send + Sync + 'static,
) -> Bench {
    somebody_listens();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let scripted = Scripted { pass: Box::new(pass), keys: Box::new(keys), seen: Arc::clone(&seen) };
    let (controller, waker, stats) = controller(scripted, settings);
    let cancel = CancellationToken::new();
    Bench { controller: Arc::new(controller), waker, stats, seen, cancel }
}

/// Lists no key.
pub(crate) fn none(_: usize) -> Doing<Vec<Key>> {
    Box::pin(async { Ok(vec![]) })
}

/// A pass that takes this long and finds nothing to do.
pub(crate) fn takes(time: Duration) -> Doing<Outcome> {
    Box::pin(async move {
        tokio::time::sleep(time).await;
        Ok(Outcome::unchanged())
    })
}

impl Bench {
    pub(crate) fn start(&self) -> JoinHandle<()> {
        let (controller, cancel) = (Arc::clone(&self.controller), self.cancel.clone());
        tokio::spawn(async move { controller.run(cancel).await.unwrap() })
    }

    /// Waits, in paused time mostly, until `condition` holds.
    pub(crate) async fn until(&self, condition: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let deadline = Instant::now() + Duration::from_secs(500);
        loop {
            let snapshot = self.stats.snapshot();
            if condition(&snapshot) {
                return snapshot;
            }
            assert!(Instant::now() < deadline, "it never held: {snapshot:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn begun(&self) -> Vec<Key> {
        self.seen.lock().unwrap().begun.iter().map(|(key, _)| *key).collect()
    }

    /// When the passes over `key` began, counted from `start`.
    pub(crate) fn times(&self, key: Key, start: Instant) -> Vec<Duration> {
        let seen = self.seen.lock().unwrap();
        seen.begun.iter().filter(|(other, _)| *other == key).map(|(_, at)| *at - start).collect()
    }
}
