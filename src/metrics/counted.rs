//! What the stream of events tells: counts, and how long things took.

use std::collections::BTreeSet;
use std::time::Duration;

use model::task::Cause;
use store::event::{Event, Position};
use traces::{Builder, Span, Status};

use super::catalog as m;
use super::samples::Samples;
use crate::follow::whole;

/// So many models are told apart; of those beyond it is known what they are together.
const MAX_MODELS: usize = 64;
/// What the model is called that a provider did not name.
const UNNAMED: &str = "unknown";
/// What all models beyond [`MAX_MODELS`] are called.
const OTHERS: &str = "other";
/// What may end an attempt and is worth a 0 before it happens.
const OUTCOMES: [Cause; 5] =
    [Cause::Complete, Cause::Retry, Cause::Fail, Cause::Lose, Cause::Release];

/// Counts since the process began.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) samples: Samples,
    /// The last event that was counted.
    pub(super) position: Option<Position>,
    models: BTreeSet<String>,
}

impl Counted {
    pub(super) fn new() -> Self {
        let mut samples = Samples::default();
        for metric in [&m::WAIT, &m::RECOVERY] {
            samples.begin(metric, &[]);
        }
        for leg in ["respawn", "run-again"] {
            samples.begin(&m::RECOVERY_LEG, &[leg]);
        }
        for cause in OUTCOMES {
            samples.begin(&m::ATTEMPT, &[cause.as_str()]);
        }
        samples.count(&m::DATA_LOSSES, &[], 0);
        Self { samples, position: None, models: BTreeSet::new() }
    }

    /// Counts the next event, and what is over with it.
    pub(super) fn event(&mut self, event: &Event, builder: &mut Builder) {
        for trace in whole(builder.event(event)) {
            self.over(&trace);
        }
        let (goal, agent) = (event.field("goal"), event.field("agent"));
        match event.kind.as_str() {
            "llm-call" => self.call(event),
            "llm-hold" => self.samples.count(&m::LLM_HOLDS, &[event.field("provider")], 1),
            "agent-death" => self.samples.count(&m::DEATHS, &[agent], 1),
            "leader" => self.samples.count(&m::LEADER_CHANGES, &[event.field("controller")], 1),
            "data-lost" => self.samples.count(&m::DATA_LOSSES, &[], 1),
            "directive" => self.samples.count(&m::DIRECTIVES, &[event.field("outcome")], 1),
            "task-repair" => self.samples.count(&m::REPAIRS, &[goal], 1),
            kind => {
                if let Some(trouble) = kind.strip_prefix("goal-plan-") {
                    self.samples.count(&m::PLANNING, &[goal, trouble], 1);
                }
                if let Some(cause) = cause(kind) {
                    self.samples.count(&m::TRANSITIONS, &[goal, cause.as_str()], 1);
                }
            }
        }
        if event.kind == "task-claim"
            && let Some(us) = builder.waited(event.field("task"))
        {
            self.samples.observe(&m::WAIT, &[], Duration::from_micros(us));
        }
        self.position = Some(Position(event.id.clone()));
    }

    /// A whole trace that is over, its root last.
    fn over(&mut self, trace: &[Span]) {
        let Some(root) = trace.last() else { return };
        match root.name.as_str() {
            "attempt" => {
                let execute = trace.iter().find(|span| span.name == "execute");
                if let Some(took) = execute.and_then(took) {
                    self.samples.observe(&m::ATTEMPT, &[root.text("orch.outcome")], took);
                }
            }
            "recovery" => {
                let legs = [("respawn", "respawn"), ("run again", "run-again")];
                for (part, leg) in legs {
                    let part = trace.iter().find(|span| span.name == part);
                    let ended = part.filter(|part| part.status == Status::Ok);
                    if let Some(took) = ended.and_then(took) {
                        self.samples.observe(&m::RECOVERY_LEG, &[leg], took);
                    }
                }
                // One during which the agent died again goes on as the next one.
                if root.status == Status::Ok
                    && let Some(took) = took(root)
                {
                    self.samples.observe(&m::RECOVERY, &[], took);
                }
            }
            _ => {}
        }
    }

    fn call(&mut self, event: &Event) {
        let provider = event.field("provider").to_owned();
        let model = self.known_model(event.field("model"));
        let of: &[&str] = &[&provider, &model];
        let number = |name: &str| event.field(name).parse::<u64>().ok();
        let labels = [of, &[event.field("step"), event.field("outcome")]].concat();
        self.samples.count(&m::LLM_CALLS, &labels, 1);
        let took = Duration::from_millis(number("ms").unwrap_or(0));
        self.samples.observe(&m::LLM_TIME, of, took);
        let usd_micros = number("usd_micros");
        self.samples.add(&m::LLM_COST, of, usd(usd_micros.unwrap_or(0)));
        self.samples.count(&m::LLM_UNPRICED, of, u64::from(usd_micros.is_none()));
        for kind in ["input", "output", "cache_read", "cache_write"] {
            let tokens = number(&format!("{kind}_tokens")).unwrap_or(0);
            self.samples.count(&m::LLM_TOKENS, &[of, &[kind]].concat(), tokens);
        }
    }

    fn known_model(&mut self, model: &str) -> String {
        let model = if model.is_empty() { UNNAMED } else { model };
        if self.models.len() < MAX_MODELS {
            self.models.insert(model.to_owned());
        }
        if self.models.contains(model) { model.to_owned() } else { OTHERS.to_owned() }
    }
}

