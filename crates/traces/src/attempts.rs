//! Attempts at tasks.

use std::collections::HashMap;

use store::event::Event;

use crate::builder::{call, goal_place, micros};
use crate::span::{Link, Place, Service, Span, Status};
use crate::{ids, recoveries};

/// Attempts under way, and what has to be known of a task for its next one.
#[derive(Debug)]
pub(crate) struct Attempts {
    fleet: String,
    pub(crate) waits_for: HashMap<String, Vec<String>>,
    tasks: HashMap<String, Track>,
    /// Since when a plan is in force: its first tasks are READY since then.
    accepted: HashMap<String, u64>,
    /// By agent, the calls by which it chooses: which attempt they are part of shows with
    /// its next grant.
    choosing: HashMap<String, Vec<Event>>,
}

/// A choice is acted on at once: one that was longer ago led to nothing. In microseconds.
const CHOICE_HOLDS: u64 = 5_000_000;

#[derive(Debug, Default)]
struct Track {
    ready_since: Option<u64>,
    /// The death that ended the last attempt.
    lost: Option<Place>,
    running: Option<Running>,
    /// The attempt that was accepted.
    done: Option<Place>,
}

#[derive(Debug)]
struct Running {
    attempt: Span,
    execute: Span,
    parts: Vec<Span>,
}

impl Running {
    /// All of it, parts before the whole.
    fn into_spans(self) -> impl Iterator<Item = Span> {
        self.parts.into_iter().chain([self.execute, self.attempt])
    }
}

impl Attempts {
    pub(crate) fn new(fleet: &str) -> Self {
        Self {
            fleet: fleet.to_owned(),
            waits_for: HashMap::new(),
            tasks: HashMap::new(),
            accepted: HashMap::new(),
            choosing: HashMap::new(),
        }
    }

    /// A plan of a goal is in force from here on.
    pub(crate) fn accepted(&mut self, event: &Event, generation: &str) {
        let plan = plan(event.field("goal"), generation);
        self.accepted.insert(plan, micros(event));
    }

    pub(crate) fn event(&mut self, event: &Event, over: &mut Vec<Span>) {
        let (task, agent) = (event.field("task"), event.field("agent"));
        if task.is_empty() {
            if event.kind == "llm-call" && !agent.is_empty() {
                self.chosen(agent, event);
            } else if event.kind == "agent-register" {
                self.choosing.remove(agent);
            }
            return;
        }
        let now = micros(event);
        match event.kind.as_str() {
            "task-claim" => self.claimed(event, now),
            "llm-call" => self.called(event),
            "task-remove" => {
                self.tasks.remove(task);
                self.waits_for.remove(task);
            }
            kind if kind.starts_with("task-") => self.moved(event, now, over),
            _ => {}
        }
    }

    fn claimed(&mut self, event: &Event, now: u64) {
        let (task, epoch) = (event.field("task"), event.field("epoch"));
        let place = ids::attempt(&self.fleet, task, epoch);
        let dependencies = self.waits_for.get(task).into_iter().flatten();
        let done = dependencies
            .filter_map(|id| self.tasks.get(id)?.done)
            .map(|to| Link { to, kind: "dependency" });
        let done: Vec<Link> = done.collect();
        let plan = plan(event.field("goal"), event.field("generation"));
        let accepted = self.accepted.get(&plan).copied();
        let track = self.tasks.entry(task.to_owned()).or_default();
        let since = track.ready_since.take().or(accepted).unwrap_or(now).min(now);
        let attempt = Span::root(place, "attempt", Service::Orchestrator, since)
            .with("orch.goal", event.field("goal"))
            .with("orch.task", task)
            .with_number("orch.attempt", event.field("attempt"))
            .with_number("orch.epoch", epoch)
            .with_number("orch.generation", event.field("generation"))
            .with("orch.agent", event.field("agent"))
            .with_number("orch.incarnation", event.field("incarnation"));
        let goal = Link { to: goal_place(&self.fleet, event), kind: "goal" };
        let lost = track.lost.take().map(|to| Link { to, kind: "recovery" });
        let mut wait = attempt.part("wait", "wait", since).ended(now, Status::Unset);
        // Not those of the attempt: Jaeger's page takes a root with links for a part whose
        // whole is missing.
        wait.links = [goal].into_iter().chain(lost).chain(done).collect();
        let mut execute = attempt.part("execute", "execute", now);
        execute.service = Service::Agent(event.field("agent").to_owned());
        let chosen = self.choosing.remove(event.field("agent")).unwrap_or_default();
        let parts = select(&attempt, &execute.service, &chosen, now);
        let parts = parts.into_iter().chain([wait]).collect();
        track.running = Some(Running { attempt, execute, parts });
    }

