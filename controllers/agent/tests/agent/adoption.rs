//! Processes that somebody else started: an earlier term, or nobody knows who.

use std::time::Duration;

use agent_controller::Settings;
use agent_controller::plan::Limits;
use model::agent::Phase;
use model::task::State;
use process::{Identity, Signal};
use testkit::{DEADLINE, wait_until};

use crate::common::{LONG, POLITE, STUBBORN, World, agent, dead, kill9, settings, signal};

#[tokio::test]
async fn new_term_should_keep_the_living_agents_and_notice_their_end() {
    let world = World::new().await;
    world.declare(&[("a", "1"), ("b", "1")]);
    let control = world.control(settings()).await;
    let a = world.run(&control, "a", "1", 1).await;
    let b = world.run(&control, "b", "1", 1).await;
    drop(control);
    let lead = world.lead(store::lead::Controller::Agent, "orch-2").await;
    let control = world.control_under(lead, settings());
    control.looked(2).await;
    assert_eq!(world.spawns("a").len() + world.spawns("b").len(), 2);
    for adopted in [&a, &b] {
        let registered = world.agent(adopted.name.as_str()).await.registered.unwrap();
        assert_eq!(
            (registered.pid, registered.incarnation),
            (adopted.process.pid, adopted.incarnation)
        );
        assert!(adopted.process.is_alive());
    }
    assert_eq!(world.phases("a").await, ["starting", "running"]);
    kill9(&a.process);
    world.run(&control, "a", "1", 2).await;
    assert_eq!(world.agent("a").await.status.restarts, 1);
}

#[tokio::test]
async fn agent_that_died_while_nobody_led_should_be_buried_and_replaced() {
    let world = World::new().await;
    world.declare(&[("a", "1")]);
    let control = world.control(settings()).await;
    let a = world.run(&control, "a", "1", 1).await;
    let task = world.claim(&a).await.task;
    let attempt = world.start_attempt(&a);
    drop(control);
    kill9(&a.process);
    dead(&a.process).await;
    let control = world.control(settings()).await;
    world.wait_for_state(&task, State::Ready).await;
    assert!(!attempt.is_alive());
    world.run(&control, "a", "1", 2).await;
}

#[tokio::test]
async fn agent_that_is_declared_no_more_and_died_while_nobody_led_should_be_buried() {
    let world = World::new().await;
    world.declare(&[("a", "1")]);
    let control = world.control(settings()).await;
    let a = world.run(&control, "a", "1", 1).await;
    let task = world.claim(&a).await.task;
    drop(control);
    kill9(&a.process);
    dead(&a.process).await;
    world.declare(&[]);
    let _control = world.control(settings()).await;
    world.phase("a", Phase::Gone).await;
    assert_eq!(world.state(&task).await, State::Ready);
    assert_eq!(world.spawns("a").len(), 1);
}

#[tokio::test]
async fn process_that_a_dead_orchestrator_started_should_be_waited_for() {
    let world = World::new().await;
    world.declare(&[("a", "1")]);
    let process = world.start(&world.fleet, "a");
    let control = world.control(settings()).await;
    // Before the first listing: the pass must find it by itself.
    control.waker.wake(agent("a"));
    world.phase("a", Phase::Starting).await;
    control.looked(2).await;
    assert!(world.spawns("a").is_empty());
    world.register("a", process, "1").await;
    control.waker.wake(agent("a"));
    world.phase("a", Phase::Running).await;
    assert!(world.spawns("a").is_empty());
}

#[tokio::test]
async fn process_that_a_dead_orchestrator_started_should_be_ended_if_it_never_registers() {
    let world = World::new().await;
    world.behave("a", POLITE);
    world.declare(&[("a", "1")]);
    let process = world.start(&world.fleet, "a");
    let limits = Limits { register: Duration::from_millis(500), ..settings().limits };
    let _control = world.control(Settings { limits, ..settings() }).await;
    dead(&process).await;
    assert_eq!(world.signals("a")[0], "term");
    let second = world.spawned("a", 1).await;
    assert_ne!(second, process);
}

#[tokio::test]
async fn stray_of_the_fleet_should_be_ended_and_another_fleets_left_alone() {
    let world = World::new().await;
    let stray = world.start(&world.fleet, "stray");
    let foreign = world.start(&format!("{}-other", world.fleet), "stray");
    let control = world.control(settings()).await;
    dead(&stray).await;
    world.phase("stray", Phase::Gone).await;
    control.looked(2).await;
    assert!(foreign.is_alive());
    kill9(&foreign);
}

