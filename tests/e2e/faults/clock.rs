//! The wall clocks of Redis and of all the rest jump an hour while agents are at work.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;
use model::goal::Status;
use model::task::State;
use process::Identity;
use store::agent::Registered;
use tempfile::TempDir;
use testkit::wait_until;

use super::skip;
use crate::support::{DEADLINE, Fleet, agents, fleet, goal, task};

const HOUR: i64 = 3600;
/// What a clock may differ from where it should stand, while a test looks: seconds.
const SLACK: i64 = 600;

const HOLDER: &str = "hold_agent";
const NAMES: [&str; 3] = [HOLDER, "tick_agent", "retry_agent"];
/// Where the clocks of (the orchestrator and its agents, Redis) stand, in hours. Each of
/// them and both jump forwards and back.
const STANDS: [(i64, i64); 6] = [(0, -1), (0, 1), (1, 1), (0, 0), (-1, 0), (0, 1)];

/// A clock of a group of processes.
struct Clock(PathBuf);

impl Clock {
    fn new(folder: &Path, name: &str) -> Self {
        let path = folder.join(name);
        fs::write(&path, 0_i64.to_ne_bytes()).unwrap();
        Self(path)
    }

    /// Sets it so many hours ahead of the true time.
    fn set(&self, hours: i64) {
        // In place: running processes have it mapped.
        let mut file = OpenOptions::new().write(true).open(&self.0).unwrap();
        file.write_all(&(hours * HOUR).to_ne_bytes()).unwrap();
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

/// Both clocks, and the library that makes programs read them.
struct Clocks {
    machine: Clock,
    redis: Clock,
    library: PathBuf,
    _folder: TempDir,
}

impl Clocks {
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("clock.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/faults/clock.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source);
        let Ok(made) = cc.output() else {
            skip("there is no C compiler to make a clock with");
            return None;
        };
        assert!(made.status.success(), "{made:?}");
        let (machine, redis) =
            (Clock::new(folder.path(), "machine"), Clock::new(folder.path(), "redis"));
        Some(Self { machine, redis, library, _folder: folder })
    }

    async fn start(&self, instructions: String) -> Fleet {
        fleet(instructions)
            .env("LD_PRELOAD", self.library.to_str().unwrap())
            .env("ORCH_TEST_CLOCK", self.machine.path())
            .redis_env("ORCH_TEST_CLOCK", self.redis.path())
            .start()
            .await
    }

    fn set(&self, (machine, redis): (i64, i64)) {
        self.machine.set(machine);
        self.redis.set(redis);
    }
}

/// That many seconds ahead of the test's own clock, about.
#[track_caller]
fn assert_ahead(what: &str, at: i64, hours: i64) {
    let ahead = at - Timestamp::now().as_second();
    assert!((ahead - hours * HOUR).abs() < SLACK, "{what} is {ahead} s ahead, not {hours} h");
}

async fn beats(fleet: &Fleet) -> Vec<u64> {
    let mut beats = Vec::new();
    for agent in NAMES {
        beats.push(fleet.until_registered(agent).await.beat);
    }
    beats
}

/// Each agent gave so many more signs of life.
async fn until_beaten(fleet: &Fleet, before: &[u64], more: u64) {
    wait_until(&format!("{more} more beats"), DEADLINE, || async {
        let now = beats(fleet).await;
        let all = now.iter().zip(before).all(|(now, before)| *now >= before + more);
        if all { Ok(()) } else { Err(format!("{before:?} {now:?}\n{}", fleet.log())) }
    })
    .await;
}

/// What must not change whatever the clocks do.
async fn processes(fleet: &Fleet) -> (Vec<Registered>, Vec<Identity>, Identity) {
    let mut registered = Vec::new();
    for agent in NAMES {
        let now = fleet.until_registered(agent).await;
        registered.push(Registered { beat: 0, task: None, ..now });
    }
    (registered, fleet.orchestrators(), fleet.redis_process())
}

/// The retry task has failed three times and waits for its next attempt, for seconds.
async fn until_delayed(fleet: &Fleet) {
    wait_until("the retry waits", DEADLINE, || async {
        let seen = fleet.store.task(&"retry".parse().unwrap()).await.unwrap();
        match seen {
            Some(task) if task.failures == 3 && task.not_before.is_some() => Ok(()),
            other => Err(format!("{other:?}\n{}", fleet.log())),
        }
    })
    .await;
}

/// Both programs really see their clock at these hours.
async fn assert_seen(fleet: &Fleet, tick: &str, (machine, redis): (i64, i64)) {
    let server = fleet.store.server().await.unwrap();
    assert_ahead("Redis", i64::try_from(server.time_micros / 1_000_000).unwrap(), redis);
    let finished = fleet.until_task(tick, State::Done).await.finished.unwrap();
    assert_ahead("an event's time", finished.parse::<Timestamp>().unwrap().as_second(), redis);
    let said = fleet.read(fleet.work(tick));
    assert_ahead("what a task sees", said.trim().parse().unwrap(), machine);
    let status = fleet.status();
    let at: Timestamp = status["at"].as_str().unwrap().parse().unwrap();
    assert_ahead("orch", at.as_second(), machine);
    for agent in status["agents"].as_array().unwrap() {
        assert_eq!(agent["status"]["liveness"], "beating", "{agent:#}");
    }
}

#[tokio::test]
async fn clocks_that_jump_should_lose_no_lease_and_start_nothing_twice() {
    let Some(clocks) = Clocks::new() else { return };
    let held = "echo \"$ORCH_ATTEMPT\" >> held\n\
        until test -e \"$ORCH_PROJECT/go\"; do sleep 0.05; done";
    let mut tasks = task("held: Wait (role: hold)", held);
    tasks += &task(
        "retry: Fail three times (role: retry; max attempts: 9)",
        "test \"$ORCH_ATTEMPT\" -ge 4",
    );
    for n in 0..STANDS.len() {
        let block = format!(
            "until test -e \"$ORCH_PROJECT/tick-{n}\"; do sleep 0.05; done\ndate +%s > tick-{n}"
        );
        let priority = STANDS.len() - n;
        tasks += &task(&format!("tick-{n}: Tell (role: tick; priority: {priority})"), &block);
    }
    let fleet = clocks.start(agents(&NAMES) + &goal(&tasks)).await;
    fleet.until_task("held", State::Running).await;
    let before = processes(&fleet).await;
    let led = fleet.events("leader").await.len();
    until_delayed(&fleet).await;
    let epoch = fleet.until_task("held", State::Running).await.epoch;

    for (n, hours) in STANDS.into_iter().enumerate() {
        clocks.set(hours);
        let tick = format!("tick-{n}");
        fleet.project.write(&tick, "");
        let beaten = beats(&fleet).await;
        until_beaten(&fleet, &beaten, 2).await;
        assert_seen(&fleet, &tick, hours).await;
        // What was to be tried again in some seconds is, and not an hour later.
        fleet.until_task("retry", State::Done).await;
        assert_eq!(processes(&fleet).await, before, "after {hours:?}\n{}", fleet.log());
    }
    // Longer than a lease lives.
    until_beaten(&fleet, &beats(&fleet).await, 4).await;
    assert_eq!(processes(&fleet).await, before, "{}", fleet.log());
    assert_eq!(fleet.until_task("held", State::Running).await.epoch, epoch);

    fleet.project.write("go", "");
    fleet.until_goal(Status::Complete).await;
    assert_eq!(fleet.read(fleet.work("held")), "1\n");
    for kind in ["agent-death", "task-lose", "agent-silent"] {
        assert_eq!(fleet.events(kind).await, [], "{kind}");
    }
    assert_eq!(fleet.events("leader").await.len(), led, "a leader was taken for dead");
    let audit = fleet.orch(&["audit"]);
    assert!(audit.status.success(), "{audit:?}");
}
