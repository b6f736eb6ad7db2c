//! An explanation as text. Pure.

use model::task::State;

use super::why::{Candidate, Cost, Explanation};
use crate::cli::events::time_of;
use crate::cli::tasks::tone;
use crate::cli::text::{Paint, Tone, count, first_line, fit, paragraph, safe};
use crate::cli::units::usd;

/// How many failed attempts are told.
const ERRORS: usize = 5;

pub(super) fn text(e: &Explanation, width: usize, paint: Paint) -> String {
    let mut out = String::new();
    let id = safe(e.task.as_str());
    let state = e.state.to_string().to_uppercase();
    out.push_str(&format!("{}  {}\n", paint.bold(&id), paint.tone(tone(e.state), &state)));
    let title = if e.title.is_empty() { String::new() } else { format!(": {}", safe(&e.title)) };
    out.push_str(&fit(&format!("  of {}{title}", safe(&e.goal)), width));
    out.push_str("\n\n");
    for sentence in &e.because {
        paragraph(&mut out, "  ", &safe(sentence), width);
    }
    holder(&mut out, e, width);
    blockers(&mut out, e, width, paint);
    agents(&mut out, e, width, paint);
    if let Some(queue) = e.queue.filter(|queue| queue.before + queue.same_priority > 0) {
        let text = format!(
            "In the queue: {} before it by priority, {} of the same.",
            queue.before, queue.same_priority
        );
        paragraph(&mut out, "  ", &text, width);
    }
    errors(&mut out, e, width, paint);
    history(&mut out, e, width, paint);
    model(&mut out, e, width);
    if let Some(artifacts) = &e.artifacts {
        paragraph(&mut out, "  Made: ", &safe(&listed(artifacts)), width);
    }
    if let Some(log) = &e.log {
        paragraph(&mut out, "  Log: ", &safe(log), width);
    }
    if let Some(trace) = &e.trace {
        let text = format!("{trace}, of attempt {}: `orch trace {id}`", e.attempt);
        paragraph(&mut out, "  Trace: ", &text, width);
    }
    out.push('\n');
    let mut next = String::new();
    paragraph(&mut next, "Next: ", &safe(&e.next), width);
    out.push_str(&next.replacen("Next:", &paint.bold("Next:"), 1));
    out
}

fn holder(out: &mut String, e: &Explanation, width: usize) {
    let Some(holder) = &e.holder else { return };
    let process = match (holder.pid, &holder.host) {
        (Some(pid), Some(host)) => format!("process {pid} on {host}"),
        (_, _) => "no process of it is registered".to_owned(),
    };
    let text = format!("{} ({process}), under grant {}", holder.agent, holder.epoch);
    paragraph(out, "  Held by: ", &safe(&text), width);
}

/// What happened to it, without what the errors above tell.
fn history(out: &mut String, e: &Explanation, width: usize, paint: Paint) {
    if e.history.is_empty() {
        return;
    }
    out.push_str("  What happened:\n");
    for event in &e.history {
        let time = time_of(event);
        let what = event.kind.strip_prefix("task-").unwrap_or(&event.kind);
        let by = Some(event.field("agent")).filter(|agent| !agent.is_empty());
        let by = by.map(|agent| format!(" by {agent}")).unwrap_or_default();
        let why = Some(event.field("reason")).filter(|reason| !reason.is_empty());
        let why = why.map(|reason| format!(": {}", first_line(reason))).unwrap_or_default();
        let told = fit(&safe(&format!("{what}{by}{why}")), width.saturating_sub(time.len() + 6));
        out.push_str(&format!("    {}  {told}\n", paint.dim(&time)));
    }
}

/// What its model calls cost, and the conversation that is gone on with.
fn model(out: &mut String, e: &Explanation, width: usize) {
    let Cost { calls, micros, budget_micros, .. } = e.cost;
    if calls > 0 {
        // Which of its calls have no price is not recorded with a task.
        let mut text = if micros == 0 { "?".to_owned() } else { usd(micros) };
        if let Some(budget) = budget_micros {
            text.push_str(&format!(" of {}", usd(budget)));
        }
        text.push_str(&format!(", {}", count(calls, "call of a model", "calls of models")));
        paragraph(out, "  Cost: ", &text, width);
    }
    if let Some(session) = e.session.as_ref().filter(|_| e.state == State::Ready) {
        let text = format!(
            "{}, with {}: an attempt on {} goes on with it, one elsewhere starts anew",
            session.session, session.provider, session.host
        );
        paragraph(out, "  Conversation: ", &safe(&text), width);
    }
}

fn listed(artifacts: &serde_json::Value) -> String {
    match artifacts.as_array() {
        Some(items) => {
            let names: Vec<String> = items
                .iter()
                .map(|item| {
                    let path = item.as_str().or_else(|| item.get("path")?.as_str());
                    path.map_or_else(|| item.to_string(), str::to_owned)
                })
                .collect();
            if names.is_empty() { "nothing that was expected".to_owned() } else { names.join(", ") }
        }
        None => artifacts.to_string(),
    }
}

fn blockers(out: &mut String, e: &Explanation, width: usize, paint: Paint) {
    for blocker in &e.blockers {
        let indent = " ".repeat(4 + 2 * blocker.depth);
        let (word, tone) =
            blocker.state.map_or(("missing", Tone::Bad), |state| (state.as_str(), tone(state)));
        let id = safe(blocker.task.as_str());
        let used = indent.len() + id.len() + word.len() + 4;
        let why = fit(&safe(&blocker.why), width.saturating_sub(used).max(8));
        out.push_str(&format!("{indent}{id}  {}  {why}\n", paint.tone(tone, word)));
    }
}

fn agents(out: &mut String, e: &Explanation, width: usize, paint: Paint) {
    if e.agents.is_empty() {
        return;
    }
    let widest = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0).min(28);
    let role = |agent: &Candidate| agent.role.clone().unwrap_or_else(|| "-".to_owned());
    let names = widest(&mut e.agents.iter().map(|agent| agent.agent.len()));
    let roles = widest(&mut e.agents.iter().map(|agent| role(agent).len()));
    for agent in &e.agents {
        let (name, role) = (fit(&agent.agent, names), fit(&role(agent), roles));
        let lead = format!("    {name:<names$}  {role:<roles$}  ");
        let doing = if agent.suitable { &agent.doing } else { "takes other roles" };
        let mut lines = String::new();
        paragraph(&mut lines, &lead, &safe(doing), width);
        let tone = if agent.suitable { Tone::Plain } else { Tone::Faint };
        for line in lines.lines() {
            out.push_str(&paint.tone(tone, line));
            out.push('\n');
        }
    }
}

fn errors(out: &mut String, e: &Explanation, width: usize, paint: Paint) {
    if e.errors.is_empty() {
        return;
    }
    out.push_str("  Failed attempts, newest first:\n");
    for error in e.errors.iter().take(ERRORS) {
        let time: String = error.time.chars().take(19).collect();
        let lead = format!("    {}. ", error.attempt);
        let by = safe(&format!("{} by {}", time.replace('T', " "), error.agent));
        out.push_str(&format!("{lead}{}\n", paint.dim(&by)));
        let indent = " ".repeat(lead.len());
        for line in error.error.lines().take(8) {
            paragraph(out, &indent, &safe(line), width);
        }
    }
    if e.errors.len() > ERRORS {
        out.push_str(&format!("    … and {} more\n", e.errors.len() - ERRORS));
    }
}
