//! Layers of tasks, each task after every one of the layer before: what edges cost.

use std::time::Instant;

use crate::report::Report;
use crate::world::{World, plan};

const LAYERS: usize = 100;
/// Tasks of one layer.
const WIDTH: usize = 100;
const AGENTS: usize = 16;
const ROUNDS: usize = 3;

pub(crate) async fn measure() -> Report {
    let tasks = LAYERS * WIDTH;
    let (mut rates, mut accepts) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut world = World::new().await;
        world.join(AGENTS).await;
        let dag = plan(tasks, |n| match n / WIDTH {
            0 => Vec::new(),
            layer => ((layer - 1) * WIDTH..layer * WIDTH).collect(),
        });
        let began = Instant::now();
        world.accept(dag).await;
        accepts.push(began.elapsed().as_secs_f64());
        #[allow(clippy::cast_precision_loss, reason = "some thousands")]
        rates.push(tasks as f64 / world.drained(tasks).await.as_secs_f64());
        world.end().await;
    }
    let mut report = Report::new("layers");
    let edges = (LAYERS - 1) * WIDTH * WIDTH;
    let name = format!("{LAYERS} layers of {WIDTH} tasks, {edges} edges, {AGENTS} agents");
    report.add(name, "tasks/s", &rates);
    report.add("accepting that plan", "s", &accepts);
    report
}
