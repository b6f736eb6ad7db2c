//! A planner that does what each test wrote down, and else reads the pinned tasks.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use dag_controller::{PlanError, Planner};
use model::{Dag, GoalId, GoalSpec};
use tokio::sync::Semaphore;

/// What one attempt does instead of planning.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Fail(&'static str),
    /// For so many milliseconds from then on, where that is known.
    Hold(&'static str, Option<u64>),
    Panic,
    Hang,
    /// Plans once the gate is opened.
    Wait,
}

#[derive(Default)]
struct State {
    script: HashMap<GoalId, VecDeque<Answer>>,
    begun: HashMap<GoalId, usize>,
    running: HashMap<GoalId, usize>,
    overlapped: bool,
}

#[derive(Clone)]
pub(crate) struct Scripted(Arc<Mutex<State>>, Arc<Semaphore>);

impl Default for Scripted {
    fn default() -> Self {
        Self(Arc::default(), Arc::new(Semaphore::new(0)))
    }
}

impl Scripted {
    pub(crate) fn will(&self, goal: &GoalId, answers: &[Answer]) {
        self.0.lock().unwrap().script.entry(goal.clone()).or_default().extend(answers.to_vec());
    }

    /// Lets one that waits go on.
    pub(crate) fn open(&self) {
        self.1.add_permits(1);
    }

    /// How many attempts were begun for `goal`.
    pub(crate) fn attempts(&self, goal: &GoalId) -> usize {
        self.0.lock().unwrap().begun.get(goal).copied().unwrap_or(0)
    }

    pub(crate) fn running(&self, goal: &GoalId) -> usize {
        self.0.lock().unwrap().running.get(goal).copied().unwrap_or(0)
    }

    pub(crate) fn overlapped(&self) -> bool {
        self.0.lock().unwrap().overlapped
    }
}

struct Running<'a>(&'a Scripted, &'a GoalId);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap().running.get_mut(self.1).unwrap() -= 1;
    }
}

impl Planner for Scripted {
    async fn plan(&self, goal: &GoalSpec) -> Result<Dag, PlanError> {
        let answer = {
            let mut state = self.0.lock().unwrap();
            *state.begun.entry(goal.id.clone()).or_default() += 1;
            let running = state.running.entry(goal.id.clone()).or_default();
            *running += 1;
            state.overlapped |= *running > 1;
            state.script.get_mut(&goal.id).and_then(VecDeque::pop_front)
        };
        let _running = Running(self, &goal.id);
        tokio::task::yield_now().await;
        match answer {
            Some(Answer::Fail(why)) => return Err(PlanError::failed(why)),
            Some(Answer::Hold(why, millis)) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                let until = millis.map(|millis| now.as_millis() as u64 + millis);
                return Err(PlanError::held(why, until));
            }
            Some(Answer::Panic) => panic!("as the test wants it"),
            Some(Answer::Hang) => std::future::pending::<()>().await,
            Some(Answer::Wait) => self.1.acquire().await.unwrap().forget(),
            None => {}
        }
        let Some(pinned) = &goal.tasks else {
            return Err(PlanError::refused("it pins no tasks"));
        };
        let tasks = pinned.iter().map(|task| task.spec.clone()).collect();
        let edges: Vec<_> = pinned
            .iter()
            .flat_map(|task| task.after.iter().map(|dep| (task.spec.id.clone(), dep.clone())))
            .collect();
        let dag = Dag::new(tasks, &edges).map_err(|error| PlanError::refused(error.to_string()))?;
        if !goal.review {
            return Ok(dag);
        }
        model::review::with_review(&dag).map_err(|error| PlanError::refused(error.to_string()))
    }
}
