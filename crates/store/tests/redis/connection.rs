//! Redis that answers late, not at all, or comes back.

use std::time::{Duration, Instant};

use store::llm::{Begun, CostOf};
use store::server::Kept;
use store::task::{Claim, Detoured, Settled};
use store::{Error, Options, Store};
use testkit::{DEADLINE, FaultProxy, Mode, RedisServer, wait_until};

use crate::detour::review;
use crate::llm::{begin, end};
use crate::world::{T0, TTL_MS, World, agent, goal, granted, plan, spec, task};

/// A caller behind the proxy, connected; the world looks past it.
pub(crate) async fn behind(proxy: &FaultProxy) -> Store {
    let url: store::RedisUrl = proxy.url().parse().unwrap();
    let store = Store::new(&Options::from(url)).await.unwrap().at(T0);
    store.goal(&goal("g")).await.unwrap();
    store
}

/// Runs each script once: one that Redis does not know yet is not executed by the
/// first try, but loaded.
async fn load_scripts(world: &World) {
    world.accept("warm", plan(&[("warm", &[])])).await;
    let worker = world.join("warm", "any", "warm").await;
    let grant = world.start(&worker, "warm").await;
    assert_eq!(world.fail(&worker, &grant, false).await, Settled::Retry);
    assert_eq!(world.complete(&worker, &grant).await, Settled::Already);
}

