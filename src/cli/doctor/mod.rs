//! `orch doctor`: is what orch needs there, and fit?
//!
//! Each check says what was found and, where that is not right, what to do. None changes
//! anything but a file of its own that it removes again.

mod host;
mod llm;
mod redis;

use std::path::PathBuf;

use model::Declared;
use serde::Serialize;

use super::Exit;
use super::args::{Globals, Output};
use super::connect::{Session, variable};
use super::llm_args::LlmArgs;
use super::output::{self, Screen};
use super::text::{Paint, Tone, count, paragraph, safe};

/// Check Redis, systemg, the programs of models, folders, clock and limits
///
/// Of the language models those are checked that INSTRUCTIONS.md, the environment and the
/// flags below ask for; give it the flags that `orch run` gets in systemg.yaml. Exits 1 if
/// a check fails; warnings alone are fine.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The sysg program [default: the one in PATH]
    #[arg(long, value_name = "FILE", env = "ORCH_SYSG", hide_env_values = true)]
    sysg: Option<PathBuf>,

    #[command(flatten)]
    llm: LlmArgs,

    #[command(flatten)]
    output: Output,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Grade {
    Ok,
    Warn,
    Fail,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    /// What was checked; a stable word.
    name: &'static str,
    grade: Grade,
    /// What was found.
    found: String,
    /// What to do; absent where all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, grade: Grade::Ok, found: found.into(), advice: None }
    }
    fn warn(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, grade: Grade::Warn, found: found.into(), advice: Some(advice.into()) }
    }
    fn fail(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, grade: Grade::Fail, found: found.into(), advice: Some(advice.into()) }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    checks: Vec<Check>,
}

pub(crate) async fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    let session = Session::open(globals).await?;
    let mut checks = redis::checks(&session).await;
    let (check, declared) = host::instructions(&session.project);
    checks.push(check);
    checks.push(host::systemg(args.sysg.as_deref()).await);
    let llm = args.llm.resolve(&variable)?;
    checks.push(host::spawn_limits(&session.project, declared.as_ref(), llm.use_sysg));
    checks.extend(llm::checks(declared.as_ref(), &llm).await);
    checks.extend(host::folders(&session.project, declared.as_ref()));
    checks.extend(host::kernel(declared.as_ref().map_or(0, |d: &Declared| d.agents.len())));
    let ok = checks.iter().all(|check| check.grade != Grade::Fail);
    let report = Report { ok, checks };
    if args.output.is_json() {
        output::print_json(&report)?;
    } else {
        let screen = Screen::now(globals);
        output::print(&text(&report, screen.width, screen.paint))?;
    }
    Ok(if ok { Exit::Done } else { Exit::Negative })
}

fn text(report: &Report, width: usize, paint: Paint) -> String {
    let mut out = String::new();
    for check in &report.checks {
        let (word, tone) = match check.grade {
            Grade::Ok => ("ok  ", Tone::Good),
            Grade::Warn => ("warn", Tone::Warn),
            Grade::Fail => ("FAIL", Tone::Bad),
        };
        let mut lines = String::new();
        let lead = format!("{word}  {:<13} ", check.name);
        paragraph(&mut lines, &lead, &safe(&check.found), width);
        out.push_str(&lines.replacen(word, &paint.tone(tone, word), 1));
        if let Some(advice) = &check.advice {
            paragraph(&mut out, &format!("{:20}-> ", ""), &safe(advice), width);
        }
    }
    let of = |grade| report.checks.iter().filter(|check| check.grade == grade).count() as u64;
    let (failed, warned) = (of(Grade::Fail), of(Grade::Warn));
    out.push_str(&format!(
        "\n{}, {}\n",
        count(failed, "check failed", "checks failed"),
        count(warned, "warning", "warnings")
    ));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doctor_should_say_what_was_found_and_what_to_do() {
        let report = Report {
            ok: false,
            checks: vec![
                Check::ok("redis", "7.0.15 at redis://127.0.0.1:6379, 0.2 ms per question"),
                Check::warn(
                    "persistence",
                    "nothing is kept\x1b on disk ".repeat(5),
                    "set appendonly yes",
                ),
                Check::fail("sysg", "not found", "install it"),
            ],
        };
        insta::assert_snapshot!(text(&report, 80, Paint { on: false }), @r"
        ok    redis         7.0.15 at redis://127.0.0.1:6379, 0.2 ms per question
        warn  persistence   nothing is kept\u{1b} on disk nothing is kept\u{1b} on disk
                            nothing is kept\u{1b} on disk nothing is kept\u{1b} on disk
                            nothing is kept\u{1b} on disk
                            -> set appendonly yes
        FAIL  sysg          not found
                            -> install it

        1 check failed, 1 warning
        ");
    }
}
