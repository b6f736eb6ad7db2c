//! What must hold for any input that reaches the program from outside: one function per
//! kind of input, which calls the product's own readers and panics where they do not keep
//! a promise.
//!
//! A fuzzer (`make fuzz TARGET=..`, in the folder `fuzz`) calls them with what it makes up;
//! `tests/smoke` calls them in every test run with the seeds of `fuzz/seeds`, with
//! mutations of these, and with hostile inputs that are generated.
//!
//! Not to panic is the least that is promised. Beyond that: what an error quotes is
//! bounded and printable and its place lies within the input; what was accepted is within
//! its limits; what means the same is read as the same; and the time that it takes grows
//! with the length of the input, not with its square, which the fuzzer's timeout sees.

mod check;
mod heartbeat;
mod history;
mod instructions;
mod programs;
mod redis;
mod replies;
mod sysg;

pub use heartbeat::heartbeat;
pub use history::history;
pub use instructions::instructions;
pub use programs::{claude, codex, command};
pub use redis::redis;
pub use replies::replies;
pub use sysg::sysg;

/// Where an input that stands for two texts is divided: a line of its own.
pub const DIVIDER: &str = "-----8<-----";

/// What checks one input.
pub type Target = fn(&[u8]);

/// All targets, by the names of their seeds' folders.
pub const TARGETS: &[(&str, Target)] = &[
    ("claude", claude),
    ("codex", codex),
    ("command", command),
    ("heartbeat", heartbeat),
    ("history", history),
    ("instructions", instructions),
    ("redis", redis),
    ("replies", replies),
    ("sysg", sysg),
];
