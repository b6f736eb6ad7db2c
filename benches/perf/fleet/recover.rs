//! How long recovery takes on a system that is otherwise idle, leg by leg. Events tell the
//! time, in whole milliseconds on Redis' clock, which is this host's: a leg is wrong by one
//! at most.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::task::State;
use process::{Identity, Signal};
use store::event::Event;
use testkit::wait_until;

use super::support::{DEADLINE, Fleet, goal, identity, signal, task};
use super::{agents, millis, names, usual};
use crate::report::Report;

/// Each agent of a fleet dies once, and each task loses its agent once: after a second
/// time both wait for their backoff, as they should.
const AGENTS: usize = 26;
const ROUNDS: usize = 4;
/// How often Redis is killed; systemg waits twice as long each time.
const REDIS_KILLS: usize = 6;

/// Times of one kind.
struct Figure {
    what: &'static str,
    /// The most that the median and the 99th percentile should be.
    wanted: [Option<f64>; 2],
    times: Vec<f64>,
}

impl Figure {
    const fn new(what: &'static str, wanted: [Option<f64>; 2]) -> Self {
        Self { what, wanted, times: Vec::new() }
    }

    fn add(&mut self, time: Duration) {
        self.times.push(millis(time));
    }
}

pub(crate) async fn measure() -> Report {
    let mut figures = [
        Figure::new("agent killed -> its task runs again", [Some(60.0), Some(250.0)]),
        Figure::new("of this: noticed", [None; 2]),
        Figure::new("of this: noticed and its successor registered", [None; 2]),
        Figure::new("orchestrator killed -> reconciles again", [None; 2]),
        Figure::new("of this: after its process began", [None, Some(100.0)]),
        Figure::new("Redis killed -> agents claim again", [None; 2]),
        Figure::new("of this: after Redis' first answer", [None, Some(500.0)]),
    ];
    let [again, noticed, registered, orchestrator, own, redis, after_redis] = &mut figures;
    for _ in 0..ROUNDS {
        without_work(
            [&mut *again, &mut *noticed, &mut *registered],
            [&mut *orchestrator, &mut *own],
        )
        .await;
    }
    busy(redis, after_redis).await;
    let mut report = Report::new("recover");
    for Figure { what, wanted, times } in &figures {
        report.percentiles(what, "ms", times, *wanted);
    }
    report
}

/// Agents that each run a long task, and an orchestrator with nothing to do.
async fn without_work(of_agents: [&mut Figure; 3], of_orchestrator: [&mut Figure; 2]) {
    let names = names(AGENTS);
    let line = |n: usize| task(&format!("t{n}: Wait (role: w{n})"), "sleep 100000");
    let tasks: String = (0..AGENTS).map(line).collect();
    let fleet = usual(agents(&names) + &goal(&tasks)).start().await;
    for n in 0..AGENTS {
        fleet.until_task(&format!("t{n}"), State::Running).await;
    }
    let faults = chaos(&fleet);
    for (figure, leg) in of_agents.into_iter().zip(["running_again", "detected", "registered"]) {
        for fault in &faults {
            let millis = fault["legs"][leg].as_u64().unwrap_or_else(|| panic!("{leg}: {fault}"));
            figure.add(Duration::from_millis(millis));
        }
    }
    let (until_started, until_reconciled) = without_orchestrator(&fleet, &names[0]).await;
    let [whole, own] = of_orchestrator;
    whole.add(until_started + until_reconciled);
    own.add(until_reconciled);
}

/// Kills every agent once, one after the other. What `orch chaos` measured.
fn chaos(fleet: &Fleet) -> Vec<serde_json::Value> {
    let count = AGENTS.to_string();
    let args = ["chaos", "--yes", "--format", "json", "--every", "0.2s", "--count", &count];
    let output = fleet.orch(&args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    json["faults"].as_array().unwrap().clone()
}

/// Kills the orchestrator and then an agent, which only its successor can notice: until
/// that one's process began, and from then until it noticed.
async fn without_orchestrator(fleet: &Fleet, agent: &str) -> (Duration, Duration) {
    let victim = fleet.until_registered(agent).await;
    let [before] = fleet.orchestrators()[..] else { panic!("not one orchestrator") };
    let killed = now();
    signal(before, Signal::KILL);
    signal(identity(&victim), Signal::KILL);
    let incarnation = victim.incarnation.to_string();
    let is_it = |event: &Event| event.field("incarnation") == incarnation;
    let noticed = wait_until("its successor notices the dead agent", DEADLINE, || async {
        let deaths = fleet.events("agent-death").await;
        deaths.iter().find(|event| is_it(event)).map(Event::millis).ok_or_else(|| fleet.log())
    })
    .await;
    let [after] = fleet.orchestrators()[..] else { panic!("not one orchestrator") };
    let started = started_at(after);
    fleet.until_replaced(agent, &victim).await;
    (started.saturating_sub(killed), Duration::from_millis(noticed).saturating_sub(started))
}

/// Agents that always have something to claim, and a Redis that is killed.
async fn busy(whole: &mut Figure, own: &mut Figure) {
    let tasks: String = (1..=3_000).map(|n| task(&format!("t{n}: Short"), "sleep 0.1")).collect();
    let fleet = usual(agents(&names(8)) + &goal(&tasks)).start().await;
    for _ in 0..REDIS_KILLS {
        let last = next_claim(&fleet, now()).await;
        assert!(!last.is_zero());
        let redis = fleet.redis_process();
        let killed = now();
        signal(redis, Signal::KILL);
        let back = until_redis_answers(fleet.redis_port, redis);
        let claimed = next_claim(&fleet, back).await;
        whole.add(claimed.saturating_sub(killed));
        own.add(claimed.saturating_sub(back));
    }
}

/// When the first task after `since` is granted.
async fn next_claim(fleet: &Fleet, since: Duration) -> Duration {
    let millis = wait_until("a task is granted", DEADLINE, || async {
        let claims = fleet.events("task-claim").await;
        let claims = claims.iter().map(Event::millis);
        let first = claims.filter(|millis| u128::from(*millis) >= since.as_millis()).min();
        first.ok_or_else(|| fleet.log())
    })
    .await;
    Duration::from_millis(millis)
}

/// When Redis, another process than `before`, first answers with its data loaded.
fn until_redis_answers(port: u16, before: Identity) -> Duration {
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        if !before.is_alive() && pong(port).is_some() {
            return now();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("Redis did not come back within {DEADLINE:?}");
}

fn pong(port: u16) -> Option<()> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).ok()?;
    connection.write_all(b"PING\r\n").ok()?;
    let mut answer = [0; 5];
    connection.read_exact(&mut answer).ok()?;
    (&answer == b"+PONG").then_some(())
}

/// Since the epoch, as events count; Redis runs on this host.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// When a process began, since the epoch, to a hundredth of a second.
fn started_at(process: Identity) -> Duration {
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let up: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    #[allow(clippy::cast_precision_loss, reason = "some millions")]
    let start = process.start_time as f64 / 100.0;
    now().saturating_sub(Duration::from_secs_f64((up - start).max(0.0)))
}
