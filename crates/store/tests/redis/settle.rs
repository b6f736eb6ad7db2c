//! Ending an attempt: complete, fail, release; and asking for another try.

use model::goal::{Counts, Status};
use model::task::State;
use store::task::{Claim, Settled};
use testkit::{DEADLINE, wait_until};

use crate::world::{TTL_MS, World, goal, granted, paused, plan, plan_with, task};

#[tokio::test]
async fn completion_should_stand_and_unblock_dependents() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])])).await;
    let worker = world.join("w", "any", "g").await;
    for name in ["i1", "i2", "i3"] {
        world.asleep(name, "any", "g").await;
    }
    let grant = world.start(&worker, "a").await;
    let holder = worker.holding(&grant);
    let made = r#"[{"path":"out.json","bytes":3}]"#;
    let (settled, next) = world.store.complete(holder, made, "all done", None).await.unwrap();
    assert_eq!((settled, next), (Settled::Done, None));
    let a = world.task("a").await;
    assert_eq!((a.status, a.owner, a.lease_expires), (State::Done, None, None));
    assert_eq!(a.artifacts.unwrap()[0]["bytes"], 3);
    assert_eq!(a.progress.as_deref(), Some("all done"));
    assert!(a.finished.is_some());
    assert!(world.leases().is_empty());
    assert_eq!(world.raw::<u8>(&["EXISTS", "task:a:lock"]), 0);
    assert_eq!((world.status("b").await, world.status("c").await), (State::Ready, State::Ready));
    assert_eq!(world.task("d").await.waiting, 2);
    let completes = world.events("task-complete").await;
    assert_eq!((completes.len(), completes[0].field("artifacts")), (1, made));
    assert_eq!(world.events("task-unblock").await.len(), 2);
    // Two tasks, two wakes; the third agent sleeps on.
    let woken: usize = ["i1", "i2", "i3"].iter().map(|name| world.inbox(name).len()).sum();
    assert_eq!((woken, world.members("dag:g:idle").len()), (2, 1));
    world.assert_sound(&["g"]);
}

#[tokio::test]
async fn each_ready_task_should_wake_one_agent_that_may_take_it() {
    let world = World::new().await;
    let dag = plan_with(&[("a", &[]), ("b", &["a"])], |spec| {
        if spec.id.as_str() == "b" {
            spec.role = Some("analysis".parse().unwrap());
        }
    });
    world.accept("g", dag).await;
    let worker = world.join("w", "research", "g").await;
    let grant = world.start(&worker, "a").await;
    for (name, role) in [("r1", "research"), ("a1", "analysis"), ("a2", "analysis")] {
        world.idle(name, role, "g").await;
    }
    world.complete(&worker, &grant).await;
    assert_eq!(world.inbox("a1").len() + world.inbox("a2").len(), 1);
    assert!(world.inbox("r1").is_empty());
}

/// Regression: for the task that the caller takes itself another agent was woken
/// too, to find nothing.
#[tokio::test]
async fn completion_with_the_next_task_should_wake_nobody_for_that_one() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b"])])).await;
    let worker = world.join("w", "any", "g").await;
    let grant = world.start(&worker, "a").await;
    for name in ["i1", "i2"] {
        world.idle(name, "any", "g").await;
    }
    let holder = worker.holding(&grant);
    let (settled, next) = world.store.complete(holder, "[]", "", Some(TTL_MS)).await.unwrap();
    let next = granted(next.unwrap());
    assert_eq!((settled, &next.task), (Settled::Done, &task("b")));
    assert_eq!(world.inbox("i1").len() + world.inbox("i2").len(), 1, "for c");
    // The lost reply's repetition gives the same.
    let (settled, again) =
        world.store.complete(worker.holding(&grant), "[]", "", Some(TTL_MS)).await.unwrap();
    assert_eq!((settled, granted(again.unwrap())), (Settled::Already, next.clone()));
    let (_, next) =
        world.store.complete(worker.holding(&next), "[]", "", Some(TTL_MS)).await.unwrap();
    assert_eq!(granted(next.unwrap()).task, task("c"), "declared before d");
    // c's own wake is still in an inbox; d's goes to the other.
    assert_eq!((world.inbox("i1").len(), world.inbox("i2").len()), (1, 1));
    world.assert_sound(&["g"]);
}

#[tokio::test]
async fn paused_agent_should_settle_and_get_nothing_more() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &["a"])])).await;
    let worker = world.join("w", "any", "g").await;
    let grant = world.start(&worker, "a").await;
    world.idle("i", "any", "g").await;
    world.raw::<()>(&["HSET", "agent:w:control", "paused", "1"]);
    let holder = worker.holding(&grant);
    let (settled, next) = world.store.complete(holder, "[]", "", Some(TTL_MS)).await.unwrap();
    assert_eq!((settled, next), (Settled::Done, Some(paused())));
    assert_eq!(world.inbox("i"), ["work"]);
    world.assert_sound(&["g"]);
}

