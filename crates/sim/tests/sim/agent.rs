//! An agent's process: the steps of the product's worker, in its order, with its answers
//! to whatever the store says. What the work is worth the seed says.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use model::lease::Epoch;
use model::{AgentName, GoalId, Role, TaskId};
use process::Identity;
use store::agent::{Beat, Doing, Incarnation, Registration};
use store::task::{Claim, Grant, Holder, Settled};
use store::{Error, Store};
use tokio::time::Instant;

use crate::clock::GRAIN;
use crate::lane::Gate;
use crate::processes::{Asked, Table};

/// How long a lease lasts, and how long an agent may be silent.
pub(crate) const TTL: Duration = Duration::from_secs(4);
const TTL_MS: u64 = 4_000;
/// How often an agent gives a sign of life.
const BEAT_EVERY: Duration = Duration::from_secs(1);
const BEAT_AGAIN: Duration = Duration::from_millis(200);
const REPORT_AGAIN: Duration = Duration::from_millis(250);
/// How long it rests where it may claim nothing now.
const CADENCE: Duration = Duration::from_secs(5);
/// Longer than anything is simulated.
const NEVER: Duration = Duration::from_secs(3_600);

/// Why it ends; the graver reason wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Leaving {
    Retired,
    Stopped,
    CutOff,
    Fenced,
}

/// A completion that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) task: TaskId,
    pub(crate) generation: u64,
    pub(crate) epoch: Epoch,
}

/// What its two lanes share.
pub(crate) struct State {
    pub(crate) incarnation: Option<Incarnation>,
    pub(crate) leaving: Option<Leaving>,
    holding: Option<(TaskId, Epoch)>,
    /// There is nothing to do until a wake.
    waits: bool,
    lost: bool,
    flushes: String,
    heard: Instant,
    /// What it did that counts, and nobody has looked at.
    pub(crate) accepted: Vec<Accepted>,
    /// For the trace: what its last step came to.
    pub(crate) said: String,
}

/// How well agents work, in percent, and how fast.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Skill {
    /// The longest time from the start of a process to its registration.
    pub(crate) start: Duration,
    pub(crate) fails: u32,
    pub(crate) gives_up: u32,
    pub(crate) longest: Duration,
}

pub(crate) struct Agent {
    pub(crate) name: AgentName,
    pub(crate) identity: Identity,
    pub(crate) goal: GoalId,
    pub(crate) role: Role,
    pub(crate) spec_hash: String,
    pub(crate) state: RefCell<State>,
    pub(crate) work_gate: Gate,
    pub(crate) beat_gate: Gate,
    pub(crate) skill: Rc<RefCell<Skill>>,
    pub(crate) random: RefCell<fastrand::Rng>,
    pub(crate) table: Table,
    pub(crate) host: String,
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            incarnation: None,
            leaving: None,
            holding: None,
            waits: false,
            lost: false,
            flushes: String::new(),
            heard: Instant::now(),
            accepted: Vec::new(),
            said: String::new(),
        }
    }
}

impl Agent {
    fn leave(&self, why: Leaving) {
        let mut state = self.state.borrow_mut();
        state.leaving = state.leaving.max(Some(why));
        if why >= Leaving::CutOff && state.holding.is_some() {
            state.lost = true;
        }
        self.work_gate.wake(Instant::now());
    }

    /// Obeys what the host's kernel passed on. Called whenever it may go on.
    pub(crate) fn obey(&self) {
        let asked = self.table.get(self.identity.pid).and_then(|process| process.asked);
        match asked {
            None => {}
            Some(Asked::Retire) => self.leave(Leaving::Retired),
            Some(Asked::Leave) => self.leave(Leaving::Stopped),
        }
    }

    fn say(&self, what: impl Into<String>) {
        self.state.borrow_mut().said = what.into();
    }

    /// Some time up to `longest`, in whole grains.
    fn some(&self, longest: Duration) -> Duration {
        let grains = (longest.as_millis() / GRAIN.as_millis()) as u32;
        GRAIN * self.random.borrow_mut().u32(0..=grains)
    }

    fn leaving(&self) -> Option<Leaving> {
        self.state.borrow().leaving
    }

    async fn pause(&self, time: Duration) {
        self.work_gate.pass(Instant::now() + time).await;
        self.obey();
    }

