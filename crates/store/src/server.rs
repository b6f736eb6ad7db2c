//! The Redis server itself: is it there, is it fit, how does it keep data; and the
//! small records that belong to no goal or agent.

use std::collections::HashMap;

use redis::cmd;
use serde::Serialize;

use crate::connection::Store;
use crate::error::{Error, has_text};
use crate::keys;
use crate::script::{self, LIBRARIES, LIBRARY};

/// The oldest Redis that has libraries of scripts.
const OLDEST: (u32, u32) = (7, 0);

/// What the server says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Server {
    /// As `7.0.15`.
    pub version: String,
    /// Its process id, on whichever host it runs.
    pub process_id: u32,
    /// Whether every write goes to an append-only file.
    pub appendonly: bool,
    /// How often that is flushed to disk: `always`, `everysec`, `no`; '' where the
    /// server does not tell.
    pub appendfsync: String,
    /// Why it refuses every write for now, as far as it says.
    pub refuses_writes: Option<&'static str>,
    /// What it does when memory is full; anything but `noeviction` loses state.
    pub maxmemory_policy: String,
    /// Memory in use, in bytes.
    pub used_memory: u64,
    /// Its clock, in microseconds since the epoch.
    pub time_micros: u64,
}

/// What became of the fleet's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// It is as it was.
    Same,
    /// Redis had lost it, and with it everything else. It is there again.
    Lost,
    /// Redis had lost it, and this one was made since.
    Other(String),
}

impl Store {
    /// Checks that the server answers and is new enough, and reads what it says of
    /// itself.
    ///
    /// # Errors
    /// [`Error::TooOld`], [`Error::Cluster`], [`Error::Denied`], [`Error::Unavailable`].
    pub async fn server(&self) -> Result<Server, Error> {
        let what = "ask the server about itself";
        let info: String = self.ask(what, cmd("INFO").arg("everything")).await?;
        let info: HashMap<&str, &str> =
            info.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
        let text = |name: &str| info.get(name).copied().unwrap_or_default();
        let version = text("redis_version");
        if !new_enough(version) {
            return Err(Error::TooOld { found: version.to_owned() });
        }
        if text("cluster_enabled") == "1" {
            return Err(Error::Cluster);
        }
        let (seconds, micros): (u64, u64) = self.ask(what, &cmd("TIME")).await?;
        // An ACL may well forbid CONFIG to us; that is no fault.
        let appendfsync: Result<Vec<String>, Error> =
            self.ask(what, cmd("CONFIG").arg("GET").arg("appendfsync")).await;
        Ok(Server {
            version: version.to_owned(),
            process_id: text("process_id").parse().unwrap_or(0),
            appendonly: text("aof_enabled") == "1",
            appendfsync: appendfsync.ok().and_then(|mut pair| pair.pop()).unwrap_or_default(),
            refuses_writes: (text("aof_last_write_status") == "err")
                .then_some("it cannot write its append-only file: its disk is full or broken"),
            maxmemory_policy: text("maxmemory_policy").to_owned(),
            used_memory: text("used_memory").parse().unwrap_or(0),
            time_micros: seconds * 1_000_000 + micros,
        })
    }

