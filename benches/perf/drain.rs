//! Tasks that do nothing, as fast as agents take them: all ready, all in front of one, or
//! one after the other.

use model::Dag;
use testkit::RedisServer;

use crate::report::Report;
use crate::world::{World, plan};

/// How many agents take them.
const LOOPS: [usize; 3] = [1, 4, 16];
const ROUNDS: usize = 5;

/// Measures one shape of plan in alternating rounds.
pub(crate) async fn measure(shape: &str) -> Report {
    let mut rates = LOOPS.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (loops, rates) in LOOPS.into_iter().zip(&mut rates) {
            rates.push(rate_and_server(shape, loops).await.0);
        }
    }
    let mut report = Report::new(shape);
    for (loops, rates) in LOOPS.into_iter().zip(&rates) {
        report.add(format!("{} tasks, {loops} agents", tasks_of(shape)), "tasks/s", rates);
    }
    report
}

/// How many tasks it has.
pub(crate) fn tasks_of(shape: &str) -> usize {
    if shape == "chain" { 1_000 } else { 10_000 }
}

/// So many tasks in this shape.
pub(crate) fn plan_of(shape: &str, tasks: usize) -> Dag {
    plan(tasks, |n| match shape {
        "chain" if n > 0 => vec![n - 1],
        "fan" if n == tasks - 1 => (0..n).collect(),
        _ => Vec::new(),
    })
}

/// Tasks per second, and the Redis on which that was.
pub(crate) async fn rate_and_server(shape: &str, loops: usize) -> (f64, RedisServer) {
    let tasks = tasks_of(shape);
    let mut world = World::new().await;
    world.join(loops).await;
    world.accept(plan_of(shape, tasks)).await;
    let took = world.drained(tasks).await;
    let rate = tasks as f64 / took.as_secs_f64();
    (rate, world.end().await)
}
