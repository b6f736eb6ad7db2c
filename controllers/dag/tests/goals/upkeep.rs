//! A plan in force: kept right, and rolled up into the goal's status.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dag_controller::Settings;
use model::goal::{Counts, Status};
use model::task::State;
use store::task::{Claim, Settled};
use testkit::{DEADLINE, wait_until};

use crate::bench::{Bench, goal_id, pinned, settings, task_id};

const GOAL: &str = "goal-001";

#[tokio::test]
async fn goal_should_be_complete_when_all_its_tasks_are_done() {
    let bench = Bench::new().await;
    let _running = bench.run();
    bench.declare(pinned(GOAL, "A chain", &["a", "b: a", "c: b"]));
    bench.until_status(GOAL, Status::Active).await;
    assert_eq!(bench.worker("one_agent", GOAL).await.work().await, ["a", "b", "c"]);
    let goal = bench.until_status(GOAL, Status::Complete).await;
    assert_eq!(goal.reason.as_deref(), Some("all 3 tasks are done"));
    assert!(goal.finished.is_some());
}

#[tokio::test]
async fn goal_should_fail_with_its_reason_and_heal_by_a_retry() {
    let bench = Bench::new().await;
    let running = bench.run();
    let tasks = ["a", "b: a", "c: b", "d: b", "other"];
    bench.declare(pinned(GOAL, "It breaks", &tasks));
    bench.until_status(GOAL, Status::Active).await;
    let agent = bench.worker("one_agent", GOAL).await;
    let grant = agent.claim_some().await;
    assert_eq!(agent.fail(&grant, "disk full", true).await, Settled::Failed);
    // What does not depend on it still runs.
    bench.passes(&running, 10).await;
    assert_eq!(bench.goal(GOAL).await.status, Status::Active);
    assert_eq!(agent.work().await, ["other"]);
    let goal = bench.until_status(GOAL, Status::Failed).await;
    assert_eq!(
        goal.reason.as_deref(),
        Some("a failed: disk full; 3 tasks wait for it; `orch retry a` tries it again")
    );
    assert_eq!(bench.events("goal-failed").await, 1);

    assert_eq!(bench.store.retry(&task_id("a")).await.unwrap(), Some(Ok(State::Ready)));
    let goal = bench.until_status(GOAL, Status::Active).await;
    assert_eq!((goal.reason, goal.finished), (None, None));
    assert_eq!(agent.work().await, ["a", "b", "c", "d"]);
    bench.until_status(GOAL, Status::Complete).await;
}

#[tokio::test]
async fn many_failures_should_be_named_briefly() {
    let bench = Bench::new().await;
    let _running = bench.run();
    bench.declare(pinned(GOAL, "It breaks", &["a", "b", "c", "d", "e: a d"]));
    bench.until_status(GOAL, Status::Active).await;
    let agent = bench.worker("one_agent", GOAL).await;
    for _ in 0..4 {
        let grant = agent.claim_some().await;
        agent.fail(&grant, &"no ".repeat(500), true).await;
    }
    let reason = bench.until_status(GOAL, Status::Failed).await.reason.unwrap();
    assert!(reason.starts_with("a failed: no no "), "{reason}");
    assert!(reason.contains("; c failed: ") && !reason.contains("; d failed"), "{reason}");
    let end = "; 1 more failed; 1 task waits for them; `orch retry a` tries it again";
    assert!(reason.ends_with(end) && reason.len() < 1_200, "{reason}");
}

#[tokio::test]
async fn figures_changed_by_hand_should_be_repaired_before_anything_follows_from_them() {
    let bench = Bench::new().await;
    let running = bench.run();
    bench.declare(pinned(GOAL, "A chain", &["a", "b: a", "c: b"]));
    bench.until_status(GOAL, Status::Active).await;
    let right = Counts { ready: 1, blocked: 2, ..Counts::default() };
    let counts = "dag:goal-001:counts";
    for tampered in [
        // As if all were done; but one task is queued.
        &["HSET", counts, "ready:", "0", "blocked:", "0", "done:", "3"][..],
        &["HSET", counts, "ready:", "5"],
        &["DEL", counts],
        &["DEL", "dag:goal-001:ready"],
        &["ZADD", "dag:goal-001:ready", "0", "c"],
    ] {
        bench.redis_cli(tampered);
        wait_until("right figures", DEADLINE, || async {
            let figures = bench.store.figures(&goal_id(GOAL)).await.unwrap();
            let good = figures.counts == right && figures.contradiction().is_none();
            if good { Ok(()) } else { Err(format!("{tampered:?}: {figures:?}")) }
        })
        .await;
    }
    // No status ever followed from the wrong ones.
    bench.passes(&running, 10).await;
    assert_eq!(bench.events("goal-complete").await, 0);
    assert_eq!(bench.goal(GOAL).await.status, Status::Active);
    assert_eq!(bench.worker("one_agent", GOAL).await.work().await, ["a", "b", "c"]);
    bench.until_status(GOAL, Status::Complete).await;
}

