//! The agent's process: register, then claim, run and report until told to leave.
//!
//! # Flow
//! One loop claims and runs tasks. Beside it, and never held up by it, [`link`]
//! gives signs of life, renews the lease and listens for wakes.
//!
//! # Guarantees
//! - Work stops as soon as the lease is lost, the incarnation is fenced, or Redis
//!   has not been heard of for one TTL; whatever ran for it is killed.
//! - Nothing is run twice under one grant, whatever Redis forgets.
//! - SIGTERM hands the task back; SIGUSR1 lets it finish first. Either way the
//!   memory is saved and the name given up.
//!
//! # Assumptions
//! A `current_thread` runtime on the main thread: a child's parent-death signal
//! belongs to the thread that started it.

mod attempt;
mod begun;
mod choose;
mod evidence;
mod link;
mod measure;
mod memory;
mod mind;
mod report;
mod review;
mod think;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use store::Store;
use store::agent::{Beat, Incarnation, Registration};
use store::task::{Claim, Grant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use self::attempt::{Attempt, Finished, Lack};
use self::begun::Begun;
use self::link::{Leaving, Link};
use self::measure::Measure;
use self::memory::Memory;
use self::mind::Mind;
use crate::settings::Agent;
use crate::telemetry::spans;

/// Wait between tries to report a result while Redis is away.
const REPORT_AGAIN: Duration = Duration::from_millis(250);
/// How long an agent rests whose model could not be asked, doubling from the first to the
/// longest.
const MODEL_REST: [Duration; 2] = [Duration::from_secs(15), Duration::from_secs(5 * 60)];
/// The same where its disk had no room: made by anybody, room is to be used soon.
const ROOM_REST: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

/// Runs an agent until it is told to leave, is replaced, or loses Redis.
pub(crate) async fn work(settings: Agent) -> anyhow::Result<()> {
    // First of all: who registers must deregister.
    let signals = Signals::catch()?;
    let store = Store::new(&settings.common.redis).await?;
    let measure = settings.measure.then(|| Measure::start(&store));
    let settings = Arc::new(settings);
    let incarnation = register(&store, &settings).await?;
    let name = &settings.name;
    tracing::info!(target: "runtime", agent = %name, %incarnation, goal = %settings.goal,
        role = %settings.role, provider = %settings.llm.provider, "Registered");
    let Beat::Ok { control, .. } =
        store.beat(name, incarnation, settings.common.lease_ttl_ms(), None, "").await?
    else {
        tracing::warn!(target: "runtime", agent = %name, "Replaced by another process at once");
        return Ok(());
    };
    let memory = Memory::load(store.memory(name).await?.as_deref(), &control.flushes);
    let (link, _beside) = Link::start(&store, &settings, incarnation, control)?;
    let _obeying = AbortOnDropHandle::new(tokio::spawn(signals.obey(link.clone())));
    let mind = Mind::new(&store, &settings, incarnation, link.stopped())?;
    let begun = Begun::default();
    let mut worker =
        Worker { store, settings, incarnation, link, memory, mind, begun, refusals: 0 };
    worker.run().await;
    worker.leave().await;
    if let Some(measure) = measure {
        measure.end().await;
    }
    Ok(())
}

async fn register(store: &Store, settings: &Agent) -> anyhow::Result<Incarnation> {
    let this = process::Identity::this().context("reading our own start time from /proc")?;
    let host = crate::host::name();
    let registration = Registration {
        agent: &settings.name,
        pid: this.pid,
        host: &host,
        start_time: this.start_time,
        role: &settings.role,
        goal: &settings.goal,
        spec_hash: &settings.spec_hash,
        provider: settings.llm.provider.as_str(),
    };
    let deadline = Instant::now() + settings.common.lease_ttl;
    loop {
        match store.register(&registration, settings.common.lease_ttl_ms()).await {
            Ok(incarnation) => return Ok(incarnation),
            Err(error) if error.is_transient() && Instant::now() < deadline => {
                tracing::warn!(target: "runtime", agent = %settings.name,
                    error = reconcile::error_chain(&error), "Cannot register yet");
                tokio::time::sleep(REPORT_AGAIN).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// SIGTERM and SIGINT: leave now. SIGUSR1: leave after the present task.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    retire: Signal,
}

impl Signals {
    /// From now on a signal ends nothing by itself; it waits to be obeyed.
    fn catch() -> anyhow::Result<Self> {
        let catch = |kind| signal(kind).context("listening to signals");
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
            retire: catch(SignalKind::user_defined1())?,
        })
    }

    async fn obey(mut self, link: Link) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => link.leave(Leaving::Stopped),
                _ = self.interrupt.recv() => link.leave(Leaving::Stopped),
                _ = self.retire.recv() => link.leave(Leaving::Retired),
            }
        }
    }
}

struct Worker {
    store: Store,
    settings: Arc<Agent>,
    incarnation: Incarnation,
    link: Link,
    memory: Memory,
    /// None for an agent that asks no model.
    mind: Option<Mind>,
    /// What it was granted and began to run.
    begun: Begun,
    /// How often in a row it could do nothing for what it lacked.
    refusals: u32,
}

