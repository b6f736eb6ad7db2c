//! Goals: what is noted of them, their status, and mending what hands broke.

use std::time::Duration;

use model::GoalId;
use model::goal::{Counts, Status};
use model::task::State;
use store::goal::Planning;
use store::task::{Claim, Settled};

use crate::world::{Worker, World, goal, granted, plan, plan_with, task};

#[tokio::test]
async fn noted_goal_should_begin_as_a_draft() {
    let world = World::new().await;
    let g = goal("g");
    let note = async |kind: &str, fields: &[(&str, String)]| {
        world.store.note_goal(&world.lead(), &g, kind, fields).await.unwrap();
    };
    note("", &[("title", "A title".into()), ("declared", "1".into())]).await;
    let found = world.store.goal(&g).await.unwrap().unwrap();
    assert_eq!(
        (found.status, found.generation, found.title.as_str()),
        (Status::Draft, 0, "A title")
    );
    assert!(found.declared && found.created.is_some());
    assert_eq!(world.store.goal_ids().await.unwrap(), std::slice::from_ref(&g));
    note("goal-plan-failed", &[("difference", "none".into()), ("title", String::new())]).await;
    let found = world.store.goal(&g).await.unwrap().unwrap();
    assert_eq!((found.title.as_str(), found.difference.as_deref()), ("", Some("none")));
    assert_eq!(world.events("goal-declare").await.len(), 1);
    assert_eq!(world.events("goal-plan-failed").await[0].field("difference"), "none");

    world.accept("g", plan(&[("a", &[])])).await;
    note("", &[("declared", "0".into())]).await;
    let found = world.store.goal(&g).await.unwrap().unwrap();
    assert_eq!((found.status, found.generation, found.declared), (Status::Active, 1, false));
}

#[tokio::test]
async fn planning_should_read_back() {
    let world = World::new().await;
    let planning = Planning {
        spec_hash: "h".into(),
        reparses: 2,
        attempts: 3,
        error: Some("bad\nanswer".into()),
        not_before_ms: 1_800_000_000_123,
        held: Some("until 15:00".into()),
        means: "claude".into(),
    };
    let g = goal("g");
    world.store.note_planning(&world.lead(), &g, "goal-plan-failed", &planning).await.unwrap();
    assert_eq!(world.store.goal(&g).await.unwrap().unwrap().planning, planning);
    let fine = Planning { error: None, held: None, ..planning };
    world.store.note_planning(&world.lead(), &g, "", &fine).await.unwrap();
    assert_eq!(world.store.goal(&g).await.unwrap().unwrap().planning, fine);
}

#[tokio::test]
async fn status_should_follow_the_counts_it_was_told_with() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let g = goal("g");
    let worker = world.join("w", "any", "g").await;
    let roll_up = async |generation: u64, counts: &Counts| {
        world.store.roll_up(&world.lead(), &g, generation, counts, "all done").await.unwrap()
    };
    let ready = Counts { ready: 1, ..Counts::default() };
    let done = Counts { done: 1, ..Counts::default() };
    assert!(!roll_up(1, &ready).await, "it is active already");
    let before = world.dump();
    assert!(!roll_up(1, &done).await, "not so yet");
    assert_eq!(world.dump(), before);
    world.run(&worker, "a").await;
    let before = world.dump();
    assert!(!roll_up(2, &done).await, "another plan");
    assert!(!roll_up(1, &ready).await, "not so any more");
    assert_eq!(world.dump(), before);

    assert!(roll_up(1, &done).await);
    assert!(!roll_up(1, &done).await, "once");
    let found = world.store.goal(&g).await.unwrap().unwrap();
    assert_eq!((found.status, found.reason.as_deref()), (Status::Complete, Some("all done")));
    assert!(found.finished.is_some());
    assert_eq!(world.events("goal-complete").await.len(), 1);
    assert_eq!(world.claim(&worker).await, Claim::Empty);
}