#[tokio::test]
async fn drift_that_no_repair_mends_should_be_shown_and_left_to_a_reparse() {
    let bench = Bench::new().await;
    let running = bench.run();
    bench.declare(pinned(GOAL, "A chain", &["a", "b: a"]));
    bench.until_status(GOAL, Status::Active).await;
    // A circle, and a reason to look.
    bench.redis_cli(&["HSET", "dag:goal-001:deps", "a", "[\"b\"]"]);
    bench.redis_cli(&["HSET", "dag:goal-001:counts", "ready:", "5"]);
    let goal = bench.until(GOAL, |goal| goal.problem.is_some()).await;
    let problem = goal.problem.unwrap();
    assert!(problem.starts_with("tasks are blocked though nothing is left"), "{problem}");
    let repairs = bench.events("goal-repair").await;
    // Several times as long as it takes until the figures are looked at again.
    bench.passes(&running, 30).await;
    assert_eq!((bench.events("goal-repair").await, repairs), (2, 2));

    bench.reparse(GOAL).await;
    bench.until(GOAL, |goal| goal.generation == 2 && goal.problem.is_none()).await;
    assert_eq!(bench.worker("one_agent", GOAL).await.work().await, ["a", "b"]);
    bench.until_status(GOAL, Status::Complete).await;
}

#[tokio::test]
async fn delayed_task_should_be_claimable_in_time_and_wake_an_idle_agent() {
    let bench = Bench::new().await;
    // Long, so that it is the due time that has it looked at.
    let kit = reconcile::Settings { resync: Duration::from_secs(3_600), ..settings().kit };
    let running = bench.run_with(Settings { kit, ..settings() }, bench.lead);
    bench.declare(pinned(GOAL, "It stumbles", &["a"]));
    running.waker.wake(goal_id(GOAL));
    bench.until_status(GOAL, Status::Active).await;
    let (busy, idle) =
        (bench.worker("busy_agent", GOAL).await, bench.worker("idle_agent", GOAL).await);
    let mut waiting = bench.store.waiting().unwrap();
    let grant = busy.claim_some().await;
    assert_eq!(idle.claim().await, Claim::Empty);
    // What its registration left there.
    while waiting.inbox(&idle.name, Duration::from_millis(20)).await.unwrap() {}
    assert_eq!(busy.fail(&grant, "at first", false).await, Settled::Retry);
    running.waker.wake(goal_id(GOAL));
    assert!(waiting.inbox(&idle.name, DEADLINE).await.unwrap());
    let Claim::Granted(grant) = idle.claim().await else { panic!("nothing to claim") };
    assert_eq!((grant.task.as_str(), grant.attempt), ("a", 2));
}

#[tokio::test]
async fn goal_no_longer_declared_should_keep_its_history() {
    let bench = Bench::new().await;
    let running = bench.run();
    let spec = pinned(GOAL, "A chain", &["a", "b: a"]);
    bench.declare(spec.clone());
    bench.until_status(GOAL, Status::Active).await;
    bench.change(|declared| declared.goals.clear());
    bench.until(GOAL, |goal| !goal.declared).await;
    let events = bench.store.end_of_events().await.unwrap();
    bench.passes(&running, 20).await;
    assert_eq!(bench.store.end_of_events().await.unwrap(), events);
    let goal = bench.goal(GOAL).await;
    assert_eq!((goal.status, goal.generation, goal.tasks), (Status::Active, 1, 2));

    bench.declare(spec);
    let goal = bench.until(GOAL, |goal| goal.declared).await;
    assert_eq!(goal.generation, 1);
    assert_eq!(bench.planner.attempts(&goal_id(GOAL)), 1);
}

