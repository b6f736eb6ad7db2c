//! Who may act for which controllers.

use model::lease::{Epoch, Pulse};
use store::Lead;
use store::lead::{Answer, Candidate, Controller, Leader};

use crate::world::{SECOND, T0, World, candidate, goal};

async fn ask(
    world: &World,
    holder: &str,
    controllers: &[Controller],
    dead: &[(Controller, Pulse)],
) -> Answer {
    world.store.lead(&candidate(holder), controllers, dead).await.unwrap()
}

fn held(answer: Answer) -> Epoch {
    match answer {
        Answer::Held(epoch) => epoch,
        Answer::Standby(leader) => panic!("stands by: {leader:?}"),
    }
}

fn standby(answer: Answer) -> Leader {
    match answer {
        Answer::Standby(leader) => leader,
        Answer::Held(epoch) => panic!("leads with {epoch}"),
    }
}

async fn free() -> World {
    let world = World::new().await;
    world.raw::<()>(&["FLUSHALL"]);
    world
}

/// Of all controllers, which beat together.
async fn pulse(world: &World) -> Pulse {
    let leaders = world.store.leaders().await.unwrap();
    let pulse = leaders[0].pulse;
    assert!(leaders.iter().all(|leader| leader.pulse == pulse), "{leaders:?}");
    pulse
}

#[tokio::test]
async fn lead_should_be_taken_for_all_controllers_or_none() {
    let world = free().await;
    held(ask(&world, "one", &[Controller::Dag, Controller::Lease], &[]).await);
    let before = world.dump();
    let leader = standby(ask(&world, "two", &Controller::ALL, &[]).await);
    assert_eq!((leader.controller, leader.who), (Controller::Dag, candidate("one")));
    assert_eq!(world.dump(), before, "not even the free ones");
    held(ask(&world, "two", &[Controller::Agent, Controller::Heartbeat], &[]).await);
    let leaders = world.store.leaders().await.unwrap();
    let who: Vec<(&str, &str)> =
        leaders.iter().map(|l| (l.controller.as_str(), l.who.holder.as_str())).collect();
    assert_eq!(who, [("agent", "two"), ("dag", "one"), ("heartbeat", "two"), ("lease", "one")]);
}

#[tokio::test]
async fn leader_should_keep_its_epoch_and_its_beat_should_grow() {
    let world = free().await;
    let epoch = held(ask(&world, "one", &Controller::ALL, &[]).await);
    let mut last = pulse(&world).await;
    for _ in 0..3 {
        assert_eq!(held(ask(&world, "one", &Controller::ALL, &[]).await), epoch);
        let now = pulse(&world).await;
        assert!(now.epoch == epoch && now.beat > last.beat, "{now} after {last}");
        last = now;
    }
    assert_eq!(world.events("leader").await.len(), 4, "one for each controller");
}

/// Regression: it counted on from the older value, came to one that others had seen, and looked
/// as if it stood still.
#[tokio::test]
async fn beat_of_a_restored_redis_should_be_none_that_was_seen() {
    let world = free().await;
    let epoch = held(ask(&world, "one", &Controller::ALL, &[]).await);
    let older = world.hash("orchestrator:leader");
    let candidate = candidate("one");
    let later = world.later(5);
    later.lead(&candidate, &Controller::ALL, &[]).await.unwrap();
    let seen = pulse(&world).await;
    for (controller, entry) in &older {
        world.raw::<()>(&["HSET", "orchestrator:leader", controller, entry]);
    }
    let later = world.later(10);
    assert_eq!(held(later.lead(&candidate, &Controller::ALL, &[]).await.unwrap()), epoch);
    let now = pulse(&world).await;
    assert!(now.beat > seen.beat, "{now} after {seen}");
}

#[tokio::test]
async fn takeover_should_need_the_pulse_at_which_the_leader_was_seen_dead() {
    let world = free().await;
    let first = held(ask(&world, "one", &Controller::ALL, &[]).await);
    let at = |pulse: Pulse| Controller::ALL.map(|controller| (controller, pulse));
    let seen = pulse(&world).await;
    held(ask(&world, "one", &Controller::ALL, &[]).await);
    let before = world.dump();
    standby(ask(&world, "two", &Controller::ALL, &at(seen)).await);
    let now = pulse(&world).await;
    standby(ask(&world, "two", &Controller::ALL, &at(now)[..3]).await);
    assert_eq!(world.dump(), before);
    let second = held(ask(&world, "two", &Controller::ALL, &at(now)).await);
    assert!(second > first);
    // The lost reply's repetition gives the same.
    assert_eq!(held(ask(&world, "two", &Controller::ALL, &at(now)).await), second);
    let leader = standby(ask(&world, "one", &Controller::ALL, &[]).await);
    assert_eq!(leader.who.holder, "two");
}

