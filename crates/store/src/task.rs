//! Tasks: claiming, settling and reading them.

mod detour;
mod read;

use model::lease::Epoch;
use model::task::State;
use model::{AgentName, GoalId, TaskId, TaskSpec};
use serde::Serialize;

use crate::agent::Incarnation;
use crate::connection::{Reply, Store};
use crate::error::Error;
use crate::script;

pub use self::detour::{Detour, DetourKind, Detoured};
pub use self::read::{Input, Task};

/// The right to run one task, as it was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The task, by its stored id.
    pub task: TaskId,
    /// Which grant.
    pub epoch: Epoch,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// Of which plan.
    pub generation: u64,
    /// Whose task.
    pub goal: GoalId,
    /// What is to be done.
    pub spec: TaskSpec,
    /// Why the attempt before failed, if one did.
    pub last_error: Option<String>,
    /// The last errors of the task, newest first, at most five; none before the second attempt.
    pub errors: Vec<String>,
    /// The conversation that an attempt began and did not finish.
    pub session: Option<SessionRecord>,
    /// How often other tasks were put in front of this one.
    pub detours: Detours,
}

/// A conversation with a model, as it was recorded before its first call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionRecord {
    /// Its id, chosen by us.
    pub session: String,
    /// With which provider.
    pub provider: String,
    /// On which host it can be resumed.
    pub host: String,
    /// The log of the call that began it, a path on that host.
    pub log: String,
}

/// How often other tasks were put in front of a task, since it was last revised or
/// retried by a person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Detours {
    /// To mend what a review found.
    pub review: u32,
    /// To rescue it from a failure.
    pub recovery: u32,
}

/// What came of asking for a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// It is ours.
    Granted(Box<Grant>),
    /// Nothing to do: the agent now counts as idle and a wake will come.
    Empty,
    /// Nothing may be claimed now. For tasks that need no model the agent counts as
    /// idle all the same, unless it is paused.
    Held {
        /// Why.
        reason: String,
        /// Until when, in microseconds since the epoch, where that is known.
        until_us: Option<u64>,
    },
    /// The wanted task is not claimable by this agent.
    Taken,
    /// A newer incarnation exists, or none: this process must end.
    Fenced,
}

/// Among which tasks an agent may choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Candidates {
    /// These share the highest priority; at least one, best first.
    Tasks(Vec<(TaskId, TaskSpec)>),
    /// Nothing may be claimed now, as [`Claim::Held`].
    Held {
        /// Why.
        reason: String,
        /// Until when, in microseconds since the epoch, where that is known.
        until_us: Option<u64>,
    },
    /// Nothing to do: the agent now counts as idle and a wake will come.
    Empty,
    /// It holds a task already: a claim grants that one again.
    Holding,
    /// A newer incarnation exists, or none: this process must end.
    Fenced,
}

/// What came of reporting the end of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The completion is accepted.
    Done,
    /// The failure is recorded; the task is tried again.
    Retry,
    /// The failure is recorded; it was the last allowed attempt.
    Failed,
    /// The plan changed while it ran; the task is READY again.
    Superseded,
    /// The task was handed back.
    Released,
    /// The task was handed back and nobody may claim it until a person says so.
    Parked,
    /// This epoch was settled before: a lost reply.
    Already,
    /// Another incarnation or epoch is current: nothing was changed.
    Fenced,
}

/// What identifies a holder's write.
#[derive(Debug, Clone, Copy)]
pub struct Holder<'a> {
    /// Who.
    pub agent: &'a AgentName,
    /// Which process of that name.
    pub incarnation: Incarnation,
    /// Which task.
    pub task: &'a TaskId,
    /// Under which grant.
    pub epoch: Epoch,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy)]
pub enum Report<'a> {
    /// With success.
    Done {
        /// What was made, as a JSON list.
        artifacts: &'a str,
        /// A line for people.
        progress: &'a str,
    },
    /// Without.
    Failed {
        /// What a person, or the next attempt, should know.
        error: &'a str,
        /// Whether it is not to be tried again.
        permanent: bool,
    },
}

/// What is done in the same step as a report.
#[derive(Debug, Clone, Copy, Default)]
pub struct After<'a> {
    /// The next task is asked for, with a lease of so many milliseconds.
    pub next_ttl_ms: Option<u64>,
    /// The agent's memory is saved, unless a person flushed it since or the report is fenced.
    pub memory: Option<Memory<'a>>,
}

