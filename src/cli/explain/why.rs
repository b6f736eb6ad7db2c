//! The decision: from facts to an explanation. Pure.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use model::TaskId;
use model::agent::Phase;
use model::goal::Status;
use model::task::State;
use serde::Serialize;

use super::gather::{Attempt, Facts, Node, Queue, Worker};
use crate::cli::status::since;
use crate::cli::text::{count, first_line, span};

/// How deep the chain of what is waited for is shown.
const DEPTH: usize = 8;
/// How many tasks of it are shown.
const SHOWN: usize = 30;

/// Why a task stands where it stands; documented in docs/cli.md and stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    /// What it waits for is being worked on.
    WaitsForDependencies,
    /// What it waits for has failed for good, or is missing.
    Stuck,
    /// Its dependencies are done; the DAG controller makes it ready.
    BecomesReady,
    /// Its goal is not active.
    GoalNotActive,
    /// Its next try is not due yet.
    WaitsForRetry,
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
    /// Failed attempts, newest first.
    pub(super) errors: Vec<Attempt>,
    pub(super) artifacts: Option<serde_json::Value>,
    /// Relative to the project; absent where there is none on this host.
    pub(super) log: Option<String>,
    /// What happens next, or what to do.
    pub(super) next: String,
}

/// What is decided by the task's state.
struct Answer {
    verdict: Verdict,
    because: Vec<String>,
    next: String,
}

fn answer(verdict: Verdict, because: Vec<String>, next: impl Into<String>) -> Answer {
    Answer { verdict, because, next: next.into() }
}

/// Why the task stands where it stands.
pub(super) fn explain(facts: &Facts) -> Explanation {
    let task = &facts.task;
    let blockers = blockers(facts);
    let agents = candidates(facts);
    let answer = match task.status {
        State::Blocked => blocked(facts, &blockers),
        State::Ready => ready(facts),
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
        errors: facts.errors.clone(),
        artifacts: task.artifacts.clone(),
        log: facts.log.as_ref().map(|path| path.to_string_lossy().into_owned()),
        next: answer.next,
    }
}

fn parse(time: Option<&String>) -> Option<Timestamp> {
    time.and_then(|text| text.parse().ok())
}

/// How long ago `time` was, in words; '' where it is not known.
fn ago(now: Timestamp, time: Option<&String>) -> String {
    parse(time).map_or_else(String::new, |then| format!(" {} ago", span(since(now, then))))
}

// Blocked.

fn blockers(facts: &Facts) -> Vec<Blocker> {
    let mut out = Vec::new();
    let mut seen = HashSet::new();
    if let Some(node) = facts.nodes.get(&facts.task.id) {
        walk(facts, node, 0, &mut seen, &mut out);
    }
    out
}

fn walk<'a>(
    facts: &'a Facts,
    node: &'a Node,
    depth: usize,
    seen: &mut HashSet<&'a TaskId>,
    out: &mut Vec<Blocker>,
) {
    for id in &node.open {
        if depth >= DEPTH || out.len() >= SHOWN {
            return;
        }
        let below = facts.nodes.get(id);
        let again = !seen.insert(id);
        let root = below.is_none_or(|node| node.open.is_empty());
        let why = if again { "see above".to_owned() } else { why_open(facts, below) };
        let state = below.and_then(|node| node.task.as_ref()).map(|task| task.status);
        out.push(Blocker { task: id.clone(), state, depth, why, root: root && !again });
        if let Some(below) = below.filter(|_| !again) {
            walk(facts, below, depth + 1, seen, out);
        }
    }
}

fn why_open(facts: &Facts, node: Option<&Node>) -> String {
    let Some(node) = node else { return "not looked at: too many tasks wait".to_owned() };
    let Some(task) = &node.task else { return "not in Redis".to_owned() };
    let error = task.last_error.as_ref();
    match task.status {
        State::Blocked if node.open.is_empty() => "about to become ready".to_owned(),
        State::Blocked => format!("waits for {}", count(node.open.len() as u64, "task", "tasks")),
        State::Ready => match error {
            Some(error) => {
                let (attempt, error) = (task.attempt, first_line(error));
                format!("waits for an agent after attempt {attempt} failed: {error}")
            }
            None => "waits for an agent".to_owned(),
        },
        State::Running => {
            let who = task.owner.as_ref().map_or_else(String::new, |owner| format!(" by {owner}"));
            format!("runs{who}, started{}", ago(facts.now, task.started.as_ref()))
        }
        State::Done => "done".to_owned(),
        State::Failed => {
            let why = task.reason.as_ref().or(error);
            why.map_or_else(
                || "failed for good".to_owned(),
                |why| format!("failed for good: {}", first_line(why)),
            )
        }
    }
}

