//! Many agents. What they cost is measured by `make bench CASES="spawn idle"`.

use std::collections::BTreeSet;

use model::agent::Phase;
use model::goal::Status;
use process::Identity;
use store::agent::Agent;
use testkit::wait_until;

use crate::support::{DEADLINE, agents, fleet, goal, identity, task};

const AGENTS: usize = 100;

#[tokio::test]
async fn hundred_agents_should_all_register_and_work() {
    let names: Vec<String> = (0..AGENTS).map(|n| format!("agent-{n:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let text = agents(&names) + &goal(&task("task-001: One", "true"));
    let fleet = fleet(text).lease_ttl("30").start().await;
    fleet.until_goal(Status::Complete).await;
    wait_until("each agent is one process that runs", 2 * DEADLINE, || async {
        let agents = fleet.store.agents().await.unwrap();
        let runs = |agent: &&Agent| agent.status.phase == Some(Phase::Running);
        let registered = agents.iter().filter(runs).filter_map(|agent| agent.registered.as_ref());
        let registered: BTreeSet<Identity> = registered.map(identity).collect();
        let living: BTreeSet<Identity> = fleet.all_agent_processes().into_iter().collect();
        if registered.len() == AGENTS && registered == living {
            Ok(())
        } else {
            Err(format!("{} registered, {} living", registered.len(), living.len()))
        }
    })
    .await;
}
