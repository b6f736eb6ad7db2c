//! The heartbeat controller against a real Redis and real files, run by the real kit.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests: the panic is the report")]

mod directives;
mod exactly_once;
mod files;
mod liveness;
mod world;
