//! `orch cost`: what the calls of models used up.
//!
//! Every call belongs to a goal, so the goals add up to the total. Agents do not: what is
//! left of the total is planning. Nor do models, where a call did not say which answered.
//! What a call cost is only what its provider said; where it said nothing, a `?` shows so
//! and the call is counted as unpriced.

use std::time::Duration;

use jiff::Timestamp;
use model::task::State;
use model::{GoalId, TaskId};
use serde::Serialize;
use serde_json::{Map, Value, json};
use store::Store;
use store::goal::Goal;
use store::llm::{CostOf, Costs};
use store::task::Task;

use super::args::{Globals, Output};
use super::connect::Session;
use super::output::{self, Screen};
use super::tasks::tone;
use super::text::{Column, Paint, Table, Tone, count, paragraph, span};
use super::units::{dollars, priced, tokens, usd};
use super::{Exit, find};

/// Show what calls of models used up
///
/// Calls, cost in US dollars, tokens and time: per goal, agent and model. With a goal: of
/// its tasks, and what is left of its budget. `?` stands for what a provider does not
/// tell; codex never tells a cost.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this goal, task by task
    goal: Option<GoalId>,

    #[command(flatten)]
    output: Output,
}

/// What a number of calls used up; documented in docs/cli.md and stable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Used {
    pub(crate) calls: u64,
    /// What they cost, as far as it is known.
    pub(crate) usd: f64,
    /// Of how many calls it is not known.
    pub(crate) unpriced_calls: u64,
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) cache_read_tokens: u64,
    pub(crate) cache_write_tokens: u64,
    pub(crate) ms: u64,
}

impl From<Costs> for Used {
    fn from(costs: Costs) -> Self {
        Self {
            calls: costs.calls,
            usd: dollars(costs.usd_micros),
            unpriced_calls: costs.unpriced_calls,
            input_tokens: costs.input_tokens,
            output_tokens: costs.output_tokens,
            cache_read_tokens: costs.cache_read_tokens,
            cache_write_tokens: costs.cache_write_tokens,
            ms: costs.ms,
        }
    }
}

/// What one goal, agent or model used up.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    name: String,
    costs: Costs,
    /// Of a goal.
    budget_micros: Option<u64>,
}

/// The costs of everything.
#[derive(Debug, Clone, PartialEq, Eq)]
struct All {
    goals: Vec<Row>,
    agents: Vec<Row>,
    models: Vec<Row>,
}

/// What one task used up.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    task: TaskId,
    title: String,
    state: State,
    calls: u64,
    micros: u64,
    budget_micros: Option<u64>,
}

/// The costs of one goal.
#[derive(Debug, Clone, PartialEq, Eq)]
struct One {
    goal: GoalId,
    total: Costs,
    budget_micros: Option<u64>,
    /// Those that made calls, the most expensive first.
    tasks: Vec<Part>,
}

pub(crate) async fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    let session = Session::open(globals).await?;
    let screen = Screen::now(globals);
    let (json, text) = match &args.goal {
        None => {
            let all = session.known(all(&session.store).await)?;
            (all.json(), all.text(screen.width, screen.paint))
        }
        Some(goal) => {
            let one = session.known(one(&session.store, goal).await)?;
            (one.json(), one.text(screen.width, screen.paint))
        }
    };
    if args.output.is_json() {
        output::print_json(&json)?;
    } else {
        output::print(&text)?;
    }
    Ok(Exit::Done)
}

async fn all(store: &Store) -> anyhow::Result<All> {
    let mut goals = Vec::new();
    for id in store.goal_ids().await? {
        let costs = store.costs(CostOf::Goal(&id)).await?;
        let budget_micros = store.goal(&id).await?.and_then(|goal| goal.budget_micros);
        goals.push(Row { name: id.to_string(), costs, budget_micros });
    }
    let row = |name: String, costs| Row { name, costs, budget_micros: None };
    let mut agents = Vec::new();
    for agent in store.agents().await? {
        let costs = store.costs(CostOf::Agent(&agent.name)).await?;
        agents.push(row(agent.name.to_string(), costs));
    }
    let mut models = Vec::new();
    for model in store.models().await? {
        let costs = store.costs(CostOf::Model(&model)).await?;
        models.push(row(model, costs));
    }
    let mut all = All { goals, agents, models };
    for rows in [&mut all.goals, &mut all.agents, &mut all.models] {
        rows.retain(|row| row.costs.calls > 0);
        // What costs most comes first; names order what costs the same, as what has no price.
        rows.sort_by_key(|row| std::cmp::Reverse((row.costs.usd_micros, row.costs.calls)));
    }
    Ok(all)
}

