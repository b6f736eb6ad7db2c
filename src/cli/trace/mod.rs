//! `orch trace`: what happened to a task or a goal, as a waterfall.
//!
//! Built from the stream of events alone, so it needs no collector and shows what Redis
//! still holds. The ids are those of the spans that are exported, where they are.

mod render;

use std::collections::HashMap;

use jiff::tz::TimeZone;
use model::{GoalId, TaskId};
use store::Store;
use store::event::{MAX_READ, Position};
use traces::{Builder, Span, otlp};

use self::render::Shown;
use super::args::{Globals, Output};
use super::connect::Session;
use super::output::{self, Screen};
use super::{Exit, Failure, find};

/// Show what happened to a task or a goal, as a waterfall
///
/// A task with all its attempts, waits and recoveries, and the calls of models with what
/// they cost; a goal with its planning and the attempts at its tasks. Read from the
/// stream of events, which keeps about the last 100,000: no collector is needed. With
/// --format json in OTLP's JSON form, as collectors and Jaeger take it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The task or the goal
    #[arg(value_name = "TASK|GOAL")]
    name: String,

    /// How many attempts of a goal to show; 0 is all
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    count: usize,

    #[command(flatten)]
    output: Output,
}

/// What is traced.
#[derive(Debug)]
enum Subject {
    Task { goal: GoalId, id: TaskId },
    Goal(GoalId),
}

impl Subject {
    /// Whether the trace with this root is wanted.
    fn wants(&self, root: &Span) -> bool {
        match self {
            Self::Task { id, .. } => root.text("orch.task") == id.as_str(),
            Self::Goal(id) => root.text("orch.goal") == id.as_str(),
        }
    }
}

pub(crate) async fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    let session = Session::open(globals).await?;
    let store = &session.store;
    let subject = session.known(subject(store, &args.name).await)?;
    let read = session.known(read(store, &subject).await)?;
    let now_us = session.known(store.time().await)?;
    if read.spans.is_empty() {
        return Err(nothing(&subject, read.is_complete).into());
    }
    if args.output.is_json() {
        output::print_json(&otlp::request(&read.spans, env!("CARGO_PKG_VERSION"), now_us))?;
        return Ok(Exit::Done);
    }
    let screen = Screen::now(globals);
    let is_goal = matches!(subject, Subject::Goal(_));
    let most = if is_goal && args.count > 0 { args.count } else { usize::MAX };
    let (spans, is_complete) = (read.spans.as_slice(), read.is_complete);
    let zone = TimeZone::system();
    let shown = Shown { spans, is_goal, most, is_complete, now_us, zone };
    output::print(&shown.text(screen.width, screen.paint))?;
    Ok(Exit::Done)
}

fn nothing(subject: &Subject, is_complete: bool) -> Failure {
    let (what, hint) = match subject {
        Subject::Task { id, .. } => {
            (format!("nobody has tried {id}"), format!("`orch explain {id}` says why"))
        }
        Subject::Goal(id) => (format!("{id} has no plan"), "`orch status` says why".to_owned()),
    };
    if is_complete {
        Failure::negative(format!("{what} yet: {hint}"))
    } else {
        Failure::negative(format!("{what} as far as the events go back: older ones are gone"))
    }
}

/// A goal where there is one of that name, else a task.
async fn subject(store: &Store, name: &str) -> anyhow::Result<Subject> {
    if let Ok(id) = GoalId::new(name)
        && let Some(goal) = store.goal(&id).await?
    {
        return Ok(Subject::Goal(goal.id));
    }
    let task = find::task(store, name).await?;
    Ok(Subject::Task { goal: task.goal, id: task.id })
}

/// Traces, each with its parts before the whole.
struct Read {
    spans: Vec<Span>,
    /// Whether the stream holds every event that ever was.
    is_complete: bool,
}

async fn read(store: &Store, subject: &Subject) -> anyhow::Result<Read> {
    let mut builder = Builder::new(&store.fleet().await?);
    builder.dependencies(dependencies(store, subject).await?);
    let mut recoveries = Vec::new();
    let mut read = Read { spans: Vec::new(), is_complete: true };
    let (mut position, until) = (Position("0".to_owned()), store.end_of_events().await?);
    loop {
        let page = store.events_between(&position, &until, MAX_READ).await?;
        read.is_complete &= !page.has_gap;
        for event in &page.events {
            keep(builder.event(event), subject, &mut read.spans, &mut recoveries);
        }
        match page.events.last() {
            Some(last) => position.0.clone_from(&last.id),
            None => break,
        }
    }
    keep(builder.open(), subject, &mut read.spans, &mut recoveries);
    read.spans.append(&mut recoveries);
    Ok(read)
}

/// Keeps the traces that are wanted; of a goal also the recoveries of its tasks.
fn keep(spans: Vec<Span>, subject: &Subject, kept: &mut Vec<Span>, recoveries: &mut Vec<Span>) {
    let mut parts = Vec::new();
    for span in spans {
        parts.push(span);
        let Some(root) = parts.last().filter(|span| span.parent.is_none()) else { continue };
        if root.name == "recovery" {
            let task = root.text("orch.task").to_owned();
            let ours = subject.wants(root)
                || kept.iter().any(|span| !task.is_empty() && span.text("orch.task") == task);
            if ours {
                recoveries.append(&mut parts);
            }
        } else if subject.wants(root) {
            kept.append(&mut parts);
        }
        parts.clear();
    }
}

/// What the tasks of the plan in force wait for.
async fn dependencies(
    store: &Store,
    subject: &Subject,
) -> anyhow::Result<HashMap<String, Vec<String>>> {
    match subject {
        Subject::Task { goal, id } => {
            let list = store.dependencies(goal, id).await?;
            Ok([(id.to_string(), list.iter().map(ToString::to_string).collect())].into())
        }
        Subject::Goal(goal) => Ok(store.all_dependencies(goal).await?),
    }
}
