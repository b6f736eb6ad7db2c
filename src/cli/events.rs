//! `orch events`: what happened, and what happens.
//!
//! Events come from the scripts that make the transitions, so there is none without its
//! event, and none that did not happen.

use std::time::Duration;

use jiff::Timestamp;
use model::{AgentName, GoalId};
use store::event::{Event, Position};

use super::Exit;
use super::args::{Format, Globals, Output};
use super::connect::Session;
use super::output::{self, Screen};
use super::text::{Paint, Tone, safe};

/// About how many the stream keeps: all of them are searched by a filter.
const KEPT: usize = 100_000;
const WAIT: Duration = Duration::from_secs(5);
/// Between two tries while Redis is away.
const AGAIN: Duration = Duration::from_secs(1);

/// Show what happened, and follow what happens
///
/// One line per event: time, kind, fields. With --format json one JSON object per line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Go on with what happens from now on, until Ctrl-C; also while Redis is away
    #[arg(long, short)]
    follow: bool,

    /// How many of the last ones to show
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
    count: usize,

    /// Only those of this task
    #[arg(long, value_name = "TASK")]
    task: Option<String>,

    /// Only those of this goal
    #[arg(long, value_name = "GOAL")]
    goal: Option<GoalId>,

    /// Only those of this agent
    #[arg(long, value_name = "AGENT")]
    agent: Option<AgentName>,

    #[command(flatten)]
    output: Output,
}

/// Which events are wanted.
#[derive(Debug, Default)]
struct Filter {
    tasks: Option<Vec<String>>,
    goal: Option<String>,
    agent: Option<String>,
}

impl Filter {
    fn wants(&self, event: &Event) -> bool {
        let is = |field: &str, wanted: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| event.field(field) == wanted)
        };
        let task = self.tasks.as_ref();
        is("goal", &self.goal)
            && is("agent", &self.agent)
            && task.is_none_or(|ids| ids.iter().any(|id| event.field("task") == id))
    }

    fn is_any(&self) -> bool {
        self.tasks.is_none() && self.goal.is_none() && self.agent.is_none()
    }
}

pub(crate) async fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    let session = Session::open(globals).await?;
    tokio::select! {
        ended = session_events(&session, args, globals) => session.known(ended)?,
        pressed = tokio::signal::ctrl_c() => pressed?,
    }
    Ok(Exit::Done)
}

async fn session_events(session: &Session, args: &Args, globals: &Globals) -> anyhow::Result<()> {
    let filter = filter(session, args).await?;
    let paint = Screen::now(globals).paint;
    let show = |events: &[Event]| -> anyhow::Result<()> {
        let lines: Vec<String> =
            events.iter().map(|event| line(event, args.output.format, paint)).collect();
        if lines.is_empty() { Ok(()) } else { Ok(output::print(&lines.concat())?) }
    };
    let read = if filter.is_any() { args.count.min(KEPT) } else { KEPT };
    // At least one, so that following begins where this ends.
    let mut events = session.store.last_events(read.max(1)).await?;
    let end = events.last().map_or_else(|| "0".to_owned(), |event| event.id.clone());
    events.retain(|event| filter.wants(event));
    let skipped = events.len().saturating_sub(args.count);
    show(&events[skipped..])?;
    if !args.follow {
        return Ok(());
    }
    let mut position = Position(end);
    let mut waiting = session.store.waiting()?;
    let mut away = false;
    loop {
        match waiting.events(&mut position, WAIT).await {
            Ok(mut events) => {
                away = false;
                events.retain(|event| filter.wants(event));
                show(&events)?;
            }
            Err(error) if error.is_transient() => {
                if !away {
                    let text =
                        format!("Redis is away, waiting: {}\n", reconcile::error_chain(&error));
                    output::tell(&text);
                }
                away = true;
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn filter(session: &Session, args: &Args) -> anyhow::Result<Filter> {
    let tasks = match &args.task {
        None => None,
        Some(text) => {
            let found = session.store.find_tasks(text).await?;
            let ids: Vec<String> = found.iter().map(ToString::to_string).collect();
            // A task that was removed still has its events.
            Some(if ids.is_empty() { vec![text.clone()] } else { ids })
        }
    };
    Ok(Filter {
        tasks,
        goal: args.goal.as_ref().map(ToString::to_string),
        agent: args.agent.as_ref().map(ToString::to_string),
    })
}

fn line(event: &Event, format: Format, paint: Paint) -> String {
    match format {
        Format::Json => format!("{}\n", serde_json::json!(event)),
        Format::Text => text(event, paint),
    }
}

/// What tells writes apart: for programs, and in JSON.
const FENCES: [&str; 3] = ["epoch", "incarnation", "generation"];
/// The fields that people look for, first.
const FIRST: [&str; 7] = ["goal", "task", "agent", "from", "to", "attempt", "reason"];

fn text(event: &Event, paint: Paint) -> String {
    let time = i64::try_from(event.millis())
        .ok()
        .and_then(|millis| Timestamp::from_millisecond(millis).ok())
        .map_or_else(|| event.id.clone(), |t| t.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string());
    let tone = match event.kind.as_str() {
        "task-complete" | "goal-complete" => Tone::Good,
        "task-fail" | "goal-failed" => Tone::Bad,
        "task-retry" | "task-lose" | "task-drop" => Tone::Warn,
        _ => Tone::Busy,
    };
    let mut line =
        format!("{} {}", paint.dim(&time), paint.tone(tone, &format!("{:<16}", safe(&event.kind))));
    let later = event
        .fields
        .keys()
        .map(String::as_str)
        .filter(|name| !FIRST.contains(name) && !FENCES.contains(name));
    for name in FIRST.into_iter().filter(|name| event.fields.contains_key(*name)).chain(later) {
        let value = safe(event.field(name));
        if value.is_empty() {
            continue;
        }
        let quote = if value.contains(' ') { "\"" } else { "" };
        line.push_str(&format!(" {}={quote}{value}{quote}", safe(name)));
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, fields: &[(&str, &str)]) -> Event {
        Event {
            id: "1773828930123-0".into(),
            kind: kind.into(),
            fields: fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        }
    }

    #[test]
    fn event_should_begin_with_what_people_look_for() {
        let event = event(
            "task-retry",
            &[("epoch", "17"), ("reason", "exit\x1b 1"), ("task", "t1"), ("goal", "g"), ("x", "")],
        );
        insta::assert_snapshot!(text(&event, Paint { on: false }), @r#"2026-03-18 10:15:30.123 task-retry       goal=g task=t1 reason="exit\u{1b} 1""#);
        let json = line(&event, Format::Json, Paint { on: true });
        assert!(!json.contains('\x1b') && json.ends_with("}\n"), "{json}");
    }

    #[test]
    fn filter_should_want_what_satisfies_all_of_it() {
        let event = event("task-claim", &[("task", "t1"), ("goal", "g"), ("agent", "a")]);
        let filter = |task: &str, agent: &str| Filter {
            tasks: Some(vec!["x".into(), task.into()]),
            goal: None,
            agent: Some(agent.into()),
        };
        assert!(filter("t1", "a").wants(&event) && Filter::default().wants(&event));
        assert!(!filter("t2", "a").wants(&event) && !filter("t1", "b").wants(&event));
    }
}
