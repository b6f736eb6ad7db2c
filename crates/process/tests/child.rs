//! Children of every bad kind, run by real shells.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test, in its helpers too")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use process::{Command, Identity, Signal, Status, find_by_env};
use testkit::{DEADLINE, wait_until, wait_until_blocking};
use tokio_util::sync::CancellationToken;

const MARK: &str = "PROCESS_TEST_MARK";

/// A shell with this script in a folder of its own, marked with the folder's name.
fn shell(folder: &Path, script: &str) -> Command {
    Command::new("/bin/sh")
        .args(["-c", script])
        .current_dir(folder)
        .marker(MARK, folder.display().to_string())
        .timeout(2 * DEADLINE)
}

fn marked(folder: &Path) -> Vec<Identity> {
    find_by_env(MARK, |value| Path::new(value) == folder).unwrap()
}

/// Waits until a script has made this file.
async fn made(path: &Path) {
    wait_until("the script is ready", DEADLINE, || async {
        fs::metadata(path).map_err(|error| error.to_string())
    })
    .await;
}

/// The process whose pid a script wrote into a file.
fn written(path: &Path) -> Result<Identity, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let pid = text.trim().parse().map_err(|_| format!("{text:?}"))?;
    Identity::of(pid).unwrap().ok_or_else(|| format!("{pid} is gone"))
}

#[tokio::test]
async fn child_should_report_status_and_both_streams() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let script = "read line; echo \"out $line $A\"; sleep 0.05; echo err >&2; pwd; exit 7";
    let command = shell(folder.path(), script).env("A", "b c").stdin("first\nsecond\n");
    let ended = command.log(&log).run().await.unwrap();
    assert_eq!(ended.status, Status::Exited(7));
    let pwd = folder.path().display();
    assert_eq!(ended.stdout.text, format!("out first b c\n{pwd}\n"));
    assert_eq!(ended.stderr.text, "err\n");
    let logged = fs::read_to_string(log).unwrap();
    assert!(logged.starts_with("out first b c\n"), "{logged}");
    assert_eq!(logged.len(), ended.stdout.text.len() + ended.stderr.text.len());

    let killed = shell(folder.path(), "kill -9 $$").run().await.unwrap();
    assert_eq!(killed.status, Status::Signalled(9));
    let bare = shell(folder.path(), "/usr/bin/env").env_clear().env("A", "1").run().await.unwrap();
    assert!(!bare.stdout.text.contains("HOME="), "{}", bare.stdout.text);
    assert!(bare.stdout.text.contains("A=1\n"), "{}", bare.stdout.text);
}

#[tokio::test]
async fn child_that_cannot_start_should_say_what_and_where() {
    let error = Command::new("no-such-program").run().await.unwrap_err().to_string();
    assert!(error.contains("`no-such-program`: check that"), "{error}");
    let missing = Command::new("true").current_dir("/no/such/folder").run().await;
    assert!(missing.unwrap_err().to_string().contains("in /no/such/folder"));
    let unlogged = Command::new("true").log("/no/such/folder/log").run().await;
    assert!(unlogged.unwrap_err().to_string().contains("/no/such/folder/log"));
}

/// Starts one in its group and one that leaves the group, and waits.
const FAMILY: &str = "
    sleep 1000 &
    setsid sh -c 'echo $$ > escaped; exec sleep 1000' &
    until [ -s escaped ]; do sleep 0.01; done
    touch ready; wait";

#[tokio::test]
async fn cancellation_should_end_grandchildren_and_those_who_left_the_group() {
    let folder = tempfile::tempdir().unwrap();
    let cancel = CancellationToken::new();
    let run = shell(folder.path(), FAMILY).cancel(cancel.clone()).run();
    let look = async {
        made(&folder.path().join("ready")).await;
        assert!(marked(folder.path()).len() >= 3);
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(run, look);
    assert_eq!(ended.unwrap().status, Status::Cancelled);
    assert_eq!(marked(folder.path()), []);
    let already = shell(folder.path(), "sleep 1000").cancel(cancel).run().await.unwrap();
    assert_eq!(already.status, Status::Cancelled);
}

#[tokio::test]
async fn timeout_should_end_all_that_ignore_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let deaf = format!("trap '' TERM; echo said; {FAMILY}; while :; do sleep 1; done");
    let (timeout, grace) = (Duration::from_millis(500), Duration::from_millis(200));
    let ended = shell(folder.path(), &deaf).timeout(timeout).grace(grace).run().await.unwrap();
    assert_eq!(ended.status, Status::TimedOut);
    assert_eq!(ended.stdout.text, "said\n");
    assert!(ended.duration >= timeout + grace, "{ended:?}");
    assert_eq!(marked(folder.path()), []);
}