/// What an agent remembers.
#[derive(Debug, Clone, Copy)]
pub struct Memory<'a> {
    /// How often people had it flushed, as [`crate::agent::Control`] tells.
    pub flushes: &'a str,
    /// A JSON list of lines.
    pub json: &'a str,
}

impl Store {
    /// Asks for the best task of the agent's goal and role, or for `wanted`.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer; asking again is safe.
    pub async fn claim(
        &self,
        agent: &AgentName,
        incarnation: Incarnation,
        ttl_ms: u64,
        wanted: Option<&TaskId>,
    ) -> Result<Claim, Error> {
        let wanted = wanted.map_or("", TaskId::as_str);
        let args = (self.now(), agent.as_str(), incarnation.0, ttl_ms.max(1), wanted);
        let reply = self.call("claim a task", &script::CLAIM, args).await?;
        read_claim(&reply)
    }

    /// The claimable tasks of this agent that share the highest priority, at most
    /// `most`. Grants nothing.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer or holds something else there.
    pub async fn candidates(
        &self,
        agent: &AgentName,
        incarnation: Incarnation,
        most: usize,
    ) -> Result<Candidates, Error> {
        let args = (self.now(), agent.as_str(), incarnation.0, most.max(1));
        let reply = self.call("look for tasks", &script::CANDIDATES, args).await?;
        Ok(match reply.verdict() {
            "tasks" => Candidates::Tasks(read_candidates(&reply)?),
            "held" => {
                Candidates::Held { reason: reply.word(0).to_owned(), until_us: until(&reply)? }
            }
            "empty" => Candidates::Empty,
            "holding" => Candidates::Holding,
            "fenced" => Candidates::Fenced,
            _ => return Err(reply.surprise()),
        })
    }

    /// Reports success, with what was made (JSON list) and a line for people.
    /// With `next_ttl_ms` it asks for the next task in the same step.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer; reporting again is safe.
    pub async fn complete(
        &self,
        holder: Holder<'_>,
        artifacts: &str,
        progress: &str,
        next_ttl_ms: Option<u64>,
    ) -> Result<(Settled, Option<Claim>), Error> {
        let report = Report::Done { artifacts, progress };
        self.settle(holder, report, After { next_ttl_ms, memory: None }).await
    }

    /// Reports failure. `permanent` failures are not tried again.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer; reporting again is safe.
    pub async fn fail(
        &self,
        holder: Holder<'_>,
        error: &str,
        permanent: bool,
        next_ttl_ms: Option<u64>,
    ) -> Result<(Settled, Option<Claim>), Error> {
        let report = Report::Failed { error, permanent };
        self.settle(holder, report, After { next_ttl_ms, memory: None }).await
    }

    /// Reports the end of an attempt, in one step with what follows it.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer; reporting again is safe.
    pub async fn settle(
        &self,
        holder: Holder<'_>,
        report: Report<'_>,
        after: After<'_>,
    ) -> Result<(Settled, Option<Claim>), Error> {
        // Redis refuses an expiry of 0, and a script must not stop halfway.
        let (wants, ttl) = after.next_ttl_ms.map_or(("", 0), |ttl| ("1", ttl.max(1)));
        let memory = after.memory.map_or(("", ""), |kept| (kept.flushes, kept.json));
        let writer = (self.now(), holder.agent.as_str(), holder.incarnation.0);
        let held = (holder.task.as_str(), holder.epoch.0);
        let reply = match report {
            Report::Done { artifacts, progress } => {
                let args = (writer, held, artifacts, progress, wants, ttl, memory);
                self.call("complete a task", &script::COMPLETE, args).await?
            }
            Report::Failed { error, permanent } => {
                let permanent = if permanent { "1" } else { "" };
                let jitter = format!("{:.3}", fastrand::f64());
                let args = (writer, held, error, permanent, jitter, wants, ttl, memory);
                self.call("fail a task", &script::FAIL, args).await?
            }
        };
        read_settled(reply)
    }

    /// Hands a task back unfinished; no attempt is used up.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer; releasing again is safe.
    pub async fn release(&self, holder: Holder<'_>, reason: &str) -> Result<Settled, Error> {
        let args = (
            (self.now(), holder.agent.as_str(), holder.incarnation.0),
            (holder.task.as_str(), holder.epoch.0, reason),
        );
        let reply = self.call("release a task", &script::RELEASE, args).await?;
        Ok(read_settled(reply)?.0)
    }

