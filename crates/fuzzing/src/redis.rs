//! Records as they are read from Redis, where anybody may write.

use model::lease::Pulse;
use model::{AgentName, GoalId, TaskId};
use store::Error;
use store::agent::Agent;
use store::directive::Consumed;
use store::goal::Goal;
use store::lead::Leader;
use store::llm::{Costs, Hold, Slot, Waiter};
use store::record::{Fields, Hash};
use store::task::Task;

use crate::check::assert_quotable;

/// The longest error: key and field, and the beginning of what stands there.
const ERROR_BYTES: usize = 2 * 1024;

/// A hash, a line `field=value` each, read as every record there is; and each of its
/// values as an entry of the hashes that hold one text per field. What cannot be read is
/// an error that names its key; what can be is shown as JSON.
pub fn redis(data: &[u8]) {
    let pairs: Vec<(&[u8], &[u8])> = data.split(|byte| *byte == b'\n').map(pair).collect();
    let fields: Fields = pairs.iter().copied().collect();
    let hash = |key: &str| Hash::new(key, fields.clone());
    let spec = pairs.iter().find(|(name, _)| *name == b"spec");
    let spec = spec.map(|(_, value)| String::from_utf8_lossy(value));

    let (task, goal, agent) = ids();
    let found = Task::decode(task, &hash("task:t"), spec.as_deref());
    if let Some(task) = check("task:t", &["dag:"], found) {
        shown(&task);
    }
    let found = Goal::decode(goal, &hash("goal:g"), &hash("dag:g:counts"));
    if let Some(goal) = check("goal:g", &[], found).flatten() {
        _ = goal.counts.total();
        shown(&goal);
    }
    let parts = ["registered", "status", "control"].map(|part| hash(&format!("agent:a:{part}")));
    let [registered, status, control] = &parts;
    let found = Agent::decode(agent, registered, status, control, None);
    if let Some(agent) = check("agent:a:", &[], found) {
        shown(&agent);
    }
    if let Some(costs) = check("cost:g", &[], Costs::decode(&hash("cost:g"))) {
        shown(&costs);
    }
    check("agent:a:directives", &[], Consumed::decode(&hash("agent:a:directives")));
    for (name, value) in &pairs {
        entry(&String::from_utf8_lossy(name), &String::from_utf8_lossy(value));
    }
}

fn entry(name: &str, value: &str) {
    check("orchestrator:leader", &[], Leader::decode(name, value));
    check("llm:holds", &[], Hold::decode(name.to_owned(), value));
    if let Some((slot, _)) = check("llm:slots", &[], Slot::decode(name.to_owned(), value)) {
        shown(&slot);
    }
    if let Some((waiter, _)) = check("llm:waiters", &[], Waiter::decode(name.to_owned(), value)) {
        shown(&waiter);
    }
    if let Ok(pulse) = value.parse::<Pulse>() {
        assert_eq!(pulse.to_string().parse(), Ok(pulse));
    }
    if let Ok(id) = TaskId::new(name) {
        assert!(id.as_str() == name && !name.contains([':', '/', ' ']));
    }
}

/// What was read; an error must be one that names the key, or one of `others`.
fn check<T>(key: &str, others: &[&str], found: Result<T, Error>) -> Option<T> {
    let error = match found {
        Ok(found) => return Some(found),
        Err(error) => error,
    };
    assert!(matches!(error, Error::Malformed { .. }) && !error.is_transient(), "{error:?}");
    let said = error.to_string();
    assert!(
        said.starts_with(key) || others.iter().any(|other| said.starts_with(other)),
        "{said} does not name {key}"
    );
    assert_quotable(&said, ERROR_BYTES, "an error");
    None
}

/// As `orch status --format json` shows it.
fn shown<T: serde::Serialize>(record: &T) {
    let json = serde_json::to_string(record);
    assert!(json.is_ok(), "{:?}", json.err());
}

fn pair(line: &[u8]) -> (&[u8], &[u8]) {
    let at = line.iter().position(|byte| *byte == b'=');
    at.map_or((line, b""), |at| (&line[..at], &line[at + 1..]))
}

#[allow(clippy::expect_used, reason = "ids of ours")]
fn ids() -> (TaskId, GoalId, AgentName) {
    let none = "an id";
    ("t".parse().expect(none), "g".parse().expect(none), "a".parse().expect(none))
}
