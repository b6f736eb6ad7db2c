//! The real service, for those who have a key: `make test-live`. Costs a dollar at most.

use std::path::Path;
use std::time::Duration;

use model::goal::Status;
use model::task::State;
use store::llm::CostOf;
use testkit::{installed, wait_until};

use crate::support::{fleet, goal_001};

/// What the goal may cost, in millionths of a US dollar.
const BUDGET_MICROS: u64 = 1_000_000;
/// How long it may take.
const LIMIT: Duration = Duration::from_secs(30 * 60);

const GOAL: &str = "Write a small guide to Rust's ownership, for people who know C, in eight parts: \
    one task for each part, which writes one short Markdown file of at most ten lines \
    (part-1.md to part-8.md). Parts 1 and 2 depend on nothing; every other part builds on the \
    one or two before it, and says so in its first line. Nothing else is wanted: no builds, no \
    tests, no summary.";

#[tokio::test]
#[ignore = "asks the real service, which costs money: make test-live"]
async fn real_service_should_bring_a_goal_of_eight_tasks_to_its_end() {
    let Some(program) = installed("claude") else { return };
    let agents: String = ["first_agent", "second_agent", "third_agent"]
        .map(|name| format!("\n### {name}\n- Goal: goal-001\n- Tools: Read, Write, Edit\n"))
        .concat();
    let instructions = format!(
        "## Agents\n{agents}\n## Goals\n\n### goal-001\n{GOAL}\n\n- Budget: $1\n- Timeout: 5m\n"
    );
    let mut builder = fleet(instructions)
        .provider("claude")
        .lease_ttl("30")
        .env("ORCH_CLAUDE_CLI", program.to_str().unwrap());
    // The home is the test's; the login is the user's.
    let login = std::env::var("HOME").map(|home| Path::new(&home).join(".claude"));
    if let Some(login) = login.ok().filter(|folder| folder.is_dir()) {
        builder = builder.env("CLAUDE_CONFIG_DIR", login.to_str().unwrap());
    }
    let fleet = builder.start().await;
    let goal = goal_001();
    wait_until("the goal is complete", LIMIT, || async {
        match fleet.store.goal(&goal).await.unwrap() {
            Some(goal) if goal.status == Status::Complete => Ok(()),
            other => Err(format!("{other:?}\n{}", fleet.log())),
        }
    })
    .await;
    let tasks = fleet.store.tasks(&goal).await.unwrap();
    assert!(tasks.len() >= 8 && tasks.iter().all(|task| task.status == State::Done), "{tasks:?}");
    for part in 1..=8 {
        assert!(!fleet.read(fleet.work(&format!("part-{part}.md"))).is_empty(), "part {part}");
    }
    let costs = fleet.store.costs(CostOf::Goal(&goal)).await.unwrap();
    println!("{} calls, {} millionths of a dollar", costs.calls, costs.usd_micros);
    // A call that runs when the budget is reached is ended by its program, not by us.
    assert!(costs.usd_micros <= BUDGET_MICROS + BUDGET_MICROS / 5, "{costs:?}");
}
