//! The decision: from facts to an explanation. Pure.

use std::time::Duration;

use jiff::Timestamp;
use model::TaskId;
use model::task::State;
use serde::Serialize;
use store::event::Event;
use store::task::{Detours, SessionRecord, Task};

use super::gather::{Attempt, Facts, Queue};
use super::{blocked, llm, ready};
use crate::cli::status::since;
use crate::cli::text::{count, first_line, span};
use crate::cli::units::dollars;

/// Why a task stands where it stands; documented in docs/cli.md and stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    /// What it waits for is being worked on.
    WaitsForDependencies,
    /// It waits for a task that was put in front of it, to mend what a review found or
    /// what it failed for.
    WaitsForDetour,
    /// What it waits for has failed for good, or is missing.
    Stuck,
    /// Its dependencies are done; the DAG controller makes it ready.
    BecomesReady,
    /// Its goal is not active.
    GoalNotActive,
    /// Its next try is not due yet.
    WaitsForRetry,
    /// Its own budget is spent.
    TaskBudgetSpent,
    /// Its goal's budget is spent.
    GoalBudgetSpent,
    /// Its goal may ask no model for a while.
    SpendingCap,
    /// The provider of every agent that could take it is at its usage limit.
    UsageLimit,
    /// As many calls of models as may be are under way.
    WaitsForSlot,
    /// An agent could not do it and gave it back; it is taken again after a pause.
    HandedBack,
    /// No agent takes tasks of its role.
    NoAgent,
    /// Every agent that could take it is paused.
    AgentsPaused,
    /// No agent that could take it is alive.
    AgentsAway,
    /// Every agent that could take it works on another task.
    AgentsBusy,
    /// An agent is free for it.
    AboutToStart,
    /// It runs.
    Runs,
    /// It runs, and its holder's sign of life is overdue.
    HolderSilent,
    /// It is done.
    Done,
    /// It failed for good.
    Failed,
}

/// One thing that is waited for, in the order of waiting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Blocker {
    pub(super) task: TaskId,
    /// Absent where Redis has no such task.
    pub(super) state: Option<State>,
    /// 0 for what the task itself waits for, 1 for what that waits for, ..
    pub(super) depth: usize,
    pub(super) why: String,
    /// Whether it waits for nothing else itself.
    pub(super) root: bool,
}

/// An agent that could take the task, or could but for its role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Candidate {
    pub(super) agent: String,
    pub(super) role: Option<String>,
    /// Whether it takes tasks of this role.
    pub(super) suitable: bool,
    pub(super) doing: String,
}

/// Who has the right to work on the task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Holder {
    pub(super) agent: String,
    /// Its process, where one is registered.
    pub(super) pid: Option<u32>,
    pub(super) host: Option<String>,
    pub(super) incarnation: Option<u64>,
    /// Under which grant.
    pub(super) epoch: u64,
    pub(super) lease_expires: Option<String>,
}

impl Holder {
    fn of(facts: &Facts) -> Option<Self> {
        let (task, owner) = (&facts.task, facts.task.owner.as_ref()?);
        let worker = facts.workers.iter().find(|worker| worker.agent.name == *owner);
        let registered = worker.and_then(|worker| worker.agent.registered.as_ref());
        Some(Self {
            agent: owner.to_string(),
            pid: registered.map(|registered| registered.pid),
            host: registered.map(|registered| registered.host.clone()),
            incarnation: registered.map(|registered| registered.incarnation.0),
            epoch: task.epoch.0,
            lease_expires: task.lease_expires.clone(),
        })
    }
}

/// What its model calls cost so far, in US dollars.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Cost {
    pub(super) usd: f64,
    pub(super) budget: Option<f64>,
    pub(super) calls: u64,
    #[serde(skip)]
    pub(super) micros: u64,
    #[serde(skip)]
    pub(super) budget_micros: Option<u64>,
}

impl Cost {
    fn of(task: &Task) -> Self {
        let budget_micros = task.spec.as_ref().and_then(|spec| spec.budget_micros);
        Self {
            usd: dollars(task.cost_micros),
            budget: budget_micros.map(dollars),
            calls: task.llm_calls,
            micros: task.cost_micros,
            budget_micros,
        }
    }
}

/// The answer.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Explanation {
    pub(super) task: TaskId,
    pub(super) goal: String,
    pub(super) title: String,
    pub(super) state: State,
    pub(super) verdict: Verdict,
    /// Why, in sentences.
    pub(super) because: Vec<String>,
    pub(super) blockers: Vec<Blocker>,
    pub(super) agents: Vec<Candidate>,
    pub(super) queue: Option<Queue>,
    /// Which attempt this is or was; 0 before the first.
    pub(super) attempt: u32,
    /// Failed attempts that count, and how many end it.
    pub(super) failures: u32,
    pub(super) max_attempts: u32,
    /// How often it lost its agent.
    pub(super) losses: u32,
    /// How often other tasks were put in front of it.
    pub(super) detours: Detours,
    pub(super) cost: Cost,
    /// The conversation that its next attempt goes on with.
    pub(super) session: Option<SessionRecord>,
    /// Failed attempts, newest first.
    pub(super) errors: Vec<Attempt>,
    pub(super) artifacts: Option<serde_json::Value>,
    /// Relative to the project; absent where there is none on this host.
    pub(super) log: Option<String>,
    /// Who has the right to work on it now.
    pub(super) holder: Option<Holder>,
    /// Its last transitions, oldest first, as in `orch events`.
    pub(super) history: Vec<Event>,
    /// The trace of its last attempt.
    pub(super) trace: Option<String>,
    /// What happens next, or what to do.
    pub(super) next: String,
}

