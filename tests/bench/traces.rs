//! Tasks per second of a fleet: without a collector, with one, and with one that hangs.

use std::time::Instant;

use model::goal::Status;
use store::event::Event;
use testkit::OtlpSink;

use crate::median;
use crate::support::{agents, fleet, goal, task};

const AGENTS: usize = 4;
const TASKS: usize = 400;
const ROUNDS: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Collector {
    None,
    Takes,
    Hangs,
}

/// Measures in alternating rounds, and prints it.
pub(crate) async fn measure() {
    let kinds = [Collector::None, Collector::Takes, Collector::Hangs];
    let mut rates: [Vec<f64>; 3] = Default::default();
    for round in 1..=ROUNDS {
        for (kind, rates) in kinds.into_iter().zip(&mut rates) {
            let rate = drain(kind).await;
            println!("round {round} {kind:?}: {rate:.0} tasks/s");
            rates.push(rate);
        }
    }
    // Each round against its own, so that what the machine did besides counts for both.
    let ratio = |of: usize| {
        let pairs = rates[of].iter().zip(&rates[0]).map(|(with, without)| with / without);
        median(&pairs.collect::<Vec<_>>())
    };
    println!("\n{TASKS} tasks, {AGENTS} agents, {ROUNDS} rounds, medians");
    println!("without a collector            {:>6.0} tasks/s", median(&rates[0]));
    println!("all spans sent       ratio     {:>6.2}   wanted at least 0.90", ratio(1));
    println!("a collector that hangs, ratio  {:>6.2}   wanted at least 0.95", ratio(2));
}

/// From the first grant to the last result.
async fn drain(kind: Collector) -> f64 {
    let names: Vec<String> = (1..=AGENTS).map(|n| format!("w{n}_agent")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let tasks: String = (1..=TASKS).map(|n| task(&format!("t{n}: Nothing"), "true")).collect();
    let sink = OtlpSink::start();
    let mut builder = fleet(agents(&names) + &goal(&tasks));
    if kind != Collector::None {
        builder = builder.env("OTEL_EXPORTER_OTLP_ENDPOINT", &sink.url());
    }
    if kind == Collector::Hangs {
        sink.hang();
    }
    let fleet = builder.start().await;
    let began = Instant::now();
    fleet.until_goal(Status::Complete).await;
    let millis = |events: Vec<Event>| events.iter().map(Event::millis).collect::<Vec<_>>();
    let first = millis(fleet.events("task-claim").await).into_iter().min().unwrap();
    let last = millis(fleet.events("task-complete").await).into_iter().max().unwrap();
    assert!(last > first, "after {:?}", began.elapsed());
    #[allow(clippy::cast_precision_loss, reason = "some hundreds, some thousands")]
    let rate = TASKS as f64 * 1_000.0 / (last - first) as f64;
    rate
}
