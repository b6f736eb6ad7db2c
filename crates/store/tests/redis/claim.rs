//! Which task an agent is granted, and when none.

use std::time::Duration;

use model::lease::{Epoch, Pulse};
use model::task::State;
use model::{Dag, TaskSpec};
use store::agent::Incarnation;
use store::task::{Claim, Settled};

use crate::world::{SECOND, T0, TTL_MS, World, goal, granted, plan, plan_with, task};

fn ranked() -> Dag {
    let mut tasks: Vec<TaskSpec> = Vec::new();
    for (id, priority, role) in [
        ("low-1", 0, None),
        ("low-2", 0, None),
        ("high", 9, None),
        ("mid-any", 5, None),
        ("mid-role", 5, Some("analysis")),
        ("top-role", 1_000_000, Some("analysis")),
        ("other-role", 8, Some("research")),
    ] {
        let mut spec = crate::world::spec(id);
        spec.priority = priority;
        spec.role = role.map(|role: &str| role.parse().unwrap());
        tasks.push(spec);
    }
    Dag::new(tasks, &[]).unwrap()
}

#[tokio::test]
async fn claim_should_go_by_priority_then_declaration_within_the_role() {
    let world = World::new().await;
    world.accept("g", ranked()).await;
    let worker = world.join("w", "analysis", "g").await;
    for id in ["top-role", "high", "mid-any", "mid-role", "low-1", "low-2"] {
        world.run(&worker, id).await;
        world.assert_sound(&["g"]);
    }
    assert_eq!(world.claim(&worker).await, Claim::Empty);
    assert_eq!(world.status("other-role").await, State::Ready);
}

#[tokio::test]
async fn grant_should_stand_in_every_record() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    let grant = world.start(&worker, "a").await;
    assert_eq!((grant.attempt, grant.generation, grant.goal.as_str()), (1, 1, "g"));
    assert_eq!((grant.epoch, grant.last_error), (Epoch(T0), None));
    let record = world.hash("task:a");
    for (field, value) in [
        ("status", "running"),
        ("owner", "w"),
        ("lease_expires", "2027-01-15T08:10:00.000000Z"),
        ("attempt", "1"),
    ] {
        assert_eq!(record[field], value, "{field}");
    }
    assert_eq!(world.raw::<String>(&["GET", "task:a:lock"]), "w");
    let ttl: u64 = world.raw(&["PTTL", "task:a:lock"]);
    assert!(ttl > 0 && ttl <= TTL_MS, "{ttl}");
    let pulse = world.store.lease(&task("a")).await.unwrap();
    assert_eq!(pulse, Some(Pulse { epoch: grant.epoch, beat: 0 }));
    let agent = world.store.agent(&worker.name).await.unwrap();
    assert_eq!(agent.registered.unwrap().task, Some((task("a"), grant.epoch)));
    assert!(world.queue("dag:g:ready").is_empty());
    let claims = world.events("task-claim").await;
    assert_eq!((claims.len(), claims[0].field("agent")), (1, "w"));
    assert_eq!(claims[0].field("epoch"), T0.to_string());
    world.assert_sound(&["g"]);
}

#[tokio::test]
async fn repeated_claim_should_get_the_same_grant() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    let grant = world.start(&worker, "a").await;
    let before = world.dump();
    assert_eq!(granted(world.claim_at(&world.later(60), &worker).await), grant);
    assert_eq!(granted(world.want(&worker, "b").await), grant, "whatever it asks for");
    // Also while it may claim nothing new.
    world.raw::<()>(&["HSET", "agent:w:control", "paused", "1"]);
    assert_eq!(granted(world.claim(&worker).await), grant);
    world.raw::<()>(&["DEL", "agent:w:control"]);
    assert_eq!(world.dump(), before);
}

#[tokio::test]
async fn wanted_task_should_be_granted_only_when_claimable() {
    let world = World::new().await;
    world.accept("g", ranked()).await;
    world.accept("h", plan(&[("theirs", &[]), ("late", &["theirs"])])).await;
    let worker = world.join("w", "analysis", "g").await;
    for id in ["other-role", "theirs", "unknown"] {
        assert_eq!(world.want(&worker, id).await, Claim::Taken, "{id}");
    }
    assert_eq!(granted(world.want(&worker, "low-2").await).task, task("low-2"));
    let other = world.join("x", "analysis", "g").await;
    assert_eq!(world.want(&other, "low-2").await, Claim::Taken, "it runs");
    let third = world.join("y", "analysis", "h").await;
    assert_eq!(world.want(&third, "late").await, Claim::Taken, "it is blocked");
    world.assert_sound(&["g", "h"]);
}