#[tokio::test]
async fn role_that_no_agent_has_should_be_shown_until_one_has_it() {
    let bench = Bench::new().await;
    let _running = bench.run();
    let tasks = ["a", "b@quality", "c@quality: a", "d@law"];
    bench.declare(pinned(GOAL, "Who does it?", &tasks));
    let goal = bench.until(GOAL, |goal| goal.generation == 1 && goal.problem.is_some()).await;
    assert_eq!(
        goal.problem.unwrap(),
        "1 task needs the role law, which no declared agent of this goal has; \
         2 tasks need the role quality, which no declared agent of this goal has: \
         declare an agent with `Role: law` and one with `Role: quality`"
    );
    bench.declare_agent("law_agent", GOAL);
    bench
        .until(GOAL, |goal| goal.problem.as_deref().is_some_and(|text| !text.contains("law,")))
        .await;
    bench.declare_agent("quality_agent", GOAL);
    bench.until(GOAL, |goal| goal.problem.is_none()).await;

    // A role of which only an earlier plan had tasks is nobody's problem.
    bench.change(|declared| {
        declared.agents.retain(|name, _| name.as_str() != "law_agent");
    });
    bench.until(GOAL, |goal| goal.problem.is_some()).await;
    bench.declare(pinned(GOAL, "Who does it?", &["a", "b@quality"]));
    bench.until(GOAL, |goal| goal.generation == 2 && goal.problem.is_none()).await;

    bench.change(|declared| declared.agents.clear());
    let goal = bench.until(GOAL, |goal| goal.problem.is_some()).await;
    assert!(goal.problem.unwrap().starts_with("no declared agent has this goal"));
}

#[tokio::test]
async fn goal_that_is_as_declared_should_cost_one_read_and_no_write() {
    let bench = Bench::new().await;
    let drift_check = Duration::from_secs(3_600);
    let running = bench.run_with(Settings { drift_check, ..settings() }, bench.lead);
    bench.declare(pinned(GOAL, "Done soon", &["a"]));
    bench.declare(pinned("goal-002", "Under way", &["b"]));
    bench.until_status(GOAL, Status::Active).await;
    bench.until_status("goal-002", Status::Active).await;
    bench.worker("one_agent", GOAL).await.work().await;
    bench.worker("two_agent", "goal-002").await.claim_some().await;
    bench.until_status(GOAL, Status::Complete).await;
    bench.passes(&running, 20).await;

    bench.redis_cli(&["CONFIG", "RESETSTAT"]);
    let before = running.stats.snapshot();
    bench.passes(&running, 100).await;
    let after = running.stats.snapshot();
    assert_eq!(after.acted, before.acted);
    let calls = calls(&bench);
    // One pipeline each pass, and the list of goals each resync.
    let passes = after.passes - before.passes + 8;
    for (name, each_pass) in [("hgetall", 2), ("hget", 1), ("get", 1)] {
        assert!(calls[name] <= each_pass * passes, "{calls:?}");
    }
    let reads = ["hgetall", "hget", "get", "smembers", "config", "info"];
    assert!(calls.keys().all(|name| reads.contains(&name.as_str())), "{calls:?}");
}

#[tokio::test]
async fn many_wakes_should_cost_few_looks() {
    let bench = Bench::new().await;
    let kit = reconcile::Settings { resync: Duration::from_secs(3_600), ..settings().kit };
    let running = bench.run_with(Settings { kit, ..settings() }, bench.lead);
    bench.declare(pinned(GOAL, "Under way", &["a"]));
    running.waker.wake(goal_id(GOAL));
    bench.until_status(GOAL, Status::Active).await;
    bench.worker("one_agent", GOAL).await.claim_some().await;

    bench.redis_cli(&["CONFIG", "RESETSTAT"]);
    let (start, before) = (Instant::now(), running.stats.snapshot().passes);
    while running.stats.snapshot().passes < before + 5_000 {
        running.waker.wake(goal_id(GOAL));
        tokio::task::yield_now().await;
    }
    // One each 10 ms, however long it took; each reads two hashes, and some the figures.
    let most = 2 + start.elapsed().as_millis() / 10;
    let calls = calls(&bench);
    assert!(u128::from(calls["hgetall"]) <= 3 * most, "{calls:?} where {most} looks are most");
}

/// How often each command was called since the statistics were reset.
fn calls(bench: &Bench) -> BTreeMap<String, u64> {
    let text = bench.redis_cli(&["INFO", "commandstats"]);
    let lines = text.lines().filter_map(|line| line.strip_prefix("cmdstat_"));
    lines
        .map(|line| {
            let (name, stat) = line.split_once(":calls=").unwrap();
            let name = name.split('|').next().unwrap();
            (name.to_owned(), stat.split(',').next().unwrap().parse().unwrap())
        })
        .collect()
}
