//! Finding processes that nobody lists any more, by what they were started with.
//!
//! Only living processes of our own user are looked at, never ourselves. What
//! ends or may not be read while we look is skipped. A scan reads one or two
//! small files per process: some milliseconds on a busy machine.
//!
//! In the middle of an exec the kernel shows a process without arguments and
//! environment. One that is to be ended must not slip through there: it is
//! looked at again until it has them.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;
use std::{fs, io};

use rustix::buffer::spare_capacity;

use crate::Identity;
use crate::identity::Stat;

/// How often a process in the middle of an exec is looked at again, and how long
/// after: the moment takes microseconds, but on a loaded machine that reads the program
/// from its disk it was longer than 20 ms, and a process slipped through.
const EXEC_LOOKS: u32 = 200;
const EXEC_PAUSE: Duration = Duration::from_millis(1);

/// How much of a file is read at once: more than most have.
const PIECE_BYTES: usize = 4_096;

/// A process that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Which process.
    pub identity: Identity,
    /// The pid of who started it, or has taken it over.
    pub parent: u32,
    /// Its program and arguments, as it shows them now; what is not UTF-8 is
    /// replaced.
    pub args: Vec<String>,
}

/// All processes whose arguments (the program first) satisfy `matches`. Kernel
/// threads have none and are skipped.
///
/// # Errors
/// Where `/proc` itself cannot be read.
pub fn find(matches: impl Fn(&[&str]) -> bool) -> io::Result<Vec<Process>> {
    Ok(pids()?.filter_map(|pid| with_pid(pid, &matches)).collect())
}

/// The living process that has `pid` now, where its arguments (the program first) satisfy
/// `matches`: a pid that somebody named may be another's by now.
pub fn with_pid(pid: u32, matches: impl Fn(&[&str]) -> bool) -> Option<Process> {
    let read = || {
        let args = strings(pid, "cmdline");
        let views: Vec<&str> = args.iter().map(String::as_str).collect();
        (!views.is_empty() && matches(&views)).then_some(args)
    };
    read()?;
    let stat = Stat::read(pid).ok()?.filter(Stat::is_living)?;
    let identity = Identity { pid, start_time: stat.start_time };
    // Again, after its identity is known: the pid may have changed hands.
    Some(Process { identity, parent: stat.parent, args: read()? })
}

/// All processes that were started with the environment variable `name` set to
/// a value that satisfies `value_matches`. The environment is the one of the last
/// exec: what a process sets for itself later does not show, and one that
/// overwrites it (redis-server does, to show a title) is not found.
///
/// # Errors
/// Where `/proc` itself cannot be read.
pub fn find_by_env(name: &str, value_matches: impl Fn(&str) -> bool) -> io::Result<Vec<Identity>> {
    let found = pids()?.filter_map(|pid| {
        has_env(pid, name, &value_matches).then_some(())?;
        let identity = Identity::of(pid).ok()??;
        has_env(pid, name, &value_matches).then_some(identity)
    });
    Ok(found.collect())
}

/// Whether the process that has `pid` now carries that variable.
pub(crate) fn has_env(pid: u32, name: &str, value_matches: impl Fn(&str) -> bool) -> bool {
    strings(pid, "environ").iter().any(|variable| {
        variable
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('='))
            .is_some_and(&value_matches)
    })
}

/// Pids of our own user's processes but ourselves.
pub(crate) fn pids() -> io::Result<impl Iterator<Item = u32>> {
    let this = std::process::id();
    let user = rustix::process::geteuid().as_raw();
    let pids = fs::read_dir("/proc")?.flatten().filter_map(move |entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        (pid != this && entry.metadata().ok()?.uid() == user).then_some(pid)
    });
    Ok(pids)
}

/// The NUL-separated texts of a file of `/proc/PID`; none where it is empty,
/// gone or not ours to read.
fn strings(pid: u32, file: &str) -> Vec<String> {
    let bytes = settled(pid, file).unwrap_or_default();
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}

/// Reads a file of `/proc/PID`, and again while it is empty for no other reason
/// than an exec.
fn settled(pid: u32, file: &str) -> io::Result<Vec<u8>> {
    let mut was_settled = false;
    for _ in 0..EXEC_LOOKS {
        let bytes = read(pid, file)?;
        // With arguments, an empty environment is a fact: but they appear one
        // moment before it, so that it takes a second look to know.
        if !bytes.is_empty() || was_settled {
            return Ok(bytes);
        }
        let is_program = |stat: Stat| stat.is_living() && !stat.is_of_kernel();
        if !Stat::read(pid)?.is_some_and(is_program) {
            return Ok(bytes);
        }
        was_settled = !read(pid, "cmdline")?.is_empty();
        std::thread::sleep(EXEC_PAUSE);
    }
    read(pid, file)
}

/// Reads a file of `/proc/PID`. Such a file has no size that could be asked for, and is read in
/// one piece: a scan reads hundreds, and the kernel writes each text anew.
pub(crate) fn read(pid: u32, file: &str) -> io::Result<Vec<u8>> {
    let file = fs::File::open(format!("/proc/{pid}/{file}"))?;
    let mut bytes = Vec::with_capacity(PIECE_BYTES);
    while rustix::io::read(&file, spare_capacity(&mut bytes))? > 0 {
        if bytes.len() == bytes.capacity() {
            bytes.reserve(PIECE_BYTES);
        }
    }
    Ok(bytes)
}
