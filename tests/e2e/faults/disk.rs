//! Disks that are full, and have room again.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::Command;

use model::goal::Status;
use model::task::State;
use process::Signal;
use testkit::wait_until;

use super::apart::apart;
use crate::support::{DEADLINE, Fleet, agents, fleet, goal, signal, task};

/// A small disk of its own. Unmounted on drop.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: PathBuf, mib: u32) -> Self {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m,mode=0755"), "tmpfs"]).arg(&at);
        let ran = mount.output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        Self(at)
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Leaves no byte of room.
    fn fill(&self) {
        let mut file = File::create(self.ballast()).unwrap();
        for piece in [&[0_u8; 65_536][..], &[0_u8; 1][..]] {
            loop {
                match file.write_all(piece) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: it goes with its last user, and the folder can be removed.
        // First: once it is unmounted, nobody can tell by its folder whose Redis that is.
        let at = |process: &process::Process| {
            fs::read_link(format!("/proc/{}/cwd", process.identity.pid))
                .is_ok_and(|folder| folder.starts_with(&self.0))
        };
        for process in process::find(|_| true).unwrap_or_default().iter().filter(|p| at(p)) {
            _ = process::signal(&process.identity, Signal::KILL);
        }
        _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

/// Redis says that it takes no writes.
async fn until_refused(fleet: &Fleet) {
    wait_until("Redis refuses to write", DEADLINE, || async {
        let said = fleet.redis("SET test:room no");
        if said.starts_with("MISCONF") { Ok(()) } else { Err(said) }
    })
    .await;
}

async fn until_said(fleet: &Fleet, words: &[&str]) {
    wait_until("the logs say so", DEADLINE, || async {
        let log = fleet.log();
        if log.lines().any(|line| words.iter().all(|word| line.contains(word))) {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
}

/// Nothing is told any more, and nothing was done that must not be.
async fn assert_well(fleet: &Fleet) {
    wait_until("there is no problem", DEADLINE, || async {
        let problems = &fleet.status()["problems"];
        if problems.as_array().unwrap().is_empty() { Ok(()) } else { Err(problems.to_string()) }
    })
    .await;
    let audit = fleet.orch(&["audit"]);
    assert!(audit.status.success(), "{audit:?}");
}

fn out(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn full_disk_of_redis_should_stop_everything_and_lose_nothing() {
    let here = "faults::disk::full_disk_of_redis_should_stop_everything_and_lose_nothing";
    if !apart(here, &["--mount"]) {
        return;
    }
    let block = "until test -e \"$ORCH_PROJECT/go-$ORCH_TASK\"; do sleep 0.05; done\n\
        echo \"$ORCH_TASK $ORCH_ATTEMPT\" >> finished";
    let tasks = task("before: Before", "true")
        + &task("one: Wait (after: before)", block)
        + &task("two: Wait (after: before)", block)
        + &task("after: After (after: one, two)", "true");
    let fleet = fleet(agents(&["a_agent", "b_agent"]) + &goal(&tasks)).lease_ttl("6").write().await;
    let disk = Disk::mount(fleet.path(".orch/redis"), 4);
    fleet.project.start();
    for id in ["one", "two"] {
        fleet.until_task(id, State::Running).await;
    }
    let (done, orchestrators) =
        (fleet.until_task("before", State::Done).await, fleet.orchestrators());

    // For a moment: what ends then cannot be recorded, and is as soon as it can be.
    disk.fill();
    until_refused(&fleet).await;
    fleet.project.write("go-one", "");
    until_said(&fleet, &["Cannot report", "No space left on device"]).await;
    assert_eq!(fleet.redis("HGET task:one status"), "running", "a write that was refused");
    disk.make_room();
    let one = fleet.until_task("one", State::Done).await;
    assert_eq!((one.attempt, fleet.read(fleet.work("finished"))), (1, "one 1\n".to_owned()));

    // For longer than a lease lives, with a crash of Redis.
    disk.fill();
    until_refused(&fleet).await;
    fleet.project.write("heartbeat/b_agent.md", "PAUSE\n");
    let doctor = out(&fleet.orch(&["doctor", "--format", "json"]));
    assert!(doctor.contains("every write is refused"), "{doctor}");
    let status = fleet.status();
    let problem = status["problems"][0]["message"].as_str().unwrap_or_default();
    assert!(problem.contains("Redis refuses every write"), "{status:#}");
    wait_until("no agent works without Redis", DEADLINE, || async {
        let left = fleet.all_agent_processes();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}\n{}", fleet.log())) }
    })
    .await;
    signal(fleet.redis_process(), Signal::KILL);
    assert_eq!(fleet.read(fleet.path("heartbeat/b_agent.ack.md")), "", "nothing was applied");
    disk.make_room();
    fleet.project.write("go-two", "");
    fleet.until_goal(Status::Complete).await;

    assert_eq!(fleet.orchestrators(), orchestrators, "it ended, too");
    let now = fleet.until_task("before", State::Done).await;
    assert_eq!((now.epoch, now.finished), (done.epoch, done.finished), "it ran again");
    assert_eq!(fleet.read(fleet.work("finished")), "one 1\ntwo 2\n");
    fleet.until_agent("b_agent", "is paused", |agent| agent.paused).await;
    assert_eq!(fleet.events("directive").await.len(), 1);
    assert_well(&fleet).await;
}

/// With `appendfsync always` Redis ends itself where it cannot write, again and again.
#[tokio::test]
async fn redis_that_ends_for_want_of_room_should_be_waited_for() {
    let here = "faults::disk::redis_that_ends_for_want_of_room_should_be_waited_for";
    if !apart(here, &["--mount"]) {
        return;
    }
    let tasks = task("before: Before", "echo \"$ORCH_EPOCH\" >> before")
        + &task(
            "held: Wait (after: before)",
            "until test -e \"$ORCH_PROJECT/go\"; do sleep 0.05; done",
        );
    let fleet = fleet(agents(&["a_agent"]) + &goal(&tasks))
        .redis_args(&["--appendfsync", "always"])
        .write()
        .await;
    let disk = Disk::mount(fleet.path(".orch/redis"), 4);
    fleet.project.start();
    fleet.until_task("held", State::Running).await;
    let done = fleet.until_task("before", State::Done).await;
    let (redis, orchestrators) = (fleet.redis_process(), fleet.orchestrators());

    disk.fill();
    wait_until("Redis is gone, and nobody works without", DEADLINE, || async {
        let left = (redis.is_alive(), fleet.all_agent_processes());
        if left == (false, Vec::new()) { Ok(()) } else { Err(format!("{left:?}\n{}", fleet.log())) }
    })
    .await;
    disk.make_room();
    fleet.project.write("go", "");
    fleet.until_goal(Status::Complete).await;
    // What was acknowledged before is as it was.
    let now = fleet.until_task("before", State::Done).await;
    assert_eq!((now.epoch, now.finished), (done.epoch, done.finished));
    assert_eq!(fleet.read(fleet.work("before")), format!("{}\n", done.epoch));
    assert_eq!(fleet.orchestrators(), orchestrators, "it ended, too");
    assert_well(&fleet).await;
}

#[tokio::test]
async fn full_disk_of_the_project_should_be_told_and_use_up_no_attempts() {
    let here = "faults::disk::full_disk_of_the_project_should_be_told_and_use_up_no_attempts";
    if !apart(here, &["--mount"]) {
        return;
    }
    let block = "until test -e \"$ORCH_PROJECT/go-$ORCH_TASK\"; do sleep 0.05; done\n\
        echo made > out-$ORCH_TASK";
    let tasks = task("one: Wait -> out-one", block) + &task("two: Wait -> out-two", block);
    let text = agents(&["a_agent"]) + &goal(&tasks);
    let fleet = fleet(&text).write().await;
    let folders = [
        fleet.path(".orch"),
        fleet.path("heartbeat"),
        fleet.project.home().join(".local/share/systemg/logs"),
    ];
    let disks = folders.map(|at| {
        fs::create_dir_all(&at).unwrap();
        Disk::mount(at, 4)
    });
    fs::create_dir_all(fleet.path(".orch/redis")).unwrap();
    let _redis = Disk::mount(fleet.path(".orch/redis"), 16);
    fleet.project.start();
    fleet.until_task("one", State::Running).await;
    let before = (fleet.until_registered("a_agent").await, fleet.orchestrators());
    let copy = fleet.path(".orch/last-good.md");
    wait_until("a copy is kept", DEADLINE, || async {
        let kept = fleet.read(&copy);
        if kept == text { Ok(()) } else { Err(kept) }
    })
    .await;

    // What a person saved while there was room.
    let (draft, heartbeat) = (fleet.path("heartbeat/draft"), fleet.path("heartbeat/a_agent.md"));
    fs::write(&draft, "FLUSH-MEMORY\n").unwrap();

    disks.iter().for_each(Disk::fill);
    let changed = format!("{text}\nA note of a person.\n");
    fleet.project.write("INSTRUCTIONS.md", &changed);
    fs::rename(&draft, &heartbeat).unwrap();
    fleet.project.write("go-one", "");
    // The task itself could not write: that is its failure. Nothing else counts.
    wait_until("an attempt is handed back", DEADLINE, || async {
        let released = fleet.events("task-release").await;
        let said = released.iter().any(|e| e.field("reason").contains("No space left on device"));
        if said { Ok(()) } else { Err(format!("{released:?}\n{}", fleet.log())) }
    })
    .await;
    let doctor = out(&fleet.orch(&["doctor"]));
    assert!(doctor.contains("make room there"), "{doctor}");
    wait_until("the status tells what cannot be written", DEADLINE, || async {
        let problems = fleet.status()["problems"].to_string();
        let told = problems.contains("a_agent.ack.md") && problems.contains("No space left");
        if told { Ok(()) } else { Err(format!("{problems}\n{}", fleet.log())) }
    })
    .await;
    assert_eq!(fleet.read(&copy), text, "half of a copy");

    disks.iter().for_each(Disk::make_room);
    fleet.project.write("go-two", "");
    fleet.until_goal(Status::Complete).await;
    for (id, failures) in [("one", 1), ("two", 0)] {
        let done = fleet.until_task(id, State::Done).await;
        assert_eq!(done.failures, failures, "{done:?}");
        assert_eq!(fleet.read(fleet.work(&format!("out-{id}"))), "made\n");
    }
    let ack = fleet.path("heartbeat/a_agent.ack.md");
    wait_until("a copy is kept again, and the answer written", DEADLINE, || async {
        let (kept, answer) = (fleet.read(&copy), fleet.read(&ack));
        let both = kept == changed && answer.contains("`FLUSH-MEMORY` | applied");
        if both { Ok(()) } else { Err(format!("{kept}\n{answer}")) }
    })
    .await;
    assert_eq!(fleet.events("directive").await.len(), 1);
    let after = fleet.until_registered("a_agent").await;
    assert_eq!((after.incarnation, fleet.orchestrators()), (before.0.incarnation, before.1));
    assert_well(&fleet).await;
}
