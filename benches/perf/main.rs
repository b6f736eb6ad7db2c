//! How fast `orch` is, beside what limits it: `make bench`.
//!
//! Every case is a ratio within one run, or a figure beside a limit that is measured in the
//! same run: the machine may be shared. Nothing here passes or fails.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a measurement that cannot be made is told by its panic"
)]

mod drain;
mod world;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let loops: usize = words.first().and_then(|word| word.parse().ok()).unwrap_or(16);
    let tasks: usize = words.get(1).and_then(|word| word.parse().ok()).unwrap_or(10_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for _ in 0..3 {
        let local = tokio::task::LocalSet::new();
        let rate = local.block_on(&runtime, drain::rate(loops, tasks));
        println!("{loops} loops, {tasks} tasks: {rate:.0} tasks/s");
    }
}
