//! `orch tasks`: the tasks of one goal or of all.

use std::str::FromStr;

use jiff::Timestamp;
use model::task::State;
use model::{GoalId, TaskId};
use serde::Serialize;
use store::Store;
use store::task::Task;

use super::args::{Globals, Output};
use super::connect::Session;
use super::output::{self, Screen};
use super::status::since;
use super::text::{Column, Paint, Table, Tone, count, first_line, span};
use super::units::usd;
use super::{Exit, find};

/// Naming what a blocked task waits for costs a question each: beyond this many, the
/// table only says how many there are.
const NAMED: usize = 500;

/// List tasks
///
/// By goal and id, with what a blocked task waits for, why a ready one is held, and what
/// calls of models cost where there were any.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only the tasks of this goal
    goal: Option<GoalId>,

    /// Only tasks in these states: blocked, ready, running, done, failed
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = State::from_str)]
    state: Vec<State>,

    #[command(flatten)]
    output: Output,
}

/// A task and what it waits for.
#[derive(Debug, Clone, Serialize)]
struct Row {
    #[serde(flatten)]
    task: Task,
    /// Dependencies that are not done; absent where they are too many to look up.
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_for: Option<Vec<TaskId>>,
}

pub(crate) async fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    let session = Session::open(globals).await?;
    let rows = session.known(rows(&session.store, args).await)?;
    if args.output.is_json() {
        output::print_json(&rows)?;
        return Ok(Exit::Done);
    }
    let screen = Screen::now(globals);
    output::print(&text(&rows, Timestamp::now(), screen.width, screen.paint))?;
    Ok(Exit::Done)
}

async fn rows(store: &Store, args: &Args) -> anyhow::Result<Vec<Row>> {
    let goals = match &args.goal {
        Some(id) => vec![find::goal(store, id).await?.id],
        None => store.goal_ids().await?,
    };
    let mut rows = Vec::new();
    let mut named = 0;
    for goal in &goals {
        let tasks = store.tasks(goal).await?;
        let done: std::collections::HashSet<TaskId> = tasks
            .iter()
            .filter(|task| task.status == State::Done)
            .map(|task| task.id.clone())
            .collect();
        for task in tasks {
            if !args.state.is_empty() && !args.state.contains(&task.status) {
                continue;
            }
            let waits_for = if task.status != State::Blocked {
                Some(Vec::new())
            } else if named < NAMED {
                named += 1;
                let mut open = store.dependencies(goal, &task.id).await?;
                open.retain(|id| !done.contains(id));
                Some(open)
            } else {
                None
            };
            rows.push(Row { task, waits_for });
        }
    }
    Ok(rows)
}

/// The colour of a state.
pub(crate) fn tone(state: State) -> Tone {
    match state {
        State::Blocked => Tone::Faint,
        State::Ready => Tone::Plain,
        State::Running => Tone::Busy,
        State::Done => Tone::Good,
        State::Failed => Tone::Bad,
    }
}

/// Whether its own budget is spent: it is put off to the year 9999, until a person
/// retries it or another plan revises it.
pub(crate) fn is_parked(task: &Task) -> bool {
    let due = task.not_before.as_ref();
    task.status == State::Ready && due.is_some_and(|due| due.starts_with("9999-"))
}

fn text(rows: &[Row], now: Timestamp, width: usize, paint: Paint) -> String {
    if rows.is_empty() {
        return "no such tasks: `orch status` shows the goals\n".to_owned();
    }
    let first = rows.first().map(|row| &row.task.goal);
    let with_goal = rows.iter().any(|row| Some(&row.task.goal) != first);
    let with_cost = rows.iter().any(|row| row.task.llm_calls > 0);
    let mut columns = vec![Column::left("ID", 28), Column::left("STATE", 7)];
    if with_goal {
        columns.push(Column::left("GOAL", 16));
    }
    columns.extend([
        Column::right("PRIO", 7),
        Column::left("ROLE", 12),
        Column::left("OWNER", 16),
        Column::right("TRY", 5),
    ]);
    if with_cost {
        columns.push(Column::right("COST", 10));
    }
    columns.push(Column::left("TITLE", 100));
    let mut table = Table::new(columns);
    for row in rows {
        let task = &row.task;
        let plain = |text: String| (text, Tone::Plain);
        let dash = |text: Option<String>| plain(text.unwrap_or_else(|| "-".to_owned()));
        let mut cells =
            vec![plain(task.id.to_string()), (task.status.to_string(), tone(task.status))];
        if with_goal {
            cells.push(plain(task.goal.to_string()));
        }
        cells.extend([
            plain(task.priority.to_string()),
            dash(task.role.as_ref().map(ToString::to_string)),
            dash(task.owner.as_ref().map(ToString::to_string)),
            plain(task.attempt.to_string()),
        ]);
        if with_cost {
            cells.push(plain(match (task.llm_calls, task.cost_micros) {
                (0, _) => "-".to_owned(),
                // Its provider tells no price.
                (_, 0) => "?".to_owned(),
                (_, micros) => usd(micros),
            }));
        }
        let title = task.spec.as_ref().map(|spec| spec.title.clone());
        cells.push(plain(title.unwrap_or_default()));
        table.row(cells);
        if let Some((note, tone)) = note(row, now) {
            table.note(&note, tone);
        }
    }
    table.render(0, width, paint)
}

