//! What idle agents cost: many of them in one process, and nothing to be done.

use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use testkit::RedisServer;

use crate::child::{self, Told, cpu_seconds, memory_kib};
use crate::report::{Report, Wanted};
use crate::world::World;

const AGENTS: u64 = 10_000;
/// Each has one for work, and one to wait with.
const CONNECTIONS: u64 = 2;
/// Files that a process opens besides, and those that Redis keeps for itself.
const OTHER_FILES: u64 = 200;
const KEPT_FILES: u64 = 40;
/// How many begin at a time: connecting is given up after two seconds.
const AT_ONCE: usize = 100;
const TIME: Duration = Duration::from_secs(60);

pub(crate) async fn measure() -> Report {
    let told = child::run("loops", &[]);
    let agents = told["agents"];
    let mut report = Report::new("loops");
    let mut add = |name: &str, unit: &str, key: &str| {
        report.add(format!("{agents} idle agents: {name}"), unit, &[told[key]]);
    };
    add("CPU of their process", "% of a core", "cpu");
    add("CPU of Redis", "% of a core", "cpu of Redis");
    add("memory of each", "KiB", "memory");
    add("memory of each in Redis", "KiB", "memory of Redis");
    add("commands of each, with those within scripts", "per second", "commands");
    add("time to begin, all together", "s", "begin");
    let name = format!("{agents} idle agents: calls of each");
    report.want(name, "per second", &[told["calls"]], Wanted::AtMost(1.0));
    report
}

pub(crate) async fn child(_: &[&str]) -> Told {
    let files = files();
    let agents = usize::try_from(AGENTS.min((files - OTHER_FILES) / CONNECTIONS)).unwrap();
    let most = format!("maxclients {}", files - KEPT_FILES);
    let server = RedisServer::options().config(&most).start();
    let redis = server.pid();
    let mut world = World::on(server).await;
    let (before, before_in_redis) = (memory_kib("VmRSS"), Info::of(&world));
    let began = Instant::now();
    for first in (0..agents).step_by(AT_ONCE) {
        world.join(AT_ONCE.min(agents - first)).await;
    }
    let begin = began.elapsed().as_secs_f64();

    let (ours, theirs, info) =
        (cpu_seconds(std::process::id()), cpu_seconds(redis), Info::of(&world));
    let began = Instant::now();
    tokio::time::sleep(TIME).await;
    let seconds = began.elapsed().as_secs_f64();
    let (ours, theirs) = (cpu_seconds(std::process::id()) - ours, cpu_seconds(redis) - theirs);
    let later = Info::of(&world);
    #[allow(clippy::cast_precision_loss, reason = "some thousands")]
    let agents = agents as f64;
    let numbers = [
        ("agents", agents),
        ("begin", begin),
        ("cpu", ours / seconds * 100.0),
        ("cpu of Redis", theirs / seconds * 100.0),
        ("memory", (memory_kib("VmRSS") - before) / agents),
        ("memory of Redis", (later.bytes - before_in_redis.bytes) / 1024.0 / agents),
        ("calls", (later.calls - info.calls) / seconds / agents),
        ("commands", (later.commands - info.commands) / seconds / agents),
    ];
    numbers.map(|(name, number)| (name.to_owned(), number)).into()
}

/// How many files this process, and what it starts, may open from now on.
fn files() -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let needed = AGENTS * CONNECTIONS + OTHER_FILES;
    let most = maximum.map_or(needed, |maximum| maximum.min(needed));
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum }).unwrap();
    most
}

/// What Redis says of itself.
struct Info {
    /// What agents send.
    calls: f64,
    /// That and what scripts call.
    commands: f64,
    bytes: f64,
}

impl Info {
    fn of(world: &World) -> Self {
        let mut ask = redis::cmd("INFO");
        let text: String = ask.arg("everything").query(&mut world.server.connection()).unwrap();
        let number = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.expect(name).trim_end().parse().expect(name)
        };
        let within_scripts = text.lines().filter_map(|line| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            // All that an agent sends once it has registered. Redis does not count those of
            // the latter that nothing ends but their time.
            let is_sent = matches!(name, "fcall" | "blpop");
            (!is_sent).then(|| rest.split(',').next()?.parse::<f64>().ok())?
        });
        let commands = number("total_commands_processed");
        Self {
            calls: commands - within_scripts.sum::<f64>(),
            commands,
            bytes: number("used_memory"),
        }
    }
}
