//! Agents' processes: registering, signs of life, leaving, dying, being silent.

use model::agent::Phase;
use model::lease::{Epoch, Pulse};
use model::task::{MAX_LOSSES, State};
use store::agent::{Beat, Control, Doing, Snapshot};
use store::lease::Reaped;
use store::task::{Claim, Settled};

use crate::world::{SECOND, T0, TTL_MS, World, agent, granted, plan, plan_with, task};

#[tokio::test]
async fn registration_should_stand_as_the_seed_shows_it() {
    let world = World::new().await;
    let worker = world.join_as("research_agent", "research", "g", 4711).await;
    let record = world.hash("agent:research_agent:registered");
    for (field, value) in [
        ("pid", "4711"),
        ("timestamp", "2027-01-15T08:00:00.000000Z"),
        ("cap:role", "research"),
        ("goal", "g"),
        ("host", "box"),
        ("start_time", "7"),
        ("spec_hash", "spec"),
    ] {
        assert_eq!(record[field], value, "{field}");
    }
    let beat: String = world.raw(&["GET", "agent:research_agent:heartbeat"]);
    assert_eq!(beat, "2027-01-15T08:00:00.000000Z");
    assert!(world.raw::<u64>(&["PTTL", "agent:research_agent:heartbeat"]) <= TTL_MS);
    assert_eq!(world.members("agents"), ["research_agent"]);
    let agents = world.store.agents().await.unwrap();
    let registered = agents[0].registered.as_ref().unwrap();
    assert_eq!((registered.pid, registered.incarnation), (4711, worker.incarnation));
    assert_eq!(registered.incarnation.0, T0);
}

#[tokio::test]
async fn same_process_should_keep_its_incarnation() {
    let world = World::new().await;
    let first = world.join_as("w", "any", "g", 1).await;
    let before = world.dump();
    let again = world.join_as("w", "any", "g", 1).await;
    assert_eq!(again.incarnation, first.incarnation);
    assert_eq!(world.dump(), before);
    let other = world.join_as("w", "any", "g", 2).await;
    assert!(other.incarnation > first.incarnation);
    assert_eq!(world.events("agent-register").await.len(), 2);
}

#[tokio::test]
async fn incarnation_should_grow_whatever_is_lost_and_whatever_the_clock_does() {
    let mut world = World::new().await;
    let mut last = world.join("w", "any", "g").await.incarnation;
    for lost in ["agent:w:registered", "agent:w:status", "nothing"] {
        world.raw::<()>(&["DEL", lost]);
        world.store = world.store.at(T0 - 86_400 * SECOND);
        let next = world.join("w", "any", "g").await.incarnation;
        assert!(next > last, "{next} after {last} without {lost}");
        last = next;
    }
}

#[tokio::test]
async fn replaced_agent_should_lose_its_task_at_once() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let old = world.join("w", "any", "g").await;
    let grant = world.start(&old, "a").await;
    let new = world.join("w", "any", "g").await;
    let a = world.task("a").await;
    assert_eq!((a.status, a.losses, a.failures, a.owner), (State::Ready, 1, 0, None));
    assert!(world.leases().is_empty());
    // So that the old process looks up.
    assert_eq!(world.inbox("w"), ["registered"]);
    assert_eq!(world.complete(&old, &grant).await, Settled::Fenced);
    let again = world.start(&new, "a").await;
    assert_eq!((again.attempt, world.complete(&new, &again).await), (2, Settled::Done));
    assert_eq!(world.events("task-lose").await.len(), 1);
    world.assert_sound(&["g"]);
}

