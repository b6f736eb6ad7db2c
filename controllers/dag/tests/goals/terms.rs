//! Crashes, and leaders that come and go.

use std::time::Duration;

use model::goal::{Counts, Status};
use store::lead::Controller;
use testkit::{DEADLINE, wait_until};

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
async fn crash_after_any_step_should_be_harmless() {
    let (bench, id) = (Bench::new().await, goal_id("goal-001"));
    for round in 0..60 {
        // Every few rounds there is something to do again.
        if round % 6 == 0 {
            let tasks = ["a".to_owned(), format!("b{round}: a"), "c: a".to_owned()];
            let tasks: Vec<&str> = tasks.iter().map(String::as_str).collect();
            bench.declare(pinned("goal-001", &format!("Round {round}"), &tasks));
            bench.planner.will(&id, &[Answer::Fail("not yet")]);
        }
        let running = bench.run();
        tokio::time::sleep(Duration::from_millis(round % 17)).await;
        drop(running);
    }
    bench.declare(pinned("goal-001", "The end", &["a", "b: a", "c: a"]));
    let _running = bench.run();
    let goal = bench.until("goal-001", |goal| goal.title == "The end").await;
    let figures = bench.store.figures(&id).await.unwrap();
    assert_eq!((goal.status, figures.contradiction()), (Status::Active, None));
    assert_eq!(figures.counts, Counts { ready: 1, blocked: 2, ..Counts::default() });
    assert_eq!(bench.store.repair(&bench.lead, &id).await.unwrap(), 0);
    assert_eq!(bench.worker("one_agent", "goal-001").await.work().await, ["a", "b", "c"]);
    bench.until_status("goal-001", Status::Complete).await;
    assert!(!bench.planner.overlapped());
}
