//! What we add to a call of a model; printed, for the notes:
//! `cargo test --release --test e2e -- --nocapture --test-threads 1 own_part`

use std::fs;
use std::os::unix::fs::PermissionsExt;

use model::goal::Status;
use model::task::State;

use testkit::wait_until;

use crate::support::{DEADLINE, fleet, id};

const TASKS: usize = 30;

/// A model that notes when it begins and when it has said all. Its own start, and that
/// of `date`, count as ours: the figures are upper bounds.
const MODEL: &str = r#"#!/bin/sh
began=$(date +%s%N)
read -r request
task=$(basename "$PWD")
case $request in
*'"step":"execute"'*) echo "$began" >> began; echo '{"value": {"status": "done", "outputs": [], "notes": "-", "follow_ups": []}}' ;;
*) date +%s%N >> ended; echo '{"value": {"summary": "Done."}}' ;;
esac
"#;

/// Ten megabytes that are no plan.
const TALKER: &str = "#!/bin/sh\ncat > /dev/null\nhead -c 10485760 /dev/zero | tr '\\0' x\n";

fn program(folder: &tempfile::TempDir, text: &str) -> String {
    let program = folder.path().join("model");
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program.to_str().unwrap().to_owned()
}

/// The most memory that a process had so far, in kilobytes.
fn peak_kb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Only the orchestrator makes several calls at once: one for each goal that it plans.
#[tokio::test]
async fn ten_calls_of_ten_megabytes_should_not_fill_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut instructions = String::from("## Agents\n\n### an_agent\n- Goal: g0\n\n## Goals\n");
    for goal in 0..10 {
        instructions += &format!("\n### g{goal}\nSay something.\n");
    }
    let fleet = fleet(instructions)
        .provider("command")
        .env("ORCH_COMMAND_CLI", &program(&folder, TALKER))
        .args(&["--llm-max-concurrency", "10"])
        .start()
        .await;
    wait_until("each goal was answered three times", DEADLINE, || async {
        let calls = fleet.events("llm-call").await.len();
        if calls >= 30 { Ok(()) } else { Err(format!("{calls} calls\n{}", fleet.log())) }
    })
    .await;
    let [orchestrator] = fleet.orchestrators()[..] else { panic!("one orchestrator") };
    let peak = peak_kb(orchestrator.pid);
    println!("ten calls at once of 10 MB each: the caller had {peak} kB at its most");
    assert!(peak < 40 * 1024, "{peak} kB");
}

/// Microseconds since the epoch.
fn micros(iso: &str) -> i64 {
    iso.parse::<jiff::Timestamp>().unwrap().as_microsecond()
}

#[tokio::test]
async fn own_part_of_a_call_should_be_told() {
    let folder = tempfile::tempdir().unwrap();
    let program = program(&folder, MODEL);
    // One after the other, so that the times stand in their order.
    let mut tasks = String::new();
    for task in 0..TASKS {
        let after = if task == 0 { String::new() } else { format!(" (after: t{})", task - 1) };
        tasks += &format!("- t{task}: Nothing{after}\n");
    }
    let instructions = format!(
        "## Agents\n\n### an_agent\n- Goal: goal-001\n\n## Goals\n\n### goal-001\nNothing.\n\n#### Tasks\n{tasks}"
    );
    let fleet =
        fleet(instructions).provider("command").env("ORCH_COMMAND_CLI", &program).start().await;
    fleet.until_goal(Status::Complete).await;
    let times = |name: &str| -> Vec<i64> {
        let text = fleet.read(fleet.work(name));
        text.lines().map(|line| line.parse::<i64>().unwrap() / 1000).collect()
    };
    let (began, ended) = (times("began"), times("ended"));
    assert_eq!((began.len(), ended.len()), (TASKS, TASKS));
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for at in 0..TASKS {
        let task = fleet.store.task(&id(&format!("t{at}"))).await.unwrap().unwrap();
        assert_eq!(task.status, State::Done);
        before.push(began[at] - micros(&task.started.unwrap()));
        after.push(micros(&task.finished.unwrap()) - ended[at]);
    }
    for (what, times) in [
        ("from the claim to the program's start", &mut before),
        ("from its last byte to DONE", &mut after),
    ] {
        times.sort_unstable();
        println!(
            "{what}: median {} us, 90th percentile {} us",
            times[TASKS / 2],
            times[TASKS * 9 / 10]
        );
    }
}
