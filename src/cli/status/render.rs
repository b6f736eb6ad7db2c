//! A look as text. Pure: what is shown follows from the view alone.

use std::time::Duration;

use jiff::Timestamp;
use model::agent::Phase;
use model::goal::{Counts, Status};
use store::agent::Agent;
use store::lead::Leader;

use super::llm::GoalView;
use super::{View, llm};
use crate::cli::text::{Column, Paint, Table, Tone, bar, count, fit, paragraph, safe, span};
use crate::report::{ControllerReport, Problem, Severity};

/// A report older than this is not believed any more.
const STALE: Duration = Duration::from_secs(15);
const BAR: usize = 20;

/// Everything, at most `width` columns wide.
pub(crate) fn text(view: &View, width: usize, paint: Paint) -> String {
    let mut out = String::new();
    leadership(&mut out, view, width, paint);
    goals(&mut out, view, width, paint);
    agents(&mut out, view, width, paint);
    llm::section(&mut out, view, width, paint);
    controllers(&mut out, view, width, paint);
    directives(&mut out, view, width, paint);
    problems(&mut out, view, width, paint);
    out
}

pub(super) fn heading(out: &mut String, title: &str, paint: Paint) {
    out.push('\n');
    out.push_str(&paint.bold(title));
    out.push('\n');
}

