//! Whether each agent gives signs of life, as it is recorded.

use std::time::Duration;

use store::agent::Beat;
use testkit::{DEADLINE, wait_until};

use crate::world::{AGENT_TTL_MS, LONG_TTL, World, agent};

const TTL: Duration = Duration::from_secs(2);

impl World {
    async fn liveness(&self, name: &str) -> Option<String> {
        self.store.agent(&agent(name)).await.unwrap().status.liveness
    }

    async fn wait_for_liveness(&self, name: &str, word: &str) {
        wait_until(&format!("{name} is {word}"), DEADLINE, async || {
            let now = self.liveness(name).await;
            if now.as_deref() == Some(word) { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await;
    }

    /// What was said of `name`'s liveness, in order.
    async fn said(&self, name: &str) -> Vec<String> {
        let events = self.store.last_events(1_000).await.unwrap();
        let of_agent = events
            .iter()
            .filter(|event| event.kind == "agent-liveness" && event.field("agent") == name);
        of_agent.map(|event| event.field("liveness").to_owned()).collect()
    }
}

#[tokio::test]
async fn liveness_should_follow_the_beat_and_be_recorded_on_change_only() {
    let world = World::new(&["task-001"]).await;
    let a = agent("a");
    let running = world.start(TTL).await;
    running.wait_for_looks(2).await;
    assert_eq!(world.liveness("a").await, None, "an agent that never was is not gone");

    let incarnation = world.register(&a, 1).await;
    world.wait_for_liveness("a", "beating").await;
    world.wait_for_liveness("a", "silent").await;
    let beat = world.store.beat(&a, incarnation, AGENT_TTL_MS, None, "").await.unwrap();
    assert!(matches!(beat, Beat::Ok { .. }));
    world.wait_for_liveness("a", "beating").await;
    assert!(world.store.deregister(&a, incarnation, "asked to").await.unwrap());
    world.wait_for_liveness("a", "gone").await;
    running.wait_for_looks(3).await;
    assert_eq!(world.said("a").await, ["beating", "silent", "beating", "gone"]);
    // One that is not declared is watched as well, until its end.
    world.declare(&[]);
    world.register(&a, 2).await;
    world.wait_for_liveness("a", "beating").await;
}

#[tokio::test]
async fn beating_agent_should_stay_so_over_terms() {
    let world = World::new(&["task-001"]).await;
    let a = agent("a");
    let incarnation = world.register(&a, 1).await;
    for _ in 0..2 {
        let running = world.start(TTL).await;
        let looks = running.stats.snapshot().resyncs + 150;
        wait_until("many looks", DEADLINE, async || {
            world.store.beat(&a, incarnation, AGENT_TTL_MS, None, "").await.unwrap();
            let now = running.stats.snapshot().resyncs;
            if now >= looks { Ok(()) } else { Err(now.to_string()) }
        })
        .await;
    }
    assert_eq!(world.said("a").await, ["beating"]);
}

#[tokio::test]
async fn silent_agent_should_stay_so_over_terms_until_it_beats() {
    let world = World::new(&["task-001"]).await;
    let a = agent("a");
    let incarnation = world.register(&a, 1).await;
    let running = world.start(TTL).await;
    world.wait_for_liveness("a", "silent").await;
    drop(running);
    let running = world.start(LONG_TTL).await;
    running.wait_for_looks(3).await;
    assert_eq!(world.said("a").await, ["beating", "silent"]);
    world.store.beat(&a, incarnation, AGENT_TTL_MS, None, "").await.unwrap();
    world.wait_for_liveness("a", "beating").await;
}

/// We and the agents are stopped together for longer than a TTL and go on: this
/// runtime has one thread, so a thread that sleeps stops everything of this process.
#[tokio::test]
async fn controller_that_was_stopped_should_look_again_before_it_calls_an_agent_silent() {
    let world = World::new(&["task-001"]).await;
    let a = agent("a");
    let incarnation = world.register(&a, 1).await;
    let running = world.start(TTL).await;
    world.wait_for_liveness("a", "beating").await;
    running.wait_for_looks(3).await;
    std::thread::sleep(TTL + TTL / 2);
    running.wait_for_looks(3).await;
    world.store.beat(&a, incarnation, AGENT_TTL_MS, None, "").await.unwrap();
    running.wait_for_looks(3).await;
    assert_eq!(world.said("a").await, ["beating"]);
}