/// Regression: no task is not the same as every task done.
#[tokio::test]
async fn goal_without_a_plan_should_not_be_complete() {
    let world = World::new().await;
    let g = goal("g");
    world.store.note_goal(&world.lead(), &g, "", &[]).await.unwrap();
    assert!(!world.store.roll_up(&world.lead(), &g, 0, &Counts::default(), "x").await.unwrap());
    assert_eq!(world.store.goal(&g).await.unwrap().unwrap().status, Status::Draft);
}

async fn contradiction(world: &World) -> Option<&'static str> {
    world.store.figures(&goal("g")).await.unwrap().contradiction()
}

/// `a` is done, `b` (any role) and `r` (a role) are ready, `run` runs, `later` is
/// delayed, `wait` is blocked.
async fn busy() -> (World, Worker) {
    let world = World::new().await;
    let dag = plan_with(
        &[
            ("a", &[]),
            ("later", &[]),
            ("run", &["a"]),
            ("b", &["a"]),
            ("r", &["a"]),
            ("wait", &["run", "b"]),
        ],
        |spec| {
            spec.priority = 4;
            if spec.id.as_str() == "r" {
                spec.role = Some("analysis".parse().unwrap());
            }
        },
    );
    world.accept("g", dag).await;
    let worker = world.join("w", "any", "g").await;
    world.run(&worker, "a").await;
    let grant = world.start(&worker, "later").await;
    assert_eq!(world.fail(&worker, &grant, false).await, Settled::Retry);
    world.start(&worker, "run").await;
    world.assert_sound(&["g"]);
    assert_eq!(contradiction(&world).await, None);
    (world, worker)
}

#[tokio::test]
async fn repair_of_what_is_right_should_change_nothing() {
    let (world, _) = busy().await;
    let mut before = world.dump();
    assert_eq!(world.store.repair(&world.lead(), &goal("g")).await.unwrap(), 0);
    let mut after = world.dump();
    for dump in [&mut before, &mut after] {
        dump.remove("events");
    }
    assert_eq!(after, before);
}

/// Breaks one thing at a time; each shows in the figures and is mended.
#[tokio::test]
async fn repair_should_mend_what_hands_broke() {
    let (world, worker) = busy().await;
    let run = world.hash("task:run");
    let breakages: &[&[&str]] = &[
        &["DEL", "dag:g:counts"],
        &["HSET", "dag:g:counts", "ready:", "77"],
        &["HINCRBY", "dag:g:counts", "ready:analysis", "1"],
        &["HINCRBY", "dag:g:counts", "blocked:", "-9"],
        &["HSET", "dag:g:counts", "done:ghost", "x"],
        // Regression: a count that was no number stopped the goal.
        &["HSET", "dag:g:counts", "done:", "x"],
        &["DEL", "dag:g:ready"],
        &["DEL", "dag:g:ready:analysis"],
        &["DEL", "dag:g:delayed"],
        &["DEL", "dag:g:roles"],
        &["ZADD", "dag:g:ready", "0", "ghost"],
        // Regression: entries too many were never removed, and found again and again.
        &["ZADD", "dag:g:ready", "0", "a"],
        &["ZADD", "dag:g:ready", "0", "wait"],
        &["ZADD", "dag:g:ready:analysis", "0", "b"],
        &["ZADD", "dag:g:delayed", "0", "b"],
    ];
    for breakage in breakages {
        world.raw::<redis::Value>(breakage);
        assert!(contradiction(&world).await.is_some(), "{breakage:?} is not seen");
        let changes = world.store.repair(&world.lead(), &goal("g")).await.unwrap();
        assert!(changes > 0, "{breakage:?}");
        assert_eq!(contradiction(&world).await, None, "{breakage:?} is not mended");
        world.assert_sound(&["g"]);
        assert_eq!(world.hash("task:run"), run, "{breakage:?}: what runs is left alone");
    }
    assert_eq!(world.events("goal-repair").await.len(), breakages.len());
    let grant = granted(world.claim(&worker).await);
    assert_eq!(world.complete(&worker, &grant).await, Settled::Done);
}