/// What is decided by the task's state.
pub(super) struct Answer {
    pub(super) verdict: Verdict,
    pub(super) because: Vec<String>,
    pub(super) next: String,
}

pub(super) fn answer(verdict: Verdict, because: Vec<String>, next: impl Into<String>) -> Answer {
    Answer { verdict, because, next: next.into() }
}

/// Why the task stands where it stands.
pub(super) fn explain(facts: &Facts) -> Explanation {
    let task = &facts.task;
    let blockers = blocked::blockers(facts);
    let agents = ready::candidates(facts);
    let answer = match task.status {
        State::Blocked => blocked::blocked(facts, &blockers),
        State::Ready => ready::ready(facts),
        State::Running => running(facts),
        State::Done => done(facts),
        State::Failed => failed(facts),
    };
    Explanation {
        task: task.id.clone(),
        goal: task.goal.to_string(),
        title: task.spec.as_ref().map(|spec| spec.title.clone()).unwrap_or_default(),
        state: task.status,
        verdict: answer.verdict,
        because: answer.because,
        blockers,
        agents: if task.status == State::Ready { agents } else { Vec::new() },
        queue: facts.queue,
        attempt: task.attempt,
        failures: task.failures,
        max_attempts: task.max_attempts,
        losses: task.losses,
        detours: task.detours,
        cost: Cost::of(task),
        session: task.session.clone(),
        errors: facts.errors.clone(),
        artifacts: task.artifacts.clone(),
        holder: Holder::of(facts),
        history: facts.history.clone(),
        trace: facts.trace.clone(),
        log: facts.log.as_ref().map(|path| path.to_string_lossy().into_owned()),
        next: answer.next,
    }
}

pub(super) fn parse(time: Option<&String>) -> Option<Timestamp> {
    time.and_then(|text| text.parse().ok())
}

/// How long ago `time` was, in words; '' where it is not known.
pub(super) fn ago(now: Timestamp, time: Option<&String>) -> String {
    parse(time).map_or_else(String::new, |then| format!(" {} ago", span(since(now, then))))
}

fn attempt_of(facts: &Facts) -> String {
    let task = &facts.task;
    let mut text = format!("attempt {}", task.attempt);
    if task.failures > 0 {
        text.push_str(&format!(
            ", after {} of {} allowed failures",
            task.failures, task.max_attempts
        ));
    }
    if task.losses > 0 {
        text.push_str(&format!(
            ", after losing its agent {}",
            count(u64::from(task.losses), "time", "times")
        ));
    }
    text
}

fn running(facts: &Facts) -> Answer {
    let task = &facts.task;
    let who = task.owner.as_ref().map_or_else(|| "an agent".to_owned(), ToString::to_string);
    let mut because = vec![format!(
        "{who} runs it: {}, started{}.",
        attempt_of(facts),
        ago(facts.now, task.started.as_ref())
    )];
    if let Some(progress) = &task.progress {
        because.push(format!("It says: {progress}"));
    }
    let waits = llm::waits_for_slot(facts);
    let expires = parse(task.lease_expires.as_ref());
    let left = expires.map(|expires| since(expires, facts.now)).unwrap_or(Duration::ZERO);
    if left.is_zero() {
        let late = ago(facts.now, task.lease_expires.as_ref());
        because.push(format!("Its lease ran out{late} and was not renewed."));
        return answer(
            Verdict::HolderSilent,
            because,
            "the lease reaper makes it ready again within one TTL, and another agent takes it",
        );
    }
    if let Some(waits) = waits {
        because.push(waits);
        return answer(Verdict::WaitsForSlot, because, llm::WHEN_A_SLOT_IS_FREE);
    }
    because.push(format!("Its lease is renewed; without that it would end in {}.", span(left)));
    let next = format!(
        "what waits for it goes on when it is done. Look on with `orch logs {0} --follow`; \
         `DROP-TASK {0}` in a heartbeat file takes it away",
        task.id
    );
    answer(Verdict::Runs, because, next)
}

fn done(facts: &Facts) -> Answer {
    let who = facts.done_by.as_ref().map_or_else(String::new, |who| format!(" by {who}"));
    let when = ago(facts.now, facts.task.finished.as_ref());
    let mut because =
        vec![format!("It was completed{who}{when}, in attempt {}.", facts.task.attempt)];
    if let Some(progress) = &facts.task.progress {
        because.push(format!("It says: {progress}"));
    }
    answer(Verdict::Done, because, "nothing: it is final, until INSTRUCTIONS.md changes what it is")
}

fn failed(facts: &Facts) -> Answer {
    let task = &facts.task;
    let reason = task.reason.as_ref().or(task.last_error.as_ref());
    let reason = reason.map_or_else(String::new, |reason| format!(": {}", first_line(reason)));
    let when = ago(facts.now, task.finished.as_ref());
    let because =
        vec![format!("It failed for good{when}{reason}"), format!("Last: {}.", attempt_of(facts))];
    let next = format!(
        "nothing by itself, and what waits for it stays blocked. Mend the cause, then run \
         `orch retry {}`",
        task.id
    );
    answer(Verdict::Failed, because, next)
}
