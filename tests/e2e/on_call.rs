//! What somebody on call asks after a kill, and what each command answers.

use model::goal::Status;
use model::task::State;
use process::Signal;

use crate::support::{Fleet, agents, fleet, goal, identity, signal, task};

fn ask(fleet: &Fleet, args: &[&str]) -> String {
    let ran = fleet.orch(args);
    assert!(ran.status.success(), "{args:?}: {ran:?}");
    String::from_utf8(ran.stdout).unwrap()
}

#[tokio::test]
async fn questions_after_a_kill_should_each_be_answered_by_one_command() {
    let waiting = "until test -e \"$ORCH_PROJECT/go\"; do sleep 0.05; done";
    let tasks = task("task-001: Wait", waiting) + &task("task-002: Join (after: task-001)", "true");
    let fleet = fleet(agents(&["worker_agent"]) + &goal(&tasks)).start().await;
    fleet.until_task("task-001", State::Running).await;
    let before = fleet.until_registered("worker_agent").await;
    signal(identity(&before), Signal::KILL);
    let after = fleet.until_replaced("worker_agent", &before).await;
    let running = fleet.until_task("task-001", State::Running).await;

    // Who holds it, and what happened to it.
    let said = ask(&fleet, &["explain", "task-001"]);
    let held = format!("Held by: worker_agent (process {}", after.pid);
    for part in [&*held, "claim by worker_agent", "lose by worker_agent", "after losing", "Trace: "]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    let said = ask(&fleet, &["explain", "task-001", "--format", "json"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["holder"]["epoch"], running.epoch.0, "{said:#}");
    // Why the other does not run, and what is next.
    let said = ask(&fleet, &["explain", "task-002"]);
    assert!(said.contains("runs by worker_agent") && said.contains("Next: "), "{said}");
    // Was it dead; what became of the agent.
    let said = ask(&fleet, &["events", "--kind", "agent-death,task-lose", "--since", "1h"]);
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.lines().all(|line| line.contains("reason=")), "{said}");
    let said = ask(&fleet, &["events", "--agent", "worker_agent", "--kind", "agent"]);
    assert_eq!(said.matches("agent-register").count(), 2, "{said}");
    let said = ask(&fleet, &["status"]);
    assert!(said.contains(&after.pid.to_string()), "{said}");
    // Is it true.
    fleet.project.write("go", "");
    fleet.until_goal(Status::Complete).await;
    ask(&fleet, &["audit"]);
}
