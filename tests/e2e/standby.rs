//! Two orchestrators on one Redis: one acts, the other waits.

use std::process::Child;

use model::goal::Status;
use process::Signal;
use testkit::wait_until;

use crate::support::{DEADLINE, Fleet, ORCH, agents, fleet, goal, identity, signal, task};

const WAITING: &str = "echo x >> started; until test -e \"$ORCH_PROJECT/go\"; do sleep 0.05; done";

fn second(fleet: &Fleet) -> Child {
    orchestrator(fleet, "agent,dag,lease,heartbeat")
}

/// An orchestrator beside the one that systemg runs.
fn orchestrator(fleet: &Fleet, controllers: &str) -> Child {
    let url = format!("redis://127.0.0.1:{}", fleet.redis_port);
    let sysg = testkit::sysg_path();
    let mut command = fleet.project.command(ORCH);
    command.args(["run", "--role", "orchestrator", "--instructions", "INSTRUCTIONS.md"]);
    command.args(["--redis-url", &url, "--lease-ttl", "3", "--sysg", sysg.to_str().unwrap()]);
    command.args(["--controllers", controllers]).spawn().unwrap()
}

async fn until_standby(fleet: &Fleet, pid: u32) {
    wait_until("status shows who stands by", DEADLINE, || async {
        let status = fleet.orch(&["status"]);
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        let shown = text.lines().any(|l| l.contains("stand") && l.contains(&pid.to_string()));
        if shown { Ok(()) } else { Err(text) }
    })
    .await;
}

#[tokio::test]
async fn second_orchestrator_should_stand_by_and_take_over() {
    let text = agents(&["worker_agent"]) + &goal(&task("task-001: Wait", WAITING));
    let fleet = fleet(text).start().await;
    let agent = fleet.until_registered("worker_agent").await;
    let [first] = fleet.orchestrators()[..] else { panic!("not one orchestrator") };
    let mut second = second(&fleet);
    until_standby(&fleet, second.id()).await;
    let leader = fleet.store.leaders().await.unwrap()[0].clone();
    assert_eq!(leader.who.pid, first.pid);

    // The process that systemg starts instead finds the lead taken.
    let killed = std::time::Instant::now();
    signal(first, Signal::KILL);
    wait_until("the second one leads", DEADLINE, || async {
        let leaders = fleet.store.leaders().await.unwrap();
        let led = leaders.len() == 4 && leaders.iter().all(|l| l.pulse.epoch > leader.pulse.epoch);
        if led { Ok(()) } else { Err(format!("{leaders:?}")) }
    })
    .await;
    println!("taken over after {:?}", killed.elapsed());
    fleet.project.write("go", "");
    fleet.until_goal(Status::Complete).await;
    assert_eq!(fleet.agent_processes("worker_agent"), [identity(&agent)]);
    assert_eq!(fleet.read(fleet.work("started")), "x\n", "the task ran twice");
    second.kill().unwrap();
    second.wait().unwrap();
}

#[tokio::test]
async fn stopped_leader_should_be_fenced_when_it_goes_on() {
    let text = agents(&["worker_agent"]) + &goal(&task("task-001: Wait", WAITING));
    let fleet = fleet(text).start().await;
    fleet.until_registered("worker_agent").await;
    let [first] = fleet.orchestrators()[..] else { panic!("not one orchestrator") };
    let mut second = second(&fleet);
    until_standby(&fleet, second.id()).await;

    signal(first, Signal::STOP);
    let leads = |pid: u32| {
        let fleet = &fleet;
        wait_until("the lead changes", DEADLINE, move || async move {
            let leaders = fleet.store.leaders().await.unwrap();
            let led = !leaders.is_empty() && leaders.iter().all(|leader| leader.who.pid == pid);
            if led { Ok(()) } else { Err(format!("{leaders:?}")) }
        })
    };
    leads(second.id()).await;
    signal(first, Signal::CONT);
    until_standby(&fleet, first.pid).await;
    leads(second.id()).await;
    fleet.project.write("go", "");
    fleet.until_goal(Status::Complete).await;
    assert_eq!(fleet.agent_processes("worker_agent").len(), 1);
    second.kill().unwrap();
    second.wait().unwrap();
}

#[tokio::test]
async fn each_controller_should_work_in_a_process_of_its_own() {
    let text = agents(&["worker_agent"]) + &goal(&task("task-001: Wait", WAITING));
    let fleet = fleet(text).args(&["--controllers", "agent"]).start().await;
    let before = fleet.until_registered("worker_agent").await;
    let mut others = ["dag", "lease", "heartbeat"].map(|name| orchestrator(&fleet, name));
    wait_until("each leads for its own", DEADLINE, || async {
        let leaders = fleet.store.leaders().await.unwrap();
        let pids: std::collections::BTreeSet<u32> = leaders.iter().map(|l| l.who.pid).collect();
        if pids.len() == 4 { Ok(()) } else { Err(format!("{leaders:?}")) }
    })
    .await;
    fleet.until_task("task-001", model::task::State::Running).await;
    fleet.sh("echo PAUSE >> heartbeat/worker_agent.md");
    fleet.until_agent("worker_agent", "is paused", |agent| agent.paused).await;
    signal(identity(&before), Signal::KILL);
    fleet.until_replaced("worker_agent", &before).await;
    fleet.sh("echo RESUME >> heartbeat/worker_agent.md");
    fleet.project.write("go", "");
    fleet.until_goal(Status::Complete).await;
    for child in &mut others {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