#[tokio::test]
async fn settling_again_should_change_nothing() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &[]), ("c", &[]), ("d", &["a"])])).await;
    let worker = world.join("w", "any", "g").await;
    let a = world.start(&worker, "a").await;
    assert_eq!(world.complete(&worker, &a).await, Settled::Done);
    let b = world.start(&worker, "b").await;
    assert_eq!(world.fail(&worker, &b, false).await, Settled::Retry);
    let c = world.start(&worker, "c").await;
    let released = world.store.release(worker.holding(&c), "stop").await.unwrap();
    assert_eq!(released, Settled::Released);
    let before = world.dump();
    for grant in [&a, &b, &c] {
        assert_eq!(world.complete(&worker, grant).await, Settled::Already);
        assert_eq!(world.fail(&worker, grant, true).await, Settled::Already);
        let released = world.store.release(worker.holding(grant), "stop").await.unwrap();
        assert_eq!(released, Settled::Already);
        let parked = world.store.park(worker.holding(grant), "stop").await.unwrap();
        assert_eq!(parked, Settled::Already);
    }
    assert_eq!(world.dump(), before);
}

#[tokio::test]
async fn failures_should_be_retried_later_and_later_and_then_be_final() {
    let world = World::new().await;
    let dag = plan_with(&[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("x", &[])], |spec| {
        spec.max_attempts = Some(4);
    });
    world.accept("g", dag).await;
    let worker = world.join("w", "any", "g").await;
    let mut alerts = world.server.connection();
    let mut alerts = alerts.as_pubsub();
    alerts.subscribe("alerts").unwrap();
    alerts.set_read_timeout(Some(DEADLINE)).unwrap();

    let mut clock = 0;
    for (attempt, most) in [(1, 1.0), (2, 2.0), (3, 4.0)] {
        let store = world.later(clock);
        let grant = granted(
            world
                .store
                .at(crate::world::T0 + clock * 1_000_000)
                .claim(&worker.name, worker.incarnation, TTL_MS, Some(&task("a")))
                .await
                .unwrap(),
        );
        assert_eq!(grant.attempt, attempt);
        let (settled, _) = store.fail(worker.holding(&grant), "boom", false, None).await.unwrap();
        assert_eq!(settled, Settled::Retry);
        let due: Vec<f64> = world
            .raw::<Vec<(String, f64)>>(&["ZRANGE", "dag:g:delayed", "0", "-1", "WITHSCORES"])
            .into_iter()
            .map(|(_, due)| due)
            .collect();
        let delay = (due[0] - (crate::world::T0 + clock * 1_000_000) as f64) / 1e6;
        assert!(delay >= most / 2.0 && delay <= most, "attempt {attempt}: {delay} s");
        assert_eq!(world.status("b").await, State::Blocked);
        clock += 10;
        world.later(clock).promote(&goal("g")).await.unwrap();
        world.assert_sound(&["g"]);
    }
    let grant = granted(world.want(&worker, "a").await);
    assert_eq!(grant.last_error.as_deref(), Some("boom"));
    assert_eq!(world.fail(&worker, &grant, false).await, Settled::Failed);
    let a = world.task("a").await;
    assert_eq!((a.status, a.failures, a.reason.as_deref()), (State::Failed, 4, Some("it broke")));
    let (b, c) = (world.task("b").await, world.task("c").await);
    assert_eq!(b.reason.as_deref(), Some("waits for a, which failed"));
    assert_eq!((b.status, c.status, c.reason), (State::Blocked, State::Blocked, None));
    assert_eq!(world.status("x").await, State::Ready);
    let alert: serde_json::Value =
        serde_json::from_str(&alerts.get_message().unwrap().get_payload::<String>().unwrap())
            .unwrap();
    assert_eq!((&alert["kind"], &alert["subject"]), (&"task-failed".into(), &"a".into()));
    assert_eq!(world.events("task-retry").await.len(), 3);
    assert_eq!(world.events("task-fail").await.len(), 1);
    world.assert_sound(&["g"]);
}

#[tokio::test]
async fn permanent_failure_should_not_be_tried_again() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &["a"])])).await;
    let worker = world.join("w", "any", "g").await;
    let grant = world.start(&worker, "a").await;
    assert_eq!(world.fail(&worker, &grant, true).await, Settled::Failed);
    let a = world.task("a").await;
    assert_eq!(
        (a.status, a.failures, a.last_error.as_deref()),
        (State::Failed, 1, Some("it broke"))
    );
    assert_eq!(world.claim(&worker).await, Claim::Empty);
    world.assert_sound(&["g"]);
}

#[tokio::test]
async fn errors_should_be_kept_newest_first_and_bounded() {
    let world = World::new().await;
    world.accept("g", plan_with(&[("a", &[])], |spec| spec.max_attempts = Some(100))).await;
    let worker = world.join("w", "any", "g").await;
    for n in 1..=25 {
        let store = world.later(n * 100);
        let grant = granted(world.claim_at(&store, &worker).await);
        let error = format!("error {n}\n\"quoted\"");
        store.fail(worker.holding(&grant), &error, false, None).await.unwrap();
    }
    let errors = world.store.task_errors(&task("a")).await.unwrap();
    assert_eq!(errors.len(), 20);
    assert_eq!(
        (&errors[0]["error"], &errors[0]["attempt"]),
        (&"error 25\n\"quoted\"".into(), &25.into())
    );
    assert_eq!(errors[19]["error"], "error 6\n\"quoted\"");
    assert_eq!(
        (&errors[0]["agent"], &errors[0]["time"]),
        (&"w".into(), &"2027-01-15T08:41:40.000000Z".into())
    );
}