#[tokio::test]
async fn beat_should_renew_the_lease_and_bring_control_back() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    let grant = world.start(&worker, "a").await;
    let held = Some((&grant.task, grant.epoch));
    let mut last = Pulse { epoch: grant.epoch, beat: 0 };
    for n in 1..=3 {
        let store = world.later(n * 10);
        let beat =
            store.beat(&worker.name, worker.incarnation, TTL_MS, held, "half").await.unwrap();
        let holds = Some((task("a"), grant.epoch));
        let control = Control::default();
        assert_eq!(beat, Beat::Ok { should_claim: false, lease: Some(true), control, holds });
        let pulse = world.store.lease(&task("a")).await.unwrap().unwrap();
        assert!(pulse.epoch == last.epoch && pulse.beat > last.beat, "{pulse} after {last}");
        last = pulse;
    }
    let a = world.task("a").await;
    assert_eq!(a.lease_expires.as_deref(), Some("2027-01-15T08:10:30.000000Z"));
    assert_eq!(a.progress.as_deref(), Some("half"));
    assert_eq!(world.raw::<String>(&["GET", "agent:w:heartbeat"]), "2027-01-15T08:00:30.000000Z");
    world.raw::<()>(&["HSET", "agent:w:control", "paused", "1", "flushes", "2", "reparses", "3"]);
    let beat = world.store.beat(&worker.name, worker.incarnation, TTL_MS, None, "").await.unwrap();
    let Beat::Ok { should_claim: false, lease, control, holds } = beat else { panic!("{beat:?}") };
    assert_eq!((lease, holds), (None, Some((task("a"), grant.epoch))));
    assert!(control.paused && control.flushes == "2" && control.reparses == "3");
    assert_eq!(world.task("a").await.progress.as_deref(), Some("half"), "'' is as before");
    world.assert_sound(&["g"]);
}

/// Regression: it counted on from the older value and came to one that a controller had seen,
/// which took the agent for silent and killed it before its TTL was over.
#[tokio::test]
async fn beat_of_a_restored_redis_should_be_none_that_was_seen() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    let grant = world.start(&worker, "a").await;
    let held = Some((&grant.task, grant.epoch));
    let key = "agent:w:registered";
    let older = world.field(key, "beat").unwrap();
    let mut seen = Vec::new();
    for seconds in [1, 2, 3] {
        let store = world.later(seconds);
        store.beat(&worker.name, worker.incarnation, TTL_MS, held, "").await.unwrap();
        let lease = world.store.lease(&task("a")).await.unwrap().unwrap();
        assert_eq!(world.field(key, "beat"), Some(lease.beat.to_string()));
        assert!(!seen.contains(&lease), "{lease} after {seen:?}");
        seen.push(lease);
        world.raw::<()>(&["HSET", key, "beat", &older]);
        world.raw::<()>(&["HSET", "leases", "a", &format!("{}:0", grant.epoch)]);
    }
}

#[tokio::test]
async fn one_that_waits_should_be_told_to_claim_where_it_missed_a_wake_and_only_there() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let runner = world.join("runner", "any", "g").await;
    let a = world.start(&runner, "a").await;
    let waiter = world.idle("w", "any", "g").await;
    let should_claim = async |at: u64, doing: Doing<'_>| {
        let store = world.later(at);
        match store.beat(&waiter.name, waiter.incarnation, TTL_MS, doing, "").await.unwrap() {
            Beat::Ok { should_claim, .. } => should_claim,
            Beat::Fenced => panic!("fenced"),
        }
    };
    assert!(!should_claim(0, Doing::Waits).await, "nothing to do");

    // Nobody would wake it.
    let member = "w|any";
    for set in ["dag:g:idle", "dag:g:idle:any"] {
        assert_eq!(world.raw::<u8>(&["SREM", set, member]), 1);
    }
    assert!(should_claim(0, Doing::Waits).await);
    assert!(!should_claim(0, Doing::Else).await, "it did not ask");
    world.raw::<()>(&["SADD", "dag:g:idle-shell", member]);
    assert!(!should_claim(0, Doing::Waits).await, "for tasks without a model somebody would");
    world.raw::<()>(&["SREM", "dag:g:idle-shell", member]);
    assert_eq!(world.claim(&waiter).await, Claim::Empty);
    assert!(!should_claim(0, Doing::Waits).await);

    // What is delayed, once it is due: looking makes it claimable.
    world.store.fail(runner.holding(&a), "it broke", false, None).await.unwrap();
    assert!(!should_claim(0, Doing::Waits).await, "not yet");
    assert!(should_claim(61, Doing::Waits).await);
    world.raw::<()>(&["ZADD", "dag:g:delayed", "253370764800000000", "a"]);
    assert!(!should_claim(61, Doing::Waits).await, "parked");
    world.raw::<()>(&["ZADD", "dag:g:delayed", "250000000000000000", "a"]);
    assert!(should_claim(61, Doing::Waits).await, "the clock was set back since");

    // What is READY, but not where a person says that it claims nothing.
    world.raw::<()>(&["ZREM", "dag:g:delayed", "a"]);
    world.raw::<()>(&["ZADD", "dag:g:ready", "0", "a"]);
    assert!(should_claim(0, Doing::Waits).await);
    world.raw::<()>(&["HSET", "agent:w:control", "paused", "1"]);
    assert!(!should_claim(0, Doing::Waits).await);
}