fn blocked(facts: &Facts, blockers: &[Blocker]) -> Answer {
    let names = |wanted: &dyn Fn(&Blocker) -> bool| -> Vec<&str> {
        let found = blockers.iter().filter(|b| b.root && wanted(b));
        found.map(|b| b.task.as_str()).collect()
    };
    let direct = facts.nodes.get(&facts.task.id).map_or(0, |node| node.open.len()) as u64;
    let mut because = vec![format!(
        "It waits for {} not done yet.",
        count(direct, "dependency that is", "dependencies that are")
    )];
    if facts.cut {
        because
            .push(format!("Only the first {} tasks before it were looked at.", facts.nodes.len()));
    }
    if direct == 0 {
        return answer(
            Verdict::BecomesReady,
            vec!["All that it waits for is done.".to_owned()],
            "the DAG controller makes it ready within seconds; if not, see its line in `orch status`",
        );
    }
    let failed = names(&|b| b.state == Some(State::Failed));
    if let Some(first) = failed.first() {
        because.push(format!("The root cause: {} failed for good.", list(&failed)));
        return answer(
            Verdict::Stuck,
            because,
            format!(
                "nothing by itself. See why with `orch explain {first}` and `orch logs {first}`, \
                 mend it, then run `orch retry {first}`"
            ),
        );
    }
    let missing = names(&|b| b.state.is_none());
    if !missing.is_empty() && !facts.cut {
        because.push(format!("{} cannot be found in Redis.", list(&missing)));
        return answer(
            Verdict::Stuck,
            because,
            "write REPARSE into the heartbeat file of an agent of this goal, to have it planned again",
        );
    }
    let running = names(&|b| b.state == Some(State::Running));
    let ready = names(&|b| b.state == Some(State::Ready));
    if running.is_empty()
        && let Some(first) = ready.first()
    {
        because.push(format!("The root cause: {} waits for an agent.", list(&ready)));
        let next = format!("see `orch explain {first}`: once that is done, this goes on by itself");
        return answer(Verdict::WaitsForDependencies, because, next);
    }
    if !running.is_empty() {
        because.push(format!("Being worked on: {}.", list(&running)));
    }
    answer(
        Verdict::WaitsForDependencies,
        because,
        "it becomes ready by itself when these are done; there is nothing to do",
    )
}

