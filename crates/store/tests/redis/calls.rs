//! What is measured of calls, and how agents tell it.

use model::goal::Counts;
use store::Options;
use store::calls::{Call, Measures};
use store::event::{Position, Told};
use store::goal::Queues;
use testkit::{FaultProxy, Mode, RedisServer};

use crate::connection::{behind, with_lost_reply};
use crate::world::{World, goal, plan_with, task};

#[tokio::test]
async fn calls_should_be_measured_from_when_it_is_asked_for() {
    let world = World::new().await;
    let calls = world.store.measure_calls();
    assert!(calls.so_far().is_empty());
    world.store.goal_ids().await.unwrap();
    world.store.clone().goal_ids().await.unwrap();
    let call = calls.so_far().remove("list goals").unwrap();
    assert_eq!((call.buckets.iter().sum::<u64>(), call.fenced, call.retries), (2, 0, 0));
    assert!(call.sum_us > 0);

    // Refused, for somebody else leads: counted, and nothing else.
    world.lose_lead().await;
    assert!(world.store.note_goal(&world.lead(), &goal("g"), "", &[]).await.is_err());
    assert_eq!(calls.so_far()["note a goal"].fenced, 1);
    assert_eq!(calls.so_far()["note a goal"].errors, [0; 3]);
}

#[tokio::test]
async fn calls_that_fail_should_be_counted_with_their_tries() {
    let server = RedisServer::options().password("right").start();
    let port = server.port();
    let url: store::RedisUrl = format!("redis://:wrong@127.0.0.1:{port}").parse().unwrap();
    let store = store::Store::new(&Options::from(url)).await.unwrap();
    let calls = store.measure_calls();
    store.goal_ids().await.unwrap_err();
    assert_eq!(calls.so_far()["list goals"].errors, [0, 1, 0]);
    drop(server);
    store.goal_ids().await.unwrap_err();
    let call = calls.so_far().remove("list goals").unwrap();
    assert_eq!(call.errors, [1, 1, 0]);
    assert!(call.retries > 3 && call.buckets.iter().sum::<u64>() == 2, "{call:?}");
}

#[tokio::test]
async fn measures_of_all_agents_should_add_up() {
    let world = World::new().await;
    let calls = world.store.measure_calls();
    for writer in ["one", "other"] {
        world.store.goal_ids().await.unwrap();
        let mut measured = calls.take();
        measured.retain(|what, _| what == "list goals");
        world.store.add_measures(writer, 1, &measured).await.unwrap();
    }
    let told = world.store.measures().await.unwrap();
    assert_eq!(told.keys().collect::<Vec<_>>(), ["list goals"]);
    assert_eq!(told["list goals"].buckets.iter().sum::<u64>(), 2);
    world.store.add_measures("one", 2, &Default::default()).await.unwrap();
    assert_eq!(world.store.measures().await.unwrap(), told);
}

#[tokio::test]
async fn measures_whose_answer_was_lost_should_count_once() {
    for mode in [Mode::DropReplies, Mode::CutOnReply] {
        let world = World::new().await;
        let report = Measures::from([("beat".to_owned(), Call { retries: 1, ..Call::default() })]);
        let retries = || world.raw::<Option<u64>>(&["HGET", "agents:calls", "beat|retries"]);
        world.store.add_measures("w", 1, &report).await.unwrap();
        let proxy = FaultProxy::start(world.server.port());
        let store = behind(&proxy).await;
        let happened = || retries() > Some(1);
        let told = with_lost_reply(&proxy, mode, happened, store.add_measures("w", 2, &report));
        told.await.unwrap();
        assert_eq!(retries(), Some(2), "{mode:?}");
        // An older one that comes late is no news, and what keeps it apart is not kept for ever.
        store.add_measures("w", 1, &report).await.unwrap();
        assert_eq!(retries(), Some(2), "{mode:?}");
        assert!(world.raw::<i64>(&["TTL", "agents:calls:told:w"]) > 0);
        store.add_measures("w", 3, &report).await.unwrap();
        assert_eq!(retries(), Some(3), "{mode:?}");
    }
}

#[tokio::test]
async fn queues_should_be_told_by_role() {
    let world = World::new().await;
    let plan = plan_with(&[("a", &[]), ("b", &[]), ("c", &[]), ("d", &["c"])], |spec| {
        if spec.id != task("a") {
            spec.role = Some("qa".parse().unwrap());
        }
    });
    world.accept("g", plan).await;
    let found = world.store.queues(&goal("g")).await.unwrap();
    let claimable = vec![(None, 1), (Some("qa".to_owned()), 2)];
    assert_eq!(found, Queues { claimable, delayed: 0 });
    assert_eq!(world.store.queues(&goal("none")).await.unwrap().claimable, [(None, 0)]);
}

#[tokio::test]
async fn tasks_should_be_counted_by_role_through_every_plan() {
    let world = World::new().await;
    let roles = |of: &'static [(&str, &str)]| {
        move |spec: &mut model::TaskSpec| {
            let role = of.iter().find(|(task, _)| *task == spec.id.as_str());
            spec.role = role.map(|(_, role)| role.parse().unwrap());
        }
    };
    let tasks: &[(&str, &[&str])] = &[("a", &[]), ("b", &[]), ("c", &["a"]), ("d", &["c"])];
    world.accept("g", plan_with(tasks, roles(&[("b", "qa"), ("c", "qa"), ("d", "qa")]))).await;
    let counted = async || world.store.counts_by_role(&goal("g")).await.unwrap();
    let none = Counts::default;
    let any = Counts { ready: 1, ..none() };
    let qa = Counts { ready: 1, blocked: 2, ..none() };
    assert_eq!(counted().await, [(String::new(), any), ("qa".to_owned(), qa)].into());

    let worker = world.join("w", "qa", "g").await;
    world.run(&worker, "a").await;
    world.start(&worker, "b").await;
    // b goes on under another role, c is gone, d has no role any more, e is new.
    let tasks: &[(&str, &[&str])] = &[("a", &[]), ("b", &[]), ("d", &["b"]), ("e", &["a"])];
    world.accept("g", plan_with(tasks, roles(&[("b", "dev"), ("e", "dev")]))).await;
    let any = Counts { done: 1, blocked: 1, ..none() };
    let dev = Counts { running: 1, ready: 1, ..none() };
    let wanted = [(String::new(), any), ("dev".to_owned(), dev), ("qa".to_owned(), none())];
    assert_eq!(counted().await, wanted.into());
    world.assert_sound(&["g"]);
    assert_eq!(world.store.figures(&goal("g")).await.unwrap().contradiction(), None);
}

#[tokio::test]
async fn places_for_traces_and_metrics_should_be_apart() {
    let world = World::new().await;
    assert_eq!(world.store.told(Told::Metrics).await.unwrap(), None);
    let at = Position("7-1".into());
    world.store.set_told(Told::Metrics, &at).await.unwrap();
    assert_eq!(world.store.told(Told::Metrics).await.unwrap(), Some(at));
    assert_eq!(world.store.told(Told::Traces).await.unwrap(), None);
}