#[tokio::test]
async fn beat_for_a_lease_that_is_not_held_should_say_so_and_renew_nothing() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &[])])).await;
    let (one, two) = (world.join("one", "any", "g").await, world.join("two", "any", "g").await);
    let grant = world.start(&one, "a").await;
    let (record, leases) = (world.hash("task:a"), world.leases());
    for (worker, epoch) in [(&two, grant.epoch), (&one, Epoch(grant.epoch.0 - 1))] {
        let held = Some((&grant.task, epoch));
        let beat =
            world.store.beat(&worker.name, worker.incarnation, TTL_MS, held, "x").await.unwrap();
        assert!(matches!(beat, Beat::Ok { lease: Some(false), .. }), "{beat:?}");
    }
    assert_eq!((world.hash("task:a"), world.leases()), (record, leases));
}

#[tokio::test]
async fn agent_should_leave_in_order() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    let grant = world.start(&worker, "a").await;
    let idle = world.idle("i", "any", "g").await;
    assert!(world.store.deregister(&worker.name, worker.incarnation, "SIGTERM").await.unwrap());
    let a = world.task("a").await;
    assert_eq!((a.status, a.losses, a.reason.as_deref()), (State::Ready, 0, Some("SIGTERM")));
    for key in ["registered", "heartbeat", "inbox"] {
        assert_eq!(world.raw::<u8>(&["EXISTS", &format!("agent:w:{key}")]), 0, "{key}");
    }
    assert_eq!(world.inbox("i"), ["work"]);
    assert_eq!(world.complete(&worker, &grant).await, Settled::Fenced);
    world.assert_sound(&["g"]);
    // Regression: after a lost reply the same request said that another had the name.
    let before = world.dump();
    assert!(world.store.deregister(&worker.name, worker.incarnation, "SIGTERM").await.unwrap());
    assert_eq!(world.dump(), before);
    world.start(&idle, "a").await;
    let new = world.join("w", "any", "g").await;
    assert!(new.incarnation > worker.incarnation);
    assert!(!world.store.deregister(&worker.name, worker.incarnation, "SIGTERM").await.unwrap());
}

#[tokio::test]
async fn wakes_of_those_who_go_should_be_passed_on() {
    let world = World::new().await;
    world.accept("g", plan(&[("z", &[]), ("a", &["z"])])).await;
    let runner = world.join("runner", "any", "g").await;
    let z = world.start(&runner, "z").await;
    let mut sleepers = vec![world.idle("w0", "any", "g").await];
    world.complete(&runner, &z).await;
    assert_eq!(world.inbox("w0"), ["work"]);
    for n in 1..4 {
        let name = format!("w{n}");
        sleepers.push(world.asleep(&name, "any", "g").await);
        let last = &sleepers[n - 1];
        match n {
            1 => {
                let lead = world.lead();
                let dead = world.store.bury(&lead, &last.name, last.incarnation, "killed").await;
                assert_eq!(dead.unwrap(), Some(None));
            }
            2 => assert!(world.store.deregister(&last.name, last.incarnation, "x").await.unwrap()),
            _ => drop(world.join(last.name.as_str(), "other", "elsewhere").await),
        }
        assert_eq!(world.inbox(&name), ["work"], "passed on to {name}");
    }
    world.start(&sleepers[3], "a").await;
    assert!(world.members("dag:g:idle").is_empty());
}

#[tokio::test]
async fn death_should_end_the_lease_at_once() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &["a"])])).await;
    let worker = world.join("w", "any", "g").await;
    let grant = world.start(&worker, "a").await;
    let idle = world.idle("i", "any", "g").await;
    let lead = world.lead();
    let bury = || world.store.bury(&lead, &worker.name, worker.incarnation, "killed");
    assert_eq!(bury().await.unwrap(), Some(Some(task("a"))));
    let a = world.task("a").await;
    assert_eq!((a.status, a.losses, a.reason.as_deref()), (State::Ready, 1, Some("killed")));
    assert_eq!(world.inbox("i"), ["work"]);
    assert_eq!(world.store.agent(&worker.name).await.unwrap().registered, None);
    assert_eq!(world.events("agent-death").await[0].field("task"), "a");
    let before = world.dump();
    assert_eq!(bury().await.unwrap(), None, "again changes nothing");
    assert_eq!(world.complete(&worker, &grant).await, Settled::Fenced);
    assert_eq!(world.dump(), before);
    world.assert_sound(&["g"]);
    world.run(&idle, "a").await;
}

