//! The project's two `unsafe` calls, for which no safe form exists.
//!
//! [`die_with_parent`]: the kernel's promise to kill a child when its parent
//! dies must be asked for by the child itself, between fork and exec, and std
//! offers no other hook at that moment. [`readable`]: tokio has deprecated the
//! safe way to wait for a file descriptor, as it accepts types that may close it
//! meanwhile; ours cannot.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Makes the kernel send SIGKILL to the child when the *thread* that started
/// it ends, by whatever cause.
#[allow(unsafe_code, reason = "std's pre_exec is unsafe; see the SAFETY comment")]
pub(crate) fn die_with_parent(command: &mut tokio::process::Command) {
    let parent = getpid();
    // SAFETY: the closure runs in the forked child before exec, where only
    // async-signal-safe calls are allowed: it makes two bare system calls
    // (prctl, getppid), allocates nothing, takes no lock, cannot panic, and
    // `parent` is a plain integer that was copied in before the fork.
    unsafe {
        command.pre_exec(move || request(parent));
    }
}

/// The parent may have died before the request was made; then no signal would
/// ever come, and the child must not begin.
fn request(parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() == Some(parent) { Ok(()) } else { Err(Errno::SRCH.into()) }
}

/// Registers a file descriptor with the runtime, to wait until it is readable.
#[allow(unsafe_code, reason = "tokio's safe constructor is deprecated; see the SAFETY comment")]
pub(crate) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor must stay open and the same for as long as the
    // `AsyncFd` lives: it is moved in, an `OwnedFd` always answers with the one
    // number that it owns, and nobody else can close it.
    let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    Ok(registered?)
}
