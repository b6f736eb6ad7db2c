//! The end of a call: what it used up, and whether it hit a limit.

use model::GoalId;

use super::Caller;
use super::costs::model_key;
use crate::connection::Store;
use crate::error::Error;
use crate::record::shortened;
use crate::script;

/// The longest message of a usage limit that is kept, in bytes.
const MAX_MESSAGE: usize = 500;
/// More than any call uses: sums of what a provider says must not overflow in Redis.
const MOST_USED: u64 = 1_000_000_000_000;

/// A call that ended.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// The id under which it was begun.
    pub call: &'a str,
    /// Who made it.
    pub caller: Caller<'a>,
    /// For which goal.
    pub goal: &'a GoalId,
    /// Which provider.
    pub provider: &'a str,
    /// Which model answered, where that is known.
    pub model: Option<&'a str>,
    /// What for, as `execute`.
    pub step: &'a str,
    /// What came of it: `ok`, `malformed`, `failed`, `limit`, ..; `ok` ends the strikes
    /// of its provider.
    pub outcome: &'a str,
    /// What it used up.
    pub spent: Spent,
    /// How long it took.
    pub duration_ms: u64,
    /// Name, version and hash of the prompt.
    pub prompt: &'a str,
    /// The usage limit that it hit.
    pub limit: Option<LimitHit<'a>>,
}

/// What a call used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// In millionths of a US dollar; absent where that is not known.
    pub cost_micros: Option<u64>,
    /// Tokens read, without those from a cache.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// Tokens read from a cache.
    pub cache_read_tokens: u64,
    /// Tokens put into a cache.
    pub cache_write_tokens: u64,
}

/// A usage limit that a call hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitHit<'a> {
    /// When it is reset, in microseconds since the epoch, where that was said. A time in
    /// the past says nothing; one more than 35 days away counts as 35 days.
    pub until_us: Option<u64>,
    /// The provider's words.
    pub message: &'a str,
}

impl Store {
    /// Records what a call used up, holds its provider where it hit a limit, and frees its
    /// slot. Counts once for each call id, also where the caller is fenced by now: the
    /// money is spent.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer; ending again is safe.
    pub async fn end_call(&self, end: &End<'_>) -> Result<(), Error> {
        let spent = &end.spent;
        let (limited, until, message) = end
            .limit
            .map_or(("", None, ""), |hit| ("1", hit.until_us, shortened(hit.message, MAX_MESSAGE)));
        let text =
            |number: Option<u64>| number.map_or_else(String::new, |n| bounded(n).to_string());
        let args = (
            (self.now(), &end.caller.args()[..], end.goal.as_str(), end.call),
            (end.provider, end.model.map_or_else(String::new, model_key), end.step, end.outcome),
            (text(spent.cost_micros), bounded(spent.input_tokens), bounded(spent.output_tokens)),
            (bounded(spent.cache_read_tokens), bounded(spent.cache_write_tokens)),
            (bounded(end.duration_ms), end.prompt),
            (limited, until.map_or_else(String::new, |us| us.to_string()), message),
        );
        let reply = self.call("end a model call", &script::LLM_END, args).await?;
        match reply.verdict() {
            "ended" | "already" => Ok(()),
            _ => Err(reply.surprise()),
        }
    }
}

fn bounded(used: u64) -> u64 {
    used.min(MOST_USED)
}
