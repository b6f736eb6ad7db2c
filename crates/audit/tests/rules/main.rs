//! Histories written by hand: a clean one passes, and of each that breaks one rule that
//! rule is named, with the events that show it, and nothing else.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic of a test is its report"
)]

mod breaks;
mod found;
mod history;
