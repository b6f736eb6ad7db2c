//! Taking a history in, event by event.

use std::collections::HashMap;

use model::GoalId;
use store::event::Event;

use crate::agents::Agents;
use crate::report::{EventId, Report, Violation};
use crate::task::{Fault, Kind, Standing, Told, Track};

/// A plan as its acceptance told it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accepted {
    pub(crate) generation: u64,
    /// How many tasks it has, with those that detours put into it since.
    pub(crate) tasks: u64,
    pub(crate) event: EventId,
}

/// A grant whose dependencies are looked at once the plan is known.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) task: String,
    pub(crate) ordinal: u64,
    pub(crate) event: EventId,
}

/// One goal's history.
#[derive(Debug, Default)]
pub(crate) struct GoalTrack {
    /// The last plan that was accepted.
    pub(crate) accepted: Option<Accepted>,
    /// Grants under the plan in force.
    pub(crate) claims: Vec<Claim>,
    /// What detours put in front of a task under the plan in force, and when.
    pub(crate) inserted: HashMap<String, Vec<(String, u64)>>,
    /// Whether it has events of the time in which the state was read.
    pub(crate) moved: bool,
    /// Whether its plan changed in that time.
    pub(crate) plan_moved: bool,
}

/// Checks a history as it is fed.
///
/// Memory: a few hundred bytes for each task, and for each grant under a plan in force.
#[derive(Debug, Default)]
pub struct Checker {
    only: Option<String>,
    /// Whether something of the history is missing.
    pub(crate) missing: bool,
    /// Whether the state was read.
    state_read: bool,
    pub(crate) tasks: HashMap<String, Track>,
    pub(crate) goals: HashMap<String, GoalTrack>,
    agents: Agents,
    /// Leader epochs by controller.
    terms: HashMap<String, u64>,
    last: Option<EventId>,
    /// What was found so far.
    pub(crate) report: Report,
}

impl Checker {
    /// For a history that is fed from its first event on, unless [`Checker::gap`] says
    /// otherwise.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same for the events of one goal, and those of no goal, as of agents.
    #[must_use]
    pub fn only(goal: &GoalId) -> Self {
        Self { only: Some(goal.to_string()), ..Self::default() }
    }

    /// Events are missing before the next one.
    pub fn gap(&mut self) {
        if self.last.is_some() {
            self.report.gaps += 1;
        }
        self.forget();
    }

    /// Redis came back with older data before the next event.
    ///
    /// It is also seen from an event whose id is not above the one before it, or from a
    /// leader whose epoch is not above that of the leader before it.
    pub fn restored(&mut self) {
        self.report.restores += 1;
        self.terms.clear();
        self.forget();
    }

    fn forget(&mut self) {
        self.missing = true;
        self.agents.forget();
        self.tasks.values_mut().for_each(Track::forget);
        for goal in self.goals.values_mut() {
            self.report.unchecked_claims += goal.claims.len() as u64;
            let moved = self.state_read;
            *goal = GoalTrack { moved, plan_moved: moved, ..GoalTrack::default() };
        }
    }

    /// What is fed from now on happened while the state was read or later: the state of
    /// what it changes is not compared.
    pub fn state_is_read_from_here(&mut self) {
        self.state_read = true;
    }

    /// Takes in the next event.
    pub fn event(&mut self, event: &Event) {
        let goal = event.field("goal");
        if self.only.as_ref().is_some_and(|only| !goal.is_empty() && only != goal) {
            return;
        }
        let id = EventId::of(event);
        if self.last.is_some_and(|last| id <= last) {
            self.restored();
        }
        self.last = Some(id);
        self.report.events += 1;
        self.report.since.get_or_insert(id);
        match event.kind.as_str() {
            "leader" => self.led(event),
            "agent-register" | "agent-death" | "agent-deregister" => self.agent(event, id),
            "goal-accept" => self.accepted(event, id),
            _ => self.task(event),
        }
    }

