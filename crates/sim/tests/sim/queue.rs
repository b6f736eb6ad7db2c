//! One controller's queue, as far as a simulation needs one: which keys are to be looked
//! at and when. The product's has priorities and workers; here the seed orders.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use reconcile::Reconciler;
use tokio::time::Instant;

use crate::clock::GRAIN;
use crate::lane::Gate;

/// How long after a resync the next one comes.
pub(crate) const RESYNC: Duration = Duration::from_secs(1);
/// How long a key waits after its first failure, doubling up to the longest.
const AGAIN: Duration = Duration::from_millis(250);
const LONGEST_AGAIN: Duration = Duration::from_secs(5);

struct Inner<K> {
    due: BTreeMap<K, Instant>,
    failures: BTreeMap<K, u32>,
    resync: Instant,
}

/// Wakes one controller: a key by its name, or all of them.
#[derive(Clone)]
pub(crate) struct Waker {
    gate: Gate,
    key: Rc<dyn Fn(&str)>,
    all: Rc<dyn Fn()>,
}

impl Waker {
    pub(crate) fn wake(&self, key: &str) {
        (self.key)(key);
        self.gate.wake(Instant::now());
    }

    pub(crate) fn resync(&self) {
        (self.all)();
        self.gate.wake(Instant::now());
    }
}

/// What a controller's last step came to, for the trace.
pub(crate) type Said = Rc<RefCell<String>>;

/// A controller that is driven pass by pass, and its waker.
pub(crate) fn control<R: Reconciler>(
    reconciler: R,
    gate: &Gate,
    said: &Said,
    parse: fn(&str) -> Option<R::Key>,
) -> (impl Future<Output = ()> + 'static, Waker)
where
    R::Error: 'static,
{
    let inner = Rc::new(RefCell::new(Inner {
        due: BTreeMap::<R::Key, Instant>::new(),
        failures: BTreeMap::new(),
        resync: Instant::now(),
    }));
    let waker = Waker {
        gate: gate.clone(),
        key: Rc::new({
            let inner = Rc::clone(&inner);
            move |key| {
                let Some(key) = parse(key) else { return };
                let mut inner = inner.borrow_mut();
                // Nothing shortens the wait after a failure.
                if !inner.failures.contains_key(&key) {
                    inner.due.insert(key, Instant::now());
                }
            }
        }),
        all: Rc::new({
            let inner = Rc::clone(&inner);
            move || inner.borrow_mut().resync = Instant::now()
        }),
    };
    (run(reconciler, inner, gate.clone(), Rc::clone(said)), waker)
}

async fn run<R: Reconciler>(
    reconciler: R,
    inner: Rc<RefCell<Inner<R::Key>>>,
    gate: Gate,
    said: Said,
) {
    loop {
        let due = {
            let inner = inner.borrow();
            inner.due.values().copied().min().map_or(inner.resync, |due| due.min(inner.resync))
        };
        gate.pass(due).await;
        let now = Instant::now();
        let next = {
            let inner = inner.borrow();
            let first = inner.due.iter().min_by_key(|(key, due)| (**due, (*key).clone()));
            first.filter(|(_, due)| **due <= now.min(inner.resync)).map(|(key, _)| key.clone())
        };
        match next {
            Some(key) => {
                inner.borrow_mut().due.remove(&key);
                let passed = reconciler.reconcile(&key).await;
                settle(
                    &mut inner.borrow_mut(),
                    &said,
                    key,
                    passed.map_err(|error| reconcile::error_chain(&error)),
                );
            }
            None if inner.borrow().resync <= now => list(&reconciler, &inner, &said).await,
            None => {}
        }
    }
}

fn settle<K: reconcile::Key>(
    inner: &mut Inner<K>,
    said: &Said,
    key: K,
    passed: Result<reconcile::Outcome, String>,
) {
    let now = Instant::now();
    match passed {
        Ok(outcome) => {
            *said.borrow_mut() = format!("{key}: {}", if outcome.acted { "acts" } else { "ok" });
            inner.failures.remove(&key);
            if let Some(delay) = outcome.again_after {
                let due = now + delay.max(GRAIN).min(Duration::from_secs(3600));
                // A wake that came meanwhile is earlier.
                inner.due.entry(key).or_insert(due);
            }
        }
        Err(error) => {
            *said.borrow_mut() = format!("{key}: {error}");
            let failures = inner.failures.entry(key.clone()).or_default();
            let delay = (AGAIN * 2u32.saturating_pow(*failures)).min(LONGEST_AGAIN);
            *failures += 1;
            inner.due.insert(key, now + delay);
        }
    }
}

async fn list<R: Reconciler>(reconciler: &R, inner: &RefCell<Inner<R::Key>>, said: &Said) {
    let listed = reconciler.keys().await;
    let now = Instant::now();
    let mut inner = inner.borrow_mut();
    match listed {
        Ok(keys) => {
            *said.borrow_mut() = format!("resync: {}", keys.len());
            inner.resync = now + RESYNC;
            for key in keys {
                if !inner.failures.contains_key(&key) {
                    inner.due.insert(key, now);
                }
            }
        }
        Err(error) => {
            *said.borrow_mut() = format!("resync: {}", reconcile::error_chain(&error));
            inner.resync = now + AGAIN;
        }
    }
}