/// Regression: adding to a count that is no number ended a script in its middle.
#[tokio::test]
async fn count_that_is_no_number_should_hold_up_no_task_and_be_mended() {
    let (world, worker) = busy().await;
    for count in ["running:", "done:", "blocked:"] {
        world.raw::<u8>(&["HSET", "dag:g:counts", count, "x"]);
    }
    // What it runs already.
    let grant = granted(world.claim(&worker).await);
    assert_eq!(world.complete(&worker, &grant).await, Settled::Done);
    assert!(contradiction(&world).await.is_some());
    assert!(world.store.repair(&world.lead(), &goal("g")).await.unwrap() > 0);
    assert_eq!(contradiction(&world).await, None);
    world.assert_sound(&["g"]);
}

/// Damage that the figures do not show by themselves: with the counts gone too.
#[tokio::test]
async fn repair_should_mend_records() {
    let breakages: &[(&[&str], &str, State)] = &[
        (&["DEL", "task:b"], "b", State::Ready),
        (&["DEL", "task:r"], "r", State::Ready),
        (&["DEL", "task:wait"], "wait", State::Blocked),
        (&["DEL", "task:a"], "a", State::Ready),
        (&["HSET", "task:b", "status", "nonsense"], "b", State::Ready),
        (&["HSET", "task:b", "status", "blocked"], "b", State::Ready),
        (&["HSET", "task:b", "status", "running"], "b", State::Ready),
        (&["HSET", "task:b", "status", "done"], "b", State::Done),
        (&["HSET", "task:wait", "status", "ready"], "wait", State::Blocked),
        (&["HSET", "task:wait", "waiting", "9"], "wait", State::Blocked),
        (&["HDEL", "task:b", "priority", "seq", "attempt", "failures"], "b", State::Ready),
        (&["HSET", "task:b", "goal", "other"], "b", State::Ready),
        (&["DEL", "leases"], "run", State::Running),
        (&["HSET", "dag:g:nodes", "b", "no JSON", "r", "[]"], "b", State::Ready),
    ];
    for (breakage, id, expected) in breakages {
        let (world, _) = busy().await;
        world.raw::<redis::Value>(breakage);
        world.raw::<()>(&["DEL", "dag:g:counts"]);
        world.store.repair(&world.lead(), &goal("g")).await.unwrap();
        assert_eq!(contradiction(&world).await, None, "{breakage:?}");
        let status = world.field(&format!("task:{id}"), "status").unwrap();
        assert_eq!(status, expected.as_str(), "{breakage:?}");
        world.assert_sound(&["g"]);
        world.store.leases().await.unwrap();
    }
}

/// A record that is gone while its task runs: the holder's epoch stays behind it.
#[tokio::test]
async fn repaired_task_should_fence_who_held_it() {
    let (world, worker) = busy().await;
    let grant = granted(world.claim(&worker).await);
    world.raw::<()>(&["DEL", "task:run"]);
    world.store.repair(&world.lead(), &goal("g")).await.unwrap();
    assert_eq!(contradiction(&world).await, None);
    assert_eq!(world.complete(&worker, &grant).await, Settled::Fenced);
    let other = world.join("other", "any", "g").await;
    let yesterday = world.store.at(crate::world::T0 - 86_400 * crate::world::SECOND);
    let id = task("run");
    let again = yesterday.claim(&other.name, other.incarnation, 1_000, Some(&id)).await.unwrap();
    assert!(granted(again).epoch > grant.epoch);
    // Which was delayed until tomorrow, as that claim saw it.
    world.run(&worker, "later").await;
    world.run(&worker, "b").await;
}

