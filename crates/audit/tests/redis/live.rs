//! A Redis that is clean, damaged, trimmed, restored, or at work.

use std::time::{Duration, Instant};

use audit::Rule;
use model::task::State;
use store::task::Settled;

use crate::world::{World, goal, id, plan};

const DIAMOND: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])];

/// `a` is done, `b` runs.
async fn half_done() -> World {
    let mut world = World::new().await;
    world.accept(plan(DIAMOND)).await;
    let worker = world.join("w").await;
    let a = worker.claim(&world.store).await.unwrap();
    assert_eq!(worker.complete(&world.store, &a).await, Settled::Done);
    worker.claim(&world.store).await.unwrap();
    world
}

async fn only(world: &World, rule: Rule, part: &str) {
    let report = world.audit().await;
    let [found] = report.violations.as_slice() else { panic!("{report:#?}") };
    assert_eq!(found.rule, rule, "{found:#?}");
    assert!(found.text.contains(part), "{found:#?}");
}

#[tokio::test]
async fn empty_redis_should_be_clean() {
    let world = World::new().await;
    world.raw::<()>(&["FLUSHALL"]);
    let report = world.assert_clean().await;
    assert_eq!(
        report.summary(),
        "looked at 0 events (complete) and 0 tasks of 0 goals: no violation"
    );
}

#[tokio::test]
async fn work_should_be_clean_until_somebody_writes_by_hand() {
    let world = half_done().await;
    let report = world.assert_clean().await;
    assert!(report.complete && report.limits().is_empty(), "{report:#?}");
    assert_eq!((report.tasks, report.goals), (4, 1));
    world.raw::<()>(&["HSET", "task:a", "status", "ready"]);
    only(&world, Rule::S1, "its last event left it done").await;
    world.raw::<()>(&["HSET", "task:a", "status", "odd"]);
    only(&world, Rule::S1, "in no state").await;
    world.raw::<()>(&["HSET", "task:a", "status", "done"]);
    world.raw::<()>(&["HINCRBY", "dag:g:counts", "done:", "1"]);
    only(&world, Rule::S1, "do not add up").await;
    world.raw::<()>(&["HINCRBY", "dag:g:counts", "done:", "-1"]);
    world.raw::<()>(&["HSET", "task:b", "owner", "x"]);
    only(&world, Rule::S3, "x holds it").await;
}

#[tokio::test]
async fn lost_record_should_be_found_until_it_is_begun_anew() {
    let world = half_done().await;
    world.raw::<()>(&["DEL", "task:a"]);
    only(&world, Rule::S1, "no record").await;
    world.store.repair(&world.lead(), &goal()).await.unwrap();
    assert_eq!(world.store.task(&id("a")).await.unwrap().unwrap().status, State::Ready);
    let report = world.assert_clean().await;
    assert_eq!(report.unchecked_claims, 2);
}

#[tokio::test]
async fn trimmed_stream_should_be_judged_as_far_as_it_goes() {
    let world = half_done().await;
    let all: u64 = world.raw(&["XLEN", "events"]);
    world.raw::<()>(&["XTRIM", "events", "MAXLEN", "2"]);
    let report = world.assert_clean().await;
    assert_eq!((report.events, report.complete), (2, false));
    assert!(report.summary().contains("older ones are gone"), "{}", report.summary());
    assert!(all > 2 && report.unseen_tasks == 2, "{report:#?}");
    world.raw::<()>(&["HSET", "task:b", "status", "ready"]);
    only(&world, Rule::S1, "its last event left it running").await;
}

#[tokio::test]
async fn other_goals_should_be_left_out_where_one_is_named() {
    let world = half_done().await;
    let (other, lead) = ("other".parse().unwrap(), world.lead());
    let dag = plan(&[("x", &[])]);
    world.store.accept(&lead, &other, dag, "hash", "").await.unwrap();
    world.raw::<()>(&["HSET", "task:a", "status", "ready"]);
    let report = audit::audit(&world.store, Some(&other)).await.unwrap();
    assert!(report.is_clean() && (report.tasks, report.goals) == (1, 1), "{report:#?}");
    assert!(!world.audit().await.is_clean());
}

#[tokio::test]
async fn restored_redis_should_be_clean_when_work_goes_on() {
    let mut world = half_done().await;
    let dump = world.dump();
    let worker = world.join("v").await;
    let c = worker.claim(&world.store).await.unwrap();
    assert_eq!(worker.complete(&world.store, &c).await, Settled::Done);
    world.restore(&dump);
    // What was done is not: its agent is unknown here, and `c` is done again.
    assert_eq!(worker.complete(&world.store, &c).await, Settled::Fenced);
    let again = world.join("v").await;
    let anew = again.claim(&world.store).await.unwrap();
    assert!(anew.task == c.task && anew.epoch > c.epoch, "{anew:?} after {c:?}");
    assert_eq!(again.complete(&world.store, &anew).await, Settled::Done);
    world.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_under_way_should_raise_no_alarm() {
    const TASKS: usize = 400;
    let mut world = World::new().await;
    let names: Vec<String> = (0..TASKS).map(|n| format!("t{n}")).collect();
    let deps: Vec<Vec<&str>> = (0..TASKS)
        .map(|n| names[n / 3..n].first().map(String::as_str).into_iter().collect())
        .collect();
    let tasks: Vec<(&str, &[&str])> =
        names.iter().map(String::as_str).zip(deps.iter().map(Vec::as_slice)).collect();
    world.accept(plan(&tasks)).await;
    let mut work = Vec::new();
    for n in 0..3 {
        let (worker, store) = (world.join(&format!("w{n}")).await, world.store.clone());
        work.push(tokio::spawn(async move {
            while store.goal(&goal()).await.unwrap().unwrap().counts.done < TASKS as u64 {
                let Some(grant) = worker.claim(&store).await else {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    continue;
                };
                if grant.attempt == 1 && grant.epoch.0 % 7 == 0 {
                    store.release(worker.holding(&grant), "stop").await.unwrap();
                } else {
                    worker.complete(&store, &grant).await;
                }
            }
        }));
    }
    let (mut moved, began) = (0, Instant::now());
    while work.iter().any(|task| !task.is_finished()) {
        assert!(began.elapsed() < testkit::DEADLINE, "the work does not end");
        moved += world.assert_clean().await.moved_tasks;
    }
    for task in work {
        task.await.unwrap();
    }
    assert!(moved > 0, "nothing moved while the state was read");
    let report = world.assert_clean().await;
    assert_eq!((report.moved_tasks, report.tasks), (0, TASKS as u64));
}
