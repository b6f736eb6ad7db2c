//! Reasons that have to do with language models. Pure.

use model::{AgentName, Provider};
use store::llm::Hold;
use store::task::Task;

use super::gather::{Facts, HandedBack, Worker};
use super::why::{Answer, Verdict, answer};
use crate::cli::text::one_line;
use crate::cli::units::{time, until, usd, written};

/// What happens to who waits for a slot.
pub(super) const WHEN_A_SLOT_IS_FREE: &str = "it goes on by itself when a call ends; goals take \
    turns. `ORCH_LLM_MAX_CONCURRENCY` (`--llm-max-concurrency`) allows more calls at once";
/// What happens to what was handed back.
pub(super) const AFTER_A_PAUSE: &str = "an agent takes it again by itself, after pauses that grow \
    to minutes. If the reason names something to mend, mend it: `orch doctor` checks the programs \
    of models";
/// How the reason of a task begins that waits for a slot.
const SLOT: &str = "waits for an LLM slot";

/// How much of what a provider says is quoted, in characters.
const WORDS: usize = 200;

/// Whether only a model can do it.
fn needs_model(task: &Task) -> bool {
    task.spec.as_ref().is_none_or(|spec| spec.run.is_none())
}

impl HandedBack {
    pub(super) fn sentence(&self) -> String {
        format!("{} handed it back: {}", self.agent, one_line(&self.reason, WORDS))
    }
}

// Budgets and limits.

/// A task whose own budget is spent.
pub(super) fn parked(task: &Task) -> Answer {
    let reason = task.reason.as_deref().unwrap_or("its budget is spent");
    let next = format!(
        "nothing by itself. Raise its `budget` in INSTRUCTIONS.md, where it is pinned there, or \
         run `orch retry {}`: its cost is then counted anew",
        task.id
    );
    answer(Verdict::TaskBudgetSpent, vec![format!("It is parked: {reason}.")], next)
}

/// Why none of these agents may have a model do the task now: verdict, reason, and what
/// happens next.
pub(super) fn held(facts: &Facts, workers: &[&Worker]) -> Option<(Verdict, String, String)> {
    let asking: Vec<&Worker> =
        workers.iter().copied().filter(|worker| worker.provider != Provider::Offline).collect();
    if asking.is_empty() || !needs_model(&facts.task) {
        return None;
    }
    if let Some(held) = goal_budget(facts).or_else(|| spending_cap(facts)) {
        return Some(held);
    }
    let mut holds = Vec::new();
    for worker in asking {
        holds.push(hold_of(facts, worker.provider)?);
    }
    let first = holds.into_iter().min_by_key(|hold| hold.until_us)?;
    let why = format!("{}: {}", limit(facts, first), one_line(&first.message, WORDS));
    let next = "it goes on by itself then, and no attempt is used up. An agent with another \
                `Provider:` could take it now";
    Some((Verdict::UsageLimit, sentence(&why), next.to_owned()))
}

fn goal_budget(facts: &Facts) -> Option<(Verdict, String, String)> {
    let goal = facts.goal.as_ref()?;
    let budget = goal.budget_micros.filter(|budget| goal.cost_micros >= *budget)?;
    let why = format!(
        "Its goal {} has spent {} of its budget of {}.",
        goal.id,
        usd(goal.cost_micros),
        usd(budget)
    );
    let next = format!(
        "nothing by itself: raise `Budget:` of {} in INSTRUCTIONS.md, and it goes on within \
         seconds",
        goal.id
    );
    Some((Verdict::GoalBudgetSpent, why, next))
}

/// What a person wrote; the store's mirror of a provider's limit ends with that.
fn spending_cap(facts: &Facts) -> Option<(Verdict, String, String)> {
    let goal = facts.goal.as_ref()?;
    let cap = goal.spending_cap_until.as_ref()?;
    let ends = written(cap);
    let mirrors = |hold: &Hold| ends.is_some() && time(hold.until_us) == ends;
    if ends.is_some_and(|end| end <= facts.now) || facts.holds.iter().any(mirrors) {
        return None;
    }
    let key = format!("goal:{}:spending_cap_until", goal.id);
    let end = match ends {
        Some(end) => until(end, facts.now, &facts.zone),
        None => format!("until `{cap}`"),
    };
    let next = format!("it goes on by itself then; to lift it now, delete {key} in Redis");
    Some((Verdict::SpendingCap, format!("Its goal may ask no model {end}, says {key}."), next))
}

