//! Agents whose beat stands still, and time in which nobody could beat.

use std::time::Duration;

use agent_controller::Settings;
use agent_controller::plan::Limits;
use model::agent::Phase;
use model::task::State;
use process::Signal;
use testkit::{DEADLINE, wait_until};

use crate::common::{Control, LONG, TTL_MS, World, dead, settings, signal};

const TTL: Duration = Duration::from_secs(4);

/// All agents are looked at four times per TTL by themselves.
fn short_ttl() -> Settings {
    let limits = Limits { ttl: TTL, register: LONG, grace: LONG };
    Settings { limits, ..settings() }
}

/// Waits for looks without asking for any.
async fn looks(control: &Control, times: u64) {
    let target = control.stats.snapshot().resyncs + times;
    wait_until("the controller has looked by itself", DEADLINE, async || {
        let now = control.stats.snapshot();
        if now.resyncs >= target { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
}

#[tokio::test]
async fn silent_agent_should_be_killed_and_replaced_and_a_beating_one_never() {
    let world = World::new().await;
    world.declare(&[("silent", "1"), ("beating", "1")]);
    let control = world.control(short_ttl()).await;
    let silent = world.run(&control, "silent", "1", 1).await;
    let beating = world.run(&control, "beating", "1", 1).await;
    let task = world.claim(&silent).await.task;
    let _beats = world.beat(&beating);
    signal(&silent.process, Signal::STOP);
    dead(&silent.process).await;
    world.wait_for_state(&task, State::Ready).await;
    let second = world.run(&control, "silent", "1", 2).await;
    let _more = world.beat(&second);
    // More than another TTL.
    looks(&control, 6).await;
    assert!(beating.process.is_alive() && second.process.is_alive());
    assert_eq!((world.spawns("beating").len(), world.spawns("silent").len()), (1, 2));
    let status = world.agent("silent").await.status;
    assert_eq!((status.phase, status.restarts), (Some(Phase::Running), 1));
}

/// Half a TTL without a beat, then more than a TTL without Redis: that makes more than
/// a TTL only for those who count the latter.
#[tokio::test]
async fn redis_that_was_away_should_be_no_silence_of_the_agents() {
    let world = World::new().await;
    world.declare(&[("a", "1")]);
    let control = world.control(short_ttl()).await;
    let a = world.run(&control, "a", "1", 1).await;
    looks(&control, 2).await;
    world.redis.pause();
    tokio::time::sleep(TTL + TTL / 2).await;
    world.redis.resume();
    // The look that waited has begun before the pause: two more are the first new ones.
    looks(&control, 2).await;
    assert!(a.process.is_alive(), "killed for time in which nobody could beat");
    let beats = world.beat(&a);
    looks(&control, 5).await;
    assert!(a.process.is_alive());
    assert_eq!(world.spawns("a").len(), 1);
    // It is no amnesty.
    drop(beats);
    dead(&a.process).await;
}

/// This runtime has one thread: a thread that sleeps stops the controller, as SIGSTOP
/// or a paused virtual machine would.
#[tokio::test]
async fn controller_that_was_stopped_should_look_again_before_it_kills() {
    let world = World::new().await;
    world.declare(&[("a", "1")]);
    let control = world.control(short_ttl()).await;
    let a = world.run(&control, "a", "1", 1).await;
    looks(&control, 3).await;
    std::thread::sleep(TTL + TTL / 2);
    looks(&control, 1).await;
    assert!(a.process.is_alive(), "killed for time in which nobody looked");
    dead(&a.process).await;
}

/// Waits until Redis holds so many clients back that want to write.
async fn held_back(world: &World, clients: usize) {
    wait_until("Redis holds writes back", DEADLINE, async || {
        let list = world.redis_says("CLIENT LIST");
        let is_held = |line: &&str| line.contains(" flags=b ") && line.contains(" cmd=fcall ");
        let found = list.lines().filter(is_held).count();
        if found == clients { Ok(()) } else { Err(list) }
    })
    .await;
}

/// Regression: it was killed for the silence that a pass had seen before it was held up.
#[tokio::test]
async fn agent_that_beats_again_while_the_pass_is_held_up_should_stay() {
    let world = World::new().await;
    world.declare(&[("a", "1")]);
    let control = world.control(short_ttl()).await;
    let a = world.run(&control, "a", "1", 1).await;
    control.looked(1).await;
    // Reads go on. The first write is the one right before the kill, the second a beat.
    world.redis_says("CLIENT PAUSE 600000 WRITE");
    held_back(&world, 1).await;
    let (other, of) = (world.other_store().await, a.clone());
    let beat = tokio::spawn(async move {
        other.beat(&of.name, of.incarnation, TTL_MS, None, "").await.unwrap();
    });
    held_back(&world, 2).await;
    world.redis_says("CLIENT UNPAUSE");
    beat.await.unwrap();
    control.looked(1).await;
    assert!(a.process.is_alive(), "killed for a silence that was over");
    assert_eq!(world.agent("a").await.status.phase, Some(Phase::Running));
    dead(&a.process).await;
}

#[tokio::test]
async fn silent_agent_of_another_host_should_be_buried_and_replaced_here() {
    let world = World::new().await;
    world.declare(&[("a", "1")]);
    let bystander = world.start_bystander();
    let there = world.register_at("there", "a", bystander, "1").await;
    let task = world.claim(&there).await.task;
    let control = world.control(short_ttl()).await;
    world.wait_for_state(&task, State::Ready).await;
    let here = world.run(&control, "a", "1", 1).await;
    let _beats = world.beat(&here);
    assert!(bystander.is_alive(), "a process of this host that has the same pid was ended");
    assert_eq!(world.signals("bystander"), [""; 0]);
}

/// The same of one whose process only its own host sees.
#[tokio::test]
async fn agent_of_another_host_that_beats_again_meanwhile_should_not_be_buried() {
    let world = World::new().await;
    world.declare(&[("a", "1")]);
    let there = world.register_at("there", "a", world.start_bystander(), "1").await;
    let control = world.control(short_ttl()).await;
    control.looked(1).await;
    // Redis lets them go on in their order: first the beat, then the burial.
    world.redis_says("CLIENT PAUSE 600000 WRITE");
    let (other, of) = (world.other_store().await, there.clone());
    let beat = tokio::spawn(async move {
        other.beat(&of.name, of.incarnation, TTL_MS, None, "").await.unwrap();
    });
    held_back(&world, 1).await;
    held_back(&world, 2).await;
    world.redis_says("CLIENT UNPAUSE");
    beat.await.unwrap();
    control.looked(1).await;
    let holder = world.agent("a").await.registered.expect("buried for a silence that was over");
    assert_eq!(holder.incarnation, there.incarnation);
    assert!(world.spawns("a").is_empty());
    // Silent again.
    world.run(&control, "a", "1", 1).await;
}