#[tokio::test]
async fn agent_with_nothing_to_do_should_be_idle_until_it_has() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &["a"])])).await;
    let (one, two) = (world.join("one", "any", "g").await, world.join("two", "any", "g").await);
    let grant = world.start(&one, "a").await;
    assert_eq!(world.claim(&two).await, Claim::Empty);
    assert_eq!(world.members("dag:g:idle"), ["two|any"]);
    assert_eq!(world.members("dag:g:idle:any"), ["two|any"]);
    world.raw::<()>(&["DEL", "agent:two:inbox"]);
    assert_eq!(world.complete(&one, &grant).await, Settled::Done);
    assert_eq!(world.inbox("two"), ["work"]);
    assert!(world.members("dag:g:idle").is_empty());
    world.start(&two, "b").await;
    assert_eq!(world.claim(&one).await, Claim::Empty);
    assert_eq!(world.members("dag:g:idle"), ["one|any"]);
}

#[tokio::test]
async fn goal_without_a_plan_should_have_nothing_to_claim() {
    let world = World::new().await;
    let worker = world.join("w", "any", "nowhere").await;
    assert_eq!(world.claim(&worker).await, Claim::Empty);
    world.store.note_goal(&world.lead(), &goal("nowhere"), "", &[]).await.unwrap();
    assert_eq!(world.claim(&worker).await, Claim::Empty);
    world.accept("nowhere", plan(&[("a", &[])])).await;
    assert!(world.inbox("w").contains(&"work".to_owned()) || world.inbox("w").len() == 1);
    world.start(&worker, "a").await;
}

/// Regression: the wake of an agent that was paused before it looked was lost,
/// and the other one slept on.
#[tokio::test]
async fn paused_agent_should_claim_nothing_and_pass_its_wake_on() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let busy = world.join("busy", "any", "g").await;
    let grant = world.start(&busy, "a").await;
    let paused = world.idle("paused", "any", "g").await;
    world.accept("g", plan(&[("a", &[]), ("b", &[])])).await;
    assert_eq!(world.inbox("paused"), ["work"]);
    world.idle("other", "any", "elsewhere").await;
    let idle = world.asleep("idle", "any", "g").await;
    world.raw::<()>(&["HSET", "agent:paused:control", "paused", "1"]);
    assert_eq!(world.claim(&paused).await, crate::world::paused());
    assert_eq!(world.inbox("idle"), ["work"]);
    assert!(world.members("dag:g:idle").is_empty(), "a paused agent is not idle");
    world.start(&idle, "b").await;
    assert_eq!(world.complete(&busy, &grant).await, Settled::Done);
    world.raw::<()>(&["HSET", "agent:paused:control", "paused", "0"]);
    assert_eq!(world.claim(&paused).await, Claim::Empty);
}

#[tokio::test]
async fn claim_of_an_old_incarnation_should_change_nothing() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let old = world.join("w", "any", "g").await;
    let new = world.join("w", "any", "g").await;
    assert!(new.incarnation > old.incarnation);
    let before = world.dump();
    assert_eq!(world.claim(&old).await, Claim::Fenced);
    let unknown =
        crate::world::Worker { name: crate::world::agent("nobody"), incarnation: Incarnation(1) };
    assert_eq!(world.claim(&unknown).await, Claim::Fenced);
    assert_eq!(world.dump(), before);
}

#[tokio::test]
async fn epoch_should_grow_also_when_the_clock_goes_back() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    let mut last = Epoch(0);
    for clock in [T0, T0, T0 + SECOND, T0 - 3_600 * SECOND, 1, T0 + 2 * SECOND] {
        let grant = granted(world.claim_at(&world.store.at(clock), &worker).await);
        assert!(grant.epoch > last, "{} after {last} at {clock}", grant.epoch);
        last = grant.epoch;
        let holder = worker.holding(&grant);
        let released = world.store.at(clock).release(holder, "again").await.unwrap();
        assert_eq!(released, Settled::Released);
        world.assert_sound(&["g"]);
    }
    assert_eq!(last, Epoch(T0 + 2 * SECOND));
}

