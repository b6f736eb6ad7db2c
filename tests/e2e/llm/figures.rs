//! What we add to a call of a model; printed, for the notes:
//! `cargo test --release --test e2e -- --nocapture --test-threads 1 own_part`

use std::fs;
use std::os::unix::fs::PermissionsExt;

use model::goal::Status;
use model::task::State;

use crate::support::{fleet, id};

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

/// Microseconds since the epoch.
fn micros(iso: &str) -> i64 {
    iso.parse::<jiff::Timestamp>().unwrap().as_microsecond()
}

#[tokio::test]
async fn own_part_of_a_call_should_be_told() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("model");
    fs::write(&program, MODEL).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    // One after the other, so that the times stand in their order.
    let mut tasks = String::new();
    for task in 0..TASKS {
        let after = if task == 0 { String::new() } else { format!(" (after: t{})", task - 1) };
        tasks += &format!("- t{task}: Nothing{after}\n");
    }
    let instructions = format!(
        "## Agents\n\n### an_agent\n- Goal: goal-001\n\n## Goals\n\n### goal-001\nNothing.\n\n#### Tasks\n{tasks}"
    );
    let fleet = fleet(instructions)
        .provider("command")
        .env("ORCH_COMMAND_CLI", program.to_str().unwrap())
        .start()
        .await;
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
