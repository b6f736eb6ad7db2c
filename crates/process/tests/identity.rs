//! Identity, watches and scans on real processes.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test, in its helpers too")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use process::{Exit, Identity, Signal, end_marked, find, find_by_env, signal};
use testkit::{DEADLINE, wait_until, wait_until_blocking};

/// A process of a test, killed and reaped with it.
struct Sleeper(Child);

impl Sleeper {
    fn start(name: &str, value: &str) -> (Self, Identity) {
        let child = Command::new("sleep").arg("1000").env(name, value).spawn().unwrap();
        let identity = Identity::of(child.id()).unwrap().unwrap();
        (Self(child), identity)
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn this_should_be_alive() {
    let this = Identity::this().unwrap();
    assert_eq!(this.pid, std::process::id());
    assert!(this.is_alive());
    assert!(!Identity { start_time: this.start_time + 1, ..this }.is_alive());
}

#[test]
fn zombie_should_count_as_gone() {
    let (mut sleeper, identity) = Sleeper::start("A", "1");
    sleeper.0.kill().unwrap();
    // Not waited for: it stays in the table.
    wait_until_blocking("it is a zombie", DEADLINE, || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", identity.pid)).unwrap();
        if stat.contains(") Z ") { Ok(()) } else { Err(stat) }
    });
    assert_eq!(Identity::of(identity.pid).unwrap(), None);
    assert!(!identity.is_alive());
    assert!(!signal(&identity, Signal::KILL).unwrap());
}

/// While a process is taken out of the tables the kernel shows no group for it. Who
/// looked at that moment took it for alive, and nobody woke him again.
#[test]
fn process_that_is_being_reaped_should_never_look_alive_again() {
    let watched = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let (mut last, mut dead) = (0, false);
            loop {
                let pid = watched.load(Ordering::Acquire);
                match pid {
                    0 => continue,
                    u32::MAX => return,
                    _ => {}
                }
                (last, dead) = (pid, dead && last == pid);
                let now = Identity::of(pid);
                assert!(now.is_ok(), "{now:?}");
                let lives = now.is_ok_and(|now| now.is_some());
                assert!(!(dead && lives), "{pid} lives again");
                dead |= !lives;
            }
        });
        for _ in 0..500 {
            let mut child = Command::new("true").spawn().unwrap();
            watched.store(child.id(), Ordering::Release);
            child.wait().unwrap();
            watched.store(0, Ordering::Release);
        }
        watched.store(u32::MAX, Ordering::Release);
        looking.join().unwrap();
    });
}

#[test]
fn signal_should_spare_whoever_has_the_pid_now() {
    let (mut sleeper, identity) = Sleeper::start("A", "1");
    let earlier = Identity { start_time: identity.start_time - 1, ..identity };
    assert!(!signal(&earlier, Signal::KILL).unwrap());
    assert!(signal(&identity, Signal::STOP).unwrap());
    // Of two signals that wait, the kernel delivers SIGTERM first.
    wait_until_blocking("it is stopped", DEADLINE, || {
        let status = fs::read_to_string(format!("/proc/{}/status", identity.pid)).unwrap();
        if status.contains("\nState:\tT") { Ok(()) } else { Err(status) }
    });
    assert!(identity.is_alive());
    assert!(signal(&identity, Signal::TERM).unwrap());
    assert!(signal(&identity, Signal::CONT).unwrap());
    assert_eq!(sleeper.0.wait().unwrap().signal(), Some(15));
    assert!(!signal(&identity, Signal::TERM).unwrap());
}