#[tokio::test]
async fn sigterm_should_come_first_and_leave_the_whole_group_its_grace() {
    let folder = tempfile::tempdir().unwrap();
    // The leader dies of the signal at once; its child needs a moment.
    let script = "
        sh -c \"trap 'sleep 0.3; echo tidied > tidied; exit' TERM; touch ready
                while :; do sleep 0.01; done\" &
        wait";
    let cancel = CancellationToken::new();
    let run = shell(folder.path(), script).cancel(cancel.clone()).grace(DEADLINE).run();
    let look = async {
        made(&folder.path().join("ready")).await;
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(run, look);
    assert_eq!(ended.unwrap().status, Status::Cancelled);
    assert_eq!(fs::read_to_string(folder.path().join("tidied")).unwrap(), "tidied\n");
}

#[tokio::test]
async fn exit_should_not_wait_for_a_background_job_that_holds_the_output() {
    let folder = tempfile::tempdir().unwrap();
    let script = "sleep 1000 & setsid sleep 1000 & echo done; exit 0";
    let ended = shell(folder.path(), script).run().await.unwrap();
    assert_eq!(ended.status, Status::Exited(0));
    assert_eq!(ended.stdout.text, "done\n");
    assert_eq!(marked(folder.path()), []);
}

#[tokio::test]
async fn exit_should_not_wait_for_one_who_escaped_group_and_marker() {
    let folder = tempfile::tempdir().unwrap();
    let script = "env -i setsid sh -c 'echo $$ > pid; exec sleep 1000' &
                  until [ -s pid ]; do sleep 0.01; done; echo done";
    let ended = shell(folder.path(), script).run().await.unwrap();
    assert_eq!((ended.status, ended.stdout.text.as_str()), (Status::Exited(0), "done\n"));
    let escaped = written(&folder.path().join("pid")).unwrap();
    assert!(process::signal(&escaped, Signal::KILL).unwrap());
}

#[tokio::test]
async fn dropped_run_should_kill_everything() {
    let folder = tempfile::tempdir().unwrap();
    let ready = folder.path().join("ready");
    tokio::select! {
        ended = shell(folder.path(), FAMILY).run() => panic!("{ended:?}"),
        () = made(&ready) => {}
    }
    wait_until("nobody is left", DEADLINE, || async {
        let left = marked(folder.path());
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

#[tokio::test]
async fn output_without_end_should_be_drained_and_stay_bounded() {
    const LIMIT: usize = 64 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let script = "echo first; head -c 50000000 /dev/zero | tr '\\0' x; echo; echo last";
    let command = shell(folder.path(), script).max_bytes(LIMIT).log(&log);
    let ended = command.run().await.unwrap();
    assert_eq!(ended.status, Status::Exited(0));
    let logged = fs::read_to_string(&log).unwrap();
    for text in [&ended.stdout.text, &logged] {
        assert!(text.starts_with("first\nxxx") && text.ends_with("xxx\nlast\n"));
        let line = format!("\n[... {} bytes left out ...]\n", ended.stdout.left_out_bytes);
        assert_eq!(text.len(), LIMIT + line.len());
        assert!(text.contains(&line));
    }
    assert_eq!(ended.stdout.left_out_bytes as usize + LIMIT, 50_000_000 + 12);
}

/// Programs of Node.js write so: what finds no room when they end is lost.
#[tokio::test]
async fn output_should_find_room_also_where_it_is_written_without_blocking() {
    for _ in 0..5 {
        let dd = ["if=/dev/zero", "bs=900000", "count=1", "oflag=nonblock", "status=none"];
        let ended = Command::new("dd").args(dd).max_bytes(1 << 20).run().await.unwrap();
        assert_eq!(
            (ended.status, ended.stdout.text.len()),
            (Status::Exited(0), 900_000),
            "{ended:?}"
        );
    }
}

#[tokio::test]
async fn log_should_be_readable_while_the_child_runs() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let script = "echo one; until [ -e go ]; do sleep 0.01; done; echo two";
    let run = shell(folder.path(), script).log(&log).run();
    let follow = async {
        wait_until("the first line is there", DEADLINE, || async {
            let text = fs::read_to_string(&log).map_err(|error| error.to_string())?;
            if text == "one\n" { Ok(()) } else { Err(text) }
        })
        .await;
        fs::write(folder.path().join("go"), "").unwrap();
    };
    let (ended, ()) = tokio::join!(run, follow);
    assert_eq!(ended.unwrap().stdout.text, "one\ntwo\n");
    assert_eq!(fs::read_to_string(&log).unwrap(), "one\ntwo\n");
}

#[tokio::test]
async fn unread_input_should_not_hang() {
    let folder = tempfile::tempdir().unwrap();
    let ended = shell(folder.path(), "exit 3").stdin(vec![b'x'; 4 << 20]).run().await.unwrap();
    assert_eq!(ended.status, Status::Exited(3));
}

#[test]
#[ignore = "no test: the parent that the next test kills"]
fn intermediate_parent() {
    let folder = std::env::var("INTERMEDIATE_PARENT_FOLDER").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let script = "echo $$ > pid; exec sleep 1000";
    let run = Command::new("/bin/sh").args(["-c", script]).current_dir(folder).run();
    runtime.block_on(run).unwrap();
}

#[test]
fn child_should_die_with_its_parent() {
    let folder = tempfile::tempdir().unwrap();
    let mut parent = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "intermediate_parent", "--ignored", "--test-threads=1"])
        .env("INTERMEDIATE_PARENT_FOLDER", folder.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let path = folder.path().join("pid");
    let child = wait_until_blocking("the child runs", DEADLINE, || written(&path));
    parent.kill().unwrap();
    parent.wait().unwrap();
    wait_until_blocking("the child is dead", DEADLINE, || {
        if child.is_alive() { Err(child.to_string()) } else { Ok(()) }
    });
}

#[tokio::test]
async fn runs_should_leave_no_zombie_and_no_open_file() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
        links.filter_map(|link| fs::read_link(link.path()).ok()).count()
    };
    shell(folder.path(), "true").run().await.unwrap();
    let before = open();
    for _ in 0..20 {
        let ended = shell(folder.path(), "echo $$ > pid; true & true").run().await.unwrap();
        assert_eq!(ended.status, Status::Exited(0));
        let pid = fs::read_to_string(folder.path().join("pid")).unwrap();
        assert!(!Path::new("/proc").join(pid.trim()).exists());
    }
    // Other tests of this process open and close files meanwhile.
    wait_until("files are closed again", DEADLINE, || async {
        let now = open();
        if now < before + 20 { Ok(()) } else { Err(format!("{before} then, {now} now")) }
    })
    .await;
}
