//! Where things lie within a project. All of ours is below `.orch/`.

use std::path::{Path, PathBuf};

use model::{GoalId, TaskId};

/// The folder of everything that orch writes.
pub(crate) const STATE_FOLDER: &str = ".orch";

/// Everything that orch writes into a project lies below this.
pub(crate) fn state_folder(project: &Path) -> PathBuf {
    project.join(STATE_FOLDER)
}

/// The output of one attempt.
pub(crate) fn attempt_log(project: &Path, task: &TaskId, attempt: u32) -> PathBuf {
    state_folder(project).join("logs").join(task.as_str()).join(format!("{attempt}.log"))
}

/// Where a goal's tasks run; `folder` is what its declaration says, relative to the
/// project.
pub(crate) fn working_folder(project: &Path, goal: &GoalId, folder: Option<&str>) -> PathBuf {
    match folder {
        Some(folder) => project.join(folder),
        None => state_folder(project).join("work").join(goal.as_str()),
    }
}

/// The last INSTRUCTIONS.md without an error.
pub(crate) fn last_good(project: &Path) -> PathBuf {
    state_folder(project).join("last-good.md")
}

/// The URL of Redis where it holds a password, readable by its owner only.
pub(crate) fn redis_url_file(project: &Path) -> PathBuf {
    state_folder(project).join("redis-url")
}

/// What is given to the program of a model, and what it leaves, for one call of `who`.
pub(crate) fn llm_scratch(project: &Path, who: &str) -> PathBuf {
    state_folder(project).join("llm").join(who)
}
