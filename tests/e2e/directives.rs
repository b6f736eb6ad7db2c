//! Directives in heartbeat files: each line counts once, and people see what came of it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Child;
use std::time::Instant;

use model::goal::Status;
use model::task::State;
use process::Signal;
use store::directive::Consumed;
use store::event::Event;
use testkit::wait_until;

use crate::support::{
    DEADLINE, Fleet, agents, fleet, goal, goal_001, id, identity, name, signal, task,
};

const AGENT: &str = "worker_agent";
const FILE: &str = "heartbeat/worker_agent.md";

/// Waits for the file `go-<task>`.
const GATED: &str = "until test -e \"$ORCH_PROJECT/go-$ORCH_TASK\"; do sleep 0.05; done";

fn open(fleet: &Fleet, task: &str) {
    fleet.project.write(&format!("go-{task}"), "");
}

/// One agent; a task that is done, one that runs, one that is ready.
async fn started() -> Fleet {
    let tasks = task("task-001: Done (priority: 9)", "true")
        + &task("task-002: Run (priority: 8)", GATED)
        + &task("task-003: Wait", "true");
    let fleet = fleet(agents(&[AGENT]) + &goal(&tasks)).start().await;
    fleet.until_task("task-002", State::Running).await;
    fleet
}

/// Runs a line of shell that must succeed; `$F` is the heartbeat file.
fn sh(fleet: &Fleet, line: &str) {
    let output = fleet.sh(&format!("F={FILE}; {line}"));
    assert!(output.status.success(), "{line}: {output:?}");
}

async fn until_consumed(fleet: &Fleet, what: &str, is_so: impl Fn(&Consumed) -> bool) -> Consumed {
    wait_until(what, 3 * DEADLINE, || async {
        match fleet.store.consumed(&name(AGENT)).await {
            Ok(consumed) if is_so(&consumed) => Ok(consumed),
            Ok(Consumed { applied, refused, version, .. }) => {
                Err(format!("{applied} + {refused}, version {version}\n{}", fleet.log()))
            }
            Err(error) => Err(error.to_string()),
        }
    })
    .await
}

/// Waits until so many lines were applied and refused.
async fn until_counted(fleet: &Fleet, applied: u64, refused: u64) {
    until_consumed(fleet, &format!("{applied} lines applied, {refused} refused"), |consumed| {
        (consumed.applied, consumed.refused) == (applied, refused)
    })
    .await;
}

/// What the events say of each line, oldest first.
fn said(events: &[Event]) -> Vec<(&str, &str)> {
    events.iter().map(|event| (event.field("line"), event.field("outcome"))).collect()
}

/// Every line with what becomes of it, and a word of the answer.
const LINES: &[(&str, &str, &str)] = &[
    ("PAUSE", "applied", "pauses after its present task"),
    ("PUASE", "refused", "did you mean PAUSE?"),
    ("ELEVATE task-003 7", "applied", "priority 7 instead of 0"),
    ("ELEVATE task-003 -1", "refused", "no priority"),
    ("ELEVATE task-003 1000001", "refused", "no priority"),
    ("ELEVATE task-003", "refused", "needs a task and a priority"),
    ("ELEVATE task-001 3", "refused", "task-001 is done"),
    ("ELEVATE task-999 3", "refused", "task-999"),
    ("DROP-TASK task-999", "refused", "task-999"),
    ("DROP-TASK task-001", "refused", "task-001 is done, not running"),
    ("DROP-TASK task-003", "refused", "task-003 is ready, not running"),
    ("DROP-TASK ../x", "refused", "../x"),
    ("DROP-TASK", "refused", "needs one task"),
    ("pause", "applied", "was paused already"),
    ("FLUSH-MEMORY", "applied", "memory is empty"),
    ("REPARSE", "applied", "read again"),
    ("- resume # go on", "applied", "works again"),
    ("RESUME", "applied", "was not paused"),
    ("RESUME now", "refused", "stands alone"),
    ("ELEVATE goal-001.task-002 5", "applied", "priority 5 instead of 8"),
    ("DROP-TASK task-002", "applied", "task-002 was taken from worker_agent"),
];

