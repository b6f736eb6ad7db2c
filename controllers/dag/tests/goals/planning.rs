//! Plans: made when they are wanted, and only then.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use dag_controller::{MAX_ATTEMPTS, NEVER_MS, Settings};
use model::goal::{Counts, Status};
use model::task::State;
use testkit::{DEADLINE, wait_until};

use crate::bench::{Bench, goal_id, pinned, prose, settings, task_id};
use crate::scripted::Answer;

const GOAL: &str = "goal-001";

/// Two tasks and one that joins them.
fn join(text: &str) -> model::GoalSpec {
    pinned(GOAL, text, &["task-001", "task-002", "task-003: task-001 task-002"])
}

#[tokio::test]
async fn pinned_goal_should_become_active_with_its_plan() {
    let bench = Bench::new().await;
    let _running = bench.run();
    bench.declare(join("A report"));
    let goal = bench.until_status(GOAL, Status::Active).await;
    assert_eq!((goal.generation, goal.title.as_str(), goal.declared), (1, "A report", true));
    assert_eq!(goal.counts, Counts { ready: 2, blocked: 1, ..Counts::default() });
    let deps = bench.store.dependencies(&goal_id(GOAL), &task_id("task-003")).await.unwrap();
    assert_eq!(deps, [task_id("task-001"), task_id("task-002")]);
    assert_eq!(bench.planner.attempts(&goal_id(GOAL)), 1);
}

#[tokio::test]
async fn first_plan_should_be_logged_as_the_reference_does() {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (bench, log) = (Bench::new().await, Log::default());
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let _running = bench.run();
    bench.declare(join("A report"));
    bench.until_status(GOAL, Status::Active).await;
    let line = "orchestrator: DAG created for goal goal-001: 3 nodes, 2 edges";
    wait_until("the line", DEADLINE, || async {
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        if text.contains(line) && text.contains("INFO") { Ok(()) } else { Err(text) }
    })
    .await;
}

#[tokio::test]
async fn changed_goal_should_be_planned_again_and_keep_what_is_done() {
    let bench = Bench::new().await;
    let _running = bench.run();
    bench.declare(join("A report"));
    bench.until_status(GOAL, Status::Active).await;
    let agent = bench.worker("one_agent", GOAL).await;
    let first = agent.claim_some().await;
    agent.complete(&first).await;

    bench.declare(pinned(GOAL, "More", &["task-001", "task-002", "task-004: task-001"]));
    let goal = bench.until(GOAL, |goal| goal.difference.is_some()).await;
    assert_eq!((goal.generation, goal.title.as_str()), (2, "More"));
    assert_eq!(goal.difference.unwrap(), "1 added (task-004); 1 removed (task-003)");
    assert_eq!(goal.counts, Counts { done: 1, ready: 2, ..Counts::default() });
    let task = bench.store.task(&first.task).await.unwrap().unwrap();
    assert_eq!((task.id.as_str(), task.status), ("task-001", State::Done));
    assert_eq!(agent.work().await, ["task-002", "task-004"]);
    bench.until_status(GOAL, Status::Complete).await;
}

#[tokio::test]
async fn change_without_effect_on_the_plan_should_only_be_recorded() {
    let bench = Bench::new().await;
    let _running = bench.run();
    bench.declare(join("A report"));
    bench.until_status(GOAL, Status::Active).await;
    let same = join("Other words");
    bench.declare(same.clone());
    let goal = bench.until(GOAL, |goal| goal.spec_hash == same.spec_hash).await;
    assert_eq!((goal.generation, goal.title.as_str()), (1, "Other words"));
    assert_eq!(bench.events("goal-accept").await, 1);
}

#[tokio::test]
async fn reparse_should_have_the_goal_planned_once_more() {
    let (bench, id) = (Bench::new().await, goal_id(GOAL));
    let running = bench.run();
    bench.declare(join("A report"));
    bench.until_status(GOAL, Status::Active).await;
    bench.reparse(GOAL).await;
    bench.until(GOAL, |goal| goal.planning.reparses == 1).await;
    bench.passes(&running, 20).await;
    assert_eq!(bench.planner.attempts(&id), 2);
    // Nothing came of it, and a new process knows that.
    drop(running);
    let running = bench.run();
    bench.passes(&running, 20).await;
    assert_eq!((bench.planner.attempts(&id), bench.goal(GOAL).await.generation), (2, 1));

    // One that fails at first is not forgotten.
    bench.planner.will(&id, &[Answer::Fail("not now")]);
    bench.reparse(GOAL).await;
    bench.until(GOAL, |goal| goal.planning.reparses == 2 && goal.planning.attempts == 0).await;
    assert_eq!(bench.planner.attempts(&id), 4);
}

