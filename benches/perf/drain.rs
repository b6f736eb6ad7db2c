//! Ready tasks that do nothing, as fast as agents take them.

use crate::world::{World, plan};

/// Tasks per second.
pub(crate) async fn rate(loops: usize, tasks: usize) -> f64 {
    let mut world = World::new().await;
    world.join(loops).await;
    world.accept(plan(tasks, |_| Vec::new())).await;
    let took = world.drained(tasks).await;
    #[allow(clippy::cast_precision_loss, reason = "some thousands")]
    let rate = tasks as f64 / took.as_secs_f64();
    rate
}
