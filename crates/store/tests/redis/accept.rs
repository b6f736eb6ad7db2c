//! Accepting a first plan, and being stopped on the way.

use std::time::Instant;

use model::goal::{Counts, Status};
use model::task::State;
use model::{Dag, TaskId, TaskSpec};
use store::Error;
use store::task::{Claim, Settled};
use testkit::{DEADLINE, wait_until};

use crate::world::{World, goal, granted, plan, plan_with, spec, take_lead, task};

/// Longer than any crash point below; still quick to write.
const MANY: usize = 20_000;

/// `a` and `b` at once, `c` after both, `d` after `c`.
fn diamond() -> Dag {
    plan_with(&[("a", &[]), ("b", &[]), ("c", &["a", "b"]), ("d", &["c"])], |spec| {
        if spec.id.as_str() == "b" {
            spec.priority = 5;
            spec.role = Some("analysis".parse().unwrap());
        }
    })
}

fn many(count: usize, edges_each: usize) -> Dag {
    let ids: Vec<TaskId> = (0..count).map(|n| task(&format!("t{n}"))).collect();
    let tasks = ids.iter().map(|id| TaskSpec::new(id.clone(), "one of many")).collect();
    let mut edges = Vec::with_capacity(count * edges_each);
    for n in 1..count {
        // Spread out, so that ready queues and out-degrees are not all alike.
        for k in 0..edges_each.min(n) {
            let before = n.wrapping_mul(0x9E37_79B9) / 64 + k * (n / 3 + 1);
            edges.push((ids[n].clone(), ids[before % n].clone()));
        }
    }
    Dag::new(tasks, &edges).unwrap()
}

#[tokio::test]
async fn first_plan_should_stand_as_the_seed_shows_it() {
    let world = World::new().await;
    let difference = world.accept("g", diamond()).await.unwrap();
    assert_eq!(difference.added, ["a", "b", "c", "d"].map(task));
    assert_eq!(difference.summary(), "4 added (a, b, c, d)");

    let nodes = world.hash("dag:g:nodes");
    assert_eq!(nodes.keys().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    let b: serde_json::Value = serde_json::from_str(&nodes["b"]).unwrap();
    assert_eq!((b["id"].as_str(), b["priority"].as_u64()), (Some("b"), Some(5)));
    assert!(b["expected_artifacts"].is_array(), "{b}");
    let deps = world.hash("dag:g:deps");
    assert_eq!(deps["c"], r#"["a","b"]"#);
    assert_eq!((deps["d"].as_str(), deps.get("a")), (r#"["c"]"#, None));
    assert_eq!(world.hash("dag:g:dependents")["a"], r#"["c"]"#);

    for (id, state, waiting) in [
        ("a", State::Ready, 0),
        ("b", State::Ready, 0),
        ("c", State::Blocked, 2),
        ("d", State::Blocked, 1),
    ] {
        let task = world.task(id).await;
        assert_eq!((task.status, task.waiting), (state, waiting), "{id}");
        assert_eq!((task.generation, task.attempt, task.max_attempts), (1, 0, 3), "{id}");
    }
    assert_eq!(world.queue("dag:g:ready"), ["a"]);
    assert_eq!(world.queue("dag:g:ready:analysis"), ["b"]);
    assert_eq!(world.members("dag:g:roles"), ["analysis"]);
    let g = world.store.goal(&goal("g")).await.unwrap().unwrap();
    assert_eq!((g.status, g.generation, g.tasks), (Status::Active, 1, 4));
    assert_eq!(g.counts, Counts { ready: 2, blocked: 2, ..Counts::default() });
    assert_eq!(g.created.as_deref(), Some("2027-01-15T08:00:00.000000Z"));
    assert_eq!(world.store.goal_ids().await.unwrap(), [goal("g")]);
    let accepted = world.events("goal-accept").await;
    assert_eq!(accepted.len(), 1);
    assert_eq!((accepted[0].field("tasks"), accepted[0].field("fresh")), ("4", "4"));
    assert!(!world.dump().keys().any(|key| key.contains(":stage:")), "staging is gone");
    world.assert_sound(&["g"]);
}

#[tokio::test]
async fn goals_that_share_ids_should_not_share_tasks() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &["a"])])).await;
    world.accept("h", plan(&[("a", &[]), ("b", &["a"]), ("own", &["b"])])).await;
    assert_eq!(world.hash("dag:h:nodes").keys().collect::<Vec<_>>(), ["h.a", "h.b", "own"]);
    assert_eq!(world.hash("dag:h:deps")["h.b"], r#"["h.a"]"#);
    assert_eq!(world.hash("dag:h:deps")["own"], r#"["h.b"]"#);
    assert_eq!(world.task("h.b").await.spec.unwrap().id, task("h.b"));

    let worker = world.join("w", "any", "h").await;
    world.run(&worker, "h.a").await;
    assert_eq!(world.status("h.b").await, State::Ready);
    assert_eq!(world.status("a").await, State::Ready);
    assert_eq!(world.status("b").await, State::Blocked);
    world.assert_sound(&["g", "h"]);

    for (text, ids) in [
        ("a", vec!["a", "h.a"]),
        ("h.a", vec!["h.a"]),
        ("g.a", vec!["a"]),
        ("own", vec!["own"]),
        ("h.own", vec!["own"]),
        ("g.own", vec![]),
    ] {
        let found = world.store.find_tasks(text).await.unwrap();
        assert_eq!(found.iter().map(TaskId::as_str).collect::<Vec<_>>(), ids, "{text}");
    }
}

#[tokio::test]
async fn same_plan_again_should_change_nothing() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("x", &[])])).await;
    world.accept("h", plan(&[("a", &[]), ("b", &["a"])])).await;
    let before = world.dump();
    assert_eq!(world.accept("h", plan(&[("a", &[]), ("b", &["a"])])).await, None);
    // Another order of declaration is not another plan.
    assert_eq!(world.accept("g", plan(&[("x", &[]), ("a", &[])])).await, None);
    assert_eq!(world.dump(), before);
}

