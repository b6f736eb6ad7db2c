//! `orch` keeps a fleet of LLM agents at work on goals that people write in Markdown.
//!
//! This package is the program: [`cli`] reads the command line, [`compose`] wires the
//! controllers to real parts, [`worker`] is an agent's process.

#[allow(
    rustdoc::invalid_html_tags,
    reason = "its comments are the help on the terminal, where <..> is no markup"
)]
mod cli;
mod compose;
mod declared;
mod election;
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

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(std::env::args_os().collect()).into()
}
