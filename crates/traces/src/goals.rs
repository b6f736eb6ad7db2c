//! Goals: declared, planned, done.

use std::collections::HashMap;

use store::event::Event;

use crate::builder::{call, micros};
use crate::ids;
use crate::span::{Service, Span, Status};

/// Goals under way.
#[derive(Debug)]
pub(crate) struct Goals {
    fleet: String,
    goals: HashMap<String, Track>,
}

#[derive(Debug, Default)]
struct Track {
    /// Since when a plan is asked for.
    asked: Option<u64>,
    /// Calls of a model for it, and what went wrong.
    calls: Vec<Event>,
    troubles: Vec<(u64, String)>,
    /// The plan in force, until its end.
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    goal: Span,
    run: Span,
    parts: Vec<Span>,
}

impl Goals {
    pub(crate) fn new(fleet: &str) -> Self {
        Self { fleet: fleet.to_owned(), goals: HashMap::new() }
    }

    /// Returns the generation of a plan that came into force.
    pub(crate) fn event(&mut self, event: &Event, over: &mut Vec<Span>) -> Option<String> {
        let id = event.field("goal");
        if id.is_empty() {
            return None;
        }
        let now = micros(event);
        match event.kind.as_str() {
            "goal-declare" => _ = self.track(id).asked.get_or_insert(now),
            "goal-plan-retry" | "goal-plan-held" | "goal-plan-failed" => {
                let track = self.track(id);
                track.asked.get_or_insert(now);
                track.troubles.push((now, trouble(event)));
            }
            // An agent's are for its tasks.
            "llm-call" if event.field("task").is_empty() && event.field("agent").is_empty() => {
                self.track(id).calls.push(event.clone());
            }
            "goal-accept" => {
                self.accept(event, now, over);
                return Some(event.field("generation").to_owned());
            }
            "goal-active" => {
                if let Some(running) = &mut self.track(id).running {
                    running.goal.note(now, "active again");
                }
            }
            "goal-complete" => self.finish(id, now, Status::Ok, over),
            "goal-failed" => {
                self.finish(id, now, Status::Error(event.field("reason").to_owned()), over);
            }
            _ => {}
        }
        None
    }

    fn track(&mut self, id: &str) -> &mut Track {
        self.goals.entry(id.to_owned()).or_default()
    }

    fn accept(&mut self, event: &Event, now: u64, over: &mut Vec<Span>) {
        let (id, generation) = (event.field("goal"), event.field("generation"));
        let place = ids::goal(&self.fleet, id, generation);
        let track = self.track(id);
        if let Some(mut replaced) = track.running.take() {
            replaced.goal.note(now, "another plan took its place");
            end(replaced, now, Status::Unset, over);
        }
        let calls = std::mem::take(&mut track.calls);
        let first_call = calls.first().map(|call| {
            let took = call.field("ms").parse::<u64>().unwrap_or(0).saturating_mul(1_000);
            micros(call).saturating_sub(took)
        });
        let since = track.asked.take().or(first_call).unwrap_or(now).min(now);
        let goal = Span::root(place, "goal", Service::Orchestrator, since)
            .with("orch.goal", id)
            .with_number("orch.generation", generation)
            .with_number("orch.tasks", event.field("tasks"));
        let mut plan = goal.part("plan", "plan", since);
        for (at, text) in std::mem::take(&mut track.troubles) {
            plan.note(at, text);
        }
        plan.end(now, Status::Ok);
        let mut parts: Vec<Span> = calls.iter().map(|event| call(&plan, event)).collect();
        parts.push(plan);
        let run = goal.part("run", "run", now);
        track.running = Some(Running { goal, run, parts });
    }

    fn finish(&mut self, id: &str, now: u64, status: Status, over: &mut Vec<Span>) {
        if let Some(running) = self.track(id).running.take() {
            end(running, now, status, over);
        }
    }

    pub(crate) fn open(&self, open: &mut Vec<Span>) {
        let mut running: Vec<&Running> =
            self.goals.values().filter_map(|track| track.running.as_ref()).collect();
        running.sort_by_key(|running| (running.goal.start_us, running.goal.place));
        for running in running {
            open.extend(running.parts.iter().cloned());
            open.extend([running.run.clone(), running.goal.clone()]);
        }
    }
}

fn trouble(event: &Event) -> String {
    let what = event.kind.trim_start_matches("goal-").replace('-', " ");
    let why = ["plan_error", "plan_held", "reason"].map(|name| event.field(name));
    match why.into_iter().find(|why| !why.is_empty()) {
        Some(why) => format!("{what}: {why}"),
        None => what,
    }
}

fn end(running: Running, now: u64, status: Status, over: &mut Vec<Span>) {
    let Running { goal, run, parts } = running;
    over.extend(parts);
    over.push(run.ended(now, status.clone()));
    over.push(goal.ended(now, status));
}
