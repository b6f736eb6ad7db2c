//! A ready task: what holds it back, and what each agent that could take it does. Pure.

use model::agent::Phase;
use model::goal::Status;

use super::gather::{Facts, Worker};
use super::llm;
use super::why::{Answer, Candidate, Verdict, answer, parse};
use crate::cli::status::since;
use crate::cli::tasks::is_parked;
use crate::cli::text::{count, first_line, span};

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
    /// It asks its model which task to take.
    Choosing,
    /// It would, and waits for a slot.
    Queued,
    Busy,
    Paused,
    Away,
}

fn doing(facts: &Facts, worker: &Worker) -> (Doing, String) {
    let (now, agent) = (facts.now, &worker.agent);
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
        (false, None) if llm::is_queued(facts, &agent.name) => {
            (Doing::Queued, "waits for an LLM slot, to choose a task".to_owned())
        }
        (false, None) if llm::is_asking(facts, &agent.name) => {
            (Doing::Choosing, "asks its model which task to take".to_owned())
        }
        (false, None) => match llm::limit_of(facts, worker) {
            Some(limit) => (Doing::Idle, format!("is free, but {limit}")),
            None => (Doing::Idle, "is free".to_owned()),
        },
    }
}

pub(super) fn candidates(facts: &Facts) -> Vec<Candidate> {
    let mut out: Vec<Candidate> = facts
        .workers
        .iter()
        .map(|worker| {
            let removed = worker.declared == Some(false);
            let doing = doing(facts, worker).1;
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

pub(super) fn ready(facts: &Facts) -> Answer {
    let task = &facts.task;
    let mut because = Vec::new();
    if let Some(held) = goal_holds(facts) {
        return held;
    }
    if is_parked(task) {
        return llm::parked(task);
    }
    match (&facts.handed_back, &task.reason) {
        (Some(back), _) => because.push(back.sentence()),
        (None, Some(reason)) => because.push(format!("It is ready again: {reason}.")),
        (None, None) => {}
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
    let doings: Vec<Doing> = suitable.iter().map(|w| doing(facts, w).0).collect();
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
    if let Some((verdict, why, next)) = llm::held(facts, &suitable) {
        because.push(why);
        return answer(verdict, because, next);
    }
    if facts.handed_back.is_some() && doings.contains(&Doing::Idle) {
        return answer(Verdict::HandedBack, because, llm::AFTER_A_PAUSE);
    }
    if doings.contains(&Doing::Choosing) {
        because.push(format!("An agent{role} is choosing among the tasks that are ready."));
        let next = "this one is taken when it is chosen, or by the next that is free";
        return answer(Verdict::AboutToStart, because, next);
    }
    if doings.contains(&Doing::Idle) {
        because.push(format!("An agent{role} is free for it."));
        return answer(
            Verdict::AboutToStart,
            because,
            "it is taken within seconds; if not, run `orch doctor` and look at `orch events --follow`",
        );
    }
    if doings.contains(&Doing::Queued) {
        because.push(llm::slots(facts));
        return answer(Verdict::WaitsForSlot, because, llm::WHEN_A_SLOT_IS_FREE);
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
