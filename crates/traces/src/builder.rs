//! From events to spans: who looks at which event.

use store::event::Event;

use crate::attempts::Attempts;
use crate::goals::Goals;
use crate::recoveries::Recoveries;
use crate::span::{Place, Span};

/// Builds spans from events. What it remembers is bounded by the tasks, goals and agents
/// that the events name.
#[derive(Debug)]
pub struct Builder {
    attempts: Attempts,
    goals: Goals,
    recoveries: Recoveries,
}

impl Builder {
    /// For the events of one fleet.
    #[must_use]
    pub fn new(fleet: &str) -> Self {
        Self {
            attempts: Attempts::new(fleet),
            goals: Goals::new(fleet),
            recoveries: Recoveries::new(fleet),
        }
    }

    /// Adds what tasks wait for, by id: attempts are then linked to those that came before.
    /// Asked for at each grant, so it may be told again when a plan changes.
    pub fn dependencies(&mut self, waits_for: impl IntoIterator<Item = (String, Vec<String>)>) {
        self.attempts.waits_for.extend(waits_for);
    }

    /// The next event. Returns the spans that are over with it, parts before the whole.
    pub fn event(&mut self, event: &Event) -> Vec<Span> {
        let mut over = Vec::new();
        self.recoveries.event(event, &mut over);
        if let Some(generation) = self.goals.event(event, &mut over) {
            self.attempts.accepted(event, &generation);
        }
        self.attempts.event(event, &mut over);
        over
    }

    /// How long the task whose attempt is under way was READY before it, in microseconds.
    #[must_use]
    pub fn waited(&self, task: &str) -> Option<u64> {
        self.attempts.waited(task)
    }

    /// What is not over yet, parts before the whole.
    #[must_use]
    pub fn open(&self) -> Vec<Span> {
        let mut open = Vec::new();
        self.recoveries.open(&mut open);
        self.goals.open(&mut open);
        self.attempts.open(&mut open);
        open
    }
}

/// When an event happened, in microseconds since the epoch.
pub(crate) fn micros(event: &Event) -> u64 {
    event.millis().saturating_mul(1_000)
}

/// The span of a call of a model that ended with this event, as part of `whole`.
pub(crate) fn call(whole: &Span, event: &Event) -> Span {
    let end = micros(event);
    let took = event.field("ms").parse::<u64>().unwrap_or(0).saturating_mul(1_000);
    let model = event.field("model");
    let name = if model.is_empty() { "chat".to_owned() } else { format!("chat {model}") };
    let outcome = event.field("outcome");
    let key = format!("call {}", event.field("call"));
    let mut span = whole
        // What it took is by another clock than when it ended.
        .part(&name, &key, end.saturating_sub(took).max(whole.start_us))
        .with("gen_ai.operation.name", "chat")
        .with("gen_ai.system", event.field("provider"))
        .with("gen_ai.provider.name", event.field("provider"))
        .with("gen_ai.response.model", model)
        .with_number("gen_ai.usage.input_tokens", event.field("input_tokens"))
        .with_number("gen_ai.usage.output_tokens", event.field("output_tokens"))
        .with_number("orch.llm.cache_read_tokens", event.field("cache_read_tokens"))
        .with_number("orch.llm.cache_write_tokens", event.field("cache_write_tokens"))
        .with_number("orch.llm.usd_micros", event.field("usd_micros"))
        .with("orch.llm.step", event.field("step"))
        .with("orch.llm.prompt", event.field("prompt"))
        .with("orch.outcome", outcome);
    let finish = crate::Value::List(vec![finish_reason(outcome).to_owned()]);
    span.attributes.push(("gen_ai.response.finish_reasons", finish));
    let status = match outcome {
        "ok" => crate::Status::Ok,
        other => crate::Status::Error(other.to_owned()),
    };
    span.ended(end, status)
}

/// The outcome of a call (`ok`, `malformed`, `failed`, ..) as a finish reason in the words
/// of OpenTelemetry's GenAI conventions.
#[must_use]
pub fn finish_reason(outcome: &str) -> &'static str {
    match outcome {
        "ok" | "malformed" => "stop",
        "refused" => "content_filter",
        _ => "error",
    }
}

/// The link to the goal's trace.
pub(crate) fn goal_place(fleet: &str, event: &Event) -> Place {
    crate::ids::goal(fleet, event.field("goal"), event.field("generation"))
}