/// Why the task stands where it stands, in a line.
fn note(row: &Row, now: Timestamp) -> Option<(String, Tone)> {
    let task = &row.task;
    match task.status {
        State::Blocked => {
            let names = row.waits_for.as_ref().filter(|ids| !ids.is_empty()).map(|ids| {
                let shown: Vec<&str> = ids.iter().take(4).map(TaskId::as_str).collect();
                let more = if ids.len() > 4 { ", .." } else { "" };
                format!("waits for {}{more}", shown.join(", "))
            });
            let counted =
                || format!("waits for {}", count(u64::from(task.waiting), "task", "tasks"));
            Some(match &task.reason {
                Some(reason) => (reason.clone(), Tone::Warn),
                None => (names.unwrap_or_else(counted), Tone::Faint),
            })
        }
        State::Ready if is_parked(task) => {
            let why = task.reason.clone().unwrap_or_else(|| "its budget is spent".to_owned());
            Some((format!("{why}: raise it, or run `orch retry {}`", task.id), Tone::Warn))
        }
        State::Ready => {
            let due = task.not_before.as_ref().and_then(|text| text.parse::<Timestamp>().ok());
            let wait = due.map(|due| since(due, now)).filter(|wait| !wait.is_zero());
            let wait = wait.map(|wait| format!("due in {}", span(wait)));
            let parts: Vec<String> = task.reason.iter().cloned().chain(wait).collect();
            (!parts.is_empty()).then(|| (parts.join("; "), Tone::Faint))
        }
        // Its holder may wait, as for a slot.
        State::Running => {
            let said = task.progress.as_ref().or(task.reason.as_ref());
            said.map(|said| (said.clone(), Tone::Faint))
        }
        State::Done => None,
        State::Failed => {
            let why = task.reason.clone().or_else(|| task.last_error.clone());
            why.map(|why| (first_line(&why), Tone::Bad))
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{AgentName, Role, TaskSpec};
    use unicode_width::UnicodeWidthStr;

    use super::super::explain::tests::task;
    use super::*;

    fn row(task: Task, waits_for: &[&str]) -> Row {
        let waits_for = waits_for.iter().map(|id| TaskId::new(*id).unwrap()).collect();
        Row { task, waits_for: Some(waits_for) }
    }

    fn rows() -> Vec<Row> {
        let mut running = task("task-001", State::Running);
        running.owner = AgentName::new("research_agent").ok();
        running.attempt = 2;
        running.priority = 10;
        let mut ready = task("task-002", State::Ready);
        ready.reason = Some("attempt 1 failed; it is tried again".into());
        ready.not_before = Some("2026-03-18T10:15:34.5Z".into());
        ready.role = Role::new("analysis").ok();
        let mut failed = task("task-005", State::Failed);
        failed.reason = Some("exit code 1".into());
        let mut titled = task("task-004", State::Done);
        let id = TaskId::new("task-004").unwrap();
        titled.spec = Some(TaskSpec::new(id, "Evil \x1b[2J\ntitle ".repeat(20)));
        vec![
            row(running, &[]),
            row(ready, &[]),
            row(task("task-003", State::Blocked), &["task-001", "task-002"]),
            row(titled, &[]),
            row(failed, &[]),
        ]
    }

    fn now() -> Timestamp {
        "2026-03-18T10:15:30Z".parse().unwrap()
    }

    #[test]
    fn tasks_should_say_what_each_waits_for() {
        insta::assert_snapshot!(text(&rows(), now(), 80, Paint { on: false }), @r"
        ID        STATE    PRIO  ROLE      OWNER           TRY  TITLE
        task-001  running    10  -         research_agent    2  Title of task-001
        task-002  ready       0  analysis  -                 0  Title of task-002
          attempt 1 failed; it is tried again; due in 4.5 s
        task-003  blocked     0  -         -                 0  Title of task-003
          waits for task-001, task-002
        task-004  done        0  -         -                 0  Evil \u{1b}[2J\ntitle E…
        task-005  failed      0  -         -                 0  Title of task-005
          exit code 1
        ");
    }

    #[test]
    fn tasks_should_fit_and_be_printable() {
        let mut rows = rows();
        rows[0].task.goal = GoalId::new("goal-002").unwrap();
        let shown = text(&rows, now(), 80, Paint { on: false });
        assert!(shown.lines().all(|line| line.width() <= 80), "{shown}");
        assert!(!shown.contains('\x1b'), "{shown:?}");
    }
}
