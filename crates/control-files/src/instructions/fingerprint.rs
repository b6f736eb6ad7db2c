//! Fingerprints of declarations: equal as long as what is declared is equal.

use model::{AgentSpec, GoalSpec};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// How much of the digest is kept: chance does not make two of these equal.
const BYTES: usize = 16;

/// Fills in the fingerprint of an agent.
pub(super) fn seal_agent(spec: &mut AgentSpec) {
    spec.spec_hash.clear();
    spec.spec_hash = of(spec);
}

/// Fills in the fingerprint of a goal: of what is wanted, not of who plans it and what
/// that may cost, for nobody changes those to have the work done again.
pub(super) fn seal_goal(spec: &mut GoalSpec) {
    let wanted = GoalSpec {
        provider: None,
        model: None,
        budget_micros: None,
        spec_hash: String::new(),
        ..spec.clone()
    };
    spec.spec_hash = of(&wanted);
}

fn of(spec: &(impl Serialize + std::fmt::Debug)) -> String {
    // JSON has no word for a path that is not UTF-8; the debug form has.
    let bytes = serde_json::to_vec(spec).unwrap_or_else(|_| format!("{spec:?}").into_bytes());
    Sha256::digest(bytes).iter().take(BYTES).map(|byte| format!("{byte:02x}")).collect()
}
