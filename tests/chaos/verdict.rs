//! What must hold when all is over.

use std::collections::BTreeMap;

use model::task::State;
use process::Identity;
use store::task::Task;
use testkit::wait_until_blocking;

use crate::effects::{self, Effects, twice};
use crate::report::Tally;
use crate::scene::Scene;
use crate::settings::Settings;
use crate::support::{DEADLINE, goal_001};

/// The most violations that are told in full.
const TOLD: usize = 20;

/// Looks at everything. What is wrong, in sentences.
pub(crate) async fn judge(scene: &Scene, settings: &Settings) -> (Tally, Vec<String>) {
    let mut wrong = Vec::new();
    let tasks = scene.fleet.store.tasks(&goal_001()).await.unwrap();
    let effects = effects::read(&scene.effects());
    states(scene, &tasks, &mut wrong);
    accepted(scene, settings, &tasks, &mut wrong);
    happened(&tasks, &effects, &mut wrong);
    leftovers(scene);
    let audit = audit(scene, &mut wrong);
    doctor(scene, &mut wrong);
    let seen = scene.witness.seen();
    wrong.extend(seen.broken.iter().cloned());
    let tally = Tally {
        done: tasks.iter().filter(|task| task.status == State::Done).count(),
        attempts: seen.count("task-claim"),
        completions: seen.count("task-complete"),
        losses: seen.count("task-lose"),
        failures: seen.count("task-retry") + seen.count("task-fail"),
        begun: effects.values().map(|of| of.began.len()).sum(),
        ended: effects.values().map(|of| of.ended.len()).sum(),
        repeated: effects.values().filter(|of| of.ended.len() > 1).count(),
        audit,
        memory: memory(scene),
    };
    let more = wrong.len().saturating_sub(TOLD);
    wrong.truncate(TOLD);
    if more > 0 {
        wrong.push(format!("and {more} more"));
    }
    (tally, wrong)
}

/// What the parts that live for long use: what grows without end shows in a soak.
fn memory(scene: &Scene) -> String {
    let used = |process: &Identity| {
        let status = scene.fleet.read(format!("/proc/{}/status", process.pid));
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("?");
        let open = std::fs::read_dir(format!("/proc/{}/fd", process.pid));
        format!("{} and {} files", rss.trim(), open.map_or(0, Iterator::count))
    };
    let orchestrator: Vec<String> = scene.fleet.orchestrators().iter().map(used).collect();
    let redis = used(&scene.fleet.redis_process());
    format!("the orchestrator uses {}, Redis {redis}", orchestrator.join(", "))
}

/// Every task of the plan is there, and DONE.
fn states(scene: &Scene, tasks: &[Task], wrong: &mut Vec<String>) {
    let by_id: BTreeMap<&str, &Task> = tasks.iter().map(|task| (task.id.as_str(), task)).collect();
    for id in &scene.plan.tasks {
        match by_id.get(id.as_str()) {
            Some(task) if task.status == State::Done => {}
            Some(task) => wrong.push(format!("{id} is {}: {:?}", task.status, task.reason)),
            None => wrong.push(format!("{id} is lost")),
        }
    }
    if by_id.len() != scene.plan.tasks.len() {
        wrong.push(format!("{} tasks of {}", by_id.len(), scene.plan.tasks.len()));
    }
}

/// What was seen accepted since Redis last lost data is still accepted, under the same
/// grant. With `everysec` Redis may have lost the last second.
fn accepted(scene: &Scene, settings: &Settings, tasks: &[Task], wrong: &mut Vec<String>) {
    if settings.fsync != "always" {
        return;
    }
    let seen = scene.witness.seen();
    for task in tasks {
        let before = seen.accepted.get(task.id.as_str());
        if let Some(before) = before.filter(|before| before.epoch != task.epoch.0) {
            wrong.push(format!("{} was accepted as {before:?} and is now {}", task.id, task.epoch));
        }
    }
}

/// What is DONE was done, and nothing was done twice under one grant.
fn happened(tasks: &[Task], effects: &BTreeMap<String, Effects>, wrong: &mut Vec<String>) {
    for task in tasks {
        let id = task.id.as_str();
        let Some(of) = effects.get(id) else {
            wrong.push(format!("{id} is {} and never began", task.status));
            continue;
        };
        if !of.ended.contains(&task.epoch.0) {
            wrong.push(format!(
                "{id} is {} by {} and came to no end: {of:?}",
                task.status, task.epoch
            ));
        }
        for (what, epochs) in [("began", &of.began), ("ended", &of.ended)] {
            let twice = twice(epochs);
            if !twice.is_empty() {
                wrong.push(format!("{id} {what} twice under {twice:?}"));
            }
        }
    }
}

/// Nothing runs for an attempt any more.
fn leftovers(scene: &Scene) {
    let project = &scene.fleet.project;
    wait_until_blocking("nothing runs for an attempt", DEADLINE, || {
        let mine = project.processes();
        let marked = process::find_by_env(agent_controller::attempt::MARKER, |_| true).unwrap();
        let left: Vec<Identity> = marked.into_iter().filter(|one| mine.contains(one)).collect();
        if left.is_empty() { Ok(()) } else { Err(scene.fleet.describe(&left)) }
    });
}

fn audit(scene: &Scene, wrong: &mut Vec<String>) -> String {
    let output = scene.fleet.orch(&["audit"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.code() != Some(0) {
        let error = String::from_utf8_lossy(&output.stderr);
        wrong.push(format!("orch audit: {:?}\n{said}{error}", output.status.code()));
    }
    said.lines().last().unwrap_or_default().to_owned()
}

fn doctor(scene: &Scene, wrong: &mut Vec<String>) {
    let sysg = testkit::sysg_path();
    let sysg = sysg.to_string_lossy();
    let output = scene.fleet.orch(&["doctor", "--sysg", &sysg, "--llm-provider", "offline"]);
    if output.status.code() != Some(0) {
        wrong.push(format!("orch doctor: {}", String::from_utf8_lossy(&output.stdout)));
    }
    let status = scene.fleet.status();
    for leftover in ["problems", "standbys"] {
        if status[leftover].as_array().is_none_or(|list| !list.is_empty()) {
            wrong.push(format!("orch status shows {leftover}: {}", status[leftover]));
        }
    }
}
