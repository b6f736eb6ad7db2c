//! Tasks: claiming, settling and reading them.

use std::collections::HashMap;

use model::lease::Epoch;
use model::task::State;
use model::{AgentName, GoalId, Role, TaskId, TaskSpec};
use redis::cmd;
use serde::Serialize;

use crate::agent::Incarnation;
use crate::connection::{Reply, Store};
use crate::error::Error;
use crate::record::Hash;
use crate::{keys, script};

/// Tasks read in one round trip.
const READ_CHUNK: usize = 500;

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
}

/// What came of asking for a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// It is ours.
    Granted(Box<Grant>),
    /// Nothing to do: the agent now counts as idle and a wake will come.
    Empty,
    /// Nothing may be claimed now, and why.
    Held(String),
    /// The wanted task is not claimable by this agent.
    Taken,
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

/// One task as it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Task {
    /// The stored id.
    pub id: TaskId,
    /// Whose task.
    pub goal: GoalId,
    /// Where it stands.
    pub status: State,
    /// What is to be done; absent where the plan does not hold it any more.
    pub spec: Option<TaskSpec>,
    /// The priority in force.
    pub priority: u32,
    /// Which agents may take it; any where absent.
    pub role: Option<Role>,
    /// Who runs it.
    pub owner: Option<AgentName>,
    /// When its lease ends unless renewed (ISO 8601).
    pub lease_expires: Option<String>,
    /// What the holder last said of it.
    pub progress: Option<String>,
    /// What it made, as JSON.
    pub artifacts: Option<serde_json::Value>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// Why it stands where it stands.
    pub reason: Option<String>,
    /// Not claimable before this time (ISO 8601).
    pub not_before: Option<String>,
    /// The last grant.
    pub epoch: Epoch,
    /// How many attempts were started.
    pub attempt: u32,
    /// How many of them failed, of those that count.
    pub failures: u32,
    /// How many of them lost their agent.
    pub losses: u32,
    /// How many failures end it.
    pub max_attempts: u32,
    /// How many dependencies are not done.
    pub waiting: u32,
    /// Of which plan.
    pub generation: u64,
    /// When the last attempt started (ISO 8601).
    pub started: Option<String>,
    /// When it became DONE or FAILED (ISO 8601).
    pub finished: Option<String>,
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
        let (wants, ttl) = wants_next(next_ttl_ms);
        let args = (
            (self.now(), holder.agent.as_str(), holder.incarnation.0),
            (holder.task.as_str(), holder.epoch.0, artifacts, progress, wants, ttl),
        );
        read_settled(self.call("complete a task", &script::COMPLETE, args).await?)
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
        let (wants, ttl) = wants_next(next_ttl_ms);
        let permanent = if permanent { "1" } else { "" };
        let jitter = format!("{:.3}", fastrand::f64());
        let args = (
            (self.now(), holder.agent.as_str(), holder.incarnation.0),
            (holder.task.as_str(), holder.epoch.0, error, permanent, jitter, wants, ttl),
        );
        read_settled(self.call("fail a task", &script::FAIL, args).await?)
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

    /// Lets a failed task be tried again, with its attempts counted anew.
    /// `Err` in the inner result is the state of a task that has not failed;
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

    /// The task with this stored id.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer or holds something else there.
    pub async fn task(&self, id: &TaskId) -> Result<Option<Task>, Error> {
        let key = keys::task(id);
        let fields: HashMap<String, String> =
            self.ask("read a task", cmd("HGETALL").arg(&key)).await?;
        let hash = Hash::new(key, fields);
        if hash.some("status").is_none() {
            return Ok(None);
        }
        let goal: GoalId = hash.required("goal", "a goal id")?;
        let spec: Option<String> = self
            .ask("read a task", cmd("HGET").arg(keys::dag(&goal, "nodes")).arg(id.as_str()))
            .await?;
        read_task(id.clone(), &hash, spec.as_deref()).map(Some)
    }

    /// All tasks of a goal's plan, by id.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer or holds something else there.
    pub async fn tasks(&self, goal: &GoalId) -> Result<Vec<Task>, Error> {
        let nodes_key = keys::dag(goal, "nodes");
        let nodes: HashMap<String, String> =
            self.ask("read a plan", cmd("HGETALL").arg(&nodes_key)).await?;
        let mut nodes: Vec<(TaskId, String)> = nodes
            .into_iter()
            .map(|(id, spec)| match TaskId::new(id.clone()) {
                Ok(id) => Ok((id, spec)),
                Err(_) => Err(Error::malformed(&nodes_key, &id, "task ids")),
            })
            .collect::<Result<_, _>>()?;
        nodes.sort();
        let mut tasks = Vec::with_capacity(nodes.len());
        for chunk in nodes.chunks(READ_CHUNK) {
            let mut pipeline = redis::pipe();
            for (id, _) in chunk {
                pipeline.cmd("HGETALL").arg(keys::task(id));
            }
            let hashes: Vec<HashMap<String, String>> =
                self.ask_all("read tasks", &pipeline).await?;
            for ((id, spec), fields) in chunk.iter().zip(hashes) {
                let hash = Hash::new(keys::task(id), fields);
                // Gone since the plan was read, or by hand: the figures show which.
                if hash.some("status").is_some() {
                    tasks.push(read_task(id.clone(), &hash, Some(spec))?);
                }
            }
        }
        Ok(tasks)
    }

    /// What a task waits for.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer or holds something else there.
    pub async fn dependencies(&self, goal: &GoalId, id: &TaskId) -> Result<Vec<TaskId>, Error> {
        let key = keys::dag(goal, "deps");
        let list: Option<String> =
            self.ask("read dependencies", cmd("HGET").arg(&key).arg(id.as_str())).await?;
        let Some(list) = list else { return Ok(Vec::new()) };
        serde_json::from_str(&list).map_err(|_| Error::malformed(key, &list, "a list of task ids"))
    }

    /// The last errors of a task as JSON objects `{agent, attempt, time, error}`,
    /// newest first.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer or holds something else there.
    pub async fn task_errors(&self, id: &TaskId) -> Result<Vec<serde_json::Value>, Error> {
        let key = keys::task_errors(id);
        let list: Vec<String> =
            self.ask("read a task's errors", cmd("LRANGE").arg(&key).arg(0).arg(-1)).await?;
        list.iter()
            .map(|text| {
                serde_json::from_str(text).map_err(|_| Error::malformed(&key, text, "JSON"))
            })
            .collect()
    }

    /// Every stored id that a person may mean by `text`: the stored id itself,
    /// `<goal>.<text>` of each goal, and `<goal>.<id>` where `<id>` is stored short.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn find_tasks(&self, text: &str) -> Result<Vec<TaskId>, Error> {
        let goals = self.goal_ids().await?;
        let mut candidates: Vec<(TaskId, Option<&GoalId>)> = Vec::new();
        candidates.extend(TaskId::new(text).ok().map(|id| (id, None)));
        for goal in &goals {
            candidates.extend(TaskId::new(format!("{goal}.{text}")).ok().map(|id| (id, None)));
            let short = text.strip_prefix(goal.as_str()).and_then(|rest| rest.strip_prefix('.'));
            candidates.extend(short.and_then(|id| TaskId::new(id).ok()).map(|id| (id, Some(goal))));
        }
        let mut pipeline = redis::pipe();
        for (id, _) in &candidates {
            pipeline.cmd("HMGET").arg(keys::task(id)).arg("goal").arg("status");
        }
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let found: Vec<(Option<String>, Option<String>)> =
            self.ask_all("look a task up", &pipeline).await?;
        let mut ids: Vec<(TaskId, String)> = candidates
            .into_iter()
            .zip(found)
            .filter_map(|((id, of), (goal, status))| {
                let goal = goal.filter(|_| status.is_some())?;
                of.is_none_or(|of| goal == of.as_str()).then_some((id, goal))
            })
            .collect();
        ids.sort();
        ids.dedup();
        self.in_plans(ids).await
    }

    /// Those that are in their goal's plan, and not only reserved or staged for one.
    async fn in_plans(&self, ids: Vec<(TaskId, String)>) -> Result<Vec<TaskId>, Error> {
        let mut pipeline = redis::pipe();
        for (id, goal) in &ids {
            let goal = GoalId::new(goal.as_str())
                .map_err(|_| Error::malformed(keys::task(id), goal, "a goal id"))?;
            pipeline.cmd("HEXISTS").arg(keys::dag(&goal, "nodes")).arg(id.as_str());
        }
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let held: Vec<bool> = self.ask_all("look a task up", &pipeline).await?;
        Ok(ids.into_iter().zip(held).filter(|(_, held)| *held).map(|((id, _), _)| id).collect())
    }
}

