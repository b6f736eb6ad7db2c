//! End to end: the built binary, a real Redis, a real sysg, real processes and
//! signals. Each test has a project, a home and a Redis of its own, and asserts the
//! state of the world.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic of a test is its report"
)]

mod bad_input;
mod chaos;
mod directives;
mod editing;
mod failing;
mod faults;
mod idle;
mod jaeger;
mod llm;
mod logs;
mod metrics;
mod milestones;
mod on_call;
mod recovery;
mod scale;
mod secrets;
mod sharing;
mod shutdown;
mod standby;
mod support;
mod tracing;
mod walkthrough;
mod within;
