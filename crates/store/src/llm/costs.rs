//! What calls used up, added up per goal, agent and model.

use model::{AgentName, GoalId};
use redis::cmd;
use serde::Serialize;

use crate::connection::Store;
use crate::error::Error;
use crate::keys;
use crate::record::{Fields, Hash};

/// The longest name of a model in a key, in bytes.
const MAX_MODEL: usize = 64;

/// Whose costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CostOf<'a> {
    /// All calls for a goal.
    Goal(&'a GoalId),
    /// All calls that an agent made.
    Agent(&'a AgentName),
    /// All calls of a model, by a name that [`Store::models`] gave or a provider said.
    Model(&'a str),
}

/// What a number of calls used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Costs {
    /// How many calls.
    pub calls: u64,
    /// What they cost, in millionths of a US dollar, as far as that is known.
    pub usd_micros: u64,
    /// Of how many calls the cost is not known.
    pub unpriced_calls: u64,
    /// Tokens read, without those from a cache.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// Tokens read from a cache.
    pub cache_read_tokens: u64,
    /// Tokens put into a cache.
    pub cache_write_tokens: u64,
    /// How long they took, one after the other, in milliseconds.
    pub ms: u64,
}

impl Store {
    /// What the calls of a goal, an agent or a model used up; nothing where there were none.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer or holds something else there.
    pub async fn costs(&self, of: CostOf<'_>) -> Result<Costs, Error> {
        let key = match of {
            CostOf::Goal(goal) => keys::goal_cost(goal),
            CostOf::Agent(agent) => keys::agent(agent, "cost"),
            CostOf::Model(model) => keys::model_cost(&model_key(model)),
        };
        let fields: Fields = self.ask("read what calls cost", cmd("HGETALL").arg(&key)).await?;
        Costs::decode(&Hash::new(key, fields))
    }

    /// Every model whose costs are kept, by name; characters outside of
    /// `A-Z a-z 0-9 . _ -` are replaced by `_`.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn models(&self) -> Result<Vec<String>, Error> {
        let mut models: Vec<String> =
            self.ask("list models", cmd("SMEMBERS").arg(keys::LLM_MODELS)).await?;
        models.sort();
        Ok(models)
    }
}

/// A model's name as it may stand in a key.
pub(super) fn model_key(model: &str) -> String {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    model.chars().take(MAX_MODEL).map(|c| if legal(c) { c } else { '_' }).collect()
}

impl Costs {
    /// Reads a hash of costs.
    ///
    /// # Errors
    /// [`Error::Malformed`] names the field that is not as this version writes it.
    pub fn decode(hash: &Hash) -> Result<Self, Error> {
        Ok(Self {
            calls: hash.number("calls")?,
            usd_micros: hash.number("usd_micros")?,
            unpriced_calls: hash.number("unpriced_calls")?,
            input_tokens: hash.number("input_tokens")?,
            output_tokens: hash.number("output_tokens")?,
            cache_read_tokens: hash.number("cache_read_tokens")?,
            cache_write_tokens: hash.number("cache_write_tokens")?,
            ms: hash.number("ms")?,
        })
    }
}