#[tokio::test]
async fn newer_process_of_a_name_should_stay_and_the_older_be_ended_with_what_it_runs() {
    let world = World::new().await;
    world.behave("a", STUBBORN);
    world.declare(&[("a", "1")]);
    let limits = Limits { grace: Duration::from_millis(300), ..settings().limits };
    let control = world.control(Settings { limits, ..settings() }).await;
    let older = world.run(&control, "a", "1", 1).await;
    let attempt = world.start_attempt(&older);
    signal(&older.process, Signal::STOP);
    let newer = world.start(&world.fleet, "a");
    control.looked(1).await;
    assert!(older.process.is_alive(), "ended before the other took the name");
    let newer = world.register("a", newer, "1").await;
    control.waker.wake(agent("a"));
    dead(&older.process).await;
    dead(&attempt).await;
    control.looked(2).await;
    assert!(newer.process.is_alive());
    let agent = world.agent("a").await;
    assert_eq!(agent.registered.unwrap().incarnation, newer.incarnation);
    assert_eq!((agent.status.phase, agent.status.restarts), (Some(Phase::Running), 0));
    assert_eq!(world.spawns("a").len(), 1);
}

#[tokio::test]
async fn newest_incarnation_should_stay_though_its_process_is_older() {
    let world = World::new().await;
    world.behave("a", POLITE);
    world.declare(&[("a", "1")]);
    let older = world.start(&world.fleet, "a");
    let newer = wait_until("a process that started later", DEADLINE, async || {
        let newer = world.start(&world.fleet, "a");
        if newer.start_time > older.start_time {
            return Ok(newer);
        }
        kill9(&newer);
        Err(newer.to_string())
    })
    .await;
    world.register("a", newer, "1").await;
    let last = world.register("a", older, "1").await;
    let limits = Limits { register: Duration::from_millis(500), ..settings().limits };
    let control = world.control(Settings { limits, ..settings() }).await;
    // For all that is known it is about to register: it has the time for that.
    dead(&newer).await;
    control.looked(2).await;
    assert!(older.is_alive());
    let agent = world.agent("a").await;
    assert_eq!(agent.registered.unwrap().incarnation, last.incarnation);
    assert_eq!((agent.status.phase, agent.status.restarts), (Some(Phase::Running), 0));
    assert!(world.spawns("a").is_empty());
}

#[tokio::test]
async fn process_that_was_seen_to_lose_its_name_should_be_ended_at_once() {
    let world = World::new().await;
    world.behave("a", POLITE);
    world.declare(&[("a", "1")]);
    let older = world.start(&world.fleet, "a");
    let control = world.control(settings()).await;
    control.looked(1).await;
    let newer = world.start(&world.fleet, "a");
    world.register("a", newer, "1").await;
    // Not looked at in between: it is as if both had come at once.
    world.register("a", older, "1").await;
    control.looked(1).await;
    let last = world.register("a", newer, "1").await;
    control.waker.wake(agent("a"));
    dead(&older).await;
    control.looked(2).await;
    assert!(last.process.is_alive());
    assert_eq!(world.agent("a").await.status.restarts, 0);
}

#[tokio::test]
async fn reused_pid_should_count_as_dead_and_its_process_be_left_alone() {
    let world = World::new().await;
    world.declare(&[("a", "1")]);
    let bystander = world.start_bystander();
    let gone = Identity { start_time: bystander.start_time - 1, ..bystander };
    let dead = world.register("a", gone, "1").await;
    let other = world.register("undeclared", gone, "1").await;
    let task = world.claim(&dead).await.task;
    let control = world.control(settings()).await;
    world.wait_for_state(&task, State::Ready).await;
    world.run(&control, "a", "1", 1).await;
    world.phase("undeclared", Phase::Gone).await;
    assert_eq!(world.agent(other.name.as_str()).await.registered, None);
    control.looked(2).await;
    assert!(bystander.is_alive());
    assert_eq!(world.signals("bystander"), [""; 0]);
}

#[tokio::test]
async fn agent_of_another_host_should_be_left_alone_while_it_beats() {
    let world = World::new().await;
    world.declare(&[("a", "1")]);
    let bystander = world.start_bystander();
    world.register_at("there", "a", bystander, "1").await;
    let limits = Limits { register: LONG, grace: LONG, ttl: LONG };
    let control = world.control(Settings { limits, ..settings() }).await;
    world.phase("a", Phase::Running).await;
    world.declare(&[]);
    control.looked(2).await;
    assert!(world.agent("a").await.registered.is_some());
    assert!(world.spawns("a").is_empty());
    assert_eq!(world.signals("bystander"), [""; 0]);
}
