//! The product's four controllers, its store and its scripts, several agents, and
//! everything that can go wrong between them, in virtual time: what happens follows from a
//! number alone, so that whatever breaks can be looked at again.
//!
//! `SEEDS=n` plays so many seeds (from `FIRST=n` on), `SEED=n` plays one and prints what
//! happens in it.

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
mod orchestrator;
mod people;
mod play;
mod processes;
mod queue;
mod resp;
mod upstream;
mod world;

use std::str::FromStr;

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
    play::many(setting("FIRST").unwrap_or(1), setting("SEEDS").unwrap_or(FEW));
}

#[test]
fn same_seed_should_give_the_same_steps() {
    let mut player = play::Player::new();
    for seed in [3, 1_000_003] {
        let (first, second) = (player.play(seed), player.play(seed));
        let differs = first.trace.iter().zip(&second.trace).position(|(a, b)| a != b);
        assert_eq!(differs.map(|at| (&first.trace[at], &second.trace[at])), None);
        assert_eq!(first.trace.len(), second.trace.len());
    }
}
