//! The end of a check: what the history says against what stands in Redis.

use std::collections::{HashMap, HashSet};

use model::goal::Counts;
use model::task::{MAX_LOSSES, State as Status};

use crate::checker::{Checker, Claim, GoalTrack, violation};
use crate::report::{EventId, Report};
use crate::rule::Rule;
use crate::state::{GoalState, State, TaskState, by_id};
use crate::task::{Fault, Standing};

/// The most names in a sentence.
const SHOWN: usize = 5;

impl Checker {
    /// What was found in the history so far, and in the state that it led to. Goals that
    /// are not in `state` are judged by their events alone. It can be asked again later.
    #[must_use]
    pub fn finish(&self, state: &State) -> Report {
        let mut report = self.report.clone();
        report.complete = !self.missing;
        let empty = GoalTrack::default();
        for goal in state.goals.iter().filter(|goal| goal.generation > 0) {
            report.goals += 1;
            report.tasks += goal.tasks.len() as u64;
            let track = self.goals.get(&goal.id).unwrap_or(&empty);
            Ending { checker: self, goal, track, tasks: by_id(&goal.tasks), report: &mut report }
                .check();
        }
        report
    }
}

/// One goal's end.
struct Ending<'a> {
    checker: &'a Checker,
    goal: &'a GoalState,
    track: &'a GoalTrack,
    tasks: HashMap<&'a str, &'a TaskState>,
    report: &'a mut Report,
}