#[tokio::test]
async fn planning_that_fails_should_be_tried_again() {
    let (bench, id) = (Bench::new().await, goal_id(GOAL));
    bench.planner.will(&id, &[Answer::Fail("nonsense"), Answer::Panic]);
    let _running = bench.run();
    bench.declare(join("A report"));
    let goal = bench.until(GOAL, |goal| goal.generation == 1 && goal.planning.attempts == 0).await;
    assert_eq!((goal.status, goal.planning.error, goal.reason), (Status::Active, None, None));
    assert_eq!(bench.planner.attempts(&id), 3);
    assert_eq!(bench.events("goal-plan-retry").await, 2);
}

#[tokio::test]
async fn attempts_should_be_counted_across_processes_and_end() {
    let (bench, id) = (Bench::new().await, goal_id(GOAL));
    bench.planner.will(&id, &[const { Answer::Fail("no model") }; 9]);
    bench.declare(join("A report"));
    for attempts in 1..MAX_ATTEMPTS {
        let wait = reconcile::Policy { first: Duration::from_secs(300), ..Default::default() };
        let late = Settings { planning_backoff: wait, ..settings() };
        let running = bench.run_with(late, bench.lead);
        bench.until(GOAL, |goal| goal.planning.attempts == attempts).await;
        bench.passes(&running, 10).await;
        assert_eq!(bench.planner.attempts(&id), attempts as usize);
        drop(running);
        // A person need not wait for the wall clock.
        bench.redis_cli(&["HSET", "goal:goal-001", "plan_not_before", "0"]);
    }
    let running = bench.run();
    let goal = bench.until(GOAL, |goal| goal.reason.is_some()).await;
    assert_eq!((goal.status, goal.planning.attempts), (Status::Draft, MAX_ATTEMPTS));
    assert_eq!(goal.planning.not_before_ms, NEVER_MS);
    assert!(goal.reason.unwrap().contains("no model"));
    drop(running);
    let running = bench.run();
    bench.passes(&running, 20).await;
    assert_eq!(bench.planner.attempts(&id), MAX_ATTEMPTS as usize);
    assert_eq!(bench.events("goal-plan-failed").await, 1);

    // A person asks again: it starts over.
    bench.reparse(GOAL).await;
    let goal = bench.until(GOAL, |goal| goal.planning.reparses == 1).await;
    assert_eq!(goal.planning.attempts, 1);
    wait_until("all attempts", DEADLINE, || async {
        let attempts = bench.planner.attempts(&id);
        if attempts == 2 * MAX_ATTEMPTS as usize { Ok(()) } else { Err(attempts.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn wait_should_not_grow_with_a_wall_clock_that_jumped_back() {
    let bench = Bench::new().await;
    let spec = join("A report");
    let year_3000 = "32503680000000";
    for (field, value) in [
        ("status", "draft"),
        ("plan_spec_hash", spec.spec_hash.as_str()),
        ("plan_attempts", "1"),
        ("plan_error", "no model"),
        ("plan_not_before", year_3000),
    ] {
        bench.redis_cli(&["HSET", "goal:goal-001", field, value]);
    }
    bench.declare(spec);
    let _running = bench.run();
    bench.until_status(GOAL, Status::Active).await;
}

#[tokio::test]
async fn refusal_should_stand_until_the_declaration_changes() {
    let (bench, id) = (Bench::new().await, goal_id(GOAL));
    let running = bench.run();
    bench.declare(prose(GOAL, "Only prose"));
    let goal = bench.until(GOAL, |goal| goal.reason.is_some()).await;
    assert_eq!((goal.status, goal.planning.attempts), (Status::Draft, 1));
    assert_eq!(goal.planning.error.as_deref(), Some("it pins no tasks"));
    bench.passes(&running, 20).await;
    assert_eq!(bench.planner.attempts(&id), 1);
    assert_eq!(bench.events("goal-plan-failed").await, 1);

    bench.declare(pinned(GOAL, "A circle", &["a: b", "b: a"]));
    let goal = bench.until(GOAL, |goal| goal.title == "A circle" && goal.reason.is_some()).await;
    assert!(goal.reason.unwrap().contains("a -> b -> a"));

    bench.declare(join("A report"));
    let goal = bench.until_status(GOAL, Status::Active).await;
    assert_eq!(goal.reason, None);
    bench.until(GOAL, |goal| goal.planning.error.is_none()).await;
}

#[tokio::test]
async fn plan_in_force_should_outlive_a_change_that_cannot_be_planned() {
    let bench = Bench::new().await;
    let running = bench.run();
    let first = join("A report");
    bench.declare(first.clone());
    bench.until_status(GOAL, Status::Active).await;
    bench.declare(prose(GOAL, "Only prose"));
    bench.until(GOAL, |goal| goal.planning.error.is_some()).await;
    bench.passes(&running, 20).await;
    let goal = bench.goal(GOAL).await;
    assert_eq!((goal.status, goal.generation), (Status::Active, 1));
    assert_eq!((goal.spec_hash, goal.reason), (first.spec_hash.clone(), None));
    let agent = bench.worker("one_agent", GOAL).await;
    assert_eq!(agent.work().await, ["task-001", "task-002", "task-003"]);
    bench.until_status(GOAL, Status::Complete).await;

    // Taken back: nothing of it is left.
    bench.declare(first);
    let goal = bench.until(GOAL, |goal| goal.planning.error.is_none()).await;
    assert_eq!((goal.status, goal.generation), (Status::Complete, 1));
}

#[tokio::test]
async fn planner_that_hangs_should_hold_up_nothing_and_end_with_its_purpose() {
    let (bench, id) = (Bench::new().await, goal_id(GOAL));
    let workers = reconcile::Settings { workers: 1, ..settings().kit };
    let running = bench.run_with(Settings { kit: workers, ..settings() }, bench.lead);
    bench.declare(join("A report"));
    bench.until_status(GOAL, Status::Active).await;
    bench.planner.will(&id, &[Answer::Hang]);
    bench.declare(pinned(GOAL, "Never", &["never"]));
    let at_work = |count| {
        let (planner, id) = (&bench.planner, &id);
        wait_until("planners at work", DEADLINE, move || async move {
            let running = planner.running(id);
            if running == count { Ok(()) } else { Err(running.to_string()) }
        })
    };
    at_work(1).await;

    // Neither another goal nor its own waits for it.
    bench.declare(pinned("goal-002", "Another", &["other"]));
    bench.until_status("goal-002", Status::Active).await;
    bench.worker("one_agent", GOAL).await.work().await;
    bench.until_status(GOAL, Status::Complete).await;

    // What it plans for is not wanted any more.
    bench.declare(pinned(GOAL, "Else", &["else"]));
    let goal = bench.until(GOAL, |goal| goal.generation == 2).await;
    assert_eq!(goal.title, "Else");
    at_work(0).await;

    bench.planner.will(&id, &[Answer::Hang, Answer::Hang]);
    bench.reparse(GOAL).await;
    at_work(1).await;
    bench.change(|declared| declared.goals.clear());
    at_work(0).await;
    bench.declare(pinned(GOAL, "Else", &["else"]));
    at_work(1).await;
    drop(running);
    at_work(0).await;
    assert!(!bench.planner.overlapped());
}

#[tokio::test]
async fn planner_that_takes_too_long_should_count_as_failed() {
    let (bench, id) = (Bench::new().await, goal_id(GOAL));
    bench.planner.will(&id, &[Answer::Hang]);
    let limit = Duration::from_millis(50);
    let _running = bench.run_with(Settings { planning_limit: limit, ..settings() }, bench.lead);
    bench.declare(join("A report"));
    bench.until_status(GOAL, Status::Active).await;
    assert_eq!(bench.events("goal-plan-retry").await, 1);
}

#[tokio::test]
async fn goals_may_share_ids_as_long_as_there_is_a_name_for_each_task() {
    let bench = Bench::new().await;
    let _running = bench.run();
    // In this order, so that the last finds both forms taken.
    for (goal, task) in [("a", "x"), ("c", "b.x")] {
        bench.declare(pinned(goal, "First come", &[task]));
        bench.until_status(goal, Status::Active).await;
    }
    bench.declare(pinned("d", "A form is left", &["x"]));
    bench.until_status("d", Status::Active).await;
    bench.declare(pinned("b", "Too late", &["x"]));
    let goal = bench.until("b", |goal| goal.reason.is_some()).await;
    assert_eq!((goal.status, goal.planning.not_before_ms), (Status::Draft, NEVER_MS));
    assert!(goal.reason.unwrap().contains("the task id x is taken"));
    let scoped = bench.store.task(&task_id("d.x")).await.unwrap().unwrap();
    assert_eq!((scoped.goal, scoped.status), (goal_id("d"), State::Ready));
}
