//! Whether a small goal gets its share beside large ones.
//!
//! An agent serves the one goal that it is declared for, so goals share no agents: what
//! they share is Redis. Each has as many agents here, so each is due the same share of all
//! completions while it has work. The large ones come first, and are in full swing when
//! the small ones come.

use std::collections::HashMap;

use store::event::Event;

use crate::report::Report;
use crate::world::{World, plan};

/// Tasks of each goal.
const GOALS: [usize; 10] = [5_000, 3_000, 1_700, 1_000, 600, 300, 150, 70, 30, 10];
/// Agents of each goal.
const AGENTS: usize = 4;
const ROUNDS: usize = 5;

pub(crate) async fn measure() -> Report {
    let (mut rates, mut least, mut greatest) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (rate, shares) = round().await;
        rates.push(rate);
        least.push(shares.iter().copied().fold(f64::INFINITY, f64::min));
        greatest.push(shares.iter().copied().fold(0.0, f64::max));
    }
    let mut report = Report::new("fairness");
    let what = format!("{} goals of 10 to 5,000 tasks, {AGENTS} agents each", GOALS.len());
    report.add(what, "tasks/s", &rates);
    report.add("the least share of a goal, to a fair one", "x", &least);
    report.add("the greatest share of a goal, to a fair one", "x", &greatest);
    report
}

/// Tasks per second, and the share of each goal.
async fn round() -> (f64, Vec<f64>) {
    let mut world = World::new().await;
    let goals: Vec<String> = (0..GOALS.len()).map(|n| format!("goal-{n:03}")).collect();
    world.join_goals(&goals, AGENTS).await;
    for (goal, tasks) in goals.iter().zip(GOALS) {
        world.accept_for(goal, plan(tasks, |_| Vec::new())).await;
    }
    for (goal, tasks) in goals.iter().zip(GOALS) {
        world.until_done_of(goal, tasks).await;
    }
    let events = world.events(GOALS.iter().sum()).await;
    world.end().await;
    shares(&goals, &events)
}

fn shares(goals: &[String], events: &[Event]) -> (f64, Vec<f64>) {
    let mut left: HashMap<&str, usize> = goals.iter().map(String::as_str).zip(GOALS).collect();
    // While a goal has work, what is done, and how much of that is due to it.
    let mut due: HashMap<&str, f64> = HashMap::new();
    let (mut first, mut last) = (None, 0);
    for event in events {
        let goal = event.field("goal");
        match event.kind.as_str() {
            "task-claim" => {
                due.entry(goal).or_default();
                first = first.or(Some(event.millis()));
            }
            "task-complete" => {
                let at_work = |goal: &&str| left[goal] > 0;
                #[allow(clippy::cast_precision_loss, reason = "ten")]
                let part = 1.0 / due.keys().filter(|goal| at_work(goal)).count() as f64;
                due.iter_mut().filter(|(goal, _)| at_work(goal)).for_each(|(_, due)| *due += part);
                *left.get_mut(goal).unwrap() -= 1;
                last = event.millis();
            }
            _ => {}
        }
    }
    #[allow(clippy::cast_precision_loss, reason = "some thousands")]
    let shares = goals.iter().zip(GOALS).map(|(goal, done)| done as f64 / due[goal.as_str()]);
    #[allow(clippy::cast_precision_loss, reason = "some thousands")]
    let seconds = (last - first.unwrap()) as f64 / 1_000.0;
    #[allow(clippy::cast_precision_loss, reason = "some thousands")]
    let done = GOALS.iter().sum::<usize>() as f64;
    (done / seconds, shares.collect())
}
