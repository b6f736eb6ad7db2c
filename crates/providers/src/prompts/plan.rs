//! The prompts before the work: which tasks there are, and which comes next.

use model::task::MAX_PRIORITY;
use model::{AgentName, GoalSpec, Role, TaskId, TaskSpec};
use serde::Serialize;

use super::bound::{clip, errors, list, memory, one_line};
use super::template::Template;
use super::{MAX_GOAL_BYTES, MAX_LIST, MAX_SUMMARY_BYTES, Prompt};

/// The key of a task's metadata that says what its title leaves open.
pub(super) const DESCRIPTION: &str = "description";

/// An agent that a goal has.
#[derive(Debug, Clone, Copy)]
pub struct Agent<'a> {
    /// Its name.
    pub name: &'a AgentName,
    /// The role whose tasks it takes.
    pub role: &'a Role,
}

/// A task of an earlier plan that is done.
#[derive(Debug, Clone, Copy)]
pub struct DoneTask<'a> {
    /// It.
    pub spec: &'a TaskSpec,
    /// What it waited for.
    pub after: &'a [TaskId],
    /// What came of it; empty where nobody said.
    pub summary: &'a str,
}

/// Asks for a goal's plan; answered by [`crate::answers::Plan`].
#[derive(Debug, Clone, Copy)]
pub struct Decompose<'a> {
    /// The goal, with its text.
    pub goal: &'a GoalSpec,
    /// Who works on it.
    pub agents: &'a [Agent<'a>],
    /// What is done, where there was a plan before.
    pub done: &'a [DoneTask<'a>],
    /// Why earlier plans were refused, oldest first.
    pub errors: &'a [String],
    /// How many tasks there may be.
    pub max_tasks: usize,
}

impl Decompose<'_> {
    /// The prompt.
    #[must_use]
    pub fn render(&self) -> Prompt {
        let agents = list(self.agents.iter(), MAX_LIST, |agent| {
            format!("- `{}`: role `{}`", agent.name, agent.role)
        });
        let agents = if agents.is_empty() { "- one agent, without a role".into() } else { agents };
        Template::new("decompose", include_str!("decompose.md"))
            .plain("goal_id", &self.goal.id)
            .plain("max_tasks", self.max_tasks)
            .plain("max_priority", MAX_PRIORITY)
            .plain("agents", agents)
            .fenced("goal", clip(&self.goal.text, MAX_GOAL_BYTES))
            .fenced("done", list(self.done.iter(), self.max_tasks.max(MAX_LIST), done_line))
            .fenced("errors", errors(self.errors))
            .render()
    }
}

/// Asks for one of several tasks; answered by [`crate::answers::Selection`].
#[derive(Debug, Clone, Copy)]
pub struct Select<'a> {
    /// Who chooses.
    pub agent: &'a AgentName,
    /// The goal that they belong to.
    pub goal: &'a GoalSpec,
    /// What may be chosen.
    pub candidates: &'a [TaskSpec],
    /// What the agent remembers, oldest first.
    pub memory: &'a [String],
}

impl Select<'_> {
    /// The prompt.
    #[must_use]
    pub fn render(&self) -> Prompt {
        Template::new("select", include_str!("select.md"))
            .plain("agent", self.agent)
            .fenced("goal", clip(&self.goal.text, MAX_SUMMARY_BYTES))
            .fenced(
                "candidates",
                list(self.candidates.iter(), MAX_LIST, |task| {
                    json(&Node::new(task, MAX_SUMMARY_BYTES))
                }),
            )
            .fenced("memory", memory(self.memory))
            .render()
    }
}

/// A task in the form of a plan's node.
#[derive(Serialize)]
struct Node<'a> {
    id: &'a TaskId,
    title: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<std::borrow::Cow<'a, str>>,
    priority: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a Role>,
    expected_artifacts: &'a [String],
}

impl<'a> Node<'a> {
    fn new(task: &'a TaskSpec, max_description_bytes: usize) -> Self {
        let description = task.metadata.get(DESCRIPTION);
        Self {
            id: &task.id,
            title: &task.title,
            description: description.map(|text| clip(text, max_description_bytes)),
            priority: task.priority,
            role: task.role.as_ref(),
            expected_artifacts: &task.expected_artifacts,
        }
    }
}

fn done_line(task: &DoneTask<'_>) -> String {
    #[derive(Serialize)]
    struct Done<'a> {
        #[serde(flatten)]
        node: Node<'a>,
        after: &'a [TaskId],
        summary: String,
    }
    // Not cut: it is to be repeated as it stands, and was bounded when it was accepted.
    let node = Node::new(task.spec, usize::MAX);
    json(&Done { node, after: task.after, summary: one_line(task.summary, MAX_SUMMARY_BYTES) })
}

fn json(value: &impl Serialize) -> String {
    // Strings, numbers and lists: there is nothing in it that JSON cannot say.
    serde_json::to_string(value).unwrap_or_default()
}
