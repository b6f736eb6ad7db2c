//! Agents: who is registered, alive, paused, and what each remembers.

use std::fmt;
use std::time::Duration;

use model::agent::Phase;
use model::lease::Epoch;
use model::{AgentName, GoalId, Role, TaskId};
use redis::cmd;
use serde::Serialize;

use crate::connection::{Store, Waiting};
use crate::error::Error;
use crate::lead::Lead;
use crate::record::{Fields, Hash};
use crate::{keys, script};

/// How many agents one call reads: Redis does nothing else meanwhile.
const AGENTS_PER_CALL: usize = 100;

/// Which process of an agent's name; grows with every registration, by the same
/// rule as a lease's epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a process says of itself when it takes an agent's name.
#[derive(Debug, Clone)]
pub struct Registration<'a> {
    /// The name.
    pub agent: &'a AgentName,
    /// Its process id.
    pub pid: u32,
    /// The host it runs on.
    pub host: &'a str,
    /// When the process started, in clock ticks since boot.
    pub start_time: u64,
    /// What kind of tasks it takes.
    pub role: &'a Role,
    /// Whose tasks.
    pub goal: &'a GoalId,
    /// Fingerprint of the declaration it was started with.
    pub spec_hash: &'a str,
    /// Which model it asks: while that is held, it is granted only tasks that need none.
    /// '' and `offline` are no model.
    pub provider: &'a str,
}

/// An agent's process as it registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Registered {
    /// Its process id.
    pub pid: u32,
    /// The host it runs on.
    pub host: String,
    /// When the process started, in clock ticks since boot.
    pub start_time: u64,
    /// Which process of the name.
    pub incarnation: Incarnation,
    /// When it registered (ISO 8601).
    pub timestamp: String,
    /// What kind of tasks it takes.
    pub role: Option<Role>,
    /// Whose tasks.
    pub goal: Option<GoalId>,
    /// Fingerprint of the declaration it was started with.
    pub spec_hash: String,
    /// Which provider of models it asks; '' for one of an older version.
    pub provider: String,
    /// Another number with each sign of life, and a higher one: no value comes twice.
    pub beat: u64,
    /// What it runs now, under which grant.
    pub task: Option<(TaskId, Epoch)>,
}

/// What the controllers say of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// What it is doing, as far as its process goes.
    pub phase: Option<Phase>,
    /// How often it was started again.
    pub restarts: u64,
    /// Why its last process ended.
    pub last_exit: Option<String>,
    /// When it is started again (ISO 8601).
    pub next_start: Option<String>,
    /// What stands in the way of starting it.
    pub error: Option<String>,
    /// `beating`, `silent` or `gone`, as the heartbeat controller sees it.
    pub liveness: Option<String>,
}

/// All that Redis holds of one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Agent {
    /// Its name.
    pub name: AgentName,
    /// Its present process.
    pub registered: Option<Registered>,
    /// Its last sign of life (ISO 8601); gone one TTL after the last.
    pub heartbeat: Option<String>,
    /// What the controllers say.
    pub status: Status,
    /// Whether a person paused it.
    pub paused: bool,
    /// Changes with each directive; '' before the first. See
    /// [`Consumed`](crate::directive::Consumed).
    #[serde(skip)]
    pub consumed_version: String,
}

/// The answer to a sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beat {
    /// The process is the agent's present one.
    Ok {
        /// It waits, and had better claim: it missed a wake, or nobody would wake it.
        should_claim: bool,
        /// Whether the named lease is still held; `None` where none was named.
        lease: Option<bool>,
        /// What a person asked of it.
        control: Control,
        /// What it holds according to Redis.
        holds: Option<(TaskId, Epoch)>,
    },
    /// A newer incarnation exists, or none: this process must end.
    Fenced,
}

/// What a process does while it gives a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing<'a> {
    /// It runs a task, under this grant: its lease is renewed.
    Runs(&'a TaskId, Epoch),
    /// Nothing, until it is woken. It is told when it had better look by itself.
    Waits,
    /// Neither.
    Else,
}

impl<'a> From<Option<(&'a TaskId, Epoch)>> for Doing<'a> {
    fn from(holds: Option<(&'a TaskId, Epoch)>) -> Self {
        holds.map_or(Self::Else, |(task, epoch)| Self::Runs(task, epoch))
    }
}

/// What people asked of an agent by directives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Control {
    /// It claims nothing.
    pub paused: bool,
    /// Changes with every `FLUSH-MEMORY`.
    pub flushes: String,
    /// Changes with every `REPARSE`.
    pub reparses: String,
}

/// What came of a memory snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snapshot {
    /// It is stored.
    Saved,
    /// A person flushed the memory since it was read: start empty.
    Flushed,
    /// A newer incarnation exists, or none.
    Fenced,
}

