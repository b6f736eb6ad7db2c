//! Ending all agents of this host.

use std::time::Duration;

use agent_controller::drain;
use model::agent::Phase;
use model::task::State;
use process::{Identity, Signal};
use store::lead::Controller;

use crate::common::{HOST, POLITE, STUBBORN, World, settings, signal};

#[tokio::test]
async fn drain_should_end_all_of_the_fleet_release_what_it_held_and_nothing_else() {
    let world = World::new().await;
    world.behave("polite", POLITE);
    world.behave("stubborn", STUBBORN);
    world.behave("orphan", POLITE);
    world.declare(&["polite", "stubborn", "stopped"].map(|name| (name, "1")));
    let control = world.control(settings()).await;
    let mut tasks = Vec::new();
    let mut processes = Vec::new();
    for name in ["polite", "stubborn", "stopped"] {
        let running = world.run(&control, name, "1", 1).await;
        tasks.push(world.claim(&running).await.task);
        processes.push(running.process);
        processes.push(world.start_attempt(&running));
    }
    drop(control);
    signal(&processes[4], Signal::STOP);
    processes.push(world.start(&world.fleet, "orphan"));
    let foreign = world.start(&format!("{}-other", world.fleet), "polite");
    // For this host it looks dead, which says nothing of the other one.
    let bystander = world.start_bystander();
    let elsewhere = Identity { start_time: bystander.start_time - 1, ..bystander };
    world.register_at("there", "elsewhere", elsewhere, "1").await;

    let lead = world.lead(Controller::Agent, "orch-1").await;
    let grace = Duration::from_millis(500);
    let begin = std::time::Instant::now();
    let ended = drain(&world.store, &lead, &world.fleet, HOST, grace).await.unwrap();
    assert_eq!(ended, 4);
    assert!(begin.elapsed() >= grace, "killed without the grace");
    for process in &processes {
        assert!(!process.is_alive());
    }
    assert_eq!(world.signals("stubborn"), ["term"]);
    assert_eq!(
        (world.signals("polite"), world.signals("orphan")),
        (vec!["term".to_owned()], vec!["term".to_owned()])
    );
    for task in &tasks {
        assert_eq!(world.state(task).await, State::Ready, "{task}");
    }
    for name in ["polite", "stubborn", "stopped"] {
        let agent = world.agent(name).await;
        assert_eq!((agent.registered, agent.status.phase), (None, Some(Phase::Gone)), "{name}");
    }
    assert!(foreign.is_alive() && bystander.is_alive());
    let agent = world.agent("elsewhere").await;
    assert!(agent.registered.is_some());
    assert_eq!(agent.status.phase, None);
    signal(&foreign, Signal::KILL);
    // Twice is as good as once.
    let again = drain(&world.store, &lead, &world.fleet, HOST, grace).await.unwrap();
    assert_eq!(again, 0);
}

#[tokio::test]
async fn drain_without_redis_should_end_the_processes_and_tell_what_it_could_not_do() {
    let mut world = World::new().await;
    world.declare(&[("a", "1")]);
    let control = world.control(settings()).await;
    let a = world.run(&control, "a", "1", 1).await;
    let attempt = world.start_attempt(&a);
    drop(control);
    let lead = world.lead(Controller::Agent, "orch-1").await;
    world.redis.kill9();
    let grace = Duration::from_secs(10);
    let error = drain(&world.store, &lead, &world.fleet, HOST, grace).await.unwrap_err();
    assert!(matches!(error, agent_controller::Error::Store(_)), "{error:?}");
    assert!(!a.process.is_alive() && !attempt.is_alive());
}
