//! The stream of every transition.

use std::collections::{BTreeMap, HashMap};
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

impl Position {
    /// It as numbers, which order positions; as [`Event::place`].
    #[must_use]
    pub fn place(&self) -> (u64, u64) {
        place(&self.0)
    }
}

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
        self.place().0
    }

    /// Its id as numbers, which order events: milliseconds since the epoch, and which of
    /// that millisecond. 0 for what is no number.
    #[must_use]
    pub fn place(&self) -> (u64, u64) {
        place(&self.id)
    }
}

fn place(id: &str) -> (u64, u64) {
    let (millis, number) = id.split_once('-').unwrap_or((id, ""));
    (millis.parse().unwrap_or(0), number.parse().unwrap_or(0))
}

/// To whom the stream is told, besides those who read it themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// To a collector, as traces.
    Traces,
    /// To who reads metrics, as counts.
    Metrics,
}

impl Told {
    const fn key(self) -> &'static str {
        match self {
            Self::Traces => keys::TRACED,
            Self::Metrics => keys::MEASURED,
        }
    }
}

/// A part of the stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The events, oldest first.
    pub events: Vec<Event>,
    /// Whether events right before these may be missing: they were trimmed.
    pub has_gap: bool,
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

/// How far the stream was told to others.
impl Store {
    /// The last event that `to` was told; none where it was told none.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn told(&self, to: Told) -> Result<Option<Position>, Error> {
        let what = "read how far events were told";
        let place: Option<String> = self.ask(what, cmd("GET").arg(to.key())).await?;
        Ok(place.map(Position))
    }

    /// Remembers the last event that `to` was told.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn set_told(&self, to: Told, position: &Position) -> Result<(), Error> {
        let mut command = cmd("SET");
        command.arg(to.key()).arg(&position.0);
        self.ask("remember how far events were told", &command).await
    }
}

/// Reading what is kept of the stream from its beginning.
impl Store {
    /// The events after `after` up to and with `until`, oldest first, at most `count`:
    /// none where there are no more.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn events_between(
        &self,
        after: &Position,
        until: &Position,
        count: usize,
    ) -> Result<Page, Error> {
        let is_first = place(&after.0) == (0, 0);
        let start = if is_first { "-".to_owned() } else { format!("({}", after.0) };
        let mut pipeline = redis::pipe();
        // One transaction, so that nothing is trimmed between the two.
        pipeline.atomic();
        pipeline.cmd("XRANGE").arg(keys::EVENTS).arg("-").arg("+").arg("COUNT").arg(1);
        let range = pipeline.cmd("XRANGE").arg(keys::EVENTS).arg(start).arg(&until.0);
        range.arg("COUNT").arg(count);
        let (first, found): (StreamRangeReply, StreamRangeReply) =
            self.ask_all("read events", &pipeline).await?;
        let events: Vec<Event> = found.ids.into_iter().map(read_event).collect();
        let has_gap = if is_first {
            // Asked afterwards: what is whole then was whole before.
            !self.has_all_events().await?
        } else {
            first.ids.first().is_none_or(|first| place(&first.id) > place(&after.0))
        };
        Ok(Page { events, has_gap })
    }

    /// Whether the stream holds every event that ever was.
    async fn has_all_events(&self) -> Result<bool, Error> {
        let what = "read how many events there were";
        if !self.ask::<bool>(what, cmd("EXISTS").arg(keys::EVENTS)).await? {
            return Ok(true);
        }
        let info: HashMap<String, redis::Value> =
            self.ask(what, cmd("XINFO").arg("STREAM").arg(keys::EVENTS)).await?;
        let number = |name: &str| {
            info.get(name).and_then(|value| redis::from_redis_value::<u64>(value.clone()).ok())
        };
        Ok(number("length").is_some_and(|kept| number("entries-added") == Some(kept)))
    }

    /// Those of these events that are still in the stream, in the order of `ids`.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn events_at(&self, ids: &[String]) -> Result<Vec<Event>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::pipe();
        for id in ids {
            pipeline.cmd("XRANGE").arg(keys::EVENTS).arg(id).arg(id);
        }
        let found: Vec<StreamRangeReply> = self.ask_all("read events", &pipeline).await?;
        Ok(found.into_iter().flat_map(|reply| reply.ids).map(read_event).collect())
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