/// The change of a task that a kind of event tells.
fn cause(kind: &str) -> Option<Cause> {
    let word = kind.strip_prefix("task-")?;
    Cause::ALL.into_iter().find(|cause| cause.as_str() == word)
}

fn took(span: &Span) -> Option<Duration> {
    Some(Duration::from_micros(span.end_us?.saturating_sub(span.start_us)))
}

/// Millionths of a US dollar in US dollars.
pub(super) fn usd(micros: u64) -> f64 {
    super::samples::float(micros) / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(ms: u64, kind: &str, fields: &[(&str, &str)]) -> Event {
        Event {
            id: format!("{ms}-0"),
            kind: kind.to_owned(),
            fields: fields.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        }
    }

    fn task(ms: u64, cause: &str, from: &str, to: &str, epoch: &str) -> Event {
        let fields = [
            ("goal", "g"),
            ("task", "t"),
            ("from", from),
            ("to", to),
            ("generation", "1"),
            ("epoch", epoch),
            ("agent", "a"),
        ];
        event(ms, &format!("task-{cause}"), &fields)
    }

    fn counted(events: &[Event]) -> Counted {
        let (mut counted, mut builder) = (Counted::new(), Builder::new("fleet"));
        for event in events {
            counted.event(event, &mut builder);
        }
        counted
    }

    #[test]
    fn kill_should_be_counted_with_what_it_cost() {
        let c = counted(&[
            event(1_000, "goal-accept", &[("goal", "g"), ("generation", "1"), ("tasks", "1")]),
            task(3_000, "claim", "ready", "running", "1"),
            task(4_000, "lose", "running", "ready", "1"),
            event(4_000, "agent-death", &[("agent", "a"), ("incarnation", "1"), ("task", "t")]),
            event(4_100, "agent-register", &[("agent", "a"), ("incarnation", "2")]),
            task(4_250, "claim", "ready", "running", "2"),
            task(6_250, "complete", "running", "done", "2"),
        ]);
        let number = |cause| c.samples.number(&m::TRANSITIONS, &["g", cause]);
        assert_eq!(
            (number("claim"), number("lose"), number("complete")),
            (Some(2.0), Some(1.0), Some(1.0))
        );
        assert_eq!(c.samples.observed(&m::WAIT, &[]), Some((2, 2.25)));
        assert_eq!(c.samples.observed(&m::ATTEMPT, &["lose"]), Some((1, 1.0)));
        assert_eq!(c.samples.observed(&m::ATTEMPT, &["complete"]), Some((1, 2.0)));
        assert_eq!(c.samples.observed(&m::RECOVERY, &[]), Some((1, 0.25)));
        assert_eq!(c.samples.observed(&m::RECOVERY_LEG, &["respawn"]), Some((1, 0.1)));
        assert_eq!(c.samples.observed(&m::RECOVERY_LEG, &["run-again"]), Some((1, 0.25)));
        assert_eq!(c.samples.number(&m::DEATHS, &["a"]), Some(1.0));
        assert_eq!(c.position, Some(Position("6250-0".into())));
    }

    #[test]
    fn agent_that_dies_again_should_count_one_recovery() {
        let death = |ms, incarnation| {
            let of = [("agent", "a"), ("incarnation", incarnation), ("task", "")];
            event(ms, "agent-death", &of)
        };
        let c = counted(&[
            death(1_000, "1"),
            death(2_000, "2"),
            event(2_500, "agent-register", &[("agent", "a"), ("incarnation", "3")]),
        ]);
        assert_eq!(c.samples.observed(&m::RECOVERY, &[]), Some((1, 0.5)));
        assert_eq!(c.samples.number(&m::DEATHS, &["a"]), Some(2.0));
    }

    #[test]
    fn calls_of_models_should_be_counted_by_provider_and_model() {
        let call = |model: &str, usd: &str| {
            let of = [
                ("provider", "claude"),
                ("model", model),
                ("step", "execute"),
                ("outcome", "ok"),
                ("ms", "1500"),
                ("usd_micros", usd),
                ("input_tokens", "7"),
                ("output_tokens", "3"),
            ];
            event(1, "llm-call", &of)
        };
        let c = counted(&[call("m", "250000"), call("m", ""), call("", "1")]);
        let of = ["claude", "m"];
        assert_eq!(c.samples.number(&m::LLM_COST, &of), Some(0.25));
        assert_eq!(c.samples.number(&m::LLM_UNPRICED, &of), Some(1.0));
        assert_eq!(c.samples.observed(&m::LLM_TIME, &of), Some((2, 3.0)));
        assert_eq!(c.samples.number(&m::LLM_TOKENS, &["claude", "m", "input"]), Some(14.0));
        let calls = ["claude", UNNAMED, "execute", "ok"];
        assert_eq!(c.samples.number(&m::LLM_CALLS, &calls), Some(1.0));

        let many: Vec<Event> = (0..200).map(|n| call(&format!("m{n}"), "")).collect();
        let c = counted(&many);
        assert_eq!(c.samples.values_of("model").len(), MAX_MODELS + 1);
        assert_eq!(c.samples.number(&m::LLM_UNPRICED, &["claude", OTHERS]), Some(136.0));
    }
}
