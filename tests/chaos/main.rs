//! Chaos, end to end: a whole fleet at work on a plan of many short tasks while all that
//! can break breaks, by a seed. After each fault everything must be as it was within
//! the bound L1; at the end nothing may be lost, done twice or left behind.
//!
//! `make chaos`, `make chaos-short` and `make soak` run it. It wants the machine for
//! itself and is ignored among the other tests for that.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic of a test is its report"
)]

mod converge;
mod deck;
mod effects;
mod files;
mod kind;
mod plan;
mod report;
mod run;
mod scene;
mod settings;
mod strike;
#[path = "../e2e/support.rs"]
#[allow(dead_code, reason = "the end-to-end tests need more of it")]
mod support;
mod verdict;
mod witness;

use crate::settings::Settings;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute and a half, alone: make chaos-short"]
async fn fleet_should_mend_itself_whatever_breaks() {
    run::run(Settings::from_env()).await;
}
