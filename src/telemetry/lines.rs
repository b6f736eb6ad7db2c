//! One event as a line, in three styles. Pure.
//!
//! `concise`, for people, as in the reference:
//!
//! ```text
//! 2024-03-18 10:15:24 INFO runtime: [research_agent] Acquired lock for task task-001
//! ```
//!
//! `event`, for programs: a stable code, every field, and the trace that it is part of:
//!
//! ```text
//! 2024-03-18T10:15:24.120Z INFO event=acquired-lock-for-task component=runtime agent=research_agent task=task-001 msg="Acquired lock for task task-001"
//! ```
//!
//! `json`: the same as one object per line.
//!
//! The component is the event's target where that is `orchestrator` or `runtime`, else
//! what the process is. The code is the event's field `code`, else its message in
//! lowercase with dashes and without what fields say, so that `task-001` is no part of
//! it. In the concise style a field whose value the message names is not repeated, and
//! a trace is named only where traces are sent.
//! Values are escaped, so that one event is one line, and secrets are masked.

use std::fmt::{self, Write as _};

use jiff::Timestamp;
use serde_json::{Map, Value};
use traces::Place;
use tracing::Level;
use tracing::field::{Field, Visit};

use crate::cli::{is_printable, safe};
use crate::secrets::masked;
use crate::settings::LogStyle;

const COMPONENTS: [&str; 2] = ["orchestrator", "runtime"];
/// The longest code that is made of a message, in bytes.
const CODE_BYTES: usize = 48;
/// Fields that stand beside `fields` in JSON, in this order.
const TOP: [&str; 6] = ["agent", "controller", "goal", "task", "attempt", "epoch"];

/// How a process writes its lines.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) style: LogStyle,
    pub(super) ansi: bool,
    /// Who speaks, where the process is an agent.
    pub(super) agent: Option<String>,
    /// Whether traces are sent, so that their ids lead somewhere.
    pub(super) traced: bool,
}

/// Names and values.
pub(super) type Pairs = Vec<(&'static str, String)>;

/// What an event says.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) message: String,
    pub(super) code: Option<String>,
    pub(super) agent: Option<String>,
    pub(super) fields: Pairs,
}

/// What is known of an event by the spans that it is in, the innermost first.
#[derive(Debug, Default)]
pub(super) struct Around {
    /// Fields that every style tells.
    pub(super) shown: Pairs,
    /// Fields that tell which attempt it is part of: for programs.
    pub(super) of_attempt: Pairs,
    /// The span of a trace that it is in.
    pub(super) place: Option<Place>,
}

impl Said {
    fn take(&mut self, field: &Field, value: String) {
        let value = masked(value);
        match field.name() {
            "message" => self.message = value,
            "code" => self.code = Some(value),
            "agent" => self.agent = Some(value),
            name => self.fields.push((name, value)),
        }
    }

    fn code(&self) -> String {
        self.code.clone().unwrap_or_else(|| code_of(self))
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.to_owned());
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.take(field, reconcile::error_chain(value));
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format!("{value:?}"));
    }
}

/// A value that ends where it is seen to end.
fn quoted(value: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '=' | '\\');
    if !value.is_empty() && value.chars().all(plain) {
        return safe(value);
    }
    let inner = value.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", safe(&inner))
}

/// The code of a message that has none of its own: its words that no field says.
fn code_of(said: &Said) -> String {
    let mut message = said.message.clone();
    for value in said.agent.iter().chain(said.fields.iter().map(|(_, value)| value)) {
        if names(&message, value) {
            message = message.replace(value, " ");
        }
    }
    let mut code = String::new();
    for c in message.chars().map(|c| c.to_ascii_lowercase()) {
        if code.len() >= CODE_BYTES {
            break;
        }
        if c.is_ascii_alphanumeric() {
            code.push(c);
        } else if !code.is_empty() && !code.ends_with('-') {
            code.push('-');
        }
    }
    let code = code.trim_end_matches('-');
    if code.is_empty() { "log".to_owned() } else { code.to_owned() }
}

