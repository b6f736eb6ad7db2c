//! The answer to [`crate::prompts::Decompose`]: a goal's tasks and their order.
//!
//! Doc comments of answers are sent to models, as descriptions within the schema.
//! Commands that would check a task (`verify`) are neither offered nor read: what a
//! model writes does not get to a shell.

use std::collections::BTreeMap;

use model::{Dag, GoalId, GoalSpec, Role, TaskId, TaskSpec};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Answer, cell, lenient};
use crate::Step;
use crate::prompts::one_line;

/// The longest title, in characters.
const MAX_TITLE_CHARS: usize = 200;
/// The longest description, in bytes.
const MAX_DESCRIPTION_BYTES: usize = 8 * 1024;
/// The most artifacts of one task.
const MAX_ARTIFACTS: usize = 100;
/// The longest path of an artifact, in bytes.
const MAX_PATH_BYTES: usize = 1024;
/// How many mistakes one error names: enough to mend them all at once.
const MAX_MISTAKES: usize = 8;

/// The tasks of a goal and which of them waits for which.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct Plan {
    /// The goal's id as it was given.
    #[serde(default, deserialize_with = "lenient::maybe_text")]
    #[schemars(with = "String")]
    pub goal_id: Option<String>,
    /// The tasks.
    pub nodes: Vec<Node>,
    /// What has to be done before what.
    #[serde(default)]
    pub edges: Vec<Edge>,
}

/// A task.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct Node {
    /// 1 to 64 of the characters A-Z a-z 0-9 . _ - and unique in the plan.
    #[serde(deserialize_with = "lenient::plain_id")]
    #[schemars(with = "String")]
    pub id: TaskId,
    /// What to do, in one line of at most 200 characters.
    #[serde(deserialize_with = "lenient::text")]
    #[schemars(with = "String")]
    pub title: String,
    /// What the title leaves open; null where it says it all.
    #[serde(default, deserialize_with = "lenient::maybe_text")]
    pub description: Option<String>,
    /// 0 to 1000000, higher starts first; null takes the goal's.
    #[serde(default, deserialize_with = "lenient::priority")]
    pub priority: Option<u32>,
    /// The role that an agent needs for it; null where any will do.
    #[serde(default, deserialize_with = "lenient::role")]
    #[schemars(with = "Option<String>")]
    pub role: Option<Role>,
    /// Files that must exist afterwards, relative to the working folder.
    #[serde(default, deserialize_with = "lenient::texts")]
    #[schemars(with = "Vec<String>")]
    pub expected_artifacts: Vec<String>,
}

/// One task has to be done before another.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Edge {
    /// The id of the task that is done first.
    #[serde(deserialize_with = "lenient::plain_id")]
    #[schemars(with = "String")]
    pub source: TaskId,
    /// The id of the task that waits for it.
    #[serde(deserialize_with = "lenient::plain_id")]
    #[schemars(with = "String")]
    pub target: TaskId,
}

/// What a plan may hold.
#[derive(Debug, Clone, Copy)]
pub struct PlanLimits<'a> {
    /// How many tasks; see [`super::DEFAULT_MAX_TASKS`].
    pub max_tasks: usize,
    /// The roles of the goal's agents: a task for another would wait for ever. Where
    /// there are none, any role will do.
    pub roles: &'a [Role],
}

impl Answer for Plan {
    const STEP: Step = Step::Decompose;
    cell!();
}

impl Plan {
    /// Whether [`Plan::into_dag`] would take it.
    ///
    /// # Errors
    /// Those of [`Plan::into_dag`].
    pub fn check(&self, goal: &GoalSpec, limits: &PlanLimits<'_>) -> Result<(), String> {
        self.clone().into_dag(goal, limits).map(|_| ())
    }

