//! Started once, released and replaced when it dies, slower and slower.

use std::time::Duration;

use agent_controller::Settings;
use model::agent::Phase;
use model::task::State;
use reconcile::Policy;
use testkit::{DEADLINE, wait_until};

use crate::common::{World, agent, dead, kill9, settings};

#[tokio::test]
async fn declared_agent_should_be_started_once_and_run_when_it_registers() {
    let world = World::new().await;
    world.declare(&[("a", "1")]);
    let control = world.control(settings()).await;
    let process = world.spawned("a", 1).await;
    world.phase("a", Phase::Starting).await;
    control.looked(2).await;
    world.register("a", process, "1").await;
    control.waker.wake(agent("a"));
    world.phase("a", Phase::Running).await;
    control.looked(2).await;
    assert_eq!(world.spawns("a").len(), 1);
    assert_eq!(world.phases("a").await, ["starting", "running"]);
    let status = world.agent("a").await.status;
    assert_eq!((status.restarts, status.last_exit, status.error), (0, None, None));
    assert!(process.is_alive());
}

#[tokio::test]
async fn agent_that_is_declared_later_should_be_started_on_the_wake() {
    let world = World::new().await;
    let control = world.control(settings()).await;
    control.looked(1).await;
    world.declare(&[("a", "1")]);
    control.waker.resync();
    world.run(&control, "a", "1", 1).await;
}

#[tokio::test]
async fn killed_agent_should_lose_its_task_with_all_that_ran_for_it_and_be_replaced_at_once() {
    let world = World::new().await;
    world.declare(&[("a", "1"), ("b", "1")]);
    let control = world.control(settings()).await;
    let first = world.run(&control, "a", "1", 1).await;
    let other = world.run(&control, "b", "1", 1).await;
    let task = world.claim(&first).await.task;
    let (attempt, others) = (world.start_attempt(&first), world.start_attempt(&other));

    kill9(&first.process);
    world.wait_for_state(&task, State::Ready).await;
    assert!(!attempt.is_alive(), "the task is claimable while its attempt runs");
    let second = world.run(&control, "a", "1", 2).await;
    assert!(second.incarnation > first.incarnation);
    assert_eq!(world.claim(&second).await.task, task);
    assert_eq!(world.phases("a").await, ["starting", "running", "starting", "running"]);
    let status = world.agent("a").await.status;
    assert_eq!((status.restarts, status.next_start), (1, None));
    let exit = status.last_exit.unwrap();
    assert!(exit.starts_with(&format!("process {} ended after", first.process.pid)), "{exit}");
    assert!(others.is_alive() && other.process.is_alive(), "another agent's was ended");
}

/// Redis is made to refuse the burial: then the order can be seen.
#[tokio::test]
async fn task_should_stay_held_until_what_ran_for_it_is_dead() {
    let world = World::new().await;
    world.declare(&[("a", "1")]);
    let control = world.control(settings()).await;
    let first = world.run(&control, "a", "1", 1).await;
    let task = world.claim(&first).await.task;
    let attempt = world.start_attempt(&first);
    world.redis_says("RENAME leases aside\r\nSET leases wrong");

    kill9(&first.process);
    dead(&attempt).await;
    wait_until("the pass fails", DEADLINE, async || {
        let now = control.stats.snapshot();
        if now.failures > 0 { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    assert_eq!(world.state(&task).await, State::Running);
    assert_eq!(world.spawns("a").len(), 1, "started beside the lease of the dead one");
    world.redis_says("DEL leases\r\nRENAME aside leases");
    world.wait_for_state(&task, State::Ready).await;
    world.spawned("a", 2).await;
}

#[tokio::test]
async fn agent_that_dies_again_and_again_should_be_slowed_down_and_never_given_up() {
    let world = World::new().await;
    world.declare(&[("a", "1")]);
    let control = world.control(settings()).await;
    let mut killed = Vec::new();
    for nth in 1..=6 {
        let running = world.run(&control, "a", "1", nth).await;
        killed.push(std::time::Instant::now());
        kill9(&running.process);
    }
    world.spawned("a", 7).await;

    let waits: Vec<Duration> =
        killed.iter().zip(&world.spawns("a")[1..]).map(|(from, (_, to))| *to - *from).collect();
    // 0.2 s and 0.4 s, a fifth shorter where the jitter wants it.
    for (nth, least) in [(1, 160), (2, 266), (3, 266), (4, 266), (5, 266)] {
        assert!(waits[nth] >= Duration::from_millis(least), "{nth}: {waits:?}");
    }
    world.phase("a", Phase::Starting).await;
    let status = world.agent("a").await.status;
    assert_eq!((status.restarts, status.next_start), (6, None));
    let waited: Vec<String> = world.phases("a").await;
    let waited: Vec<&str> = waited
        .iter()
        .map(String::as_str)
        .filter(|p| !["starting", "running"].contains(p))
        .collect();
    assert_eq!(waited, ["restarting", "crash-loop", "crash-loop", "crash-loop", "crash-loop"]);
    let events = world.store.last_events(1_000).await.unwrap();
    let loops = events.iter().filter(|event| event.field("phase") == "crash-loop");
    assert!(loops.clone().all(|event| event.field("next_start").ends_with('Z')));
}

#[tokio::test]
async fn agent_that_was_well_for_long_should_be_started_at_once_again() {
    let world = World::new().await;
    world.declare(&[("a", "1")]);
    let respawn = Policy { reset_after: Duration::from_secs(1), ..settings().respawn };
    let control = world.control(Settings { respawn, ..settings() }).await;
    for nth in 1..=3 {
        kill9(&world.run(&control, "a", "1", nth).await.process);
    }
    let well = world.run(&control, "a", "1", 4).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    kill9(&well.process);
    world.run(&control, "a", "1", 5).await;
    let phases = world.phases("a").await;
    assert!(phases.ends_with(&["running", "starting", "running"].map(str::to_owned)), "{phases:?}");
    assert_eq!(world.agent("a").await.status.restarts, 4);
}
