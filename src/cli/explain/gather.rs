//! What could be the reason, read from Redis and the project.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use model::task::State;
use model::{AgentSpec, GoalId, Provider, Role, TaskId};
use serde::{Deserialize, Serialize};
use store::Store;
use store::agent::Agent;
use store::event::Event;
use store::goal::Goal;
use store::llm::{Hold, Slots};
use store::task::Task;

use crate::cli::connect::{Session, variable};
use crate::cli::{find, logs};
use crate::paths;

/// How many tasks that are not done are followed.
pub(super) const FOLLOWED: usize = 200;
/// How far back the transitions of a task are looked for.
const EVENTS: usize = 10_000;
/// How many of them are told.
const HISTORY: usize = 8;

/// A task that is not done, and what it waits for.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Absent where Redis has none of that id.
    pub(super) task: Option<Task>,
    /// Dependencies that are not done.
    pub(super) open: Vec<TaskId>,
}

/// An agent, and which tasks it takes.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    pub(super) agent: Agent,
    pub(super) goal: Option<GoalId>,
    pub(super) role: Option<Role>,
    /// Whether INSTRUCTIONS.md declares it; absent where that file cannot be read.
    pub(super) declared: Option<bool>,
    /// Which model it asks, as far as it can be told from here.
    pub(super) provider: Provider,
}

/// What stands before a ready task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Queue {
    /// Ready tasks that the same agents take first.
    pub(super) before: u64,
    /// Others of the same priority: the order of declaration decides.
    pub(super) same_priority: u64,
}

/// One failed attempt.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub(super) struct Attempt {
    #[serde(default)]
    pub(super) attempt: u64,
    #[serde(default)]
    pub(super) agent: String,
    #[serde(default)]
    pub(super) time: String,
    #[serde(default)]
    pub(super) error: String,
}

/// An agent gave the task back: neither it nor the task was told to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HandedBack {
    pub(super) agent: String,
    pub(super) reason: String,
}

/// Everything that the explanation follows from.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) now: Timestamp,
    /// In which times of day are told.
    pub(super) zone: TimeZone,
    pub(super) task: Task,
    pub(super) goal: Option<Goal>,
    /// The task and what is not done before it.
    pub(super) nodes: BTreeMap<TaskId, Node>,
    /// More is not done than was followed.
    pub(super) cut: bool,
    /// Agents of the goal.
    pub(super) workers: Vec<Worker>,
    pub(super) queue: Option<Queue>,
    /// Failed attempts, newest first.
    pub(super) errors: Vec<Attempt>,
    /// The output of its last attempt, where it is on this host.
    pub(super) log: Option<PathBuf>,
    /// Who completed it.
    pub(super) done_by: Option<String>,
    /// How its last attempt ended, where an agent gave up on it.
    pub(super) handed_back: Option<HandedBack>,
    /// Usage limits in force.
    pub(super) holds: Vec<Hold>,
    /// Calls of models under way.
    pub(super) slots: Slots,
    /// Its last transitions, oldest first.
    pub(super) history: Vec<Event>,
    /// The trace of its last attempt; none before the first.
    pub(super) trace: Option<String>,
}

pub(super) async fn gather(session: &Session, text: &str) -> anyhow::Result<Facts> {
    let store = &session.store;
    let task = find::task(store, text).await?;
    let goal = store.goal(&task.goal).await?;
    let (nodes, cut) = if task.status == State::Blocked {
        follow(store, &task).await?
    } else {
        (BTreeMap::new(), false)
    };
    let queue = if task.status == State::Ready { Some(queue(store, &task).await?) } else { None };
    let errors = store.task_errors(&task.id).await?;
    let errors =
        errors.into_iter().map(|value| serde_json::from_value(value).unwrap_or_default()).collect();
    let mut history = history(store, &task.id).await?;
    let done_by = if task.status == State::Done { done_by(&history) } else { None };
    let handed_back = if task.status == State::Ready && task.reason.is_some() {
        handed_back(&history)
    } else {
        None
    };
    history.drain(..history.len().saturating_sub(HISTORY));
    let trace = trace(store, &task).await?;
    Ok(Facts {
        now: Timestamp::now(),
        zone: TimeZone::system(),
        nodes,
        cut,
        workers: workers(store, &session.project, &task.goal).await?,
        queue,
        errors,
        log: log(&session.project, &task),
        done_by,
        handed_back,
        holds: store.holds().await?,
        slots: store.slots().await?,
        history,
        trace,
        goal,
        task,
    })
}