#[tokio::test]
async fn who_gave_a_sign_of_life_since_should_not_be_buried_for_its_silence() {
    let world = World::new().await;
    let worker = world.join("w", "any", "g").await;
    let (name, incarnation, lead) = (&worker.name, worker.incarnation, world.lead());
    let last = async || world.store.agent(name).await.unwrap().registered.unwrap().beat;
    let bury = async |beat| world.store.bury_silent(&lead, name, incarnation, beat, "silent").await;
    let first = last().await;
    world.store.beat(name, incarnation, TTL_MS, None, "").await.unwrap();
    let before = world.dump();
    assert_eq!(bury(first).await.unwrap(), None);
    assert_eq!(world.dump(), before);
    assert_eq!(bury(last().await).await.unwrap(), Some(None));
    assert_eq!(world.store.agent(name).await.unwrap().registered, None);
}

#[tokio::test]
async fn dead_idle_agent_should_leave_the_idle_set() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let runner = world.join("r", "any", "g").await;
    world.start(&runner, "a").await;
    let gone = world.idle("gone", "any", "g").await;
    let moved = world.idle("moved", "any", "g").await;
    assert_eq!(world.members("dag:g:idle").len(), 2);
    world.store.bury(&world.lead(), &gone.name, gone.incarnation, "killed").await.unwrap();
    assert_eq!(world.members("dag:g:idle"), ["moved|any"]);
    world.join("moved", "other", "g").await;
    assert!(world.members("dag:g:idle").is_empty() && world.members("dag:g:idle:any").is_empty());
    assert_eq!(world.claim(&moved).await, Claim::Fenced);
}

#[tokio::test]
async fn task_that_costs_too_many_agents_should_fail() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &["a"])])).await;
    for n in 1..=MAX_LOSSES {
        let worker = world.join("w", "any", "g").await;
        let store = world.later(u64::from(n) * 100);
        let grant = granted(world.claim_at(&store, &worker).await);
        assert_eq!(grant.attempt, n);
        store.bury(&world.lead(), &worker.name, worker.incarnation, "out of memory").await.unwrap();
        let a = world.task("a").await;
        assert_eq!((a.losses, a.failures), (n, 0));
        let expected = if n < MAX_LOSSES { State::Ready } else { State::Failed };
        assert_eq!(a.status, expected, "loss {n}");
        assert_eq!(a.not_before.is_some(), (2..MAX_LOSSES).contains(&n), "loss {n}");
        world.assert_sound(&["g"]);
    }
    let a = world.task("a").await;
    assert_eq!(a.reason.as_deref(), Some("lost its agent 10 times; last: out of memory"));
    assert_eq!(world.task("b").await.reason.as_deref(), Some("waits for a, which failed"));
    assert_eq!(world.store.retry(&task("a")).await.unwrap(), Some(Ok(State::Ready)));
    assert_eq!(world.task("a").await.losses, 0);
}

#[tokio::test]
async fn silent_lease_should_be_reaped_only_at_the_pulse_that_was_seen() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    let grant = world.start(&worker, "a").await;
    let leases = world.store.leases().await.unwrap();
    let (id, seen) = leases[0].clone();
    let held = Some((&grant.task, grant.epoch));
    world.store.beat(&worker.name, worker.incarnation, TTL_MS, held, "").await.unwrap();
    let before = world.dump();
    let stale = world.store.reap(&world.lead(), &id, seen, "silent").await.unwrap();
    assert_eq!((stale, world.dump()), (Reaped::Stale, before));

    world.raw::<()>(&["DEL", "agent:w:inbox"]);
    let seen = world.store.lease(&id).await.unwrap().unwrap();
    let reaped = world.store.reap(&world.lead(), &id, seen, "silent").await.unwrap();
    assert_eq!(reaped, Reaped::Yes);
    let a = world.task("a").await;
    assert_eq!((a.status, a.losses, a.reason.as_deref()), (State::Ready, 1, Some("silent")));
    assert_eq!(world.inbox("w"), ["fenced"]);
    world.assert_sound(&["g"]);
    let before = world.dump();
    let again = world.store.reap(&world.lead(), &id, seen, "silent").await.unwrap();
    assert_eq!((again, world.dump()), (Reaped::Stale, before));
    // The holder wakes up: it is alive, and must claim anew.
    assert_eq!(world.complete(&worker, &grant).await, Settled::Fenced);
    assert!(world.start(&worker, "a").await.epoch > grant.epoch);
}

