//! Putting another task in front of the one that is held.

use model::{Role, TaskId, TaskSpec};
use serde_json::json;

use super::Holder;
use crate::connection::Store;
use crate::dag::{max_attempts, needs_model};
use crate::error::Error;
use crate::script;

/// Why a task is put in front of another; each has a counter of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DetourKind {
    /// To mend what a review found.
    Review,
    /// To rescue a task that failed.
    Recovery,
}

impl DetourKind {
    /// The word in Redis.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Review => "review",
            Self::Recovery => "recovery",
        }
    }
}

/// A task that is to be done before the held one goes on.
#[derive(Debug, Clone, Copy)]
pub struct Detour<'a> {
    /// What is to be done. Its id must not be in the plan yet; its priority counts only
    /// where it is above that of the held task.
    pub spec: &'a TaskSpec,
    /// Why the held task cannot go on; at most some kilobytes.
    pub error: &'a str,
    /// How many detours of this kind the held task may take.
    pub limit: u32,
    /// Why.
    pub kind: DetourKind,
}

/// What came of asking for a detour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detoured {
    /// The new task is READY and the held one, no longer held, waits for it.
    Inserted {
        /// Which detour of this kind, from 1.
        round: u32,
        /// The stored id of the new task.
        task: TaskId,
    },
    /// The held task took all the detours it may; nothing changed, it is still held.
    Exhausted,
    /// This epoch was settled before: a lost reply.
    Already,
    /// The plan changed while it ran; the held task is READY again, nothing was inserted.
    Superseded,
    /// Another incarnation or epoch is current: nothing was changed.
    Fenced,
}

impl Store {
    /// Inserts `detour.spec` into the plan in front of the task of `holder`, and hands
    /// that back to wait for it. No failure is counted.
    ///
    /// # Errors
    /// [`Error::IdTaken`] where the new id is in a plan already; [`Error`] where Redis
    /// did not answer: asking again is safe.
    pub async fn detour(&self, holder: Holder<'_>, detour: &Detour<'_>) -> Result<Detoured, Error> {
        let spec = detour.spec;
        let args = (
            (self.now(), holder.agent.as_str(), holder.incarnation.0),
            (holder.task.as_str(), holder.epoch.0),
            (detour.kind.as_str(), detour.limit, detour.error),
            (spec.id.as_str(), json!(spec).to_string()),
            (spec.role.as_ref().map_or("", Role::as_str), spec.priority, max_attempts(spec)),
            needs_model(spec),
        );
        let reply = self.call("put a task in front of another", &script::DETOUR, args).await?;
        Ok(match reply.verdict() {
            "inserted" => Detoured::Inserted {
                round: reply.word(0).parse().map_err(|_| reply.surprise())?,
                task: TaskId::new(reply.word(1)).map_err(|_| reply.surprise())?,
            },
            "exhausted" => Detoured::Exhausted,
            "already" => Detoured::Already,
            "superseded" => Detoured::Superseded,
            "fenced" => Detoured::Fenced,
            "taken" => return Err(Error::IdTaken { id: spec.id.to_string() }),
            _ => return Err(reply.surprise()),
        })
    }
}
