//! What traces cost, as ratios within one run: `make bench-traces`, on a machine that does
//! nothing else.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic of a test is its report"
)]

#[path = "../e2e/support.rs"]
#[allow(dead_code, reason = "the end-to-end tests need more of it")]
mod support;
mod traces;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, alone: make bench-traces"]
async fn traces_should_cost_little() {
    traces::measure().await;
}

/// The middle one of some values.
fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
