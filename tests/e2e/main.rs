//! End to end: the built binary, a real Redis, a real sysg, real processes and
//! signals. Each test has a project, a home and a Redis of its own, and asserts the
//! state of the world.

mod bad_input;
mod failing;
mod directives;
mod editing;
mod recovery;
mod sharing;
mod scale;
mod shutdown;
mod standby;
mod support;
mod walkthrough;
