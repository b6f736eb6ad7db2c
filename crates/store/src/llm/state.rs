//! What stands in the way of calls now: slots in use, and holds.

use model::GoalId;
use redis::cmd;
use serde::Serialize;

use super::ASK_AGAIN;
use crate::connection::Store;
use crate::error::Error;
use crate::keys;
use crate::record::no_entry;
use crate::script::CLOCK_SLACK_US;

/// The fields and values of a hash.
type Entries = Vec<(String, String)>;

/// The calls under way and who waits for one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Slots {
    /// How many calls there may be at once, as the last caller said; 0 before the first.
    pub most: u32,
    /// Those under way, by holder.
    pub in_use: Vec<Slot>,
    /// Those that wait, longest first.
    pub waiting: Vec<Waiter>,
}

/// One call under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Slot {
    /// Who makes it: `agent:<name>` or `planner:<goal>`.
    pub holder: String,
    /// For which goal.
    pub goal: GoalId,
    /// Its id.
    pub call: String,
    /// What for, as `execute`; '' where it was given back after it had expired.
    pub step: String,
}

/// One that waits for a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiter {
    /// Who: `agent:<name>` or `planner:<goal>`.
    pub holder: String,
    /// For which goal.
    pub goal: GoalId,
    /// Since when, in microseconds since the epoch.
    pub since_us: u64,
}

/// A usage limit that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// Of which provider.
    pub provider: String,
    /// When it ends, in microseconds since the epoch.
    pub until_us: u64,
    /// When it began, in microseconds since the epoch.
    pub since_us: u64,
    /// How many limits without a time were hit in a row.
    pub strikes: u32,
    /// The provider's words.
    pub message: String,
}

impl Store {
    /// The usage limits that are in force, by provider.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer or holds something else there.
    pub async fn holds(&self) -> Result<Vec<Hold>, Error> {
        let now = self.redis_time().await?;
        let entries: Vec<(String, String)> =
            self.ask("read usage limits", cmd("HGETALL").arg(keys::LLM_HOLDS)).await?;
        let mut holds = Vec::new();
        for (provider, entry) in entries {
            let hold = Hold::decode(provider, &entry)?;
            // One that begins in the future is no hold any more: see hold_of() of llm.lua.
            if hold.until_us > now && hold.since_us <= now + u64::from(CLOCK_SLACK_US) {
                holds.push(hold);
            }
        }
        holds.sort_by(|a, b| a.provider.cmp(&b.provider));
        Ok(holds)
    }

    /// The calls under way and who waits.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer or holds something else there.
    pub async fn slots(&self) -> Result<Slots, Error> {
        let now = self.redis_time().await?;
        let mut pipeline = redis::pipe();
        pipeline.cmd("GET").arg(keys::LLM_MOST);
        pipeline.cmd("HGETALL").arg(keys::LLM_SLOTS);
        pipeline.cmd("HGETALL").arg(keys::LLM_WAITERS);
        let (most, held, waiters): (Option<u32>, Entries, Entries) =
            self.ask_all("read the model calls under way", &pipeline).await?;
        let mut slots = Slots { most: most.unwrap_or(0), ..Slots::default() };
        for (holder, entry) in held {
            let (slot, expires) = Slot::decode(holder, &entry)?;
            if expires > now {
                slots.in_use.push(slot);
            }
        }
        for (holder, entry) in waiters {
            let (waiter, refreshed) = Waiter::decode(holder, &entry)?;
            if refreshed.saturating_add(2 * micros(ASK_AGAIN)) > now {
                slots.waiting.push(waiter);
            }
        }
        slots.in_use.sort_by(|a, b| a.holder.cmp(&b.holder));
        slots.waiting.sort_by(|a, b| (a.since_us, &a.holder).cmp(&(b.since_us, &b.holder)));
        Ok(slots)
    }
}

pub(super) fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Hold {
    /// Reads the entry of `provider` among the usage limits.
    ///
    /// # Errors
    /// [`Error::Malformed`] names the provider.
    pub fn decode(provider: String, entry: &str) -> Result<Self, Error> {
        let mut parts = entry.splitn(4, '|');
        let mut number = || parts.next()?.parse::<u64>().ok();
        let numbers = [number(), number(), number()];
        let ([Some(until_us), Some(strikes), Some(since_us)], Some(message)) =
            (numbers, parts.next())
        else {
            return Err(no_entry(keys::LLM_HOLDS, &provider, entry, "a usage limit"));
        };
        let strikes = u32::try_from(strikes).unwrap_or(u32::MAX);
        Ok(Self { provider, until_us, since_us, strikes, message: message.to_owned() })
    }
}

impl Slot {
    /// Reads the entry of `holder` among the calls under way, and when it expires, in
    /// microseconds since the epoch.
    ///
    /// # Errors
    /// [`Error::Malformed`] names the holder.
    pub fn decode(holder: String, entry: &str) -> Result<(Self, u64), Error> {
        // From the end: the caller chose what comes first.
        let parts: Vec<&str> = entry.rsplitn(5, '|').collect();
        if let [step, expires, _, goal, call] = parts[..]
            && let (Ok(goal), Ok(expires)) = (GoalId::new(goal), expires.parse())
        {
            let (call, step) = (call.to_owned(), step.to_owned());
            return Ok((Self { holder, goal, call, step }, expires));
        }
        Err(no_entry(keys::LLM_SLOTS, &holder, entry, "a call"))
    }
}

impl Waiter {
    /// Reads the entry of `holder` among those that wait, and when it last asked, in
    /// microseconds since the epoch.
    ///
    /// # Errors
    /// [`Error::Malformed`] names the holder.
    pub fn decode(holder: String, entry: &str) -> Result<(Self, u64), Error> {
        let parts: Vec<&str> = entry.splitn(5, '|').collect();
        if let [goal, _, since, refreshed, _] = parts[..]
            && let (Ok(goal), Ok(since_us), Ok(refreshed)) =
                (GoalId::new(goal), since.parse(), refreshed.parse())
        {
            return Ok((Self { holder, goal, since_us }, refreshed));
        }
        Err(no_entry(keys::LLM_WAITERS, &holder, entry, "a waiting caller"))
    }
}