#[tokio::test]
async fn resigned_lead_should_be_had_at_once_under_a_higher_epoch() {
    let world = free().await;
    let mut last = Epoch(0);
    for (n, holder) in ["one", "two", "two", "one"].into_iter().enumerate() {
        // Also when the clock goes back.
        let store = world.store.at(T0 - n as u64 * SECOND);
        let answer = store.lead(&candidate(holder), &Controller::ALL, &[]).await.unwrap();
        let epoch = held(answer);
        assert!(epoch > last, "{epoch} after {last}");
        last = epoch;
        // Who does not lead cannot resign for who does.
        world.store.resign(&candidate("other"), &Controller::ALL).await.unwrap();
        assert_eq!(world.store.leaders().await.unwrap().len(), 4);
        world.store.resign(&candidate(holder), &Controller::ALL).await.unwrap();
        world.store.resign(&candidate(holder), &Controller::ALL).await.unwrap();
        assert!(world.store.leaders().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn lead_of_one_controller_should_not_do_for_another() {
    let world = free().await;
    let dag = held(ask(&world, "one", &[Controller::Dag], &[]).await);
    held(
        world
            .store
            .at(T0 + SECOND)
            .lead(&candidate("two"), &[Controller::Lease], &[])
            .await
            .unwrap(),
    );
    let note = async |lead: Lead| world.store.note_goal(&lead, &goal("g"), "", &[]).await;
    note(Lead::new(Controller::Dag, dag)).await.unwrap();
    note(Lead::new(Controller::Lease, dag)).await.unwrap_err();
    note(Lead::new(Controller::Agent, dag)).await.unwrap_err();
}

#[tokio::test]
async fn leader_that_takes_more_should_fence_its_own_older_lead() {
    let world = free().await;
    let first = held(ask(&world, "one", &[Controller::Dag], &[]).await);
    let second = held(ask(&world, "one", &Controller::ALL, &[]).await);
    assert!(second > first);
    let old = Lead::new(Controller::Dag, first);
    world.store.note_goal(&old, &goal("g"), "", &[]).await.unwrap_err();
    let new = Lead::new(Controller::Dag, second);
    world.store.note_goal(&new, &goal("g"), "", &[]).await.unwrap();
}

/// Regression: an entry that nobody can read kept everybody from leading.
#[tokio::test]
async fn entry_that_cannot_be_read_should_lead_for_nobody() {
    let world = free().await;
    for entry in ["", "nonsense", "1 2", "x y z"] {
        world.raw::<()>(&["HSET", "orchestrator:leader", "dag", entry]);
        held(ask(&world, "one", &Controller::ALL, &[]).await);
        assert_eq!(world.store.leaders().await.unwrap().len(), 4, "{entry:?}");
        world.store.resign(&candidate("one"), &Controller::ALL).await.unwrap();
    }
}

#[tokio::test]
async fn concurrent_candidates_should_have_one_leader() {
    let world = free().await;
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..16 {
        let store = world.store.clone();
        asking.spawn(async move {
            let one = Candidate { holder: format!("h{n}"), ..candidate("") };
            matches!(store.lead(&one, &Controller::ALL, &[]).await.unwrap(), Answer::Held(_))
        });
    }
    let leading = asking.join_all().await.into_iter().filter(|leads| *leads).count();
    assert_eq!(leading, 1);
}

#[tokio::test]
async fn standbys_should_be_shown_until_they_end() {
    let world = World::new().await;
    world.store.report_standby("two", "{\"pid\":2}", 600_000).await.unwrap();
    world.store.report_standby("three", "{\"pid\":3}", 600_000).await.unwrap();
    let mut shown = world.store.standbys().await.unwrap();
    shown.sort();
    assert_eq!(shown, ["{\"pid\":2}", "{\"pid\":3}"]);
    world.store.end_standby("two").await.unwrap();
    assert_eq!(world.store.standbys().await.unwrap(), ["{\"pid\":3}"]);
    // One that died: its record expired.
    world.raw::<()>(&["DEL", "orchestrator:standbys:three"]);
    assert!(world.store.standbys().await.unwrap().is_empty());
}
