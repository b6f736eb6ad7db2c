//! What the controller remembers of an agent's processes between passes. All of it
//! can be lost: a new term begins with what Redis and the kernel say.

use std::collections::BTreeMap;
use std::time::Duration;

use process::Identity;
use reconcile::{Backoff, Policy};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::plan::{Local, Request};

/// One agent's processes, and how often they died.
#[derive(Debug)]
pub(crate) struct Memory {
    known: BTreeMap<Identity, Known>,
    backoff: Backoff,
    /// Not to be started before.
    not_before: Option<Instant>,
    /// Deaths that no status shows yet.
    pub(crate) unreported: Unreported,
}

/// What a status should say next.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Unreported {
    pub(crate) restarts: u64,
    pub(crate) last_exit: Option<String>,
    pub(crate) error: Option<String>,
}

#[derive(Debug)]
struct Known {
    since: Instant,
    registered: Option<Instant>,
    asked: Option<(Request, Instant)>,
    /// Wakes us when it ends.
    _watch: Option<AbortOnDropHandle<()>>,
}

impl Memory {
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            known: BTreeMap::new(),
            backoff: Backoff::new(policy),
            not_before: None,
            unreported: Unreported::default(),
        }
    }

    pub(crate) fn knows(&self, process: &Identity) -> bool {
        self.known.contains_key(process)
    }

    /// A process of the name was started or found.
    pub(crate) fn sight(
        &mut self,
        process: Identity,
        watch: Option<AbortOnDropHandle<()>>,
        now: Instant,
    ) {
        self.known.entry(process).or_insert(Known {
            since: now,
            registered: None,
            asked: None,
            _watch: watch,
        });
    }

    pub(crate) fn registered(&mut self, process: &Identity, now: Instant) {
        let Some(known) = self.known.get_mut(process) else { return };
        let since = *known.registered.get_or_insert(now);
        self.backoff.healthy(now.saturating_duration_since(since));
    }

    pub(crate) fn asked(&mut self, process: &Identity, request: Request, now: Instant) {
        if let Some(known) = self.known.get_mut(process) {
            known.asked = Some((request, now));
        }
    }

    /// It could not be started.
    pub(crate) fn failed_to_start(&mut self, error: String, now: Instant) {
        self.not_before = Some(now + self.backoff.failed(Duration::ZERO));
        self.unreported.error = Some(error);
    }

    /// Drops what has died, and remembers deaths that nobody asked for.
    pub(crate) fn sweep(&mut self, is_alive: impl Fn(&Identity) -> bool, now: Instant) {
        let dead: Vec<Identity> =
            self.known.keys().filter(|process| !is_alive(process)).copied().collect();
        for process in dead {
            let Some(known) = self.known.remove(&process) else { continue };
            // A silent one that we had to kill failed just like one that crashed.
            if matches!(known.asked, Some((Request::Retire | Request::Terminate, _))) {
                continue;
            }
            let well = known.registered.map_or(Duration::ZERO, |t| now.saturating_duration_since(t));
            self.not_before = Some(now + self.backoff.failed(well));
            self.unreported.restarts += 1;
            let how = match known.registered {
                Some(_) => format!("process {} ended after {:.1} s", process.pid, well.as_secs_f64()),
                None => format!("process {} ended before it registered", process.pid),
            };
            self.unreported.last_exit = Some(how);
        }
    }

    pub(crate) fn living(&self, now: Instant) -> Vec<Local> {
        let since = |then: Instant| now.saturating_duration_since(then);
        self.known
            .iter()
            .map(|(identity, known)| Local {
                identity: *identity,
                age: since(known.since),
                asked: known.asked.map(|(request, then)| (request, since(then))),
            })
            .collect()
    }

    pub(crate) fn start_in(&self, now: Instant) -> Duration {
        self.not_before.map_or(Duration::ZERO, |then| then.saturating_duration_since(now))
    }

    pub(crate) const fn deaths(&self) -> u32 {
        self.backoff.failures()
    }

    /// Whether nothing is lost by forgetting it.
    pub(crate) fn is_idle(&self) -> bool {
        self.known.is_empty()
            && self.backoff.failures() == 0
            && self.unreported == Unreported::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn identity(pid: u32) -> Identity {
        Identity { pid, start_time: 1 }
    }

    #[test]
    fn first_death_should_allow_a_start_at_once_and_later_ones_wait() {
        let mut memory = Memory::new(Policy::default().at_once());
        let now = Instant::now();
        for (death, pid) in (1..=3).zip(1..) {
            memory.sight(identity(pid), None, now);
            memory.registered(&identity(pid), now);
            memory.sweep(|_| false, now + SECOND);
            assert_eq!(memory.deaths(), death);
            assert_eq!(memory.start_in(now + SECOND).is_zero(), death == 1, "{death}");
        }
        assert_eq!(memory.unreported.restarts, 3);
        // Well for a minute: forgiven.
        memory.sight(identity(9), None, now);
        memory.registered(&identity(9), now);
        memory.sweep(|_| false, now + SECOND * 61);
        assert_eq!((memory.deaths(), memory.start_in(now + SECOND * 61)), (1, Duration::ZERO));
    }

    #[test]
    fn process_that_was_asked_to_leave_should_not_count_as_dead() {
        let mut memory = Memory::new(Policy::default().at_once());
        let now = Instant::now();
        memory.sight(identity(1), None, now);
        memory.asked(&identity(1), Request::Retire, now);
        memory.sweep(|_| false, now);
        assert_eq!((memory.deaths(), memory.start_in(now)), (0, Duration::ZERO));
        assert!(memory.is_idle());
    }
}