    /// There may be work, or something to obey.
    pub(crate) fn wake(&self) {
        self.work_gate.wake(Instant::now());
        self.beat_gate.wake(Instant::now());
    }

    /// The loop that claims and runs tasks.
    pub(crate) async fn work(self: Rc<Self>, store: Store) {
        let start = self.skill.borrow().start;
        self.pause(self.some(start)).await;
        let Some(incarnation) = self.register(&store).await else { return };
        self.pause(Duration::ZERO).await;
        match store.beat(&self.name, incarnation, TTL_MS, None, "").await {
            Ok(Beat::Ok { control, .. }) => {
                let mut state = self.state.borrow_mut();
                state.flushes = control.flushes;
                state.heard = Instant::now();
                state.incarnation = Some(incarnation);
                state.said = format!("begins as {incarnation}");
            }
            Ok(Beat::Fenced) | Err(_) => return,
        }
        self.beat_gate.wake(Instant::now());
        let mut next = None;
        while self.leaving().is_none() {
            let claim = match next.take() {
                Some(claim) => claim,
                None => {
                    self.pause(Duration::ZERO).await;
                    if self.leaving().is_some() {
                        break;
                    }
                    match store.claim(&self.name, incarnation, TTL_MS, None).await {
                        Ok(claim) => claim,
                        Err(error) => {
                            self.say(format!("cannot claim: {error}"));
                            self.pause(REPORT_AGAIN).await;
                            continue;
                        }
                    }
                }
            };
            match claim {
                Claim::Granted(grant) => next = self.run_task(&store, incarnation, *grant).await,
                Claim::Empty | Claim::Taken => {
                    self.say("finds nothing");
                    self.state.borrow_mut().waits = true;
                    self.pause(NEVER).await;
                    self.state.borrow_mut().waits = false;
                }
                Claim::Held { reason, .. } => {
                    self.say(format!("is held: {reason}"));
                    self.pause(CADENCE).await;
                }
                Claim::Fenced => self.leave(Leaving::Fenced),
            }
        }
        self.farewell(&store, incarnation).await;
    }

    async fn register(&self, store: &Store) -> Option<Incarnation> {
        let deadline = Instant::now() + TTL;
        let registration = Registration {
            agent: &self.name,
            pid: self.identity.pid,
            host: &self.host,
            start_time: self.identity.start_time,
            role: &self.role,
            goal: &self.goal,
            spec_hash: &self.spec_hash,
            provider: "",
        };
        loop {
            match store.register(&registration, TTL_MS).await {
                Ok(incarnation) => {
                    self.say(format!("registers as {incarnation}"));
                    return Some(incarnation);
                }
                Err(error) if error.is_transient() && Instant::now() < deadline => {
                    self.work_gate.pass(Instant::now() + REPORT_AGAIN).await;
                }
                Err(_) => return None,
            }
        }
    }

    async fn run_task(
        &self,
        store: &Store,
        incarnation: Incarnation,
        grant: Grant,
    ) -> Option<Claim> {
        self.say(format!("holds {} under {}", grant.task, grant.epoch));
        {
            let mut state = self.state.borrow_mut();
            state.holding = Some((grant.task.clone(), grant.epoch));
            state.lost = false;
        }
        let skill = *self.skill.borrow();
        let luck = self.random.borrow_mut().u32(0..100);
        let until = Instant::now() + self.some(skill.longest);
        // Woken early by whatever there is to obey.
        loop {
            self.work_gate.pass(until).await;
            self.obey();
            let stopped = self.leaving().is_some_and(|why| why >= Leaving::Stopped);
            if stopped || self.state.borrow().lost || Instant::now() >= until {
                break;
            }
        }
        let holder =
            Holder { agent: &self.name, incarnation, task: &grant.task, epoch: grant.epoch };
        let next_ttl = self.leaving().is_none().then_some(TTL_MS);
        let mut next = None;
        if self.state.borrow().lost {
            self.say(format!("lost {}", grant.task));
        } else if self.leaving() == Some(Leaving::Stopped) {
            let released =
                self.insist(async || Ok((store.release(holder, "it was stopped").await?, None)));
            self.told(&grant, "hands back", released.await);
        } else if luck < skill.fails {
            let permanent = luck < skill.gives_up;
            let failed =
                self.insist(async || store.fail(holder, "it broke", permanent, next_ttl).await);
            next = self.told(&grant, "fails", failed.await);
        } else {
            let done = self.insist(async || store.complete(holder, "[]", "done", next_ttl).await);
            next = self.told(&grant, "completes", done.await);
        }
        self.state.borrow_mut().holding = None;
        self.work_gate.pass(Instant::now()).await;
        let flushes = self.state.borrow().flushes.clone();
        let saved = store.save_memory(&self.name, incarnation, &flushes, "[\"a line\"]").await;
        if matches!(saved, Ok(store::agent::Snapshot::Fenced)) {
            self.leave(Leaving::Fenced);
        }
        next
    }