    /// Hands a task back whose budget is spent: no attempt is used up, and nobody may
    /// claim it until its plan is changed or a person retries it.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer; parking again is safe.
    pub async fn park(&self, holder: Holder<'_>, reason: &str) -> Result<Settled, Error> {
        let args = (
            (self.now(), holder.agent.as_str(), holder.incarnation.0),
            (holder.task.as_str(), holder.epoch.0, reason),
        );
        let reply = self.call("park a task", &script::PARK, args).await?;
        Ok(read_settled(reply)?.0)
    }

    /// Lets a failed or parked task be tried again, with its attempts, detours and costs
    /// counted anew. `Err` in the inner result is the state of a task that is neither;
    /// `None` is no such task.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn retry(&self, task: &TaskId) -> Result<Option<Result<State, State>>, Error> {
        let reply = self.call("retry a task", &script::RETRY, (self.now(), task.as_str())).await?;
        let state = |word: &str| word.parse().map_err(|_| reply.surprise());
        match reply.verdict() {
            "unknown" => Ok(None),
            "refused" => Ok(Some(Err(state(reply.word(0))?))),
            word => Ok(Some(Ok(state(word)?))),
        }
    }
}

fn read_claim(reply: &Reply) -> Result<Claim, Error> {
    Ok(match reply.verdict() {
        "granted" => Claim::Granted(Box::new(read_grant(reply)?)),
        "empty" => Claim::Empty,
        "held" => Claim::Held { reason: reply.word(0).to_owned(), until_us: until(reply)? },
        "taken" => Claim::Taken,
        "fenced" => Claim::Fenced,
        _ => return Err(reply.surprise()),
    })
}

/// The second word of `held reason until_us`.
fn until(reply: &Reply) -> Result<Option<u64>, Error> {
    if reply.word(1).is_empty() { Ok(None) } else { reply.number(1).map(Some) }
}

fn read_grant(reply: &Reply) -> Result<Grant, Error> {
    let [task, epoch, attempt, generation, goal, spec, last_error, resume @ ..] = reply.rest()
    else {
        return Err(reply.surprise());
    };
    let [session, provider, host, log, errors, review, recovery] = resume else {
        return Err(reply.surprise());
    };
    let surprise = || reply.surprise();
    Ok(Grant {
        task: TaskId::new(task.as_str()).map_err(|_| surprise())?,
        epoch: Epoch(epoch.parse().map_err(|_| surprise())?),
        attempt: attempt.parse().map_err(|_| surprise())?,
        generation: generation.parse().map_err(|_| surprise())?,
        goal: GoalId::new(goal.as_str()).map_err(|_| surprise())?,
        spec: serde_json::from_str(spec)
            .map_err(|_| Error::malformed(format!("dag:{goal}:nodes {task}"), spec, "a task"))?,
        last_error: Some(last_error).filter(|text| !text.is_empty()).cloned(),
        errors: serde_json::from_str(errors).map_err(|_| surprise())?,
        session: Some(session).filter(|text| !text.is_empty()).map(|session| SessionRecord {
            session: session.clone(),
            provider: provider.clone(),
            host: host.clone(),
            log: log.clone(),
        }),
        detours: Detours {
            review: review.parse().map_err(|_| surprise())?,
            recovery: recovery.parse().map_err(|_| surprise())?,
        },
    })
}

fn read_candidates(reply: &Reply) -> Result<Vec<(TaskId, TaskSpec)>, Error> {
    reply
        .rest()
        .chunks(2)
        .map(|pair| {
            let [id, spec] = pair else { return Err(reply.surprise()) };
            let id = TaskId::new(id.as_str()).map_err(|_| reply.surprise())?;
            let spec = serde_json::from_str(spec)
                .map_err(|_| Error::malformed(format!("the plan's {id}"), spec, "a task"))?;
            Ok((id, spec))
        })
        .collect()
}

fn read_settled(reply: Reply) -> Result<(Settled, Option<Claim>), Error> {
    let settled = match reply.verdict() {
        "done" => Settled::Done,
        "retry" => Settled::Retry,
        "failed" => Settled::Failed,
        "superseded" => Settled::Superseded,
        "released" => Settled::Released,
        "parked" => Settled::Parked,
        "already" => Settled::Already,
        "fenced" => Settled::Fenced,
        _ => return Err(reply.surprise()),
    };
    let next = match reply.rest() {
        [] => None,
        [..] => Some(read_claim(&reply.into_next())?),
    };
    Ok((settled, next))
}
