//! Heartbeat directives: each line applied and recorded as applied in one step.

use std::path::Path;

use model::{AgentName, GoalId, TaskId};
use redis::cmd;
use serde::{Deserialize, Serialize};

use crate::connection::Store;
use crate::error::Error;
use crate::lead::Lead;
use crate::record::{Fields, Hash};
use crate::{keys, script};

/// What was consumed of an agent's heartbeat file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Consumed {
    /// Changes with every step.
    pub version: String,
    /// Which file.
    pub path: String,
    /// Its text as far as consumed.
    pub seen: String,
    /// How many lines were applied, ever.
    pub applied: u64,
    /// How many lines were refused, ever.
    pub refused: u64,
}

/// How the consumed text changes with a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen<'a> {
    /// It grows by this.
    Append(&'a str),
    /// It becomes this.
    Replace(&'a str),
}

/// What one line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Claim nothing more.
    Pause,
    /// Claim again.
    Resume,
    /// Read the instructions again and plan anew.
    Reparse,
    /// Take a running task from its holder.
    DropTask(TaskId),
    /// Give a task another priority.
    Elevate(TaskId, u32),
    /// Forget.
    FlushMemory,
    /// Not a directive, and why.
    Refused(String),
}

/// One step: a line, and what is consumed after it.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// Whose heartbeat file.
    pub agent: &'a AgentName,
    /// The agent's goal: its tasks are meant first by a short id.
    pub goal: &'a GoalId,
    /// The file.
    pub path: &'a Path,
    /// As it was read.
    pub version: &'a str,
    /// What is consumed afterwards.
    pub seen: Seen<'a>,
    /// The line and what it asks for; `None` where only the text changes.
    pub line: Option<(&'a str, &'a Action)>,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect; the answer says how.
    Applied(String),
    /// It had no effect; the answer says why.
    Refused(String),
    /// Only the consumed text changed.
    Noted,
    /// Somebody else was first: read again.
    Stale,
}

/// An answer as it is kept for the acknowledgement file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// When (ISO 8601).
    pub time: String,
    /// The line.
    pub line: String,
    /// `applied` or `refused`.
    pub outcome: String,
    /// How, or why.
    pub answer: String,
}

impl Store {
    /// What was consumed of an agent's heartbeat file so far.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer or holds something else there.
    pub async fn consumed(&self, agent: &AgentName) -> Result<Consumed, Error> {
        let key = keys::agent(agent, "directives");
        let fields: Fields = self.ask("read what was consumed", cmd("HGETALL").arg(&key)).await?;
        Consumed::decode(&Hash::new(key, fields))
    }

    /// Applies one line and records it.
    ///
    /// # Errors
    /// [`Error::NotLeader`], or Redis did not answer. Where a reply was lost the
    /// repeated step is [`Outcome::Stale`], and reading again shows what became of it.
    pub async fn apply(&self, lead: &Lead, step: &Step<'_>) -> Result<Outcome, Error> {
        let (mode, seen) = match step.seen {
            Seen::Append(text) => ("append", text),
            Seen::Replace(text) => ("replace", text),
        };
        let (line, verb, first, second) = match step.line {
            None => ("", "", String::new(), String::new()),
            Some((line, action)) => {
                let (verb, first, second) = words(action);
                (line, verb, first, second)
            }
        };
        let args = (
            (self.now(), lead.controller(), lead.epoch().0, step.agent.as_str()),
            (step.goal.as_str(), step.path.to_string_lossy().into_owned(), step.version),
            (mode, seen, line, verb, first, second),
        );
        let reply = self.call("apply a directive", &script::DIRECTIVE, args).await?.led()?;
        let answer = reply.word(0).to_owned();
        match reply.verdict() {
            "applied" => Ok(Outcome::Applied(answer)),
            "refused" => Ok(Outcome::Refused(answer)),
            "noted" => Ok(Outcome::Noted),
            "stale" => Ok(Outcome::Stale),
            _ => Err(reply.surprise()),
        }
    }

    /// The last answers to an agent's directives, oldest first.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer or holds something else there.
    pub async fn answers(&self, agent: &AgentName) -> Result<Vec<Answer>, Error> {
        let key = keys::agent(agent, "directives:answers");
        let list: Vec<String> =
            self.ask("read answers", cmd("LRANGE").arg(&key).arg(0).arg(-1)).await?;
        list.iter()
            .map(|text| {
                serde_json::from_str(text).map_err(|_| Error::malformed(&key, text, "an answer"))
            })
            .collect()
    }
}

impl Consumed {
    /// Reads `agent:<name>:directives`.
    ///
    /// # Errors
    /// [`Error::Malformed`] names the field that is not as this version writes it.
    pub fn decode(hash: &Hash) -> Result<Self, Error> {
        Ok(Self {
            version: hash.text("version"),
            path: hash.text("path"),
            seen: hash.text("seen"),
            applied: hash.number("applied")?,
            refused: hash.number("refused")?,
        })
    }
}

fn words(action: &Action) -> (&'static str, String, String) {
    let none = String::new;
    match action {
        Action::Pause => ("pause", none(), none()),
        Action::Resume => ("resume", none(), none()),
        Action::Reparse => ("reparse", none(), none()),
        Action::DropTask(task) => ("drop-task", task.to_string(), none()),
        Action::Elevate(task, priority) => ("elevate", task.to_string(), priority.to_string()),
        Action::FlushMemory => ("flush-memory", none(), none()),
        Action::Refused(why) => ("refused", why.clone(), none()),
    }
}
