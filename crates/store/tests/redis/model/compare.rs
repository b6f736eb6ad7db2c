//! Whether Redis holds what the model says.

use std::collections::{BTreeMap, BTreeSet};

use model::TaskId;
use model::lease::Epoch;
use model::task::State;
use store::task::Task as Stored;

use super::reference::{Due, Reference, Task};
use super::run::{Run, name};
use super::{AGENTS, ROLES};
use crate::world::goal;

/// When the parked tasks begin, in microseconds: in the year 9999.
const PARKED_FROM: f64 = 253_370_764_800_000_000.0;

/// What of a task is compared.
#[derive(Debug, PartialEq)]
struct Facts {
    status: State,
    owner: Option<String>,
    epoch: u64,
    attempt: u32,
    failures: u32,
    losses: u32,
    max_attempts: u32,
    /// Of reviews, and to recover.
    detours: (u32, u32),
    waiting: u32,
    priority: u32,
    generation: u64,
    role: Option<String>,
    title: String,
}

impl Facts {
    fn stored(task: &Stored) -> Self {
        Self {
            status: task.status,
            owner: task.owner.as_ref().map(ToString::to_string),
            epoch: task.epoch.0,
            attempt: task.attempt,
            failures: task.failures,
            losses: task.losses,
            max_attempts: task.max_attempts,
            detours: (task.detours.review, task.detours.recovery),
            // Nobody asks it of a task that is done.
            waiting: if task.status == State::Done { 0 } else { task.waiting },
            priority: task.priority,
            generation: task.generation,
            role: task.role.as_ref().map(ToString::to_string),
            title: task.spec.as_ref().unwrap().title.clone(),
        }
    }

    fn expected(task: &Task) -> Self {
        Self {
            status: task.status,
            owner: task.owner.map(name),
            epoch: task.epoch,
            attempt: task.attempt,
            failures: task.failures,
            losses: task.losses,
            max_attempts: task.max_attempts,
            detours: (task.detours, 0),
            waiting: if task.status == State::Done { 0 } else { task.waiting as u32 },
            priority: task.priority,
            generation: task.generation,
            role: task.role.as_ref().map(ToString::to_string),
            title: task.spec.title.clone(),
        }
    }
}

impl Run {
    pub(super) fn compare(&self, reference: &Reference) {
        self.compare_tasks(reference);
        self.compare_queues(reference);
        self.compare_agents(reference);
        self.compare_goal(reference);
        self.world.assert_sound(&["g"]);
    }

    fn compare_tasks(&self, reference: &Reference) {
        let g = goal("g");
        let stored = self.wait(self.world.store.tasks(&g)).unwrap();
        let facts: BTreeMap<_, _> =
            stored.iter().map(|task| (task.id.clone(), Facts::stored(task))).collect();
        let expected: BTreeMap<_, _> =
            reference.tasks.iter().map(|(id, task)| (id.clone(), Facts::expected(task))).collect();
        for (id, fact) in &expected {
            assert_eq!(facts.get(id), Some(fact), "{id} in Redis, and as it should be");
        }
        assert_eq!(facts.len(), expected.len(), "{:?}", facts.keys());
        let deps: BTreeMap<TaskId, BTreeSet<TaskId>> = self
            .world
            .hash("dag:g:deps")
            .into_iter()
            .map(|(id, list)| (id.parse().unwrap(), serde_json::from_str(&list).unwrap()))
            .collect();
        for (id, task) in &reference.tasks {
            assert_eq!(deps.get(id).unwrap_or(&BTreeSet::new()), &task.deps, "{id}");
        }
        let leases = self.wait(self.world.store.leases()).unwrap();
        assert_eq!(BTreeMap::from_iter(leases), reference.leases(), "the leases");
    }

    fn compare_queues(&self, reference: &Reference) {
        for role in ROLES.iter().map(Some).chain([None]) {
            let (key, role) = match role {
                Some(role) => (format!("dag:g:ready:{role}"), Some(role.parse().unwrap())),
                None => ("dag:g:ready".to_owned(), None),
            };
            let queue: Vec<TaskId> =
                self.world.queue(&key).iter().map(|id| id.parse().unwrap()).collect();
            let expected = reference.queue(role.as_ref());
            assert!(
                queue.iter().eq(expected.iter().copied()),
                "{key}: {queue:?}, not {expected:?}"
            );
        }
        let words: Vec<String> =
            self.world.raw(&["ZRANGE", "dag:g:delayed", "0", "-1", "WITHSCORES"]);
        let delayed: BTreeMap<TaskId, Due> = words
            .chunks(2)
            .map(|pair| {
                let due: f64 = pair[1].parse().unwrap();
                let due = if due < PARKED_FROM { Due::At(due as u64) } else { Due::Parked };
                (pair[0].parse().unwrap(), due)
            })
            .collect();
        let waits = |(id, task): (&TaskId, &Task)| task.due.map(|due| (id.clone(), due));
        let expected: BTreeMap<_, _> = reference.tasks.iter().filter_map(waits).collect();
        assert_eq!(delayed, expected, "what is delayed");
    }

    fn compare_agents(&self, reference: &Reference) {
        let agents = self.wait(self.world.store.agents()).unwrap();
        assert_eq!(agents.len(), AGENTS);
        for (n, (stored, expected)) in agents.iter().zip(&reference.agents).enumerate() {
            let registered = stored.registered.as_ref();
            let facts = registered.map(|it| (it.incarnation.0, it.beat, it.task.clone()));
            let held = expected.held.clone().map(|(task, epoch)| (task, Epoch(epoch)));
            let right = expected.incarnation.map(|it| (it, expected.beat, held));
            assert_eq!(facts, right, "{}", stored.name);
            assert_eq!(stored.paused, expected.paused, "{}", stored.name);
            let worker = &reference.workers[n];
            let held = worker.held.as_ref().map(|held| (&held.task, Epoch(held.epoch)));
            assert_eq!(self.belief(n), (worker.incarnation, held), "{} believes", stored.name);
        }
    }

    fn compare_goal(&self, reference: &Reference) {
        let g = goal("g");
        let stored = self.wait(self.world.store.goal(&g)).unwrap().unwrap();
        let facts = (stored.status, stored.generation, stored.counts, stored.tasks);
        let tasks = reference.tasks.len() as u64;
        let right = (reference.status, reference.generation, reference.counts(), tasks);
        assert_eq!(facts, right, "status, generation, counts and tasks of the goal");
        let figures = self.wait(self.world.store.figures(&g)).unwrap();
        assert_eq!(figures.contradiction(), None, "{figures:?}");
        let floor: Option<u64> = self.world.raw(&["GET", "orchestrator:epoch-floor"]);
        assert_eq!(floor.unwrap_or(0), reference.floor, "the floor of epochs");
    }

    /// The events tell of the same completions.
    pub(super) fn end(self, reference: &Reference) {
        let mut completed = BTreeSet::new();
        for event in self.wait(self.world.events("task-complete")) {
            let generation = event.field("generation").parse().unwrap();
            let key: (TaskId, u64) = (event.field("task").parse().unwrap(), generation);
            assert!(completed.insert(key.clone()), "{key:?} was completed twice");
        }
        assert_eq!(completed, reference.completed, "what was completed");
        self.hand_on();
    }
}