impl Ending<'_> {
    fn check(&mut self) {
        if self.track.plan_moved {
            // What was read may be of two plans.
            self.report.moved_tasks += self.goal.tasks.len() as u64;
            self.report.unchecked_claims += self.track.claims.len() as u64;
            return;
        }
        if let Some(fault) = self.plan() {
            self.found(fault, None);
            return;
        }
        let goal = self.goal;
        // Those whose state says something: it was not written meanwhile, and agrees.
        let mut settled = HashSet::with_capacity(goal.tasks.len());
        let mut agrees = true;
        for task in &goal.tasks {
            if self.checker.tasks.get(&task.id).is_some_and(|track| track.moved) {
                self.report.moved_tasks += 1;
                continue;
            }
            let standing = self.checker.standing(&task.id);
            if standing == Standing::Unknown {
                self.report.unseen_tasks += 1;
            }
            match self.state(task, standing) {
                None => _ = settled.insert(task.id.as_str()),
                Some(fault) => {
                    agrees = false;
                    self.found(fault, Some(&task.id));
                }
            }
        }
        for task in goal.tasks.iter().filter(|task| settled.contains(task.id.as_str())) {
            for fault in self.record(task, &settled) {
                self.found(fault, Some(&task.id));
            }
        }
        agrees &= self.strays();
        if agrees && let Some(fault) = self.sums() {
            self.found(fault, None);
        }
        for claim in &self.track.claims {
            self.dependencies(claim);
        }
    }

    fn found(&mut self, fault: Fault, task: Option<&str>) {
        self.report.add(violation(fault, Some(&self.goal.id), task, None));
    }

    fn last_of(&self, id: &str) -> Vec<EventId> {
        let track = self.checker.tasks.get(id);
        track
            .map(|track| track.last)
            .filter(|last| *last != EventId::default())
            .into_iter()
            .collect()
    }

    /// Whether the plan in force is the one that was accepted last.
    fn plan(&self) -> Option<Fault> {
        let in_force = self.goal.generation;
        match self.track.accepted {
            Some(accepted) if accepted.generation == in_force => None,
            Some(accepted) => {
                let last = accepted.generation;
                let text = format!("plan {in_force} is in force, but the last accepted is {last}");
                Some(Fault::new(Rule::S1, text, vec![accepted.event]))
            }
            None if self.checker.missing => None,
            None => {
                let text =
                    format!("plan {in_force} is in force, and no event says it was accepted");
                Some(Fault::new(Rule::S1, text, Vec::new()))
            }
        }
    }

    /// Whether a task is where its events left it.
    fn state(&self, task: &TaskState, standing: Standing) -> Option<Fault> {
        let last = self.last_of(&task.id);
        let Some(word) = &task.status else {
            let text = "it is lost: it is in the plan and has no record".to_owned();
            return Some(Fault::new(Rule::S1, text, last));
        };
        let Some(state) = task.state() else {
            let text = format!("it is in no state: its record says `{}`", word.escape_debug());
            return Some(Fault::new(Rule::S1, text, last));
        };
        let is_new = matches!(state, Status::Ready | Status::Blocked);
        let text = match standing {
            Standing::Unknown => return None,
            Standing::Fresh | Standing::Removed if is_new => return None,
            Standing::Fresh | Standing::Removed => {
                format!("it is {state}, and no event says how it came to that")
            }
            Standing::In(left) if left == state => return None,
            Standing::In(left) => format!("it is {state}, but its last event left it {left}"),
        };
        Some(Fault::new(Rule::S1, text, last))
    }

    /// What a record must say in the state that it is in.
    fn record(&self, task: &TaskState, settled: &HashSet<&str>) -> Vec<Fault> {
        let last = self.last_of(&task.id);
        let mut faults = Vec::new();
        let mut say = |rule, text| faults.push(Fault::new(rule, text, last.clone()));
        match task.state() {
            Some(Status::Done) => {
                let missing: Vec<&str> = task
                    .expected_artifacts
                    .iter()
                    .filter(|path| !task.artifacts.contains(path))
                    .map(String::as_str)
                    .collect();
                if !missing.is_empty() {
                    say(Rule::Evidence, format!("it is DONE without {}", listed(&missing)));
                }
            }
            Some(Status::Failed) => {
                if task.reason.is_empty() {
                    say(Rule::S6, "it is FAILED and its record gives no reason".to_owned());
                }
            }
            Some(Status::Running) => {
                let held = self.checker.tasks.get(&task.id).and_then(|track| track.grant.as_ref());
                if let Some(held) = held
                    && (held.epoch != task.epoch || held.agent != task.owner)
                {
                    let text = format!(
                        "{} holds it under epoch {}, but it was granted to {} under epoch {}",
                        task.owner, task.epoch, held.agent, held.epoch
                    );
                    say(Rule::S3, text);
                }
            }
            Some(Status::Ready) => {
                let open = self.open_dependencies(task, settled);
                if !open.is_empty() {
                    say(
                        Rule::S5,
                        format!("it is READY though {} not DONE", are(&open, "is", "are")),
                    );
                }
            }
            Some(Status::Blocked) | None => {}
        }
        faults.extend(self.attempts(task));
        faults
    }

    /// Dependencies that are surely not done.
    fn open_dependencies<'t>(&self, task: &'t TaskState, settled: &HashSet<&str>) -> Vec<&'t str> {
        let is_open = |id: &&str| {
            let dep = self.tasks.get(id);
            settled.contains(id) && dep.is_some_and(|dep| dep.state() != Some(Status::Done))
        };
        task.waits_for.iter().map(String::as_str).filter(is_open).collect()
    }

    fn attempts(&self, task: &TaskState) -> Option<Fault> {
        if task.state() == Some(Status::Failed) {
            return None;
        }
        let most = task.max_attempts;
        let track = self.checker.tasks.get(&task.id);
        let retries = track
            .filter(|track| track.generation == task.generation)
            .map(|track| track.retries)
            .filter(|retries| retries.times >= most);
        if let Some(retries) = retries {
            let text =
                format!("it failed {} times of {most} allowed and is not FAILED", retries.times);
            return Some(Fault::new(Rule::S6, text, vec![retries.first, retries.last]));
        }
        let text = if task.failures >= most {
            format!(
                "its record counts {} failures of {most} allowed, and it is not FAILED",
                task.failures
            )
        } else if task.losses >= MAX_LOSSES {
            format!(
                "its record counts {} losses of {MAX_LOSSES} allowed, and it is not FAILED",
                task.losses
            )
        } else {
            return None;
        };
        Some(Fault::new(Rule::S6, text, self.last_of(&task.id)))
    }

    /// Tasks whose events put them into this plan, which does not have them. Whether there
    /// is none.
    fn strays(&mut self) -> bool {
        let mut strays: Vec<&str> = self
            .checker
            .tasks
            .iter()
            .filter(|(_, track)| track.goal == self.goal.id && !track.moved)
            .filter(|(_, track)| matches!(track.standing, Standing::In(_)))
            .map(|(id, _)| id.as_str())
            .filter(|id| !self.tasks.contains_key(id))
            .collect();
        strays.sort_unstable();
        for id in &strays {
            let text = "it is lost: the plan is without it, and no event says why".to_owned();
            let fault = Fault::new(Rule::S1, text, self.last_of(id));
            self.found(fault, Some(id));
        }
        strays.is_empty()
    }

    /// Whether the counts add up.
    fn sums(&self) -> Option<Fault> {
        let nodes = self.goal.tasks.len() as u64;
        if let Some(accepted) = self.track.accepted.filter(|accepted| accepted.tasks != nodes) {
            let tasks = accepted.tasks;
            let text = format!("the plan has {nodes} tasks, its events gave it {tasks}");
            return Some(Fault::new(Rule::S1, text, vec![accepted.event]));
        }
        if self.track.moved {
            return None;
        }
        let mut counted = Counts::default();
        for task in &self.goal.tasks {
            match task.state()? {
                Status::Blocked => counted.blocked += 1,
                Status::Ready => counted.ready += 1,
                Status::Running => counted.running += 1,
                Status::Done => counted.done += 1,
                Status::Failed => counted.failed += 1,
            }
        }
        let kept = self.goal.counts;
        let text = || {
            format!("the counts do not add up: kept {}, found {}", words(&kept), words(&counted))
        };
        (kept != counted).then(|| Fault::new(Rule::S1, text(), Vec::new()))
    }

    /// Whether everything that a task waits for was done when it was granted.
    fn dependencies(&mut self, claim: &Claim) {
        let Some(task) = self.tasks.get(claim.task.as_str()) else {
            self.report.unchecked_claims += 1;
            return;
        };
        let later = self.track.inserted.get(&claim.task);
        let came_later = |dep: &str| {
            later.is_some_and(|list| list.iter().any(|(id, at)| id == dep && *at > claim.ordinal))
        };
        let mut open = Vec::new();
        let mut events = vec![claim.event];
        for dep in task.waits_for.iter().filter(|dep| !came_later(dep)) {
            let Some(on_record) = self.tasks.get(dep.as_str()) else {
                self.report.unchecked_claims += 1;
                return;
            };
            let track = self.checker.tasks.get(dep);
            let seen = track.filter(|track| track.standing != Standing::Unknown);
            let was_done = match seen {
                Some(track) => track.done_at.is_some_and(|at| at < claim.ordinal),
                // Without an event since, it is as it was.
                None => self.checker.missing && on_record.state() == Some(Status::Done),
            };
            if !was_done {
                open.push(dep.as_str());
                events.extend(seen.map(|track| track.last).filter(|l| *l != EventId::default()));
            }
        }
        if !open.is_empty() {
            let text = format!("it was granted though {} not DONE", are(&open, "was", "were"));
            let id = claim.task.clone();
            let fault = Fault::new(Rule::S5, text, events);
            self.found(fault, Some(&id));
        }
    }
}

fn listed(names: &[&str]) -> String {
    let shown: Vec<&str> = names.iter().take(SHOWN).copied().collect();
    let more = names.len().saturating_sub(SHOWN);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

fn are(names: &[&str], one: &str, many: &str) -> String {
    format!("{} {}", listed(names), if names.len() == 1 { one } else { many })
}

fn words(counts: &Counts) -> String {
    let Counts { blocked, ready, running, done, failed } = counts;
    format!("{blocked} blocked, {ready} ready, {running} running, {done} done, {failed} failed")
}