/// Regression: once the other goal gave the short id up, the long one became
/// another task, and what was done ran again.
#[tokio::test]
async fn long_ids_should_stay_when_the_short_ones_become_free() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    world.accept("h", plan(&[("a", &[]), ("b", &["a"])])).await;
    let worker = world.join("w", "any", "h").await;
    world.run(&worker, "h.a").await;
    world.accept("g", plan(&[("other", &[])])).await;
    let difference = world.accept("h", plan(&[("a", &[]), ("b", &["a"]), ("c", &[])])).await;
    assert_eq!(difference.unwrap().summary(), "1 added (c)");
    assert_eq!(world.status("h.a").await, State::Done);
    world.assert_sound(&["g", "h"]);
}

#[tokio::test]
async fn id_taken_in_both_forms_should_be_refused_by_name() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("h.a", &[])])).await;
    let accepted =
        world.store.accept(&world.lead(), &goal("h"), plan(&[("a", &[])]), "x", "t").await;
    assert!(matches!(accepted, Err(Error::IdTaken { id }) if id == "a"));
    assert_eq!(world.store.goal(&goal("h")).await.unwrap(), None);
}

#[tokio::test]
async fn accept_without_the_lead_should_change_nothing() {
    let world = World::new().await;
    world.accept("g", diamond()).await;
    world.lose_lead().await;
    let before = world.dump();
    for name in ["g", "new"] {
        let dag = plan(&[("other", &[])]);
        let accepted = world.store.accept(&world.lead(), &goal(name), dag, "x", "t").await;
        assert!(matches!(accepted, Err(Error::NotLeader { .. })), "{accepted:?}");
    }
    assert_eq!(world.dump(), before);
}

