//! Log lines on standard output, and spans on their way to a collector.

mod export;
mod keep;
mod lines;
mod logs;
pub(crate) mod spans;

use std::io::IsTerminal;

use model::AgentName;
use model::agent::LogLevel;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub(crate) use self::export::Export;
use self::lines::Lines;
use self::logs::Logs;
use crate::cli::wants_color;
use crate::settings::LogSettings;

/// What of other crates is logged below `TRACE`: what may need a person.
const FOREIGN: LevelFilter = LevelFilter::WARN;
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
    let (export, trouble) = match Export::from_env(agent) {
        Ok(export) => (export, None),
        Err(trouble) => (None, Some(trouble)),
    };
    let lines = Lines {
        style: settings.style,
        ansi: wants_color(settings.color, std::io::stdout().is_terminal()),
        agent: agent.map(ToString::to_string),
        traced: export.is_some(),
    };
    let level = filter(settings.level);
    let foreign = if settings.level == LogLevel::Trace { level } else { FOREIGN.min(level) };
    let targets = Targets::new().with_default(foreign).with_targets(OURS.map(|name| (name, level)));
    // However little is logged, what is said tells where.
    let ours = OURS.into_iter().chain([SPANS]).map(|name| (name, LevelFilter::INFO));
    let around = Targets::new().with_targets(ours);
    let is_wanted = move |of: &tracing::Metadata<'_>| {
        let targets = if of.is_span() { &around } else { &targets };
        targets.would_enable(of.target(), of.level())
    };
    let logs = Logs::new(lines)
        .with_filter(filter_fn(is_wanted).with_max_level_hint(level.max(LevelFilter::INFO)));
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
