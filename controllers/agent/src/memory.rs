//! What the controller remembers of an agent's processes between passes. All of it
//! can be lost: a new term begins with what Redis and the kernel say.

use std::collections::BTreeMap;
use std::time::Duration;

use model::agent::Phase;
use process::Identity;
use reconcile::{Backoff, Policy};
use store::agent::Incarnation;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::plan::{Local, Reason, Request};

/// One agent's processes, and how often they died.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Fingerprint of the declaration that its deaths belong to.
    declared: Option<String>,
    known: BTreeMap<Identity, Known>,
    backoff: Backoff,
    /// Not to be started before.
    not_before: Option<Instant>,
    leftovers: Vec<Incarnation>,
    /// What stood in the way of the last start.
    error: Option<String>,
    /// Deaths that no status shows yet.
    unreported: Unreported,
    /// The time of the next start that a status shows.
    reported_start: Option<Instant>,
}

/// What a status should say next.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Unreported {
    pub(crate) restarts: u64,
    pub(crate) last_exit: Option<String>,
}

/// What stands in the way of a start, and until when.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) error: Option<String>,
    pub(crate) until: Option<Instant>,
    /// Whether no status shows it yet.
    pub(crate) is_news: bool,
}

#[derive(Debug)]
struct Known {
    since: Instant,
    /// Since when it held the name, or did, and as which incarnation.
    held: Option<(Instant, Incarnation)>,
    left: Option<Instant>,
    asked: Option<(Request, Instant)>,
    /// It was asked to leave, first of all for a reason that is no failure.
    excused: bool,
    /// Wakes us when it ends.
    _watch: Option<AbortOnDropHandle<()>>,
}

