//! Calls of language models: who may make one now, what it cost, and what holds them.
//!
//! # Slots
//! At most so many calls are under way at once, over all processes. A caller asks with
//! [`Store::begin_call`], renews while it lasts and ends it; who has to wait listens with
//! [`Waiting::slot`] and asks again, at least every [`ASK_AGAIN`]. A free slot goes to
//! the waiter whose goal holds the fewest, and among those to who waits longest.
//!
//! # Holds
//! A provider's usage limit holds every caller of that provider until it is reset; a
//! goal's `spending_cap_until` and a spent budget hold the goal's calls.

mod costs;
mod end;
mod state;

use std::time::Duration;

use model::lease::Epoch;
use model::{AgentName, GoalId, TaskId};
use redis::cmd;

use crate::agent::Incarnation;
use crate::connection::{Reply, Store, Waiting};
use crate::error::Error;
use crate::lead::Lead;
use crate::{keys, script};

pub use self::costs::{CostOf, Costs};
pub use self::end::{End, LimitHit, Spent};
pub use self::state::{Hold, Slot, Slots, Waiter};

/// Who waits for a slot asks again at least so often: one that does not for twice this
/// long has lost its place.
pub const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Who calls.
#[derive(Debug, Clone, Copy)]
pub enum Caller<'a> {
    /// An agent, for the task it holds, or for none, as when it chooses one.
    Agent {
        /// Its name.
        agent: &'a AgentName,
        /// Which process of that name.
        incarnation: Incarnation,
        /// The task and the grant under which it holds it.
        task: Option<(&'a TaskId, Epoch)>,
    },
    /// The planner of a goal.
    Planner {
        /// Its right to write.
        lead: &'a Lead,
    },
}

impl Caller<'_> {
    /// The name under which a slot is held: one call at a time.
    fn holder(&self, goal: &GoalId) -> String {
        match self {
            Self::Agent { agent, .. } => format!("agent:{agent}"),
            Self::Planner { .. } => format!("planner:{goal}"),
        }
    }

    /// What every script of a call begins with: kind, name, incarnation or epoch, task,
    /// epoch of the task.
    fn args(&self) -> [String; 5] {
        match self {
            Self::Agent { agent, incarnation, task } => [
                "agent".to_owned(),
                agent.to_string(),
                incarnation.to_string(),
                task.map_or_else(String::new, |(id, _)| id.to_string()),
                task.map_or_else(String::new, |(_, epoch)| epoch.to_string()),
            ],
            Self::Planner { lead } => [
                "planner".to_owned(),
                lead.controller().to_owned(),
                lead.epoch().to_string(),
                String::new(),
                String::new(),
            ],
        }
    }
}

/// A call that somebody wants to make.
#[derive(Debug, Clone, Copy)]
pub struct Begin<'a> {
    /// Its id, chosen by the caller, unique.
    pub call: &'a str,
    /// Who calls.
    pub caller: Caller<'a>,
    /// For which goal.
    pub goal: &'a GoalId,
    /// Which provider.
    pub provider: &'a str,
    /// What for, as `execute`.
    pub step: &'a str,
    /// How many calls there may be at once, over all processes; at least 1.
    pub slots: u32,
    /// How long the slot is kept without a renewal.
    pub ttl_ms: u64,
    /// What is recorded with the task when the call is granted.
    pub session: Option<Recorded<'a>>,
}

/// What is recorded with the task before its call, so that a successor can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded<'a> {
    /// The id of the conversation.
    pub session: &'a str,
    /// With which provider.
    pub provider: &'a str,
    /// On which host it can be resumed.
    pub host: &'a str,
    /// The log of the call, a path on that host.
    pub log: &'a str,
}

