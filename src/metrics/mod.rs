//! Metrics, as Prometheus reads them. Off unless an address is given; then
//!
//! - [`counted`] counts what the stream of events tells, in the process that leads the
//!   goals; what no scrape has seen when it dies, its successor counts,
//! - [`fleet`] reads the state of the fleet from Redis, when it is asked for,
//! - [`own`] says how this process itself does,
//! - [`server`] answers, and never waits for any of the others.
//!
//! [`catalog`] lists what there is, [`samples`] turns it into text.

pub(crate) mod catalog;
mod counted;
mod fleet;
mod own;
mod samples;
mod server;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reconcile::Stats;
use store::Store;
use store::calls::Calls;
use store::event::{Event, Position, Told};
use store::lead::Controller;
use tokio::time::{Instant, timeout};
use traces::Builder;

use self::counted::Counted;
use self::fleet::Reading;
use self::samples::Samples;
use crate::follow::Follower;
use crate::telemetry::Export;

pub(crate) use self::server::{Address, serve};

/// How long reading the fleet's state for one scrape may take.
const READ_LIMIT: Duration = Duration::from_secs(4);
/// A state that is younger is told again: many who ask cost no more than one.
const YOUNG: Duration = Duration::from_millis(500);
/// How long the end of a term may be held up.
const TERM_END_LIMIT: Duration = Duration::from_millis(200);
/// How long asking the disk for its room may take.
const DISK_LIMIT: Duration = Duration::from_millis(500);
/// All metrics of a process of the orchestrator.
pub(crate) struct Metrics {
    store: Store,
    project: PathBuf,
    started: jiff::Timestamp,
    export: Option<Export>,
    calls: Calls,
    counted: Mutex<Counted>,
    controllers: Mutex<own::Controllers>,
    /// Whether this process tells of the fleet.
    tells_fleet: AtomicBool,
    reading: tokio::sync::Mutex<Option<(Instant, Reading)>>,
}

impl Metrics {
    /// Measures the calls of `store` from now on.
    pub(crate) fn new(store: &Store, project: PathBuf, export: Option<Export>) -> Arc<Self> {
        Arc::new(Self {
            store: store.clone(),
            project,
            export,
            started: jiff::Timestamp::now(),
            calls: store.measure_calls(),
            counted: Mutex::new(Counted::new()),
            controllers: Mutex::default(),
            tells_fleet: AtomicBool::new(false),
            reading: tokio::sync::Mutex::default(),
        })
    }

    /// This process leads from now on; for the goals, too, where it `tells_fleet`.
    pub(crate) fn begin_term(&self, stats: &[(Controller, Stats)], tells_fleet: bool) {
        lock(&self.controllers).begin_term(stats);
        self.tells_fleet.store(tells_fleet, Ordering::Relaxed);
    }

    /// It leads no more. What it has counted stays; where the process `lives` on that will be
    /// asked for, so its successor goes on from there.
    pub(crate) async fn end_term(&self, lives: bool) {
        lock(&self.controllers).end_term();
        if self.tells_fleet.swap(false, Ordering::Relaxed) && lives {
            let counted = lock(&self.counted).position.clone();
            _ = timeout(TERM_END_LIMIT, self.remember(counted)).await;
        }
    }

    /// Whether this process tells of the fleet.
    fn tells_fleet(&self) -> bool {
        self.tells_fleet.load(Ordering::Relaxed)
    }

    /// Everything, now. What is counted counts as told.
    async fn tell(&self) -> Samples {
        let mut samples = Samples::default();
        own::build(self.started, &mut samples);
        let began = Instant::now();
        let up = if self.tells_fleet() {
            let reading = self.read().await;
            if let Some(reading) = &reading {
                samples.merge(reading.samples.clone());
            }
            reading.is_some()
        } else {
            timeout(READ_LIMIT, self.store.time()).await.is_ok_and(|time| time.is_ok())
        };
        samples.count(&catalog::REDIS_UP, &[], u64::from(up));
        samples.add(&catalog::SCRAPE, &[], began.elapsed().as_secs_f64());
        let counted = {
            let counted = lock(&self.counted);
            samples.merge(counted.samples.clone());
            counted.position.clone()
        };
        lock(&self.controllers).tell(&mut samples);
        own::calls(&self.calls, &mut samples);
        if let Some(export) = &self.export {
            samples.count(&catalog::SPANS_LOST, &[], export.lost());
        }
        if let Some((free, size)) = self.disk().await {
            samples.count(&catalog::DISK_FREE, &[], free);
            samples.count(&catalog::DISK_SIZE, &[], size);
        }
        if up && self.tells_fleet() {
            _ = timeout(READ_LIMIT, self.remember(counted)).await;
        }
        samples
    }