impl Worker {
    async fn run(&mut self) {
        let mut next = None;
        while self.link.leaving().is_none() {
            let claim = match next.take() {
                Some(claim) => claim,
                None => match self.next_claim().await {
                    Some(claim) => claim,
                    None => continue,
                },
            };
            match claim {
                Claim::Granted(grant) if self.begun.is_new(&grant) => {
                    next = self.run_task(*grant).await;
                }
                Claim::Granted(grant) => self.give_back(&grant).await,
                Claim::Empty | Claim::Taken => self.link.wait_for_work(self.settings.cadence).await,
                Claim::Held { reason, until_us } => {
                    tracing::debug!(target: "runtime", agent = %self.settings.name, reason, "Claims nothing");
                    self.link.wait_for_wake(self.until(until_us)).await;
                }
                Claim::Fenced => self.link.leave(Leaving::Fenced),
            }
        }
    }

    /// Runs one task and reports what came of it. What to do next, where the report
    /// said so.
    async fn run_task(&mut self, grant: Grant) -> Option<Claim> {
        let agent = self.settings.name.clone();
        let task = grant.task.clone();
        let span = spans::execute(&self.settings.fleet, &agent, &grant);
        span.in_scope(|| {
            tracing::info!(target: "runtime", %agent, task = %task, epoch = %grant.epoch,
                attempt = grant.attempt, "Acquired lock for task {task}");
        });
        let lost = self.link.begin(&grant);
        let attempt = Attempt {
            store: &self.store,
            settings: &self.settings,
            incarnation: self.incarnation,
            grant: &grant,
            mind: self.mind.as_ref(),
            memory: self.memory.lines(),
            stopped: self.link.stopped(),
            began: Instant::now(),
        };
        let finished = async {
            tokio::select! {
                biased;
                // Dropping the attempt kills whatever it runs.
                () = lost.cancelled() => Finished::Lost,
                finished = attempt.run() => finished,
            }
        };
        let finished = finished.instrument(span.clone()).await;
        let news = self.learn(&task, &finished);
        let (flushes, json) = (self.memory.flushes().to_owned(), self.memory.to_json());
        let memory = news.then_some(store::task::Memory { flushes: &flushes, json: &json });
        let report = self.report(&grant, &finished, memory).instrument(span.clone());
        let (next, is_saved) = report.await;
        spans::ended(&span, finished.word(), finished.error());
        drop(span);
        self.link.end();
        if news && !is_saved {
            self.save_memory().await;
        }
        self.rest(&finished).await;
        next
    }

    /// An agent whose model cannot be asked, or that has nowhere to write, would take one
    /// task after the other for nothing: it waits, longer each time, until that is mended.
    async fn rest(&mut self, finished: &Finished) {
        let Finished::Held { lacks: Some(lack), .. } = finished else {
            self.refusals = 0;
            return;
        };
        let [first, longest] = match lack {
            Lack::Model => MODEL_REST,
            Lack::Room => ROOM_REST,
        };
        let pause = first.saturating_mul(2u32.saturating_pow(self.refusals)).min(longest);
        self.refusals += 1;
        let until = Instant::now() + pause;
        tracing::warn!(target: "runtime", agent = %self.settings.name, ?pause,
            "Takes no tasks for a while");
        while self.link.leaving().is_none() && Instant::now() < until {
            self.link.wait_for_wake(until.saturating_duration_since(Instant::now())).await;
        }
    }

    /// Remembers how an attempt ended. Whether there is anything new to be saved.
    fn learn(&mut self, task: &model::TaskId, finished: &Finished) -> bool {
        let has_line = self.memory.push(task, finished);
        self.forget_what_was_flushed() || has_line
    }

    /// Whether a person had it flushed since this was last asked.
    fn forget_what_was_flushed(&mut self) -> bool {
        let is_flushed = self.memory.flushed(&self.link.control().flushes);
        if is_flushed {
            tracing::info!(target: "runtime", agent = %self.settings.name, "Memory flushed");
        }
        is_flushed
    }

    async fn save_memory(&mut self) {
        self.forget_what_was_flushed();
        let flushes = self.memory.flushes().to_owned();
        let agent = &self.settings.name;
        let json = self.memory.to_json();
        let saved = self.store.save_memory(agent, self.incarnation, &flushes, &json).await;
        match saved {
            Ok(store::agent::Snapshot::Saved) => {}
            Ok(store::agent::Snapshot::Flushed) => self.memory.clear(),
            Ok(store::agent::Snapshot::Fenced) => self.link.leave(Leaving::Fenced),
            Err(error) => {
                tracing::warn!(target: "runtime", %agent,
                    error = reconcile::error_chain(&error), "Memory is not saved");
            }
        }
    }

    async fn leave(&mut self) {
        let agent = self.settings.name.clone();
        let why = self.link.leaving().unwrap_or(Leaving::Stopped);
        tracing::info!(target: "runtime", %agent, why = why.as_str(), "Leaving");
        match why {
            Leaving::Stopped | Leaving::Retired => {}
            // Nothing that this process says counts any more.
            Leaving::Fenced | Leaving::CutOff => return,
        }
        let bound = self.settings.common.grace / 2;
        let farewell = async {
            self.save_memory().await;
            if let Err(error) = self.store.deregister(&agent, self.incarnation, why.as_str()).await
            {
                tracing::warn!(target: "runtime", %agent,
                    error = reconcile::error_chain(&error), "Cannot deregister");
            }
        };
        // Without Redis there is nobody to say goodbye to.
        _ = tokio::time::timeout(bound, farewell).await;
    }
}
