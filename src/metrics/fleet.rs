//! What Redis says of the fleet now. Costs a few reads per goal, and none per task.

use std::collections::BTreeSet;

use model::agent::Phase;
use model::goal::{Counts, Status};
use model::task::{Cause, State};
use model::{GoalId, Provider};
use store::agent::Agent;
use store::calls::{BOUNDS_US, Call, ERRORS};
use store::{Error, Store};

use super::catalog as m;
use super::counted::usd;
use super::samples::{Histogram, Samples, float};
use crate::report::{Problem, Severity};

/// The role of a task that any agent may take.
const ANY: &str = "*";

/// The fleet at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Reading {
    pub(super) samples: Samples,
    /// What is declared; what is not is told no more.
    pub(super) goals: BTreeSet<String>,
    /// The same; `None` where it cannot be read.
    agents: Option<BTreeSet<String>>,
}

impl Reading {
    /// Whether it is certain that there is no such agent any more.
    pub(super) fn lacks_agent(&self, name: &str) -> bool {
        self.agents.as_ref().is_some_and(|agents| !agents.contains(name))
    }
}

/// What somebody broke by hand is left out; where Redis does not answer nothing is told.
fn readable<T>(read: Result<T, Error>) -> Result<Option<T>, Error> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error @ Error::Malformed { .. }) => {
            tracing::debug!(target: "orchestrator", %error, "Left out of the metrics");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Reads it.
pub(super) async fn read(store: &Store) -> Result<Reading, Error> {
    let mut reading = Reading::default();
    for status in Status::ALL {
        reading.samples.count(&m::GOALS, &[status.as_str()], 0);
    }
    for id in store.goal_ids().await? {
        goal(store, &id, &mut reading).await?;
    }
    if let Some(found) = readable(store.agents().await)? {
        agents(&found, &mut reading);
    }
    let samples = &mut reading.samples;
    calls_of_models(store, samples).await?;
    let server = store.server().await?;
    samples.count(&m::REDIS_MEMORY, &[], server.used_memory);
    samples.count(&m::REDIS_REFUSES, &[], u64::from(server.refuses_writes.is_some()));
    for (what, call) in readable(store.measures().await)?.unwrap_or_default() {
        told_by_calls(samples, &what, &call, &m::AGENT_CALL, &m::AGENT_CALL_ERRORS);
        samples.count(&m::FENCES, &[&what], call.fenced);
    }
    problems(store.problems().await?.as_deref(), samples);
    Ok(reading)
}

async fn goal(store: &Store, id: &GoalId, reading: &mut Reading) -> Result<(), Error> {
    let name = id.as_str();
    let Some(goal) = readable(store.goal(id).await)? else {
        reading.goals.insert(name.to_owned());
        return Ok(());
    };
    let Some(goal) = goal.filter(|goal| goal.declared) else { return Ok(()) };
    let samples = &mut reading.samples;
    samples.count(&m::GOALS, &[goal.status.as_str()], 1);
    if let Some(mut by_role) = readable(store.counts_by_role(id).await)? {
        // So that there is something of a goal without any.
        by_role.entry(String::new()).or_default();
        for (role, counts) in &by_role {
            let role = if role.is_empty() { ANY } else { role };
            for state in State::ALL {
                samples.count(&m::TASKS, &[name, role, state.as_str()], in_state(counts, state));
            }
        }
    }
    let queues = store.queues(id).await?;
    samples.count(&m::DELAYED, &[name], queues.delayed);
    for (role, count) in queues.claimable {
        samples.count(&m::CLAIMABLE, &[name, role.as_deref().unwrap_or(ANY)], count);
    }
    for cause in Cause::ALL {
        samples.count(&m::TRANSITIONS, &[name, cause.as_str()], 0);
    }
    samples.add(&m::GOAL_COST, &[name], usd(goal.cost_micros));
    if let Some(budget) = goal.budget_micros {
        samples.add(&m::GOAL_BUDGET, &[name], usd(budget));
    }
    reading.goals.insert(name.to_owned());
    Ok(())
}

const fn in_state(counts: &Counts, state: State) -> u64 {
    match state {
        State::Blocked => counts.blocked,
        State::Ready => counts.ready,
        State::Running => counts.running,
        State::Done => counts.done,
        State::Failed => counts.failed,
    }
}

fn agents(agents: &[Agent], reading: &mut Reading) {
    let samples = &mut reading.samples;
    let mut declared = BTreeSet::new();
    for phase in Phase::ALL {
        samples.count(&m::AGENTS, &[phase.as_str()], 0);
    }
    for liveness in ["beating", "silent", "gone"] {
        samples.count(&m::LIVENESS, &[liveness], 0);
    }
    samples.count(&m::PAUSED, &[], 0);
    for agent in agents {
        let phase = agent.status.phase.unwrap_or(Phase::Pending);
        samples.count(&m::AGENTS, &[phase.as_str()], 1);
        if phase == Phase::Gone {
            continue;
        }
        let name = agent.name.as_str();
        declared.insert(name.to_owned());
        samples.count(&m::RESTARTS, &[name], agent.status.restarts);
        samples.count(&m::DEATHS, &[name], 0);
        samples.count(&m::PAUSED, &[], u64::from(agent.paused));
        if let Some(liveness) = &agent.status.liveness {
            samples.count(&m::LIVENESS, &[liveness], 1);
        }
        if let Some(registered) = &agent.registered
            && let (Some(goal), Some(role)) = (&registered.goal, &registered.role)
        {
            let busy = u64::from(registered.task.is_some());
            samples.count(&m::BUSY, &[goal.as_str(), role.as_str()], busy);
        }
    }
    reading.agents = Some(declared);
}

async fn calls_of_models(store: &Store, samples: &mut Samples) -> Result<(), Error> {
    let len = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    if let Some(slots) = readable(store.slots().await)? {
        samples.count(&m::LLM_SLOTS, &["most"], u64::from(slots.most));
        samples.count(&m::LLM_SLOTS, &["used"], len(slots.in_use.len()));
        samples.count(&m::LLM_WAITING, &[], len(slots.waiting.len()));
    }
    for provider in Provider::ALL {
        if provider != Provider::Offline {
            samples.count(&m::LLM_HELD, &[provider.as_str()], 0);
        }
    }
    let now = store.time().await?;
    for hold in readable(store.holds().await)?.unwrap_or_default() {
        samples.count(&m::LLM_HELD, &[&hold.provider], 1);
        let left = float(hold.until_us.saturating_sub(now)) / 1e6;
        samples.add(&m::LLM_HOLD_LEFT, &[&hold.provider], left);
    }
    Ok(())
}

/// What was measured of calls to Redis of one kind.
pub(super) fn told_by_calls(
    samples: &mut Samples,
    what: &str,
    call: &Call,
    times: &'static m::Metric,
    errors: &'static m::Metric,
) {
    let bounds = BOUNDS_US.into_iter().map(|us| float(us) / 1e6).chain([f64::INFINITY]);
    let buckets = bounds.zip(call.buckets).collect();
    samples.histogram(times, &[what], Histogram { sum: float(call.sum_us) / 1e6, buckets });
    for (error, count) in ERRORS.into_iter().zip(call.errors) {
        samples.count(errors, &[what, error], count);
    }
}

/// What the leader found wrong in the control files, as it keeps it in Redis.
fn problems(json: Option<&str>, samples: &mut Samples) {
    let found: Vec<Problem> =
        json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    for (severity, name) in [(Severity::Error, "error"), (Severity::Warning, "warning")] {
        let count = found.iter().filter(|problem| problem.severity == severity).count();
        samples.count(&m::PROBLEMS, &[name], u64::try_from(count).unwrap_or(u64::MAX));
    }
}
