//! Bad input: each has its clear error, leaves the rest working, and loses nothing.

use model::agent::Phase;
use model::goal::Status;
use model::task::State;
use testkit::wait_until;

use crate::support::{DEADLINE, Fleet, ORCH, agents, fleet, goal, goal_001, id, task};

/// Waits until `orch status` shows this text.
async fn until_shown(fleet: &Fleet, wanted: &[&str]) {
    wait_until(&format!("status shows {wanted:?}"), DEADLINE, || async {
        let status = fleet.status().to_string();
        if wanted.iter().all(|text| status.contains(text)) { Ok(()) } else { Err(status) }
    })
    .await;
}

fn good() -> String {
    agents(&["worker_agent"]) + &goal(&task("task-001: Good", "true"))
}

#[tokio::test]
async fn plan_with_a_cycle_should_be_shown_and_hinder_no_other_goal() {
    let circle = "\n### goal-002\nA circle.\n\n#### Tasks\n\
        - one: One (after: three)\n- two: Two (after: one)\n- three: Three (after: two)\n";
    let fleet = fleet(good() + circle).start().await;
    fleet.until_goal(Status::Complete).await;
    until_shown(&fleet, &["INSTRUCTIONS.md", "circle", "one", "three"]).await;
    assert_eq!(fleet.store.task(&id("two")).await.unwrap(), None);
    let validated = fleet.orch(&["validate"]);
    let said = String::from_utf8_lossy(&validated.stdout).into_owned()
        + &String::from_utf8_lossy(&validated.stderr);
    assert_eq!(validated.status.code(), Some(1), "{said}");
    assert!(said.contains("INSTRUCTIONS.md:") && said.contains("circle"), "{said}");
}

#[tokio::test]
async fn bad_ids_and_paths_should_be_shown_and_hinder_no_other_agent() {
    let bad = "## Agents\n\n### worker_agent\n- Goal: goal-001\n\n\
        ### out_agent\n- Goal: goal-001\n- Heartbeat: ../../etc/passwd\n\n\
        ### lost_agent\n- Goal: goal-999\n";
    let fleet = fleet(bad.to_owned() + &goal(&task("task-001: Good", "true"))).start().await;
    fleet.until_goal(Status::Complete).await;
    until_shown(&fleet, &["../../etc/passwd", "goal-999"]).await;
    assert!(fleet.agent_processes("out_agent").is_empty());
    assert!(fleet.agent_processes("lost_agent").is_empty());
}

/// Not readable is not the same as empty, also when nothing is remembered of before.
#[tokio::test]
async fn declaration_that_was_never_readable_should_end_no_agent() {
    let fleet = fleet(good()).start().await;
    let before = fleet.until_registered("worker_agent").await;
    fleet.until_goal(Status::Complete).await;
    fleet.project.write("INSTRUCTIONS.md", "## Age");
    std::fs::remove_file(fleet.path(".orch/last-good.md")).unwrap();
    fleet.kill_orchestrator().await;
    until_shown(&fleet, &["INSTRUCTIONS.md"]).await;

    // It acts again once it can read, and the agent was never touched.
    let two = agents(&["worker_agent", "other_agent"]) + &goal(&task("task-001: Good", "true"));
    fleet.project.write("INSTRUCTIONS.md", &two);
    fleet.until_registered("other_agent").await;
    let now = fleet.until_registered("worker_agent").await;
    assert_eq!((now.pid, now.incarnation), (before.pid, before.incarnation));
}

#[tokio::test]
async fn fifo_as_heartbeat_should_be_shown_and_hang_nobody() {
    let fleet = fleet(good()).write().await;
    assert!(fleet.sh("mkfifo heartbeat/worker_agent.md").status.success());
    fleet.project.start();
    fleet.until_goal(Status::Complete).await;
    until_shown(&fleet, &["worker_agent", "heartbeat/worker_agent.md"]).await;
}

#[tokio::test]
async fn missing_sysg_should_be_shown_and_plans_made_all_the_same() {
    let fleet = fleet(good()).args(&["--sysg", "/nonexistent/sysg"]).start_without_sysg().await;
    fleet.until_task("task-001", State::Ready).await;
    let agent = fleet
        .until_agent("worker_agent", "shows why it cannot start", |a| a.status.error.is_some())
        .await;
    let error = agent.status.error.unwrap();
    assert!(error.contains("sysg is not installed") && error.contains("cargo install"), "{error}");
}

#[tokio::test]
async fn spawn_limit_too_low_should_be_shown_and_leave_the_others_working() {
    let text = agents(&["a_agent", "b_agent"]) + &goal(&task("task-001: Good", "true"));
    let fleet = fleet(text).children(1).start().await;
    fleet.until_goal(Status::Complete).await;
    let limited = wait_until("one agent shows the limit", DEADLINE, || async {
        let agents = fleet.store.agents().await.unwrap();
        let limited = agents.iter().find_map(|agent| agent.status.error.clone());
        limited.ok_or_else(|| format!("{agents:?}"))
    })
    .await;
    assert!(limited.contains("spawn limit") && limited.contains("systemg.yaml"), "{limited}");
    // The goal can be complete before the controller has said that its agent runs.
    wait_until("the other one runs", DEADLINE, || async {
        let agents = fleet.store.agents().await.unwrap();
        let running = agents.iter().filter(|a| a.status.phase == Some(Phase::Running)).count();
        if running == 1 { Ok(()) } else { Err(format!("{agents:?}")) }
    })
    .await;
}

#[tokio::test]
async fn role_that_no_agent_has_should_be_explained() {
    let tasks = task("task-001: Good", "true") + &task("task-002: Nobody (role: magician)", "true");
    let fleet = fleet(agents(&["worker_agent"]) + &goal(&tasks)).start().await;
    fleet.until_task("task-001", State::Done).await;
    let explained = fleet.orch(&["explain", "task-002"]);
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(explained.contains("magician") && explained.contains("worker_agent"), "{explained}");
    assert_eq!(fleet.store.goal(&goal_001()).await.unwrap().unwrap().status, Status::Active);
    until_shown(&fleet, &["magician"]).await;
}

#[tokio::test]
async fn unreachable_redis_and_wrong_password_should_end_the_orchestrator_with_a_reason() {
    let redis = testkit::RedisServer::options().password("right").start();
    let fleet = fleet(good()).write().await;
    let url = format!("redis://:s3cret@127.0.0.1:{}", redis.port());
    let mut command = fleet.project.command(ORCH);
    command.args(["run", "--role", "orchestrator", "--redis-url", &url]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("password") && !said.contains("s3cret"), "{said}");
}

#[tokio::test]
async fn password_of_redis_should_reach_agents_and_show_nowhere() {
    let redis = testkit::RedisServer::options().password("s3cret-word").start();
    let url = format!("redis://:s3cret-word@127.0.0.1:{}", redis.port());
    let fleet = fleet(good()).env("REDIS_URL", &url).start().await;
    let store = store::Store::new(&url.parse::<store::RedisUrl>().unwrap().into()).await.unwrap();
    wait_until("the goal is complete", DEADLINE, || async {
        match store.goal(&goal_001()).await {
            Ok(Some(goal)) if goal.status == Status::Complete => Ok(()),
            other => Err(format!("{other:?}\n{}", fleet.log())),
        }
    })
    .await;
    let agents = fleet.all_agent_processes();
    assert_eq!(agents.len(), 1);
    assert!(!fleet.describe(&fleet.project.processes()).contains("s3cret-word"));
    assert!(!fleet.log().contains("s3cret-word"));
    let file = std::fs::metadata(fleet.path(".orch/redis-url")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o777, 0o600);
}