impl Lines {
    /// The event as one line, without its end.
    pub(super) fn line(
        &self,
        now: Timestamp,
        level: Level,
        target: &str,
        said: &Said,
        around: &Around,
    ) -> String {
        match self.style {
            LogStyle::Concise => self.concise(now, level, target, said, around),
            LogStyle::Event => self.event(now, level, target, said, around),
            LogStyle::Json => self.json(now, level, target, said, around),
        }
    }

    fn component(&self, target: &str) -> &'static str {
        match COMPONENTS.into_iter().find(|name| *name == target) {
            Some(name) => name,
            None if self.agent.is_some() => "runtime",
            None => "orchestrator",
        }
    }

    fn level(&self, level: Level) -> String {
        let color = match level {
            Level::ERROR => "31",
            Level::WARN => "33",
            Level::INFO => "32",
            _ => "2",
        };
        if self.ansi { format!("\x1b[{color}m{level}\x1b[0m") } else { level.to_string() }
    }

    fn agent<'a>(&'a self, said: &'a Said) -> Option<&'a String> {
        said.agent.as_ref().or(self.agent.as_ref())
    }

    fn concise(
        &self,
        now: Timestamp,
        level: Level,
        target: &str,
        said: &Said,
        around: &Around,
    ) -> String {
        let time = now.strftime("%Y-%m-%d %H:%M:%S");
        let mut line = format!("{time} {} {}: ", self.level(level), self.component(target));
        if let Some(agent) = self.agent(said) {
            _ = write!(line, "[{}] ", safe(agent));
        }
        line.push_str(&safe(&said.message));
        let fields = said.fields.iter().filter(|(_, value)| !names(&said.message, value));
        for (name, value) in fields.chain(&around.shown) {
            _ = write!(line, " {name}={}", quoted(value));
        }
        if let Some(place) = around.place.filter(|_| self.traced) {
            _ = write!(line, " trace_id={}", place.trace);
        }
        line
    }

    fn event(
        &self,
        now: Timestamp,
        level: Level,
        target: &str,
        said: &Said,
        around: &Around,
    ) -> String {
        let time = now.strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
        let code = quoted(&said.code());
        let component = self.component(target);
        let mut line = format!("{time} {} event={code} component={component}", self.level(level));
        for (name, value) in self.all(said, around) {
            _ = write!(line, " {name}={}", quoted(value));
        }
        if let Some(Place { trace, span }) = around.place {
            _ = write!(line, " trace_id={trace} span_id={span}");
        }
        _ = write!(line, " msg={}", quoted(&said.message));
        line
    }

    fn json(
        &self,
        now: Timestamp,
        level: Level,
        target: &str,
        said: &Said,
        around: &Around,
    ) -> String {
        let service = if self.agent.is_some() { "agent" } else { "orchestrator" };
        let mut line = Object::default();
        line.add("timestamp", &now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string());
        line.add("level", level.as_str());
        line.add("target", target);
        line.add("service", service);
        line.add("code", &said.code());
        line.add("message", &said.message);
        let all = self.all(said, around);
        for top in TOP {
            let found = all.iter().find(|(name, _)| *name == top);
            found.into_iter().for_each(|(name, value)| line.add(name, value));
        }
        if let Some(Place { trace, span }) = around.place {
            line.add("trace_id", &trace.to_string());
            line.add("span_id", &span.to_string());
        }
        let others = all.into_iter().filter(|(name, _)| !TOP.contains(name));
        let fields: Map<String, Value> =
            others.map(|(name, value)| (name.to_owned(), Value::from(value.as_str()))).collect();
        line.end(&fields)
    }

    /// Who speaks, and all fields; what is said twice, as the event itself says it.
    fn all<'a>(&'a self, said: &'a Said, around: &'a Around) -> Vec<(&'static str, &'a String)> {
        let mut all: Vec<(&'static str, &String)> = Vec::new();
        let agent = self.agent(said).map(|agent| ("agent", agent));
        let fields = said.fields.iter().chain(&around.shown).chain(&around.of_attempt);
        for (name, value) in agent.into_iter().chain(fields.map(|(name, value)| (*name, value))) {
            if !all.iter().any(|(known, _)| *known == name) {
                all.push((name, value));
            }
        }
        all
    }
}

