//! Planning that has to wait, and budgets.

use std::time::{Duration, Instant};

use model::goal::Status;
use model::{GoalSpec, Provider};
use testkit::{DEADLINE, wait_until};

use crate::bench::{Bench, goal_id, pinned};
use crate::scripted::Answer;

const GOAL: &str = "goal-001";
const LONG_MS: u64 = 3_600_000;

fn goal() -> GoalSpec {
    pinned(GOAL, "A report", &["a", "b: a"])
}

#[tokio::test]
async fn held_planning_should_cost_no_attempt_and_go_on_in_time() {
    let (bench, id) = (Bench::new().await, goal_id(GOAL));
    let hold = Answer::Hold("the usage limit is reached", Some(700));
    let (fail, panic) = (Answer::Fail("nonsense"), Answer::Panic);
    // As many failures as are allowed, with holds between them.
    bench.planner.will(&id, &[fail, hold.clone(), panic, hold]);
    let _running = bench.run();
    bench.declare(goal());
    let start = Instant::now();
    let held = bench.until(GOAL, |goal| goal.reason.is_some()).await;
    assert_eq!(held.status, Status::Draft);
    assert_eq!(held.reason.as_deref(), Some("planning waits: the usage limit is reached"));
    assert_eq!(held.planning.held.as_deref(), Some("the usage limit is reached"));
    assert_eq!((held.planning.attempts, held.planning.error.as_deref()), (1, Some("nonsense")));

    let goal = bench.until(GOAL, |goal| goal.generation == 1 && goal.planning.held.is_none()).await;
    assert_eq!((goal.status, goal.reason), (Status::Active, None));
    assert!(start.elapsed() >= Duration::from_millis(1_400), "{:?}", start.elapsed());
    assert_eq!(bench.planner.attempts(&id), 5);
    assert_eq!(bench.events("goal-plan-held").await, 2);
}

#[tokio::test]
async fn hold_should_survive_a_restart_without_asking_the_planner() {
    let (bench, id) = (Bench::new().await, goal_id(GOAL));
    bench.planner.will(&id, &[Answer::Hold("a weekly limit", Some(LONG_MS))]);
    let running = bench.run();
    bench.declare(goal());
    let held = bench.until(GOAL, |goal| goal.reason.is_some()).await;
    drop(running);
    let running = bench.run();
    bench.passes(&running, 30).await;
    assert_eq!(bench.planner.attempts(&id), 1);
    assert_eq!(bench.goal(GOAL).await, held);
    assert_eq!(bench.events("goal-plan-held").await, 1);
    // Somebody sets the wall clock right: what was a week is over.
    bench.redis_cli(&["HSET", "goal:goal-001", "plan_not_before", "1"]);
    bench.until_status(GOAL, Status::Active).await;
}

#[tokio::test]
async fn hold_that_is_over_already_should_not_be_asked_about_at_once() {
    let (bench, id) = (Bench::new().await, goal_id(GOAL));
    bench.planner.will(&id, &[Answer::Hold("a limit", Some(0)), Answer::Hold("a limit", None)]);
    let running = bench.run();
    bench.declare(goal());
    bench.until(GOAL, |goal| goal.reason.is_some()).await;
    bench.passes(&running, 30).await;
    assert_eq!(bench.planner.attempts(&id), 1);
}

#[tokio::test]
async fn hold_should_end_when_the_goal_is_planned_with_something_else() {
    let (bench, id) = (Bench::new().await, goal_id(GOAL));
    bench.planner.will(&id, &[Answer::Hold("no limit is known", None)]);
    let _running = bench.run();
    bench.declare(goal());
    bench.until(GOAL, |goal| goal.reason.is_some()).await;
    bench.declare(GoalSpec { provider: Some(Provider::Codex), ..goal() });
    let start = Instant::now();
    bench.until_status(GOAL, Status::Active).await;
    assert!(start.elapsed() < dag_controller::HOLD_RETRY / 2, "{:?}", start.elapsed());
    assert_eq!(bench.planner.attempts(&id), 2);
}

#[tokio::test]
async fn held_reparse_should_keep_the_plan_in_force_and_be_served_later() {
    let (bench, id) = (Bench::new().await, goal_id(GOAL));
    let running = bench.run();
    bench.declare(goal());
    bench.until_status(GOAL, Status::Active).await;
    bench.planner.will(&id, &[Answer::Hold("a limit", Some(500))]);
    bench.reparse(GOAL).await;
    let held = bench.until(GOAL, |goal| goal.planning.held.is_some()).await;
    assert_eq!((held.status, held.reason, held.generation), (Status::Active, None, 1));
    assert_eq!(bench.worker("one_agent", GOAL).await.work().await, ["a", "b"]);
    bench.until(GOAL, |goal| goal.planning.held.is_none()).await;
    bench.passes(&running, 20).await;
    assert_eq!(bench.planner.attempts(&id), 3);
    bench.until_status(GOAL, Status::Complete).await;
}

#[tokio::test]
async fn budget_should_be_noted_without_another_plan() {
    let (bench, id) = (Bench::new().await, goal_id(GOAL));
    let running = bench.run();
    let with = |budget_micros| GoalSpec { budget_micros, ..goal() };
    bench.declare(with(Some(5_000_000)));
    let goal = bench.until_status(GOAL, Status::Active).await;
    assert_eq!(goal.budget_micros, Some(5_000_000));
    for budget in [Some(7_250_000), None, Some(1)] {
        bench.declare(with(budget));
        wait_until("the budget", DEADLINE, || async {
            let have = bench.goal(GOAL).await.budget_micros;
            if have == budget { Ok(()) } else { Err(format!("{have:?}")) }
        })
        .await;
    }
    bench.passes(&running, 20).await;
    let goal = bench.goal(GOAL).await;
    assert_eq!((goal.generation, bench.planner.attempts(&id)), (1, 1));
    assert_eq!(bench.redis_cli(&["HGET", "goal:goal-001", "budget"]).trim(), "1");
}
