//! Short ways to write a history and the state that it led to.

use audit::{GoalState, Report, Rule, State, TaskState};
use model::goal::Counts;
use store::event::Event;

/// Events of the goal `g`, one per second.
#[derive(Clone)]
pub(crate) struct History {
    pub(crate) events: Vec<Event>,
    pub(crate) millis: u64,
    generation: u64,
}

/// An agent's name and incarnation.
pub(crate) type Who = (&'static str, u64);

pub(crate) const W1: Who = ("w1", 10);
pub(crate) const W2: Who = ("w2", 20);

impl History {
    /// Nothing yet.
    pub(crate) fn empty() -> Self {
        Self { events: Vec::new(), millis: 1_800_000_000_000, generation: 0 }
    }

    /// Two agents and a plan of so many tasks.
    pub(crate) fn of(tasks: u64) -> Self {
        let mut history = Self::empty();
        history.register(W1).register(W2).accept(tasks);
        history
    }

    pub(crate) fn say(&mut self, kind: &str, fields: &[(&str, &str)]) -> &mut Self {
        self.millis += 1_000;
        self.events.push(Event {
            id: format!("{}-0", self.millis),
            kind: kind.to_owned(),
            fields: fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        });
        self
    }

    pub(crate) fn register(&mut self, (agent, incarnation): Who) -> &mut Self {
        let incarnation = incarnation.to_string();
        self.say("agent-register", &[("agent", agent), ("incarnation", &incarnation)])
    }

    pub(crate) fn died(&mut self, (agent, incarnation): Who) -> &mut Self {
        let incarnation = incarnation.to_string();
        self.say("agent-death", &[("agent", agent), ("incarnation", &incarnation)])
    }

    pub(crate) fn accept(&mut self, tasks: u64) -> &mut Self {
        self.generation += 1;
        let (generation, tasks) = (self.generation.to_string(), tasks.to_string());
        self.say("goal-accept", &[("goal", "g"), ("generation", &generation), ("tasks", &tasks)])
    }

    pub(crate) fn leader(&mut self, epoch: u64) -> &mut Self {
        self.say("leader", &[("controller", "dag"), ("epoch", &epoch.to_string())])
    }

    /// An event without a holder, of the plan in force: `from to`.
    pub(crate) fn step(&mut self, cause: &str, task: &str, from: &str, to: &str) -> &mut Self {
        self.of_plan(cause, task, (from, to), self.generation, &[])
    }

    /// The same with what else it says, of another plan.
    pub(crate) fn of_plan(
        &mut self,
        cause: &str,
        task: &str,
        (from, to): (&str, &str),
        generation: u64,
        more: &[(&str, &str)],
    ) -> &mut Self {
        let generation = generation.to_string();
        let mut fields = vec![("goal", "g"), ("task", task), ("from", from), ("to", to)];
        fields.push(("generation", &generation));
        fields.extend_from_slice(more);
        self.say(&format!("task-{cause}"), &fields)
    }

    fn held(
        &mut self,
        cause: &str,
        task: &str,
        (from, to): (&str, &str),
        (agent, incarnation): Who,
        epoch: u64,
        reason: &str,
    ) -> &mut Self {
        let (incarnation, epoch) = (incarnation.to_string(), epoch.to_string());
        let more = [
            ("agent", agent),
            ("incarnation", &incarnation),
            ("epoch", &epoch),
            ("reason", reason),
        ];
        self.of_plan(cause, task, (from, to), self.generation, &more)
    }

    pub(crate) fn claim(&mut self, task: &str, who: Who, epoch: u64) -> &mut Self {
        self.held("claim", task, ("ready", "running"), who, epoch, "")
    }

    pub(crate) fn complete(&mut self, task: &str, who: Who, epoch: u64) -> &mut Self {
        self.held("complete", task, ("running", "done"), who, epoch, "")
    }

    pub(crate) fn fail(&mut self, task: &str, who: Who, epoch: u64, reason: &str) -> &mut Self {
        self.held("fail", task, ("running", "failed"), who, epoch, reason)
    }

    /// Back to READY: `retry`, `lose`, `release`, `drop` or `detour`.
    pub(crate) fn back(&mut self, cause: &str, task: &str, who: Who, epoch: u64) -> &mut Self {
        self.held(cause, task, ("running", "ready"), who, epoch, "why")
    }

    /// Claimed and completed.
    pub(crate) fn run(&mut self, task: &str, who: Who, epoch: u64) -> &mut Self {
        self.claim(task, who, epoch).complete(task, who, epoch)
    }

    /// Checks it against the plan in force in this state.
    pub(crate) fn check(&self, tasks: &[TaskState]) -> Report {
        audit::check(&self.events, &self.state(tasks))
    }

    pub(crate) fn state(&self, tasks: &[TaskState]) -> State {
        let mut counts = Counts::default();
        for task in tasks {
            match task.status.as_deref() {
                Some("blocked") => counts.blocked += 1,
                Some("ready") => counts.ready += 1,
                Some("running") => counts.running += 1,
                Some("done") => counts.done += 1,
                Some("failed") => counts.failed += 1,
                _ => {}
            }
        }
        let (id, generation) = ("g".to_owned(), self.generation);
        State { goals: vec![GoalState { id, generation, counts, tasks: tasks.to_vec() }] }
    }

    /// Breaks `rule` and nothing else; what is said of it has `part` in it.
    #[track_caller]
    pub(crate) fn breaks(&self, rule: Rule, part: &str, tasks: &[TaskState]) {
        assert_only(&self.check(tasks), rule, part);
    }

    #[track_caller]
    pub(crate) fn is_clean(&self, tasks: &[TaskState]) -> Report {
        let report = self.check(tasks);
        assert!(report.is_clean(), "{report:#?}");
        report
    }
}

#[track_caller]
pub(crate) fn assert_only(report: &Report, rule: Rule, part: &str) {
    let [found] = report.violations.as_slice() else { panic!("{report:#?}") };
    assert_eq!(found.rule, rule, "{found:#?}");
    assert!(found.text.contains(part), "{found:#?}");
}

/// A task of the first plan in this state.
pub(crate) fn task(id: &str, status: &str, waits_for: &[&str]) -> TaskState {
    TaskState {
        id: id.to_owned(),
        status: Some(status.to_owned()),
        generation: 1,
        max_attempts: 3,
        waits_for: waits_for.iter().map(|dep| (*dep).to_owned()).collect(),
        ..TaskState::default()
    }
}

pub(crate) fn running(id: &str, (agent, _): Who, epoch: u64) -> TaskState {
    TaskState { owner: agent.to_owned(), epoch, ..task(id, "running", &[]) }
}

pub(crate) fn failed(id: &str, reason: &str) -> TaskState {
    TaskState { reason: reason.to_owned(), ..task(id, "failed", &[]) }
}
