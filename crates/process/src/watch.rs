//! The end of a process as an event.
//!
//! A pidfd becomes readable when the process ends, whoever its parent is: the
//! way to learn at once of the death of a process that is not our child.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;

use crate::Identity;
use crate::identity::to_pid;
use crate::unsafe_calls::readable;

/// A process that is being watched. Holds one file descriptor, until dropped or
/// until [`Exit::wait`] returns.
#[derive(Debug)]
pub struct Exit {
    /// None where the process was gone already.
    pidfd: Option<AsyncFd<OwnedFd>>,
}

impl Exit {
    /// Begins to watch that very process. One that is gone, or a zombie, counts
    /// as ended. Must be called within a tokio runtime that drives IO.
    ///
    /// # Errors
    /// Where no file descriptor is left or `/proc` cannot be read.
    pub fn watch(identity: Identity) -> io::Result<Self> {
        let Some(pid) = to_pid(identity.pid) else {
            return Ok(Self { pidfd: None });
        };
        let exit = Self::of_pid(pid)?;
        // Only now: once it is open, the pidfd stays with the process it named.
        if Identity::of(identity.pid)? != Some(identity) {
            return Ok(Self { pidfd: None });
        }
        Ok(exit)
    }

    /// Watches whatever has `pid`: right only for a child that is not yet
    /// waited for, whose pid cannot be given away.
    pub(crate) fn of_pid(pid: Pid) -> io::Result<Self> {
        match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(fd) => Ok(Self { pidfd: Some(readable(fd)?) }),
            // INVAL and NOENT: the number belongs to a mere thread by now.
            Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => Ok(Self { pidfd: None }),
            Err(error) => Err(error.into()),
        }
    }

    /// Completes when the process has ended. Dropping the future loses nothing
    /// but the watch.
    ///
    /// # Errors
    /// Only where the runtime is being shut down.
    pub async fn wait(self) -> io::Result<()> {
        self.ended().await
    }

    /// As [`Exit::wait`], for one who has to ask more than once.
    pub(crate) async fn ended(&self) -> io::Result<()> {
        match &self.pidfd {
            Some(pidfd) => pidfd.readable().await.map(|_| ()),
            None => Ok(()),
        }
    }
}
