//! Recoveries: from the death of an agent until it is back and its task runs again.

use std::collections::BTreeMap;

use store::event::Event;

use crate::builder::micros;
use crate::ids;
use crate::span::{Link, Place, Service, Span, Status};

/// Recoveries under way, by agent. Of two deaths of one agent the later goes on.
#[derive(Debug)]
pub(crate) struct Recoveries {
    fleet: String,
    agents: BTreeMap<String, Running>,
}

#[derive(Debug)]
struct Running {
    recovery: Span,
    respawn: Span,
    /// Until the lost task runs again; none where there was none.
    again: Option<(String, Span)>,
}

impl Running {
    fn is_over(&self) -> bool {
        let again = self.again.as_ref().is_none_or(|(_, span)| span.end_us.is_some());
        again && self.respawn.end_us.is_some()
    }

    fn into_spans(self) -> impl Iterator<Item = Span> {
        let again = self.again.map(|(_, span)| span);
        [self.respawn].into_iter().chain(again).chain([self.recovery])
    }
}

/// The recovery from the death of the process that an event names.
pub(crate) fn place(fleet: &str, event: &Event) -> Place {
    ids::recovery(fleet, event.field("agent"), event.field("incarnation"))
}

impl Recoveries {
    pub(crate) fn new(fleet: &str) -> Self {
        Self { fleet: fleet.to_owned(), agents: BTreeMap::new() }
    }

    pub(crate) fn event(&mut self, event: &Event, over: &mut Vec<Span>) {
        let now = micros(event);
        match event.kind.as_str() {
            "agent-death" => self.died(event, now, over),
            "agent-register" => {
                if let Some(running) = self.agents.get_mut(event.field("agent")) {
                    running.respawn.end(now, Status::Ok);
                    let incarnation = event.field("incarnation");
                    running.respawn.note(now, format!("registered as {incarnation}"));
                }
                self.finish(now, over);
            }
            "task-claim" => {
                let task = event.field("task");
                for running in self.agents.values_mut() {
                    if let Some((lost, span)) = &mut running.again
                        && lost == task
                        && span.end_us.is_none()
                    {
                        span.end(now, Status::Ok);
                        let to = ids::attempt(&self.fleet, task, event.field("epoch"));
                        span.links.push(Link { to, kind: "attempt" });
                    }
                }
                self.finish(now, over);
            }
            // Nothing brings it back.
            "task-fail" | "task-remove" => {
                let task = event.field("task");
                for running in self.agents.values_mut() {
                    if running.again.as_ref().is_some_and(|(lost, _)| lost == task) {
                        running.again = None;
                    }
                }
                self.finish(now, over);
            }
            _ => {}
        }
    }

    fn died(&mut self, event: &Event, now: u64, over: &mut Vec<Span>) {
        let (agent, task) = (event.field("agent"), event.field("task"));
        let mut recovery =
            Span::root(place(&self.fleet, event), "recovery", Service::Orchestrator, now)
                .with("orch.agent", agent)
                .with_number("orch.incarnation", event.field("incarnation"))
                .with("orch.task", task)
                .with("orch.reason", event.field("reason"));
        if !task.is_empty() {
            recovery.note(now, format!("{task} released"));
        }
        let respawn = recovery.part("respawn", "respawn", now);
        let again = (!task.is_empty())
            .then(|| (task.to_owned(), recovery.part("run again", "run again", now)));
        let running = Running { recovery, respawn, again };
        if let Some(mut before) = self.agents.insert(agent.to_owned(), running) {
            let died = Status::Error("the agent died again".to_owned());
            before.recovery.end(now, died.clone());
            before.respawn.end_us.get_or_insert(now);
            if let Some((_, span)) = &mut before.again {
                span.end_us.get_or_insert(now);
            }
            over.extend(before.into_spans());
        }
    }

    fn finish(&mut self, now: u64, over: &mut Vec<Span>) {
        let done: Vec<String> = self
            .agents
            .iter()
            .filter(|(_, running)| running.is_over())
            .map(|(agent, _)| agent.clone())
            .collect();
        for agent in done {
            if let Some(mut running) = self.agents.remove(&agent) {
                running.recovery.end(now, Status::Ok);
                over.extend(running.into_spans());
            }
        }
    }

    pub(crate) fn open(&self, open: &mut Vec<Span>) {
        for running in self.agents.values() {
            open.push(running.respawn.clone());
            open.extend(running.again.iter().map(|(_, span)| span.clone()));
            open.push(running.recovery.clone());
        }
    }
}
