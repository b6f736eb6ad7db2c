//! The agent controller on a real Redis, with real processes and real signals, run by
//! the real kit.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests: the panic is the report")]

mod adoption;
mod common;
mod cost;
mod drain;
mod leader;
mod leaving;
mod lifecycle;
mod silence;
mod start;
