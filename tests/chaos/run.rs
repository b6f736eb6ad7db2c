//! A run: start, one fault after the other, each followed until it is mended, the rest of
//! the work, and the verdict.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use model::AgentName;
use model::goal::Status;
use process::Identity;

use crate::converge::mended;
use crate::deck::{Deaths, Deck, Restarts};
use crate::kind::{Hits, Kind, Service};
use crate::report::{self, Mended};
use crate::scene::{Scene, Target, Targets};
use crate::settings::Settings;
use crate::strike::{Active, Ended, begin};
use crate::support::{goal_001, id};
use crate::verdict::judge;

/// L1: after the last fault, actual equals desired within this.
const L1: Duration = Duration::from_secs(30);
/// How long the fleet may take to start, and without a task that is done.
const PATIENCE: Duration = Duration::from_secs(60);
/// One fault in so many comes with a second one.
const PAIR_IN: u32 = 6;
/// The longest pause between two faults.
const LONGEST_PAUSE_MS: u64 = 600;
/// Redis loses its data after this part of the time: what was done is done again.
const EMPTY_AFTER: u32 = 5;
/// How many of the last faults a failure shows.
const LAST: usize = 12;

/// Runs it all; panics with what was broken.
pub(crate) async fn run(settings: Settings) {
    println!("chaos: {settings:?}");
    let began = Instant::now();
    let scene = Scene::start(&settings).await;
    let mut run = Run {
        random: fastrand::Rng::with_seed(settings.seed),
        deck: Deck::new(&settings.only),
        restarts: Restarts::default(),
        deaths: Deaths::default(),
        hit: BTreeMap::new(),
        lines: Vec::new(),
        mended: Vec::new(),
        began,
        scene,
        settings: &settings,
    };
    for round in 1.. {
        let start = Instant::now();
        let wrong = match run.round().await {
            Ok(()) => {
                let (tally, wrong) = judge(&run.scene, &settings).await;
                println!("{}", report::text(&settings, start.elapsed(), &run.mended, &tally));
                wrong
            }
            Err(error) => vec![error],
        };
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        if began.elapsed() >= settings.whole {
            return;
        }
        run.mended.clear();
        run.scene.plan_again(&settings, round);
    }
}

struct Run<'a> {
    scene: Scene,
    settings: &'a Settings,
    random: fastrand::Rng,
    deck: Deck,
    restarts: Restarts,
    deaths: Deaths,
    /// When an agent was last hit.
    hit: BTreeMap<AgentName, Instant>,
    lines: Vec<String>,
    mended: Vec<Mended>,
    began: Instant,
}

/// What a run that fails leaves is kept.
impl Drop for Run<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let last = &self.lines[self.lines.len().saturating_sub(LAST)..];
            let kept = keep(&self.scene, self.settings.seed);
            eprintln!(
                "\nchaos: FAILED with seed {}; the last faults:\n{}\nthe project, its state and its \
                 logs are kept in {}\n",
                self.settings.seed,
                last.join("\n"),
                kept.display()
            );
        }
    }
}