/// Regression: nobody held it, so nothing but its record knew its epoch; with a clock that
/// was set back, an older one was granted.
#[tokio::test]
async fn repaired_task_should_outgrow_the_epochs_of_its_lost_record() {
    let (world, worker) = busy().await;
    let grant = granted(world.claim(&worker).await);
    world.store.release(worker.holding(&grant), "for another").await.unwrap();
    world.raw::<()>(&["DEL", "task:run"]);
    world.store.repair(&world.lead(), &goal("g")).await.unwrap();
    let yesterday = world.store.at(crate::world::T0 - 86_400 * crate::world::SECOND);
    let id = task("run");
    let again = yesterday.claim(&worker.name, worker.incarnation, 1_000, Some(&id)).await.unwrap();
    assert!(granted(again).epoch > grant.epoch);
}

#[tokio::test]
async fn goal_that_only_waits_for_nothing_should_be_seen_and_mended() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &["a"])])).await;
    let worker = world.join("w", "any", "g").await;
    // The structure is damaged: a's completion does not find b.
    world.raw::<()>(&["DEL", "dag:g:dependents"]);
    world.run(&worker, "a").await;
    assert_eq!(world.status("b").await, State::Blocked);
    assert!(contradiction(&world).await.is_some());
    world.store.repair(&world.lead(), &goal("g")).await.unwrap();
    assert_eq!(contradiction(&world).await, None);
    world.run(&worker, "b").await;
}

#[tokio::test]
async fn reading_tasks_should_give_the_plan() {
    let (world, _) = busy().await;
    let tasks = world.store.tasks(&goal("g")).await.unwrap();
    let shown: Vec<(&str, State)> = tasks.iter().map(|t| (t.id.as_str(), t.status)).collect();
    assert_eq!(
        shown,
        [
            ("a", State::Done),
            ("b", State::Ready),
            ("later", State::Ready),
            ("r", State::Ready),
            ("run", State::Running),
            ("wait", State::Blocked),
        ]
    );
    let deps = world.store.dependencies(&goal("g"), &task("wait")).await.unwrap();
    assert_eq!(deps, [task("b"), task("run")]);
    assert!(world.store.dependencies(&goal("g"), &task("a")).await.unwrap().is_empty());
    // Regression: one that was removed meanwhile made all others unreadable.
    world.raw::<()>(&["DEL", "task:b"]);
    assert_eq!(world.store.tasks(&goal("g")).await.unwrap().len(), 5);
    assert!(world.store.tasks(&goal("none")).await.unwrap().is_empty());
}

#[tokio::test]
async fn events_should_be_read_from_where_one_was() {
    let world = World::new().await;
    let mut position = world.store.end_of_events().await.unwrap();
    let mut waiting = world.store.waiting().unwrap();
    let short = Duration::from_millis(10);
    assert!(waiting.events(&mut position, short).await.unwrap().is_empty());
    world.accept("g", plan(&[("a", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    world.run(&worker, "a").await;
    let mut kinds = Vec::new();
    while kinds.len() < 4 {
        let events = waiting.events(&mut position, testkit::DEADLINE).await.unwrap();
        kinds.extend(events.into_iter().map(|event| event.kind));
    }
    assert_eq!(kinds, ["goal-accept", "agent-register", "task-claim", "task-complete"]);
    assert!(waiting.events(&mut position, short).await.unwrap().is_empty());
}

#[tokio::test]
async fn unknown_goal_should_be_nothing() {
    let world = World::new().await;
    let none: GoalId = goal("none");
    assert_eq!(world.store.goal(&none).await.unwrap(), None);
    let figures = world.store.figures(&none).await.unwrap();
    assert_eq!((figures.nodes, figures.contradiction()), (0, None));
    assert_eq!(world.store.promote(&none).await.unwrap(), None);
    assert_eq!(world.store.repair(&world.lead(), &none).await.unwrap(), 0);
}
