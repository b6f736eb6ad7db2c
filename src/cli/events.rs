//! `orch events`: what happened, and what happens.
//!
//! Events come from the scripts that make the transitions, so there is none without its
//! event, and none that did not happen.

use std::time::Duration;

use jiff::Timestamp;
use model::{AgentName, GoalId};
use store::event::{Event, Position};

use super::Exit;
use super::args::{Format, Globals, Output, wait};
use super::connect::Session;
use super::output::{self, Screen};
use super::text::{Paint, Tone, safe, span};
use super::units::{tokens, usd};

/// About how many the stream keeps: all of them are searched by a filter.
const KEPT: usize = 100_000;
/// How many are shown where nobody says.
const COUNT: usize = 20;
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

    /// How many of the last ones to show [default: 20; all with --since]
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<usize>,

    /// Only those since then: 10m, 2h (ago), or 2026-03-18T10:15:00Z
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<Since>,

    /// Only those of these kinds: task-claim, or a beginning as task or agent
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    kind: Vec<String>,

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

/// From when on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    Ago(Duration),
    At(Timestamp),
}

fn since(text: &str) -> Result<Since, String> {
    match (text.parse::<Timestamp>(), wait(text)) {
        (Ok(at), _) => Ok(Since::At(at)),
        (Err(_), Ok(ago)) => Ok(Since::Ago(ago)),
        (Err(_), Err(error)) => Err(format!("{error}, or a time as 2026-03-18T10:15:00Z")),
    }
}

/// Which events are wanted.
#[derive(Debug, Default)]
struct Filter {
    /// In milliseconds since the epoch.
    since: u64,
    kinds: Vec<String>,
    tasks: Option<Vec<String>>,
    goal: Option<String>,
    agent: Option<String>,
}

