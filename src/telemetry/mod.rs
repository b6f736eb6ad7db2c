//! Log lines, in the two styles of the reference.
//!
//! `concise`, for people:
//!
//! ```text
//! 2024-03-18 10:15:24 INFO runtime: [research_agent] Acquired lock for task task-001
//! ```
//!
//! `event`, for programs: the same with a stable code and every field:
//!
//! ```text
//! 2024-03-18T10:15:24.120Z INFO event=task-acquired component=runtime agent=research_agent task=task-001 msg="Acquired lock for task task-001"
//! ```
//!
//! The component is the event's target where that is `orchestrator` or `runtime`, else
//! what the process is. The code is the event's field `code`, else its message in
//! lowercase with dashes and without what fields say, so that `task-001` is no part of
//! it. In the concise style a field whose value the message names is not repeated.
//! Values are escaped, so that one event is one line.
//!
//! A line that cannot be written is lost in silence: who reads our output may be killed,
//! and that must not end us.

mod export;
mod keep;
pub(crate) mod spans;

use std::fmt::{self, Write as _};
use std::io::IsTerminal;

use jiff::Timestamp;
use model::AgentName;
use model::agent::LogLevel;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt::layer};

pub(crate) use self::export::Export;
use crate::cli::wants_color;
use crate::settings::{LogSettings, LogStyle};

const COMPONENTS: [&str; 2] = ["orchestrator", "runtime"];
/// What of other crates is logged below `TRACE`: what may need a person.
const FOREIGN: LevelFilter = LevelFilter::WARN;
/// Fields of spans that are too long, or too late, for log lines.
const FOR_TRACES: [&str; 4] = ["plan", "next_in_ms", "otel.status_code", "otel.status_description"];
/// Spans that are no part of log lines.
const SPANS: &str = "trace";
/// Crates of this workspace.
const OURS: [&str; 13] = [
    "orch",
    "orchestrator",
    "runtime",
    "agent_controller",
    "control_files",
    "dag_controller",
    "heartbeat_controller",
    "lease_reaper",
    "process",
    "providers",
    "reconcile",
    "store",
    "supervisor",
];
/// The longest code that is made of a message, in bytes.
const CODE_BYTES: usize = 48;

/// What has to be ended with the process.
pub(crate) struct Telemetry {
    export: Option<Export>,
}

impl Telemetry {
    /// The way to a collector, where one is named.
    pub(crate) fn export(&self) -> Option<Export> {
        self.export.clone()
    }

    /// Sends what was not sent yet, within a bound.
    pub(crate) async fn end(self) {
        if let Some(export) = self.export {
            // It blocks; where it panics there is nothing left to send.
            _ = tokio::task::spawn_blocking(move || export.end()).await;
        }
    }
}

/// Sends log lines to standard output from here on, and spans to a collector where one is
/// named. `agent` is who speaks, where the process is an agent. A second call has no effect.
pub(crate) fn init(settings: LogSettings, agent: Option<&AgentName>) -> Telemetry {
    let level = filter(settings.level);
    let foreign = if settings.level == LogLevel::Trace { level } else { FOREIGN.min(level) };
    let targets = Targets::new().with_default(foreign).with_targets(OURS.map(|name| (name, level)));
    let ansi = wants_color(settings.color, std::io::stdout().is_terminal());
    let lines = Lines { style: settings.style, ansi, agent: agent.map(ToString::to_string) };
    let logs = layer()
        .with_ansi(false)
        .fmt_fields(Fields)
        .event_format(lines)
        .log_internal_errors(false)
        .with_filter(targets);
    let (export, trouble) = match Export::from_env(agent) {
        Ok(export) => (export, None),
        Err(trouble) => (None, Some(trouble)),
    };
    let spans = export.as_ref().map(|export| {
        let targets = OURS.into_iter().chain([SPANS]).map(|name| (name, LevelFilter::INFO));
        tracing_opentelemetry::layer()
            .with_tracer(export.tracer())
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_filter(Targets::new().with_targets(targets))
    });
    // It fails only where a subscriber is set already.
    let _ = tracing_subscriber::registry().with(logs).with(spans).try_init();
    if let Some(trouble) = trouble {
        tracing::warn!(target: "orch", error = trouble, "Spans are not sent");
    }
    Telemetry { export }
}

const fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// One event as a line.
#[derive(Debug)]
struct Lines {
    style: LogStyle,
    ansi: bool,
    agent: Option<String>,
}

