//! The prompts after the work: what came of it, whether it will do, whether it can be
//! rescued, and what was wrong with an answer.

use std::path::Path;

use model::{AgentName, GoalSpec, TaskSpec};

use super::bound::{clip, errors};
use super::template::Template;
use super::work::{files, task};
use super::{
    MAX_CAME_BYTES, MAX_ERROR_BYTES, MAX_GOAL_BYTES, MAX_INSTRUCTIONS_BYTES, MAX_SUMMARY_BYTES,
    MAX_TASK_BYTES, Prompt,
};
use crate::answers::{MAX_SUMMARY_CHARS, RECOVERY_CONFIDENCE};

/// Asks for one line about what was done; answered by [`crate::answers::Summary`].
#[derive(Debug, Clone, Copy)]
pub struct Summarise<'a> {
    /// The task.
    pub task: &'a TaskSpec,
    /// What came of it, in words or as JSON.
    pub result: &'a str,
}

impl Summarise<'_> {
    /// The prompt.
    #[must_use]
    pub fn render(&self) -> Prompt {
        Template::new("summarise", include_str!("summarise.md"))
            .plain("max_chars", MAX_SUMMARY_CHARS)
            .fenced("task", task(self.task))
            .fenced("result", clip(self.result, MAX_TASK_BYTES))
            .render()
    }
}

/// Asks whether a task is really done; answered by [`crate::answers::Review`].
#[derive(Debug, Clone, Copy)]
pub struct Review<'a> {
    /// Who looks.
    pub agent: &'a AgentName,
    /// The goal that the task belongs to, with its text.
    pub goal: &'a GoalSpec,
    /// The task that is looked at.
    pub task: &'a TaskSpec,
    /// The working folder, absolute.
    pub folder: &'a Path,
    /// The files that it left, relative to that folder.
    pub outputs: &'a [String],
    /// What came of it; empty where nobody said.
    pub summary: &'a str,
    /// The reviewer's instructions file; empty where it has none.
    pub instructions: &'a str,
}

impl Review<'_> {
    /// The prompt.
    #[must_use]
    pub fn render(&self) -> Prompt {
        Template::new("review", include_str!("review.md"))
            .plain("agent", self.agent)
            .plain("task_id", &self.task.id)
            .plain("goal_id", &self.goal.id)
            .fenced("task", task(self.task))
            .fenced("goal", clip(&self.goal.text, MAX_GOAL_BYTES))
            .fenced("summary", clip(self.summary, MAX_SUMMARY_BYTES))
            .fenced("outputs", files(self.outputs))
            .fenced("folder", self.folder.display().to_string())
            .fenced("instructions", clip(self.instructions, MAX_INSTRUCTIONS_BYTES))
            .render()
    }
}

/// Asks whether a failed task can be rescued; answered by [`crate::answers::Recovery`].
#[derive(Debug, Clone, Copy)]
pub struct Recover<'a> {
    /// The goal that the task belongs to, with its text.
    pub goal: &'a GoalSpec,
    /// The task that failed.
    pub task: &'a TaskSpec,
    /// How its attempts failed, oldest first.
    pub errors: &'a [String],
}

impl Recover<'_> {
    /// The prompt.
    #[must_use]
    pub fn render(&self) -> Prompt {
        Template::new("recover", include_str!("recover.md"))
            .plain("task_id", &self.task.id)
            .plain("goal_id", &self.goal.id)
            .plain("threshold", RECOVERY_CONFIDENCE)
            .fenced("task", task(self.task))
            .fenced("goal", clip(&self.goal.text, MAX_GOAL_BYTES))
            .fenced("errors", errors(self.errors))
            .render()
    }
}

/// Asks for the same once more, because what came cannot be used.
#[derive(Debug, Clone, Copy)]
pub struct Repair<'a> {
    /// What was asked, in whole; absent where the session that knows it goes on.
    pub original: Option<&'a Prompt>,
    /// What came.
    pub came: &'a str,
    /// What is wrong with it.
    pub error: &'a str,
}

impl Repair<'_> {
    /// The prompt.
    #[must_use]
    pub fn render(&self) -> Prompt {
        let resumed = if self.original.is_none() { "yes" } else { "" };
        Template::new("repair", include_str!("repair.md"))
            .plain("original", self.original.map_or("", |prompt| prompt.text.trim_end()))
            .plain("resumed", resumed)
            .fenced("came", clip(self.came, MAX_CAME_BYTES))
            .fenced("error", clip(self.error, MAX_ERROR_BYTES))
            .render()
    }
}
