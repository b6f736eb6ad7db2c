//! `sysg stop` ends everything of ours, and loses nothing.

use model::task::State;
use process::Signal;
use testkit::wait_until;

use crate::support::{DEADLINE, agents, fleet, goal, identity, signal, task};

#[tokio::test]
async fn sysg_stop_should_leave_no_process_and_every_task_ready() {
    let forever = "sleep 1000 & setsid sleep 1000 & wait";
    let tasks = task("task-001: One", forever) + &task("task-002: Two", forever);
    let fleet = fleet(agents(&["a_agent", "b_agent"]) + &goal(&tasks)).start().await;
    fleet.until_task("task-001", State::Running).await;
    fleet.until_task("task-002", State::Running).await;
    // An orphan of an earlier crash: systemg knows nothing of it any more.
    let [orchestrator] = fleet.orchestrators()[..] else { panic!("not one orchestrator") };
    let terms = fleet.events("leader").await.len();
    signal(orchestrator, Signal::KILL);
    wait_until("another orchestrator leads", DEADLINE, || async {
        let led = fleet.events("leader").await.len();
        if led > terms { Ok(()) } else { Err(led.to_string()) }
    })
    .await;
    let before = fleet.until_registered("a_agent").await;
    assert!(identity(&before).is_alive());

    fleet.project.stop();
    wait_until("nothing of the project runs but the supervisor", DEADLINE, || async {
        let supervisor = fleet.project.supervisor();
        let mut left = fleet.project.processes();
        left.retain(|process| Some(*process) != supervisor);
        if left.is_empty() { Ok(()) } else { Err(fleet.describe(&left)) }
    })
    .await;

    // What Redis kept, seen by a Redis without a fleet.
    let mut redis = fleet.redis_alone().await;
    for id in ["task-001", "task-002"] {
        assert_eq!(fleet.redis(&format!("HGET task:{id} status")), "ready", "{id}");
    }
    assert_eq!(fleet.redis("HLEN leases"), "0");
    redis.kill().unwrap();
    redis.wait().unwrap();
}
