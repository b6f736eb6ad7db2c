//! The client against the real systemg.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test, in its helpers too")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use process::{Signal, signal};
use supervisor::{Error, Identity, SpawnRequest, Supervisor, Sysg, spawn_limits};
use testkit::{DEADLINE, SysgProject, sysg_path, wait_until};

fn manifest(children: u32) -> String {
    format!(
        r#"
version: "2"
services:
  parent:
    exec: ["sleep", "1000"]
    env:
      vars:
        OF_THE_SERVICE: "yes"
    spawn:
      mode: dynamic
      limits:
        children: {children}
  childless:
    exec: ["sleep", "1000"]
"#
    )
}

/// A running project and a client for its service `parent`.
fn start(children: u32) -> (SysgProject, Sysg) {
    let project = SysgProject::new(&manifest(children));
    project.start();
    let client = client(&project, &sysg_path(), "parent");
    (project, client)
}

fn client(project: &SysgProject, program: &Path, service: &str) -> Sysg {
    let found = if program.is_absolute() { Some(program) } else { None };
    Sysg::find(found)
        .unwrap()
        .for_parent(project.service(service).unwrap().pid)
        .env("HOME", project.home().to_str().unwrap())
        .timeout(DEADLINE)
}

fn shell(name: &str, script: &str) -> SpawnRequest {
    let args = vec!["-c".to_owned(), script.to_owned()];
    SpawnRequest { name: name.to_owned(), program: "/bin/sh".into(), args }
}

fn sleeper(name: &str) -> SpawnRequest {
    let args = vec!["1000".to_owned()];
    SpawnRequest { name: name.to_owned(), program: "/bin/sleep".into(), args }
}

