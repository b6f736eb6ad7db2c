//! Versions of an agent's instructions, so that a result can be traced to what the agent
//! was told.

use model::{AgentName, GoalId};
use redis::cmd;
use serde::{Deserialize, Serialize};

use crate::agent::Incarnation;
use crate::connection::Store;
use crate::error::Error;
use crate::{keys, script};

/// How much of a text is kept, in bytes.
const MAX_TEXT: usize = 64 * 1024;

/// What an agent was told for a goal, from some time on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstructionVersion {
    /// Which, from 1.
    pub version: u64,
    /// Fingerprint of the whole text.
    pub hash: String,
    /// When it was first read (ISO 8601).
    pub time: String,
    /// Length of the whole text.
    pub bytes: u64,
    /// The text, its first 64 KiB.
    pub text: String,
}

impl Store {
    /// Records what an agent is told. Its version; that of the newest where the hash is
    /// the same; `None` where another incarnation is current. The last 20 are kept.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer; recording again is safe.
    pub async fn note_instructions(
        &self,
        agent: &AgentName,
        incarnation: Incarnation,
        goal: &GoalId,
        hash: &str,
        text: &str,
    ) -> Result<Option<u64>, Error> {
        let kept = crate::record::shortened(text, MAX_TEXT);
        let args =
            (self.now(), agent.as_str(), incarnation.0, goal.as_str(), hash, text.len(), kept);
        let reply = self.call("record instructions", &script::INSTRUCTIONS, args).await?;
        match reply.verdict() {
            "noted" | "already" => reply.number(0).map(Some),
            "fenced" => Ok(None),
            _ => Err(reply.surprise()),
        }
    }

    /// The versions of what an agent was told for a goal, newest first.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer or holds something else there.
    pub async fn instructions(
        &self,
        agent: &AgentName,
        goal: &GoalId,
    ) -> Result<Vec<InstructionVersion>, Error> {
        let key = keys::instructions(agent, goal);
        let list: Vec<String> =
            self.ask("read instructions", cmd("LRANGE").arg(&key).arg(0).arg(-1)).await?;
        list.iter()
            .map(|text| {
                serde_json::from_str(text)
                    .map_err(|_| Error::malformed(&key, text, "instructions as JSON"))
            })
            .collect()
    }
}
