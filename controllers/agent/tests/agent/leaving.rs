//! Agents that are declared no more, or differently.

use std::time::Duration;

use agent_controller::Settings;
use agent_controller::plan::Limits;
use model::agent::Phase;
use model::task::State;
use testkit::{DEADLINE, wait_until};

use crate::common::{LONG, POLITE, STUBBORN, World, dead, kill9, settings};

#[tokio::test]
async fn agent_that_is_declared_no_more_should_be_terminated_and_stay_away() {
    let world = World::new().await;
    world.behave("a", POLITE);
    world.declare(&[("a", "1"), ("b", "1")]);
    let control = world.control(settings()).await;
    let (a, b) = (world.run(&control, "a", "1", 1).await, world.run(&control, "b", "1", 1).await);
    let task = world.claim(&a).await.task;
    let attempt = world.start_attempt(&a);
    world.declare(&[("b", "1")]);
    control.waker.resync();
    world.phase("a", Phase::Gone).await;
    assert!(!a.process.is_alive() && !attempt.is_alive());
    assert_eq!(world.signals("a"), ["term"]);
    assert_eq!(world.state(&task).await, State::Ready);
    control.looked(2).await;
    assert_eq!(world.phases("a").await, ["starting", "running", "draining", "gone"]);
    let agent = world.agent("a").await;
    assert_eq!((agent.registered, agent.status.restarts), (None, 0));
    assert_eq!(world.spawns("a").len(), 1);
    assert!(b.process.is_alive());
}

#[tokio::test]
async fn agent_that_ignores_sigterm_should_be_killed_after_the_grace() {
    let world = World::new().await;
    world.behave("a", STUBBORN);
    world.declare(&[("a", "1")]);
    let grace = Duration::from_millis(500);
    let limits = Limits { grace, ..settings().limits };
    let control = world.control(Settings { limits, ..settings() }).await;
    let a = world.run(&control, "a", "1", 1).await;
    let begin = std::time::Instant::now();
    world.declare(&[]);
    control.waker.resync();
    dead(&a.process).await;
    assert!(begin.elapsed() >= grace);
    world.phase("a", Phase::Gone).await;
    assert_eq!(world.signals("a"), ["term"]);
    assert_eq!(world.agent("a").await.status.restarts, 0);

    // It comes back at once: that was no death.
    world.declare(&[("a", "1")]);
    control.waker.resync();
    world.run(&control, "a", "1", 2).await;
    assert!(!world.phases("a").await.contains(&"restarting".to_owned()));
}

#[tokio::test]
async fn changed_agent_should_retire_once_keep_its_task_and_be_replaced_when_it_leaves() {
    let world = World::new().await;
    world.declare(&[("a", "1")]);
    let control = world.control(settings()).await;
    let a = world.run(&control, "a", "1", 1).await;
    let task = world.claim(&a).await.task;
    world.declare(&[("a", "2")]);
    control.waker.resync();
    world.phase("a", Phase::Draining).await;
    control.looked(4).await;
    wait_until("the signal arrives", DEADLINE, async || {
        let signals = world.signals("a");
        if signals.is_empty() { Err(String::new()) } else { Ok(()) }
    })
    .await;
    assert_eq!(world.signals("a"), ["usr1"]);
    assert!(a.process.is_alive());
    assert_eq!(world.state(&task).await, State::Running);
    assert_eq!(world.spawns("a").len(), 1);

    // It leaves in order: it gives its name back, and ends a little later.
    assert!(world.store.deregister(&a.name, a.incarnation, "it was retired").await.unwrap());
    control.waker.wake(a.name.clone());
    control.looked(2).await;
    assert!(a.process.is_alive(), "it was not let to end by itself");
    assert_eq!(world.spawns("a").len(), 1, "started beside one that is about to end");
    world.tell(&a.process, "exit 0");
    world.run(&control, "a", "2", 2).await;
    assert_eq!(world.phases("a").await, ["starting", "running", "draining", "starting", "running"]);
    assert_eq!(world.agent("a").await.status.restarts, 0);
    assert_eq!(world.signals("a"), ["usr1"]);
}

#[tokio::test]
async fn retiring_agent_that_is_killed_should_lose_its_task_and_be_replaced_at_once() {
    let world = World::new().await;
    world.declare(&[("a", "1")]);
    let control = world.control(settings()).await;
    let a = world.run(&control, "a", "1", 1).await;
    let task = world.claim(&a).await.task;
    world.declare(&[("a", "2")]);
    control.waker.resync();
    world.phase("a", Phase::Draining).await;
    kill9(&a.process);
    world.wait_for_state(&task, State::Ready).await;
    world.run(&control, "a", "2", 2).await;
    assert_eq!(world.agent("a").await.status.restarts, 0);
}

#[tokio::test]
async fn agent_that_gives_its_name_back_and_stays_should_be_ended_after_the_grace() {
    let world = World::new().await;
    world.behave("a", STUBBORN);
    world.declare(&[("a", "1")]);
    let grace = Duration::from_millis(300);
    let limits = Limits { grace, ttl: LONG, register: LONG };
    let control = world.control(Settings { limits, ..settings() }).await;
    let a = world.run(&control, "a", "1", 1).await;
    assert!(world.store.deregister(&a.name, a.incarnation, "of itself").await.unwrap());
    control.waker.wake(a.name.clone());
    dead(&a.process).await;
    world.run(&control, "a", "1", 2).await;
    assert_eq!(world.signals("a"), ["term"]);
    assert_eq!(world.agent("a").await.status.restarts, 1);
}
