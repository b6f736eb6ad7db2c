//! Who leads: which process may act for which controllers.

use std::fmt;
use std::str::FromStr;

use model::lease::{Epoch, Pulse};
use redis::cmd;
use serde::Serialize;

use crate::connection::Store;
use crate::error::Error;
use crate::record::no_entry;
use crate::{keys, script};

/// One of the four controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Controller {
    /// Declared agents and their processes.
    Agent,
    /// Declared goals and their DAGs.
    Dag,
    /// Leases and their holders.
    Lease,
    /// Heartbeat files and control state.
    Heartbeat,
}

impl Controller {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Agent, Self::Dag, Self::Lease, Self::Heartbeat];

    /// The word in Redis and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Dag => "dag",
            Self::Lease => "lease",
            Self::Heartbeat => "heartbeat",
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no controller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no controller: expected agent, dag, lease or heartbeat", .0.escape_debug())]
pub struct UnknownController(pub String);

impl FromStr for Controller {
    type Err = UnknownController;
    fn from_str(word: &str) -> Result<Self, UnknownController> {
        Self::ALL
            .into_iter()
            .find(|controller| controller.as_str() == word)
            .ok_or_else(|| UnknownController(word.to_owned()))
    }
}

/// The right of one controller to write, to be shown with each write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lead {
    controller: Controller,
    epoch: Epoch,
}

impl Lead {
    /// The right that [`Store::lead`] granted under `epoch`.
    #[must_use]
    pub const fn new(controller: Controller, epoch: Epoch) -> Self {
        Self { controller, epoch }
    }

    /// Under which grant.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) const fn controller(&self) -> &'static str {
        self.controller.as_str()
    }
}

/// Who asks for the lead: a process, by what makes it unmistakable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// Unique to the process; no white space.
    pub holder: String,
    /// Its process id.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
    /// The host it runs on.
    pub host: String,
}

/// Who leads for a controller now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leader {
    /// For which.
    pub controller: Controller,
    /// What is seen of its lease.
    pub pulse: Pulse,
    /// Who.
    pub who: Candidate,
}

/// What came of asking for the lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// We lead, under this epoch.
    Held(Epoch),
    /// Somebody else does, at least for this controller.
    Standby(Leader),
}

impl Store {
    /// Takes or keeps the lead for all of `controllers`, or none. `dead` is the
    /// pulse at which a leader was seen dead, by controller.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer; asking again is safe.
    pub async fn lead(
        &self,
        candidate: &Candidate,
        controllers: &[Controller],
        dead: &[(Controller, Pulse)],
    ) -> Result<Answer, Error> {
        let wanted: Vec<(&str, String)> = controllers
            .iter()
            .map(|controller| {
                let pulse = dead.iter().find(|(c, _)| c == controller);
                (controller.as_str(), pulse.map_or_else(String::new, |(_, p)| p.to_string()))
            })
            .collect();
        let c = candidate;
        let args = (self.now(), c.holder.as_str(), c.pid, c.start_time, c.host.as_str(), wanted);
        let reply = self.call("take the lead", &script::LEAD, args).await?;
        match reply.verdict() {
            "held" => Ok(Answer::Held(Epoch(reply.number(0)?))),
            "standby" => match read_leader(reply.word(0), reply.word(1)) {
                Some(leader) => Ok(Answer::Standby(leader)),
                None => Err(reply.surprise()),
            },
            _ => Err(reply.surprise()),
        }
    }

    /// Gives the lead up, so that another process has it at once.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn resign(
        &self,
        candidate: &Candidate,
        controllers: &[Controller],
    ) -> Result<(), Error> {
        let names: Vec<&str> = controllers.iter().map(|controller| controller.as_str()).collect();
        self.call("give up the lead", &script::RESIGN, (candidate.holder.as_str(), names)).await?;
        Ok(())
    }

    /// Who leads now, by controller; one that nobody leads is left out.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer or holds something else there.
    pub async fn leaders(&self) -> Result<Vec<Leader>, Error> {
        let mut entries: Vec<(String, String)> =
            self.ask("read who leads", cmd("HGETALL").arg(keys::LEADER)).await?;
        entries.sort();
        entries
            .iter()
            .filter(|(_, entry)| entry.split(' ').nth(2) != Some("-"))
            .map(|(controller, entry)| Leader::decode(controller, entry))
            .collect()
    }
}

impl Leader {
    /// Reads the entry of `controller` in the hash of leaders.
    ///
    /// # Errors
    /// [`Error::Malformed`] names the controller.
    pub fn decode(controller: &str, entry: &str) -> Result<Self, Error> {
        read_leader(controller, entry)
            .ok_or_else(|| no_entry(keys::LEADER, controller, entry, "a leader"))
    }
}

fn read_leader(controller: &str, entry: &str) -> Option<Leader> {
    let words: Vec<&str> = entry.split(' ').collect();
    let [epoch, beat, holder, pid, start_time, host] = words[..] else { return None };
    Some(Leader {
        controller: controller.parse().ok()?,
        pulse: Pulse { epoch: Epoch(epoch.parse().ok()?), beat: beat.parse().ok()? },
        who: Candidate {
            holder: holder.to_owned(),
            pid: pid.parse().ok()?,
            start_time: start_time.parse().ok()?,
            host: host.to_owned(),
        },
    })
}
