//! What a process costs, as the kernel counts it.

use std::fs;
use std::time::Duration;

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use process::Identity;

/// User and system time since its start, of all threads that it ever had. The kernel
/// counts nanoseconds here, where `/proc/PID/stat` tells hundredths of a second.
pub(super) fn cpu(process: Identity) -> Duration {
    let clock = clock_getcpuclockid(Pid::from_raw(process.pid.cast_signed())).unwrap();
    clock.now().unwrap().into()
}

/// Memory of a process in MB, of a million bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    /// All its pages that are in memory.
    pub(super) resident: f64,
    /// The same, where a page that n processes share counts as one nth.
    pub(super) share: f64,
}

pub(super) fn memory(process: Identity) -> Memory {
    let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", process.pid)).unwrap();
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let kib: f64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kib * 1024.0 / 1e6
    };
    Memory { resident: of("Rss:"), share: of("Pss:") }
}
