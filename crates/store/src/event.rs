//! The stream of every transition.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::cmd;
use redis::streams::{StreamId, StreamRangeReply, StreamReadReply};
use serde::Serialize;

use crate::connection::{Store, Waiting};
use crate::error::Error;
use crate::keys;

/// The most events that one read returns.
pub const MAX_READ: usize = 1_000;

/// Where in the stream: `0` is before the first that is kept, `$` after the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position(pub String);

/// One transition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Its place: `<milliseconds since the epoch>-<number>`.
    pub id: String,
    /// What happened, as `task-claim` or `agent-register`.
    pub kind: String,
    /// To whom and how: `goal`, `task`, `agent`, `epoch`, `reason`, ..
    #[serde(flatten)]
    pub fields: BTreeMap<String, String>,
}

impl Event {
    /// One of its fields, '' where absent.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// When, in milliseconds since the epoch.
    #[must_use]
    pub fn millis(&self) -> u64 {
        self.id.split('-').next().and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

impl Store {
    /// The last `count` events, oldest first.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn last_events(&self, count: usize) -> Result<Vec<Event>, Error> {
        let mut command = cmd("XREVRANGE");
        command.arg(keys::EVENTS).arg("+").arg("-").arg("COUNT").arg(count);
        let reply: StreamRangeReply = self.ask("read events", &command).await?;
        let mut events: Vec<Event> = reply.ids.into_iter().map(read_event).collect();
        events.reverse();
        Ok(events)
    }

    /// Where the stream ends now.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn end_of_events(&self) -> Result<Position, Error> {
        let last = self.last_events(1).await?.pop();
        Ok(Position(last.map_or_else(|| "0".to_owned(), |event| event.id)))
    }
}

impl Waiting {
    /// The events after `position`, which moves along; waits at most `limit` for
    /// the first. Empty where none came.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn events(
        &mut self,
        position: &mut Position,
        limit: Duration,
    ) -> Result<Vec<Event>, Error> {
        let mut command = cmd("XREAD");
        let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1);
        command.arg("COUNT").arg(MAX_READ).arg("BLOCK").arg(millis);
        command.arg("STREAMS").arg(keys::EVENTS).arg(&position.0);
        let reply: Option<StreamReadReply> = self.ask("wait for events", &command, limit).await?;
        let events: Vec<Event> = reply
            .into_iter()
            .flat_map(|reply| reply.keys)
            .flat_map(|stream| stream.ids)
            .map(read_event)
            .collect();
        if let Some(last) = events.last() {
            position.0.clone_from(&last.id);
        }
        Ok(events)
    }
}

fn read_event(entry: StreamId) -> Event {
    let mut fields: BTreeMap<String, String> = entry
        .map
        .into_iter()
        .filter_map(|(name, value)| Some((name, redis::from_redis_value(value).ok()?)))
        .collect();
    let kind = fields.remove("kind").unwrap_or_default();
    Event { id: entry.id, kind, fields }
}