async fn one(store: &Store, goal: &GoalId) -> anyhow::Result<One> {
    let Goal { id, budget_micros, .. } = find::goal(store, goal).await?;
    let total = store.costs(CostOf::Goal(&id)).await?;
    let tasks = store.tasks(&id).await?.into_iter().filter(|task| task.llm_calls > 0);
    let mut tasks: Vec<Part> = tasks.map(Part::from).collect();
    tasks.sort_by_key(|part| std::cmp::Reverse((part.micros, part.calls)));
    Ok(One { goal: id, total, budget_micros, tasks })
}

impl From<Task> for Part {
    fn from(task: Task) -> Self {
        let (title, budget_micros) =
            task.spec.map(|spec| (spec.title, spec.budget_micros)).unwrap_or_default();
        Self {
            task: task.id,
            title,
            state: task.status,
            calls: task.llm_calls,
            micros: task.cost_micros,
            budget_micros,
        }
    }
}

fn sum(rows: &[Row]) -> Costs {
    rows.iter().fold(Costs::default(), |sum, Row { costs, .. }| Costs {
        calls: sum.calls + costs.calls,
        usd_micros: sum.usd_micros + costs.usd_micros,
        unpriced_calls: sum.unpriced_calls + costs.unpriced_calls,
        input_tokens: sum.input_tokens + costs.input_tokens,
        output_tokens: sum.output_tokens + costs.output_tokens,
        cache_read_tokens: sum.cache_read_tokens + costs.cache_read_tokens,
        cache_write_tokens: sum.cache_write_tokens + costs.cache_write_tokens,
        ms: sum.ms + costs.ms,
    })
}

/// What of `whole` is in none of `rows`. They are read one after the other while calls
/// end, so a row may be ahead of the whole for a moment.
fn rest(whole: &Costs, rows: &[Row]) -> Costs {
    let sum = sum(rows);
    Costs {
        calls: whole.calls.saturating_sub(sum.calls),
        usd_micros: whole.usd_micros.saturating_sub(sum.usd_micros),
        unpriced_calls: whole.unpriced_calls.saturating_sub(sum.unpriced_calls),
        input_tokens: whole.input_tokens.saturating_sub(sum.input_tokens),
        output_tokens: whole.output_tokens.saturating_sub(sum.output_tokens),
        cache_read_tokens: whole.cache_read_tokens.saturating_sub(sum.cache_read_tokens),
        cache_write_tokens: whole.cache_write_tokens.saturating_sub(sum.cache_write_tokens),
        ms: whole.ms.saturating_sub(sum.ms),
    }
}

/// What is left of a budget; nothing where it is overdrawn.
fn left(budget_micros: Option<u64>, spent_micros: u64) -> Option<u64> {
    budget_micros.map(|budget| budget.saturating_sub(spent_micros))
}

fn named(kind: &str, row: &Row) -> Map<String, Value> {
    let mut named = Map::from_iter([(kind.to_owned(), row.name.as_str().into())]);
    if let Value::Object(used) = json!(Used::from(row.costs)) {
        named.extend(used);
    }
    named
}

