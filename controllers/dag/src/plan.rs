//! Deciding: what is to be done about one goal, from what was seen of it alone.
//!
//! Planning is wanted for a [`Target`]: a declaration and the number of `REPARSE`s
//! asked for so far. `store::goal::Planning` holds the target that was last
//! attempted: no attempts mean that it was served, and failed attempts count only
//! for the very target they were made for, so that a changed declaration or another
//! `REPARSE` starts over. A crash between accepting a plan and recording its target
//! costs one more planning, whose plan is then found to be in force already.
//!
//! A hold is recorded in the same place. It and the attempts count only for the means
//! (provider, model, budget) that they came to be with; but which means a plan in force
//! was made with does not matter, and a change of them alone plans nothing again.

use std::fmt;
use std::time::Duration;

use model::goal::Counts;
use store::goal::{Figures, Goal, Planning};

/// How often planning may fail for one declaration.
pub const MAX_ATTEMPTS: u32 = 3;

/// [`store::goal::Planning::not_before_ms`] of a goal whose planning was given up:
/// no attempt before the declaration changes or a person writes `REPARSE`.
pub const NEVER_MS: u64 = u64::MAX;

/// How often a hold is looked at at least: its end is told by the wall clock, which
/// somebody may set.
const HOLD_LOOK: Duration = Duration::from_secs(60);

/// A planner that is at work for so long waits for nothing any more: one that only
/// finds that the hold goes on has said so by then.
const HOLD_OVER: Duration = Duration::from_secs(1);

/// What a plan is made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Fingerprint of the declaration.
    pub(crate) spec_hash: String,
    /// How many `REPARSE`s it answers.
    pub(crate) reparses: u64,
    /// What it is made with.
    pub(crate) means: String,
}

impl Target {
    /// Whether a plan made for `other` is one for this, too.
    fn is_met_by(&self, other: &Self) -> bool {
        self.spec_hash == other.spec_hash && self.reparses == other.reparses
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.spec_hash, self.reparses)
    }
}

/// What is declared of a goal, as far as deciding needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Desired {
    pub(crate) spec_hash: String,
    pub(crate) title: String,
    /// What it is planned with.
    pub(crate) means: String,
    pub(crate) budget_micros: Option<u64>,
    /// For whoever works on it.
    pub(crate) text: String,
    pub(crate) review: bool,
}

/// The planner at work for a goal, as a pass sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) target: Target,
    pub(crate) progress: Progress,
    /// How long ago it was set to work.
    pub(crate) age: Duration,
}

/// How far the planner is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// At work.
    Running,
    /// Told to end, and has not yet.
    Stopping,
    /// Ended as it was told.
    Stopped,
    /// It made a plan.
    Planned,
    /// There can be no plan for this target.
    Refused(String),
    /// The attempt failed.
    Failed(String),
    /// It has to wait, until this time where that is known.
    Held { message: String, until_ms: Option<u64> },
}

/// All that deciding looks at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) desired: Option<Desired>,
    pub(crate) actual: Option<Goal>,
    pub(crate) work: Option<Seen>,
    /// How long the next planning attempt has to wait.
    pub(crate) hold: Duration,
    /// Read now and then, and whenever the goal's status is about to change.
    pub(crate) figures: Option<Figures>,
    /// The figures contradict each other, and a repair found nothing to change.
    pub(crate) vain_repair: bool,
    /// What keeps tasks from running that no task can say.
    pub(crate) problem: Option<String>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Write fields of the goal; '' removes one.
    Note(Vec<(&'static str, String)>),
    /// Set the planner to work.
    Start(Target),
    /// Tell the planner to end.
    Stop,
    /// Forget what the planner made, or that it was stopped.
    Discard,
    /// Put the planner's plan in force; `settle` also records that its target is served.
    Accept { target: Target, settle: bool },
    /// Record a failed attempt: the last one, or one that is repeated after a delay.
    Record { target: Target, attempts: u32, error: String, give_up: bool },
    /// Record that planning waits, after so many failed attempts.
    Hold { target: Target, attempts: u32, message: String, until_ms: Option<u64> },
    /// Record that nothing is left of the attempts for some other target.
    Settle(Target),
    /// Recount the goal, because of this.
    Repair(&'static str),
    /// Make delayed tasks claimable.
    Promote,
    /// Set the status that follows from these counts.
    RollUp { generation: u64, counts: Counts },
}

impl Step {
    /// What it does, for traces: texts of people are no part of it.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Note(_) => "note",
            Self::Start(_) => "start planning",
            Self::Stop => "stop planning",
            Self::Discard => "discard",
            Self::Accept { .. } => "accept",
            Self::Record { .. } => "record failure",
            Self::Hold { .. } => "hold",
            Self::Settle(_) => "settle",
            Self::Repair(_) => "repair",
            Self::Promote => "promote",
            Self::RollUp { .. } => "roll up",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Note(fields) => {
                f.write_str("note")?;
                fields.iter().try_for_each(|(name, value)| write!(f, " {name}={value:?}"))
            }
            Self::Start(target) => write!(f, "start planning {target}"),
            Self::Stop => f.write_str("stop planning"),
            Self::Discard => f.write_str("discard what the planner left"),
            Self::Accept { target, settle: false } => write!(f, "accept the plan for {target}"),
            Self::Accept { target, settle: true } => write!(f, "accept and settle {target}"),
            Self::Record { target, attempts, error, give_up: false } => {
                write!(f, "record failure {attempts} for {target}: {error}")
            }
            Self::Record { target, attempts, error, give_up: true } => {
                write!(f, "give up {target} after {attempts}: {error}")
            }
            Self::Hold { target, attempts, message, until_ms } => {
                write!(f, "hold {target} after {attempts}")?;
                until_ms.map_or(Ok(()), |until| write!(f, " until {until}"))?;
                write!(f, ": {message}")
            }
            Self::Settle(target) => write!(f, "settle {target}"),
            Self::Repair(why) => write!(f, "repair: {why}"),
            Self::Promote => f.write_str("promote"),
            Self::RollUp { generation, counts } => {
                write!(f, "set generation {generation} {}", counts.status())
            }
        }
    }
}

