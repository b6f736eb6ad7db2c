//! What models are asked: one template a step, in files beside this one.
//!
//! # Guarantees
//! Text that others wrote (goals, instructions, summaries, errors) stands in fences that
//! it cannot close: their tag is derived from all that a prompt holds and occurs in none
//! of it. What is put in is never looked at again for placeholders. Every part has a
//! limit, and where something was left out the prompt says so. The same inputs give the
//! same prompt, so that its hash tells whether anything changed since an attempt.

mod bound;
mod judge;
mod plan;
mod template;
mod work;

pub use judge::{Recover, Repair, Review, Summarise};
pub use plan::{Agent, Decompose, DoneTask, Select};
pub use work::{Dependency, Execute};

pub(crate) use bound::{clip, one_line};
pub(crate) use template::printable;

/// A prompt, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// All of it.
    pub text: String,
    /// `<step>/<version of its template> <first 12 hex digits of the SHA-256 of text>`, as
    /// `execute/1 0f343b093112`: what is recorded beside a result.
    pub id: String,
}

/// The most of a goal's text, in bytes.
pub const MAX_GOAL_BYTES: usize = 64 * 1024;
/// The most of an agent's instructions, in bytes.
pub const MAX_INSTRUCTIONS_BYTES: usize = 32 * 1024;
/// The most of what a task says beside its title, in bytes.
pub const MAX_TASK_BYTES: usize = 16 * 1024;
/// The most entries of an agent's memory: the newest.
pub const MAX_MEMORY_LINES: usize = 50;
/// The most of an agent's memory, in bytes: the newest.
pub const MAX_MEMORY_BYTES: usize = 8 * 1024;
/// The most of one task's summary, in bytes.
pub const MAX_SUMMARY_BYTES: usize = 1024;
/// The most tasks that a task waited for of which it is told.
pub const MAX_DEPENDENCIES: usize = 50;
/// The most files of one task that are named, and of one that it waited for.
pub const MAX_FILES: usize = 100;
/// The most different errors of earlier attempts: the newest.
pub const MAX_ERRORS: usize = 5;
/// The most of one error, in bytes: its beginning and its end.
pub const MAX_ERROR_BYTES: usize = 2 * 1024;
/// The most of an answer that is quoted back, in bytes.
pub const MAX_CAME_BYTES: usize = 2_000;
/// The most tasks, agents or candidates of a list.
pub const MAX_LIST: usize = 200;
/// The most of a list, in bytes.
pub const MAX_LIST_BYTES: usize = 128 * 1024;

#[cfg(test)]
mod tests;