    fn led(&mut self, event: &Event) {
        let Ok(epoch) = event.field("epoch").parse::<u64>() else { return };
        let controller = event.field("controller");
        if self.terms.get(controller).is_some_and(|last| epoch <= *last) {
            self.restored();
        }
        self.terms.insert(controller.to_owned(), epoch);
    }

    fn agent(&mut self, event: &Event, id: EventId) {
        let name = event.field("agent");
        let Ok(incarnation) = event.field("incarnation").parse::<u64>() else { return };
        if event.kind != "agent-register" {
            self.agents.ended(name, incarnation, id);
        } else if let Some(fault) = self.agents.registered(name, incarnation, id) {
            self.report.add(violation(fault, None, None, Some(name)));
        }
    }

    fn accepted(&mut self, event: &Event, id: EventId) {
        let number = |name: &str| event.field(name).parse::<u64>().unwrap_or(0);
        let goal = self.goals.entry(event.field("goal").to_owned()).or_default();
        // What they waited for is in a plan that is no more.
        self.report.unchecked_claims += goal.claims.len() as u64;
        *goal = GoalTrack {
            accepted: Some(Accepted {
                generation: number("generation"),
                tasks: number("tasks"),
                event: id,
            }),
            moved: self.state_read,
            plan_moved: self.state_read,
            ..GoalTrack::default()
        };
    }

    fn task(&mut self, event: &Event) {
        let Some(told) = Told::read(event, self.report.events) else { return };
        let (goal_id, id) = (event.field("goal"), event.field("task"));
        if goal_id.is_empty() || id.is_empty() {
            let text = format!("a `{}` does not say of which task", event.kind);
            let fault = Fault::new(crate::Rule::S1, text, vec![told.id]);
            self.report.add(violation(fault, None, None, None));
            return;
        }
        if !self.tasks.contains_key(id) {
            self.tasks.insert(id.to_owned(), Track::new(goal_id, !self.missing));
        }
        let Some(track) = self.tasks.get_mut(id) else { return };
        if track.goal != goal_id {
            goal_id.clone_into(&mut track.goal);
        }
        track.moved |= self.state_read;
        let faults = track.event(&told, &mut self.agents, !self.missing);
        let goal = self.goals.entry(goal_id.to_owned()).or_default();
        goal.moved |= self.state_read;
        match told.kind {
            Kind::Moved(model::task::Cause::Claim) => goal.claims.push(Claim {
                task: id.to_owned(),
                ordinal: told.ordinal,
                event: told.id,
            }),
            Kind::Inserted => {
                let before = goal.inserted.entry(told.before.to_owned()).or_default();
                before.push((id.to_owned(), told.ordinal));
                goal.plan_moved |= self.state_read;
                if let Some(accepted) = &mut goal.accepted {
                    accepted.tasks = accepted.tasks.saturating_add(1);
                }
            }
            Kind::Repaired => {
                // Whether it was done before is not known any more.
                self.report.unchecked_claims += goal.claims.len() as u64;
                goal.claims.clear();
            }
            Kind::Moved(_) | Kind::Removed | Kind::Unparked => {}
        }
        let agent = (!told.agent.is_empty()).then_some(told.agent);
        for fault in faults {
            self.report.add(violation(fault, Some(goal_id), Some(id), agent));
        }
    }

    /// Where a task stands as far as its events say.
    pub(crate) fn standing(&self, task: &str) -> Standing {
        let unseen = if self.missing { Standing::Unknown } else { Standing::Fresh };
        self.tasks.get(task).map_or(unseen, |track| track.standing)
    }
}

pub(crate) fn violation(
    fault: Fault,
    goal: Option<&str>,
    task: Option<&str>,
    agent: Option<&str>,
) -> Violation {
    Violation {
        rule: fault.rule,
        text: fault.text,
        goal: goal.map(str::to_owned),
        task: task.map(str::to_owned),
        agent: agent.map(str::to_owned),
        events: fault.events,
    }
}
