//! Every key in Redis. Names that the seed has keep their name; ours stand beside
//! them. Scripts compute the same names; nothing else does.

use model::{AgentName, GoalId, TaskId};

/// Set of all goals that were ever declared.
pub const GOALS: &str = "goals";
/// Set of all agents that ever registered or were declared.
pub const AGENTS: &str = "agents";
/// Hash of what runs now: task id to `epoch:beat`.
pub const LEASES: &str = "leases";
/// Stream of every transition.
pub const EVENTS: &str = "events";
/// Channel of what a person should hear of.
pub const ALERTS: &str = "alerts";
/// Hash of who leads: controller to `epoch beat holder pid start_time host`.
pub const LEADER: &str = "orchestrator:leader";
/// String: what tells this project's processes from another's.
pub const FLEET: &str = "orchestrator:fleet";
/// Up to which event traces were sent.
pub const TRACED: &str = "orchestrator:traced";
/// Up to which event metrics were told.
pub const MEASURED: &str = "orchestrator:measured";
/// Hash of how the agents' calls to Redis went: `<what was asked>|<number>` to a count.
pub const CALLS: &str = "agents:calls";
/// Hash of what each controller last reported: controller to JSON.
pub const CONTROLLERS: &str = "orchestrator:controllers";
/// String: the present problems of the control files, as JSON.
pub const PROBLEMS: &str = "orchestrator:problems";
/// String: the highest epoch that any task was granted.
pub const EPOCH_FLOOR: &str = "orchestrator:epoch-floor";
/// Set of the orchestrators that stand by; beside it a string of JSON for each.
pub const STANDBYS: &str = "orchestrator:standbys";

/// Hash of the model calls under way: holder to `call|goal|incarnation|expires_us|step`.
pub const LLM_SLOTS: &str = "llm:slots";
/// Hash of who waits for a slot: holder to `goal|incarnation|since_us|refreshed_us|call`.
pub const LLM_WAITERS: &str = "llm:waiters";
/// String: how many slots there were for the last caller.
pub const LLM_MOST: &str = "llm:most";
/// Hash of the usage limits: provider to `until_us|strikes|since_us|message`.
pub const LLM_HOLDS: &str = "llm:holds";
/// Set of the models whose costs are kept.
pub const LLM_MODELS: &str = "llm:models";

/// List with at most one token, which says that `holder` should ask for its slot again.
#[must_use]
pub fn llm_wake(holder: &str) -> String {
    format!("llm:wake:{holder}")
}

/// Hash: what the model calls of a goal used up.
#[must_use]
pub fn goal_cost(goal: &GoalId) -> String {
    format!("goal:{goal}:cost")
}

/// Hash: what the calls of one model used up.
#[must_use]
pub fn model_cost(model: &str) -> String {
    format!("model:{model}:cost")
}

/// String: until when a goal's tasks may ask no model.
#[must_use]
pub fn spending_cap(goal: &GoalId) -> String {
    format!("goal:{goal}:spending_cap_until")
}

/// List of the versions of an agent's instructions as JSON, newest first.
#[must_use]
pub fn instructions(agent: &AgentName, goal: &GoalId) -> String {
    format!("inst:{agent}:{goal}")
}

/// Hash: status, title, spec_hash, generation, created, finished, reason, ..
#[must_use]
pub fn goal(goal: &GoalId) -> String {
    format!("goal:{goal}")
}

/// One of a goal's DAG keys: `nodes`, `deps`, `dependents`, `counts`, `ready`, `delayed`, ..
#[must_use]
pub fn dag(goal: &GoalId, part: &str) -> String {
    format!("dag:{goal}:{part}")
}

/// Hash: status, owner, lease_expires, progress, artifacts, last_error, ..
#[must_use]
pub fn task(task: &TaskId) -> String {
    format!("task:{task}")
}

/// List of the task's last errors as JSON, newest first.
#[must_use]
pub fn task_errors(task: &TaskId) -> String {
    format!("task:{task}:errors")
}

/// One of an agent's keys: `registered`, `heartbeat`, `memory`, `control`, `inbox`,
/// `status`, `directives`, `directives:answers`, `cost`.
#[must_use]
pub fn agent(agent: &AgentName, part: &str) -> String {
    format!("agent:{agent}:{part}")
}