impl Run<'_> {
    /// One plan, from its first task to its last, under faults.
    async fn round(&mut self) -> Result<(), String> {
        let start = Instant::now();
        self.until_planned(start + PATIENCE).await?;
        mended(&self.scene, start + PATIENCE).await.map_err(|missing| {
            format!("it did not start: {missing}\n{}", self.scene.fleet.log())
        })?;
        self.say(format!("at work after {} ms", start.elapsed().as_millis()));
        let begin = Instant::now();
        // Once per round.
        let only = &self.settings.only;
        let mut empty =
            Some(Kind::RedisEmpty).filter(|kind| only.is_empty() || only.contains(kind));
        let is_due = |run: &Self| {
            begin.elapsed() < run.settings.during || run.faults() < run.settings.faults
        };
        while is_due(self) {
            let first = if begin.elapsed() < self.settings.during / EMPTY_AFTER {
                None
            } else {
                empty.take()
            };
            self.fault(first).await?;
            let pause = self.random.u64(..LONGEST_PAUSE_MS);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        self.finish().await
    }

    /// How many faults were mended; two at once are two.
    fn faults(&self) -> usize {
        report::faults(&self.mended)
    }

    /// Waits until the present plan is in force.
    async fn until_planned(&self, deadline: Instant) -> Result<(), String> {
        let first = id(&self.scene.plan.tasks[0]);
        while Instant::now() < deadline {
            if matches!(self.scene.fleet.store.task(&first).await, Ok(Some(_))) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(format!("there is no plan\n{}", self.scene.fleet.log()))
    }

    fn say(&mut self, line: String) {
        let line = format!("{:7.1} s  {line}", self.began.elapsed().as_secs_f64());
        println!("{line}");
        self.lines.push(line);
    }

    /// One fault, or two at once, until it is mended.
    async fn fault(&mut self, first: Option<Kind>) -> Result<(), String> {
        let targets = self.scene.targets().await?;
        self.deaths.look(&targets);
        let mut kinds = vec![first.unwrap_or_else(|| self.draw(|_| true))];
        if kinds[0].may_pair() && self.random.u32(..PAIR_IN) == 0 {
            let first = kinds[0];
            kinds.push(self.draw(|kind| kind.may_pair_with(first)));
        }
        let backoff = kinds.iter().flat_map(|kind| kind.ends());
        let backoff = backoff.map(|service| self.restarts.backoff(*service)).max();
        let backoff = backoff.unwrap_or_default();
        let mut active = Vec::new();
        for kind in &kinds {
            let victims = self.victims(*kind, &targets);
            active.push(begin(*kind, &self.scene, &targets, &victims, &mut self.random));
            self.restarts.ended(kind.ends());
        }
        let names: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
        let (name, what) = (names.join("+"), describe(&active));
        if kinds[0].changes_nothing() {
            let meanwhile = mended(&self.scene, Instant::now() + L1).await;
            meanwhile.map_err(|missing| format!("{name} changed something: {missing}"))?;
        }
        active.sort_by_key(|fault| fault.until);
        let mut ended = Vec::new();
        for fault in active {
            tokio::time::sleep_until(fault.until.into()).await;
            ended.extend(fault.end(&self.scene));
        }
        let over = Instant::now();
        let found = mended(&self.scene, over + L1 + backoff).await;
        let number = self.mended.len() + 1;
        let at = match found {
            Ok(at) => at,
            Err(missing) => {
                self.say(format!("#{number} {name}{what}: NOT converged"));
                let log = self.scene.fleet.log();
                return Err(format!(
                    "{name} was not mended within {L1:?} and {backoff:?} of systemg's: {missing}\n{log}"
                ));
            }
        };
        if kinds[0] == Kind::RedisEmpty && self.scene.witness.seen().count("data-lost") == 0 {
            return Err("Redis lost its data, and nobody said so".to_owned());
        }
        let took = at.saturating_duration_since(over);
        let sysg = self.restarted_in(&ended).await;
        let of_sysg = sysg.map_or_else(String::new, |sysg| {
            format!(", systemg started it after {} ms", sysg.as_millis())
        });
        self.say(format!(
            "#{number} {name}{what}: converged after {} ms{of_sysg}",
            took.as_millis()
        ));
        self.mended.push(Mended { kinds: name, took, sysg });
        Ok(())
    }

    fn draw(&mut self, may: impl Fn(Kind) -> bool) -> Kind {
        let (restarts, deaths) = (&self.restarts, &self.deaths);
        let allow = |kind| may(kind) && restarts.allow(kind) && deaths.allow(kind);
        let drawn = self.deck.draw(&mut self.random, allow);
        // Agents are always to be had.
        drawn.unwrap_or(Kind::AgentKill)
    }

    /// Which agents a fault of this kind hits: those that died least often and were hit
    /// longest ago.
    fn victims(&mut self, kind: Kind, targets: &Targets) -> Vec<Target> {
        let mut order = targets.agents.clone();
        self.random.shuffle(&mut order);
        order
            .sort_by_key(|agent| (self.deaths.of(&agent.name), self.hit.get(&agent.name).copied()));
        order.truncate(match kind.hits() {
            Hits::None => 0,
            Hits::One => 1,
            Hits::Some => self.random.usize(2..=targets.agents.len().div_ceil(2)),
        });
        for agent in &order {
            self.hit.insert(agent.name.clone(), Instant::now());
        }
        order
    }

    /// How long systemg took to start again what had ended: the longest.
    async fn restarted_in(&self, ended: &[Ended]) -> Option<Duration> {
        if ended.is_empty() {
            return None;
        }
        let now = self.scene.targets().await.ok()?;
        let took = |ended: &Ended| {
            let process = match ended.service {
                Service::Redis => now.redis,
                Service::Orchestrator => now.orchestrator,
            };
            let age = (process != ended.process).then(|| since_start(process)).flatten()?;
            Some(ended.at.elapsed().saturating_sub(age))
        };
        ended.iter().filter_map(took).max()
    }

    /// Waits until all tasks are done, as long as some are.
    async fn finish(&mut self) -> Result<(), String> {
        let (mut done, mut since) = (0, Instant::now());
        loop {
            let goal = self.scene.fleet.store.goal(&goal_001()).await;
            let goal = goal.map_err(|error| error.to_string())?.ok_or("the goal is gone")?;
            if goal.status == Status::Complete {
                self.say(format!("complete: {} tasks", goal.counts.done));
                break;
            }
            if goal.counts.done != done {
                (done, since) = (goal.counts.done, Instant::now());
            }
            if goal.status == Status::Failed || since.elapsed() > PATIENCE {
                let log = self.scene.fleet.log();
                return Err(format!("goal-001 is {}: {:?}\n{log}", goal.status, goal.counts));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let now = Instant::now();
        mended(&self.scene, now + L1).await.map(|_| ())
    }
}

fn describe(active: &[Active]) -> String {
    let said = active.iter().map(|fault| fault.what.as_str()).filter(|what| !what.is_empty());
    let said: Vec<&str> = said.collect();
    if said.is_empty() { String::new() } else { format!(" ({})", said.join("; ")) }
}

/// How long ago a process was started, to a hundredth of a second.
fn since_start(process: Identity) -> Option<Duration> {
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let up: f64 = uptime.split(' ').next()?.parse().ok()?;
    let ticks = u32::try_from(process.start_time).ok()?;
    Some(Duration::from_secs_f64((up - f64::from(ticks) / 100.0).max(0.0)))
}

/// Keeps what a failed run leaves. Where.
fn keep(scene: &Scene, seed: u64) -> PathBuf {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{seed}"));
    _ = fs::remove_dir_all(&kept);
    fs::create_dir_all(&kept).unwrap();
    let project = &scene.fleet.project;
    for (name, folder) in [("project", project.folder()), ("home", project.home())] {
        // Also pipes and files with holes, as they are.
        _ = Command::new("cp").arg("-a").arg(folder).arg(kept.join(name)).status();
    }
    kept
}