/// What to do, in order, and when to look again without being woken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) again_after: Option<Duration>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.steps[..] {
            [] => f.write_str("nothing")?,
            [first, rest @ ..] => {
                write!(f, "{first}")?;
                rest.iter().try_for_each(|step| write!(f, "; {step}"))?;
            }
        }
        self.again_after.map_or(Ok(()), |delay| write!(f, " (again in {delay:?})"))
    }
}

/// What a plan of `goal` would be made for now.
pub(crate) fn target(goal: &Goal, desired: &Desired) -> Target {
    Target {
        spec_hash: desired.spec_hash.clone(),
        reparses: goal.reparses,
        means: desired.means.clone(),
    }
}

/// What Redis says of planning for `target`, whatever the means.
fn planning<'g>(goal: &'g Goal, target: &Target) -> Option<&'g Planning> {
    let planning = &goal.planning;
    let same = planning.spec_hash == target.spec_hash && planning.reparses == target.reparses;
    same.then_some(planning)
}

/// The same, for these means.
fn so_far<'g>(goal: &'g Goal, target: &Target) -> Option<&'g Planning> {
    planning(goal, target).filter(|planning| planning.means == target.means)
}

/// How often planning `target` failed.
pub(crate) fn attempts(goal: &Goal, target: &Target) -> u32 {
    so_far(goal, target).map_or(0, |planning| planning.attempts)
}

/// What planning `target` waits for, though nothing failed.
pub(crate) fn held<'g>(goal: &'g Goal, target: &Target) -> Option<&'g str> {
    so_far(goal, target).and_then(|planning| planning.held.as_deref())
}

/// Whether nothing is tried for `target` any more.
pub(crate) fn given_up(goal: &Goal, target: &Target) -> bool {
    attempts(goal, target) > 0 && goal.planning.not_before_ms == NEVER_MS
}

/// Whether the plan in force is not yet the one for `target`.
fn wanted(goal: &Goal, target: &Target) -> bool {
    let unfinished = |planning: &Planning| planning.attempts > 0 || planning.held.is_some();
    goal.generation == 0
        || goal.spec_hash != target.spec_hash
        || goal.planning.reparses != target.reparses
        || planning(goal, target).is_some_and(unfinished)
}

/// Whether `target` being served is not what Redis says of planning.
fn unsettled(goal: &Goal, target: &Target) -> bool {
    let planning = &goal.planning;
    planning.attempts > 0
        || planning.error.is_some()
        || planning.held.is_some()
        || planning.reparses != target.reparses
}

/// What to do about one goal.
pub(crate) fn decide(seen: &Snapshot) -> Plan {
    let mut plan = Plan::default();
    match (&seen.desired, &seen.actual) {
        (None, actual) => {
            // What was done under it stays as it is: that is its history.
            if actual.as_ref().is_some_and(|goal| goal.declared) {
                plan.steps.push(Step::Note(vec![("declared", "0".to_owned())]));
            }
            free(seen.work.as_ref(), None, &mut plan);
        }
        (Some(desired), None) => {
            let mut fields = vec![("title", desired.title.clone())];
            follow(desired, (None, "", false), &mut fields);
            plan.steps.push(Step::Note(fields));
        }
        (Some(desired), Some(goal)) => {
            let target = target(goal, desired);
            note(seen, desired, goal, &target, &mut plan);
            make(seen, goal, &target, &mut plan);
            if goal.generation > 0 {
                keep(seen, goal, &mut plan);
            }
        }
    }
    plan
}

/// What is written of the goal itself, where it differs.
fn note(seen: &Snapshot, desired: &Desired, goal: &Goal, target: &Target, plan: &mut Plan) {
    let mut fields = Vec::new();
    if !goal.declared {
        fields.push(("declared", "1".to_owned()));
    }
    // Once there is a plan, title and reason are those of the plan in force.
    if goal.generation == 0 {
        if goal.title != desired.title {
            fields.push(("title", desired.title.clone()));
        }
        let reason = why_no_plan(seen, goal, target);
        if goal.reason != reason {
            fields.push(("reason", reason.unwrap_or_default()));
        }
    }
    follow(desired, (goal.budget_micros, &goal.text, goal.review), &mut fields);
    if goal.problem != seen.problem {
        fields.push(("problem", seen.problem.clone().unwrap_or_default()));
    }
    if !fields.is_empty() {
        plan.steps.push(Step::Note(fields));
    }
}

