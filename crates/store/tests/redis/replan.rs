//! Another plan for a goal that is being worked on.

use model::Dag;
use model::goal::Status;
use model::task::State;
use store::Error;
use store::agent::Beat;
use store::task::{Claim, Settled};

use crate::world::{TTL_MS, World, goal, granted, plan, plan_with, task};

/// The plan with another title for one of its tasks.
fn changed(tasks: &[(&str, &[&str])], which: &str) -> Dag {
    plan_with(tasks, |spec| {
        if spec.id.as_str() == which {
            spec.title.push_str(", differently");
        }
    })
}

#[tokio::test]
async fn done_and_unchanged_should_stay_done() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &["a"])])).await;
    let worker = world.join("w", "any", "g").await;
    world.run(&worker, "a").await;
    let before = world.hash("task:a");
    let tasks: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])];
    let difference = world.accept("g", plan(tasks)).await.unwrap();
    assert_eq!(difference.summary(), "2 added (c, d)");
    assert_eq!(world.hash("task:a"), before);
    assert_eq!((world.status("b").await, world.status("c").await), (State::Ready, State::Ready));
    let d = world.task("d").await;
    assert_eq!((d.status, d.waiting, d.generation), (State::Blocked, 2, 2));
    world.assert_sound(&["g"]);
    for id in ["b", "c", "d"] {
        world.run(&worker, id).await;
    }
    assert_eq!(world.events("task-complete").await.len(), 4);
}

#[tokio::test]
async fn done_and_changed_should_run_again_and_be_waited_for() {
    let world = World::new().await;
    let tasks: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"]), ("c", &["a"])];
    world.accept("g", plan(tasks)).await;
    let worker = world.join("w", "any", "g").await;
    world.run(&worker, "a").await;
    world.run(&worker, "b").await;
    assert_eq!(world.status("c").await, State::Ready);

    let difference = world.accept("g", changed(tasks, "a")).await.unwrap();
    assert_eq!(difference.summary(), "1 changed (a)");
    let a = world.task("a").await;
    assert_eq!((a.status, a.generation, a.artifacts, a.finished), (State::Ready, 2, None, None));
    let c = world.task("c").await;
    assert_eq!((c.status, c.waiting), (State::Blocked, 1));
    assert_eq!(world.status("b").await, State::Done, "what is done does not wait");
    world.assert_sound(&["g"]);

    world.run(&worker, "a").await;
    assert_eq!(world.status("b").await, State::Done);
    world.run(&worker, "c").await;
    world.assert_sound(&["g"]);
    let of_a: Vec<String> = world
        .events("task-complete")
        .await
        .iter()
        .filter(|event| event.field("task") == "a")
        .map(|event| event.field("generation").to_owned())
        .collect();
    assert_eq!(of_a, ["1", "2"]);
}

#[tokio::test]
async fn removed_and_running_should_be_fenced() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &["a"])])).await;
    let worker = world.join("w", "any", "g").await;
    let grant = world.start(&worker, "a").await;
    world.raw::<()>(&["DEL", "agent:w:inbox"]);
    let difference = world.accept("g", plan(&[("b", &[])])).await.unwrap();
    assert_eq!(difference.removed, [task("a")]);
    assert_eq!(difference.relinked, [task("b")]);
    assert!(world.leases().is_empty());
    assert_eq!(world.inbox("w"), ["fenced"]);
    assert_eq!(world.store.task(&task("a")).await.unwrap(), None);
    assert_eq!(world.status("b").await, State::Ready);
    let before = world.dump();
    assert_eq!(world.complete(&worker, &grant).await, Settled::Fenced);
    assert_eq!(world.fail(&worker, &grant, true).await, Settled::Fenced);
    assert_eq!(world.dump(), before);
    let held = Some((&grant.task, grant.epoch));
    let beat = world.store.beat(&worker.name, worker.incarnation, TTL_MS, held, "").await.unwrap();
    assert!(matches!(beat, Beat::Ok { lease: Some(false), holds: None, .. }), "{beat:?}");
    assert_eq!(world.events("task-remove").await.len(), 1);
    world.assert_sound(&["g"]);
    world.run(&worker, "b").await;
}

/// Regression: a task that came back began its epochs anew, so with a clock that
/// was set back an epoch could be granted twice.
#[tokio::test]
async fn removed_task_that_comes_back_should_keep_its_epochs_growing() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    let first = world.start(&worker, "a").await;
    world.accept("g", plan(&[("b", &[])])).await;
    world.accept("g", plan(&[("a", &[]), ("b", &[])])).await;
    let yesterday = world.store.at(crate::world::T0 - 86_400 * crate::world::SECOND);
    let again = granted(world.claim_at(&yesterday, &worker).await);
    assert_eq!(again.task, first.task);
    assert!(again.epoch > first.epoch, "{again:?} after {first:?}");
    assert_eq!(world.complete(&worker, &first).await, Settled::Fenced);
    world.assert_sound(&["g"]);
}

