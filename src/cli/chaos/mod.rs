//! `orch chaos`: break what runs, and see that it mends itself.
//!
//! Faults are signals to processes that this project's Redis has registered on this host
//! ([`targets`]). Which, and when, follows from a seed ([`schedule`]). After each the
//! stream of events is followed until all is as it was before the first one ([`strike`],
//! [`converge`]), and what took how long becomes a table ([`legs`], [`render`]).

mod audited;
mod converge;
mod legs;
#[cfg(test)]
mod legs_tests;
mod plan;
mod render;
mod schedule;
mod strike;
mod targets;
mod watch;

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal};
use std::time::Duration;

use jiff::Timestamp;
use process::Identity;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use self::audited::Audited;
use self::converge::{Baseline, Here, World};
use self::legs::Timeline;
pub(super) use self::plan::Args;
use self::plan::Plan;
use self::render::{Cut, Live, Struck, Summary};
use self::schedule::{Planned, choose};
use self::strike::{Clock, Hit, Sight, Stopped};
use self::targets::{Found, Target};
use self::watch::Watch;
use super::args::Globals;
use super::connect::Session;
use super::output::{self, Screen};
use super::{Exit, Failure};
use crate::host;

/// How often a fault is aimed anew where its target ended by itself meanwhile.
const AIMS: u32 = 5;
/// How long what is still to come may take once all is as before, as a task that is not
/// run again at once.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) async fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    args.check(std::io::stdin().is_terminal() && std::io::stderr().is_terminal())?;
    let session = Session::open(globals).await?;
    let host = host::name();
    let ready = session.known(prepare(args, &session, &host).await)?;
    let live = Live { beside: args.output.is_json(), paint: Screen::now(globals).paint };
    if args.dry_run {
        return dry_run(args, &ready);
    }
    if !ready.missing.is_empty() {
        return Err(Failure::negative(format!(
            "nothing was sent, since the system is not well to begin with: {}",
            ready.missing.join("; ")
        ))
        .into());
    }
    if ready.found.targets.is_empty() {
        return Err(Failure::negative(format!("there is nothing to hit: {}", ready.none())).into());
    }
    live.say(&render::targets(&ready.plan, &ready.found))?;
    if !args.yes && !confirmed().await? {
        output::tell("nothing was sent\n");
        return Ok(Exit::Negative);
    }
    let position = session.known(session.store.end_of_events().await)?;
    let watch = Watch::from(session.store.waiting()?, position.clone());
    let sight = Sight { store: &session.store, baseline: &ready.baseline, host: &host, live };
    let mut chaos = Chaos { session: &session, args, sight, watch, struck: Vec::new() };
    let cut = tokio::select! {
        cut = chaos.run(&ready.plan) => cut?,
        by = asked_to_end() => Some(Cut::Asked(by?)),
    };
    if cut.is_some() {
        live.say("\n")?;
    }
    let struck = std::mem::take(&mut chaos.struck);
    drop(chaos);
    let audited = Audited::read(&session.store, audited::begin_after(&position)).await;
    let audited = audited.map_err(|error| reconcile::error_chain(&error));
    let summary = Summary { plan: &ready.plan, struck: &struck, cut, audited };
    if args.output.is_json() {
        output::print_json(&summary.json())?;
    } else {
        let screen = Screen::now(globals);
        output::print(&summary.text(screen.width, screen.paint))?;
    }
    Ok(if summary.is_good() { Exit::Done } else { Exit::Negative })
}

/// What was seen before the first fault.
struct Ready {
    plan: Plan,
    found: Found,
    baseline: Baseline,
    missing: Vec<String>,
}

impl Ready {
    fn none(&self) -> String {
        let why: Vec<String> =
            self.found.missing.iter().map(|(kind, why)| format!("{kind}: {why}")).collect();
        why.join("; ")
    }
}

async fn prepare(args: &Args, session: &Session, host: &str) -> anyhow::Result<Ready> {
    let here = Here { host, alive: &Identity::is_alive };
    let world = World::read(&session.store).await?;
    let found = find(args, session, &world, &here).await?;
    let baseline = Baseline::of(&world);
    let missing = baseline.missing(&world, &here);
    Ok(Ready { plan: args.plan(&found), found, baseline, missing })
}

async fn find(
    args: &Args,
    session: &Session,
    world: &World,
    here: &Here<'_>,
) -> Result<Found, store::Error> {
    let url = &session.target.options.url;
    targets::find(&session.store, url, &args.kinds(), world, here).await
}