/// Calls while every reply is lost, until `happened`; then lets replies through.
pub(crate) async fn with_lost_reply<T>(
    proxy: &FaultProxy,
    mode: Mode,
    happened: impl Fn() -> bool,
    call: impl Future<Output = T>,
) -> T {
    let lost_before = proxy.replies_lost();
    proxy.set(mode);
    let mend = async {
        // What was executed shows before its answer passes the proxy.
        wait_until("the call was executed and its answer lost", DEADLINE, || async {
            let seen = (happened(), proxy.replies_lost() - lost_before);
            if seen.0 && seen.1 > 0 { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
        proxy.set(Mode::Forward);
    };
    tokio::join!(call, mend).0
}

#[tokio::test]
async fn lost_replies_should_not_make_anything_happen_twice() {
    for mode in [Mode::DropReplies, Mode::CutOnReply] {
        let world = World::new().await;
        world.accept("g", plan(&[("a", &[]), ("b", &["a"]), ("x", &["b"])])).await;
        load_scripts(&world).await;
        let proxy = FaultProxy::start(world.server.port());
        let store = behind(&proxy).await;

        // Register.
        let name = agent("w");
        let any = "any".parse().unwrap();
        let g = goal("g");
        let registration = store::agent::Registration {
            agent: &name,
            pid: 9,
            host: "box",
            start_time: 1,
            role: &any,
            goal: &g,
            spec_hash: "",
            provider: "claude",
        };
        let happened = || world.raw::<u8>(&["EXISTS", "agent:w:registered"]) == 1;
        let call = store.register(&registration, TTL_MS);
        let incarnation = with_lost_reply(&proxy, mode, happened, call).await.unwrap();
        assert_eq!(world.events("agent-register").await.len(), 2);
        let worker = crate::world::Worker { name: name.clone(), incarnation };

        // Claim.
        let status = |id: &str| world.field(&format!("task:{id}"), "status").unwrap();
        let call = store.claim(&name, incarnation, TTL_MS, None);
        let claim = with_lost_reply(&proxy, mode, || status("a") == "running", call).await;
        let a = granted(claim.unwrap());
        assert_eq!((a.attempt, world.events("task-claim").await.len()), (1, 2));

        // Complete, and claim the next.
        let call = store.complete(worker.holding(&a), "[]", "", Some(TTL_MS));
        let (settled, next) =
            with_lost_reply(&proxy, mode, || status("a") == "done", call).await.unwrap();
        assert_eq!(settled, Settled::Already);
        let b = granted(next.unwrap());
        assert_eq!((b.task.as_str(), b.attempt), ("b", 1));
        assert_eq!(world.events("task-complete").await.len(), 1);

        // Fail.
        let call = store.fail(worker.holding(&b), "broke", false, None);
        let failed = with_lost_reply(&proxy, mode, || status("b") == "ready", call).await.unwrap();
        assert_eq!(failed, (Settled::Already, None));
        let b = world.task("b").await;
        assert_eq!((b.failures, b.attempt), (1, 1));
        assert_eq!(world.store.task_errors(&task("b")).await.unwrap().len(), 1);
        world.assert_sound(&["g"]);
    }
}

#[tokio::test]
async fn lost_replies_should_not_make_a_call_or_a_detour_happen_twice() {
    for mode in [Mode::DropReplies, Mode::CutOnReply] {
        let world = World::new().await;
        world.accept("g", plan(&[("a", &[]), ("b", &[])])).await;
        let worker = world.join_model("w", "g", "claude").await;
        let g = goal("g");
        // Loads the scripts.
        let b = granted(world.want(&worker, "b").await);
        let warm = begin(worker.caller_for(&b), &g, "warm");
        world.begin(&warm).await;
        world.store.end_call(&end(&warm)).await.unwrap();
        let (fix, other) = (spec("fix"), spec("other"));
        world.store.detour(worker.holding(&b), &review(&other, "x")).await.unwrap();
        let proxy = FaultProxy::start(world.server.port());
        let store = behind(&proxy).await;

        let a = granted(world.want(&worker, "a").await);
        let call = begin(worker.caller_for(&a), &g, "1");
        let happened = || world.raw::<u8>(&["HLEN", "llm:slots"]) == 1;
        let begun = with_lost_reply(&proxy, mode, happened, store.begin_call(&call)).await;
        assert_eq!(begun.unwrap(), Begun::Granted { budget_left_micros: None });

        let happened = || world.raw::<u8>(&["EXISTS", "llm:call:1"]) == 1;
        with_lost_reply(&proxy, mode, happened, store.end_call(&end(&call))).await.unwrap();
        assert_eq!(world.store.costs(CostOf::Goal(&g)).await.unwrap().calls, 2);

        let happened = || world.raw::<u8>(&["EXISTS", "task:fix"]) == 1;
        let detour = review(&fix, "x");
        let asked = store.detour(worker.holding(&a), &detour);
        let detoured = with_lost_reply(&proxy, mode, happened, asked).await.unwrap();
        assert_eq!(detoured, Detoured::Already);
        assert_eq!(world.task("a").await.detours.review, 1);
        assert_eq!(world.events("task-insert").await.len(), 2);
        world.assert_sound(&["g"]);
    }
}

/// The connection is cut again and again while chunk after chunk is written.
#[tokio::test]
async fn cut_connections_should_not_break_a_plan() {
    let world = World::new().await;
    let proxy = FaultProxy::start(world.server.port());
    let store = behind(&proxy).await;
    let (lead, g) = (world.lead(), goal("g"));
    let ids: Vec<String> = (0..6_000).map(|n| format!("t{n}")).collect();
    let tasks: Vec<(&str, &[&str])> = ids.iter().map(|id| (id.as_str(), &["t0"][..])).collect();
    let tasks: Vec<_> = tasks
        .into_iter()
        .enumerate()
        .map(|(n, (id, deps))| (id, if n == 0 { &[][..] } else { deps }))
        .collect();
    let cut = async {
        for chunks in 1..10 {
            wait_until("a chunk is written", DEADLINE, || async {
                let staged: usize = world.raw(&["HLEN", "dag:g:stage:nodes"]);
                let accepted = world.raw::<u8>(&["EXISTS", "dag:g:nodes"]) == 1;
                if staged >= chunks * 500 || accepted { Ok(()) } else { Err(staged.to_string()) }
            })
            .await;
            proxy.cut();
        }
    };
    let (accepted, ()) = tokio::join!(store.accept(&lead, &g, plan(&tasks), "h", "t"), cut);
    assert_eq!(accepted.unwrap().unwrap().added.len(), 6_000);
    assert_eq!(world.events("goal-accept").await.len(), 1);
    let figures = world.store.figures(&g).await.unwrap();
    assert_eq!((figures.nodes, figures.contradiction()), (6_000, None));
}

#[tokio::test]
async fn killed_redis_should_come_back_with_what_was_acknowledged() {
    let mut world = World::on(RedisServer::options().append_only().start()).await;
    world.accept("g", plan(&[("a", &[]), ("b", &["a"]), ("c", &["b"])])).await;
    let worker = world.join("w", "any", "g").await;
    world.run(&worker, "a").await;
    let b = world.start(&worker, "b").await;
    let before = world.dump();
    world.server.kill9();
    let (name, incarnation) = (worker.name.clone(), worker.incarnation);
    let store = world.store.clone();
    let (during, holder) = (b.clone(), worker.clone());
    // Made while it is away, answered once it is back.
    let call = tokio::spawn(async move {
        let mut tries = 0;
        loop {
            tries += 1;
            match store.complete(holder.holding(&during), "[]", "", Some(TTL_MS)).await {
                Err(Error::Unavailable { .. }) if tries < 20 => {}
                other => break other,
            }
        }
    });
    world.server.restart();
    let (settled, next) = call.await.unwrap().unwrap();
    assert_eq!(settled, Settled::Done);
    assert_eq!(granted(next.unwrap()).task, task("c"));
    assert_eq!(
        world.store.agent(&name).await.unwrap().registered.unwrap().incarnation,
        incarnation
    );
    for (key, value) in before {
        let kept = ["task:a", "dag:g:nodes", "dag:g:deps", "agents", "goal:g"];
        assert!(!kept.contains(&key.as_str()) || world.dump()[&key] == value, "{key}");
    }
    world.assert_sound(&["g"]);
    assert_eq!(world.events("task-complete").await.len(), 2);
}

#[tokio::test]
async fn redis_that_refuses_should_be_unavailable_within_the_bound() {
    let mut world = World::new().await;
    let port = world.server.port();
    world.server.stop();
    let started = Instant::now();
    let error = world.store.goal(&goal("g")).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }) && error.is_transient(), "{error:?}");
    println!("refused on port {port}: known after {:?}", started.elapsed());
    assert!(error.to_string().contains("read a goal"), "{error}");
    // And the same handle works once it is there.
    world.server.restart();
    assert_eq!(world.store.goal(&goal("g")).await.unwrap(), None);
}

