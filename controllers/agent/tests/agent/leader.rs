//! A controller whose term is over.

use std::time::Duration;

use agent_controller::Settings;
use agent_controller::plan::Limits;
use model::task::State;
use store::lead::Controller;
use testkit::{DEADLINE, wait_until};

use crate::common::{LONG, POLITE, World, dead, kill9, settings};

#[tokio::test]
async fn former_leader_should_start_end_and_release_nothing_and_say_so() {
    let world = World::new().await;
    let names = ["changed", "dead", "silent", "undeclared"];
    for name in names {
        world.behave(name, POLITE);
    }
    world.declare(&names.map(|name| (name, "1")));
    let control = world.control(settings()).await;
    let mut running = Vec::new();
    for name in names {
        running.push(world.run(&control, name, "1", 1).await);
    }
    drop(control);
    let [changed, gone, silent, undeclared] = &running[..] else { panic!("{names:?}") };
    let task = world.claim(gone).await.task;
    let attempt = world.start_attempt(gone);
    let _beats = [world.beat(changed), world.beat(undeclared)];
    kill9(&gone.process);
    dead(&gone.process).await;
    let stray = world.start(&world.fleet, "stray");
    world.declare(&[("changed", "2"), ("dead", "1"), ("silent", "1"), ("new", "1")]);

    let old = world.lead(Controller::Agent, "orch-1").await;
    world.lead(Controller::Agent, "orch-2").await;
    let before = world.redis_says("XLEN events");
    let limits = Limits { ttl: Duration::from_secs(1), register: LONG, grace: LONG };
    let control = world.control_under(old, Settings { limits, ..settings() });
    let mut refused = std::collections::BTreeSet::new();
    wait_until("every pass is refused", DEADLINE, || {
        let now = control.stats.snapshot();
        if let Some(error) = now.last_error.filter(|e| e.text.contains("another process leads now"))
        {
            refused.insert(error.key);
        }
        // All six, and the silent one for so long that it counts as silent.
        let enough = now.passes >= 60 && refused.len() == 6;
        let seen = format!("{refused:?} after {} passes", now.passes);
        std::future::ready(if enough { Ok(()) } else { Err(seen) })
    })
    .await;
    for name in names {
        assert_eq!(world.spawns(name).len(), 1, "{name}");
        assert_eq!(world.signals(name), [""; 0], "{name}");
    }
    assert_eq!(world.spawns("new").len(), 0);
    for process in [&changed.process, &silent.process, &undeclared.process, &stray, &attempt] {
        assert!(process.is_alive());
    }
    assert_eq!(world.state(&task).await, State::Running);
    assert_eq!(world.redis_says("XLEN events"), before);
}
