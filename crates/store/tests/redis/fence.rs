//! Who is out of date changes nothing: Redis is compared before and after, key by
//! key.

use model::goal::Counts;
use model::lease::Epoch;
use store::agent::{Beat, Incarnation, Snapshot};
use store::directive::{Action, Seen, Step};
use store::goal::Planning;
use store::task::{Candidates, Claim, Detoured, Settled};
use store::{Error, Lead};

use crate::detour::review;
use crate::world::{TTL_MS, Worker, World, agent, goal, plan, spec, task};

async fn assert_fenced(world: &World, worker: &Worker, id: &str, epoch: Epoch) {
    let id = task(id);
    let holder = worker.with(&id, epoch);
    let before = world.dump();
    for next in [None, Some(TTL_MS)] {
        let completed = world.store.complete(holder, "[]", "x", next).await.unwrap();
        assert_eq!(completed, (Settled::Fenced, None));
        for permanent in [false, true] {
            let failed = world.store.fail(holder, "x", permanent, next).await.unwrap();
            assert_eq!(failed, (Settled::Fenced, None));
        }
    }
    assert_eq!(world.store.release(holder, "x").await.unwrap(), Settled::Fenced);
    assert_eq!(world.store.park(holder, "x").await.unwrap(), Settled::Fenced);
    let fix = spec("fix");
    let detoured = world.store.detour(holder, &review(&fix, "x")).await.unwrap();
    assert_eq!(detoured, Detoured::Fenced);
    assert_eq!(world.dump(), before);
}

#[tokio::test]
async fn holder_with_an_old_epoch_should_change_nothing() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &["a"]), ("c", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    let first = world.start(&worker, "a").await;
    let seen = world.store.lease(&task("a")).await.unwrap().unwrap();
    world.store.reap(&world.lead(), &task("a"), seen, "silent").await.unwrap();
    assert_fenced(&world, &worker, "a", first.epoch).await;

    let other = world.join("other", "any", "g").await;
    let second = world.start(&other, "a").await;
    assert!(second.epoch > first.epoch);
    assert_fenced(&world, &worker, "a", first.epoch).await;
    // Not even with the right epoch: it is not the holder.
    assert_fenced(&world, &worker, "a", second.epoch).await;
    for epoch in [0, second.epoch.0 + 1, u64::MAX] {
        assert_fenced(&world, &other, "a", Epoch(epoch)).await;
    }
    assert_fenced(&world, &other, "b", second.epoch).await;
    assert_fenced(&world, &other, "unknown", second.epoch).await;
    assert_eq!(world.complete(&other, &second).await, Settled::Done);
}

#[tokio::test]
async fn old_incarnation_should_change_nothing() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &["a"])])).await;
    let old = world.join("w", "any", "g").await;
    let grant = world.start(&old, "a").await;
    let new = world.join("w", "any", "g").await;
    assert_fenced(&world, &old, "a", grant.epoch).await;
    let grant = world.start(&new, "a").await;
    assert_fenced(&world, &old, "a", grant.epoch).await;

    let before = world.dump();
    assert_eq!(world.claim(&old).await, Claim::Fenced);
    let candidates = world.store.candidates(&old.name, old.incarnation, 9).await.unwrap();
    assert_eq!(candidates, Candidates::Fenced);
    let held = Some((&grant.task, grant.epoch));
    let beat = world.store.beat(&old.name, old.incarnation, TTL_MS, held, "x").await.unwrap();
    assert_eq!(beat, Beat::Fenced);
    assert!(!world.store.deregister(&old.name, old.incarnation, "x").await.unwrap());
    let saved = world.store.save_memory(&old.name, old.incarnation, "", "[1]").await.unwrap();
    assert_eq!(saved, Snapshot::Fenced);
    let buried = world.store.bury(&world.lead(), &old.name, old.incarnation, "x").await.unwrap();
    assert_eq!(buried, None);
    assert_eq!(world.dump(), before);
}

/// Every script that a controller calls, under a lead that another took.
async fn assert_not_leader(world: &World, lead: &Lead, worker: &Worker) {
    let (g, w) = (goal("g"), &worker.name);
    let pulse = world.store.lease(&task("a")).await.unwrap().unwrap();
    let counts = Counts::default();
    let planning = Planning::default();
    let consumed = world.store.consumed(w).await.unwrap();
    let step = Step {
        agent: w,
        goal: &g,
        path: "x.md".as_ref(),
        version: &consumed.version,
        seen: Seen::Append("PAUSE\n"),
        line: Some(("PAUSE", &Action::Pause)),
    };
    let before = world.dump();
    let store = &world.store;
    let dag = plan(&[("z", &[])]);
    let refusals = [
        store.accept(lead, &g, dag, "x", "x").await.map(drop),
        store.note_goal(lead, &g, "x", &[("title", "x".into())]).await,
        store.note_planning(lead, &goal("new"), "x", &planning).await,
        store.roll_up(lead, &g, 1, &counts, "x").await.map(drop),
        store.repair(lead, &g).await.map(drop),
        store.reap(lead, &task("a"), pulse, "x").await.map(drop),
        store.bury(lead, w, worker.incarnation, "x").await.map(drop),
        store.note_agent(lead, &agent("new"), "x", &[("phase", "gone".into())]).await,
        store.apply(lead, &step).await.map(drop),
    ];
    for (n, refusal) in refusals.into_iter().enumerate() {
        assert!(matches!(refusal, Err(Error::NotLeader { .. })), "call {n}: {refusal:?}");
    }
    assert_eq!(world.dump(), before);
}

#[tokio::test]
async fn controller_with_an_old_lead_should_change_nothing() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &["a"])])).await;
    let worker = world.join("w", "any", "g").await;
    world.start(&worker, "a").await;
    let lead = world.lead();
    // Regression: who had resigned could write until another took the lead.
    let us = crate::world::candidate("us");
    world.store.resign(&us, &store::lead::Controller::ALL).await.unwrap();
    assert_not_leader(&world, &lead, &worker).await;
    crate::world::take_lead(&world.store, "them").await;
    assert_not_leader(&world, &lead, &worker).await;
    let never = Lead::new(store::lead::Controller::Dag, Epoch(0));
    assert_not_leader(&world, &never, &worker).await;
    world.raw::<()>(&["DEL", "orchestrator:leader"]);
    assert_not_leader(&world, &lead, &worker).await;
}

#[tokio::test]
async fn fenced_agent_should_not_be_born_from_nothing() {
    let world = World::new().await;
    let before = world.dump();
    let nobody = Worker { name: agent("nobody"), incarnation: Incarnation(0) };
    assert_fenced(&world, &nobody, "a", Epoch(0)).await;
    let beat = world.store.beat(&nobody.name, nobody.incarnation, TTL_MS, None, "").await.unwrap();
    assert_eq!(beat, Beat::Fenced);
    assert!(!world.store.deregister(&nobody.name, nobody.incarnation, "x").await.unwrap());
    assert_eq!(world.dump(), before);
}
