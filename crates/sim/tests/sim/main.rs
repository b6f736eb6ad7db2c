//! The product's four controllers, its store and its scripts, several agents, and
//! everything that can go wrong between them, in virtual time: what happens follows from a
//! number alone, so that whatever breaks can be looked at again.
//!
//! `SEEDS=n` plays so many seeds (from `FIRST=n` on), `SEED=n` plays one and prints what
//! happens in it. `TWICE=n` plays so many seeds twice each. After `FAILURES=n` failing seeds
//! the rest is left out. `PLANT=name` plants a bug of `tests/planted` into the scripts.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic of a test is its report"
)]

mod agent;
mod checks;
mod clock;
mod end;
mod faults;
mod lane;
mod link;
mod oracle;
mod orchestrator;
mod people;
mod play;
mod processes;
mod queue;
mod resp;
mod upstream;
mod world;

use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

/// How many failing seeds are told of, before the rest is not played any more.
const MOST_FAILURES: usize = 5;
/// How many seeds a plain run of all tests plays.
const FEW: u64 = 40;

fn setting<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn promises_should_hold_whatever_the_seed() {
    if let Some(seed) = setting("SEED") {
        return play::one(seed);
    }
    let (first, seeds) = (setting("FIRST").unwrap_or(1), setting("SEEDS").unwrap_or(FEW));
    play::many(first, seeds, setting("FAILURES").unwrap_or(MOST_FAILURES));
}

#[test]
fn same_seed_should_give_the_same_steps_however_busy_the_machine_is() {
    // The other plays what the first has not seen: also that must make no difference.
    let mut other = play::Player::new();
    let mut player = play::Player::new();
    let first: u64 = setting("FIRST").unwrap_or(1_000_003);
    for seed in first..first + setting("TWICE").unwrap_or(3) {
        let first = player.play(seed);
        let second = beside_load(|| other.play(seed));
        let differs = first.trace.iter().zip(&second.trace).position(|(a, b)| a != b);
        let differs = differs.map(|at| (&first.trace[at], &second.trace[at]));
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first.trace.len(), second.trace.len(), "seed {seed}");
    }
}

/// Does `work` while other threads take all that the machine can give.
fn beside_load<T>(work: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let threads = 2 * std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..threads {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let over = Over(&is_over);
        let done = work();
        drop(over);
        done
    })
}

/// Ends the load, also where the work panicked.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
