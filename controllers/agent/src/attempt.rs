//! How whatever runs for an attempt is recognised after its agent is gone: by an
//! environment variable that children inherit.

use model::AgentName;
use store::agent::Incarnation;

/// The variable's name.
pub const MARKER: &str = "ORCH_ATTEMPT_MARK";

/// What the value starts with, for everything that one incarnation runs.
#[must_use]
pub fn prefix(fleet: &str, agent: &AgentName, incarnation: Incarnation) -> String {
    format!("{fleet}/{agent}/{incarnation}/")
}

/// The value for one attempt.
#[must_use]
pub fn value(
    fleet: &str,
    agent: &AgentName,
    incarnation: Incarnation,
    epoch: model::lease::Epoch,
) -> String {
    format!("{}{epoch}", prefix(fleet, agent, incarnation))
}