/// What an event says.
#[derive(Debug, Default)]
struct Said {
    message: String,
    code: Option<String>,
    agent: Option<String>,
    fields: Vec<(&'static str, String)>,
}

impl Said {
    fn take(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            "code" => self.code = Some(value),
            "agent" => self.agent = Some(value),
            name => self.fields.push((name, value)),
        }
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

/// `text` as one line without control characters.
fn one_line(text: &str) -> String {
    crate::cli::safe(text)
}

/// A value that ends where it is seen to end.
fn quoted(value: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '=' | '\\');
    if !value.is_empty() && value.chars().all(plain) {
        return one_line(value);
    }
    let inner = value.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", one_line(&inner))
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

    fn line(&self, now: Timestamp, level: Level, target: &str, said: &Said, span: &str) -> String {
        let (component, level) = (self.component(target), self.level(level));
        let agent = said.agent.as_ref().or(self.agent.as_ref());
        match self.style {
            LogStyle::Concise => {
                let time = now.strftime("%Y-%m-%d %H:%M:%S");
                let mut line = format!("{time} {level} {component}: ");
                if let Some(agent) = agent {
                    _ = write!(line, "[{}] ", one_line(agent));
                }
                line.push_str(&one_line(&said.message));
                let fields = said.fields.iter().filter(|(_, v)| !names(&said.message, v));
                for (name, value) in fields {
                    _ = write!(line, " {name}={}", quoted(value));
                }
                line.push_str(span);
                line
            }
            LogStyle::Event => {
                let time = now.strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
                let code = said.code.clone().unwrap_or_else(|| code_of(said));
                let mut line =
                    format!("{time} {level} event={} component={component}", quoted(&code));
                if let Some(agent) = agent {
                    _ = write!(line, " agent={}", quoted(agent));
                }
                for (name, value) in &said.fields {
                    _ = write!(line, " {name}={}", quoted(value));
                }
                line.push_str(span);
                _ = write!(line, " msg={}", quoted(&said.message));
                line
            }
        }
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

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut said = Said::default();
        event.record(&mut said);
        let mut span_fields = String::new();
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                span_fields.push_str(&fields.fields);
            }
        }
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        writeln!(writer, "{}", self.line(Timestamp::now(), level, target, &said, &span_fields))
    }
}

/// A span's fields as they stand at the end of its events' lines.
#[derive(Debug)]
struct Fields;

impl<'w> FormatFields<'w> for Fields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut said = Said::default();
        fields.record(&mut said);
        said.fields.retain(|(name, _)| !FOR_TRACES.contains(name));
        if let Some(agent) = said.agent {
            write!(writer, " agent={}", quoted(&agent))?;
        }
        for (name, value) in said.fields {
            write!(writer, " {name}={}", quoted(&value))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(style: LogStyle, agent: Option<&str>) -> Lines {
        Lines { style, ansi: false, agent: agent.map(str::to_owned) }
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
            "",
        );
        insta::assert_snapshot!(shown, @"2024-03-18 10:15:24 INFO runtime: [research_agent] Acquired lock for task task-001");
        let said = Said {
            message: "DAG created for goal goal-001: 5 nodes, 4 edges".into(),
            fields: vec![("goal", "goal-001".into()), ("nodes", "5".into())],
            ..Said::default()
        };
        let shown =
            lines(LogStyle::Concise, None).line(at(), Level::INFO, "dag_controller", &said, "");
        insta::assert_snapshot!(shown, @"2024-03-18 10:15:24 INFO orchestrator: DAG created for goal goal-001: 5 nodes, 4 edges");
    }

    #[test]
    fn concise_line_should_add_what_the_message_does_not_say() {
        let shown =
            lines(LogStyle::Concise, Some("a")).line(at(), Level::WARN, "x", &claimed(), "");
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
            " key=x",
        );
        insta::assert_snapshot!(shown, @r#"2024-03-18T10:15:24.120Z INFO event=task-acquired component=runtime agent=research_agent task=task-001 attempt=2 key=x msg="Acquired lock for task task-001""#);
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
            fields: vec![("x", "q\"=\n\\".into()), ("y", String::new())],
            ..Said::default()
        };
        for style in [LogStyle::Concise, LogStyle::Event] {
            let shown = lines(style, None).line(at(), Level::INFO, "x", &said, "");
            assert!(!shown.chars().any(char::is_control), "{shown:?}");
            assert!(shown.contains("y=\"\""), "{shown}");
        }
    }
}