#[tokio::test]
async fn release_should_use_up_no_attempt() {
    let world = World::new().await;
    world.accept("g", plan_with(&[("a", &[])], |spec| spec.max_attempts = Some(1))).await;
    let worker = world.join("w", "any", "g").await;
    world.idle("i", "any", "other").await;
    for _ in 0..3 {
        let grant = world.start(&worker, "a").await;
        let released = world.store.release(worker.holding(&grant), "shutdown").await.unwrap();
        assert_eq!(released, Settled::Released);
        let a = world.task("a").await;
        assert_eq!((a.status, a.failures, a.losses), (State::Ready, 0, 0));
        assert_eq!(a.reason.as_deref(), Some("shutdown"));
        world.assert_sound(&["g"]);
    }
    world.run(&worker, "a").await;
}

#[tokio::test]
async fn retry_should_make_a_failed_task_ready_and_its_goal_active() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &["a"])])).await;
    let worker = world.join("w", "any", "g").await;
    let grant = world.start(&worker, "a").await;
    world.fail(&worker, &grant, true).await;
    let counts = Counts { failed: 1, blocked: 1, ..Counts::default() };
    assert!(world.store.roll_up(&world.lead(), &goal("g"), 1, &counts, "a failed").await.unwrap());
    world.idle("i", "any", "g").await;

    assert_eq!(world.store.retry(&task("unknown")).await.unwrap(), None);
    assert_eq!(world.store.retry(&task("b")).await.unwrap(), Some(Err(State::Blocked)));
    assert_eq!(world.store.retry(&task("a")).await.unwrap(), Some(Ok(State::Ready)));
    assert_eq!(world.store.retry(&task("a")).await.unwrap(), Some(Err(State::Ready)));
    let a = world.task("a").await;
    assert_eq!((a.status, a.failures, a.reason, a.finished), (State::Ready, 0, None, None));
    assert_eq!(world.task("b").await.reason, None);
    let g = world.store.goal(&goal("g")).await.unwrap().unwrap();
    assert_eq!((g.status, g.reason, g.finished), (Status::Active, None, None));
    assert_eq!(world.inbox("i"), ["work"]);
    world.assert_sound(&["g"]);
    world.run(&worker, "a").await;
    world.run(&worker, "b").await;
}

#[tokio::test]
async fn retry_of_a_task_that_waits_should_block_it() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    let grant = world.start(&worker, "a").await;
    world.fail(&worker, &grant, true).await;
    world.accept("g", plan(&[("a", &["b"]), ("b", &[])])).await;
    assert_eq!(world.store.retry(&task("a")).await.unwrap(), Some(Ok(State::Blocked)));
    assert_eq!(world.events("task-block").await.len(), 1);
    world.assert_sound(&["g"]);
    world.run(&worker, "b").await;
    world.run(&worker, "a").await;
}

/// Regression: the retry of one failed dependency hid that the other had failed.
#[tokio::test]
async fn task_that_waits_for_two_failed_ones_should_say_so_until_none_is_left() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &[]), ("c", &["a", "b"])])).await;
    let worker = world.join("w", "any", "g").await;
    for id in ["a", "b"] {
        let grant = world.start(&worker, id).await;
        world.fail(&worker, &grant, true).await;
    }
    assert_eq!(world.task("c").await.reason.as_deref(), Some("waits for b, which failed"));
    world.store.retry(&task("b")).await.unwrap();
    assert_eq!(world.task("c").await.reason.as_deref(), Some("waits for a, which failed"));
    world.store.retry(&task("a")).await.unwrap();
    assert_eq!(world.task("c").await.reason, None);
}

#[tokio::test]
async fn inbox_should_wake_who_waits_in_it() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &["a"])])).await;
    let worker = world.join("w", "any", "g").await;
    let grant = world.start(&worker, "a").await;
    let sleeper = world.idle("s", "any", "g").await;
    let mut inbox = world.store.waiting().unwrap();
    let waiting = tokio::spawn(async move { inbox.inbox(&sleeper.name, DEADLINE).await });
    until_blocked(&world).await;
    world.complete(&worker, &grant).await;
    assert!(waiting.await.unwrap().unwrap());
    let mut inbox = world.store.waiting().unwrap();
    let short = std::time::Duration::from_millis(20);
    assert!(!inbox.inbox(&worker.name, short).await.unwrap() || world.inbox("w").is_empty());
}

/// Until the sleeper's BLPOP has arrived.
async fn until_blocked(world: &World) {
    wait_until("a client is blocked", DEADLINE, || async {
        let info: String = world.raw(&["INFO", "clients"]);
        if info.contains("blocked_clients:1") { Ok(()) } else { Err(info) }
    })
    .await;
}
