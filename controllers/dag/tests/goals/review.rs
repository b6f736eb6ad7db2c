//! Plans with reviews.

use model::Role;
use model::goal::Status;
use model::task::State;

use crate::bench::{Bench, goal_id, pinned, reviewed, task_id};

const GOAL: &str = "goal-001";

#[tokio::test]
async fn reviewed_plan_should_be_accepted_and_run_stage_by_stage() {
    let bench = Bench::new().await;
    let running = bench.run();
    bench.declare(reviewed(pinned(GOAL, "Built and looked at", &["a@builder", "b@builder: a"])));
    for name in ["builder", "reviewer", "manager"] {
        bench.declare_agent(name, GOAL);
    }
    let goal = bench.until_status(GOAL, Status::Active).await;
    assert_eq!((goal.text.as_str(), goal.review), ("Built and looked at", true));
    assert_eq!((goal.tasks, goal.counts.ready, goal.counts.blocked), (6, 1, 5));
    let deps = bench.store.dependencies(&goal_id(GOAL), &task_id("b")).await.unwrap();
    assert_eq!(deps, [task_id("a__integrate")]);
    let qa = bench.store.task(&task_id("a__qa")).await.unwrap().unwrap();
    assert_eq!((qa.status, qa.role), (State::Blocked, Some(Role::new("reviewer").unwrap())));
    let (builder, reviewer, manager) = (
        bench.worker("builder", GOAL).await,
        bench.worker("reviewer", GOAL).await,
        bench.worker("manager", GOAL).await,
    );
    for made in ["a", "b"] {
        assert!(reviewer.work().await.is_empty() && manager.work().await.is_empty());
        assert_eq!(builder.work().await, [made]);
        assert_eq!(reviewer.work().await, [format!("{made}__qa")]);
        assert_eq!(manager.work().await, [format!("{made}__integrate")]);
    }
    let goal = bench.until_status(GOAL, Status::Complete).await;
    bench.passes(&running, 10).await;
    assert_eq!((goal.generation, goal.problem), (1, None));
}

#[tokio::test]
async fn missing_reviewer_should_be_explained_and_not_invented() {
    let bench = Bench::new().await;
    let _running = bench.run();
    bench.declare(reviewed(pinned(GOAL, "Who looks at it?", &["a@builder", "b@builder"])));
    bench.declare_agent("builder", GOAL);
    let goal = bench.until(GOAL, |goal| goal.generation == 1 && goal.problem.is_some()).await;
    assert_eq!(
        goal.problem.unwrap(),
        "2 tasks need the role manager, which no declared agent of this goal has; \
         2 tasks need the role reviewer, which no declared agent of this goal has: \
         declare an agent with `Role: manager` and one with `Role: reviewer`, \
         or do without `Review: on`"
    );
    bench.declare_agent("manager", GOAL);
    let goal = bench
        .until(GOAL, |goal| goal.problem.as_deref().is_some_and(|text| !text.contains("manager")))
        .await;
    assert_eq!(
        goal.problem.unwrap(),
        "2 tasks need the role reviewer, which no declared agent of this goal has: \
         declare an agent with `Role: reviewer`, or do without `Review: on`"
    );
    // Work goes on as far as it can, and no stage is passed over.
    assert_eq!(bench.worker("builder", GOAL).await.work().await, ["a", "b"]);
    assert!(bench.worker("manager", GOAL).await.work().await.is_empty());
    assert_eq!(bench.goal(GOAL).await.status, Status::Active);
    bench.declare_agent("reviewer", GOAL);
    bench.until(GOAL, |goal| goal.problem.is_none()).await;
    assert_eq!(bench.worker("reviewer", GOAL).await.work().await, ["a__qa", "b__qa"]);
}

#[tokio::test]
async fn review_turned_off_should_take_its_stages_away_and_keep_what_is_done() {
    let bench = Bench::new().await;
    let _running = bench.run();
    let tasks = ["a@builder", "b@builder: a"];
    bench.declare(reviewed(pinned(GOAL, "Reviewed", &tasks)));
    bench.until_status(GOAL, Status::Active).await;
    let builder = bench.worker("builder", GOAL).await;
    assert_eq!(builder.work().await, ["a"]);
    bench.declare(pinned(GOAL, "Not reviewed", &tasks));
    let goal = bench.until(GOAL, |goal| goal.generation == 2).await;
    assert_eq!((goal.tasks, goal.counts.done, goal.counts.ready), (2, 1, 1));
    assert_eq!(builder.work().await, ["b"]);
    bench.until_status(GOAL, Status::Complete).await;
}
