//! What fails is tried again, then shown; what panics hurts nobody else.

use model::goal::Status;
use model::task::State;
use process::Signal;
use testkit::wait_until;

use crate::support::{DEADLINE, Fleet, agents, fleet, goal, identity, signal, task};

fn text(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn failing_task_should_be_retried_then_shown_then_healed_by_a_person() {
    let tasks = task(
        "task-001: Fail (max attempts: 2)",
        "echo \"attempt $ORCH_ATTEMPT\"\necho 'no luck' >&2\ntest -e \"$ORCH_PROJECT/luck\"",
    ) + &task("task-002: Next (after: task-001)", "true")
        + &task("task-003: Last (after: task-002)", "true")
        + &task("task-004: Apart", "true");
    let fleet = fleet(agents(&["worker_agent"]) + &goal(&tasks)).start().await;
    fleet.until_goal(Status::Failed).await;

    let failed = fleet.until_task("task-001", State::Failed).await;
    assert_eq!((failed.attempt, failed.failures), (2, 2));
    assert!(failed.last_error.unwrap().contains("no luck"));
    let next = fleet.until_task("task-002", State::Blocked).await;
    assert_eq!(next.reason.as_deref(), Some("waits for task-001, which failed"));
    // What does not depend on it ran all the same.
    fleet.until_task("task-004", State::Done).await;
    let retries = fleet.events("task-retry").await;
    assert_eq!(retries.len(), 1);
    let claims = fleet.events("task-claim").await;
    let second = claims.iter().find(|claim| claim.field("attempt") == "2").unwrap();
    assert!(second.millis() - retries[0].millis() >= 500, "tried again without a pause");

    let explained = text(&fleet.orch(&["explain", "task-003"]));
    assert!(
        explained.contains("task-001") && explained.contains("orch retry task-001"),
        "{explained}"
    );
    let explained = text(&fleet.orch(&["explain", "task-001"]));
    assert!(explained.contains("no luck"), "{explained}");
    let status = text(&fleet.orch(&["status"]));
    assert!(status.contains("failed") && status.contains("task-001"), "{status}");
    let log = text(&fleet.orch(&["logs", "task-001", "--attempt", "1"]));
    assert!(log.contains("attempt 1") && log.contains("no luck"), "{log}");

    fleet.project.write("luck", "");
    assert!(fleet.orch(&["retry", "task-001"]).status.success());
    fleet.until_goal(Status::Complete).await;
    assert!(!fleet.orch(&["retry", "task-001"]).status.success(), "it is done");
}

#[tokio::test]
async fn missing_evidence_should_fail_the_attempt_whatever_its_exit_code() {
    let tasks = task("task-001: Lie (max attempts: 1) -> promised.txt", "true")
        + &task(
            "task-002: Check (max attempts: 1; verify: test -s made.txt) -> made.txt",
            ": > made.txt",
        )
        + &task("task-003: Slow (max attempts: 1; timeout: 1s)", "sleep 600 & sleep 600");
    let fleet = fleet(agents(&["worker_agent"]) + &goal(&tasks)).start().await;
    for (task, error) in [
        ("task-001", "promised.txt"),
        ("task-002", "test -s made.txt"),
        ("task-003", "time limit of 1 s"),
    ] {
        let failed = fleet.until_task(task, State::Failed).await;
        let said = failed.last_error.unwrap();
        assert!(said.contains(error), "{task}: {said}");
    }
    let left = process::find_by_env("ORCH_TASK", |task| task == "task-003").unwrap();
    let mine = fleet.project.processes();
    assert!(left.iter().all(|process| !mine.contains(process)), "{}", fleet.describe(&left));
}

async fn until_failures(fleet: &Fleet, controller: &str) {
    wait_until(&format!("status shows that {controller} panics"), DEADLINE, || async {
        let status = fleet.status();
        let all = status["controllers"].as_array().cloned().unwrap_or_default();
        let it = all.iter().find(|report| report["controller"] == controller);
        match it {
            Some(report) if report["panics"].as_u64() > Some(1) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

fn short_goal() -> String {
    agents(&["worker_agent"])
        + &goal(&(task("task-001: One", "true") + &task("task-002: Two", "true")))
}

#[tokio::test]
async fn panicking_heartbeat_and_lease_controllers_should_hurt_nobody() {
    let faulty = fleet(short_goal()).env("RECONCILE_FAULT_PANIC", "heartbeat,lease").start().await;
    faulty.until_goal(Status::Complete).await;
    until_failures(&faulty, "heartbeat").await;
    let before = faulty.until_registered("worker_agent").await;
    signal(identity(&before), Signal::KILL);
    faulty.until_replaced("worker_agent", &before).await;
}

#[tokio::test]
async fn panicking_dag_controller_should_not_keep_agents_from_healing() {
    let faulty = fleet(short_goal()).env("RECONCILE_FAULT_PANIC", "dag").start().await;
    until_failures(&faulty, "dag").await;
    let before = faulty.until_registered("worker_agent").await;
    signal(identity(&before), Signal::KILL);
    faulty.until_replaced("worker_agent", &before).await;
    faulty.sh("echo PAUSE >> heartbeat/worker_agent.md");
    faulty.until_agent("worker_agent", "is paused", |agent| agent.paused).await;
}

#[tokio::test]
async fn panicking_agent_controller_should_not_keep_goals_from_being_planned() {
    let faulty = fleet(short_goal()).env("RECONCILE_FAULT_PANIC", "agent").start().await;
    faulty.until_goal(Status::Active).await;
    faulty.until_task("task-001", State::Ready).await;
    until_failures(&faulty, "agent").await;
    faulty.sh("echo PAUSE >> heartbeat/worker_agent.md");
    faulty.until_agent("worker_agent", "is paused", |agent| agent.paused).await;
}
