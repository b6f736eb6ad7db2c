//! Tasks that do nothing, as fast as agents take them: all ready, all in front of one, or
//! one after the other.

use testkit::RedisServer;

use crate::report::median;
use crate::world::{World, plan};

/// How many agents take them.
const LOOPS: [usize; 3] = [1, 4, 16];
const ROUNDS: usize = 5;

/// Measures one shape of plan in alternating rounds, and prints it.
pub(crate) async fn measure(shape: &str) {
    let mut rates = LOOPS.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (loops, rates) in LOOPS.into_iter().zip(&mut rates) {
            rates.push(rate_and_server(shape, loops).await.0);
        }
    }
    let tasks = tasks_of(shape);
    for (loops, rates) in LOOPS.into_iter().zip(&rates) {
        let rate = median(rates);
        let each = 1_000.0 / rate;
        println!(
            "{shape}: {tasks} tasks, {loops:>2} agents {rate:>9.0} tasks/s  {each:.3} ms each"
        );
    }
}

fn tasks_of(shape: &str) -> usize {
    if shape == "chain" { 1_000 } else { 10_000 }
}

/// Tasks per second, and the Redis on which that was.
pub(crate) async fn rate_and_server(shape: &str, loops: usize) -> (f64, RedisServer) {
    let tasks = tasks_of(shape);
    let mut world = World::new().await;
    world.join(loops).await;
    let after = |n: usize| match shape {
        "chain" if n > 0 => vec![n - 1],
        "fan" if n == tasks - 1 => (0..n).collect(),
        _ => Vec::new(),
    };
    world.accept(plan(tasks, after)).await;
    let took = world.drained(tasks).await;
    #[allow(clippy::cast_precision_loss, reason = "some thousands")]
    let rate = tasks as f64 / took.as_secs_f64();
    (rate, world.end().await)
}