#[tokio::test]
async fn each_line_should_be_answered_once_and_in_order() {
    let fleet = started().await;
    sh(&fleet, "echo '# Directives for the worker' >> $F; echo >> $F");
    for (line, _, _) in LINES {
        sh(&fleet, &format!("echo '{line}' >> $F"));
    }
    let applied = LINES.iter().filter(|(_, outcome, _)| *outcome == "applied").count();
    until_counted(&fleet, applied as u64, (LINES.len() - applied) as u64).await;

    let events = fleet.events("directive").await;
    let expected: Vec<(&str, &str)> =
        LINES.iter().map(|(line, outcome, _)| (*line, *outcome)).collect();
    assert_eq!(said(&events), expected);
    let answers = fleet.store.answers(&name(AGENT)).await.unwrap();
    assert_eq!(answers.len(), LINES.len());
    for ((line, outcome, word), answer) in LINES.iter().zip(&answers) {
        assert_eq!((answer.line.as_str(), answer.outcome.as_str()), (*line, *outcome));
        assert!(answer.answer.contains(word), "{line}: {}", answer.answer);
    }
    let last = wait_until("each line has its answer in the file", DEADLINE, || async {
        let ack = fleet.read(fleet.path("heartbeat/worker_agent.ack.md"));
        let rows = ack.lines().filter(|row| row.starts_with("| 2")).count();
        if rows == LINES.len() { Ok(ack) } else { Err(ack) }
    })
    .await;
    // Newest first.
    let rows: Vec<&str> = last.lines().filter(|row| row.starts_with("| 2")).collect();
    for ((line, outcome, _), row) in LINES.iter().rev().zip(rows) {
        assert!(row.contains(line) && row.contains(outcome), "{line}: {row}");
    }
    let shown = fleet.orch(&["events", "-n", "100000", "--agent", AGENT, "--format", "json"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    let shown = shown.lines().filter(|line| line.contains(r#""kind":"directive""#)).count();
    assert_eq!(shown, LINES.len());

    // Each did what it says, and nothing else.
    let dropped = fleet.until_task("task-002", State::Running).await;
    assert_eq!((dropped.attempt, dropped.failures, dropped.priority), (2, 0, 5));
    assert_eq!(fleet.store.task(&id("task-003")).await.unwrap().unwrap().priority, 7);
    open(&fleet, "task-002");
    fleet.until_goal(Status::Complete).await;
    assert_eq!(fleet.store.goal(&goal_001()).await.unwrap().unwrap().reparses, 1);
    assert_eq!(fleet.events("task-complete").await.len(), 3);
    assert_eq!(fleet.events("directive").await.len(), LINES.len());
}

/// A person, or a script, that appends `ELEVATE task-003 1` to `.. count`.
fn appending(fleet: &Fleet, count: u64, pause: &str) -> Child {
    let line = format!(
        "i=1; while [ $i -le {count} ]; do echo \"ELEVATE task-003 $i\" >> {FILE}; \
         i=$((i+1)); {pause} done"
    );
    fleet.project.command("sh").arg("-c").arg(line).spawn().unwrap()
}

async fn assert_applied_in_order(fleet: &Fleet, count: u64) {
    until_counted(fleet, count, 0).await;
    let events = fleet.events("directive").await;
    let lines: Vec<String> = events.iter().map(|event| event.field("line").to_owned()).collect();
    let expected: Vec<String> = (1..=count).map(|n| format!("ELEVATE task-003 {n}")).collect();
    assert_eq!(lines, expected);
    let numbers: Vec<String> =
        events.iter().map(|event| event.field("number").to_owned()).collect();
    assert_eq!(numbers, (1..=count).map(|n| n.to_string()).collect::<Vec<_>>());
    let task = fleet.store.task(&id("task-003")).await.unwrap().unwrap();
    assert_eq!(u64::from(task.priority), count);
    let file = fleet.read(fleet.path(FILE));
    assert_eq!(file, expected.join("\n") + "\n");
    wait_until("the file of answers counts them", DEADLINE, || async {
        let ack = fleet.read(fleet.path("heartbeat/worker_agent.ack.md"));
        if ack.contains(&format!("{count} lines applied, 0 refused")) { Ok(()) } else { Err(ack) }
    })
    .await;
}

#[tokio::test]
async fn thousand_lines_should_be_applied_a_thousand_times() {
    let fleet = started().await;
    let began = Instant::now();
    let mut writer = appending(&fleet, 1_000, "");
    assert!(writer.wait().unwrap().success());
    let written = began.elapsed();
    assert_applied_in_order(&fleet, 1_000).await;
    println!("1,000 lines written in {written:?}, applied after {:?}", began.elapsed());
    let applied = fleet.redis("HGET agent:worker_agent:directives applied");
    assert_eq!(applied, "1000");
}

#[tokio::test]
async fn lines_should_count_once_though_the_orchestrator_is_killed_again_and_again() {
    let fleet = started().await;
    // Slowly first, line by line; then faster than they are applied.
    let mut writer = appending(&fleet, 800, "test $i -gt 250 || sleep 0.02;");
    for reached in [5, 60, 140, 220, 300, 500, 700] {
        until_consumed(&fleet, &format!("{reached} lines are applied"), |c| c.applied >= reached)
            .await;
        fleet.kill_orchestrator().await;
    }
    assert!(writer.wait().unwrap().success());
    assert_applied_in_order(&fleet, 800).await;
}

/// The heartbeat file as only its owner may change it.
#[derive(Debug, PartialEq)]
struct Untouched {
    bytes: Vec<u8>,
    inode: u64,
    modified: (i64, i64),
    mode: u32,
}

fn look(fleet: &Fleet) -> Untouched {
    let path: PathBuf = fleet.path(FILE);
    let data = fs::metadata(&path).unwrap();
    Untouched {
        bytes: fs::read(&path).unwrap(),
        inode: data.ino(),
        modified: (data.mtime(), data.mtime_nsec()),
        mode: data.mode(),
    }
}

#[tokio::test]
async fn file_should_be_its_owners_however_it_is_saved() {
    let fleet = started().await;
    let mut expected: Vec<&str> = Vec::new();
    let steps: &[(&str, &[&str])] = &[
        ("printf 'PAUSE\\n' >> $F", &["PAUSE"]),
        // Rewritten.
        ("printf 'RESUME\\nFLUSH-MEMORY\\n' > $F", &["RESUME", "FLUSH-MEMORY"]),
        // Saved by rename, with one line more at its beginning.
        ("(echo PAUSE; cat $F) > d && mv d $F", &["PAUSE"]),
        // The same again asks for nothing: the line after it is the only new one.
        ("cp $F d && cat d > $F && mv d $F && echo REPARSE >> $F", &["REPARSE"]),
        // Without a line end.
        ("printf RESUME >> $F", &["RESUME"]),
        ("echo >> $F; echo '# note' >> $F; echo PAUSE >> $F", &["PAUSE"]),
        // Removed and made anew.
        ("rm $F && printf 'RESUME\\n' > $F && echo PUASE >> $F", &["PUASE"]),
    ];
    let mut refused = 0;
    for (how, added) in steps {
        sh(&fleet, how);
        let before = look(&fleet);
        expected.extend(*added);
        refused += added.iter().filter(|line| **line == "PUASE").count();
        until_counted(&fleet, (expected.len() - refused) as u64, refused as u64).await;
        let events = fleet.events("directive").await;
        let lines: Vec<&str> = events.iter().map(|event| event.field("line")).collect();
        assert_eq!(lines, expected, "{how}");
        assert_eq!(look(&fleet), before, "{how}");
    }
    // Truncated: what comes then is new, whatever stood there before.
    sh(&fleet, ": > $F");
    until_consumed(&fleet, "the truncation is noted", |consumed| consumed.seen.is_empty()).await;
    sh(&fleet, "echo RESUME >> $F");
    expected.push("RESUME");
    until_counted(&fleet, (expected.len() - refused) as u64, refused as u64).await;
    let agent = fleet.until_agent(AGENT, "works again", |agent| !agent.paused).await;
    assert!(agent.registered.is_some());
    assert_eq!(fleet.read(fleet.path(FILE)), "RESUME\n");
    assert_eq!(fleet.events("directive").await.len(), expected.len());
}

#[tokio::test]
async fn flush_should_empty_the_memory() {
    let tasks = task("task-001: One", "true")
        + &task("task-002: Two (after: task-001)", GATED)
        + &task("task-003: Three (after: task-002)", "true");
    let fleet = fleet(agents(&[AGENT]) + &goal(&tasks)).start().await;
    fleet.until_task("task-002", State::Running).await;
    let memory = async || fleet.store.memory(&name(AGENT)).await.unwrap().unwrap_or_default();
    wait_until("task-001 is remembered", DEADLINE, || async {
        let text = memory().await;
        if text.contains("task-001") { Ok(()) } else { Err(text) }
    })
    .await;

    sh(&fleet, "echo FLUSH-MEMORY >> $F");
    until_counted(&fleet, 1, 0).await;
    assert_eq!(fleet.store.memory(&name(AGENT)).await.unwrap(), None);
    // The agent learns of it with a sign of life.
    let beat = fleet.until_registered(AGENT).await.beat;
    fleet
        .until_agent(AGENT, "has beaten since", |agent| {
            agent.registered.as_ref().is_some_and(|now| now.beat >= beat + 2)
        })
        .await;
    assert_eq!(fleet.store.memory(&name(AGENT)).await.unwrap(), None);

    open(&fleet, "task-002");
    fleet.until_goal(Status::Complete).await;
    let text = wait_until("task-003 is remembered", DEADLINE, || async {
        let text = memory().await;
        if text.contains("task-003") { Ok(text) } else { Err(text) }
    })
    .await;
    assert!(text.contains("task-002") && !text.contains("task-001"), "{text}");
}

#[tokio::test]
async fn pause_should_let_the_task_finish_and_hold_the_next() {
    let fleet = started().await;
    let before = fleet.until_registered(AGENT).await;
    sh(&fleet, "echo PAUSE >> $F");
    fleet.until_agent(AGENT, "is paused", |agent| agent.paused).await;
    assert_eq!(fleet.until_task("task-002", State::Running).await.attempt, 1);
    open(&fleet, "task-002");
    let done = fleet.until_task("task-002", State::Done).await;
    assert_eq!(done.attempt, 1);
    // Whoever completes asks for the next task in the same step.
    assert_eq!(fleet.store.task(&id("task-003")).await.unwrap().unwrap().status, State::Ready);
    let explained = fleet.orch(&["explain", "task-003"]);
    let explained = String::from_utf8(explained.stdout).unwrap();
    assert!(explained.contains("paused"), "{explained}");

    // Its successor is paused, too.
    signal(identity(&before), Signal::KILL);
    let after = fleet.until_replaced(AGENT, &before).await;
    fleet
        .until_agent(AGENT, "has beaten", |agent| {
            agent.registered.as_ref().is_some_and(|now| now.beat >= after.beat + 3)
        })
        .await;
    let ready = fleet.store.task(&id("task-003")).await.unwrap().unwrap();
    assert_eq!((ready.status, ready.attempt), (State::Ready, 0));

    let began = Instant::now();
    sh(&fleet, "echo RESUME >> $F");
    fleet.until_task("task-003", State::Done).await;
    println!("from RESUME to the next task's end: {:?}", began.elapsed());
    fleet.until_goal(Status::Complete).await;
}
