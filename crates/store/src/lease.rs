//! Leases: what runs now, and taking it from holders that fell silent.

use model::TaskId;
use model::lease::Pulse;
use redis::cmd;

use crate::connection::Store;
use crate::error::Error;
use crate::lead::Lead;
use crate::{keys, script};

/// What came of reaping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaped {
    /// The task is READY again, or FAILED where that was the last time.
    Yes,
    /// The lease changed since it was looked at: nothing was done.
    Stale,
}

impl Store {
    /// Every lease that is held now, with its pulse. An entry that is none is left out
    /// and told of: one that somebody wrote by hand must not keep all others alive.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn leases(&self) -> Result<Vec<(TaskId, Pulse)>, Error> {
        let entries: Vec<(String, String)> =
            self.ask("read the leases", cmd("HGETALL").arg(keys::LEASES)).await?;
        let read = |(id, pulse): (String, String)| {
            let lease = TaskId::new(id.as_str()).ok().zip(pulse.parse().ok());
            if lease.is_none() {
                tracing::warn!(id, pulse, key = keys::LEASES, "Not a lease: expected epoch:beat");
            }
            lease
        };
        Ok(entries.into_iter().filter_map(read).collect())
    }

    /// One lease's pulse; `None` where it is not held.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer or holds something else there.
    pub async fn lease(&self, id: &TaskId) -> Result<Option<Pulse>, Error> {
        let pulse: Option<String> =
            self.ask("read a lease", cmd("HGET").arg(keys::LEASES).arg(id.as_str())).await?;
        pulse
            .map(|text| {
                text.parse().map_err(|_| {
                    Error::malformed(format!("{} {id}", keys::LEASES), &text, "epoch:beat")
                })
            })
            .transpose()
    }

    /// Ends a lease that still has the pulse at which it was seen.
    ///
    /// # Errors
    /// [`Error::NotLeader`], or Redis did not answer; reaping again is safe.
    pub async fn reap(
        &self,
        lead: &Lead,
        id: &TaskId,
        seen: Pulse,
        reason: &str,
    ) -> Result<Reaped, Error> {
        let args =
            (self.now(), lead.controller(), lead.epoch().0, id.as_str(), seen.to_string(), reason);
        let reply = self.call("reap a lease", &script::REAP, args).await?.led()?;
        match reply.verdict() {
            "reaped" => Ok(Reaped::Yes),
            "stale" => Ok(Reaped::Stale),
            _ => Err(reply.surprise()),
        }
    }
}
