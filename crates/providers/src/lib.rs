//! What plans goals and does tasks: language models behind command-line programs.
//!
//! # Flow
//! A [`Provider`] turns a [`Request`] into an [`Invocation`], says what the run of it
//! came to, and does no IO: running it is the caller's ([`Runner`]). So what is started
//! on whose behalf, how it is ended, and what it may cost is decided in one place for
//! all providers. Above it, [`ask`] makes a model's answer a value of ours or an error:
//! everything that comes back is validated, and repaired once.
//!
//! # Guarantees
//! What a model says is data. It is bounded, never given to a shell, and an id in it
//! counts only where it was offered.

pub mod answers;
pub mod ask;
mod call;
pub mod claude;
pub mod codex;
pub mod command;
mod common;
pub mod json;
pub mod limits;
pub mod offline;
pub mod prompts;
pub mod recovery;

pub use call::{
    Failure, FailureKind, Invocation, Limit, Permissions, Provider, Reply, Request, Runner,
    Session, Step, Usage, call,
};
