//! The prompt that does the work.

use std::fmt::Write as _;
use std::path::Path;

use model::{AgentName, GoalSpec, TaskSpec};

use super::bound::{clip, errors, list, memory, one_line};
use super::plan::DESCRIPTION;
use super::template::Template;
use super::{
    MAX_DEPENDENCIES, MAX_FILES, MAX_GOAL_BYTES, MAX_INSTRUCTIONS_BYTES, MAX_SUMMARY_BYTES,
    MAX_TASK_BYTES, Prompt,
};

/// The longest file name that is shown, in bytes.
const MAX_PATH_BYTES: usize = 1024;

/// A task that another one waited for.
#[derive(Debug, Clone, Copy)]
pub struct Dependency<'a> {
    /// It.
    pub spec: &'a TaskSpec,
    /// What came of it; empty where nobody said.
    pub summary: &'a str,
    /// The files that it left, relative to the goal's working folder.
    pub artifacts: &'a [String],
}

/// Asks for a task to be done; answered by [`crate::answers::Execution`].
#[derive(Debug, Clone, Copy)]
pub struct Execute<'a> {
    /// Who does it.
    pub agent: &'a AgentName,
    /// The goal that it belongs to, with its text.
    pub goal: &'a GoalSpec,
    /// The task.
    pub task: &'a TaskSpec,
    /// The working folder, absolute.
    pub folder: &'a Path,
    /// The agent's instructions file; empty where it has none.
    pub instructions: &'a str,
    /// What the task waited for.
    pub dependencies: &'a [Dependency<'a>],
    /// What the agent remembers, oldest first.
    pub memory: &'a [String],
    /// How earlier attempts failed, oldest first.
    pub errors: &'a [String],
    /// What stopped an earlier attempt of which the session or the files are left.
    pub resumed: Option<&'a str>,
}

impl Execute<'_> {
    /// The prompt.
    #[must_use]
    pub fn render(&self) -> Prompt {
        Template::new("execute", include_str!("execute.md"))
            .plain("agent", self.agent)
            .plain("task_id", &self.task.id)
            .plain("goal_id", &self.goal.id)
            .fenced("task", task(self.task))
            .fenced("folder", self.folder.display().to_string())
            .fenced("artifacts", files(&self.task.expected_artifacts))
            .fenced("verify", clip(&self.task.verify.join("\n"), MAX_TASK_BYTES))
            .fenced("resumed", clip(self.resumed.unwrap_or_default(), MAX_SUMMARY_BYTES))
            .fenced("errors", errors(self.errors))
            .fenced("instructions", clip(self.instructions, MAX_INSTRUCTIONS_BYTES))
            .fenced("goal", clip(&self.goal.text, MAX_GOAL_BYTES))
            .fenced("dependencies", list(self.dependencies.iter(), MAX_DEPENDENCIES, dependency))
            .fenced("memory", memory(self.memory))
            .render()
    }
}

/// A task's title and what else it says.
pub(super) fn task(task: &TaskSpec) -> String {
    let mut text = one_line(&task.title, MAX_SUMMARY_BYTES);
    if let Some(description) = task.metadata.get(DESCRIPTION) {
        let _ = write!(text, "\n\n{}", description.trim());
    }
    for (key, value) in task.metadata.iter().filter(|(key, _)| key.as_str() != DESCRIPTION) {
        let _ = write!(text, "\n\n{key}: {}", value.trim());
    }
    clip(&text, MAX_TASK_BYTES).into_owned()
}

/// One path a line.
pub(super) fn files(paths: &[String]) -> String {
    list(paths.iter(), MAX_FILES, |path| one_line(path, MAX_PATH_BYTES))
}

fn dependency(task: &Dependency<'_>) -> String {
    let title = one_line(&task.spec.title, MAX_SUMMARY_BYTES);
    let mut text = format!("- {}: {title}", task.spec.id);
    if !task.summary.trim().is_empty() {
        let _ = write!(text, "\n  summary: {}", one_line(task.summary, MAX_SUMMARY_BYTES));
    }
    if !task.artifacts.is_empty() {
        let _ = write!(text, "\n  files:\n    {}", files(task.artifacts).replace('\n', "\n    "));
    }
    text
}
