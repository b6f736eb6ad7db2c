//! Markdown control files to declarations and directives, with line and column
//! in every error.
//!
//! People steer orch by two kinds of files: `INSTRUCTIONS.md` says what should
//! be ([`instructions`]), heartbeat files say what to do now ([`directives`]).
//! This crate reads them ([`read`]), says what is wrong in them
//! ([`diagnostic`]), and tells when they change ([`watch`]). It decides nothing
//! and writes nothing: the files are the human's.
//!
//! Whatever a file contains, reading it ends, does not panic, and costs a
//! bounded amount of memory.

pub mod diagnostic;
pub mod directives;
pub mod instructions;
pub mod read;
mod source;
mod suggest;
pub mod watch;

pub use diagnostic::Diagnostic;
pub use watch::Watch;
