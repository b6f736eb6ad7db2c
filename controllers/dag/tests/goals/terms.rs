//! Crashes, and leaders that come and go.

use std::time::Duration;

use model::goal::{Counts, Status};
use store::lead::Controller;
use testkit::{DEADLINE, RedisServer, wait_until};

use crate::bench::{Bench, goal_id, lead, pinned};
use crate::scripted::Answer;

#[tokio::test]
async fn controller_whose_term_is_over_should_change_nothing() {
    let bench = Bench::new().await;
    let old = bench.run();
    bench.declare(pinned("goal-001", "Before", &["a"]));
    bench.until_status("goal-001", Status::Active).await;
    bench.planner.will(&goal_id("goal-001"), &[Answer::Fail("an answer for the old one")]);

    let new = lead(&bench.store, Controller::Dag, "second").await;
    bench.declare(pinned("goal-001", "After", &["b"]));
    bench.declare(pinned("goal-002", "New", &["c"]));
    wait_until("the old one is refused", DEADLINE, || async {
        match old.stats.snapshot().last_error {
            Some(error) if error.text.contains("another process leads") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    bench.worker("one_agent", "goal-001").await.work().await;
    wait_until("both goals are refused", DEADLINE, || async {
        let snapshot = old.stats.snapshot();
        if snapshot.backing_off == 2 { Ok(()) } else { Err(format!("{snapshot:?}")) }
    })
    .await;
    let goal = bench.goal("goal-001").await;
    assert_eq!((goal.status, goal.generation), (Status::Active, 1));
    assert_eq!(goal.planning.attempts, 0);
    assert_eq!(bench.store.goal(&goal_id("goal-002")).await.unwrap(), None);

    let _new = bench.run_with(crate::bench::settings(), new);
    bench.until("goal-001", |goal| goal.generation == 2).await;
    bench.until_status("goal-002", Status::Active).await;
    drop(old);
}

#[tokio::test]
async fn plan_should_survive_a_redis_that_is_away_when_it_is_ready() {
    let mut bench = Bench::with(RedisServer::options().append_only().start()).await;
    let id = goal_id("goal-001");
    bench.planner.will(&id, &[Answer::Wait]);
    let running = bench.run();
    bench.declare(pinned("goal-001", "Costly", &["a"]));
    wait_until("the planner works", DEADLINE, || async {
        if bench.planner.running(&id) == 1 { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    bench.server.kill9();
    bench.planner.open();
    wait_until("a pass that finds no Redis", DEADLINE, || async {
        let snapshot = running.stats.snapshot();
        if snapshot.failures > 0 { Ok(()) } else { Err(format!("{snapshot:?}")) }
    })
    .await;
    assert_eq!(bench.planner.running(&id), 0);
    bench.server.restart();
    bench.until_status("goal-001", Status::Active).await;
    assert_eq!(bench.planner.attempts(&id), 1);
}

#[tokio::test]
async fn crash_after_any_step_should_be_harmless() {
    const CHANGES: u64 = 12;
    const CRASHES: u64 = 6;
    let (bench, id) = (Bench::new().await, goal_id("goal-001"));
    for change in 1..=CHANGES {
        let fresh = format!("b{change}: a");
        let spec = pinned("goal-001", &format!("Change {change}"), &["a", &fresh, "c: a"]);
        bench.planner.will(&id, &[Answer::Fail("not yet")]);
        bench.declare(spec.clone());
        for crash in 0..CRASHES {
            let running = bench.run();
            // From before the first step to after the last, not the same twice.
            let millis = crash * 12 + change;
            tokio::time::sleep(Duration::from_millis(millis)).await;
            drop(running);
        }
        let _running = bench.run();
        let goal = bench
            .until("goal-001", |goal| {
                goal.spec_hash == spec.spec_hash && goal.planning.attempts == 0
            })
            .await;
        // A plan that was in force already is not taken for another one.
        assert_eq!((goal.status, goal.generation), (Status::Active, change));
        let figures = bench.store.figures(&id).await.unwrap();
        assert_eq!(figures.contradiction(), None);
        assert_eq!(figures.counts, Counts { ready: 1, blocked: 2, ..Counts::default() });
    }
    assert_eq!(bench.store.repair(&bench.lead, &id).await.unwrap(), 0);
    let _running = bench.run();
    assert_eq!(bench.worker("one_agent", "goal-001").await.work().await, ["a", "b12", "c"]);
    bench.until_status("goal-001", Status::Complete).await;
    assert!(!bench.planner.overlapped());
}