impl Filter {
    fn wants(&self, event: &Event) -> bool {
        let is = |field: &str, wanted: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| event.field(field) == wanted)
        };
        let is_kind = |kind: &String| {
            let rest = event.kind.strip_prefix(kind.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        let task = self.tasks.as_ref();
        event.millis() >= self.since
            && (self.kinds.is_empty() || self.kinds.iter().any(is_kind))
            && is("goal", &self.goal)
            && is("agent", &self.agent)
            && task.is_none_or(|ids| ids.iter().any(|id| event.field("task") == id))
    }

    fn is_any(&self) -> bool {
        self.since == 0
            && self.kinds.is_empty()
            && self.tasks.is_none()
            && self.goal.is_none()
            && self.agent.is_none()
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
    let usual = if args.since.is_some() { KEPT } else { COUNT };
    let count = args.count.unwrap_or(usual);
    let read = if filter.is_any() { count.min(KEPT) } else { KEPT };
    // At least one, so that following begins where this ends.
    let mut events = session.store.last_events(read.max(1)).await?;
    let end = events.last().map_or_else(|| "0".to_owned(), |event| event.id.clone());
    events.retain(|event| filter.wants(event));
    let skipped = events.len().saturating_sub(count);
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
    let since = match args.since {
        None => 0,
        Some(Since::At(at)) => u64::try_from(at.as_millisecond()).unwrap_or(0),
        Some(Since::Ago(ago)) => {
            // By the clock that gave them their times.
            let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
            (session.store.time().await? / 1_000).saturating_sub(ago)
        }
    };
    Ok(Filter {
        since,
        kinds: args.kind.clone(),
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
/// Those of a call, in the order in which they are read.
const OF_CALL: [&str; 7] = ["goal", "task", "agent", "step", "provider", "model", "outcome"];

/// When, in UTC.
pub(super) fn time_of(event: &Event) -> String {
    let time = i64::try_from(event.millis()).ok();
    let time = time.and_then(|millis| Timestamp::from_millisecond(millis).ok());
    time.map_or_else(|| event.id.clone(), |t| t.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string())
}

fn text(event: &Event, paint: Paint) -> String {
    let time = time_of(event);
    let kind = paint.tone(tone(event), &format!("{:<16}", safe(&event.kind)));
    let mut line = format!("{} {kind}", paint.dim(&time));
    let told = if event.kind == "llm-call" { of_call(event) } else { of_any(event) };
    for (name, value) in told {
        let value = safe(&value);
        if value.is_empty() {
            continue;
        }
        let quote = if value.contains(' ') { "\"" } else { "" };
        line.push_str(&format!(" {}={quote}{value}{quote}", safe(name)));
    }
    line.push('\n');
    line
}

fn tone(event: &Event) -> Tone {
    match event.kind.as_str() {
        "task-complete" | "goal-complete" => Tone::Good,
        "task-fail" | "goal-failed" => Tone::Bad,
        "task-retry" | "task-lose" | "task-drop" | "task-detour" => Tone::Warn,
        "llm-hold" | "goal-plan-held" => Tone::Warn,
        "llm-call" if event.field("outcome") == "ok" => Tone::Faint,
        "llm-call" => Tone::Warn,
        _ => Tone::Busy,
    }
}

fn of_any(event: &Event) -> Vec<(&str, String)> {
    let later = event
        .fields
        .keys()
        .map(String::as_str)
        .filter(|name| !FIRST.contains(name) && !FENCES.contains(name));
    let names = FIRST.into_iter().filter(|name| event.fields.contains_key(*name)).chain(later);
    names.map(|name| (name, event.field(name).to_owned())).collect()
}

/// A call's figures in units for people. Its id and its prompt's hash are for programs.
fn of_call(event: &Event) -> Vec<(&str, String)> {
    let number = |name: &str| event.field(name).parse::<u64>().ok();
    let tokens = |name: &str| number(name).filter(|n| *n > 0).map(tokens).unwrap_or_default();
    let took = number("ms").map(|ms| span(Duration::from_millis(ms)).replace(' ', ""));
    let mut told: Vec<(&str, String)> =
        OF_CALL.into_iter().map(|name| (name, event.field(name).to_owned())).collect();
    told.extend([
        ("took", took.unwrap_or_default()),
        ("cost", number("usd_micros").map_or_else(|| "?".to_owned(), usd)),
        ("in", tokens("input_tokens")),
        ("cached", tokens("cache_read_tokens")),
        ("out", tokens("output_tokens")),
    ]);
    told
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
    fn call_should_be_told_in_units_for_people() {
        let call = |outcome: &'static str, micros: &'static str| {
            event(
                "llm-call",
                &[
                    ("call", "5f0c"),
                    ("goal", "g"),
                    ("task", "t1"),
                    ("agent", "a"),
                    ("epoch", "17"),
                    ("step", "execute"),
                    ("provider", "claude"),
                    ("model", "m-1"),
                    ("outcome", outcome),
                    ("ms", "12345"),
                    ("usd_micros", micros),
                    ("input_tokens", "1234"),
                    ("output_tokens", "321"),
                    ("cache_read_tokens", "0"),
                    ("cache_write_tokens", "9"),
                    ("prompt", "execute/1 abc"),
                ],
            )
        };
        insta::assert_snapshot!(text(&call("ok", "42300"), Paint { on: false }), @"2026-03-18 10:15:30.123 llm-call         goal=g task=t1 agent=a step=execute provider=claude model=m-1 outcome=ok took=12s cost=$0.0423 in=1.2k out=321");
        assert!(
            text(&call("limit", ""), Paint { on: false }).contains("outcome=limit took=12s cost=?")
        );
        assert_eq!(tone(&call("limit", "")), Tone::Warn);
        let json = line(&call("ok", "42300"), Format::Json, Paint { on: false });
        assert!(json.contains("5f0c") && json.contains("\"42300\""), "{json}");
    }

    #[test]
    fn filter_should_want_what_satisfies_all_of_it() {
        let event = event("task-claim", &[("task", "t1"), ("goal", "g"), ("agent", "a")]);
        let filter = |task: &str, agent: &str| Filter {
            tasks: Some(vec!["x".into(), task.into()]),
            agent: Some(agent.into()),
            ..Filter::default()
        };
        assert!(filter("t1", "a").wants(&event) && Filter::default().wants(&event));
        assert!(!filter("t2", "a").wants(&event) && !filter("t1", "b").wants(&event));
        let kind =
            |kind: &str| Filter { kinds: vec!["x".into(), kind.into()], ..Filter::default() };
        assert!(kind("task").wants(&event) && kind("task-claim").wants(&event));
        assert!(!kind("task-c").wants(&event) && !kind("agent").wants(&event));
        let at = event.millis();
        let since = |since| Filter { since, ..Filter::default() };
        assert!(since(at).wants(&event) && !since(at + 1).wants(&event));
    }

    #[test]
    fn since_should_be_a_time_or_how_long_ago() {
        assert_eq!(since("10m"), Ok(Since::Ago(Duration::from_secs(600))));
        let at = "2026-03-18T10:15:00Z".parse().unwrap();
        assert_eq!(since("2026-03-18T10:15:00Z"), Ok(Since::At(at)));
        assert!(since("yesterday").unwrap_err().contains("2026-03-18T10:15:00Z"));
    }
}