/// A JSON object whose members stand in the order in which they were added.
#[derive(Default)]
struct Object(String);

impl Object {
    fn add(&mut self, name: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        _ = write!(self.0, "{}:{}", Value::from(name), Value::from(value));
    }

    fn end(self, fields: &Map<String, Value>) -> String {
        let mut text = self.0;
        _ = write!(text, ",\"fields\":{}}}", Value::Object(fields.clone()));
        let mut shown = String::with_capacity(text.len());
        for c in text.chars() {
            if is_printable(c) {
                shown.push(c);
            } else {
                // Whatever is there stands within a text.
                for unit in c.encode_utf16(&mut [0; 2]) {
                    _ = write!(shown, "\\u{unit:04x}");
                }
            }
        }
        shown
    }
}

/// Whether `message` says `value` as a word of its own.
fn names(message: &str, value: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    !value.is_empty()
        && message.match_indices(value).any(|(at, _)| {
            let before = message[..at].chars().next_back();
            let mut after = message[at + value.len()..].chars();
            // A full stop or comma after it ends the word.
            let ends = match after.next() {
                Some('.') => !after.next().is_some_and(inside),
                Some(c) => !inside(c),
                None => true,
            };
            ends && !before.is_some_and(inside)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(style: LogStyle, agent: Option<&str>) -> Lines {
        Lines { style, ansi: false, agent: agent.map(str::to_owned), traced: false }
    }

    fn at() -> Timestamp {
        "2024-03-18T10:15:24.12Z".parse().unwrap()
    }

    fn claimed() -> Said {
        Said {
            message: "Acquired lock for task task-001".into(),
            code: Some("task-acquired".into()),
            agent: None,
            fields: vec![("task", "task-001".into()), ("attempt", "2".into())],
        }
    }

    #[test]
    fn concise_line_should_look_as_in_the_reference() {
        let mut said = claimed();
        said.fields.pop();
        let shown = lines(LogStyle::Concise, Some("research_agent")).line(
            at(),
            Level::INFO,
            "runtime",
            &said,
            &Around::default(),
        );
        insta::assert_snapshot!(shown, @"2024-03-18 10:15:24 INFO runtime: [research_agent] Acquired lock for task task-001");
        let said = Said {
            message: "DAG created for goal goal-001: 5 nodes, 4 edges".into(),
            fields: vec![("goal", "goal-001".into()), ("nodes", "5".into())],
            ..Said::default()
        };
        let shown = lines(LogStyle::Concise, None).line(
            at(),
            Level::INFO,
            "dag_controller",
            &said,
            &Around::default(),
        );
        insta::assert_snapshot!(shown, @"2024-03-18 10:15:24 INFO orchestrator: DAG created for goal goal-001: 5 nodes, 4 edges");
    }

    #[test]
    fn concise_line_should_add_what_the_message_does_not_say() {
        let shown = lines(LogStyle::Concise, Some("a")).line(
            at(),
            Level::WARN,
            "x",
            &claimed(),
            &Around::default(),
        );
        assert!(shown.ends_with("Acquired lock for task task-001 attempt=2"), "{shown}");
        assert!(!names("task-0011 and x-task-001", "task-001") && names("a task-001.", "task-001"));
    }

    #[test]
    fn event_line_should_carry_code_and_all_fields() {
        let shown = lines(LogStyle::Event, Some("research_agent")).line(
            at(),
            Level::INFO,
            "runtime",
            &claimed(),
            &within(),
        );
        insta::assert_snapshot!(shown, @r#"2024-03-18T10:15:24.120Z INFO event=task-acquired component=runtime agent=research_agent task=task-001 attempt=2 key=x goal=goal-001 epoch=7 trace_id=01010101010101010101010101010101 span_id=0202020202020202 msg="Acquired lock for task task-001""#);
    }

    #[test]
    fn message_without_a_code_should_be_one() {
        let code = |message: &str| code_of(&Said { message: message.into(), ..claimed() });
        assert_eq!(code("Redis call is repeated"), "redis-call-is-repeated");
        assert_eq!(code("Acquired lock for task task-001"), "acquired-lock-for-task");
        assert_eq!(code("Task task-001 completed"), "task-completed");
        assert_eq!(code("…!"), "log");
        assert!(code(&"word ".repeat(50)).len() <= CODE_BYTES);
    }

    #[test]
    fn event_should_be_one_line_whatever_it_says() {
        let said = Said {
            message: "a\nb\x1b[2J".into(),
            fields: vec![("x", "q\"=\n\\\u{202e}\u{e0001}".into()), ("y", String::new())],
            ..Said::default()
        };
        for style in [LogStyle::Concise, LogStyle::Event, LogStyle::Json] {
            let shown = lines(style, None).line(at(), Level::INFO, "x", &said, &Around::default());
            assert!(shown.chars().all(is_printable), "{shown:?}");
            let empty = if style == LogStyle::Json { r#""y":"""# } else { "y=\"\"" };
            assert!(shown.contains(empty), "{shown}");
        }
    }

    /// Within an attempt of which a span of its own tells.
    fn within() -> Around {
        let pair = |name, value: &str| (name, value.to_owned());
        Around {
            shown: vec![pair("key", "x")],
            of_attempt: vec![
                pair("goal", "goal-001"),
                pair("task", "task-009"),
                pair("epoch", "7"),
            ],
            place: Some(Place { trace: traces::TraceId([1; 16]), span: traces::SpanId([2; 8]) }),
        }
    }

    #[test]
    fn json_line_should_be_an_object_with_all_that_is_known() {
        let lines = lines(LogStyle::Json, Some("research_agent"));
        let mut said = claimed();
        said.fields.push(("text", "a\n\u{202e}\u{e0001}\x7f".into()));
        let shown = lines.line(at(), Level::INFO, "runtime", &said, &within());
        insta::assert_snapshot!(shown, @r#"{"timestamp":"2024-03-18T10:15:24.120000Z","level":"INFO","target":"runtime","service":"agent","code":"task-acquired","message":"Acquired lock for task task-001","agent":"research_agent","goal":"goal-001","task":"task-001","attempt":"2","epoch":"7","trace_id":"01010101010101010101010101010101","span_id":"0202020202020202","fields":{"key":"x","text":"a\n\u202e\udb40\udc01\u007f"}}"#);
        let object: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(object["fields"]["text"], "a\n\u{202e}\u{e0001}\x7f");
    }

    #[test]
    fn concise_line_should_name_a_trace_only_where_traces_are_sent() {
        let mut lines = lines(LogStyle::Concise, Some("a"));
        let line = |lines: &Lines| lines.line(at(), Level::INFO, "x", &claimed(), &within());
        assert!(line(&lines).ends_with("for task task-001 attempt=2 key=x"), "{}", line(&lines));
        lines.traced = true;
        assert!(line(&lines).ends_with("key=x trace_id=01010101010101010101010101010101"));
    }

    /// Takes what each event says.
    struct Take(std::sync::Arc<std::sync::Mutex<Vec<Said>>>);

    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Take {
        fn on_event(
            &self,
            event: &tracing::Event<'_>,
            _: tracing_subscriber::layer::Context<'_, S>,
        ) {
            let mut said = Said::default();
            event.record(&mut said);
            self.0.lock().unwrap().push(said);
        }
    }

    #[test]
    fn what_is_said_should_be_without_secrets() {
        use tracing_subscriber::layer::SubscriberExt as _;
        crate::secrets::learn_url(&"redis://:only-in-this-test@x".parse().unwrap());
        let taken = std::sync::Arc::default();
        let subscriber = tracing_subscriber::registry().with(Take(std::sync::Arc::clone(&taken)));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(text = "an only-in-this-test", debug = ?"only-in-this-test", "only-in-this-test!");
        });
        let said = taken.lock().unwrap().pop().unwrap();
        assert_eq!(said.message, "***!");
        assert_eq!(said.fields, [("text", "an ***".to_owned()), ("debug", "\"***\"".to_owned())]);
    }
}
