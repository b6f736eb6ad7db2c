//! What a check found, and how much it saw.

use std::fmt;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use store::event::Event;

use crate::rule::Rule;

/// The most violations that are kept; the rest is counted. One broken rule can show in
/// every event after it.
const MAX_KEPT: usize = 1_000;

/// Which event, by its place in the stream: `<milliseconds since the epoch>-<number>`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// When, in milliseconds since the epoch.
    pub millis: u64,
    /// Which of that millisecond, from 0.
    pub number: u64,
}

impl EventId {
    /// That of `event`; 0-0 where its id is none of Redis'.
    #[must_use]
    pub fn of(event: &Event) -> Self {
        let (millis, number) = event.place();
        Self { millis, number }
    }

    /// When, as far as a calendar reaches.
    #[must_use]
    pub fn time(self) -> Option<Timestamp> {
        Timestamp::from_millisecond(i64::try_from(self.millis).ok()?).ok()
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.number)
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// How, in one sentence.
    pub text: String,
    /// Whose task, or which goal.
    pub goal: Option<String>,
    /// Which task.
    pub task: Option<String>,
    /// Which agent wrote.
    pub agent: Option<String>,
    /// The events that show it, oldest first; none where the state alone does.
    pub events: Vec<EventId>,
}

/// The outcome of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many events were looked at.
    pub events: u64,
    /// Whether these are all that there ever were.
    pub complete: bool,
    /// The first of them.
    pub since: Option<EventId>,
    /// How often events were missing in the middle.
    pub gaps: u64,
    /// How often Redis was seen to come back with older data.
    pub restores: u64,
    /// How many goals have a plan.
    pub goals: u64,
    /// How many tasks are in these plans.
    pub tasks: u64,
    /// Of how many of them no event was left to compare their state with.
    pub unseen_tasks: u64,
    /// How many of them changed while the state was read, so that it was not compared.
    pub moved_tasks: u64,
    /// For how many grants it was not known any more what the task waited for.
    pub unchecked_claims: u64,
    /// What was found, in the order of the history, then of the state.
    pub violations: Vec<Violation>,
    /// How many more there were.
    pub more_violations: u64,
}

impl Report {
    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    pub(crate) fn add(&mut self, violation: Violation) {
        if self.violations.len() < MAX_KEPT {
            self.violations.push(violation);
        } else {
            self.more_violations += 1;
        }
    }

    /// In one line, with how much was seen.
    #[must_use]
    pub fn summary(&self) -> String {
        let scope = match self.since.filter(|_| !self.complete) {
            None if self.complete => "complete".to_owned(),
            None => "older ones are gone".to_owned(),
            Some(id) => {
                let time = id.time().map_or_else(|| id.to_string(), |time| time.to_string());
                format!("since {time}: older ones are gone")
            }
        };
        let found = match self.violations.len() as u64 + self.more_violations {
            0 => "no violation".to_owned(),
            n => count(n, "violation", "violations"),
        };
        format!(
            "looked at {} ({scope}) and {} of {}: {found}",
            count(self.events, "event", "events"),
            count(self.tasks, "task", "tasks"),
            count(self.goals, "goal", "goals"),
        )
    }

    /// What was not looked at, in sentences; empty where everything was.
    #[must_use]
    pub fn limits(&self) -> Vec<String> {
        let mut said = Vec::new();
        let mut say = |n: u64, text: String| {
            if n > 0 {
                said.push(text);
            }
        };
        let n = self.unchecked_claims;
        let grants = count(n, "grant was", "grants were");
        say(
            n,
            format!(
                "{grants} made under plans that are not in force any more: whether what the task waited for was done is not known"
            ),
        );
        let n = self.unseen_tasks;
        let tasks = count(n, "task", "tasks");
        say(n, format!("of {tasks} no event is left: only the state was looked at"));
        let n = self.moved_tasks;
        let tasks = count(n, "task", "tasks");
        say(n, format!("{tasks} changed while the state was read: only the events were looked at"));
        let n = self.gaps;
        let gaps = count(n, "time", "times");
        say(n, format!("events were missing in the middle {gaps}: what they did is not known"));
        let n = self.restores;
        let restores = count(n, "time", "times");
        say(
            n,
            format!(
                "Redis came back with older data {restores}: what that undid counts for nothing"
            ),
        );
        said
    }
}

fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}
