//! A lane: one thing that a process does, as a future that stops at gates. What runs
//! between two gates is a step, and which lane takes the next one the seed says. Each has
//! a link of its own, so that nothing but its own requests can hold it up.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tokio::time::Instant;

use crate::link::Link;

/// How often all tasks run, and the sockets are looked at, before a lane counts as one that
/// waits for something else. Whatever is sent within this process has arrived at the next
/// look, however loaded the machine is, and nothing takes more than three looks to be passed
/// on: from a lane to its connection, from there to its link, and back.
const LOOKS: u32 = 8;

#[derive(Default)]
struct Inner {
    /// Not before this.
    due: Option<Instant>,
    waits: bool,
    open: bool,
}

/// Where a lane waits for its next step.
#[derive(Clone, Default)]
pub(crate) struct Gate(Rc<RefCell<Inner>>);

impl Gate {
    /// Waits until the seed lets this lane go on, at `due` at the earliest unless it is
    /// woken.
    pub(crate) async fn pass(&self, due: Instant) {
        {
            let mut inner = self.0.borrow_mut();
            inner.due = Some(due);
            inner.waits = true;
            inner.open = false;
        }
        std::future::poll_fn(|_| {
            let mut inner = self.0.borrow_mut();
            if !inner.open {
                return Poll::Pending;
            }
            *inner = Inner::default();
            Poll::Ready(())
        })
        .await;
    }

    /// Makes it due at `at`, where it waits for something later.
    pub(crate) fn wake(&self, at: Instant) {
        let mut inner = self.0.borrow_mut();
        if let Some(due) = &mut inner.due {
            *due = at.min(*due);
        }
    }

    /// When it may go on; `None` where it is in the middle of a step.
    pub(crate) fn due(&self) -> Option<Instant> {
        let inner = self.0.borrow();
        inner.due.filter(|_| inner.waits)
    }

    fn open(&self) {
        self.0.borrow_mut().open = true;
    }
}

/// How far a lane came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// To its next gate.
    Far,
    /// Nowhere, before time passes or its link is healed.
    Stuck,
    /// To its end.
    Home,
}

/// Whether a lane has something to do.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

pub(crate) struct Lane {
    pub(crate) pid: u32,
    pub(crate) name: &'static str,
    pub(crate) gate: Gate,
    pub(crate) link: Link,
    /// It has not run yet.
    pub(crate) is_new: bool,
    woken: Arc<Woken>,
    future: Pin<Box<dyn Future<Output = ()>>>,
}

impl Lane {
    pub(crate) fn new(
        pid: u32,
        name: &'static str,
        gate: &Gate,
        link: Link,
        future: impl Future<Output = ()> + 'static,
    ) -> Self {
        let (gate, woken) = (gate.clone(), Arc::default());
        Self { pid, name, gate, link, is_new: true, woken, future: Box::pin(future) }
    }

    /// Unlike its position it stays the same.
    pub(crate) fn id(&self) -> u64 {
        self.link.number()
    }

    /// Lets it go on, through its gate where it waits at one.
    ///
    /// It is stuck when nothing is under way any more: it was not woken and nothing passed
    /// its link for some looks, and the threads for blocking work have none. No clock takes
    /// part in that.
    pub(crate) async fn go(&mut self) -> Came {
        self.gate.open();
        self.woken.0.store(true, Ordering::Release);
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut passed = self.link.passed();
        let (mut looks, mut is_drained) = (0, false);
        loop {
            if self.woken.0.swap(false, Ordering::Acquire) {
                (looks, is_drained) = (0, false);
                if self.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                    return Came::Home;
                }
                if self.gate.due().is_some() {
                    return Came::Far;
                }
            }
            if self.link.crashed() {
                return Came::Stuck;
            }
            if passed != self.link.passed() {
                passed = self.link.passed();
                (looks, is_drained) = (0, false);
            }
            looks += 1;
            if looks > LOOKS && is_drained {
                return Came::Stuck;
            }
            if looks > LOOKS {
                drain().await;
                (looks, is_drained) = (0, true);
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Waits until the blocking work that was begun is done: there is one thread for it, which
/// does one thing after the other.
async fn drain() {
    tokio::task::spawn_blocking(|| ()).await.expect("a thread for blocking work");
}