    /// The plan, checked like one that a person pinned. What a task does not say, its
    /// goal says.
    ///
    /// # Errors
    /// In words, for the model: each mistake with its place, up to eight of them.
    pub fn into_dag(self, goal: &GoalSpec, limits: &PlanLimits<'_>) -> Result<Dag, String> {
        self.check_goal(&goal.id)?;
        if self.nodes.len() > limits.max_tasks {
            return Err(format!(
                "nodes: the plan has {} tasks; at most {} are allowed: join what belongs together",
                self.nodes.len(),
                limits.max_tasks
            ));
        }
        let mut mistakes = Vec::new();
        let mut tasks = Vec::with_capacity(self.nodes.len());
        for (at, node) in self.nodes.into_iter().enumerate() {
            match node.into_task(goal, limits) {
                Ok(task) => tasks.push(task),
                Err(mistake) => mistakes.push(format!("nodes[{at}].{mistake}")),
            }
        }
        if !mistakes.is_empty() {
            let more = mistakes.len().saturating_sub(MAX_MISTAKES);
            mistakes.truncate(MAX_MISTAKES);
            if more > 0 {
                mistakes.push(format!("and {more} more"));
            }
            return Err(mistakes.join("; "));
        }
        let edges: Vec<(TaskId, TaskId)> =
            self.edges.into_iter().map(|edge| (edge.target, edge.source)).collect();
        Dag::new(tasks, &edges).map_err(|error| error.to_string())
    }

    fn check_goal(&self, goal: &GoalId) -> Result<(), String> {
        match self.goal_id.as_deref() {
            Some(other) if other != goal.as_str() => Err(format!(
                "goal_id: the plan is for `{}`, but the goal is `{goal}`",
                one_line(other, MAX_TITLE_CHARS)
            )),
            Some(_) | None => Ok(()),
        }
    }
}

impl Node {
    fn into_task(self, goal: &GoalSpec, limits: &PlanLimits<'_>) -> Result<TaskSpec, String> {
        let title = one_line(&self.title, 4 * MAX_TITLE_CHARS);
        if title.is_empty() {
            return Err(format!("title: `{}` has none: say what to do", self.id));
        }
        if let Some(role) = self
            .role
            .as_ref()
            .filter(|role| !limits.roles.is_empty() && !limits.roles.contains(role))
        {
            let known: Vec<&str> = limits.roles.iter().map(Role::as_str).collect();
            return Err(format!(
                "role: nobody has the role `{role}`: use one of {}, or null",
                known.join(", ")
            ));
        }
        let mut artifacts = Vec::new();
        for (at, written) in self.expected_artifacts.iter().enumerate() {
            let path = artifact(written)
                .map_err(|problem| format!("expected_artifacts[{at}]: {problem}"))?;
            if !artifacts.contains(&path) {
                artifacts.push(path);
            }
            // At once: each is compared with all before it.
            if artifacts.len() > MAX_ARTIFACTS {
                return Err(format!(
                    "expected_artifacts: {} files; at most {MAX_ARTIFACTS} are allowed",
                    self.expected_artifacts.len()
                ));
            }
        }
        let mut metadata = BTreeMap::new();
        let (title, rest) = cut_title(title);
        let description = [rest, self.description].into_iter().flatten().collect::<Vec<_>>();
        if !description.is_empty() {
            let text = lenient::prose(&description.join("\n\n"), MAX_DESCRIPTION_BYTES);
            metadata.insert("description".to_owned(), text);
        }
        let mut task = TaskSpec::new(self.id, title);
        task.priority = self.priority.unwrap_or(goal.priority);
        task.role = self.role;
        task.expected_artifacts = artifacts;
        task.timeout_secs = goal.timeout_secs;
        task.max_attempts = goal.max_attempts;
        task.folder.clone_from(&goal.folder);
        task.metadata = metadata;
        Ok(task)
    }
}

/// A title that fits, and the whole of it where it did not.
fn cut_title(title: String) -> (String, Option<String>) {
    if title.chars().count() <= MAX_TITLE_CHARS {
        return (title, None);
    }
    let short = title.chars().take(MAX_TITLE_CHARS - 1).chain(['…']).collect();
    (short, Some(title))
}

/// A relative path that stays where it begins, without `.` parts.
fn artifact(written: &str) -> Result<String, String> {
    let shown = one_line(written, 80);
    if written.len() > MAX_PATH_BYTES {
        return Err(format!("`{shown}` has more than {MAX_PATH_BYTES} bytes"));
    }
    if written.chars().any(char::is_control) {
        return Err(format!("`{shown}` has control characters"));
    }
    if written.starts_with('/') {
        return Err(format!("`{shown}` is absolute: write it relative to the working folder"));
    }
    let parts: Vec<&str> =
        written.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(format!("`{shown}` leaves the working folder: write a path without .."));
    }
    if parts.is_empty() {
        return Err("write the path of a file".to_owned());
    }
    Ok(parts.join("/"))
}
