//! How it went: printing, errors and exit codes.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use super::args::Globals;
use super::connect::variable;
use super::text::{self, Paint};
use crate::secrets;
use crate::settings::Color;

/// The program's exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; the answer is yes.
    Done,
    /// The answer is no, or it failed.
    Negative,
    /// What was given on the command line or in the environment cannot be used.
    Usage,
    /// Redis cannot be reached, does not let us in, or is unfit.
    Redis,
    /// What was named does not exist, or the name means several.
    NotFound,
}

impl Exit {
    const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Negative => 1,
            Self::Usage => 2,
            Self::Redis => 3,
            Self::NotFound => 4,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error whose exit code is known where it is made.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into() }
    }
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self { exit: Exit::NotFound, message: message.into() }
    }
    pub(crate) fn negative(message: impl Into<String>) -> Self {
        Self { exit: Exit::Negative, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// What of a store's error counts as trouble with Redis itself.
pub(crate) fn is_about_redis(error: &store::Error) -> bool {
    match error {
        store::Error::Unavailable { .. }
        | store::Error::Denied { .. }
        | store::Error::TooOld { .. }
        | store::Error::Cluster => true,
        store::Error::Failed { .. }
        | store::Error::NotLeader { .. }
        | store::Error::Malformed { .. }
        | store::Error::IdTaken { .. }
        | store::Error::PlanMoved { .. } => false,
    }
}

fn exit_of(error: &anyhow::Error) -> Exit {
    let told = error.chain().find_map(|cause| cause.downcast_ref::<Failure>());
    if let Some(failure) = told {
        return failure.exit;
    }
    let store = error.chain().find_map(|cause| cause.downcast_ref::<store::Error>());
    if store.is_some_and(is_about_redis) { Exit::Redis } else { Exit::Negative }
}

/// An error and its causes, on one line each.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut out = format!("error: {}\n", text::safe(&error.to_string()));
    let mut last = error.to_string();
    for cause in error.chain().skip(1) {
        let shown = cause.to_string();
        // Some libraries repeat the cause in their own text.
        if !last.contains(&shown) {
            out.push_str(&format!("  because: {}\n", text::safe(&shown)));
        }
        last = shown;
    }
    out
}

/// Prints an error; its exit code.
pub(crate) fn report(error: &anyhow::Error) -> Exit {
    if is_closed_pipe(error) {
        return Exit::Done;
    }
    tell(&chain(error));
    exit_of(error)
}

/// Somebody who has seen enough (`| head`) is no failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Prints what clap has to say: help, version, or what is wrong.
pub(crate) fn usage(error: &clap::Error) -> Exit {
    if !error.use_stderr() {
        let _ = error.print();
        return Exit::Done;
    }
    // clap quotes arguments as they are.
    tell(&error.render().to_string());
    Exit::Usage
}

/// Prints `text` to standard output.
pub(crate) fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Says `text` on standard error; nobody is told where that is closed.
pub(crate) fn tell(text: &str) {
    let text = secrets::masked(text::safe_lines(text));
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Prints `value` as JSON, indented.
pub(crate) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    Ok(print(&text)?)
}

/// Where the answer goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    pub(crate) paint: Paint,
    /// Columns to fill at most.
    pub(crate) width: usize,
    /// Lines that fit; `None` where it is no terminal.
    pub(crate) height: Option<usize>,
}

/// What a table is set for where nothing says how wide the output is.
const COLUMNS: usize = 80;

impl Screen {
    /// Standard output as it is now.
    pub(crate) fn now(globals: &Globals) -> Self {
        let out = std::io::stdout();
        let size = if out.is_terminal() { rustix::termios::tcgetwinsize(&out).ok() } else { None };
        let told = variable("COLUMNS").and_then(|text| text.parse().ok());
        let seen = size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
        Self {
            paint: Paint { on: wants_color(globals.color, out.is_terminal()) },
            width: seen.or(told).unwrap_or(COLUMNS).clamp(40, 200),
            height: size.map(|size| usize::from(size.ws_row)).filter(|rows| *rows > 0),
        }
    }
}

/// Whether to colour what goes to standard output.
pub(crate) fn wants_color(color: Color, terminal: bool) -> bool {
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            let plain = variable("NO_COLOR").is_some()
                || variable("TERM").is_some_and(|term| term == "dumb");
            terminal && !plain
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_should_be_told_with_its_causes_and_without_control_characters() {
        let error = anyhow::anyhow!("disk\x1b[2J full").context("cannot write x");
        insta::assert_snapshot!(chain(&error), @r"
        error: cannot write x
          because: disk\u{1b}[2J full
        ");
        assert_eq!(exit_of(&error), Exit::Negative);
    }

    #[test]
    fn exit_code_should_survive_context() {
        let error = anyhow::Error::from(Failure::not_found("no task x")).context("while looking");
        assert_eq!(exit_of(&error), Exit::NotFound);
        let error = anyhow::Error::from(store::Error::Cluster).context("while looking");
        assert_eq!(exit_of(&error), Exit::Redis);
    }
}