fn dry_run(args: &Args, ready: &Ready) -> anyhow::Result<Exit> {
    let mut hits: BTreeMap<String, u32> = BTreeMap::new();
    let mut steps = Vec::new();
    for planned in &ready.plan.faults {
        let target = aim(&ready.found, planned, &hits);
        if let Some(target) = target {
            *hits.entry(target.name.clone()).or_default() += 1;
        }
        steps.push((*planned, target));
    }
    if args.output.is_json() {
        output::print_json(&render::dry_json(&ready.plan, &ready.found, &steps, &ready.missing))?;
        return Ok(Exit::Done);
    }
    let mut text = render::targets(&ready.plan, &ready.found);
    text.push_str("As things are now:\n");
    text.push_str(&render::schedule(&steps));
    for missing in &ready.missing {
        text.push_str(&format!("It would not begin now: {missing}\n"));
    }
    text.push_str("Nothing was sent.\n");
    output::print(&text)?;
    Ok(Exit::Done)
}

/// Whom a fault hits.
fn aim<'a>(
    found: &'a Found,
    planned: &Planned,
    hits: &BTreeMap<String, u32>,
) -> Option<&'a Target> {
    let targets = found.of(planned.kind);
    let names: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
    choose(&names, hits, planned.pick).and_then(|n| targets.get(n).copied())
}

/// Asks on the terminal.
async fn confirmed() -> anyhow::Result<bool> {
    output::tell("Type `yes` to begin: ");
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    Ok(read.await??.trim().eq_ignore_ascii_case("yes"))
}

/// Waits until somebody wants us to end. By what.
async fn asked_to_end() -> anyhow::Result<&'static str> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(tokio::select! {
        _ = interrupt.recv() => "Ctrl-C",
        _ = terminate.recv() => "SIGTERM",
        _ = hangup.recv() => "SIGHUP",
    })
}

/// A run under way.
struct Chaos<'a> {
    session: &'a Session,
    args: &'a Args,
    sight: Sight<'a>,
    watch: Watch,
    struck: Vec<Struck>,
}

impl Chaos<'_> {
    /// Sends one fault after the other. Why it ended before its time, where it did.
    async fn run(&mut self, plan: &Plan) -> anyhow::Result<Option<Cut>> {
        let start = Instant::now();
        let is_over = |at: Instant| plan.during.is_some_and(|during| at >= start + during);
        let mut hits: BTreeMap<String, u32> = BTreeMap::new();
        for (n, planned) in plan.faults.iter().enumerate() {
            sleep_until(start + planned.after).await;
            let Some(hit) = self.strike(plan, planned, &hits).await? else {
                return Ok(Some(Cut::Nobody(planned.kind)));
            };
            *hits.entry(hit.target.name.clone()).or_default() += 1;
            self.mend(&hit).await?;
            // The next one comes when it is due, and not before this one is mended.
            let now = Instant::now();
            let next = plan.faults.get(n + 1).map(|next| start + next.after);
            let next = next.filter(|next| !is_over((*next).max(now)));
            if let Some(struck) = self.struck.last_mut() {
                let (due, patience) = (next.unwrap_or(now), now + PATIENCE);
                self.sight.settle(&mut self.watch, &mut struck.timeline, due, patience).await?;
            }
            self.sight.live.say("\n")?;
            if next.is_none() {
                break;
            }
        }
        Ok(None)
    }

    /// Sends one fault; `None` where there is nobody to hit.
    async fn strike(
        &mut self,
        plan: &Plan,
        planned: &Planned,
        hits: &BTreeMap<String, u32>,
    ) -> anyhow::Result<Option<Hit>> {
        for _ in 0..AIMS {
            let here = Here { host: self.sight.host, alive: &Identity::is_alive };
            let world = World::read(self.sight.store).await?;
            let found = find(self.args, self.session, &world, &here).await?;
            let Some(target) = aim(&found, planned, hits).cloned() else { return Ok(None) };
            let clock = Clock::read(self.sight.store).await?;
            let at = Instant::now();
            // Made first: from here on nothing can leave it stopped.
            let stopped = plan.blow.stops().map(|pause| (Stopped::new(target.process), at + pause));
            let sent = process::signal(&target.process, plan.blow.signal()).map_err(|error| {
                let (name, process) = (&target.name, target.process);
                anyhow::Error::from(error)
                    .context(format!("cannot signal {name} ({process}): run it as the same user"))
            })?;
            if !sent {
                continue;
            }
            let timeline = Timeline::new(target.victim.clone(), clock.millis(at), plan.blow.ends());
            let struck = Struck {
                number: self.struck.len() + 1,
                at: Timestamp::now(),
                target: target.clone(),
                timeline,
                missing: vec!["the run ended first".to_owned()],
            };
            let line = render::begin(struck.number, struck.at, plan.blow, &target);
            self.struck.push(struck);
            self.sight.live.say(&line)?;
            return Ok(Some(Hit { target, clock, at, stopped }));
        }
        Ok(None)
    }

    /// Follows the last fault until all is as before.
    async fn mend(&mut self, hit: &Hit) -> anyhow::Result<()> {
        let Some(struck) = self.struck.last_mut() else { return Ok(()) };
        let missing = self.sight.follow(hit, &mut self.watch, &mut struck.timeline).await?;
        if !missing.is_empty() {
            self.sight.live.failed(&missing)?;
        }
        struck.missing = missing;
        Ok(())
    }
}
