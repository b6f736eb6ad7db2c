//! Whether a task costs more where more wait: what a completion and the next grant take
//! with 1,000 to 1,000,000 READY tasks in the plan, of which only some are done.

use std::time::Instant;

use model::Dag;

use crate::report::{Report, Wanted};
use crate::world::{World, parts};

const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
const AGENTS: usize = 4;
/// Completions that are measured, and those before them: as many as the smallest plan has
/// tasks. Each window begins with new agents, whatever the size.
const WINDOW: usize = 800;
const WARM_UP: usize = 150;
/// Windows of one round.
const WINDOWS: usize = 6;
const ROUNDS: usize = 7;

/// A plan, what it took to get it into force, and how much of it is left.
struct Loaded {
    world: World,
    validate: f64,
    accept: f64,
    bytes_per_task: f64,
    done: usize,
}

pub(crate) async fn measure() -> Report {
    let mut report = Report::new("scale");
    let mut costs = SIZES.map(|_| Vec::new());
    let mut loads = SIZES.map(|_| [Vec::new(), Vec::new(), Vec::new()]);
    let mut plans = SIZES.map(|_| None);
    for _ in 0..ROUNDS {
        let mut round = SIZES.map(|_| 0.0);
        for _ in 0..WINDOWS {
            for (n, tasks) in SIZES.into_iter().enumerate() {
                let mut plan = match plans[n].take() {
                    Some(plan) => plan,
                    None => {
                        let plan = load(tasks).await;
                        let took = [plan.validate, plan.accept, plan.bytes_per_task];
                        loads[n].iter_mut().zip(took).for_each(|(all, one)| all.push(one));
                        plan
                    }
                };
                #[allow(clippy::cast_precision_loss, reason = "six")]
                let part = 1.0 / WINDOWS as f64;
                round[n] += plan.window().await * part;
                // Some are done between the end of a window and that of its agents.
                if plan.done + 4 * (WARM_UP + WINDOW) <= tasks {
                    plans[n] = Some(plan);
                } else {
                    plan.world.end().await;
                }
            }
        }
        costs.iter_mut().zip(round).for_each(|(all, one)| all.push(one));
    }
    for (tasks, costs) in SIZES.into_iter().zip(&costs) {
        report.add(format!("a task of {tasks}, {AGENTS} agents"), "us", costs);
    }
    for (n, (tasks, costs_n)) in SIZES.into_iter().zip(&costs).enumerate().skip(1) {
        let ratios: Vec<f64> =
            costs_n.iter().zip(&costs[0]).map(|(one, least)| one / least).collect();
        let name = format!("a task of {tasks}, to one of {}", SIZES[0]);
        match n {
            3 => report.want(name, "x", &ratios, Wanted::AtMost(1.3)),
            _ => report.add(name, "x", &ratios),
        }
    }
    for (tasks, [validate, accept, bytes]) in SIZES.into_iter().zip(&loads) {
        report.add(format!("validating {tasks} tasks"), "ms", validate);
        report.add(format!("accepting {tasks} tasks"), "ms", accept);
        report.add(format!("Redis' memory for one of {tasks} tasks"), "bytes", bytes);
    }
    report
}

async fn load(tasks: usize) -> Loaded {
    let world = World::new().await;
    let memory = async || world.store.server().await.unwrap().used_memory;
    let before = memory().await;
    let (specs, edges) = parts(tasks, |_| Vec::new());
    let began = Instant::now();
    let dag = Dag::new(specs, &edges).unwrap();
    let validate = began.elapsed().as_secs_f64() * 1_000.0;
    let began = Instant::now();
    world.accept(dag).await;
    let accept = began.elapsed().as_secs_f64() * 1_000.0;
    let used = memory().await - before;
    #[allow(clippy::cast_precision_loss, reason = "some gigabytes")]
    let bytes_per_task = used as f64 / tasks as f64;
    Loaded { world, validate, accept, bytes_per_task, done: 0 }
}

impl Loaded {
    /// The time of a task, in microseconds.
    async fn window(&mut self) -> f64 {
        self.world.set_to_work(crate::world::GOAL, AGENTS);
        self.world.until_done(self.done + WARM_UP + WINDOW).await;
        self.world.stop().await;
        let before = std::mem::replace(&mut self.done, self.world.until_done(0).await);
        let new = self.done - before;
        let events = self.world.events(new).await;
        let times: Vec<u64> = events
            .iter()
            .filter(|event| event.kind == "task-complete")
            .map(store::event::Event::millis)
            .collect();
        let times = &times[times.len() - new..];
        #[allow(clippy::cast_precision_loss, reason = "some seconds")]
        let took = (times[WARM_UP + WINDOW - 1] - times[WARM_UP - 1]) as f64 * 1_000.0;
        #[allow(clippy::cast_precision_loss, reason = "some hundreds")]
        let each = took / WINDOW as f64;
        each
    }
}
