//! A lane: one thing that a process does, as a future that stops at gates. What runs
//! between two gates is a step, and which lane takes the next one the seed says. Each has
//! a link of its own, so that nothing but its own requests can hold it up.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::link::Link;

/// How often the sockets are looked at before a link on which nothing passes counts
/// as one on which nothing will. Whatever is sent within this process has arrived at the
/// next look; a few more do no harm.
const LOOKS: u32 = 24;
/// No step takes longer: what waits longer waits for virtual time.
const LONGEST_STEP: Duration = Duration::from_millis(500);

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

pub(crate) struct Lane {
    pub(crate) pid: u32,
    pub(crate) name: &'static str,
    pub(crate) gate: Gate,
    pub(crate) link: Link,
    /// It has not run yet.
    pub(crate) is_new: bool,
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
        Self { pid, name, gate: gate.clone(), link, is_new: true, future: Box::pin(future) }
    }

    /// Unlike its position it stays the same.
    pub(crate) fn id(&self) -> u64 {
        self.link.number()
    }

    /// Lets it go on, through its gate where it waits at one.
    pub(crate) async fn go(&mut self) -> Came {
        self.gate.open();
        let mut looks = 0;
        let began = std::time::Instant::now();
        loop {
            let came = std::future::poll_fn(|context| {
                // Before it is polled: what wakes us may come during that.
                let stuck = self.link.is_stuck(context.waker());
                if self.future.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Ok(Came::Home));
                }
                if self.gate.due().is_some() {
                    return Poll::Ready(Ok(Came::Far));
                }
                Poll::Ready(Err(stuck))
            });
            looks += 1;
            match came.await {
                Ok(came) => return came,
                Err(true) if looks > LOOKS => return Came::Stuck,
                // It waits for time to pass, as before it tries again, though nothing is
                // wrong with its link any more.
                Err(false) if began.elapsed() > LONGEST_STEP => return Came::Stuck,
                Err(_) => {}
            }
            tokio::task::yield_now().await;
        }
    }
}