    fn told(
        &self,
        grant: &Grant,
        what: &str,
        settled: Option<(Settled, Option<Claim>)>,
    ) -> Option<Claim> {
        let (settled, next) = settled?;
        self.say(format!("{what} {} under {}: {settled:?}", grant.task, grant.epoch));
        if settled == Settled::Done {
            self.state.borrow_mut().accepted.push(Accepted {
                task: grant.task.clone(),
                generation: grant.generation,
                epoch: grant.epoch,
            });
        }
        next
    }

    async fn insist<T>(&self, report: impl AsyncFn() -> Result<T, Error>) -> Option<T> {
        loop {
            let error = match report().await {
                Ok(answer) => return Some(answer),
                Err(error) => error,
            };
            let cut_off = self.leaving().is_some_and(|why| why >= Leaving::CutOff);
            if !error.is_transient() || cut_off {
                return None;
            }
            self.work_gate.pass(Instant::now() + REPORT_AGAIN).await;
        }
    }

    async fn farewell(&self, store: &Store, incarnation: Incarnation) {
        match self.leaving() {
            Some(Leaving::Stopped | Leaving::Retired) | None => {}
            Some(Leaving::Fenced | Leaving::CutOff) => return,
        }
        self.work_gate.pass(Instant::now()).await;
        let gone = store.deregister(&self.name, incarnation, "it leaves").await;
        self.say(format!("deregisters: {:?}", gone.ok()));
        // It ends a moment later.
        self.work_gate.pass(Instant::now()).await;
    }

    /// The signs of life, beside the work.
    pub(crate) async fn beat(self: Rc<Self>, store: Store) {
        let far = Instant::now() + NEVER;
        let incarnation = loop {
            self.beat_gate.pass(far).await;
            if let Some(incarnation) = self.state.borrow().incarnation {
                break incarnation;
            }
        };
        loop {
            let (holding, waits, deadline) = {
                let state = self.state.borrow();
                (state.holding.clone(), state.waits, state.heard + TTL)
            };
            let doing = match &holding {
                Some((task, epoch)) => Doing::Runs(task, *epoch),
                None if waits => Doing::Waits,
                None => Doing::Else,
            };
            let sign = store.beat(&self.name, incarnation, TTL_MS, doing, "");
            let pause = match tokio::time::timeout_at(deadline, sign).await {
                Ok(Ok(answer)) => {
                    self.heard(answer, holding);
                    BEAT_EVERY
                }
                Ok(Err(_)) | Err(_) => BEAT_AGAIN,
            };
            let heard = self.state.borrow().heard;
            if Instant::now() >= heard + TTL {
                self.leave(Leaving::CutOff);
            }
            self.beat_gate.pass(Instant::now() + pause).await;
            self.obey();
        }
    }

    fn heard(&self, answer: Beat, named: Option<(TaskId, Epoch)>) {
        let (should_claim, lease, control, holds) = match answer {
            Beat::Fenced => return self.leave(Leaving::Fenced),
            Beat::Ok { should_claim, lease, control, holds } => {
                (should_claim, lease, control, holds)
            }
        };
        let mut state = self.state.borrow_mut();
        state.heard = Instant::now();
        state.flushes = control.flushes;
        if should_claim && state.waits {
            self.work_gate.wake(Instant::now());
        }
        let same = state.holding.is_some() && state.holding == named;
        if same && lease == Some(false) {
            state.lost = true;
            self.work_gate.wake(Instant::now());
        } else if state.holding.is_none() && named.is_none() && holds.is_some() {
            self.work_gate.wake(Instant::now());
        }
    }
}
