//! The adapters on the real `claude` and `codex`, which ask a scripted model on the
//! loopback. Each call has an empty home and, of the environment, only what its adapter
//! lets through.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is the report of a test, in its helpers too"
)]

mod claude;
mod codex;
mod command;
mod world;
