//! Plans, and what becomes of the tasks when one is accepted.

use std::collections::BTreeSet;
use std::fmt;

use model::goal::Status;
use model::task::{Cause, DEFAULT_MAX_ATTEMPTS, State};
use model::{Dag, TaskId, TaskSpec};
use store::dag::Difference;

use super::ROLES;
use super::reference::{Reference, Task, id};

/// One plan: for each task its role (2 is any), whether it is in, its wording, and
/// what it waits for (only lower numbers, so there is no cycle).
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) tasks: Vec<(usize, bool, u8, u8)>,
}

/// In a line: what fails is printed with all its plans.
impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plan {{ tasks: vec!{:?} }}", self.tasks)
    }
}

impl Plan {
    /// Each task with what it waits for, in the order of declaration.
    fn rows(&self) -> Vec<(TaskSpec, BTreeSet<TaskId>)> {
        let is_in = |n: &usize| self.tasks[*n].1;
        let row = |n: usize| {
            let (role, _, wording, deps) = &self.tasks[n];
            let mut spec = TaskSpec::new(id(n), format!("wording {wording}"));
            spec.role = ROLES.get(*role).map(|role| role.parse().unwrap());
            spec.max_attempts = Some(2);
            // Few edges: two of the bits have to be set for one.
            let waits = |d: &usize| deps >> d & 1 == 1 && deps >> ((d + 3) % 8) & 1 == 1;
            (spec, (0..n).filter(is_in).filter(waits).map(id).collect())
        };
        (0..self.tasks.len()).filter(is_in).map(row).collect()
    }

    pub(super) fn dag(&self) -> Dag {
        let rows = self.rows();
        let edges: Vec<_> = rows
            .iter()
            .flat_map(|(spec, deps)| deps.iter().map(|dep| (spec.id.clone(), dep.clone())))
            .collect();
        Dag::new(rows.into_iter().map(|(spec, _)| spec).collect(), &edges).unwrap()
    }
}

impl Reference {
    /// What `accept` answers.
    pub(super) fn accept(&mut self, plan: &Plan) -> Option<Difference> {
        let rows = plan.rows();
        let wanted: BTreeSet<TaskId> = rows.iter().map(|(spec, _)| spec.id.clone()).collect();
        let mut difference = Difference {
            removed: self.tasks.keys().filter(|id| !wanted.contains(id)).cloned().collect(),
            ..Difference::default()
        };
        for (spec, deps) in &rows {
            let list = match self.tasks.get(&spec.id) {
                None => &mut difference.added,
                Some(old) if old.spec != *spec => &mut difference.revised,
                Some(old) if old.deps != *deps => &mut difference.relinked,
                Some(_) => continue,
            };
            list.push(spec.id.clone());
        }
        difference.added.sort();
        if self.generation > 0 && difference.is_empty() {
            return None;
        }
        self.generation += 1;
        // What is new was written before what is removed left.
        let floor = self.floor;
        for id in &difference.removed {
            self.remove(id);
        }
        for (seq, (spec, deps)) in rows.into_iter().enumerate() {
            self.adopt(seq as u64, spec, deps, floor);
        }
        self.status = Status::Active;
        // Not only those whose dependencies changed: to count anew is harmless.
        for id in wanted {
            self.relink(&id);
        }
        Some(difference)
    }

    fn remove(&mut self, id: &TaskId) {
        if self.tasks[id].status == State::Running {
            self.end_lease(id);
        }
        let gone = self.tasks.remove(id).unwrap();
        self.raise_floor(gone.epoch);
    }

    fn adopt(&mut self, seq: u64, spec: TaskSpec, deps: BTreeSet<TaskId>, floor: u64) {
        let generation = self.generation;
        let id = spec.id.clone();
        let Some(task) = self.tasks.get_mut(&id) else {
            let fresh = Task::new(spec, deps, seq, generation, floor);
            self.tasks.insert(id, fresh);
            return;
        };
        task.deps = deps;
        if task.spec == spec {
            return;
        }
        task.role.clone_from(&spec.role);
        task.priority = spec.priority;
        task.max_attempts = spec.max_attempts.unwrap_or(DEFAULT_MAX_ATTEMPTS);
        (task.seq, task.generation) = (seq, generation);
        (task.failures, task.losses, task.detours, task.due) = (0, 0, 0, None);
        task.spec = spec;
        if task.status == State::Running {
            task.stale = true;
        } else {
            (task.stale, task.settled) = (false, None);
            self.change(&id, Cause::Revise);
        }
    }

    fn relink(&mut self, id: &TaskId) {
        let is_open = |dep: &&TaskId| self.tasks[*dep].status != State::Done;
        let waiting = self.tasks[id].deps.iter().filter(is_open).count();
        let task = self.task(id);
        task.waiting = waiting;
        match task.status {
            State::Ready if waiting > 0 => self.settle_ready(id, 0),
            State::Blocked if waiting == 0 => self.unblock(id),
            State::Blocked | State::Ready | State::Running | State::Done | State::Failed => {}
        }
    }
}