impl All {
    fn json(&self) -> Value {
        let goal = |row: &Row| {
            let left = left(row.budget_micros, row.costs.usd_micros);
            let mut goal = named("goal", row);
            goal.insert("budget_usd".to_owned(), json!(row.budget_micros.map(dollars)));
            goal.insert("left_usd".to_owned(), json!(left.map(dollars)));
            goal
        };
        let list = |kind: &'static str, rows: &[Row]| -> Vec<Map<String, Value>> {
            rows.iter().map(|row| named(kind, row)).collect()
        };
        let total = sum(&self.goals);
        json!({
            "at": Timestamp::now(),
            "total": Used::from(total),
            "goals": self.goals.iter().map(goal).collect::<Vec<_>>(),
            "agents": list("agent", &self.agents),
            "planning": Used::from(rest(&total, &self.agents)),
            "models": list("model", &self.models),
            "model_unknown": Used::from(rest(&total, &self.models)),
        })
    }

    fn text(&self, width: usize, paint: Paint) -> String {
        let total = sum(&self.goals);
        if total.calls == 0 {
            return "no model was asked yet\n".to_owned();
        }
        let mut out = String::new();
        let with_rest = |rows: &[Row], name: &str| {
            let rest = rest(&total, rows);
            let row = Row { name: name.to_owned(), costs: rest, budget_micros: None };
            rows.iter().cloned().chain((rest.calls > 0).then_some(row)).collect::<Vec<_>>()
        };
        let whole = Row { name: "total".to_owned(), costs: total, budget_micros: None };
        let goals: Vec<Row> = self.goals.iter().cloned().chain([whole]).collect();
        out.push_str(&table("GOAL", &goals, width).render(0, width, paint));
        out.push('\n');
        let agents = with_rest(&self.agents, "(planning)");
        out.push_str(&table("AGENT", &agents, width).render(0, width, paint));
        out.push('\n');
        let models = with_rest(&self.models, "(not said)");
        out.push_str(&table("MODEL", &models, width).render(0, width, paint));
        unpriced(&mut out, total.unpriced_calls, width);
        out
    }
}

fn table(kind: &'static str, rows: &[Row], width: usize) -> Table {
    let with_budget = rows.iter().any(|row| row.budget_micros.is_some());
    let mut titles = vec!["CALLS", "COST", "BUDGET", "IN", "CACHED", "OUT", "TIME"];
    titles.retain(|title| with_budget || *title != "BUDGET");
    let lines: Vec<Vec<(String, Tone)>> =
        rows.iter().map(|row| figures(row, with_budget)).collect();
    let widest = |n: usize, title: &str| {
        let cells = lines.iter().filter_map(|line| line.get(n));
        cells.map(|(text, _)| text.len()).max().unwrap_or(0).max(title.len())
    };
    // Numbers are never cut; the name gets what they leave.
    let used: usize = titles.iter().enumerate().map(|(n, title)| widest(n, title) + 2).sum();
    let name = Column::left(kind, width.saturating_sub(used).max(12));
    let numbers = titles.iter().map(|title| Column::right(title, usize::MAX));
    let mut table = Table::new([name].into_iter().chain(numbers).collect());
    for (row, line) in rows.iter().zip(lines) {
        table.row([(row.name.clone(), Tone::Plain)].into_iter().chain(line));
    }
    table
}

/// The columns of a row after its name.
fn figures(row: &Row, with_budget: bool) -> Vec<(String, Tone)> {
    let Row { costs, budget_micros, .. } = row;
    let plain = |text: String| (text, Tone::Plain);
    let over = budget_micros.is_some_and(|budget| costs.usd_micros >= budget);
    let cost = priced(costs.usd_micros, costs.calls, costs.unpriced_calls);
    let budget = budget_micros.map_or_else(|| "-".to_owned(), usd);
    let mut cells = vec![plain(costs.calls.to_string())];
    cells.push((cost, if over { Tone::Bad } else { Tone::Plain }));
    cells.extend(with_budget.then(|| plain(budget)));
    cells.extend([
        plain(tokens(costs.input_tokens)),
        plain(tokens(costs.cache_read_tokens)),
        plain(tokens(costs.output_tokens)),
        plain(span(Duration::from_millis(costs.ms))),
    ]);
    cells
}

