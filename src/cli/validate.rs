//! `orch validate`: are the control files in order? Needs nothing but the files.

use std::path::{Path, PathBuf};

use control_files::directives::{Line, parse_line};
use control_files::instructions::{Parsed, parse};
use control_files::read::{self, read};
use model::AgentSpec;
use serde::Serialize;

use super::args::{Globals, Output};
use super::text::{count, safe};
use super::{Exit, Failure, connect, output};
use crate::report::{Problem, Severity};

/// Check INSTRUCTIONS.md and the heartbeat files, without Redis
///
/// Errors come with file, line and column, the line itself, and what to write instead.
/// Exits 1 if there are errors; warnings alone are fine. Nothing that runs is touched.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The control file [default: INSTRUCTIONS.md of the project]
    file: Option<PathBuf>,

    #[command(flatten)]
    output: Output,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    file: String,
    valid: bool,
    agents: usize,
    goals: usize,
    /// Tasks that are pinned in the file.
    tasks: usize,
    problems: Vec<Problem>,
}

pub(crate) fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    let (project, file) = place(args, globals)?;
    let (report, shown) = check(&project, &file)?;
    if args.output.is_json() {
        output::print_json(&report)?;
    } else {
        output::print(&text(&report, &shown))?;
    }
    Ok(if report.valid { Exit::Done } else { Exit::Negative })
}

fn place(args: &Args, globals: &Globals) -> Result<(PathBuf, PathBuf), Failure> {
    let Some(file) = &args.file else {
        let project = connect::project(globals.project.as_deref())?;
        let file = project.join("INSTRUCTIONS.md");
        return Ok((project, file));
    };
    let file = connect::absolute(file)?;
    let folder = globals.project.as_deref().or(file.parent());
    Ok((connect::project(folder)?, file))
}

/// The report, and what of it is shown to people as the control files render it.
fn check(project: &Path, file: &Path) -> Result<(Report, Vec<String>), Failure> {
    let text = match read(project, file) {
        Ok(text) => text,
        Err(error @ read::Error::NotFound(_)) => {
            let hint = "`orch init` makes a project, --project says where one is";
            return Err(Failure::not_found(format!("{error}; {hint}")));
        }
        Err(error) => {
            let problem = Problem::unreadable(project, file, &error);
            let shown = vec![render(&problem)];
            return Ok((report(project, file, &Parsed::default(), vec![problem]), shown));
        }
    };
    let parsed = parse(project, file, &text).settled();
    let mut problems: Vec<Problem> = parsed.diagnostics.iter().map(Problem::from).collect();
    let mut shown: Vec<String> = parsed.diagnostics.iter().map(ToString::to_string).collect();
    for agent in parsed.declared.agents.values() {
        for problem in heartbeat(project, agent) {
            shown.push(render(&problem));
            problems.push(problem);
        }
    }
    let report = report(project, file, &parsed, problems);
    Ok((report, shown))
}

fn report(project: &Path, file: &Path, parsed: &Parsed, problems: Vec<Problem>) -> Report {
    let pinned = parsed.declared.goals.values().filter_map(|goal| goal.tasks.as_ref());
    Report {
        file: relative(project, file),
        valid: problems.iter().all(|problem| problem.severity != Severity::Error),
        agents: parsed.declared.agents.len(),
        goals: parsed.declared.goals.len(),
        tasks: pinned.map(Vec::len).sum(),
        problems,
    }
}

fn relative(project: &Path, file: &Path) -> String {
    file.strip_prefix(project).unwrap_or(file).to_string_lossy().into_owned()
}

/// What of an agent's heartbeat file is no directive. A warning: such a line has no
/// effect, and stands there until a person takes it out.
fn heartbeat(project: &Path, agent: &AgentSpec) -> Vec<Problem> {
    let file = relative(project, &agent.heartbeat);
    let text = match read(project, &agent.heartbeat) {
        Ok(text) => text,
        Err(read::Error::NotFound(_)) => return Vec::new(),
        Err(error) => {
            return vec![Problem {
                file: Some(file),
                ..Problem::error(reconcile::error_chain(&error))
            }];
        }
    };
    let refused = text.lines().zip(1..).filter_map(|(line, number)| match parse_line(line) {
        Line::Refused(why) => Some((line, number, why)),
        Line::Blank | Line::Comment | Line::Directive(_) => None,
    });
    refused
        .map(|(line, number, why)| Problem {
            severity: Severity::Warning,
            file: Some(file.clone()),
            line: Some(number),
            column: Some(1),
            message: why,
            help: None,
            source_line: Some(line.chars().take(160).collect()),
        })
        .collect()
}

fn render(problem: &Problem) -> String {
    let word = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let mut out = format!("{}: {word}: {}", safe(&problem.place()), safe(&problem.message));
    if let (Some(line), Some(number)) = (&problem.source_line, problem.line) {
        out.push_str(&format!("\n {number} | {}", safe(line)));
    }
    out
}

fn text(report: &Report, shown: &[String]) -> String {
    let mut out = String::new();
    for problem in shown {
        out.push_str(problem);
        out.push_str("\n\n");
    }
    let of = |severity| report.problems.iter().filter(|p| p.severity == severity).count() as u64;
    out.push_str(&format!(
        "{}: {}, {}, {} pinned; {}, {}\n",
        safe(&report.file),
        count(report.agents as u64, "agent", "agents"),
        count(report.goals as u64, "goal", "goals"),
        count(report.tasks as u64, "task", "tasks"),
        count(of(Severity::Error), "error", "errors"),
        count(of(Severity::Warning), "warning", "warnings"),
    ));
    if !report.valid {
        out.push_str("What has an error is not used: its last good declaration stays in force.\n");
    }
    out
}
