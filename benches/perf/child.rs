//! Work in a process of its own, whose memory and CPU time are then of that work alone.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

/// The word with which this program is its own child.
pub(crate) const WORD: &str = "--child";

/// Numbers by name: what a child tells.
pub(crate) type Told = BTreeMap<String, f64>;

/// In the child: does its part of `case`, and tells the parent.
pub(crate) fn play(case: &str, args: &[&str]) {
    let told = match case {
        "accept" => crate::locally(crate::accept::child(args)),
        "loops" => crate::locally(crate::loops::child(args)),
        other => panic!("`{other}` needs no child"),
    };
    println!("{}", serde_json::to_string(&told).expect("numbers are JSON"));
}

/// Has a child do its part of `case`.
pub(crate) fn run(case: &str, args: &[&str]) -> Told {
    let output = Command::new(std::env::current_exe().expect("our own path"))
        .args([WORD, case])
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("a child of our own program");
    assert!(output.status.success(), "{case} {args:?}: {}", output.status);
    serde_json::from_slice(&output.stdout).expect("a line of numbers")
}

/// One of this process's figures in `/proc`, as `VmHWM`, in KiB.
pub(crate) fn memory_kib(name: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.expect(name).parse().expect(name)
}

/// CPU time that a process has used, in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("/proc");
    let (_, rest) = stat.rsplit_once(')').expect("a name in parentheses");
    // In user and in system mode: fields 14 and 15 of proc(5), in ticks of 10 ms.
    let ticks = rest.split_whitespace().skip(11).take(2);
    ticks.map(|field| field.parse::<f64>().expect("ticks")).sum::<f64>() / 100.0
}

/// Lets `VmHWM` begin anew.
pub(crate) fn forget_peak() {
    fs::write("/proc/self/clear_refs", "5").expect("/proc");
}
