//! The DAG controller on a real Redis: what is declared becomes a plan, is kept right
//! and comes to its end, whatever planner, people and crashes do meanwhile.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests and their tools may stop at the first surprise"
)]

mod bench;
mod holds;
mod planning;
mod review;
mod scripted;
mod terms;
mod upkeep;
