//! Tasks that do nothing, all ready, by agents that are processes.

use testkit::wait_until;

use super::support::{DEADLINE, Fleet, goal, goal_001, task};
use super::{agents, idlers, names, resting, save, usual};
use crate::report::Report;
use crate::world::drained;

const AGENTS: usize = 8;
const TASKS: usize = 10_000;
const ROUNDS: usize = 5;

/// From the first grant to the last completion, as events tell in whole milliseconds.
pub(crate) async fn measure() -> Report {
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        rates.push(rate().await);
    }
    let mut report = Report::new("processes");
    report.add(format!("{TASKS} milestones, {AGENTS} agent processes"), "tasks/s", &rates);
    report
}

async fn rate() -> f64 {
    let names = names(AGENTS);
    // Nothing on disk, as where agents are loops.
    let builder = usual(idlers(&names)).redis_args(&["--appendonly", "no"]);
    let fleet = resting(builder, AGENTS).await;
    until_idle(&fleet).await;
    let before = fleet.store.end_of_events().await.unwrap();
    let tasks: String = (0..TASKS).map(|n| task(&format!("t{n}: Nothing"), "# nothing")).collect();
    save(&fleet, &(goal(&tasks) + &agents(&names)));
    let took = drained(&fleet.store, &goal_001(), &before, TASKS).await;
    #[allow(clippy::cast_precision_loss, reason = "some thousands")]
    let rate = TASKS as f64 / took.as_secs_f64();
    rate
}

/// Waits until each of them has nothing to do and says so: the first tasks are then
/// offered to all.
async fn until_idle(fleet: &Fleet) {
    wait_until("all are idle", DEADLINE, || async {
        let idle = fleet.redis("SCARD dag:goal-001:idle");
        if idle == AGENTS.to_string() { Ok(()) } else { Err(idle) }
    })
    .await;
}