/// What follows the declaration at once, whichever plan is in force: budget, text and
/// review, of which `noted` is known.
fn follow(
    desired: &Desired,
    noted: (Option<u64>, &str, bool),
    fields: &mut Vec<(&'static str, String)>,
) {
    let (budget_micros, text, review) = noted;
    if budget_micros != desired.budget_micros {
        let budget = desired.budget_micros.map(|micros| micros.to_string());
        fields.push(("budget", budget.unwrap_or_default()));
    }
    if text != desired.text {
        fields.push(("text", desired.text.clone()));
    }
    if review != desired.review {
        fields.push(("review", if desired.review { "1" } else { "" }.to_owned()));
    }
}

fn why_no_plan(seen: &Snapshot, goal: &Goal, target: &Target) -> Option<String> {
    if given_up(goal, target) {
        let error = goal.planning.error.as_deref().unwrap_or("no reason was given");
        return Some(format!(
            "there is no plan: {error}; change the goal, or write REPARSE to try again"
        ));
    }
    let at_work = |work: &Seen| work.progress == Progress::Running && work.age > HOLD_OVER;
    if seen.work.as_ref().is_some_and(at_work) {
        return None;
    }
    held(goal, target).map(|held| format!("planning waits: {held}"))
}

/// Whether a planner may start; gets rid of one that is not at work for `target`.
fn free(work: Option<&Seen>, target: Option<&Target>, plan: &mut Plan) -> bool {
    let Some(work) = work else { return true };
    let asked_for = target.is_some_and(|target| target.is_met_by(&work.target));
    match &work.progress {
        Progress::Running if asked_for => false,
        Progress::Running => {
            plan.steps.push(Step::Stop);
            false
        }
        Progress::Stopping => false,
        Progress::Planned | Progress::Refused(_) | Progress::Failed(_) | Progress::Held { .. }
            if asked_for =>
        {
            false
        }
        Progress::Stopped
        | Progress::Planned
        | Progress::Refused(_)
        | Progress::Failed(_)
        | Progress::Held { .. } => {
            plan.steps.push(Step::Discard);
            true
        }
    }
}

/// Gets a plan made and into force.
fn make(seen: &Snapshot, goal: &Goal, target: &Target, plan: &mut Plan) {
    let wanted = wanted(goal, target);
    let free = free(seen.work.as_ref(), wanted.then_some(target), plan);
    if !wanted {
        // Attempts for a declaration that was taken back.
        if unsettled(goal, target) {
            plan.steps.push(Step::Settle(target.clone()));
        }
    } else if free {
        if given_up(goal, target) {
            return;
        }
        if seen.hold > Duration::ZERO {
            plan.again_after = Some(seen.hold.min(HOLD_LOOK));
        } else {
            plan.steps.push(Step::Start(target.clone()));
        }
    } else if let Some(work) = seen.work.as_ref().filter(|work| target.is_met_by(&work.target)) {
        finish(goal, work, plan);
    }
}

/// What follows from what the planner left, which was wanted.
fn finish(goal: &Goal, work: &Seen, plan: &mut Plan) {
    // Its own target: an attempt counts for the means that it was made with.
    let target = &work.target;
    let attempts = attempts(goal, target);
    let record = |error: &String, give_up| Step::Record {
        target: target.clone(),
        attempts: attempts.saturating_add(1),
        error: error.clone(),
        give_up,
    };
    match &work.progress {
        Progress::Running | Progress::Stopping | Progress::Stopped => {}
        Progress::Planned => {
            let settle = unsettled(goal, target);
            plan.steps.push(Step::Accept { target: target.clone(), settle });
        }
        Progress::Refused(error) => plan.steps.push(record(error, true)),
        Progress::Failed(error) => {
            let last = attempts.saturating_add(1) >= MAX_ATTEMPTS;
            plan.steps.push(record(error, last));
        }
        Progress::Held { message, until_ms } => plan.steps.push(Step::Hold {
            target: target.clone(),
            attempts,
            message: message.clone(),
            until_ms: *until_ms,
        }),
    }
}

/// Keeps the plan in force right: figures, delayed tasks, status.
fn keep(seen: &Snapshot, goal: &Goal, plan: &mut Plan) {
    let counts = seen.figures.map_or(goal.counts, |figures| figures.counts);
    let wrong = seen.figures.as_ref().and_then(Figures::contradiction);
    match wrong.filter(|_| !seen.vain_repair) {
        // No status follows from counts that are wrong.
        Some(why) => plan.steps.push(Step::Repair(why)),
        None if seen.figures.is_some() && counts.status() != goal.status => {
            plan.steps.push(Step::RollUp { generation: goal.generation, counts });
        }
        None => {}
    }
    if counts.ready > 0 {
        plan.steps.push(Step::Promote);
    }
}

#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;
