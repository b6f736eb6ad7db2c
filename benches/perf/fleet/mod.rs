//! Whole fleets: the built program under a real systemg, each with a Redis of its own.

pub(crate) mod directive;
pub(crate) mod edit;
mod follow;
pub(crate) mod idle;
mod process;
pub(crate) mod processes;
pub(crate) mod recover;
pub(crate) mod spawn;
#[path = "../../../tests/e2e/support.rs"]
#[allow(dead_code, reason = "the end-to-end tests need more of it")]
mod support;

use std::fs;
use std::time::{Duration, Instant};

use model::agent::Phase;
use model::goal::Status;

use self::support::{Builder, DEADLINE, Fleet, fleet, goal, task};

/// What was begun is over when nothing happened for so long.
const QUIET: Duration = Duration::from_secs(2);

/// A fleet as people have it: the orchestrator tells what it does, and not why; each write
/// is in Redis' file before it is answered.
fn usual(instructions: impl Into<String>) -> Builder {
    let fleet = fleet(instructions).log_level("INFO").lease_ttl("30");
    fleet.redis_args(&["--appendfsync", "always"])
}

/// `count` agents' names.
fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("w{n}_agent")).collect()
}

/// The `## Agents` section for these names.
fn agents(names: &[String]) -> String {
    support::agents(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

/// These agents, who have done already what there is to do.
fn idlers(names: &[String]) -> String {
    goal(&task("task-001: One", "true")) + &agents(names)
}

/// Saves INSTRUCTIONS.md as editors do: whole, under its name at once.
fn save(fleet: &Fleet, text: &str) {
    let aside = fleet.project.write("saved", text);
    fs::rename(aside, fleet.path("INSTRUCTIONS.md")).unwrap();
}

/// Starts a fleet and waits until it has nothing to do: systemg answers slowly while it
/// starts.
async fn resting(builder: Builder, count: usize) -> Fleet {
    let fleet = builder.start().await;
    fleet.until_goal(Status::Complete).await;
    until_resting(&fleet, count).await;
    fleet
}

/// Waits until so many agents are known to run, and nothing happens any more.
async fn until_resting(fleet: &Fleet, count: usize) {
    fleet
        .until(&format!("{count} agents run"), async || {
            let agents = fleet.store.agents().await.map_err(|error| error.to_string())?;
            let runs = agents.iter().filter(|agent| agent.status.phase == Some(Phase::Running));
            let running = runs.count();
            if running == count { Ok(()) } else { Err(format!("{running} of {count}")) }
        })
        .await;
    let end = Instant::now() + 3 * DEADLINE;
    let (mut before, mut last) = (None, fleet.store.end_of_events().await.ok());
    while before != last {
        assert!(Instant::now() < end, "something goes on and on\n{}", fleet.log());
        tokio::time::sleep(QUIET).await;
        before = std::mem::replace(&mut last, fleet.store.end_of_events().await.ok());
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
