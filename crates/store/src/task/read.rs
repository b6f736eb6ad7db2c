//! Reading tasks: one, a plan's, and what people call them.

use std::collections::HashMap;

use model::lease::Epoch;
use model::task::State;
use model::{AgentName, GoalId, Role, TaskId, TaskSpec};
use redis::cmd;
use serde::Serialize;

use super::{Detours, SessionRecord};
use crate::connection::Store;
use crate::error::Error;
use crate::keys;
use crate::record::{Fields, Hash};

/// Tasks read in one round trip.
const READ_CHUNK: usize = 500;
/// The most dependencies whose results are read: a prompt holds no more.
const MAX_INPUTS: usize = 50;

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
    /// What its model calls cost so far, in millionths of a US dollar, since a person last
    /// retried it.
    pub cost_micros: u64,
    /// How many model calls were made for it.
    pub llm_calls: u64,
    /// Version and hash of the prompt that its last result came of, as
    /// `execute/1 0f343b093112`.
    pub prompt: Option<String>,
    /// The conversation that an attempt began and did not finish.
    pub session: Option<SessionRecord>,
    /// How often other tasks were put in front of this one.
    pub detours: Detours,
}

/// What a dependency left for the tasks that waited for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Input {
    /// Its stored id.
    pub id: TaskId,
    /// One line for people; '' where the plan does not hold it any more.
    pub title: String,
    /// The summary of what was done.
    pub progress: Option<String>,
    /// What it made, as JSON.
    pub artifacts: Option<serde_json::Value>,
}

impl Store {
    /// The task with this stored id.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer or holds something else there.
    pub async fn task(&self, id: &TaskId) -> Result<Option<Task>, Error> {
        let key = keys::task(id);
        let fields: Fields = self.ask("read a task", cmd("HGETALL").arg(&key)).await?;
        let hash = Hash::new(key, fields);
        if !Task::is_in(&hash) {
            return Ok(None);
        }
        let goal: GoalId = hash.required("goal", "a goal id")?;
        let spec: Option<String> = self
            .ask("read a task", cmd("HGET").arg(keys::dag(&goal, "nodes")).arg(id.as_str()))
            .await?;
        Task::decode(id.clone(), &hash, spec.as_deref()).map(Some)
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
            let hashes: Vec<Fields> = self.ask_all("read tasks", &pipeline).await?;
            for ((id, spec), fields) in chunk.iter().zip(hashes) {
                let hash = Hash::new(keys::task(id), fields);
                // Gone since the plan was read, or by hand: the figures show which.
                if Task::is_in(&hash) {
                    tasks.push(Task::decode(id.clone(), &hash, Some(spec))?);
                }
            }
        }
        Ok(tasks)
    }

    /// What each task of the plan in force waits for, by id; those that wait for nothing
    /// are left out.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn all_dependencies(
        &self,
        goal: &GoalId,
    ) -> Result<HashMap<String, Vec<String>>, Error> {
        let key = keys::dag(goal, "deps");
        let lists: HashMap<String, String> =
            self.ask("read dependencies", cmd("HGETALL").arg(&key)).await?;
        let list = |(id, json): (String, String)| {
            let ids = serde_json::from_str(&json)
                .map_err(|_| Error::malformed(&key, &json, "a list of task ids"))?;
            Ok((id, ids))
        };
        lists.into_iter().map(list).collect()
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

    /// What the direct dependencies of a task left, by id; at most 50.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer or holds something else there.
    pub async fn inputs(&self, goal: &GoalId, id: &TaskId) -> Result<Vec<Input>, Error> {
        let mut deps = self.dependencies(goal, id).await?;
        deps.sort();
        deps.truncate(MAX_INPUTS);
        if deps.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::pipe();
        for dep in &deps {
            pipeline.cmd("HGET").arg(keys::dag(goal, "nodes")).arg(dep.as_str());
            pipeline.cmd("HMGET").arg(keys::task(dep)).arg("progress").arg("artifacts");
        }
        let values: Vec<redis::Value> =
            self.ask_all("read what a task builds on", &pipeline).await?;
        deps.into_iter().zip(values.chunks(2)).map(|(id, pair)| read_input(id, pair)).collect()
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

impl Task {
    /// Whether `hash` holds a task at all.
    fn is_in(hash: &Hash) -> bool {
        hash.some("status").is_some()
    }

    /// Reads `task:<id>`; `spec` is the task as its plan holds it, in JSON.
    ///
    /// # Errors
    /// [`Error::Malformed`] names the field that is not as this version writes it.
    pub fn decode(id: TaskId, hash: &Hash, spec: Option<&str>) -> Result<Self, Error> {
        let goal: GoalId = hash.required("goal", "a goal id")?;
        let no_task =
            |text| Error::malformed(format!("{} {id}", keys::dag(&goal, "nodes")), text, "a task");
        let spec = spec.map(|text| serde_json::from_str(text).map_err(|_| no_task(text)));
        let spec = spec.transpose()?;
        Ok(Self {
            goal,
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
            cost_micros: hash.number("cost")?,
            llm_calls: hash.number("llm_calls")?,
            prompt: hash.some("prompt"),
            session: read_session(hash),
            detours: Detours {
                review: hash.number("detours_review")?,
                recovery: hash.number("detours_recovery")?,
            },
            id,
        })
    }
}

fn read_input(id: TaskId, pair: &[redis::Value]) -> Result<Input, Error> {
    let key = keys::task(&id);
    let malformed = |found: &str, expected| Error::malformed(key.clone(), found, expected);
    let [spec, record] = pair else { return Err(malformed("", "a task")) };
    let spec: Option<String> =
        redis::from_redis_value(spec.clone()).map_err(|_| malformed("", "a task"))?;
    let spec: Option<TaskSpec> = spec
        .map(|text| serde_json::from_str(&text).map_err(|_| malformed(&text, "a task")))
        .transpose()?;
    let (progress, artifacts): (Option<String>, Option<String>) =
        redis::from_redis_value(record.clone()).map_err(|_| malformed("", "a task"))?;
    Ok(Input {
        title: spec.map_or_else(String::new, |spec| spec.title),
        progress: progress.filter(|text| !text.is_empty()),
        artifacts: artifacts
            .filter(|text| !text.is_empty())
            .map(|text| serde_json::from_str(&text).map_err(|_| malformed(&text, "JSON")))
            .transpose()?,
        id,
    })
}

fn read_session(hash: &Hash) -> Option<SessionRecord> {
    Some(SessionRecord {
        session: hash.some("session")?,
        provider: hash.text("session_provider"),
        host: hash.text("session_host"),
        log: hash.text("session_log"),
    })
}