/// Regression: what was refused for want of room on Redis' disk was given up at once, so
/// that the result of a task that ended meanwhile was thrown away.
#[tokio::test]
async fn redis_that_refuses_writes_should_be_asked_again_until_it_takes_them() {
    // No room cannot be made here; a folder that takes no files can.
    let server =
        RedisServer::options().config("enable-protected-configs yes").config("save 3600 1").start();
    let folder = server.folder().to_str().unwrap().to_owned();
    let world = World::on(server).await;
    let refuse = |refuses: bool| {
        let at = if refuses { "/proc" } else { &folder };
        world.raw::<()>(&["CONFIG", "SET", "dir", at]);
        world.raw::<()>(&["BGSAVE"]);
        let done = if refuses { "err" } else { "ok" };
        testkit::wait_until_blocking("the save ended", testkit::DEADLINE, || {
            let info: String = world.raw(&["INFO", "persistence"]);
            let ended = format!("rdb_last_bgsave_status:{done}");
            if info.contains(&ended) { Ok(()) } else { Err(info) }
        });
    };
    refuse(true);
    let error = world.store.report_problems("[1]").await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }) && error.is_transient(), "{error:?}");
    assert_eq!(world.store.problems().await.unwrap(), None, "reading is not refused");

    let call = tokio::spawn({
        let store = world.store.clone();
        async move { store.report_problems("[2]").await }
    });
    refuse(false);
    call.await.unwrap().unwrap();
    assert_eq!(world.store.problems().await.unwrap().as_deref(), Some("[2]"));
}

/// Regression: a server that is silent was asked seven times, 5 s each; and where
/// a connection had died without a word, it was used on and on.
#[tokio::test]
async fn silent_redis_should_be_unavailable_within_the_bound_and_reached_again() {
    let world = World::new().await;
    let proxy = FaultProxy::start(world.server.port());
    let store = behind(&proxy).await;
    let connections = proxy.open_connections();
    proxy.set(Mode::Blackhole);
    let started = Instant::now();
    let error = store.goal(&goal("g")).await.unwrap_err();
    let took = started.elapsed();
    println!("silent: known after {took:?}");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(proxy.open_connections() > connections, "it tried another connection");
    proxy.set(Mode::Forward);
    assert_eq!(store.goal(&goal("g")).await.unwrap(), None);
}

#[tokio::test]
async fn late_redis_should_be_waited_for() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let proxy = FaultProxy::start(world.server.port());
    let store = behind(&proxy).await;
    let worker = world.join("w", "any", "g").await;
    proxy.set(Mode::Delay(Duration::from_millis(300)));
    assert_eq!(granted(world.claim_at(&store, &worker).await).task, task("a"));
    assert_eq!(world.events("task-claim").await.len(), 1);
}

#[tokio::test]
async fn waiting_should_end_with_its_connection_and_begin_again() {
    let world = World::new().await;
    let proxy = FaultProxy::start(world.server.port());
    let store = behind(&proxy).await;
    let mut inbox = store.waiting().unwrap();
    let name = agent("w");
    let blocked = async |count: usize| {
        wait_until("so many clients are blocked", DEADLINE, || async {
            let info: String = world.raw(&["INFO", "clients"]);
            if info.contains(&format!("blocked_clients:{count}")) { Ok(()) } else { Err(info) }
        })
        .await;
    };
    let cut = async {
        blocked(1).await;
        proxy.cut();
    };
    let (waited, ()) = tokio::join!(inbox.inbox(&name, DEADLINE), cut);
    assert!(matches!(waited, Err(Error::Unavailable { .. })), "{waited:?}");
    // Until Redis knows too: it would give the token to the one that is gone.
    blocked(0).await;
    world.raw::<()>(&["RPUSH", "agent:w:inbox", "work"]);
    let end = Instant::now() + DEADLINE;
    loop {
        let woken = inbox.inbox(&name, Duration::from_secs(1)).await;
        if matches!(woken, Ok(true)) {
            break;
        }
        assert!(Instant::now() < end, "no wake: {woken:?}");
    }
}