impl Store {
    /// Takes an agent's name for this process.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer; the same process gets the same answer.
    pub async fn register(
        &self,
        registration: &Registration<'_>,
        ttl_ms: u64,
    ) -> Result<Incarnation, Error> {
        let r = registration;
        let args = (
            (self.now(), r.agent.as_str(), r.pid, r.host, r.start_time),
            (r.role.as_str(), r.goal.as_str(), r.spec_hash, ttl_ms.max(1), r.provider),
        );
        let reply = self.call("register an agent", &script::REGISTER, args).await?;
        Ok(Incarnation(reply.number(0)?))
    }

    /// Leaves in order. `false` where another incarnation holds the name.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn deregister(
        &self,
        agent: &AgentName,
        incarnation: Incarnation,
        reason: &str,
    ) -> Result<bool, Error> {
        let args = (self.now(), agent.as_str(), incarnation.0, reason);
        let reply = self.call("deregister an agent", &script::DEREGISTER, args).await?;
        Ok(reply.verdict() == "gone")
    }

    /// Gives a sign of life and renews the lease of the task that it runs, if any.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn beat(
        &self,
        agent: &AgentName,
        incarnation: Incarnation,
        ttl_ms: u64,
        doing: impl Into<Doing<'_>>,
        progress: &str,
    ) -> Result<Beat, Error> {
        let (task, epoch, waits) = match doing.into() {
            Doing::Runs(task, epoch) => (task.as_str(), epoch.to_string(), ""),
            Doing::Waits => ("", String::new(), "1"),
            Doing::Else => ("", String::new(), ""),
        };
        let ttl_ms = ttl_ms.max(1);
        let args =
            (self.now(), agent.as_str(), incarnation.0, ttl_ms, task, epoch, progress, waits);
        let reply = self.call("give a sign of life", &script::BEAT, args).await?;
        if reply.verdict() == "fenced" {
            return Ok(Beat::Fenced);
        }
        let [lease, paused, flushes, reparses, task, epoch, should_claim] = reply.rest() else {
            return Err(reply.surprise());
        };
        Ok(Beat::Ok {
            should_claim: should_claim == "1",
            lease: Some(lease).filter(|word| !word.is_empty()).map(|word| word == "ok"),
            control: Control {
                paused: paused == "1",
                flushes: flushes.clone(),
                reparses: reparses.clone(),
            },
            holds: TaskId::new(task.as_str()).ok().zip(epoch.parse().ok().map(Epoch)),
        })
    }

    /// Ends what a dead incarnation held, now. `None` where it is not the present
    /// one; else the task it lost, if it had one.
    ///
    /// # Errors
    /// [`Error::NotLeader`], or Redis did not answer.
    pub async fn bury(
        &self,
        lead: &Lead,
        agent: &AgentName,
        incarnation: Incarnation,
        reason: &str,
    ) -> Result<Option<Option<TaskId>>, Error> {
        self.bury_where(lead, agent, incarnation, reason, "").await
    }

    /// The same for one of which only its silence tells that it is dead: `None` also where
    /// it has given a sign of life since `beat` ([`Registered::beat`]).
    ///
    /// # Errors
    /// Those of [`Store::bury`].
    pub async fn bury_silent(
        &self,
        lead: &Lead,
        agent: &AgentName,
        incarnation: Incarnation,
        beat: u64,
        reason: &str,
    ) -> Result<Option<Option<TaskId>>, Error> {
        self.bury_where(lead, agent, incarnation, reason, &beat.to_string()).await
    }

    async fn bury_where(
        &self,
        lead: &Lead,
        agent: &AgentName,
        incarnation: Incarnation,
        reason: &str,
        beat: &str,
    ) -> Result<Option<Option<TaskId>>, Error> {
        let by = (self.now(), lead.controller(), lead.epoch().0);
        let args = (by, (agent.as_str(), incarnation.0, reason, beat));
        let reply = self.call("bury an agent", &script::BURY, args).await?.led()?;
        match reply.verdict() {
            "buried" => Ok(Some(TaskId::new(reply.word(0)).ok())),
            "already" => Ok(None),
            _ => Err(reply.surprise()),
        }
    }

    /// Writes what a controller says of an agent, and an event of `kind` unless
    /// that is empty. An empty value removes the field.
    ///
    /// # Errors
    /// [`Error::NotLeader`], or Redis did not answer.
    pub async fn note_agent(
        &self,
        lead: &Lead,
        agent: &AgentName,
        kind: &str,
        fields: &[(&str, String)],
    ) -> Result<(), Error> {
        let args = (lead.controller(), lead.epoch().0, agent.as_str(), kind, fields);
        self.call("note an agent's status", &script::AGENT_STATUS, args).await?.led()?;
        Ok(())
    }

    /// Every agent that was ever declared or registered, by name.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer or holds something else there.
    pub async fn agents(&self) -> Result<Vec<Agent>, Error> {
        let mut names: Vec<String> =
            self.ask("list agents", cmd("SMEMBERS").arg(keys::AGENTS)).await?;
        names.sort();
        let names = names
            .into_iter()
            .map(|name| {
                AgentName::new(name.clone())
                    .map_err(|_| Error::malformed(keys::AGENTS, &name, "agent names"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        self.agents_named(names).await
    }

    /// One agent; all of its parts may be absent.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer or holds something else there.
    pub async fn agent(&self, name: &AgentName) -> Result<Agent, Error> {
        let mut agents = self.agents_named(vec![name.clone()]).await?;
        agents.pop().ok_or_else(|| Error::malformed(keys::agent(name, ""), "", "one agent"))
    }

    async fn agents_named(&self, names: Vec<AgentName>) -> Result<Vec<Agent>, Error> {
        let mut agents = Vec::with_capacity(names.len());
        for some in names.chunks(AGENTS_PER_CALL) {
            let args: Vec<&str> = some.iter().map(AgentName::as_str).collect();
            let found: Vec<Vec<redis::Value>> =
                self.read_by("read agents", &script::AGENTS, args).await?;
            for (name, parts) in some.iter().zip(found) {
                agents.push(read_agent(name, parts)?);
            }
        }
        Ok(agents)
    }

    /// What an agent remembered, as a JSON list; `None` where nothing was saved.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn memory(&self, agent: &AgentName) -> Result<Option<String>, Error> {
        self.ask("read an agent's memory", cmd("GET").arg(keys::agent(agent, "memory"))).await
    }

    /// Stores what an agent remembers. `flushes` is the value of
    /// [`Control::flushes`] under which it was read.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer; saving again is safe.
    pub async fn save_memory(
        &self,
        agent: &AgentName,
        incarnation: Incarnation,
        flushes: &str,
        memory: &str,
    ) -> Result<Snapshot, Error> {
        let args = (agent.as_str(), incarnation.0, flushes, memory);
        let reply = self.call("save an agent's memory", &script::MEMORY, args).await?;
        match reply.verdict() {
            "saved" => Ok(Snapshot::Saved),
            "flushed" => Ok(Snapshot::Flushed),
            "fenced" => Ok(Snapshot::Fenced),
            _ => Err(reply.surprise()),
        }
    }
}

/// Reads what `agents.lua` says of one agent.
fn read_agent(name: &AgentName, parts: Vec<redis::Value>) -> Result<Agent, Error> {
    let mut parts = parts.into_iter();
    let mut next = || parts.next().unwrap_or(redis::Value::Nil);
    let mut hash = |part: &str| {
        let key = keys::agent(name, part);
        match redis::from_redis_value::<Fields>(next()) {
            Ok(fields) => Ok(Hash::new(key, fields)),
            Err(_) => Err(Error::malformed(key, "", "a hash")),
        }
    };
    let (registered, status, control) = (hash("registered")?, hash("status")?, hash("control")?);
    let mut text = || redis::from_redis_value::<Option<String>>(next()).unwrap_or_default();
    let heartbeat = text();
    let mut agent = Agent::decode(name.clone(), &registered, &status, &control, heartbeat)?;
    agent.consumed_version = text().unwrap_or_default();
    Ok(agent)
}

impl Waiting {
    /// Waits for a wake in the agent's inbox, at most `limit`. Whether one came;
    /// it says only that it is time to look.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn inbox(&mut self, agent: &AgentName, limit: Duration) -> Result<bool, Error> {
        let mut command = cmd("BLPOP");
        command.arg(keys::agent(agent, "inbox")).arg(limit.as_secs_f64().max(0.01));
        let token: Option<(String, String)> = self.ask("wait for a wake", &command, limit).await?;
        Ok(token.is_some())
    }
}

impl Agent {
    /// Reads the three hashes of an agent: `registered`, `status` and `control`.
    ///
    /// # Errors
    /// [`Error::Malformed`] names the field that is not as this version writes it.
    pub fn decode(
        name: AgentName,
        registered: &Hash,
        status: &Hash,
        control: &Hash,
        heartbeat: Option<String>,
    ) -> Result<Self, Error> {
        Ok(Self {
            name,
            registered: read_registered(registered)?,
            heartbeat,
            status: read_status(status)?,
            paused: control.text("paused") == "1",
            consumed_version: String::new(),
        })
    }
}

fn read_registered(hash: &Hash) -> Result<Option<Registered>, Error> {
    if hash.some("incarnation").is_none() {
        return Ok(None);
    }
    let task = hash.parsed("task", "a task id")?;
    Ok(Some(Registered {
        pid: hash.required("pid", "a process id")?,
        host: hash.text("host"),
        start_time: hash.number("start_time")?,
        incarnation: Incarnation(hash.number("incarnation")?),
        timestamp: hash.text("timestamp"),
        role: hash.parsed("cap:role", "a role")?,
        goal: hash.parsed("goal", "a goal id")?,
        spec_hash: hash.text("spec_hash"),
        provider: hash.text("provider"),
        beat: hash.number("beat")?,
        task: task.zip(hash.parsed("epoch", "an epoch")?.map(Epoch)),
    }))
}

fn read_status(hash: &Hash) -> Result<Status, Error> {
    Ok(Status {
        phase: hash.parsed("phase", "an agent phase")?,
        restarts: hash.number("restarts")?,
        last_exit: hash.some("last_exit"),
        next_start: hash.some("next_start"),
        error: hash.some("error"),
        liveness: hash.some("liveness"),
    })
}
