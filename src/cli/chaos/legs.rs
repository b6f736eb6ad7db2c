//! What follows a fault, leg by leg: from events to times. Pure.
//!
//! Times are whole milliseconds on Redis' clock, which is what an event's id has.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use store::event::Event;

/// One step on the way from a fault back to normal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Leg {
    /// A controller knows that the agent is gone, or another process leads.
    Detected,
    /// The lease of the task that it ran is released.
    LeaseReleased,
    /// The agent's successor is registered.
    Registered,
    /// The same task is granted again, to whomever.
    RunningAgain,
    /// Redis answers again.
    RedisBack,
    /// The first task after that is granted.
    ClaimingAgain,
    /// The stopped process was let go on.
    Continued,
    /// All is as it was before.
    Converged,
}

impl Leg {
    pub(super) const ALL: [Self; 8] = [
        Self::Detected,
        Self::LeaseReleased,
        Self::Registered,
        Self::RunningAgain,
        Self::RedisBack,
        Self::ClaimingAgain,
        Self::Continued,
        Self::Converged,
    ];
}

impl fmt::Display for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Detected => "detected",
            Self::LeaseReleased => "lease released",
            Self::Registered => "registered",
            Self::RunningAgain => "running again",
            Self::RedisBack => "Redis back",
            Self::ClaimingAgain => "claiming again",
            Self::Continued => "continued",
            Self::Converged => "converged",
        })
    }
}

/// Who was hit, as far as events tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Victim {
    Agent {
        name: String,
        incarnation: u64,
        /// What it ran when it was looked at: the task, and under which epoch.
        held: Option<(String, u64)>,
    },
    Orchestrator {
        /// As which it led.
        holder: String,
    },
    Redis,
    Sysg,
}

impl Victim {
    /// The task that it ran when it was looked at.
    pub(super) fn task(&self) -> Option<&str> {
        match self {
            Self::Agent { held, .. } => held.as_ref().map(|(task, _)| task.as_str()),
            Self::Orchestrator { .. } | Self::Redis | Self::Sysg => None,
        }
    }
}

/// What came of one fault so far.
#[derive(Debug, Clone)]
pub(super) struct Timeline {
    victim: Victim,
    /// When, on Redis' clock, in milliseconds since the epoch.
    at_millis: u64,
    /// Whether the fault ends its victim, or only stops it for a while.
    ends: bool,
    /// The task whose lease was released, where it will be granted again.
    lost: Option<String>,
    legs: BTreeMap<Leg, u64>,
}

impl Timeline {
    pub(super) fn new(victim: Victim, at_millis: u64, ends: bool) -> Self {
        Self { victim, at_millis, ends, lost: None, legs: BTreeMap::new() }
    }

    /// The legs seen so far, in milliseconds after the fault.
    pub(super) const fn legs(&self) -> &BTreeMap<Leg, u64> {
        &self.legs
    }

    /// Takes in what happened next. The leg that this was, if it was one.
    pub(super) fn apply(&mut self, event: &Event) -> Option<Leg> {
        if event.millis() < self.at_millis {
            return None;
        }
        let leg = match &self.victim {
            Victim::Agent { .. } => self.of_agent(event)?,
            Victim::Orchestrator { holder } => {
                let other = event.kind == "leader" && event.field("holder") != holder;
                other.then_some(Leg::Detected)?
            }
            // What was granted in the same millisecond may have been so before.
            Victim::Redis => {
                let after = event.kind == "task-claim" && event.millis() > self.at_millis;
                after.then_some(Leg::ClaimingAgain)?
            }
            Victim::Sysg => return None,
        };
        self.see(leg, event.millis())
    }

    /// Notes that `leg` was there at `millis`. None where it was noted before.
    pub(super) fn see(&mut self, leg: Leg, millis: u64) -> Option<Leg> {
        if self.legs.contains_key(&leg) {
            return None;
        }
        self.legs.insert(leg, millis.saturating_sub(self.at_millis));
        Some(leg)
    }

    fn of_agent(&mut self, event: &Event) -> Option<Leg> {
        let Victim::Agent { name, incarnation, held } = &mut self.victim else { return None };
        let number = |field: &str| event.field(field).parse::<u64>().ok();
        let of_name = event.field("agent") == name;
        let of_victim = of_name && number("incarnation") == Some(*incarnation);
        match event.kind.as_str() {
            "agent-death" | "agent-deregister" if of_victim => Some(Leg::Detected),
            "agent-register" if of_name && number("incarnation") > Some(*incarnation) => {
                Some(Leg::Registered)
            }
            "task-lose" | "task-release" if of_victim => {
                self.lost = Some(event.field("task").to_owned());
                Some(Leg::LeaseReleased)
            }
            // It came to its end before the fault did, or cost one agent too many: no
            // lease is lost that would be granted again.
            "task-complete" | "task-retry" | "task-fail" | "task-detour" | "task-drop" => {
                let epoch = number("epoch");
                if held
                    .as_ref()
                    .is_some_and(|(task, of)| event.field("task") == task && epoch == Some(*of))
                {
                    *held = None;
                }
                None
            }
            "task-claim" if self.lost.as_deref() == Some(event.field("task")) => {
                Some(Leg::RunningAgain)
            }
            _ => None,
        }
    }

    /// The legs that are still to come. Those that may never come are left out, as
    /// that somebody notices a process which is only stopped for a while.
    pub(super) fn awaited(&self) -> Vec<Leg> {
        let mut legs = match &self.victim {
            Victim::Agent { held, .. } if self.ends || self.legs.contains_key(&Leg::Detected) => {
                let mut legs = vec![Leg::Detected, Leg::Registered];
                legs.extend(held.is_some().then_some(Leg::LeaseReleased));
                legs.extend(self.lost.is_some().then_some(Leg::RunningAgain));
                legs
            }
            Victim::Orchestrator { .. } if self.ends => vec![Leg::Detected],
            Victim::Redis if self.ends => vec![Leg::RedisBack],
            Victim::Agent { .. } | Victim::Orchestrator { .. } | Victim::Redis | Victim::Sysg => {
                Vec::new()
            }
        };
        legs.retain(|leg| !self.legs.contains_key(leg));
        legs
    }
}

/// How long one leg took, over all faults that had it; milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Figures {
    pub(super) count: usize,
    pub(super) p50: u64,
    pub(super) p90: u64,
    pub(super) p99: u64,
    pub(super) max: u64,
}

/// The figures of these times; `None` of none.
pub(super) fn figures(times: &[u64]) -> Option<Figures> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let max = *sorted.last()?;
    // The nearest rank: the smallest time that so many of a hundred do not exceed. It is
    // always one that was seen.
    let at = |percent: usize| {
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or(max)
    };
    Some(Figures { count: sorted.len(), p50: at(50), p90: at(90), p99: at(99), max })
}