async fn follow(store: &Store, task: &Task) -> anyhow::Result<(BTreeMap<TaskId, Node>, bool)> {
    let mut nodes = BTreeMap::new();
    let mut known: BTreeMap<TaskId, Option<Task>> = BTreeMap::new();
    let mut waiting = VecDeque::from([task.id.clone()]);
    known.insert(task.id.clone(), Some(task.clone()));
    while let Some(id) = waiting.pop_front() {
        if nodes.contains_key(&id) {
            continue;
        }
        if nodes.len() >= FOLLOWED {
            return Ok((nodes, true));
        }
        let mut open = Vec::new();
        for dependency in store.dependencies(&task.goal, &id).await? {
            if !known.contains_key(&dependency) {
                known.insert(dependency.clone(), store.task(&dependency).await?);
            }
            let found = known.get(&dependency).and_then(Option::as_ref);
            if found.is_none_or(|task| task.status != State::Done) {
                open.push(dependency);
            }
        }
        // What is not blocked has nothing before it that matters.
        waiting.extend(open.iter().cloned());
        let task = known.get(&id).cloned().flatten();
        nodes.insert(id, Node { task, open });
    }
    Ok((nodes, false))
}

async fn queue(store: &Store, task: &Task) -> anyhow::Result<Queue> {
    let mut queue = Queue { before: 0, same_priority: 0 };
    for other in store.tasks(&task.goal).await? {
        let competes = match (&other.role, &task.role) {
            (None, _) | (_, None) => true,
            (Some(theirs), Some(ours)) => theirs == ours,
        };
        let ready = other.status == State::Ready && other.not_before.is_none();
        if other.id == task.id || !ready || !competes {
            continue;
        }
        match other.priority.cmp(&task.priority) {
            std::cmp::Ordering::Greater => queue.before += 1,
            std::cmp::Ordering::Equal => queue.same_priority += 1,
            std::cmp::Ordering::Less => {}
        }
    }
    Ok(queue)
}

async fn workers(store: &Store, project: &Path, goal: &GoalId) -> anyhow::Result<Vec<Worker>> {
    let declared = declared(project);
    let of_the_run = run_provider();
    let mut workers = Vec::new();
    for agent in store.agents().await? {
        let spec =
            declared.as_ref().and_then(|all| all.iter().find(|spec| spec.name == agent.name));
        let registered = agent.registered.as_ref();
        workers.push(Worker {
            goal: registered
                .and_then(|r| r.goal.clone())
                .or_else(|| spec.map(|spec| spec.goal.clone())),
            role: registered
                .and_then(|r| r.role.clone())
                .or_else(|| spec.map(|spec| spec.role.clone())),
            declared: declared.as_ref().map(|_| spec.is_some()),
            provider: registered
                .and_then(|r| r.provider.parse().ok())
                .or_else(|| spec.and_then(|spec| spec.provider))
                .unwrap_or(of_the_run),
            agent,
        });
    }
    workers.retain(|worker| worker.goal.as_ref() == Some(goal));
    Ok(workers)
}

/// Whom an agent asks that does not say: as the environment and `.env` have it.
fn run_provider() -> Provider {
    let named = variable("ORCH_LLM_PROVIDER").and_then(|name| name.parse().ok());
    named.unwrap_or(Provider::Claude)
}

/// What INSTRUCTIONS.md declares, where it can be read.
fn declared(project: &Path) -> Option<Vec<AgentSpec>> {
    let file = project.join("INSTRUCTIONS.md");
    let text = control_files::read::read(project, &file).ok()?;
    let parsed = control_files::instructions::parse(project, &file, &text);
    (!parsed.broken.whole_file).then(|| parsed.declared.agents.into_values().collect())
}

fn log(project: &Path, task: &Task) -> Option<PathBuf> {
    let last = logs::attempts(&logs::folder(project, &task.id)).pop()?;
    let path = paths::attempt_log(project, &task.id, last);
    Some(path.strip_prefix(project).map(Path::to_owned).unwrap_or(path))
}

fn done_by(history: &[Event]) -> Option<String> {
    let last = history.iter().rfind(|event| event.kind == "task-complete");
    last.map(|event| event.field("agent").to_owned())
}

fn handed_back(history: &[Event]) -> Option<HandedBack> {
    let last = history.last().filter(|event| event.kind == "task-release")?;
    let (agent, reason) = (last.field("agent"), last.field("reason"));
    let told = reason.ends_with(" was stopped") || reason.starts_with("the plan changed");
    (!told).then(|| HandedBack { agent: agent.to_owned(), reason: reason.to_owned() })
}

/// The transitions of a task that are not too long ago, oldest first.
async fn history(store: &Store, id: &TaskId) -> anyhow::Result<Vec<Event>> {
    let mut events = store.last_events(EVENTS).await?;
    events.retain(|event| event.field("task") == id.as_str() && event.kind.starts_with("task-"));
    Ok(events)
}

async fn trace(store: &Store, task: &Task) -> anyhow::Result<Option<String>> {
    if task.attempt == 0 {
        return Ok(None);
    }
    let fleet = store.fleet().await?;
    let attempt = traces::ids::attempt(&fleet, task.id.as_str(), &task.epoch.to_string());
    Ok(Some(attempt.trace.to_string()))
}