    /// A call that is to choose a task is over.
    fn chosen(&mut self, agent: &str, event: &Event) {
        let calls = self.choosing.entry(agent.to_owned()).or_default();
        if calls.last().is_some_and(|last| last.field("outcome") == "ok") {
            calls.clear();
        }
        calls.push(event.clone());
    }

    fn called(&mut self, event: &Event) {
        let place = self.place(event);
        let track = self.tasks.get_mut(event.field("task"));
        let Some(running) = track.and_then(|track| track.running.as_mut()) else { return };
        if running.attempt.place == place {
            let call = call(&running.execute, event);
            running.parts.push(call);
        }
    }

    fn place(&self, event: &Event) -> Place {
        ids::attempt(&self.fleet, event.field("task"), event.field("epoch"))
    }

    /// The task's state changed otherwise than by a grant.
    fn moved(&mut self, event: &Event, now: u64, over: &mut Vec<Span>) {
        let place = self.place(event);
        let death = recoveries::place(&self.fleet, event);
        let track = self.tasks.entry(event.field("task").to_owned()).or_default();
        let cause = event.kind.trim_start_matches("task-");
        if event.field("from") == "running"
            && let Some(mut running) = track.running.take()
        {
            let reason = event.field("reason");
            let status = match cause {
                "complete" => Status::Ok,
                "retry" | "fail" | "lose" => Status::Error(reason.to_owned()),
                _ => Status::Unset,
            };
            if cause == "complete" {
                track.done = Some(place);
            }
            if cause == "lose" {
                track.lost = Some(death);
            }
            running.execute.end(now, status.clone());
            running.attempt.end(now, status);
            running.attempt = running.attempt.with("orch.outcome", cause);
            running.attempt = running.attempt.with("orch.reason", reason);
            over.extend(running.into_spans());
        }
        match event.field("to") {
            "ready" => _ = track.ready_since.get_or_insert(now),
            "blocked" => track.ready_since = None,
            _ => {}
        }
        if cause == "reset" || cause == "revise" {
            track.done = None;
        }
    }

    pub(crate) fn waited(&self, task: &str) -> Option<u64> {
        let running = self.tasks.get(task)?.running.as_ref()?;
        Some(running.execute.start_us.saturating_sub(running.attempt.start_us))
    }

    pub(crate) fn open(&self, open: &mut Vec<Span>) {
        let mut running: Vec<&Running> =
            self.tasks.values().filter_map(|track| track.running.as_ref()).collect();
        running.sort_by_key(|running| (running.attempt.start_us, running.attempt.place));
        for running in running {
            open.extend(running.parts.iter().cloned());
            open.extend([running.execute.clone(), running.attempt.clone()]);
        }
    }
}

/// How the task was chosen, where a model did that: the calls before the whole.
fn select(attempt: &Span, agent: &Service, calls: &[Event], now: u64) -> Vec<Span> {
    let recent = |call: &&Event| micros(call).saturating_add(CHOICE_HOLDS) >= now;
    let Some(last) = calls.last().filter(recent) else { return Vec::new() };
    let mut select = attempt.part("select", "select", attempt.start_us);
    select.service = agent.clone();
    let mut spans: Vec<Span> = calls.iter().map(|event| call(&select, event)).collect();
    if let Some(first) = spans.iter().map(|span| span.start_us).min() {
        select.start_us = first;
    }
    let end = spans.iter().filter_map(|span| span.end_us).max().unwrap_or(now);
    let status = if last.field("outcome") == "ok" { Status::Ok } else { Status::Unset };
    spans.push(select.ended(end, status));
    spans
}

fn plan(goal: &str, generation: &str) -> String {
    format!("{goal} {generation}")
}
