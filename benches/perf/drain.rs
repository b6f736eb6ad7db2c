//! Tasks that do nothing, as fast as agents take them: all ready, all in front of one, or
//! one after the other.

use crate::report::median;
use crate::world::{World, plan};

/// How many agents take them.
const LOOPS: [usize; 3] = [1, 4, 16];
const ROUNDS: usize = 5;

/// Measures one shape of plan in alternating rounds, and prints it.
pub(crate) async fn measure(shape: &str) {
    let tasks = if shape == "chain" { 1_000 } else { 10_000 };
    let mut rates = LOOPS.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (loops, rates) in LOOPS.into_iter().zip(&mut rates) {
            rates.push(rate(shape, loops, tasks).await);
        }
    }
    for (loops, rates) in LOOPS.into_iter().zip(&rates) {
        let rate = median(rates);
        let hop = 1_000.0 / rate;
        println!(
            "{shape:<6} {tasks:>6} tasks, {loops:>2} agents {rate:>8.0} tasks/s  {hop:.3} ms each"
        );
    }
}

/// Tasks per second.
async fn rate(shape: &str, loops: usize, tasks: usize) -> f64 {
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
    rate
}
