//! All state that is shared, in Redis: keys, records, and one Lua script per
//! transition.
//!
//! # Guarantees
//! - Each change of state is one script: it happens whole or not at all, and two
//!   that race happen one after the other.
//! - Each script is idempotent. The same request after a lost reply gets the same
//!   answer, so [`Store`] repeats a call whose connection broke.
//! - Whoever writes is checked first: an agent by its incarnation, the holder of a
//!   task by its epoch, a controller by its leader epoch. Who is out of date
//!   changes nothing and is told so.
//! - Every transition appends to the stream `events` in the script that makes it.
//!
//! # Assumptions
//! One Redis of at least 7.0, not a cluster: the scripts compute key names. What
//! was acknowledged survives a crash of Redis as far as its `appendfsync` says.
//!
//! # Not here
//! Decisions. The store says what is; a controller says what to do.

pub mod agent;
pub mod calls;
mod connection;
pub mod dag;
pub mod directive;
mod error;
pub mod event;
pub mod goal;
pub mod instructions;
pub mod keys;
pub mod lead;
pub mod lease;
pub mod llm;
pub mod plan;
pub mod record;
mod script;
pub mod server;
pub mod task;
mod url;

pub use connection::{Options, Store, Waiting};
pub use error::Error;
pub use lead::Lead;
pub use url::{RedisUrl, UrlError};
