//! A test that needs more of the machine than it has runs once more in namespaces of its
//! own, where mounts and pids are nobody else's and end with it.

use std::env;
use std::process::Command;

use super::skip;

/// Names the test that runs apart, in its environment.
const APART: &str = "ORCH_TEST_APART";

/// Whether the test goes on: in namespaces of its own. Else it was run there, by this.
///
/// # Panics
/// Where it failed there; where there are no namespaces and nothing may be skipped.
#[track_caller]
pub(super) fn apart(test: &str, namespaces: &[&str]) -> bool {
    if env::var_os(APART).is_some_and(|name| name == test) {
        return true;
    }
    // As root as it is; else with a user namespace, in which everybody may be root.
    let ways: [&[&str]; 2] = [&[], &["--user", "--map-root-user"]];
    let unshare = |way: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.args(way).args(namespaces);
        unshare
    };
    let probe = |way: &&&[&str]| {
        let ran = unshare(way).args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
        ran.is_ok_and(|ran| ran.status.success())
    };
    let Some(way) = ways.iter().find(probe) else {
        skip(&format!("no namespaces ({}) and mounts here", namespaces.join(" ")));
        return false;
    };
    let mut again = unshare(way);
    if namespaces.contains(&"--pid") {
        // The first process of a pid namespace inherits its orphans and must reap them.
        again.args(["sh", "-c", "\"$@\"; exit $?", "sh"]);
    }
    again.arg(env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]);
    let ran = again.env(APART, test).output().unwrap();
    let (said, errors) =
        (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{}\n{said}\n{errors}", ran.status);
    assert!(said.contains("1 passed"), "there is no test {test}: {said}");
    print!("{said}");
    false
}
