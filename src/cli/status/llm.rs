//! What a look shows of language models: calls under way, usage limits, budgets, costs.
//!
//! Whoever uses no model sees nothing of it.

use jiff::Timestamp;
use model::goal::Status;
use serde::Serialize;
use store::goal::Goal;
use store::llm::{CostOf, Costs, Hold, Slot};
use store::{Error, Store};

use super::{View, kept};
use crate::cli::text::{Paint, Tone, count, one_line, paragraph, safe};
use crate::cli::units::{dollars, priced, time, until, usd, written};
use crate::report::Problem;

/// How much of what a provider says of its limit is shown, in characters.
const WORDS: usize = 160;

/// A goal and what its calls used up.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct GoalView {
    #[serde(flatten)]
    pub(crate) goal: Goal,
    pub(crate) cost: GoalCost,
}

/// What a goal's calls cost, in US dollars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct GoalCost {
    /// As far as it is known.
    pub(crate) usd: f64,
    pub(crate) budget: Option<f64>,
    pub(crate) calls: u64,
    /// Of how many of them the cost is not known.
    pub(crate) unpriced_calls: u64,
}

/// What stands in the way of calls.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct LlmView {
    /// How many calls there may be at once; 0 before the first.
    pub(crate) slots: u32,
    pub(crate) in_use: Vec<Slot>,
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) holds: Vec<HoldView>,
}

/// One that waits for a slot.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Waiting {
    /// `agent:<name>` or `planner:<goal>`.
    pub(crate) holder: String,
    pub(crate) goal: String,
    pub(crate) since: Option<Timestamp>,
}

/// A provider's usage limit.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct HoldView {
    pub(crate) provider: String,
    pub(crate) until: Option<Timestamp>,
    pub(crate) since: Option<Timestamp>,
    /// How many limits without a time were hit in a row.
    pub(crate) strikes: u32,
    /// The provider's words.
    pub(crate) message: String,
}

impl From<Hold> for HoldView {
    fn from(hold: Hold) -> Self {
        Self {
            until: time(hold.until_us),
            since: time(hold.since_us),
            provider: hold.provider,
            strikes: hold.strikes,
            message: hold.message,
        }
    }
}

/// Reads what `goal` cost.
pub(super) async fn with_cost(
    store: &Store,
    goal: Goal,
    problems: &mut Vec<Problem>,
) -> Result<GoalView, Error> {
    let costs = store.costs(CostOf::Goal(&goal.id)).await;
    let costs: Costs = kept(costs.map(|costs| vec![costs]), problems)?.pop().unwrap_or_default();
    let cost = GoalCost {
        usd: dollars(costs.usd_micros),
        budget: goal.budget_micros.map(dollars),
        calls: costs.calls,
        unpriced_calls: costs.unpriced_calls,
    };
    // One figure, also where calls end between the two reads.
    Ok(GoalView { goal: Goal { cost_micros: costs.usd_micros, ..goal }, cost })
}

/// Reads what stands in the way of calls.
pub(super) async fn read(store: &Store, problems: &mut Vec<Problem>) -> Result<LlmView, Error> {
    let holds = kept(store.holds().await, problems)?;
    let slots = kept(store.slots().await.map(|slots| vec![slots]), problems)?.pop();
    let slots = slots.unwrap_or_default();
    Ok(LlmView {
        slots: slots.most,
        in_use: slots.in_use,
        waiting: slots
            .waiting
            .into_iter()
            .map(|waiter| Waiting {
                holder: waiter.holder,
                goal: waiter.goal.to_string(),
                since: time(waiter.since_us),
            })
            .collect(),
        holds: holds.into_iter().map(HoldView::from).collect(),
    })
}

/// The calls under way and the usage limits in force, where there are any.
pub(super) fn section(out: &mut String, view: &View, width: usize, paint: Paint) {
    let LlmView { slots, in_use, waiting, holds } = &view.llm;
    if in_use.is_empty() && waiting.is_empty() && holds.is_empty() {
        return;
    }
    super::render::heading(out, "LLM", paint);
    if !in_use.is_empty() || !waiting.is_empty() {
        let mut text =
            format!("{} of {} in use", in_use.len(), count(u64::from(*slots), "slot", "slots"));
        if !waiting.is_empty() {
            let n = waiting.len() as u64;
            text.push_str(&format!(", {n} {}", if n == 1 { "waits" } else { "wait" }));
        }
        out.push_str(&format!("  {text}\n"));
    }
    for hold in holds {
        let end = hold.until.map(|end| until(end, view.at, &view.zone)).unwrap_or_default();
        let text = format!("usage limit {end}: {}", one_line(&hold.message, WORDS));
        painted(out, &format!("  {}: ", hold.provider), &text, Tone::Warn, width, paint);
    }
}

/// A line per goal that has cost anything, and one for what holds its calls.
pub(super) fn of_goal(out: &mut String, of: &GoalView, view: &View, width: usize, paint: Paint) {
    let GoalView { goal, cost } = of;
    if cost.calls > 0 {
        let mut text =
            format!("cost: {}", priced(goal.cost_micros, cost.calls, cost.unpriced_calls));
        if let Some(budget) = goal.budget_micros {
            text.push_str(&format!(" of {}", usd(budget)));
        }
        text.push_str(&format!(", {}", count(cost.calls, "call", "calls")));
        if cost.unpriced_calls > 0 {
            text.push_str(&format!(" ({} without a price)", cost.unpriced_calls));
        }
        out.push_str(&format!("    {}\n", paint.dim(&text)));
    }
    let over = goal.budget_micros.filter(|budget| goal.cost_micros >= *budget);
    if let Some(budget) = over.filter(|_| goal.status != Status::Complete) {
        let text = format!(
            "budget of {} is spent ({}): raise `Budget:` in INSTRUCTIONS.md",
            usd(budget),
            usd(goal.cost_micros)
        );
        painted(out, "    ", &text, Tone::Bad, width, paint);
    }
    if let Some(text) = spending_cap(goal, view) {
        painted(out, "    ", &text, Tone::Warn, width, paint);
    }
}

/// What a person wrote into `goal:<g>:spending_cap_until`, where it still holds. What the
/// store mirrors there of a provider's usage limit stands under LLM already.
fn spending_cap(goal: &Goal, view: &View) -> Option<String> {
    let cap = goal.spending_cap_until.as_ref()?;
    let ends = written(cap);
    let mirrored = |hold: &HoldView| hold.until.is_some() && hold.until == ends;
    if goal.status == Status::Complete
        || ends.is_some_and(|end| end <= view.at)
        || view.llm.holds.iter().any(mirrored)
    {
        return None;
    }
    let end = ends.map_or_else(|| format!("until `{cap}`"), |end| until(end, view.at, &view.zone));
    Some(format!("asks no model {end}, says goal:{}:spending_cap_until", goal.id))
}

/// Whether an agent waits for a slot.
pub(super) fn waits(view: &View, agent: &model::AgentName) -> bool {
    let holder = format!("agent:{agent}");
    view.llm.waiting.iter().any(|waiter| waiter.holder == holder)
}

fn painted(out: &mut String, lead: &str, text: &str, tone: Tone, width: usize, paint: Paint) {
    let mut lines = String::new();
    paragraph(&mut lines, &safe(lead), &safe(text), width);
    for line in lines.lines() {
        out.push_str(&paint.tone(tone, line));
        out.push('\n');
    }
}
