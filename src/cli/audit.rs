//! `orch audit`: whether what happened kept the promises.

use std::collections::HashMap;

use audit::{EventId, Report, Violation};
use jiff::Timestamp;
use model::GoalId;
use serde_json::{Value, json};
use store::Store;
use store::event::Event;

use super::args::{Globals, Output};
use super::connect::Session;
use super::output::{self, Screen};
use super::text::{Paint, one_line, paragraph, safe};
use super::{Exit, find};

/// The most characters of one field of an event that are shown to people.
const FIELD_CHARS: usize = 100;

/// Check that what happened kept the promises
///
/// Reads the stream of events and the state in Redis, also while agents are at work, and
/// changes nothing. Each violation is shown with the events that show it. Exit code 1
/// where there is one.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this goal
    goal: Option<GoalId>,

    #[command(flatten)]
    output: Output,
}

/// The events that violations name, by id; those that are gone meanwhile are not in it.
type Shown = HashMap<String, Event>;

pub(crate) async fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    let session = Session::open(globals).await?;
    let (report, shown) = session.known(look(&session.store, args.goal.as_ref()).await)?;
    if args.output.is_json() {
        output::print_json(&as_json(&report, &shown))?;
    } else {
        let screen = Screen::now(globals);
        output::print(&as_text(&report, &shown, screen.width, screen.paint))?;
    }
    Ok(if report.is_clean() { Exit::Done } else { Exit::Negative })
}

async fn look(store: &Store, goal: Option<&GoalId>) -> anyhow::Result<(Report, Shown)> {
    if let Some(goal) = goal {
        find::goal(store, goal).await?;
    }
    let report = audit::audit(store, goal).await?;
    let mut ids: Vec<EventId> =
        report.violations.iter().flat_map(|found| found.events.iter().copied()).collect();
    ids.sort_unstable();
    ids.dedup();
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let events = store.events_at(&ids).await?;
    Ok((report, events.into_iter().map(|event| (event.id.clone(), event)).collect()))
}

fn as_json(report: &Report, shown: &Shown) -> Value {
    let event = |id: &EventId| {
        shown.get(&id.to_string()).map_or_else(|| json!({ "id": id }), |event| json!(event))
    };
    let violation = |found: &Violation| {
        json!({
            "rule": found.rule,
            "promise": found.rule.promise(),
            "text": found.text,
            "goal": found.goal,
            "task": found.task,
            "agent": found.agent,
            "events": found.events.iter().map(event).collect::<Vec<_>>(),
        })
    };
    json!({
        "at": Timestamp::now(),
        "clean": report.is_clean(),
        "events": report.events,
        "complete": report.complete,
        "since": report.since.and_then(EventId::time),
        "gaps": report.gaps,
        "restores": report.restores,
        "goals": report.goals,
        "tasks": report.tasks,
        "unseen_tasks": report.unseen_tasks,
        "moved_tasks": report.moved_tasks,
        "unchecked_claims": report.unchecked_claims,
        "violations": report.violations.iter().map(violation).collect::<Vec<_>>(),
        "more_violations": report.more_violations,
    })
}

fn as_text(report: &Report, shown: &Shown, width: usize, paint: Paint) -> String {
    let mut out = String::new();
    for found in &report.violations {
        let of = [&found.task, &found.goal, &found.agent].into_iter().flatten().next();
        let of = of.map_or_else(String::new, |name| format!("{}: ", safe(name)));
        out.push_str(&format!("{} ({})\n", paint.red(found.rule.as_str()), found.rule.promise()));
        paragraph(&mut out, "  ", &format!("{of}{}", safe(&found.text)), width);
        for id in &found.events {
            out.push_str("    ");
            out.push_str(&line(*id, shown.get(&id.to_string()), paint));
        }
        out.push('\n');
    }
    if report.more_violations > 0 {
        out.push_str(&format!("{} more violations are not shown\n\n", report.more_violations));
    }
    for limit in report.limits() {
        paragraph(&mut out, "? ", &limit, width);
    }
    let summary = report.summary();
    let tone = if report.is_clean() { paint.green(&summary) } else { paint.red(&summary) };
    out.push_str(&tone);
    out.push('\n');
    out
}

/// One event with all that it says: here epochs and incarnations are what matters.
fn line(id: EventId, event: Option<&Event>, paint: Paint) -> String {
    let time = id.time().map_or_else(String::new, |t| format!("{t:.3} "));
    let Some(event) = event else {
        return format!("{id} {}(no longer in the stream)\n", paint.dim(&time));
    };
    let mut line = format!("{} {}{}", safe(&event.id), paint.dim(&time), safe(&event.kind));
    for (name, value) in event.fields.iter().filter(|(_, value)| !value.is_empty()) {
        let value = safe(&one_line(value, FIELD_CHARS));
        let quote = if value.contains(' ') { "\"" } else { "" };
        line.push_str(&format!(" {}={quote}{value}{quote}", safe(name)));
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use audit::Rule;

    use super::*;

    const PLAIN: Paint = Paint { on: false };

    fn found() -> (Report, Shown) {
        let id = |millis| EventId { millis, number: 0 };
        let report = Report {
            events: 2,
            complete: false,
            since: Some(id(1_773_828_930_123)),
            goals: 1,
            tasks: 3,
            unchecked_claims: 1,
            violations: vec![Violation {
                rule: Rule::S3,
                text: "`complete` of w1 was accepted\x1b[2J".into(),
                goal: Some("g".into()),
                task: Some("t1".into()),
                agent: Some("w1".into()),
                events: vec![id(1_773_828_930_123), id(1_773_828_930_456)],
            }],
            ..Report::default()
        };
        let fields = [("task", "t1"), ("epoch", "17"), ("reason", "it is\nso"), ("x", "")];
        let event = Event {
            id: "1773828930123-0".into(),
            kind: "task-complete".into(),
            fields: fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        };
        (report, [(event.id.clone(), event)].into())
    }

    #[test]
    fn violation_should_be_shown_with_its_events_and_how_much_was_seen() {
        let (report, shown) = found();
        let text = as_text(&report, &shown, 100, PLAIN);
        insta::assert_snapshot!(text, @r#"
        S3 (a write without the epoch of the lease in force is refused)
          t1: `complete` of w1 was accepted\u{1b}[2J
            1773828930123-0 2026-03-18T10:15:30.123Z task-complete epoch=17 reason="it is so" task=t1
            1773828930456-0 2026-03-18T10:15:30.456Z (no longer in the stream)

        ? 1 grant was made under plans that are not in force any more: whether what the task waited for was
          done is not known
        looked at 2 events (since 2026-03-18T10:15:30.123Z: older ones are gone) and 3 tasks of 1 goal: 1 violation
        "#);
        let json = as_json(&report, &shown);
        assert_eq!(json["violations"][0]["events"][0]["epoch"], "17", "{json:#}");
        assert_eq!(json["violations"][0]["events"][1]["id"], "1773828930456-0", "{json:#}");
        assert_eq!(json["violations"][0]["rule"], "S3", "{json:#}");
    }

    #[test]
    fn clean_history_should_be_one_line() {
        let report = Report { events: 1, complete: true, tasks: 1, goals: 1, ..Report::default() };
        let text = as_text(&report, &Shown::new(), 80, PLAIN);
        assert_eq!(text, "looked at 1 event (complete) and 1 task of 1 goal: no violation\n");
    }
}