    /// The fleet's state, and what is counted of goals and agents that are gone is
    /// forgotten; `None` where Redis does not tell.
    async fn read(&self) -> Option<Reading> {
        let read = async {
            let mut kept = self.reading.lock().await;
            if let Some((at, reading)) = &*kept
                && at.elapsed() < YOUNG
            {
                return Some(reading.clone());
            }
            // Asked before, because what is counted later may be declared later.
            let (goals, agents) = {
                let counted = lock(&self.counted);
                (counted.samples.values_of("goal"), counted.samples.values_of("agent"))
            };
            *kept = None;
            let reading = fleet::read(&self.store).await.inspect_err(|error| {
                let error = reconcile::error_chain(error);
                tracing::debug!(target: "orchestrator", error, "Cannot read the fleet for metrics");
            });
            let reading = reading.ok()?;
            let mut counted = lock(&self.counted);
            for gone in goals.difference(&reading.goals) {
                counted.samples.forget("goal", gone);
            }
            for gone in agents.iter().filter(|agent| reading.lacks_agent(agent)) {
                counted.samples.forget("agent", gone);
            }
            drop(counted);
            *kept = Some((Instant::now(), reading.clone()));
            Some(reading)
        };
        timeout(READ_LIMIT, read).await.ok().flatten()
    }

    async fn disk(&self) -> Option<(u64, u64)> {
        let project = self.project.clone();
        let disk = tokio::task::spawn_blocking(move || own::disk(&project));
        timeout(DISK_LIMIT, disk).await.ok()?.ok()?
    }

    /// Remembers up to where a scrape has seen what is counted.
    async fn remember(&self, position: Option<Position>) {
        if let Some(position) = position
            && let Err(error) = self.store.set_told(Told::Metrics, &position).await
        {
            let error = reconcile::error_chain(&error);
            tracing::debug!(target: "orchestrator", error, "Cannot remember what was counted");
        }
    }
}

impl Follower for Metrics {
    const MAKES: &'static str = "metrics";

    async fn position(&self, store: &Store) -> Result<Position, store::Error> {
        let counted = lock(&self.counted).position.clone();
        let told = store.told(Told::Metrics).await?;
        Ok(go_on(told, counted, store.end_of_events().await?))
    }

    fn event(&self, event: &Event, builder: &mut Builder) {
        lock(&self.counted).event(event, builder);
    }

    /// They are told when somebody asks; see [`Metrics::tell`].
    async fn told(&self, _: &Store, _: &Position) -> Result<(), store::Error> {
        Ok(())
    }
}

/// Where counting goes on: after what any process told and this one counted, but not beyond
/// the `end` of the stream, which may be another one; from its beginning where nothing was.
fn go_on(told: Option<Position>, counted: Option<Position>, end: Position) -> Position {
    let known = told.into_iter().chain(counted).max_by_key(Position::place);
    let known = known.unwrap_or_else(|| Position("0".to_owned()));
    if known.place() > end.place() { end } else { known }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_should_go_on_where_it_ended_and_never_beyond_the_stream() {
        let at = |text: &str| Position(text.to_owned());
        let end = || at("200-0");
        assert_eq!(go_on(None, None, end()), at("0"));
        assert_eq!(go_on(Some(at("90-5")), None, end()), at("90-5"));
        assert_eq!(go_on(Some(at("90-5")), Some(at("100-0")), end()), at("100-0"));
        assert_eq!(go_on(Some(at("100-10")), Some(at("100-9")), end()), at("100-10"));
        assert_eq!(go_on(Some(at("900-0")), None, end()), at("200-0"));
    }

    #[test]
    fn documentation_should_list_every_metric() {
        const BEGIN: &str = "<!-- generated: from here on `ORCH_UPDATE_DOCS=1 cargo test --bin orch metrics` writes -->\n";
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let (written, found) = text.split_once(BEGIN).expect("the marker of the generated part");
        let mut expected = String::new();
        for (title, whose) in [
            ("Of the fleet", catalog::Whose::Fleet),
            ("Of each process of the orchestrator", catalog::Whose::Process),
        ] {
            expected.push_str(&format!("\n### {title}\n\n{}", catalog::table(whose)));
        }
        if std::env::var_os("ORCH_UPDATE_DOCS").is_some() {
            std::fs::write(&path, format!("{written}{BEGIN}{expected}")).unwrap();
            return;
        }
        assert!(
            found == expected,
            "docs/metrics.md is out of date: ORCH_UPDATE_DOCS=1 cargo test --bin orch metrics"
        );
    }
}
