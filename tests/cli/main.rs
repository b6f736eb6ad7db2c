//! The command line as people use it: the built binary, a real Redis, real files.
//!
//! The state is made through the store's own scripts, as controllers and agents make it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests: the panic is the report"
)]

mod audit;
mod docs;
mod llm;
mod look;
mod setup;
mod support;
mod trace;
