//! Who a process is: its pid and when it started.
//!
//! The pair is unique until the next boot, so what is stored of a process (in
//! Redis, in memory) can be compared later without fear that the pid names
//! another process by now. A zombie counts as gone: it will do nothing more, and
//! whether somebody has collected its status is of no interest here.

use std::{fmt, io};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::scan;

/// One process, for as long as the machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Its process id.
    pub pid: u32,
    /// When it started, in clock ticks since boot (`/proc/PID/stat` field 22).
    pub start_time: u64,
}

impl Identity {
    /// The process that has `pid` now, or none where there is none or only a
    /// zombie.
    ///
    /// # Errors
    /// Where `/proc` cannot be read or does not look as documented in proc(5).
    pub fn of(pid: u32) -> io::Result<Option<Self>> {
        let Some(stat) = Stat::read(pid)? else {
            return Ok(None);
        };
        Ok(stat.is_living().then_some(Self { pid, start_time: stat.start_time }))
    }

    /// The calling process.
    ///
    /// # Errors
    /// Where `/proc` cannot be read.
    pub fn this() -> io::Result<Self> {
        let pid = std::process::id();
        Self::of(pid)?.ok_or_else(|| {
            let text = format!("/proc shows no process {pid}, which is this one: mount /proc");
            io::Error::new(io::ErrorKind::NotFound, text)
        })
    }

    /// The pid of who started this very process, or has taken it over. `None` where it is gone
    /// or cannot be looked at.
    #[must_use]
    pub fn parent(&self) -> Option<u32> {
        let stat = Stat::read(self.pid).ok()??;
        (stat.is_living() && stat.start_time == self.start_time).then_some(stat.parent)
    }

    /// Whether this very process still runs. A process that cannot be looked at
    /// counts as alive: to be taken for dead has consequences.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).map_or(true, |now| now == Some(*self))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.pid, self.start_time)
    }
}

/// Sends `signal` to exactly that process; `false` where it is gone already.
///
/// The pidfd is opened first and the start time compared afterwards: once open,
/// it refers to the process that was looked at, whoever gets the pid next.
///
/// # Errors
/// Where the process lives and may not be signalled (another user's), or no file
/// descriptor is left.
pub fn signal(identity: &Identity, signal: Signal) -> io::Result<bool> {
    if !identity.is_alive() {
        return Ok(false);
    }
    let Some(pid) = to_pid(identity.pid) else {
        return Ok(false);
    };
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(_) if !identity.is_alive() => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    if !identity.is_alive() {
        return Ok(false);
    }
    match pidfd_send_signal(&pidfd, signal) {
        Ok(()) => Ok(true),
        Err(Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// `pid` as the kernel's type; none for 0 and for what no pid can be.
pub(crate) fn to_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// From the kernel's `linux/sched.h`.
const PF_KTHREAD: u64 = 0x0020_0000;

/// What of `/proc/PID/stat` matters here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    state: u8,
    /// The process that started it, or who has taken it over; 0 is the kernel.
    pub(crate) parent: u32,
    /// The process group; none while the kernel takes the process out of its tables,
    /// when it shows -1.
    pub(crate) group: Option<u32>,
    /// The kernel's `PF_*` bits.
    flags: u64,
    /// In clock ticks since boot.
    pub(crate) start_time: u64,
}

impl Stat {
    /// None where there is no such process.
    pub(crate) fn read(pid: u32) -> io::Result<Option<Self>> {
        if to_pid(pid).is_none() {
            return Ok(None);
        }
        match scan::read(pid, "stat") {
            Ok(bytes) => Self::parse(&bytes).map(Some).ok_or_else(|| {
                let text = format!("/proc/{pid}/stat is not as described in proc(5)");
                io::Error::new(io::ErrorKind::InvalidData, text)
            }),
            // ESRCH: it ended between open and read.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) if e.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The second field is the program's name in parentheses, may itself hold
    /// blanks, parentheses and newlines, and is chosen by the process: so the
    /// fields are counted from the *last* closing parenthesis.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let name_end = bytes.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(bytes.get(name_end + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?.bytes().next()?; // field 3
        let parent = fields.next()?.parse().ok()?; // field 4
        let group = fields.next()?.parse::<i64>().ok()?; // field 5
        let group = u32::try_from(group).ok();
        let flags = fields.nth(3)?.parse().ok()?; // field 9
        let start_time = fields.nth(12)?.parse().ok()?; // field 22
        Some(Self { state, parent, group, flags, start_time })
    }

    /// A thread of the kernel's own, which has neither arguments nor environment.
    pub(crate) fn is_of_kernel(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }

    /// Neither a zombie (`Z`) nor on its way out of the table (`X`).
    pub(crate) fn is_living(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &[u8] = b" S 1 77 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 424242 1 2 3";

    fn parse(name: &[u8]) -> Option<Stat> {
        Stat::parse(&[b"123 (", name, b")", TAIL].concat())
    }

    #[test]
    fn stat_should_survive_any_program_name() {
        let names: [&[u8]; 6] =
            [b"sh", b"a) S 9 9 (b", b") R 1 1", b"((((", b"new\nline )", b"\xff\xfe)"];
        for name in names {
            let stat = parse(name).unwrap();
            let seen = (stat.parent, stat.group, stat.start_time, stat.state);
            assert_eq!(seen, (1, Some(77), 424_242, b'S'), "{name:?}");
            assert!(!stat.is_of_kernel());
        }
    }

    #[test]
    fn stat_should_know_threads_of_the_kernel() {
        let line = b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 3 0 0";
        assert!(Stat::parse(line).unwrap().is_of_kernel());
    }

    #[test]
    fn process_that_is_being_reaped_should_be_dead_and_no_error() {
        let line = b"9 (sh) X 0 -1 -1 0 -1 4227148 26 0 0 0 0 0 0 0 20 0 0 0 2 0 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.group, stat.is_living()), (None, false));
    }

    #[test]
    fn stat_should_refuse_what_is_no_stat() {
        for bytes in [&b""[..], b"1 (sh", b"1 (sh)", b"1 (sh) S 1 2", b"1 (sh) S 1 x 1"] {
            assert_eq!(Stat::parse(bytes), None);
        }
    }

    #[test]
    fn identity_should_be_none_for_pids_that_cannot_be() {
        for pid in [0, u32::MAX, i32::MAX as u32 + 1] {
            assert_eq!(Identity::of(pid).unwrap(), None);
        }
    }

    #[test]
    fn identity_should_print_pid_and_start() {
        assert_eq!(Identity { pid: 7, start_time: 99 }.to_string(), "7@99");
    }
}
