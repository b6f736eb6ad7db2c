//! Histories that the store's own scripts wrote, on a real Redis.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic of a test is its report"
)]

mod live;
mod property;
mod world;