#[tokio::test]
async fn running_and_changed_should_be_superseded_on_completion() {
    let world = World::new().await;
    let tasks: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"])];
    world.accept("g", plan(tasks)).await;
    let worker = world.join("w", "any", "g").await;
    let grant = world.start(&worker, "a").await;
    world.accept("g", changed(tasks, "a")).await.unwrap();
    assert_eq!(world.status("a").await, State::Running, "it finishes");
    world.assert_sound(&["g"]);

    assert_eq!(world.complete(&worker, &grant).await, Settled::Superseded);
    assert_eq!(world.complete(&worker, &grant).await, Settled::Already);
    assert_eq!((world.status("a").await, world.status("b").await), (State::Ready, State::Blocked));
    assert_eq!(world.task("a").await.reason.as_deref(), Some("the plan changed while it ran"));
    assert!(world.events("task-complete").await.is_empty());
    let again = world.start(&worker, "a").await;
    assert!(again.spec.title.ends_with("differently"), "{:?}", again.spec);
    assert_eq!(world.complete(&worker, &again).await, Settled::Done);
    world.assert_sound(&["g"]);
}

/// Regression: the mark stayed on a task that was lost instead of finished, and
/// its next, right result was thrown away.
#[tokio::test]
async fn running_and_changed_that_is_lost_should_be_accepted_the_next_time() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    world.start(&worker, "a").await;
    world.accept("g", changed(&[("a", &[])], "a")).await.unwrap();
    let worker = world.join("w", "any", "g").await;
    let grant = world.start(&worker, "a").await;
    assert_eq!(world.complete(&worker, &grant).await, Settled::Done);
}

/// Regression: a failure of what the task was before counted against what it is.
#[tokio::test]
async fn running_and_changed_that_fails_should_count_its_attempts_anew() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    for attempt in 0..2 {
        let later = world.later(attempt * 100);
        let grant = granted(world.claim_at(&later, &worker).await);
        assert_eq!(world.fail(&worker, &grant, false).await, Settled::Retry);
    }
    let grant = granted(world.claim_at(&world.later(300), &worker).await);
    world.accept("g", changed(&[("a", &[])], "a")).await.unwrap();
    // Even for good: it is another task now.
    assert_eq!(world.fail(&worker, &grant, true).await, Settled::Retry);
    assert_eq!(world.task("a").await.failures, 0);
    let grant = granted(world.claim_at(&world.later(600), &worker).await);
    assert_eq!(world.fail(&worker, &grant, false).await, Settled::Retry);
    assert_eq!(world.task("a").await.failures, 1);
    world.assert_sound(&["g"]);
}

#[tokio::test]
async fn relinked_tasks_should_block_and_unblock() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &[]), ("c", &["a", "b"]), ("d", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    world.run(&worker, "a").await;
    let tasks: &[(&str, &[&str])] = &[("a", &[]), ("b", &["d"]), ("c", &["a"]), ("d", &[])];
    let difference = world.accept("g", plan(tasks)).await.unwrap();
    assert_eq!(difference.summary(), "2 waits for something else (b, c)");
    assert_eq!((world.status("b").await, world.status("c").await), (State::Blocked, State::Ready));
    assert_eq!(world.queue("dag:g:ready"), ["c", "d"]);
    let blocks = world.events("task-block").await;
    assert_eq!((blocks.len(), blocks[0].field("task")), (1, "b"));
    assert_eq!(world.events("task-unblock").await.len(), 1);
    world.assert_sound(&["g"]);
}

#[tokio::test]
async fn running_task_with_a_new_dependency_should_wait_once_it_comes_back() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    let grant = world.start(&worker, "a").await;
    world.accept("g", plan(&[("a", &["b"]), ("b", &[])])).await;
    assert_eq!(world.status("a").await, State::Running);
    let released = world.store.release(worker.holding(&grant), "stop").await.unwrap();
    assert_eq!(released, Settled::Released);
    let a = world.task("a").await;
    assert_eq!((a.status, a.waiting), (State::Blocked, 1));
    // Each move is told, this one too.
    assert_eq!(world.events("task-block").await.len(), 1);
    world.assert_sound(&["g"]);
    world.run(&worker, "b").await;
    world.run(&worker, "a").await;
}

#[tokio::test]
async fn another_role_should_move_a_task_to_its_queue() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &[])])).await;
    let with_role = |role: &'static str| {
        plan_with(&[("a", &[]), ("b", &[])], move |spec| {
            if spec.id.as_str() == "a" {
                spec.role = Some(role.parse().unwrap());
            }
        })
    };
    let idle = world.idle("w", "analysis", "other").await;
    world.accept("g", with_role("analysis")).await;
    assert_eq!((world.queue("dag:g:ready"), world.queue("dag:g:ready:analysis")), {
        (vec!["b".to_owned()], vec!["a".to_owned()])
    });
    world.assert_sound(&["g"]);
    world.accept("g", with_role("research")).await;
    assert!(world.queue("dag:g:ready:analysis").is_empty());
    assert_eq!(world.queue("dag:g:ready:research"), ["a"]);
    world.assert_sound(&["g"]);
    let analyst = world.join("an", "analysis", "g").await;
    let researcher = world.join("re", "research", "g").await;
    assert_eq!(world.want(&analyst, "a").await, Claim::Taken);
    assert_eq!(granted(world.want(&researcher, "a").await).task, task("a"));
    assert_eq!(world.claim(&idle).await, Claim::Empty, "another goal");
}

