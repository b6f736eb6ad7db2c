//! A blocked task: what is not done before it, down to the root cause. Pure.

use std::collections::HashSet;

use model::TaskId;
use model::task::State;

use super::gather::{Facts, Node};
use super::llm;
use super::why::{Answer, Blocker, Verdict, ago, answer};
use crate::cli::tasks::is_parked;
use crate::cli::text::{count, first_line};

/// How deep the chain of what is waited for is shown.
const DEPTH: usize = 8;
/// How many tasks of it are shown.
const SHOWN: usize = 30;

pub(super) fn blockers(facts: &Facts) -> Vec<Blocker> {
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
        State::Ready if is_parked(task) => "its budget is spent".to_owned(),
        State::Ready => match error {
            Some(error) => {
                let (attempt, error) = (task.attempt, first_line(error));
                format!("waits for an agent after attempt {attempt} failed: {error}")
            }
            None => "waits for an agent".to_owned(),
        },
        State::Running => {
            let who = task.owner.as_ref().map_or_else(String::new, |owner| format!(" by {owner}"));
            match llm::slot_reason(task) {
                Some(reason) => format!("held{who}, {reason}"),
                None => format!("runs{who}, started{}", ago(facts.now, task.started.as_ref())),
            }
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

pub(super) fn blocked(facts: &Facts, blockers: &[Blocker]) -> Answer {
    let names = |wanted: &dyn Fn(&Blocker) -> bool| -> Vec<&str> {
        let found = blockers.iter().filter(|b| b.root && wanted(b));
        found.map(|b| b.task.as_str()).collect()
    };
    let direct = facts.nodes.get(&facts.task.id).map_or(0, |node| node.open.len()) as u64;
    let mut because = vec![format!(
        "It waits for {} not done yet.",
        count(direct, "dependency that is", "dependencies that are")
    )];
    let detour = llm::detour(&facts.task).filter(|detour| is_direct(facts, &detour.task));
    because.extend(detour.as_ref().map(llm::Detour::sentence));
    let waits =
        if detour.is_some() { Verdict::WaitsForDetour } else { Verdict::WaitsForDependencies };
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
    let parked = names(&|b| is_parked_root(facts, b));
    if let Some(first) = parked.first() {
        because.push(format!("The root cause: the budget of {} is spent.", list(&parked)));
        let next = format!("nothing by itself: `orch explain {first}` says what to do");
        return answer(Verdict::Stuck, because, next);
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
        return answer(waits, because, next);
    }
    if !running.is_empty() {
        because.push(format!("Being worked on: {}.", list(&running)));
    }
    answer(waits, because, "it becomes ready by itself when these are done; there is nothing to do")
}

fn is_direct(facts: &Facts, id: &str) -> bool {
    let node = facts.nodes.get(&facts.task.id);
    node.is_some_and(|node| node.open.iter().any(|open| open.as_str() == id))
}

fn is_parked_root(facts: &Facts, blocker: &Blocker) -> bool {
    let node = facts.nodes.get(&blocker.task);
    node.and_then(|node| node.task.as_ref()).is_some_and(is_parked)
}

fn list(names: &[&str]) -> String {
    let shown: Vec<&str> = names.iter().take(5).copied().collect();
    let more =
        if names.len() > 5 { format!(" and {} more", names.len() - 5) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}
