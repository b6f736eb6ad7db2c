//! How fast `orch` is, beside what limits it: `make bench`.
//!
//! Every figure is a median of rounds. Nothing here passes or fails: the machine may be
//! shared.

#![allow(
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a measurement that cannot be made is told by its panic"
)]

mod accept;
mod ceiling;
mod chart;
mod child;
mod drain;
mod fairness;
mod fleet;
mod layers;
mod loops;
mod passes;
mod peers;
mod report;
mod scale;
mod world;

use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

use crate::report::Report;

/// What can be measured, by the word that asks for it.
const CASES: [&str; 17] = [
    "drain",
    "fan",
    "chain",
    "layers",
    "ceiling",
    "scale",
    "accept",
    "fairness",
    "passes",
    "processes",
    "recover",
    "directive",
    "edit",
    "spawn",
    "idle",
    "loops",
    PEERS,
];
/// The one that is not measured unless it is asked for: others have to be installed.
const PEERS: &str = "peers";

fn main() {
    // Cargo says that this is a benchmark.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [child::WORD, case, args @ ..] = &*words.iter().map(String::as_str).collect::<Vec<_>>() {
        return child::play(case, args);
    }
    if let Some(word) = words.iter().find(|word| !CASES.contains(&word.as_str())) {
        eprintln!("`{word}` is none of {}", CASES.join(", "));
        std::process::exit(2);
    }
    let is_wanted = |case: &str| match words.as_slice() {
        [] => case != PEERS,
        words => words.iter().any(|word| word == case),
    };
    for case in CASES.into_iter().filter(|case| is_wanted(case)) {
        measure(case).finish();
    }
}

fn measure(case: &str) -> Report {
    match case {
        "passes" => threads().block_on(passes::measure()),
        "layers" => locally(layers::measure()),
        "ceiling" => locally(ceiling::measure()),
        "scale" => locally(scale::measure()),
        "accept" => locally(accept::measure()),
        "loops" => locally(loops::measure()),
        "fairness" => locally(fairness::measure()),
        "processes" => locally(fleet::processes::measure()),
        "recover" => locally(fleet::recover::measure()),
        "directive" => locally(fleet::directive::measure()),
        "edit" => locally(fleet::edit::measure()),
        "spawn" => locally(fleet::spawn::measure()),
        "idle" => locally(fleet::idle::measure()),
        PEERS => locally(peers::measure()),
        shape => locally(drain::measure(shape)),
    }
}

fn threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Agents run on one thread, as each does in its process.
fn locally<T>(work: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, work)
}
