//! The way to Redis is slow, loses replies, and hangs with its connections open.

use std::collections::BTreeMap;
use std::time::Duration;

use model::goal::Status;
use model::task::State;
use testkit::{FaultProxy, Mode, free_port, wait_until};

use crate::support::{DEADLINE, Fleet, agents, fleet, goal, identity, task};

const NAMES: [&str; 3] = ["hold_agent", "a_agent", "b_agent"];
const SHORT: usize = 30;
/// Faults of one kind and another, and the pauses between them.
const STORM: [(Mode, u64); 2] = [(Mode::DropReplies, 150), (Mode::CutOnReply, 100)];
const STORMS: usize = 8;

async fn beats(fleet: &Fleet) -> BTreeMap<&'static str, (u64, u64)> {
    let mut beats = BTreeMap::new();
    for agent in NAMES {
        let now = fleet.until_registered(agent).await;
        beats.insert(agent, (now.incarnation.0, now.beat));
    }
    beats
}

async fn done(fleet: &Fleet) -> usize {
    fleet.events("task-complete").await.len()
}

#[tokio::test]
async fn bad_links_should_lose_nothing_and_repeat_nothing() {
    let held = "echo \"$ORCH_ATTEMPT\" >> held\n\
        until test -e \"$ORCH_PROJECT/go\"; do sleep 0.05; done";
    let short = "until test -e \"$ORCH_PROJECT/storm\"; do sleep 0.05; done\n\
        echo \"$ORCH_TASK $ORCH_EPOCH\" >> short";
    let mut tasks = task("held: Wait (role: hold)", held);
    for n in 0..SHORT {
        tasks += &task(&format!("s{n}: Short (role: {})", ["a", "b"][n % 2]), short);
    }
    let port = free_port();
    let proxy = FaultProxy::start(port);
    let fleet = fleet(agents(&NAMES) + &goal(&tasks))
        .lease_ttl("4")
        .redis_port(port)
        .env("REDIS_URL", &proxy.url())
        .start()
        .await;
    fleet.until_task("held", State::Running).await;
    let before = beats(&fleet).await;

    // Slow: each piece, to and fro.
    proxy.set(Mode::Delay(Duration::from_millis(100)));
    wait_until("all go on over a slow link", DEADLINE, || async {
        let now = beats(&fleet).await;
        let all = before.iter().all(|(agent, (_, beat))| now[agent].1 >= beat + 3);
        if all { Ok(()) } else { Err(format!("{before:?} {now:?}\n{}", fleet.log())) }
    })
    .await;

    // Lost replies, while there is much to say.
    fleet.project.write("storm", "");
    let lost = proxy.replies_lost();
    for (mode, ms) in STORM.into_iter().cycle().take(STORMS) {
        proxy.set(mode);
        tokio::time::sleep(Duration::from_millis(ms)).await;
        proxy.set(Mode::Forward);
        let now = done(&fleet).await;
        wait_until("something is done in between", DEADLINE, || async {
            let then = done(&fleet).await;
            if then > now || then == SHORT { Ok(()) } else { Err(fleet.log()) }
        })
        .await;
    }
    assert!(proxy.replies_lost() > lost, "nothing was lost");
    wait_until("all short tasks are done", DEADLINE, || async {
        let done = done(&fleet).await;
        if done == SHORT { Ok(()) } else { Err(format!("{done}\n{}", fleet.log())) }
    })
    .await;
    let now = beats(&fleet).await;
    assert!(before.iter().all(|(agent, (life, _))| now[agent].0 == *life), "{before:?} {now:?}");
    let mut lines: Vec<String> =
        fleet.read(fleet.work("short")).lines().map(str::to_owned).collect();
    lines.sort();
    let mut granted: Vec<String> = fleet
        .events("task-complete")
        .await
        .iter()
        .map(|event| format!("{} {}", event.field("task"), event.field("epoch")))
        .collect();
    granted.sort();
    assert_eq!(lines, granted, "a task ran without its result being the one that counts");

    // Half-open: everything stays connected, and nothing comes through.
    let agent = identity(&fleet.until_registered("hold_agent").await);
    proxy.set(Mode::Blackhole);
    wait_until("nobody works without Redis", DEADLINE, || async {
        let left = fleet.all_agent_processes();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}\n{}", fleet.log())) }
    })
    .await;
    assert!(!agent.is_alive());
    proxy.set(Mode::Forward);
    fleet.project.write("go", "");
    fleet.until_goal(Status::Complete).await;
    assert_eq!(fleet.read(fleet.work("held")), "1\n2\n");
    assert_eq!(done(&fleet).await, SHORT + 1);
    let audit = fleet.orch(&["audit"]);
    assert!(audit.status.success(), "{audit:?}");
}