#[tokio::test]
async fn redis_that_lost_its_data_should_have_the_fleets_id_again() {
    let world = World::new().await;
    for kept in [Kept::Lost, Kept::Same] {
        assert_eq!(world.store.keep_fleet("0123456789abcdef").await.unwrap(), kept);
    }
    assert_eq!(world.store.fleet().await.unwrap(), "0123456789abcdef");
    let events = world.store.last_events(9).await.unwrap();
    assert_eq!(events.iter().filter(|event| event.kind == "data-lost").count(), 1, "{events:?}");
}

#[tokio::test]
async fn server_should_be_described() {
    let world = World::on(RedisServer::options().append_only().start()).await;
    let server = world.store.server().await.unwrap();
    assert!(server.appendonly && server.appendfsync == "always", "{server:?}");
    assert_eq!(server.maxmemory_policy, "noeviction");
    assert!(server.version.contains('.') && server.used_memory > 0 && server.time_micros > 0);
    let fleet = world.store.fleet().await.unwrap();
    assert_eq!((fleet.len(), world.store.fleet().await.unwrap()), (16, fleet));
    let fleet = world.store.fleet().await.unwrap();
    assert_eq!(world.store.keep_fleet(&fleet).await.unwrap(), Kept::Same);
    assert_eq!(world.store.keep_fleet("else").await.unwrap(), Kept::Other(fleet));
    world.store.report_controllers(&[("dag", "{}".into()), ("agent", "[]".into())]).await.unwrap();
    let reports = world.store.controller_reports().await.unwrap();
    assert_eq!(reports, [("agent".into(), "[]".into()), ("dag".into(), "{}".into())]);
    assert_eq!(world.store.problems().await.unwrap(), None);
    world.store.report_problems("[]").await.unwrap();
    assert_eq!(world.store.problems().await.unwrap().as_deref(), Some("[]"));
}

#[tokio::test]
async fn redis_without_a_place_left_should_be_waited_for() {
    let world = World::on(RedisServer::options().config("maxclients 4").start()).await;
    let mut taken: Vec<redis::Connection> = Vec::new();
    while let Ok(connection) = world.server.client().get_connection() {
        taken.push(connection);
        assert!(taken.len() < 10);
    }
    let url: store::RedisUrl = world.server.url().parse().unwrap();
    let other = Store::new(&Options::from(url)).await.unwrap();
    let error = other.goal(&goal("g")).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    taken.clear();
    wait_until("there is a place again", DEADLINE, async || {
        other.goal(&goal("g")).await.map_err(|error| format!("{error:?}"))
    })
    .await;
}

#[tokio::test]
async fn emptied_redis_should_fence_everybody() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    world.raw::<()>(&["FLUSHALL"]);
    world.raw::<()>(&["FUNCTION", "FLUSH"]);
    assert_eq!(world.claim(&worker).await, Claim::Fenced);
}

#[tokio::test]
async fn scripts_of_other_versions_should_be_forgotten_and_nobody_elses() {
    let world = World::new().await;
    let load = |name: &str| {
        let text = format!(
            "#!lua name={name}\nredis.register_function('f_{name}', function() return 1 end)"
        );
        world.raw::<()>(&["FUNCTION", "LOAD", &text]);
    };
    for name in ["orch_0123456789ab", "orch_ba9876543210", "theirs"] {
        load(name);
    }
    world.store.forget_other_scripts().await.unwrap();
    let left: Vec<Vec<redis::Value>> = world.raw(&["FUNCTION", "LIST"]);
    let mut names: Vec<String> =
        left.into_iter().map(|of| redis::from_redis_value(of[1].clone()).unwrap()).collect();
    names.sort();
    assert!(
        matches!(&names[..], [ours, other] if ours.starts_with("orch_") && other == "theirs"),
        "{names:?}"
    );
    // Its own are still there, and again where another version had them forgotten.
    world.accept("g", plan(&[("a", &[])])).await;
    world.raw::<()>(&["FUNCTION", "DELETE", &names[0]]);
    let worker = world.join("w", "any", "g").await;
    granted(world.claim(&worker).await);
}

/// Redis refuses a function that may write before it runs any of it, unlike a script.
#[tokio::test]
async fn what_only_reads_should_run_where_redis_can_write_nothing() {
    let world = World::new().await;
    world.join("w", "any", "g").await;
    world.raw::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    assert_eq!(world.store.agents().await.unwrap().len(), 1);
    world.raw::<()>(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
}