#[tokio::test]
async fn new_plan_should_wake_one_idle_agent_for_each_ready_task() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let first = world.join("w0", "any", "g").await;
    world.run(&first, "a").await;
    for name in ["w1", "w2", "w3"] {
        world.idle(name, "any", "g").await;
    }
    world.accept("g", plan(&[("a", &[]), ("b", &[]), ("c", &[]), ("d", &["b"])])).await;
    let woken: usize = ["w1", "w2", "w3"].iter().map(|name| world.inbox(name).len()).sum();
    assert_eq!(woken, 2);
    assert_eq!(world.members("dag:g:idle").len(), 1);
}

#[tokio::test]
async fn plan_that_changes_a_damaged_task_should_be_accepted_and_repaired() {
    let world = World::new().await;
    let tasks: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"])];
    world.accept("g", plan(tasks)).await;
    world.raw::<()>(&["DEL", "task:a"]);
    world.accept("g", changed(tasks, "a")).await.unwrap();
    world.store.repair(&world.lead(), &goal("g")).await.unwrap();
    world.assert_sound(&["g"]);
    let worker = world.join("w", "any", "g").await;
    world.run(&worker, "a").await;
    world.run(&worker, "b").await;
}

#[tokio::test]
async fn goal_should_be_active_again_with_a_new_plan() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &["a"])])).await;
    let worker = world.join("w", "any", "g").await;
    let grant = world.start(&worker, "a").await;
    assert_eq!(world.fail(&worker, &grant, true).await, Settled::Failed);
    let g = world.store.goal(&goal("g")).await.unwrap().unwrap();
    assert!(
        world.store.roll_up(&world.lead(), &goal("g"), 1, &g.counts, "a failed").await.unwrap()
    );
    assert_eq!(world.claim(&worker).await, Claim::Empty);
    assert_eq!(world.task("b").await.reason.as_deref(), Some("waits for a, which failed"));

    world.accept("g", changed(&[("a", &[]), ("b", &["a"])], "a")).await;
    let g = world.store.goal(&goal("g")).await.unwrap().unwrap();
    assert_eq!((g.status, g.reason, g.finished), (Status::Active, None, None));
    assert_eq!(world.task("b").await.reason, None);
    assert_eq!((world.task("a").await.failures, world.status("a").await), (0, State::Ready));
    world.run(&worker, "a").await;
    world.run(&worker, "b").await;
    world.assert_sound(&["g"]);
}

/// Regression: a task that was made to wait for a failed one did not say so.
#[tokio::test]
async fn task_relinked_to_a_failed_one_should_say_why_it_waits() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &[]), ("c", &["b"])])).await;
    let worker = world.join("w", "any", "g").await;
    let grant = world.start(&worker, "a").await;
    world.fail(&worker, &grant, true).await;
    world.accept("g", plan(&[("a", &[]), ("b", &[]), ("c", &["a", "b"]), ("d", &["a"])])).await;
    for id in ["c", "d"] {
        assert_eq!(
            world.task(id).await.reason.as_deref(),
            Some("waits for a, which failed"),
            "{id}"
        );
    }
    world.accept("g", plan(&[("a", &[]), ("b", &[]), ("c", &["b"])])).await;
    assert_eq!(world.task("c").await.reason, None);
    world.assert_sound(&["g"]);
}

/// Regression: a plan could be made of chunks of two.
#[tokio::test]
async fn two_plans_at_once_should_be_one_after_the_other_or_refused() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let (lead, g) = (world.lead(), goal("g"));
    let (one, other) = tokio::join!(
        world.store.accept(&lead, &g, plan(&[("a", &[]), ("b", &[])]), "1", "t"),
        world.store.accept(&lead, &g, plan(&[("a", &[]), ("c", &[])]), "2", "t"),
    );
    for outcome in [&one, &other] {
        let fine = matches!(outcome, Ok(Some(_)) | Err(Error::PlanMoved { .. }));
        assert!(fine, "{one:?} {other:?}");
    }
    assert!(one.is_ok() || other.is_ok());
    // Whichever it was is whole.
    let plan = world.store.tasks(&g).await.unwrap();
    let hash = world.store.goal(&g).await.unwrap().unwrap().spec_hash;
    let expected = if hash == "1" { "b" } else { "c" };
    assert!(plan.iter().any(|task| task.id.as_str() == expected), "{hash}: {plan:?}");
    world.assert_sound(&["g"]);
}
