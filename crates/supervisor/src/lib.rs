//! Starting agents through systemg.
//!
//! What is asked of a supervisor here is one thing: start this program as a
//! child of ours that outlives us when we crash, and say which process it became
//! ([`Supervisor`]). Everything else about a child, whether it lives, when it
//! ends, and ending it, is asked of the kernel by its [`Identity`], since systemg
//! forgets its children when their parent service or it itself is restarted, and
//! never starts one again.
//!
//! [`Sysg`] is systemg's client. [`spawn_limits`] reads what a manifest allows.

pub mod answer;
mod manifest;
mod sysg;

use std::path::PathBuf;
use std::time::Duration;

pub use manifest::{Error as ManifestError, SpawnLimits, spawn_limits};
pub use process::Identity;
pub use sysg::Sysg;

/// A program to start.
///
/// It runs in the folder `/` with the environment of the *service*, not of the
/// caller: so paths must be absolute, and whatever it has to know is an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpawnRequest {
    /// How the supervisor calls it; need not be unique.
    pub name: String,
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Its arguments. It must keep them: they tell its process from others.
    pub args: Vec<String>,
}

/// Starts processes that outlive us.
pub trait Supervisor: Send + Sync + 'static {
    /// Starts the program and returns its process, which may have ended since.
    ///
    /// # Errors
    /// [`Error`]; after [`Error::TimedOut`] it may have been started all the same.
    fn spawn(&self, request: &SpawnRequest)
    -> impl Future<Output = Result<Identity, Error>> + Send;
}

/// Why a supervisor did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no `sysg` to call.
    #[error(
        "sysg is not installed (looked for {looked_for}): install it with `cargo install systemg \
         --version 0.69.2 --locked --ignore-rust-version`, and put it into PATH or name it"
    )]
    NotInstalled {
        /// The path or the folders that were tried.
        looked_for: String,
    },
    /// `sysg` is there and could not be run.
    #[error("running {}", .program.display())]
    Run {
        /// What was run.
        program: PathBuf,
        /// Why it could not.
        source: process::Error,
    },
    /// Nobody listens on systemg's socket.
    #[error(
        "starting `{name}`: no systemg supervisor is running for this user; run `sysg start \
         --daemonize` in the project's folder"
    )]
    NoSupervisor {
        /// What was to be started.
        name: String,
    },
    /// The service has as many children as it may.
    #[error(
        "starting `{name}`: systemg's spawn limit is reached ({limit}); raise `spawn.limits` \
         (children, descendants, depth) of the service in systemg.yaml, then run `sysg stop \
         --supervisor` and `sysg start --daemonize`: a running supervisor keeps the old limits"
    )]
    SpawnLimit {
        /// What was to be started.
        name: String,
        /// Which limit, in systemg's words.
        limit: String,
    },
    /// systemg starts no more than ten children of a service in a second, and
    /// others kept taking the turn.
    #[error("starting `{name}`: systemg starts at most 10 children in a second; try again later")]
    SpawnRate {
        /// What was to be started.
        name: String,
    },
    /// The parent may not have children.
    #[error(
        "starting `{name}`: systemg does not let process {parent} have children ({reason}); it \
         must be a service that systemg itself started, with `spawn: {{mode: dynamic}}` in \
         systemg.yaml"
    )]
    NotAllowed {
        /// What was to be started.
        name: String,
        /// The process that was named as its parent.
        parent: u32,
        /// In systemg's words.
        reason: String,
    },
    /// It was started and ended before it could be looked at.
    #[error(
        "`{name}` ended as soon as it was started (pid {pid}); what it said is in \
         ~/.local/share/systemg/logs/spawn/*_{name}_{pid}_stderr.log"
    )]
    DiedAtOnce {
        /// What was started.
        name: String,
        /// Which process it was.
        pid: u32,
    },
    /// `sysg` did not answer in time and was ended.
    #[error(
        "`sysg {action}` gave no answer within {} s; see whether the supervisor works with `sysg \
         status`", .after.as_secs_f32()
    )]
    TimedOut {
        /// What it was asked to do.
        action: String,
        /// How long we waited.
        after: Duration,
    },
    /// Anything else that it refused.
    #[error("`sysg {action}` failed: {said}")]
    Other {
        /// What it was asked to do.
        action: String,
        /// The essence of what it printed, or how it ended.
        said: String,
    },
}