fn hold_of(facts: &Facts, provider: Provider) -> Option<&Hold> {
    let now = facts.now;
    let holds = facts.holds.iter().filter(|hold| hold.provider == provider.as_str());
    holds.into_iter().find(|hold| time(hold.until_us).is_some_and(|end| end > now))
}

fn limit(facts: &Facts, hold: &Hold) -> String {
    let end = time(hold.until_us).map(|end| until(end, facts.now, &facts.zone));
    format!("{} is at its usage limit {}", hold.provider, end.unwrap_or_default())
}

/// The usage limit that keeps an agent from this task.
pub(super) fn limit_of(facts: &Facts, worker: &Worker) -> Option<String> {
    let hold = hold_of(facts, worker.provider).filter(|_| needs_model(&facts.task))?;
    Some(limit(facts, hold))
}

/// With a full stop, unless a provider's words end in one.
fn sentence(text: &str) -> String {
    if text.ends_with(['.', '!', '?', '…']) { text.to_owned() } else { format!("{text}.") }
}

// Slots.

fn holder(agent: &AgentName) -> String {
    format!("agent:{agent}")
}

/// Whether an agent waits for a slot.
pub(super) fn is_queued(facts: &Facts, agent: &AgentName) -> bool {
    let holder = holder(agent);
    facts.slots.waiting.iter().any(|waiter| waiter.holder == holder)
}

/// Whether an agent's call is under way.
pub(super) fn is_asking(facts: &Facts, agent: &AgentName) -> bool {
    let holder = holder(agent);
    facts.slots.in_use.iter().any(|slot| slot.holder == holder)
}

/// How the slots are used, in a sentence.
pub(super) fn slots(facts: &Facts) -> String {
    let (used, most) = (facts.slots.in_use.len(), facts.slots.most);
    format!("Every agent for it {SLOT}: {used} of {most} in use.")
}

/// The reason that was recorded when a task's holder asked for a slot and got none.
pub(super) fn slot_reason(task: &Task) -> Option<&str> {
    task.reason.as_deref().filter(|reason| reason.starts_with(SLOT))
}

/// The same for the task in question, in a sentence, while its holder is in the queue.
pub(super) fn waits_for_slot(facts: &Facts) -> Option<String> {
    let owner = facts.task.owner.as_ref()?;
    if !is_queued(facts, owner) {
        return None;
    }
    let reason = slot_reason(&facts.task).unwrap_or(SLOT);
    Some(format!("It {reason}."))
}

// Detours.

/// A task that was put in front of this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Detour {
    pub(super) task: String,
    /// `review` or `recovery`.
    kind: String,
    round: u32,
    limit: u32,
}

/// What the reason of a blocked task says of a detour:
/// `waits for <task> (<kind> <round> of <limit>)`.
pub(super) fn detour(task: &Task) -> Option<Detour> {
    let reason = task.reason.as_ref()?.strip_prefix("waits for ")?.strip_suffix(')')?;
    let (task, rest) = reason.split_once(" (")?;
    let (kind, rounds) = rest.split_once(' ')?;
    let (round, limit) = rounds.split_once(" of ")?;
    Some(Detour {
        task: task.to_owned(),
        kind: kind.to_owned(),
        round: round.parse().ok()?,
        limit: limit.parse().ok()?,
    })
}

impl Detour {
    pub(super) fn sentence(&self) -> String {
        let Self { task, kind, round, limit } = self;
        let what = match kind.as_str() {
            "review" => format!("What it reviews is mended first, by {task}"),
            "recovery" => format!("It failed, and {task} is to mend the cause first"),
            _ => format!("{task} was put in front of it"),
        };
        format!("{what}: round {round} of {limit}; after the last a person is asked.")
    }
}
