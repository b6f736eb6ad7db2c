//! How long recovery takes on a system that is otherwise idle, leg by leg.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::task::State;
use process::{Identity, Signal};
use store::event::Event;
use testkit::wait_until;

use crate::report::percentile;
use crate::support::{DEADLINE, Fleet, agents, fleet, goal, identity, signal, task};

/// Each agent of a fleet dies once, and each task loses its agent once: after a second
/// time both wait for their backoff, as they should.
const AGENTS: usize = 26;
const ROUNDS: usize = 4;
/// How often Redis is killed; systemg waits twice as long each time.
const REDIS_KILLS: usize = 6;

/// Times of one kind.
struct Figure {
    what: &'static str,
    wanted: &'static str,
    times: Vec<Duration>,
}

impl Figure {
    fn new(what: &'static str, wanted: &'static str) -> Self {
        Self { what, wanted, times: Vec::new() }
    }

    fn line(&self) -> String {
        let mut times = self.times.clone();
        times.sort_unstable();
        let at = |share| percentile(&times, share).as_secs_f64() * 1_000.0;
        let (count, p50, p99, max) = (times.len(), at(50), at(99), at(100));
        format!("{:66} {count:>4} {p50:>8.0} {p99:>8.0} {max:>8.0}  {}", self.what, self.wanted)
    }
}

/// Measures and prints all of it.
pub(crate) async fn measure() {
    let mut idle_times = [
        Figure::new("agent killed -> its task runs again", "p50 < 60, p99 < 250"),
        Figure::new("  of this: until its successor is registered", ""),
        Figure::new("orchestrator killed -> controllers reconcile again", ""),
        Figure::new("  of this: until systemg has started it", ""),
        Figure::new("  the rest, from the start of its process", "< 100"),
    ];
    for _ in 0..ROUNDS {
        idle(&mut idle_times).await;
    }
    let mut figures = Vec::from(idle_times);
    busy(&mut figures).await;
    println!("\n{:66} {:>4} {:>8} {:>8} {:>8}  wanted", "ms", "", "p50", "p99", "max");
    figures.iter().for_each(|figure| println!("{}", figure.line()));
}

/// Agents that each run a long task, and an orchestrator with nothing to do.
async fn idle(times: &mut [Figure; 5]) {
    let names: Vec<String> = (1..=AGENTS).map(|n| format!("w{n}_agent")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let line = |n: usize| task(&format!("t{n}: Wait (role: w{n})"), "sleep 100000");
    let tasks: String = (1..=AGENTS).map(line).collect();
    let fleet = fleet(agents(&names) + &goal(&tasks)).lease_ttl("30").start().await;
    for n in 1..=AGENTS {
        fleet.until_task(&format!("t{n}"), State::Running).await;
    }
    for fault in chaos(&fleet) {
        times[0].times.extend(leg(&fault, "running_again"));
        times[1].times.extend(leg(&fault, "registered"));
    }
    let (until_started, until_reconciled) = without_orchestrator(&fleet, names[0]).await;
    times[2].times.push(until_started + until_reconciled);
    times[3].times.push(until_started);
    times[4].times.push(until_reconciled);
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

fn leg(fault: &serde_json::Value, name: &str) -> Option<Duration> {
    fault["legs"][name].as_u64().map(Duration::from_millis)
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
async fn busy(figures: &mut Vec<Figure>) {
    let names: Vec<String> = (1..=8).map(|n| format!("w{n}_agent")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut text = String::from("## Agents\n");
    for name in names {
        text.push_str(&format!("\n### {name}\n- Goal: goal-001\n- Role: any\n"));
    }
    let tasks: String = (1..=3_000).map(|n| task(&format!("t{n}: Short"), "sleep 0.1")).collect();
    let fleet = fleet(text + &goal(&tasks))
        .lease_ttl("30")
        .redis_args(&["--appendfsync", "always"])
        .start()
        .await;
    let mut whole = Figure::new("Redis killed -> agents claim again", "");
    let mut start = Figure::new("  of this: until Redis answers again", "");
    let mut own = Figure::new("  the rest, from its first answer", "< 500");
    for _ in 0..REDIS_KILLS {
        let last = next_claim(&fleet, now()).await;
        assert!(!last.is_zero());
        let redis = fleet.redis_process();
        let killed = now();
        signal(redis, Signal::KILL);
        let back = until_redis_answers(fleet.redis_port, redis);
        let claimed = next_claim(&fleet, back).await;
        whole.times.push(claimed.saturating_sub(killed));
        start.times.push(back.saturating_sub(killed));
        own.times.push(claimed.saturating_sub(back));
    }
    figures.extend([whole, start, own]);
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
