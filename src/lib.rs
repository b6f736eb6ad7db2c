//! `orch` keeps a fleet of LLM agents at work on goals that people write in Markdown.
//!
//! `cli` reads the command line, `compose` wires the controllers to real parts,
//! `worker` is an agent's process. What others may call is the program itself, and an
//! agent within a process of theirs, as benchmarks have it.

#[allow(
    rustdoc::invalid_html_tags,
    reason = "its comments are the help on the terminal, where <..> is no markup"
)]
mod cli;
mod compose;
mod declared;
mod election;
mod follow;
mod host;
mod llm;
mod metrics;
mod paths;
mod planner;
mod publish;
mod recorder;
mod report;
mod secrets;
mod settings;
mod systemg;
mod telemetry;
mod wakes;
mod worker;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the command line `args`, the program's name first, to its end.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    cli::main(args).into()
}

/// An agent as `orch run --role agent` with these arguments, but in the caller's runtime
/// and without log or spans of its own. `args` are those after `run`.
///
/// # Errors
/// As the program's: what is wrong with the arguments, or why it could not go on.
pub async fn agent(args: Vec<OsString>) -> anyhow::Result<()> {
    cli::agent(args).await
}

/// Logs and traces from here on as `orch run --role orchestrator` does by default.
pub fn tell_as_orchestrator() {
    let log = settings::LogSettings {
        level: model::agent::LogLevel::Info,
        style: settings::LogStyle::default(),
        color: settings::Color::default(),
    };
    _ = telemetry::init(log, None);
}
