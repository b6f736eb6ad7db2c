//! Many agents. What they cost is printed, not asserted: `docs/operating.md` has the
//! figures of a release build.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use model::agent::Phase;
use model::goal::Status;
use process::Identity;
use store::agent::Agent;
use testkit::wait_until;

use crate::support::{DEADLINE, agents, fleet, goal, identity, task};

const AGENTS: usize = 100;
/// Over how long the idle fleet is measured.
const IDLE: Duration = Duration::from_secs(5);

/// User and system time of a process, in clock ticks.
fn ticks(process: Identity) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split(' ').collect();
    let field = |n: usize| fields.get(n - 2).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    field(14) + field(15)
}

/// Resident memory of a process, in KiB.
fn resident(process: Identity) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|text| text.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn hundred_agents_should_all_register_and_work() {
    let names: Vec<String> = (0..AGENTS).map(|n| format!("agent-{n:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let text = agents(&names) + &goal(&task("task-001: One", "true"));
    let fleet = fleet(text).lease_ttl("30").start().await;
    fleet.until_goal(Status::Complete).await;
    let processes = wait_until("each agent is one process that runs", 2 * DEADLINE, || async {
        let agents = fleet.store.agents().await.unwrap();
        let runs = |agent: &&Agent| agent.status.phase == Some(Phase::Running);
        let registered = agents.iter().filter(runs).filter_map(|agent| agent.registered.as_ref());
        let registered: BTreeSet<Identity> = registered.map(identity).collect();
        let living: BTreeSet<Identity> = fleet.all_agent_processes().into_iter().collect();
        if registered.len() == AGENTS && registered == living {
            Ok(living)
        } else {
            Err(format!("{} registered, {} living", registered.len(), living.len()))
        }
    })
    .await;

    let mut fleet_processes: Vec<Identity> = processes.into_iter().collect();
    let memory: Vec<u64> = fleet_processes.iter().map(|process| resident(*process)).collect();
    let [orchestrator] = fleet.orchestrators()[..] else { panic!("not one orchestrator") };
    fleet_processes.push(orchestrator);
    let before: u64 = fleet_processes.iter().map(|process| ticks(*process)).sum();
    // Measuring, not waiting for anything.
    tokio::time::sleep(IDLE).await;
    let after: u64 = fleet_processes.iter().map(|process| ticks(*process)).sum();
    // 100 ticks a second on Linux.
    let percent = (after - before) as f64 / IDLE.as_secs_f64();
    println!(
        "idle, {AGENTS} agents: {percent:.1}% of one core; an agent {} KiB at most, the \
         orchestrator {} KiB",
        memory.iter().max().unwrap(),
        resident(orchestrator)
    );
    assert!(fleet_processes.iter().all(Identity::is_alive), "{}", fleet.log());
}