/// What came of asking for a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// It may be made now.
    Granted {
        /// What is left of the budgets of goal and task, the lesser of the two, in
        /// millionths of a US dollar; `None` where neither has one.
        budget_left_micros: Option<u64>,
    },
    /// No slot is free for this caller: wait with [`Waiting::slot`], then ask again.
    Waiting {
        /// For people: `waits for an LLM slot: 2 of 2 in use, 3 wait before it`.
        reason: String,
    },
    /// No call to this provider or for this goal may be made now.
    Held {
        /// Why.
        reason: String,
        /// Until when for this caller, in microseconds since the epoch, where known.
        until_us: Option<u64>,
    },
    /// What may be spent is spent.
    OverBudget {
        /// Of the task; else of the goal.
        of_task: bool,
        /// For people.
        reason: String,
    },
    /// Another incarnation, epoch or lead is current: stop.
    Fenced,
}

impl Store {
    /// Asks for the right to make a call. The same call gets the same answer again, and
    /// its slot for another `ttl_ms`.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer; asking again is safe.
    pub async fn begin_call(&self, begin: &Begin<'_>) -> Result<Begun, Error> {
        let session = begin.session.map_or([""; 4], |r| [r.session, r.provider, r.host, r.log]);
        let args = (
            (self.now(), &begin.caller.args()[..], begin.goal.as_str(), begin.call),
            (begin.provider, begin.slots.max(1), begin.ttl_ms.max(1), &session[..]),
            begin.step,
        );
        let reply = self.call("begin a model call", &script::LLM_BEGIN, args).await?;
        let reason = reply.word(0).to_owned();
        Ok(match reply.verdict() {
            "granted" => Begun::Granted { budget_left_micros: optional(&reply, 0)? },
            "waiting" => Begun::Waiting { reason },
            "held" => Begun::Held { reason, until_us: optional(&reply, 1)? },
            "overbudget" => Begun::OverBudget { of_task: reply.word(1) == "task", reason },
            "fenced" => Begun::Fenced,
            _ => return Err(reply.surprise()),
        })
    }

    /// Keeps a call's slot for another `ttl_ms`. `false`: the slot is lost or the caller
    /// fenced; end the call.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer; renewing again is safe.
    pub async fn renew_call(
        &self,
        caller: &Caller<'_>,
        goal: &GoalId,
        call: &str,
        ttl_ms: u64,
    ) -> Result<bool, Error> {
        let args = (self.now(), &caller.args()[..], goal.as_str(), call, ttl_ms.max(1));
        let reply = self.call("renew a model call", &script::LLM_RENEW, args).await?;
        match reply.verdict() {
            "renewed" => Ok(true),
            "lost" | "fenced" => Ok(false),
            _ => Err(reply.surprise()),
        }
    }

    /// Gives up `call` before it is made: its place in the queue, or the slot that it got
    /// where the answer was not heard. Nothing changes where it has neither.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn give_up_call(
        &self,
        caller: &Caller<'_>,
        goal: &GoalId,
        call: &str,
    ) -> Result<(), Error> {
        let args = (self.now(), &caller.args()[..], goal.as_str(), call);
        self.call("give up a model call", &script::LLM_LEAVE, args).await?;
        Ok(())
    }
}

impl Waiting {
    /// Waits until it is time to ask for a slot again, at most `limit`. Whether a wake
    /// came; ask in either case.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn slot(
        &mut self,
        caller: &Caller<'_>,
        goal: &GoalId,
        limit: Duration,
    ) -> Result<bool, Error> {
        let mut command = cmd("BLPOP");
        command.arg(keys::llm_wake(&caller.holder(goal))).arg(limit.as_secs_f64().max(0.01));
        let token: Option<(String, String)> =
            self.ask("wait for a model call's slot", &command, limit).await?;
        Ok(token.is_some())
    }
}

/// A number among the words that may be absent.
fn optional(reply: &Reply, position: usize) -> Result<Option<u64>, Error> {
    if reply.word(position).is_empty() { Ok(None) } else { reply.number(position).map(Some) }
}