/// How long before `now` something was; nothing for what lies ahead.
pub(crate) fn since(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

fn leadership(out: &mut String, view: &View, width: usize, paint: Paint) {
    paragraph(out, "Redis         ", &safe(&view.redis), width);
    let mut holders: Vec<(&Leader, Vec<String>)> = Vec::new();
    for leader in &view.leaders {
        match holders.iter_mut().find(|(first, _)| first.who == leader.who) {
            Some((_, controllers)) => controllers.push(leader.controller.to_string()),
            None => holders.push((leader, vec![leader.controller.to_string()])),
        }
    }
    if holders.is_empty() {
        let none = "none leads: start one with `sysg start --daemonize`";
        out.push_str(&format!("Orchestrator  {}\n", paint.yellow(none)));
    }
    for (leader, controllers) in holders {
        let who = format!(
            "pid {} on {} leads: {}",
            leader.who.pid,
            leader.who.host,
            controllers.join(", ")
        );
        paragraph(out, "Orchestrator  ", &safe(&who), width);
    }
    for standby in &view.standbys {
        let for_so_long = span(since(view.at, standby.since));
        let who = format!("pid {} on {} stands by for {for_so_long}", standby.pid, standby.host);
        paragraph(out, "Standby       ", &safe(&who), width);
    }
}

fn goals(out: &mut String, view: &View, width: usize, paint: Paint) {
    heading(out, "GOALS", paint);
    if view.goals.is_empty() {
        out.push_str("  none yet: declare one under `## Goals` in INSTRUCTIONS.md\n");
    }
    for goal in &view.goals {
        one_goal(out, goal, view, width, paint);
    }
}

fn one_goal(out: &mut String, of: &GoalView, view: &View, width: usize, paint: Paint) {
    let goal = &of.goal;
    let (done, total) = (goal.counts.done, goal.counts.total());
    let percent = done.saturating_mul(100).checked_div(total).unwrap_or(0);
    let tone = match goal.status {
        Status::Draft => Tone::Faint,
        Status::Active => Tone::Busy,
        Status::Complete => Tone::Good,
        Status::Failed => Tone::Bad,
    };
    let status = paint.tone(tone, &format!("{:<8}", goal.status.as_str()));
    let progress = format!("{done}/{total}");
    let id = fit(goal.id.as_str(), width.saturating_sub(45 + progress.len().max(11)).max(12));
    out.push_str(&format!(
        "  {}  {status}  {}  {progress:>11}  {percent:>3}%\n",
        paint.bold(&format!("{id:<12}")),
        paint.tone(tone, &bar(done, total, BAR)),
    ));
    if !goal.title.is_empty() && goal.title != goal.id.as_str() {
        out.push_str(&format!("    {}\n", fit(&safe(&goal.title), width - 4)));
    }
    if total > 0 {
        out.push_str(&format!("    {}\n", paint.dim(&counts(&goal.counts))));
    }
    if !goal.declared {
        paragraph(out, "    ", "no longer declared: nothing of it is started any more", width);
    }
    if let Some(reason) = &goal.reason {
        paragraph(out, "    reason: ", &safe(reason), width);
    }
    if let Some(problem) = &goal.problem {
        paragraph(out, "    problem: ", &safe(problem), width);
    }
    llm::of_goal(out, of, view, width, paint);
    if let Some(difference) = &goal.difference {
        paragraph(out, "    last plan: ", &safe(difference), width);
    }
    if let Some(error) = &goal.planning.error {
        let tries = count(u64::from(goal.planning.attempts), "attempt", "attempts");
        let mut text = format!("planning failed after {tries}: {error}");
        let due = i64::try_from(goal.planning.not_before_ms).ok();
        let due =
            due.and_then(|ms| Timestamp::from_millisecond(ms).ok()).map(|due| since(due, view.at));
        if let Some(wait) = due.filter(|wait| !wait.is_zero()) {
            text.push_str(&format!("; tried again in {}", span(wait)));
        }
        paragraph(out, "    ", &safe(&text), width);
    }
}

/// `2 running, 3 ready, ..` without what is zero.
pub(crate) fn counts(counts: &Counts) -> String {
    let parts: Vec<String> = [
        (counts.running, "running"),
        (counts.ready, "ready"),
        (counts.blocked, "blocked"),
        (counts.done, "done"),
        (counts.failed, "failed"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, what)| format!("{n} {what}"))
    .collect();
    parts.join(", ")
}

/// What an agent does, in a word or two, and how good that is.
pub(crate) fn doing(agent: &Agent) -> (String, Tone) {
    let silent = agent.status.liveness.as_deref() == Some("silent");
    let phase = agent.status.phase.or(agent.registered.as_ref().map(|_| Phase::Running));
    let (word, tone) = match phase {
        None => ("unknown", Tone::Faint),
        Some(phase @ (Phase::Pending | Phase::Starting | Phase::Draining)) => {
            (phase.as_str(), Tone::Busy)
        }
        Some(Phase::Running) if silent => ("silent", Tone::Warn),
        Some(phase @ Phase::Running) => (phase.as_str(), Tone::Good),
        Some(phase @ Phase::Restarting) => (phase.as_str(), Tone::Warn),
        Some(phase @ Phase::CrashLoop) => (phase.as_str(), Tone::Bad),
        Some(phase @ Phase::Gone) => (phase.as_str(), Tone::Faint),
    };
    if agent.paused { (format!("{word}, paused"), Tone::Warn) } else { (word.to_owned(), tone) }
}

fn agents(out: &mut String, view: &View, width: usize, paint: Paint) {
    heading(out, "AGENTS", paint);
    let mut table = Table::new(vec![
        Column::left("NAME", 24),
        Column::left("STATE", 18),
        Column::right("PID", 8),
        Column::right("RESTARTS", 8),
        Column::left("TASK", 64),
    ]);
    let plain = |text: String| (text, Tone::Plain);
    for agent in &view.agents {
        let registered = agent.registered.as_ref();
        let task = registered.and_then(|r| r.task.as_ref()).map(|(task, _)| task.to_string());
        let pid = registered.map(|r| r.pid.to_string());
        table.row([
            plain(agent.name.to_string()),
            doing(agent),
            plain(pid.unwrap_or_else(|| "-".to_owned())),
            plain(agent.status.restarts.to_string()),
            plain(task.unwrap_or_else(|| "-".to_owned())),
        ]);
        notes(&mut table, agent, view);
    }
    if table.is_empty() {
        out.push_str("  none yet: declare one under `## Agents` in INSTRUCTIONS.md\n");
    } else {
        out.push_str(&table.render(2, width, paint));
    }
}

fn notes(table: &mut Table, agent: &Agent, view: &View) {
    let (status, now) = (&agent.status, view.at);
    if let Some(error) = &status.error {
        table.note(&format!("cannot be started: {error}"), Tone::Bad);
    }
    let waits = matches!(status.phase, Some(Phase::Restarting | Phase::CrashLoop));
    if let Some(exit) = status.last_exit.as_ref().filter(|_| waits || status.restarts > 0) {
        table.note(&format!("last end: {exit}"), if waits { Tone::Bad } else { Tone::Faint });
    }
    let next = status.next_start.as_ref().and_then(|text| text.parse::<Timestamp>().ok());
    if let Some(wait) = next.map(|next| since(next, now)).filter(|wait| waits && !wait.is_zero()) {
        table.note(&format!("is started again in {}", span(wait)), Tone::Warn);
    }
    if llm::waits(view, &agent.name) {
        table.note("waits for an LLM slot", Tone::Faint);
    }
}

fn controllers(out: &mut String, view: &View, width: usize, paint: Paint) {
    heading(out, "CONTROLLERS", paint);
    let mut table = Table::new(vec![
        Column::left("NAME", 10),
        Column::left("STATE", 10),
        Column::right("LAST PASS", 10),
        Column::right("PASSES", 9),
        Column::right("FAILED", 7),
        Column::left("WAITS LONGEST", 64),
    ]);
    for report in &view.controllers {
        controller(&mut table, report, view.at);
    }
    if table.is_empty() {
        out.push_str("  no report yet\n");
    } else {
        out.push_str(&table.render(2, width, paint));
    }
}

fn controller(table: &mut Table, report: &ControllerReport, now: Timestamp) {
    let plain = |text: String| (text, Tone::Plain);
    let age = since(now, report.at);
    let millis = |ms: u64| Duration::from_millis(ms);
    let life = match report.life.as_str() {
        _ if age > STALE => ("no report".to_owned(), Tone::Bad),
        "running" => (report.life.clone(), Tone::Good),
        "restarting" => (report.life.clone(), Tone::Bad),
        _ => (report.life.clone(), Tone::Warn),
    };
    let last_pass = report.last_pass_ms_ago.map(|ms| format!("{} ago", span(millis(ms) + age)));
    let failed = if report.failures > 0 { Tone::Warn } else { Tone::Plain };
    table.row([
        plain(report.controller.clone()),
        life,
        plain(last_pass.unwrap_or_else(|| "-".to_owned())),
        plain(report.passes.to_string()),
        (report.failures.to_string(), failed),
        plain(report.oldest.as_ref().map_or_else(
            || "-".to_owned(),
            |oldest| format!("{} for {}", oldest.key, span(millis(oldest.age_ms) + age)),
        )),
    ]);
    if age > STALE {
        let text = format!("no report for {} (pid {} on {})", span(age), report.pid, report.host);
        table.note(&text, Tone::Bad);
    }
    if report.panics + report.timeouts > 0 {
        let text = format!("{} panicked, {} took too long", report.panics, report.timeouts);
        table.note(&text, Tone::Warn);
    }
    if let Some(error) = &report.last_error {
        let key = error.key.as_ref().map_or_else(String::new, |key| format!("{key}: "));
        let ago = span(millis(error.ms_ago) + age);
        table.note(&format!("last error, {ago} ago: {key}{}", error.text), Tone::Warn);
    }
}

fn directives(out: &mut String, view: &View, width: usize, paint: Paint) {
    if view.directives.is_empty() {
        return;
    }
    heading(out, "DIRECTIVES", paint);
    for event in &view.directives {
        let millis = i64::try_from(event.millis()).ok();
        let then = millis.and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(view.at);
        let outcome = event.field("outcome");
        let tone = if outcome == "refused" { Tone::Bad } else { Tone::Good };
        let lead = format!("  {} ago, {}: ", span(since(view.at, then)), event.field("agent"));
        let text = format!("{} {outcome}: {}", event.field("line"), event.field("answer"));
        let mut lines = String::new();
        paragraph(&mut lines, &safe(&lead), &safe(&text), width);
        let word = format!(" {outcome}:");
        out.push_str(&lines.replacen(&word, &paint.tone(tone, &word), 1));
    }
}

fn problems(out: &mut String, view: &View, width: usize, paint: Paint) {
    if view.problems.is_empty() {
        return;
    }
    heading(out, "PROBLEMS", paint);
    for problem in &view.problems {
        out.push_str(&one_problem(problem, width, paint));
    }
}

fn one_problem(problem: &Problem, width: usize, paint: Paint) -> String {
    let (word, tone) = match problem.severity {
        Severity::Error => ("error", Tone::Bad),
        Severity::Warning => ("warning", Tone::Warn),
    };
    let mut out = String::new();
    let place = safe(&problem.place());
    let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
    let text = format!("{place}{}", safe(&problem.message));
    let mut lines = String::new();
    paragraph(&mut lines, &format!("  {word}: "), &text, width);
    out.push_str(&lines.replacen(word, &paint.tone(tone, word), 1));
    if let Some(line) = problem.source_line.as_ref().filter(|line| !line.trim().is_empty()) {
        let line = fit(&safe(line.trim()), width.saturating_sub(6));
        out.push_str(&format!("    {}\n", paint.dim(&format!("| {line}"))));
    }
    if let Some(help) = &problem.help {
        paragraph(&mut out, "    help: ", &safe(help), width);
    }
    out
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