fn unpriced(out: &mut String, calls: u64, width: usize) {
    if calls == 0 {
        return;
    }
    let calls = count(calls, "call", "calls");
    let text = format!(
        "what {calls} cost is not known: the provider does not tell it, or the call ended before \
         it could. No budget counts them"
    );
    out.push('\n');
    paragraph(out, "? ", &text, width);
}

impl One {
    fn outside(&self) -> u64 {
        let of_tasks = self.tasks.iter().fold(0_u64, |sum, part| sum.saturating_add(part.micros));
        self.total.usd_micros.saturating_sub(of_tasks)
    }

    fn json(&self) -> Value {
        let tasks: Vec<Value> = self
            .tasks
            .iter()
            .map(|part| {
                json!({
                    "task": part.task,
                    "title": part.title,
                    "state": part.state,
                    "calls": part.calls,
                    "usd": dollars(part.micros),
                    "budget_usd": part.budget_micros.map(dollars),
                    "left_usd": left(part.budget_micros, part.micros).map(dollars),
                })
            })
            .collect();
        json!({
            "at": Timestamp::now(),
            "goal": self.goal,
            "total": Used::from(self.total),
            "budget_usd": self.budget_micros.map(dollars),
            "left_usd": left(self.budget_micros, self.total.usd_micros).map(dollars),
            "outside_usd": dollars(self.outside()),
            "tasks": tasks,
        })
    }

    fn text(&self, width: usize, paint: Paint) -> String {
        let Costs { calls, usd_micros, unpriced_calls, .. } = self.total;
        let mut out = String::new();
        match self.budget_micros {
            None => {}
            Some(budget) if usd_micros >= budget => {
                let text = format!(
                    "budget of {} is spent ({}): raise `Budget:` in INSTRUCTIONS.md",
                    usd(budget),
                    usd(usd_micros)
                );
                out.push_str(&format!("{}\n\n", paint.red(&text)));
            }
            Some(budget) => {
                let left = usd(budget - usd_micros);
                out.push_str(&format!("{left} of the budget of {} is left\n\n", usd(budget)));
            }
        }
        if calls == 0 {
            out.push_str(&format!("no model was asked for {} yet\n", self.goal));
            return out;
        }
        if !self.tasks.is_empty() {
            out.push_str(&self.tasks().render(0, width, paint));
            out.push('\n');
        }
        let name = self.goal.to_string();
        let whole = [Row { name, costs: self.total, budget_micros: self.budget_micros }];
        out.push_str(&table("GOAL", &whole, width).render(0, width, paint));
        let outside = self.outside();
        if outside > 0 {
            let text = format!(
                "{} of it was for planning, for choosing among tasks, and for tasks before they \
                 were planned or retried anew",
                usd(outside)
            );
            out.push('\n');
            paragraph(&mut out, "", &text, width);
        }
        unpriced(&mut out, unpriced_calls, width);
        out
    }

    fn tasks(&self) -> Table {
        let with_budget = self.tasks.iter().any(|part| part.budget_micros.is_some());
        let mut columns = vec![
            Column::left("TASK", 28),
            Column::left("STATE", 7),
            Column::right("CALLS", 7),
            Column::right("COST", 10),
        ];
        if with_budget {
            columns.push(Column::right("BUDGET", 10));
        }
        columns.push(Column::left("TITLE", 100));
        let mut table = Table::new(columns);
        let plain = |text: String| (text, Tone::Plain);
        for part in &self.tasks {
            let over = part.budget_micros.is_some_and(|budget| part.micros >= budget);
            // Which of a task's calls have no price is not recorded.
            let cost = if part.micros == 0 { "?".to_owned() } else { usd(part.micros) };
            let mut cells = vec![
                plain(part.task.to_string()),
                (part.state.to_string(), tone(part.state)),
                plain(part.calls.to_string()),
                (cost, if over { Tone::Bad } else { Tone::Plain }),
            ];
            if with_budget {
                cells.push(plain(part.budget_micros.map_or_else(|| "-".to_owned(), usd)));
            }
            cells.push(plain(part.title.clone()));
            table.row(cells);
        }
        table
    }
}

#[cfg(test)]
#[path = "cost_tests.rs"]
mod tests;