/// The lead is lost while chunk after chunk is written.
#[tokio::test]
async fn plan_that_is_half_written_should_leave_the_old_one_in_force() {
    let mut world = World::new().await;
    world.accept("g", plan(&[("old", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    let in_force = |world: &World| {
        ["goal:g", "dag:g:nodes", "dag:g:deps", "dag:g:counts", "task:old"]
            .map(|key| world.hash(key))
    };
    let before = in_force(&world);

    let (store, lead) = (world.store.clone(), world.lead());
    let accepting =
        tokio::spawn(
            async move { store.accept(&lead, &goal("g"), many(MANY, 2), "new", "t").await },
        );
    wait_until("some chunks are staged", DEADLINE, || async {
        let staged: usize = world.raw(&["HLEN", "dag:g:stage:nodes"]);
        if staged > 0 { Ok(()) } else { Err(staged.to_string()) }
    })
    .await;
    world.lose_lead().await;
    let accepted = accepting.await.unwrap();
    assert!(matches!(accepted, Err(Error::NotLeader { .. })), "{accepted:?}");
    let staged: usize = world.raw(&["HLEN", "dag:g:stage:nodes"]);
    assert!(staged > 0 && staged < MANY, "{staged} staged");

    assert_eq!(in_force(&world), before);
    assert_eq!(world.queue("dag:g:ready"), ["old"]);
    assert_eq!(world.want(&worker, "t0").await, Claim::Taken);
    world.run(&worker, "old").await;
    assert_eq!(world.claim(&worker).await, Claim::Empty);
    world.assert_sound(&["g"]);

    // The next leader brings it, or another one, to its end.
    world
        .store
        .resign(&crate::world::candidate("them"), &store::lead::Controller::ALL)
        .await
        .unwrap();
    world.epoch = take_lead(&world.store, "us").await;
    let difference = world.accept("g", plan(&[("t1", &[]), ("t7", &["t1"])])).await.unwrap();
    assert_eq!(difference.summary(), "2 added (t1, t7); 1 removed (old)");
    assert_eq!(world.hash("dag:g:nodes").len(), 2);
    assert_eq!(world.queue("dag:g:ready"), ["t1"]);
    assert!(!world.dump().keys().any(|key| key.contains(":stage:")), "staging is gone");
    world.run(&worker, "t1").await;
    world.run(&worker, "t7").await;
    world.assert_sound(&["g"]);
}

#[tokio::test]
async fn leavings_of_another_staging_should_not_get_into_a_plan() {
    let world = World::new().await;
    for (key, id) in [("nodes", "ghost"), ("deps", "a"), ("dependents", "a")] {
        world.raw::<()>(&["HSET", &format!("dag:g:stage:{key}"), id, "[\"ghost\"]"]);
    }
    world.raw::<()>(&["SADD", "dag:g:stage:roles", "", "old"]);
    world.raw::<()>(&["ZADD", "dag:g:stage:ready:", "0", "ghost"]);
    world.raw::<()>(&["ZADD", "dag:g:stage:ready:old", "0", "ghost"]);
    world.accept("g", diamond()).await;
    assert_eq!(world.hash("dag:g:nodes").len(), 4);
    assert_eq!(world.queue("dag:g:ready"), ["a"]);
    assert_eq!(world.members("dag:g:roles"), ["analysis"]);
    world.assert_sound(&["g"]);
}

#[tokio::test]
async fn nothing_should_be_claimable_before_the_switch() {
    let world = World::new().await;
    world.store.note_goal(&world.lead(), &goal("g"), "", &[]).await.unwrap();
    let worker = world.join("w", "any", "g").await;
    let (store, lead) = (world.store.clone(), world.lead());
    let accepting =
        tokio::spawn(async move { store.accept(&lead, &goal("g"), many(MANY, 1), "h", "t").await });
    let mut looks = 0;
    let first = loop {
        let in_force = world.field("goal:g", "generation").as_deref() == Some("1");
        match world.claim(&worker).await {
            Claim::Granted(grant) => break grant,
            // Asked before: what was in force then was in force when it claimed.
            Claim::Empty => assert!(!in_force, "in force and nothing to do"),
            other @ (Claim::Held { .. } | Claim::Taken | Claim::Fenced) => panic!("{other:?}"),
        }
        if world.field("goal:g", "generation").as_deref() == Some("0") {
            looks += 1;
            assert_eq!(world.want(&worker, "t0").await, Claim::Empty);
        }
        tokio::task::yield_now().await;
    };
    assert!(looks > 0, "no look fell before the switch");
    accepting.await.unwrap().unwrap();
    assert_eq!(first.task, task("t0"));
    assert_eq!(world.complete(&worker, &first).await, Settled::Done);
}

#[tokio::test]
async fn hundred_thousand_tasks_should_be_one_decision() {
    let world = World::new().await;
    let dag = many(100_000, 3);
    let edges = dag.edge_count();
    let started = Instant::now();
    world.accept("g", dag).await.unwrap();
    println!("accepted 100,000 tasks with {edges} edges in {:?}", started.elapsed());
    assert!(edges > 290_000, "{edges} edges");
    let figures = world.store.figures(&goal("g")).await.unwrap();
    assert_eq!((figures.nodes, figures.contradiction()), (100_000, None));
    assert_eq!(figures.counts.total(), 100_000);
    let worker = world.join("w", "any", "g").await;
    let mut grant = granted(world.claim(&worker).await);
    for _ in 0..100 {
        let holder = worker.holding(&grant);
        let (settled, next) = world.store.complete(holder, "[]", "", Some(1_000)).await.unwrap();
        assert_eq!(settled, Settled::Done);
        grant = granted(next.unwrap());
    }

    let mut tasks: Vec<TaskSpec> = many(100_000, 3).tasks().to_vec();
    tasks.push(spec("late"));
    let dag = many(100_000, 3);
    let edges: Vec<(TaskId, TaskId)> = (0..100_000)
        .flat_map(|n| dag.dependencies(n).iter().map(move |d| (n, *d as usize)))
        .map(|(n, d)| (dag.tasks()[n].id.clone(), dag.tasks()[d].id.clone()))
        .collect();
    let dag = Dag::new(tasks, &edges).unwrap();
    let started = Instant::now();
    let difference = world.accept("g", dag).await.unwrap();
    println!("one task added to 100,000 in {:?}", started.elapsed());
    assert_eq!(difference.summary(), "1 added (late)");
    let figures = world.store.figures(&goal("g")).await.unwrap();
    assert_eq!((figures.nodes, figures.counts.done), (100_001, 100));
    assert_eq!(figures.contradiction(), None);
    let started = Instant::now();
    let changes = world.store.repair(&world.lead(), &goal("g")).await.unwrap();
    println!("repaired nothing of 100,000 in {:?}", started.elapsed());
    assert_eq!(changes, 0);
}