#[tokio::test]
async fn lease_without_its_task_should_be_cleared_away() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    let grant = world.start(&worker, "a").await;
    let old = Pulse { epoch: Epoch(5), beat: 1 };
    for id in ["b", "ghost"] {
        world.raw::<()>(&["HSET", "leases", id, "5:1"]);
        let reaped = world.store.reap(&world.lead(), &task(id), old, "silent").await.unwrap();
        assert_eq!(reaped, Reaped::Stale);
    }
    assert_eq!(world.status("b").await, State::Ready);
    assert_eq!(world.leases().keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(world.complete(&worker, &grant).await, Settled::Done);
    world.assert_sound(&["g"]);
}

#[tokio::test]
async fn memory_should_be_kept_until_a_person_flushes_it() {
    let world = World::new().await;
    let worker = world.join("w", "any", "g").await;
    let save = async |flushes: &str, text: &str| {
        world.store.save_memory(&worker.name, worker.incarnation, flushes, text).await.unwrap()
    };
    assert_eq!(world.store.memory(&worker.name).await.unwrap(), None);
    assert_eq!(save("", "[\"a\"]").await, Snapshot::Saved);
    assert_eq!(save("", "[\"a\",\"b\"]").await, Snapshot::Saved);
    world.raw::<()>(&["HSET", "agent:w:control", "flushes", "1"]);
    assert_eq!(save("", "[\"a\",\"b\",\"c\"]").await, Snapshot::Flushed);
    assert_eq!(world.store.memory(&worker.name).await.unwrap().as_deref(), Some("[\"a\",\"b\"]"));
    assert_eq!(save("1", "[]").await, Snapshot::Saved);
    world.join("w", "any", "g").await;
    assert_eq!(save("1", "[1]").await, Snapshot::Fenced);
}

#[tokio::test]
async fn status_should_be_noted_and_unnoted() {
    let world = World::new().await;
    let name = agent("w");
    let note = |kind: &'static str, fields: Vec<(&'static str, String)>| {
        let (store, lead, name) = (world.store.clone(), world.lead(), name.clone());
        async move { store.note_agent(&lead, &name, kind, &fields).await.unwrap() }
    };
    let phase = Phase::CrashLoop.as_str().to_owned();
    note("agent-phase", vec![("phase", phase), ("restarts", "3".into())]).await;
    note("", vec![("error", "limit".into()), ("restarts", "4".into())]).await;
    let status = world.store.agent(&name).await.unwrap().status;
    assert_eq!((status.phase, status.restarts), (Some(Phase::CrashLoop), 4));
    assert_eq!(status.error.as_deref(), Some("limit"));
    note("", vec![("error", String::new())]).await;
    assert_eq!(world.store.agent(&name).await.unwrap().status.error, None);
    assert_eq!(world.store.agents().await.unwrap().len(), 1, "declared counts as known");
    assert_eq!(world.events("agent-phase").await.len(), 1);
}

/// A role that differs leaves the task to others.
#[tokio::test]
async fn task_of_a_dead_agent_should_go_to_one_of_its_role() {
    let world = World::new().await;
    let dag = plan_with(&[("a", &[])], |spec| spec.role = Some("analysis".parse().unwrap()));
    world.accept("g", dag).await;
    let worker = world.join("w", "analysis", "g").await;
    world.start(&worker, "a").await;
    world.idle("r", "research", "g").await;
    world.idle("n", "analysis", "g").await;
    world.store.bury(&world.lead(), &worker.name, worker.incarnation, "killed").await.unwrap();
    assert_eq!((world.inbox("r").len(), world.inbox("n").len()), (0, 1));
    assert_eq!(world.members("dag:g:idle"), ["r|research"]);
}