    /// Has Redis forget the scripts of other versions, which it would keep for ever. A process
    /// of another version that still runs loads its own again.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn forget_other_scripts(&self) -> Result<(), Error> {
        let what = "forget the scripts of other versions";
        let ours = format!("{LIBRARIES}*");
        let mut list = cmd("FUNCTION");
        list.arg("LIST").arg("LIBRARYNAME").arg(ours);
        let found: Vec<HashMap<String, redis::Value>> = self.ask(what, &list).await?;
        for mut library in found {
            let Some(redis::Value::BulkString(name)) = library.remove("library_name") else {
                continue;
            };
            if name == LIBRARY.name.as_bytes() {
                continue;
            }
            match self.ask(what, cmd("FUNCTION").arg("DELETE").arg(name)).await {
                // Somebody was faster.
                Err(Error::Failed { source, .. }) if has_text(&source, "not found") => {}
                answer => answer?,
            }
        }
        Ok(())
    }

    /// The server's clock, in microseconds since the epoch: that of all events.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn time(&self) -> Result<u64, Error> {
        self.redis_time().await
    }

    /// What tells this project's processes from those of another that uses another
    /// Redis: made by the first that asks.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn fleet(&self) -> Result<String, Error> {
        let made = format!("{:016x}", fastrand::u64(..));
        let mut pipeline = redis::pipe();
        pipeline.cmd("SETNX").arg(keys::FLEET).arg(made).ignore();
        pipeline.cmd("GET").arg(keys::FLEET);
        let (fleet,): (String,) = self.ask_all("read the fleet's id", &pipeline).await?;
        Ok(fleet)
    }

    /// Makes sure that the id which [`Store::fleet`] once gave is still there: where Redis
    /// has lost its data, processes that live on would otherwise belong to nobody.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer; asking again is safe.
    pub async fn keep_fleet(&self, fleet: &str) -> Result<Kept, Error> {
        let reply = self.call("keep the fleet's id", &script::FLEET, (self.now(), fleet)).await?;
        match reply.verdict() {
            "kept" => Ok(Kept::Same),
            "lost" => Ok(Kept::Lost),
            "other" => Ok(Kept::Other(reply.word(0).to_owned())),
            _ => Err(reply.surprise()),
        }
    }

    /// Stores what a controller reports of itself, as JSON.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn report_controllers(&self, reports: &[(&str, String)]) -> Result<(), Error> {
        let mut command = cmd("HSET");
        command.arg(keys::CONTROLLERS).arg(reports);
        self.ask("report on the controllers", &command).await
    }

    /// What each controller last reported, as JSON.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn controller_reports(&self) -> Result<Vec<(String, String)>, Error> {
        let mut reports: Vec<(String, String)> = self
            .ask("read the controllers' reports", cmd("HGETALL").arg(keys::CONTROLLERS))
            .await?;
        reports.sort();
        Ok(reports)
    }

    /// Says that `holder` stands by, for `ttl_ms`.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn report_standby(&self, holder: &str, json: &str, ttl_ms: u64) -> Result<(), Error> {
        let key = format!("{}:{holder}", keys::STANDBYS);
        let mut pipeline = redis::pipe();
        pipeline.cmd("SET").arg(key).arg(json).arg("PX").arg(ttl_ms.max(1)).ignore();
        pipeline.cmd("SADD").arg(keys::STANDBYS).arg(holder).ignore();
        self.ask_all::<()>("say that this process stands by", &pipeline).await
    }

    /// Takes back what [`Store::report_standby`] said.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn end_standby(&self, holder: &str) -> Result<(), Error> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("DEL").arg(format!("{}:{holder}", keys::STANDBYS)).ignore();
        pipeline.cmd("SREM").arg(keys::STANDBYS).arg(holder).ignore();
        self.ask_all::<()>("end standing by", &pipeline).await
    }

    /// What the processes that stand by said, as JSON.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn standbys(&self) -> Result<Vec<String>, Error> {
        let what = "read who stands by";
        let holders: Vec<String> = self.ask(what, cmd("SMEMBERS").arg(keys::STANDBYS)).await?;
        if holders.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = cmd("MGET");
        for holder in &holders {
            command.arg(format!("{}:{holder}", keys::STANDBYS));
        }
        let found: Vec<Option<String>> = self.ask(what, &command).await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Stores the present problems of the control files, as JSON.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn report_problems(&self, json: &str) -> Result<(), Error> {
        self.ask("report problems", cmd("SET").arg(keys::PROBLEMS).arg(json)).await
    }

    /// The present problems of the control files, as JSON.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn problems(&self) -> Result<Option<String>, Error> {
        self.ask("read problems", cmd("GET").arg(keys::PROBLEMS)).await
    }
}

fn new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    found >= OLDEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_should_compare_as_numbers() {
        for (version, fit) in [
            ("7.0.15", true),
            ("7.0.0", true),
            ("10.0.0", true),
            ("6.2.14", false),
            ("5.9.9", false),
            ("", false),
        ] {
            assert_eq!(new_enough(version), fit, "{version}");
        }
    }
}