impl Memory {
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            declared: None,
            known: BTreeMap::new(),
            backoff: Backoff::new(policy),
            not_before: None,
            leftovers: Vec::new(),
            error: None,
            unreported: Unreported::default(),
            reported_start: None,
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
            held: None,
            left: None,
            asked: None,
            excused: false,
            _watch: watch,
        });
    }

    /// How it is declared now. Another declaration starts with a clean slate: a
    /// person who mends it need not wait.
    pub(crate) fn declared(&mut self, hash: Option<&str>) {
        if self.declared.as_deref() != hash {
            self.declared = hash.map(str::to_owned);
            self.backoff.reset();
            self.not_before = None;
        }
    }

    /// Takes note of who holds the name, drops what has died, and remembers deaths
    /// that nobody asked for.
    pub(crate) fn look(
        &mut self,
        holder: Option<(Identity, Incarnation)>,
        is_alive: impl Fn(&Identity) -> bool,
        now: Instant,
    ) {
        let mut well = Duration::ZERO;
        for (process, known) in &mut self.known {
            match holder {
                Some((identity, incarnation)) if identity == *process => {
                    known.left = None;
                    let (since, _) = *known.held.get_or_insert((now, incarnation));
                    well = now.saturating_duration_since(since);
                }
                Some(_) | None if known.held.is_some() => {
                    known.left.get_or_insert(now);
                }
                Some(_) | None => {}
            }
        }
        let dead: Vec<Identity> =
            self.known.keys().filter(|process| !is_alive(process)).copied().collect();
        let holds =
            holder.is_some_and(|(process, _)| self.knows(&process) && !dead.contains(&process));
        if holds {
            self.backoff.healthy(well);
        }
        for process in dead {
            let Some(known) = self.known.remove(&process) else { continue };
            self.leftovers.extend(known.held.map(|(_, incarnation)| incarnation));
            // One that lost its name to another is no loss.
            if !known.excused && !holds {
                self.died(&process, &known, now);
            }
        }
    }

    fn died(&mut self, process: &Identity, known: &Known, now: Instant) {
        let well = known.held.map_or(Duration::ZERO, |(t, _)| now.saturating_duration_since(t));
        self.not_before = Some(now + self.backoff.failed(well));
        self.unreported.restarts += 1;
        let pid = process.pid;
        self.unreported.last_exit = Some(match known.held {
            Some(_) => format!("process {pid} ended after {:.1} s", well.as_secs_f64()),
            None => format!("process {pid} ended before it registered"),
        });
    }

    /// A process is asked to leave.
    pub(crate) fn asked(
        &mut self,
        process: &Identity,
        request: Request,
        why: Reason,
        now: Instant,
    ) {
        if let Some(known) = self.known.get_mut(process) {
            if known.asked.is_none() {
                known.excused = !why.is_failure();
            }
            known.asked = Some((request, now));
        }
    }

    /// It was started.
    pub(crate) fn started(&mut self) {
        self.error = None;
    }

    /// It could not be started. Whether that is news.
    pub(crate) fn failed_to_start(&mut self, error: String, now: Instant) -> bool {
        self.not_before = Some(now + self.backoff.failed(Duration::ZERO));
        let is_news = self.error.as_ref() != Some(&error);
        self.error = Some(error);
        is_news
    }

    /// Nothing is left of what this incarnation ran.
    pub(crate) fn cleared(&mut self, incarnation: Incarnation) {
        self.leftovers.retain(|other| *other != incarnation);
    }

    pub(crate) fn leftovers(&self) -> Vec<Incarnation> {
        self.leftovers.clone()
    }

    pub(crate) fn living(&self, now: Instant) -> Vec<Local> {
        let since = |then: Instant| now.saturating_duration_since(then);
        self.known
            .iter()
            .map(|(identity, known)| Local {
                identity: *identity,
                age: since(known.since),
                left: known.left.map(since),
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

    pub(crate) fn unreported(&self) -> Unreported {
        self.unreported.clone()
    }

    /// What a status in this phase says of the next start.
    pub(crate) fn wait(&self, phase: Phase) -> Wait {
        match phase {
            Phase::Restarting | Phase::CrashLoop => Wait {
                error: self.error.clone(),
                until: self.not_before,
                is_news: self.not_before != self.reported_start,
            },
            Phase::Pending | Phase::Starting | Phase::Running | Phase::Draining | Phase::Gone => {
                Wait { is_news: self.reported_start.is_some(), ..Wait::default() }
            }
        }
    }

    /// A status shows this now.
    pub(crate) fn reported(&mut self, told: &Unreported, wait: &Wait) {
        self.unreported.restarts -= told.restarts.min(self.unreported.restarts);
        if self.unreported.last_exit == told.last_exit {
            self.unreported.last_exit = None;
        }
        self.reported_start = wait.until;
    }

    /// Whether nothing is lost by forgetting it.
    pub(crate) fn is_idle(&self) -> bool {
        self.declared.is_none()
            && self.known.is_empty()
            && self.leftovers.is_empty()
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

    fn holder(pid: u32) -> Option<(Identity, Incarnation)> {
        Some((identity(pid), Incarnation(u64::from(pid))))
    }

    fn memory() -> Memory {
        Memory::new(Policy::default().at_once())
    }

    #[test]
    fn first_death_should_allow_a_start_at_once_and_later_ones_wait() {
        let mut memory = memory();
        let now = Instant::now();
        for (death, pid) in (1..=3).zip(1..) {
            memory.sight(identity(pid), None, now);
            memory.look(holder(pid), |_| true, now);
            memory.look(holder(pid), |_| false, now + SECOND);
            assert_eq!(memory.deaths(), death);
            assert_eq!(memory.start_in(now + SECOND).is_zero(), death == 1, "{death}");
        }
        assert_eq!(memory.unreported().restarts, 3);
        assert_eq!(memory.leftovers(), [1, 2, 3].map(Incarnation));
        // Well for a minute: forgiven.
        memory.sight(identity(9), None, now);
        memory.look(holder(9), |_| true, now);
        memory.look(holder(9), |_| false, now + SECOND * 61);
        assert_eq!((memory.deaths(), memory.start_in(now + SECOND * 61)), (1, Duration::ZERO));
    }

    #[test]
    fn process_that_was_asked_to_leave_should_not_count_as_dead_however_it_ended() {
        let mut memory = memory();
        let now = Instant::now();
        for why in [Reason::Changed, Reason::Undeclared, Reason::Replaced] {
            memory.sight(identity(1), None, now);
            memory.asked(&identity(1), Request::Terminate, why, now);
            memory.asked(&identity(1), Request::Kill, Reason::Silent, now);
            memory.look(None, |_| false, now);
            assert_eq!((memory.deaths(), memory.start_in(now)), (0, Duration::ZERO), "{why}");
        }
        assert!(memory.is_idle());
    }

    #[test]
    fn process_that_was_ended_for_a_failure_should_count_as_dead() {
        let mut memory = memory();
        let now = Instant::now();
        for (death, why) in (1..).zip([Reason::Unregistered, Reason::Silent, Reason::Lingering]) {
            memory.sight(identity(1), None, now);
            memory.asked(&identity(1), Request::Terminate, why, now);
            memory.asked(&identity(1), Request::Kill, why, now);
            memory.look(None, |_| false, now);
            assert_eq!(memory.deaths(), death, "{why}");
        }
    }

    #[test]
    fn death_of_one_that_lost_its_name_should_not_count() {
        let mut memory = memory();
        let now = Instant::now();
        memory.sight(identity(1), None, now);
        memory.look(holder(1), |_| true, now);
        memory.sight(identity(2), None, now);
        memory.look(holder(2), |_| true, now);
        assert_eq!(memory.living(now + SECOND)[0].left, Some(SECOND));
        memory.look(holder(2), |process| process.pid == 2, now);
        assert_eq!((memory.deaths(), memory.leftovers()), (0, vec![Incarnation(1)]));
    }

    #[test]
    fn another_declaration_should_start_with_a_clean_slate() {
        let mut memory = memory();
        let now = Instant::now();
        memory.declared(Some("a"));
        for _ in 0..5 {
            memory.failed_to_start("no sysg".into(), now);
        }
        memory.declared(Some("a"));
        assert_eq!((memory.deaths(), memory.start_in(now).is_zero()), (5, false));
        memory.declared(Some("b"));
        assert_eq!((memory.deaths(), memory.start_in(now).is_zero()), (0, true));
    }

    #[test]
    fn wait_should_be_shown_while_it_lasts_and_again_when_it_changes() {
        let mut memory = memory();
        let now = Instant::now();
        assert!(memory.failed_to_start("no sysg".into(), now));
        assert!(!memory.failed_to_start("no sysg".into(), now));
        let wait = memory.wait(Phase::Restarting);
        assert_eq!((wait.error.as_deref(), wait.is_news), (Some("no sysg"), true));
        memory.reported(&Unreported::default(), &wait);
        assert!(!memory.wait(Phase::Restarting).is_news);
        memory.failed_to_start("no sysg".into(), now + SECOND);
        assert!(memory.wait(Phase::CrashLoop).is_news);
        let wait = memory.wait(Phase::Running);
        assert_eq!((wait.error.clone(), wait.until, wait.is_news), (None, None, true));
        memory.reported(&Unreported::default(), &wait);
        assert!(!memory.wait(Phase::Running).is_news);
    }
}
