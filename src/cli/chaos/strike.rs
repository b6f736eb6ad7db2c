//! One fault: send it, and look until all is as it was before.

use std::cell::Cell;
use std::time::Duration;

use process::{Identity, Signal, signal};
use store::Store;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::converge::{Baseline, Here, World};
use super::legs::{Leg, Timeline};
use super::render::Live;
use super::schedule::Kind;
use super::targets::Target;
use super::watch::Watch;

/// What has not converged within this has not converged: promise L1.
pub(super) const CONVERGED_WITHIN: Duration = Duration::from_secs(30);
/// How often the system is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// A look that takes longer is given up and made anew, because the store's own tries come
/// less and less often while Redis is away.
const LOOK_LIMIT: Duration = Duration::from_millis(50);
/// So long may every fourth take, for a Redis that is there and slow.
const LONG_LOOK_LIMIT: Duration = Duration::from_millis(500);
/// How long events may lag behind what was looked at.
const LAG: Duration = Duration::from_secs(5);

/// Redis' clock, told from our own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    redis_micros: u64,
    at: Instant,
}

impl Clock {
    /// # Errors
    /// [`store::Error`] where Redis did not answer.
    pub(super) async fn read(store: &Store) -> Result<Self, store::Error> {
        let asked = Instant::now();
        let redis_micros = store.time().await?;
        // It was so about halfway between question and answer.
        Ok(Self { redis_micros, at: asked + asked.elapsed() / 2 })
    }

    /// In milliseconds since the epoch.
    pub(super) fn millis(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.at);
        (self.redis_micros + u64::try_from(since.as_micros()).unwrap_or(0)) / 1_000
    }
}

/// A process that we stopped. It goes on at the latest when this is dropped, however
/// that comes to be.
pub(super) struct Stopped {
    process: Identity,
    continued: Cell<bool>,
}

impl Stopped {
    pub(super) const fn new(process: Identity) -> Self {
        Self { process, continued: Cell::new(false) }
    }

    fn is_continued(&self) -> bool {
        self.continued.get()
    }

    fn go_on(&self) {
        if !self.continued.replace(true) {
            // One that is gone, or became another's, needs none.
            _ = signal(&self.process, Signal::CONT);
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.go_on();
    }
}

/// A fault that was sent.
pub(super) struct Hit {
    pub(super) target: Target,
    pub(super) clock: Clock,
    pub(super) at: Instant,
    /// Where it is to go on, and when.
    pub(super) stopped: Option<(Stopped, Instant)>,
}

/// What is looked at after a fault, and what it is held against.
pub(super) struct Sight<'a> {
    pub(super) store: &'a Store,
    pub(super) baseline: &'a Baseline,
    pub(super) host: &'a str,
    pub(super) live: Live,
}

impl Sight<'_> {
    /// Follows what the fault led to until all is as before, or until the limit. What is
    /// missing then; nothing where it has converged.
    pub(super) async fn follow(
        &self,
        hit: &Hit,
        watch: &mut Watch,
        timeline: &mut Timeline,
    ) -> anyhow::Result<Vec<String>> {
        let goes_on = async {
            if let Some((stopped, until)) = &hit.stopped {
                sleep_until(*until).await;
                stopped.go_on();
            }
            std::future::pending::<()>().await
        };
        // Beside what is looked at, so that nothing there can keep it from going on.
        tokio::select! {
            missing = self.observe(hit, watch, timeline) => missing,
            () = goes_on => Ok(Vec::new()),
        }
    }

    async fn observe(
        &self,
        hit: &Hit,
        watch: &mut Watch,
        timeline: &mut Timeline,
    ) -> anyhow::Result<Vec<String>> {
        // What is stopped is a fault that lasts until it goes on.
        let over = hit.stopped.as_ref().map_or(hit.at, |(_, until)| *until);
        let deadline = over + CONVERGED_WITHIN;
        let mut missing = vec!["nothing was looked at".to_owned()];
        let mut ticks = interval(LOOK);
        let mut looks: u32 = 0;
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                events = watch.next() => {
                    for event in events? {
                        self.live.leg(timeline.apply(&event), timeline)?;
                    }
                    continue;
                }
                _ = ticks.tick() => {}
                () = sleep_until(deadline) => return Ok(missing),
            }
            looks = looks.wrapping_add(1);
            let limit = if looks.is_multiple_of(4) { LONG_LOOK_LIMIT } else { LOOK_LIMIT };
            missing = self.look(hit, limit, timeline).await?;
            let now = Instant::now();
            if missing.is_empty() && now < deadline {
                self.catch_up(watch, timeline).await?;
                self.live.leg(timeline.see(Leg::Converged, hit.clock.millis(now)), timeline)?;
                return Ok(missing);
            }
        }
    }

    /// What is missing now. What events do not tell becomes a leg.
    async fn look(
        &self,
        hit: &Hit,
        limit: Duration,
        timeline: &mut Timeline,
    ) -> anyhow::Result<Vec<String>> {
        let (target, clock) = (&hit.target, hit.clock);
        let here = Here { host: self.host, alive: &Identity::is_alive };
        // Before Redis is asked: what it says must be of the time after.
        let lives = target.process.is_alive();
        if let Some((stopped, _)) = &hit.stopped {
            if lives && !stopped.is_continued() {
                return Ok(vec![format!("{} is stopped", target.name)]);
            }
            if lives {
                let millis = clock.millis(Instant::now());
                self.live.leg(timeline.see(Leg::Continued, millis), timeline)?;
            }
        } else if lives {
            return Ok(vec![format!("{} has not ended", target.name)]);
        }
        let world = match timeout(limit, World::read(self.store)).await {
            Ok(Ok(world)) => world,
            Ok(Err(error)) => {
                return Ok(vec![format!("Redis: {}", reconcile::error_chain(&error))]);
            }
            Err(_) => return Ok(vec!["Redis does not answer".to_owned()]),
        };
        if target.kind == Kind::Redis {
            let millis = clock.millis(Instant::now());
            self.live.leg(timeline.see(Leg::RedisBack, millis), timeline)?;
        }
        Ok(self.baseline.missing(&world, &here))
    }

    /// Takes in the events of all that was seen by looking.
    async fn catch_up(&self, watch: &mut Watch, timeline: &mut Timeline) -> anyhow::Result<()> {
        let deadline = Instant::now() + LAG;
        let Ok(end) = self.store.end_of_events().await else { return Ok(()) };
        while let Some(events) = watch.next_until(&end, deadline).await? {
            for event in events {
                self.live.leg(timeline.apply(&event), timeline)?;
            }
        }
        Ok(())
    }

    /// Goes on taking in events until `due`, and on until nothing is awaited any more or
    /// `patience` is over.
    pub(super) async fn settle(
        &self,
        watch: &mut Watch,
        timeline: &mut Timeline,
        due: Instant,
        patience: Instant,
    ) -> anyhow::Result<()> {
        loop {
            let until = if timeline.awaited().is_empty() { due } else { due.max(patience) };
            if until <= Instant::now() {
                return Ok(());
            }
            tokio::select! {
                events = watch.next() => {
                    for event in events? {
                        self.live.leg(timeline.apply(&event), timeline)?;
                    }
                }
                () = sleep_until(until) => return Ok(()),
            }
        }
    }
}