fn wants_next(ttl_ms: Option<u64>) -> (&'static str, u64) {
    // Redis refuses an expiry of 0, and a script must not stop halfway.
    ttl_ms.map_or(("", 0), |ttl| ("1", ttl.max(1)))
}

fn read_claim(reply: &Reply) -> Result<Claim, Error> {
    Ok(match reply.verdict() {
        "granted" => Claim::Granted(Box::new(read_grant(reply)?)),
        "empty" => Claim::Empty,
        "held" => Claim::Held(reply.word(0).to_owned()),
        "taken" => Claim::Taken,
        "fenced" => Claim::Fenced,
        _ => return Err(reply.surprise()),
    })
}

fn read_grant(reply: &Reply) -> Result<Grant, Error> {
    let [task, epoch, attempt, generation, goal, spec, last_error] = reply.rest() else {
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
    })
}

fn read_settled(reply: Reply) -> Result<(Settled, Option<Claim>), Error> {
    let settled = match reply.verdict() {
        "done" => Settled::Done,
        "retry" => Settled::Retry,
        "failed" => Settled::Failed,
        "superseded" => Settled::Superseded,
        "released" => Settled::Released,
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

fn read_task(id: TaskId, hash: &Hash, spec: Option<&str>) -> Result<Task, Error> {
    let spec = spec
        .map(|text| {
            serde_json::from_str(text)
                .map_err(|_| Error::malformed(format!("the plan's {id}"), text, "a task"))
        })
        .transpose()?;
    Ok(Task {
        goal: hash.required("goal", "a goal id")?,
        status: hash.required("status", "a task state")?,
        spec,
        priority: hash.number("priority")?,
        role: hash.parsed("role", "a role")?,
        owner: hash.parsed("owner", "an agent's name")?,
        lease_expires: hash.some("lease_expires"),
        progress: hash.some("progress"),
        artifacts: hash.parsed("artifacts", "JSON")?,
        last_error: hash.some("last_error"),
        reason: hash.some("reason"),
        not_before: hash.some("not_before"),
        epoch: Epoch(hash.number("epoch")?),
        attempt: hash.number("attempt")?,
        failures: hash.number("failures")?,
        losses: hash.number("losses")?,
        max_attempts: hash.number("max_attempts")?,
        waiting: hash.number("waiting")?,
        generation: hash.number("generation")?,
        started: hash.some("started"),
        finished: hash.some("finished"),
        id,
    })
}
