//! The store on a real Redis: every test has a server of its own and asserts what
//! stands in it.
//!
//! One binary for all subjects: linking is what costs, and the helpers in
//! [`world`] are shared by all.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests: the panic is the report"
)]

mod accept;
mod agents;
mod calls;
mod claim;
mod clock;
mod connection;
mod context;
mod cost;
mod damage;
mod detour;
mod directives;
mod events;
mod fence;
mod goals;
mod holds;
mod lead;
mod links;
mod llm;
mod model;
mod replan;
mod settle;
mod world;
