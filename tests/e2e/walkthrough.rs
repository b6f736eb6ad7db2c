//! The seed's walk-through, word for word but for sysg's present flags.

use model::goal::Status;
use model::task::State;
use testkit::wait_until;

use crate::support::{DEADLINE, Fleet, fleet, goal, id, task};

/// The seed's declaration of agents, and a goal whose first task takes its time.
fn seed_project() -> String {
    let agents = "## Agents\n\n\
        ### research_agent\n- Goal: goal-001\n- Heartbeat: ./heartbeat/research.md\n\
        - Log Level: INFO\n\n\
        ### analysis_agent\n- Goal: goal-001\n- Heartbeat: ./heartbeat/analysis.md\n\
        - Log Level: DEBUG\n";
    let wait = "until test -e \"$ORCH_PROJECT/go\"; do sleep 0.05; done";
    let first = task(
        "task-001: Research competitors (priority: 10; role: research) -> competitors.json",
        &format!("{wait}\necho '[]' > competitors.json"),
    );
    let second = task("task-002: Compare (after: task-001)", "test -s competitors.json");
    format!("{agents}{}", goal(&(first + &second)))
}

async fn go(fleet: &Fleet) {
    fleet.project.write("go", "");
    fleet.until_goal(Status::Complete).await;
}

#[tokio::test]
async fn seed_walkthrough_should_show_what_the_seed_says() {
    let fleet = fleet(seed_project()).start().await;
    fleet.until_task("task-001", State::Running).await;

    let task = fleet.redis(r#"HGETALL "task:task-001""#);
    let lines: Vec<&str> = task.lines().collect();
    let field = |name: &str| {
        lines.chunks(2).find(|pair| pair[0] == name).map(|pair| pair[1]).unwrap_or_default()
    };
    assert_eq!((field("status"), field("owner")), ("running", "research_agent"), "{task}");
    assert!(field("lease_expires").ends_with('Z'), "{task}");
    assert_eq!(fleet.redis(r#"GET "task:task-001:lock""#), "research_agent");

    let nodes = fleet.redis(r#"HGETALL "dag:goal-001:nodes""#);
    assert!(nodes.contains("task-001") && nodes.contains(r#""title":"Research competitors""#));
    assert!(nodes.contains(r#""expected_artifacts":["competitors.json"]"#), "{nodes}");
    assert_eq!(fleet.redis(r#"HGET "dag:goal-001:deps" task-002"#), r#"["task-001"]"#);

    assert!(fleet.redis(r#"GET "agent:research_agent:heartbeat""#).ends_with('Z'));
    let registered = fleet.redis(r#"HGETALL "agent:research_agent:registered""#);
    for field in ["pid", "timestamp", "cap:role"] {
        assert!(registered.lines().any(|line| line == field), "{field}: {registered}");
    }
    go(&fleet).await;
    assert_eq!(fleet.read(fleet.work("competitors.json")), "[]\n");
}

#[tokio::test]
async fn echoed_directives_should_control_the_agent() {
    let fleet = fleet(seed_project()).start().await;
    fleet.until_task("task-001", State::Running).await;

    fleet.sh(r#"echo "PAUSE" >> ./heartbeat/research.md"#);
    fleet.until_agent("research_agent", "is paused", |agent| agent.paused).await;
    fleet.sh(r#"echo "DROP-TASK task-001" >> ./heartbeat/research.md"#);
    // Only research_agent has the role, and it is paused.
    fleet.until_task("task-001", State::Ready).await;
    let marker = format!("{}", fleet.path("go").display());
    wait_until("the dropped task's block is ended", DEADLINE, || async {
        let left = process::find_by_env("ORCH_PROJECT", |value| marker.starts_with(value)).unwrap();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;

    fleet.sh(r#"echo "RESUME" >> ./heartbeat/research.md"#);
    let again = fleet.until_task("task-001", State::Running).await;
    assert_eq!((again.attempt, again.failures, again.losses), (2, 0, 0));
    let ack = fleet.path("heartbeat/research.ack.md");
    wait_until("each line has its answer", DEADLINE, || async {
        let ack = fleet.read(&ack);
        let said = ["PAUSE", "DROP-TASK task-001", "RESUME"].map(|line| ack.contains(line));
        if said == [true; 3] { Ok(()) } else { Err(ack) }
    })
    .await;
    go(&fleet).await;
    let task = fleet.store.task(&id("task-001")).await.unwrap().unwrap();
    assert_eq!(task.attempt, 2);
}