#[test]
fn program_names_should_not_confuse() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a) S 1 (b", ") R 0 0 0 0", "new\nline", "((("] {
        let program = folder.path().join(name);
        fs::copy("/bin/sleep", &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let (_earlier, earlier) = Sleeper::start("A", "1");
        let sleeper = wait_until_blocking("it starts", DEADLINE, || {
            // ETXTBSY: another test's fork may still hold the copy open.
            let child = Command::new(&program).arg("1000").spawn();
            child.map(Sleeper).map_err(|error| error.to_string())
        });
        let identity = Identity::of(sleeper.0.id()).unwrap().unwrap();
        let (_later, later) = Sleeper::start("A", "1");
        assert!(identity.is_alive());
        let between = earlier.start_time..=later.start_time;
        assert!(between.contains(&identity.start_time), "{identity}, {between:?}");
    }
}

#[tokio::test]
async fn watch_should_complete_at_the_end_and_not_before() {
    let (sleeper, identity) = Sleeper::start("A", "1");
    let mut wait = std::pin::pin!(Exit::watch(identity).unwrap().wait());
    tokio::select! {
        biased;
        ended = &mut wait => panic!("{ended:?}"),
        () = tokio::time::sleep(Duration::from_millis(20)) => {}
    }
    assert!(signal(&identity, Signal::KILL).unwrap());
    // It is a zombie, as nobody waits for it: that counts.
    tokio::time::timeout(DEADLINE, wait).await.unwrap().unwrap();
    assert!(!identity.is_alive());
    let again = Exit::watch(identity).unwrap().wait();
    tokio::time::timeout(DEADLINE, again).await.unwrap().unwrap();
    drop(sleeper);
    let reaped = Exit::watch(identity).unwrap().wait();
    tokio::time::timeout(DEADLINE, reaped).await.unwrap().unwrap();
}

#[tokio::test]
async fn watch_of_a_reused_pid_should_complete_at_once() {
    let (_sleeper, identity) = Sleeper::start("A", "1");
    let earlier = Identity { start_time: identity.start_time - 1, ..identity };
    let wait = Exit::watch(earlier).unwrap().wait();
    tokio::time::timeout(DEADLINE, wait).await.unwrap().unwrap();
}

#[tokio::test]
async fn watches_should_give_their_files_back() {
    let (_sleeper, identity) = Sleeper::start("A", "1");
    let open = || {
        let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let names = links.filter_map(|link| fs::read_link(link.path()).ok());
        names.filter(|name| name.to_string_lossy().contains("pidfd")).count()
    };
    let watches: Vec<Exit> = (0..100).map(|_| Exit::watch(identity).unwrap()).collect();
    assert!(open() >= 100);
    drop(watches);
    wait_until("they are closed", DEADLINE, || async {
        // Other tests of this process have some open.
        let now = open();
        if now < 50 { Ok(()) } else { Err(format!("{now} open")) }
    })
    .await;
}

#[test]
fn find_should_see_arguments_but_not_ourselves() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().display().to_string();
    let script = "echo; read line";
    let child = Command::new("/bin/sh")
        .args(["-c", script, "name", "", &mark])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let sleeper = Sleeper(child);
    let found = find(|args| args.last() == Some(&mark.as_str())).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].identity.pid, sleeper.0.id());
    assert_eq!(found[0].args, ["/bin/sh", "-c", script, "name", "", &mark]);
    let this = std::process::id();
    assert!(find(|_| true).unwrap().iter().all(|process| process.identity.pid != this));
}

#[test]
fn find_by_env_should_compare_whole_names_and_values() {
    let folder = tempfile::tempdir().unwrap();
    let value = folder.path().display().to_string();
    let (_sleeper, identity) = Sleeper::start("PROCESS_TEST_FIND", &value);
    let is_ours = |found: &str| Path::new(found) == folder.path();
    assert_eq!(find_by_env("PROCESS_TEST_FIND", is_ours).unwrap(), [identity]);
    assert_eq!(find_by_env("PROCESS_TEST_FIN", is_ours).unwrap(), []);
    assert_eq!(find_by_env("PROCESS_TEST_FIND", str::is_empty).unwrap(), []);
}

#[test]
fn find_should_not_miss_a_process_in_the_middle_of_its_exec() {
    let folder = tempfile::tempdir().unwrap();
    let value = folder.path().display().to_string();
    for round in 0..150 {
        let mark = format!("{value}{round}");
        // std returns as soon as the child has let go of our memory.
        let (_child, identity) = Sleeper::start("PROCESS_TEST_EXEC", &mark);
        let found = find_by_env("PROCESS_TEST_EXEC", |found| found == mark).unwrap();
        assert_eq!(found, [identity], "round {round}");
    }
}

#[test]
fn end_marked_should_kill_the_marked_and_only_them() {
    let folder = tempfile::tempdir().unwrap();
    let value = folder.path().display().to_string();
    let (_first, first) = Sleeper::start("PROCESS_TEST_END", &value);
    let (_second, second) = Sleeper::start("PROCESS_TEST_END", &value);
    let (_other, other) = Sleeper::start("PROCESS_TEST_END", "other");
    let is_ours = |found: &str| Path::new(found) == folder.path();
    assert_eq!(end_marked("PROCESS_TEST_END", is_ours).unwrap(), 2);
    assert!(!first.is_alive() && !second.is_alive() && other.is_alive());
    assert_eq!(end_marked("PROCESS_TEST_END", is_ours).unwrap(), 0);
}

#[test]
fn parent_should_be_who_started_it_and_none_once_it_is_gone() {
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let identity = process::Identity::of(child.id()).unwrap().unwrap();
    assert_eq!(identity.parent(), Some(std::process::id()));
    let other = process::Identity { start_time: identity.start_time + 1, ..identity };
    assert_eq!(other.parent(), None, "another process of that pid");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(identity.parent(), None);
}
