//! Each added line counts once, in order, whatever fails in between.

use std::process::{Child, Command};
use std::time::Duration;

use store::directive::{Action, Seen, Step};
use store::lead::Controller;
use testkit::{DEADLINE, FaultProxy, Mode, wait_until};

use crate::world::{LONG_TTL, RESYNC, World, agent, goal, open, task};

/// Appends `count` lines, one by one, by a real shell beside the test. Each names the
/// priority before it in its answer, so the answers tell the order.
fn append(world: &World, count: u32) -> Child {
    let script = format!(
        "i=0; while [ $i -lt {count} ]; do
           i=$((i + 1)); echo \"ELEVATE task-001 $i\" >> heartbeat/a.md
         done"
    );
    Command::new("sh").args(["-ec", &script]).current_dir(world.root()).spawn().unwrap()
}

/// Every one of `count` lines took effect once and in order.
async fn assert_applied(world: &World, count: u32) {
    world.wait_for("a", u64::from(count), 0).await;
    let priority = world.store.task(&task("task-001")).await.unwrap().unwrap().priority;
    assert_eq!(priority, count);
    let events = world.store.last_events(50_000).await.unwrap();
    let answers: Vec<&str> = events
        .iter()
        .filter(|event| event.kind == "directive")
        .map(|event| event.field("answer"))
        .collect();
    let expected: Vec<String> =
        (1..=count).map(|n| format!("task-001 has priority {n} instead of {}", n - 1)).collect();
    assert_eq!(answers, expected);
    world
        .wait_for_text("heartbeat/a.ack.md", &[&format!("{count} lines applied, 0 refused")])
        .await;
}

#[tokio::test]
async fn thousand_lines_appended_one_by_one_should_count_a_thousand_times() {
    let world = World::new(&["task-001"]).await;
    let running = world.start(LONG_TTL).await;
    let mut shell = append(&world, 1_000);
    assert_applied(&world, 1_000).await;
    assert!(shell.wait().unwrap().success());
    running.wait_for_looks(2).await;
    assert_eq!(world.consumed("a").await.applied, 1_000);
    let ack = world.wait_for_text("heartbeat/a.ack.md", &["The last 200 of 1000 answers"]).await;
    let newest = ack.find("`ELEVATE task-001 1000`").unwrap();
    assert!(newest < ack.find("`ELEVATE task-001 801`").unwrap(), "{ack}");
    assert!(!ack.contains("`ELEVATE task-001 800`"), "{ack}");
    assert_eq!(running.stats.snapshot().failures, 0);
}

#[tokio::test]
async fn long_file_should_be_worked_off_over_several_passes() {
    let world = World::new(&["task-001"]).await;
    let mut shell = append(&world, 1_200);
    assert!(shell.wait().unwrap().success());
    let lead = world.lead(Controller::Heartbeat, "orch-1").await;
    // No resync comes to help: each pass asks for the next.
    let running = world.start_with(&world.store, lead, LONG_TTL, LONG_TTL);
    assert_applied(&world, 1_200).await;
    assert_eq!(running.stats.snapshot().resyncs, 1);
}

#[tokio::test]
async fn line_should_count_once_wherever_the_controller_is_killed() {
    let world = World::new(&["task-001"]).await;
    let mut shell = append(&world, 300);
    let mut kills = 0;
    while world.consumed("a").await.applied < 300 {
        let running = world.start(LONG_TTL).await;
        // The run is dropped wherever it stands: in the read, between a line and the
        // next, between the last line and the answers, within the write.
        tokio::time::sleep(Duration::from_micros(fastrand::u64(..8_000 + 20 * kills))).await;
        drop(running);
        kills += 1;
        assert!(kills < 20_000, "no progress");
    }
    assert!(shell.wait().unwrap().success());
    let _running = world.start(LONG_TTL).await;
    assert_applied(&world, 300).await;
}

#[tokio::test]
async fn line_should_count_once_when_replies_are_lost() {
    let world = World::new(&["task-001"]).await;
    let proxy = FaultProxy::start(world.redis.port());
    let store = open(&proxy.url()).await;
    let lead = world.lead(Controller::Heartbeat, "orch-1").await;
    let _running = world.start_with(&store, lead, LONG_TTL, RESYNC);
    let mut shell = append(&world, 200);
    // Commands are executed whose answers never arrive.
    for _ in 0..30 {
        proxy.set(Mode::CutOnReply);
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..20))).await;
        proxy.set(Mode::Forward);
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..40))).await;
    }
    assert!(shell.wait().unwrap().success());
    assert_applied(&world, 200).await;
}

#[tokio::test]
async fn line_should_count_once_when_two_processes_believe_to_lead() {
    let world = World::new(&["task-001"]).await;
    let old = world.start(LONG_TTL).await;
    let mut shell = append(&world, 300);
    world.wait_for_text("heartbeat/a.ack.md", &["applied"]).await;
    let lead = world.lead(Controller::Heartbeat, "orch-2").await;
    let _new = world.start_with(&world.store, lead, LONG_TTL, RESYNC);
    assert!(shell.wait().unwrap().success());
    assert_applied(&world, 300).await;
    // A line more than the old one can have applied, so that it is surely refused.
    world.sh("echo RESUME >> heartbeat/a.md");
    world.wait_for("a", 301, 0).await;
    let fenced = old.stats.snapshot().last_error.map(|error| error.text).unwrap_or_default();
    assert!(fenced.is_empty() || fenced.contains("another process leads now"), "{fenced}");
}

#[tokio::test]
async fn controller_that_leads_no_more_should_apply_nothing_and_fail() {
    let world = World::new(&["task-001"]).await;
    let old = world.lead(Controller::Heartbeat, "orch-1").await;
    world.lead(Controller::Heartbeat, "orch-2").await;
    world.sh("echo PAUSE > heartbeat/a.md");
    let running = world.start_with(&world.store, old, LONG_TTL, RESYNC);
    wait_until("the controller is refused", DEADLINE, async || {
        match running.stats.snapshot().last_error {
            Some(error) if error.text.contains("another process leads now") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(world.consumed("a").await, store::directive::Consumed::default());
    assert!(!world.store.agent(&agent("a")).await.unwrap().paused);
}

#[tokio::test]
async fn missing_answers_should_be_written_after_a_crash_between_line_and_answer() {
    let world = World::new(&["task-001"]).await;
    world.sh("echo PAUSE > heartbeat/a.md");
    // What a predecessor did before it was killed.
    let lead = world.lead(Controller::Heartbeat, "orch-1").await;
    let (path, a) = (world.path("heartbeat/a.md"), agent("a"));
    let step = Step {
        agent: &a,
        goal: &goal(),
        path: &path,
        version: "",
        seen: Seen::Append("PAUSE\n"),
        line: Some(("PAUSE", &Action::Pause)),
    };
    world.store.apply(&lead, &step).await.unwrap();
    assert!(!world.path("heartbeat/a.ack.md").exists());

    let running = world.start(LONG_TTL).await;
    world.wait_for_text("heartbeat/a.ack.md", &["1 line applied, 0 refused", "`PAUSE`"]).await;
    running.wait_for_looks(2).await;
    assert_eq!(world.consumed("a").await.applied, 1);
}