fn list(names: &[&str]) -> String {
    let shown: Vec<&str> = names.iter().take(5).copied().collect();
    let more =
        if names.len() > 5 { format!(" and {} more", names.len() - 5) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

// Ready.

fn suits(facts: &Facts, worker: &Worker) -> bool {
    match (&facts.task.role, &worker.role) {
        (None, _) => true,
        (Some(wanted), Some(role)) => wanted == role,
        (Some(_), None) => false,
    }
}

/// What an agent does, as far as taking a task goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Idle,
    Busy,
    Paused,
    Away,
}

fn doing(now: Timestamp, worker: &Worker) -> (Doing, String) {
    let agent = &worker.agent;
    let status = &agent.status;
    let phase = status.phase.or(agent.registered.as_ref().map(|_| Phase::Running));
    let exit = status.last_exit.as_ref().map_or_else(String::new, |exit| format!(" after {exit}"));
    let away = |text: String| (Doing::Away, text);
    match phase {
        None => return away("was never started".to_owned()),
        Some(Phase::Pending) => {
            let error = status.error.as_ref();
            return away(error.map_or_else(
                || "waits to be started".to_owned(),
                |error| format!("cannot be started: {error}"),
            ));
        }
        Some(Phase::Starting) => return away("starts".to_owned()),
        Some(Phase::Restarting) => return away(format!("is started again{exit}")),
        Some(Phase::CrashLoop) => {
            let next = parse(status.next_start.as_ref()).map(|next| since(next, now));
            let next =
                next.map_or_else(String::new, |wait| format!("; next start in {}", span(wait)));
            return away(format!("crashes again and again{exit}{next}"));
        }
        Some(Phase::Gone) => return away("is gone: no longer declared".to_owned()),
        Some(Phase::Draining) => return away("is being replaced or ended".to_owned()),
        Some(Phase::Running) => {}
    }
    let task = agent.registered.as_ref().and_then(|r| r.task.as_ref()).map(|(task, _)| task);
    match (agent.paused, task) {
        _ if status.liveness.as_deref() == Some("silent") => {
            away("gives no sign of life".to_owned())
        }
        (true, Some(task)) => (Doing::Paused, format!("finishes {task}, then pauses")),
        (true, None) => (Doing::Paused, "is paused".to_owned()),
        (false, Some(task)) => (Doing::Busy, format!("works on {task}")),
        (false, None) => (Doing::Idle, "is free".to_owned()),
    }
}

fn candidates(facts: &Facts) -> Vec<Candidate> {
    let mut out: Vec<Candidate> = facts
        .workers
        .iter()
        .map(|worker| {
            let removed = worker.declared == Some(false);
            let doing = doing(facts.now, worker).1;
            Candidate {
                agent: worker.agent.name.to_string(),
                role: worker.role.as_ref().map(ToString::to_string),
                suitable: suits(facts, worker),
                doing: if removed { format!("{doing} (not declared)") } else { doing },
            }
        })
        .collect();
    out.sort_by_key(|candidate| !candidate.suitable);
    out
}

fn ready(facts: &Facts) -> Answer {
    let task = &facts.task;
    let mut because = Vec::new();
    if let Some(held) = goal_holds(facts) {
        return held;
    }
    if let Some(reason) = &task.reason {
        because.push(format!("It is ready again: {reason}."));
    }
    let due = parse(task.not_before.as_ref()).map(|due| since(due, facts.now));
    if let Some(wait) = due.filter(|wait| !wait.is_zero()) {
        because.extend(
            task.last_error.as_ref().map(|error| format!("Last error: {}", first_line(error))),
        );
        because.push(format!("It may not be tried again for {}.", span(wait)));
        let left = task.max_attempts.saturating_sub(task.failures);
        let left = count(u64::from(left), "attempt is left", "attempts are left");
        let next = format!("it is tried again in {}; {left}", span(wait));
        return answer(Verdict::WaitsForRetry, because, next);
    }
    by_agents(facts, because)
}

fn goal_holds(facts: &Facts) -> Option<Answer> {
    let goal = &facts.task.goal;
    let holds =
        |because: String, next: &str| Some(answer(Verdict::GoalNotActive, vec![because], next));
    let Some(found) = &facts.goal else {
        return holds(format!("Its goal {goal} is not in Redis."), "declare it in INSTRUCTIONS.md");
    };
    let reason = found.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    match found.status {
        Status::Active if found.declared || !facts.workers.is_empty() => None,
        Status::Active => holds(
            format!("Its goal {goal} is no longer declared in INSTRUCTIONS.md."),
            "declare the goal again, and agents that work for it",
        ),
        status @ (Status::Draft | Status::Complete | Status::Failed) => holds(
            format!("Its goal {goal} is {status}{reason}; tasks run while it is active."),
            "the DAG controller makes it active within seconds; if not, see `orch status`",
        ),
    }
}

fn by_agents(facts: &Facts, mut because: Vec<String>) -> Answer {
    let task = &facts.task;
    let role = task.role.as_ref().map_or_else(String::new, |role| format!(" of role {role}"));
    let suitable: Vec<&Worker> = facts.workers.iter().filter(|w| suits(facts, w)).collect();
    let doings: Vec<Doing> = suitable.iter().map(|w| doing(facts.now, w).0).collect();
    let all = |wanted: Doing| doings.iter().all(|doing| *doing == wanted);
    let gone = |worker: &&Worker| worker.agent.status.phase == Some(Phase::Gone);
    if suitable.iter().all(gone) {
        because.push(format!("No agent{role} works for goal {}.", task.goal));
        let what = task.role.as_ref().map_or_else(
            || "an agent".to_owned(),
            |role| format!("an agent with `- Role: {role}`"),
        );
        let next = format!(
            "declare {what} and `- Goal: {}` under `## Agents` in INSTRUCTIONS.md",
            task.goal
        );
        return answer(Verdict::NoAgent, because, next);
    }
    if doings.contains(&Doing::Idle) {
        because.push(format!("An agent{role} is free for it."));
        return answer(
            Verdict::AboutToStart,
            because,
            "it is taken within seconds; if not, run `orch doctor` and look at `orch events --follow`",
        );
    }
    if doings.contains(&Doing::Busy) {
        because.push(format!("Every agent{role} that could take it works on another task."));
        let before = facts.queue.map_or(0, |queue| queue.before);
        let next = match before {
            0 => "it is taken when one of them is free, unless another task comes first".to_owned(),
            n => format!(
                "it is taken after {} of higher priority; `ELEVATE {} <priority>` in a heartbeat \
                 file puts it further ahead",
                count(n, "task", "tasks"),
                task.id
            ),
        };
        return answer(Verdict::AgentsBusy, because, next);
    }
    if all(Doing::Paused) || (doings.contains(&Doing::Paused) && !doings.contains(&Doing::Busy)) {
        because.push(format!("No agent{role} claims anything: paused by a directive."));
        let first = suitable.iter().find(|w| w.agent.paused).map(|w| w.agent.name.to_string());
        let next = format!(
            "write RESUME into the heartbeat file of {}",
            first.unwrap_or_else(|| "one of them".to_owned())
        );
        return answer(Verdict::AgentsPaused, because, next);
    }
    because.push(format!("No agent{role} is alive at present."));
    let next = "the agent controller starts them; if that takes long, `orch status` says why not";
    answer(Verdict::AgentsAway, because, next)
}

// Running, done, failed.

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
