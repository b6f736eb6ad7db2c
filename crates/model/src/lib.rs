//! What orch talks about: goals, tasks, DAGs, agents and leases, and which of
//! their changes are legal.
//!
//! Nothing here does IO, reads a clock or draws a random number, so every rule
//! can be tested by calling it. The table of legal task transitions
//! ([`task::TRANSITIONS`]) is the only one: the store compiles it into its Lua
//! scripts, and the tools that check histories read it too.

pub mod agent;
pub mod dag;
pub mod goal;
pub mod id;
pub mod lease;
pub mod provider;
pub mod review;
pub mod task;

pub use agent::AgentSpec;
pub use dag::Dag;
pub use goal::GoalSpec;
pub use id::{AgentName, GoalId, Role, TaskId};
pub use provider::Provider;
pub use task::TaskSpec;

use std::collections::BTreeMap;

/// Everything the control files declare at one moment: the desired state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// Agents by name.
    pub agents: BTreeMap<AgentName, AgentSpec>,
    /// Goals by id.
    pub goals: BTreeMap<GoalId, GoalSpec>,
}
