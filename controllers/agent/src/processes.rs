//! What the controller asks of this host's processes. The kernel answers it; a
//! simulation has processes of its own, whose pids it can give away again.

use std::io;

use model::AgentName;
use process::{Exit, Identity, Signal};

use crate::{arguments, attempt};

/// The processes of one host.
pub trait Processes: Send + Sync + 'static {
    /// The process that has `pid` now.
    ///
    /// # Errors
    /// Where it cannot be looked at.
    fn of(&self, pid: u32) -> io::Result<Option<Identity>>;

    /// Whether that very process lives; one that cannot be looked at does.
    fn is_alive(&self, process: &Identity) -> bool {
        self.of(process.pid).map_or(true, |now| now == Some(*process))
    }

    /// The agents' processes of `fleet`.
    ///
    /// # Errors
    /// Where the list of processes cannot be read.
    fn find(
        &self,
        fleet: &str,
    ) -> impl Future<Output = io::Result<Vec<(AgentName, Identity)>>> + Send;

    /// Sends a signal to that very process. `false` where it is gone.
    ///
    /// # Errors
    /// Where it may not be signalled.
    fn signal(&self, process: &Identity, signal: Signal) -> io::Result<bool>;

    /// Begins to watch a process; the future completes when it has ended.
    ///
    /// # Errors
    /// Where it cannot be watched.
    fn exit(
        &self,
        process: Identity,
    ) -> io::Result<impl Future<Output = io::Result<()>> + Send + 'static>;

    /// Kills whatever runs for attempts whose marker ([`attempt::MARKER`]) starts with
    /// `prefix`. How many there were.
    ///
    /// # Errors
    /// Where the list of processes cannot be read.
    fn end_attempts(&self, prefix: String) -> impl Future<Output = io::Result<usize>> + Send;
}

/// Those that the kernel knows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kernel;

impl Processes for Kernel {
    fn of(&self, pid: u32) -> io::Result<Option<Identity>> {
        Identity::of(pid)
    }

    async fn find(&self, fleet: &str) -> io::Result<Vec<(AgentName, Identity)>> {
        let fleet = fleet.to_owned();
        blocking(move || arguments::find(&fleet)).await
    }

    fn signal(&self, process: &Identity, signal: Signal) -> io::Result<bool> {
        process::signal(process, signal)
    }

    fn exit(
        &self,
        process: Identity,
    ) -> io::Result<impl Future<Output = io::Result<()>> + Send + 'static> {
        Ok(Exit::watch(process)?.wait())
    }

    async fn end_attempts(&self, prefix: String) -> io::Result<usize> {
        let scan = move || process::end_marked(attempt::MARKER, |value| value.starts_with(&prefix));
        blocking(scan).await
    }
}

/// Reading all of `/proc` takes some milliseconds.
async fn blocking<T: Send + 'static>(
    scan: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(scan).await.map_err(io::Error::other).and_then(|found| found)
}