#[tokio::test]
async fn delayed_task_should_be_claimable_from_its_time_on() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    let grant = world.start(&worker, "a").await;
    assert_eq!(world.fail(&worker, &grant, false).await, Settled::Retry);
    let a = world.task("a").await;
    assert_eq!((a.status, world.queue("dag:g:delayed")), (State::Ready, vec!["a".to_owned()]));
    assert!(a.not_before.is_some() && a.reason.unwrap().contains("tried again"));
    world.assert_sound(&["g"]);
    assert_eq!(world.claim(&worker).await, Claim::Empty);
    assert_eq!(world.want(&worker, "a").await, Claim::Taken);
    let again = granted(world.claim_at(&world.later(1), &worker).await);
    assert_eq!((again.attempt, again.last_error.as_deref()), (2, Some("it broke")));
    assert_eq!(world.task("a").await.not_before, None);
    world.assert_sound(&["g"]);
}

#[tokio::test]
async fn promote_should_move_what_is_due_wake_for_it_and_tell_what_is_next() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    assert_eq!(world.store.promote(&goal("g")).await.unwrap(), None);
    let grant = world.start(&worker, "a").await;
    assert_eq!(world.fail(&worker, &grant, false).await, Settled::Retry);
    let (later, much_later) = (world.later(30), world.later(31));
    let grant = granted(world.want(&worker, "b").await);
    let (settled, _) = later.fail(worker.holding(&grant), "x", false, None).await.unwrap();
    assert_eq!(settled, Settled::Retry);
    world.idle("one", "any", "g").await;
    world.idle("two", "any", "g").await;

    let next = world.store.promote(&goal("g")).await.unwrap().unwrap();
    assert!(next > Duration::ZERO && next <= Duration::from_secs(1), "{next:?}");
    assert_eq!(world.queue("dag:g:delayed").len(), 2);
    let next = later.promote(&goal("g")).await.unwrap().unwrap();
    assert!(next > Duration::ZERO && next <= Duration::from_secs(1), "{next:?}");
    assert_eq!((world.queue("dag:g:ready"), world.queue("dag:g:delayed")), {
        (vec!["a".to_owned()], vec!["b".to_owned()])
    });
    assert_eq!(world.inbox("one").len() + world.inbox("two").len(), 1);
    assert_eq!(much_later.promote(&goal("g")).await.unwrap(), None);
    assert_eq!(world.queue("dag:g:ready"), ["a", "b"]);
    assert_eq!(world.inbox("one").len() + world.inbox("two").len(), 2);
    world.assert_sound(&["g"]);
}

#[tokio::test]
async fn leavings_in_a_queue_should_not_be_granted() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &["a"])])).await;
    for id in ["b", "ghost"] {
        world.raw::<()>(&["ZADD", "dag:g:ready", "-99999999999", id]);
    }
    let worker = world.join("w", "any", "g").await;
    world.start(&worker, "a").await;
    assert!(world.queue("dag:g:ready").is_empty());
    world.assert_sound(&["g"]);
}

/// Many claim at once: each task is granted once.
#[tokio::test]
async fn concurrent_claims_should_grant_each_task_once() {
    let world = World::new().await;
    let ids: Vec<String> = (0..40).map(|n| format!("t{n}")).collect();
    let tasks: Vec<(&str, &[&str])> = ids.iter().map(|id| (id.as_str(), &[][..])).collect();
    world.accept("g", plan_with(&tasks, |_| {})).await;
    let mut claims = tokio::task::JoinSet::new();
    for n in 0..40 {
        let worker = world.join(&format!("w{n}"), "any", "g").await;
        let store = world.store.clone();
        claims.spawn(async move {
            granted(store.claim(&worker.name, worker.incarnation, TTL_MS, None).await.unwrap()).task
        });
    }
    let mut tasks = claims.join_all().await;
    tasks.sort();
    tasks.dedup();
    assert_eq!(tasks.len(), 40);
    world.assert_sound(&["g"]);
}

fn calls(world: &World) -> u64 {
    let info: String = world.raw(&["INFO", "commandstats"]);
    info.lines()
        .filter(|line| line.starts_with("cmdstat_") && !line.starts_with("cmdstat_info"))
        .filter_map(|line| line.split("calls=").nth(1)?.split(',').next()?.parse::<u64>().ok())
        .sum()
}

/// No limit is asserted: it shows what a change costs.
#[tokio::test]
async fn cost_of_the_common_steps_should_be_shown() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &["c"])])).await;
    let worker = world.join("w", "any", "g").await;
    world.run(&worker, "a").await;
    let start = calls(&world);
    let grant = world.start(&worker, "b").await;
    let claimed = calls(&world);
    let holder = worker.holding(&grant);
    let (_, next) = world.store.complete(holder, "[]", "", Some(TTL_MS)).await.unwrap();
    let completed = calls(&world);
    assert_eq!(granted(next.unwrap()).task, task("c"));
    println!(
        "Redis commands: claim {}, complete and claim {}",
        claimed - start,
        completed - claimed
    );
}