/// A program that is run in place of `sysg`.
fn stand_in(project: &SysgProject, script: &str) -> std::path::PathBuf {
    let path = project.write("stand-in", &format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

async fn end(identity: &Identity) {
    assert!(signal(identity, Signal::KILL).unwrap());
    wait_until("it is dead", DEADLINE, || async {
        if identity.is_alive() { Err(identity.to_string()) } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn spawn_should_start_a_child_of_the_supervisor_with_all_its_arguments() {
    let (project, sysg) = start(5);
    let out = project.folder().join("out");
    let script =
        format!("echo \"$1|$2|$OF_THE_SERVICE|$PWD\" > {}; sleep 1000; true", out.display());
    let mut request = shell("a-child", &script);
    request.args.extend(["name".to_owned(), "--parent-pid".to_owned(), "b c\n$X".to_owned()]);
    let child = sysg.spawn(&request).await.unwrap();
    wait_until("it says what it was given", DEADLINE, || async {
        let said = fs::read_to_string(&out).unwrap_or_default();
        if said == "--parent-pid|b c\n$X|yes|/\n" { Ok(()) } else { Err(said) }
    })
    .await;
    let stat = fs::read_to_string(format!("/proc/{}/status", child.pid)).unwrap();
    let parent = format!("PPid:\t{}\n", project.supervisor().unwrap().pid);
    assert!(stat.contains(&parent), "{stat}");
    assert_eq!(sysg.version().await.unwrap().split('.').count(), 3);
}

#[tokio::test]
async fn spawn_should_use_the_former_command_where_the_present_one_is_unknown() {
    let (project, _) = start(5);
    let script = format!(
        "case \"$1 $2\" in
           'start --help') echo 'no option for children';;
           start*) echo 'error: unexpected argument' >&2; exit 2;;
           *) exec {} \"$@\";;
         esac",
        sysg_path().display()
    );
    let sysg = client(&project, &stand_in(&project, &script), "parent");
    let child = sysg.spawn(&sleeper("former")).await.unwrap();
    assert!(child.is_alive());
    assert!(project.processes().contains(&child));
}

#[tokio::test]
async fn spawn_past_the_limit_should_name_it_and_work_again_when_a_child_ends() {
    let (_project, sysg) = start(2);
    let first = sysg.spawn(&sleeper("one")).await.unwrap();
    sysg.spawn(&sleeper("two")).await.unwrap();
    let error = sysg.spawn(&sleeper("three")).await.unwrap_err();
    assert!(
        matches!(&error, Error::SpawnLimit { limit, .. } if limit.contains("children")),
        "{error}"
    );
    assert!(error.to_string().contains("spawn.limits"), "{error}");
    end(&first).await;
    wait_until("the place is free", DEADLINE, || async {
        sysg.spawn(&sleeper("three")).await.map_err(|error| error.to_string())
    })
    .await;
}

#[tokio::test]
async fn spawn_should_wait_where_systemg_limits_the_rate() {
    let (_project, sysg) = start(30);
    for number in 0..15 {
        assert!(sysg.spawn(&sleeper(&format!("child-{number}"))).await.unwrap().is_alive());
    }
}

#[tokio::test]
async fn spawn_for_a_parent_that_may_not_should_say_so() {
    let (project, sysg) = start(2);
    let childless = client(&project, sysg.program(), "childless");
    let stranger = client(&project, sysg.program(), "parent").for_parent(std::process::id());
    for sysg in [childless, stranger] {
        let error = sysg.spawn(&sleeper("never")).await.unwrap_err();
        assert!(matches!(error, Error::NotAllowed { .. }), "{error}");
        assert!(error.to_string().contains("mode: dynamic"), "{error}");
    }
}

#[tokio::test]
async fn spawn_without_a_supervisor_should_say_how_to_start_one() {
    let (project, sysg) = start(2);
    project.stop_supervisor();
    let error = sysg.spawn(&sleeper("never")).await.unwrap_err();
    assert!(matches!(error, Error::NoSupervisor { .. }), "{error}");
    assert!(error.to_string().contains("sysg start"), "{error}");
}

#[tokio::test]
async fn spawn_of_what_cannot_run_should_quote_systemg_without_its_warnings() {
    let (_project, sysg) = start(2);
    let program = "/no/such/program".into();
    let request = SpawnRequest { name: "never".into(), program, args: Vec::new() };
    let error = sysg.spawn(&request).await.unwrap_err();
    assert!(matches!(error, Error::Other { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("No such file or directory") && !text.contains("SG0701"), "{text}");
}

#[tokio::test]
async fn child_that_ended_before_it_was_seen_should_be_an_error() {
    let (project, _) = start(2);
    // With the real one it is a race; the pid that this one prints is gone.
    let script = "case \"$*\" in *help) echo --parent-pid;; *) sh -c 'echo $$';; esac";
    let sysg = client(&project, &stand_in(&project, script), "parent");
    let error = sysg.spawn(&sleeper("brief")).await.unwrap_err();
    assert!(matches!(error, Error::DiedAtOnce { .. }), "{error}");
    assert!(error.to_string().contains("_brief_"), "{error}");
}

/// Regression: what was started had ended before the answer was read, its pid was given
/// to another process, and that one was taken for it, and ended in due time.
#[tokio::test]
async fn pid_that_is_another_process_by_now_should_be_an_error() {
    let (project, _) = start(2);
    let mut innocent = std::process::Command::new("sleep").arg("1001").spawn().unwrap();
    let answer =
        format!("case \"$*\" in *help) echo --parent-pid;; *) echo {};; esac", innocent.id());
    let sysg = client(&project, &stand_in(&project, &answer), "parent");
    let error = sysg.spawn(&sleeper("brief")).await.unwrap_err();
    assert!(matches!(error, Error::DiedAtOnce { .. }), "{error}");
    innocent.kill().unwrap();
    innocent.wait().unwrap();
}

#[tokio::test]
async fn hanging_sysg_should_be_ended_with_all_that_it_started() {
    let project = SysgProject::new(&manifest(1));
    let folder = project.folder().display().to_string();
    let program = stand_in(&project, &format!("sh -c 'sleep 1000; true' {folder} & sleep 1000"));
    let sysg = Sysg::find(Some(&program)).unwrap().timeout(Duration::from_millis(300));
    let error = sysg.spawn(&sleeper("never")).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    let left = process::find(|args| args.iter().any(|arg| arg.contains(&folder))).unwrap();
    assert_eq!(left, []);
}

#[tokio::test]
async fn missing_sysg_should_say_what_to_install() {
    let error = Sysg::find(Some(Path::new("/no/such/sysg"))).unwrap_err().to_string();
    assert!(error.contains("/no/such/sysg") && error.contains("cargo install systemg"), "{error}");
}

#[test]
fn limits_should_be_what_systemg_itself_accepts() {
    let project = SysgProject::new(&manifest(7));
    let _ = project.sysg(&["validate"]).unwrap();
    let limits = spawn_limits(&project.folder().join("systemg.yaml"), "parent").unwrap();
    assert_eq!((limits.dynamic, limits.most_children()), (true, 7));
}
