//! `orch` keeps a fleet of LLM agents at work on goals that people write in Markdown.
//!
//! This package is the program: [`cli`] reads the command line, [`compose`] wires the
//! controllers to real parts, [`worker`] is an agent's process.

mod cli;
mod compose;
mod declared;
mod election;
mod host;
mod paths;
mod publish;
mod report;
mod settings;
mod systemg;
mod telemetry;
mod wakes;
mod worker;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(std::env::args_os().collect()).into()
}

/// An error and what caused it, in one line.
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
