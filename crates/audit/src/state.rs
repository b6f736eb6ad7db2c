//! The state that a history led to, as far as it is compared.

use std::collections::HashMap;

use model::TaskSpec;
use model::goal::Counts;
use model::task::{DEFAULT_MAX_ATTEMPTS, State as Status};
use store::plan::RawTask;

/// Goals as they stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Those that were looked at; others are not judged.
    pub goals: Vec<GoalState>,
}

/// One goal as it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GoalState {
    /// Its id.
    pub id: String,
    /// Which plan is in force; 0 is none yet.
    pub generation: u64,
    /// How many tasks are in each state, as the scripts counted.
    pub counts: Counts,
    /// Every task of the plan in force.
    pub tasks: Vec<TaskState>,
}

/// One task of the plan in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskState {
    /// The stored id.
    pub id: String,
    /// The word in its record; `None` where it has no record.
    pub status: Option<String>,
    /// Who holds it; '' is nobody.
    pub owner: String,
    /// The last grant; 0 is none yet.
    pub epoch: u64,
    /// Of which plan.
    pub generation: u64,
    /// How often it failed, of what counts.
    pub failures: u32,
    /// How often it lost its agent, of what counts.
    pub losses: u32,
    /// How many failures end it.
    pub max_attempts: u32,
    /// Why it stands where it stands; '' where nobody said.
    pub reason: String,
    /// Files that it has to make, as its plan says.
    pub expected_artifacts: Vec<String>,
    /// Files that are on record as made.
    pub artifacts: Vec<String>,
    /// What it waits for.
    pub waits_for: Vec<String>,
}

impl TaskState {
    /// Where it stands; `None` where it has no record or a word that is none of ours.
    #[must_use]
    pub fn state(&self) -> Option<Status> {
        self.status.as_deref().and_then(|word| word.parse().ok())
    }
}

impl From<RawTask> for TaskState {
    /// What cannot be read counts as absent: a check of it then fails.
    fn from(raw: RawTask) -> Self {
        let text = |name: &str| raw.record.get(name).cloned().unwrap_or_default();
        let number = |name: &str| text(name).parse::<u64>().unwrap_or(0);
        let small = |name: &str| u32::try_from(number(name)).unwrap_or(u32::MAX);
        let spec: Option<TaskSpec> = serde_json::from_str(&raw.spec).ok();
        let most = spec.as_ref().and_then(|spec| spec.max_attempts);
        Self {
            status: raw.record.get("status").filter(|word| !word.is_empty()).cloned(),
            owner: text("owner"),
            epoch: number("epoch"),
            generation: number("generation"),
            failures: small("failures"),
            losses: small("losses"),
            max_attempts: match small("max_attempts") {
                0 => most.unwrap_or(DEFAULT_MAX_ATTEMPTS).max(1),
                most => most,
            },
            reason: text("reason"),
            expected_artifacts: spec.map_or_else(Vec::new, |spec| spec.expected_artifacts),
            artifacts: paths(&text("artifacts")),
            waits_for: serde_json::from_str(&raw.waits_for).unwrap_or_default(),
            id: raw.id,
        }
    }
}

/// The paths in a record's list of artifacts: of `{path,..}`, or the paths themselves.
fn paths(json: &str) -> Vec<String> {
    let list: Vec<serde_json::Value> = serde_json::from_str(json).unwrap_or_default();
    let path =
        |entry: &serde_json::Value| entry.get("path").unwrap_or(entry).as_str().map(str::to_owned);
    list.iter().filter_map(path).collect()
}

/// Tasks by id.
pub(crate) fn by_id(tasks: &[TaskState]) -> HashMap<&str, &TaskState> {
    tasks.iter().map(|task| (task.id.as_str(), task)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_should_be_read_in_both_forms() {
        assert_eq!(paths(r#"[{"path":"a","bytes":1},"b",3]"#), ["a", "b"]);
        assert!(paths("").is_empty() && paths("{").is_empty());
    }
}
