//! The pid of a process that died is given to one that is none of ours.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use model::goal::Status;
use model::task::State;
use process::{Identity, Signal};
use serde_json::Value;
use testkit::wait_until_blocking;

use super::apart::apart;
use crate::support::{DEADLINE, Fleet, agents, fleet, goal, identity, signal, task};

/// A process that is nobody's business. Ended on drop.
struct Innocent {
    child: Child,
    identity: Identity,
}

impl Innocent {
    /// Begins as `gone.pid`, which must be free.
    fn as_pid_of(gone: Identity) -> Self {
        let proc = Path::new("/proc").join(gone.pid.to_string());
        wait_until_blocking("the pid is free", DEADLINE, || {
            if proc.exists() { Err(gone.to_string()) } else { Ok(()) }
        });
        // Again where another process or thread was started in between.
        wait_until_blocking("the pid is given again", DEADLINE, || {
            fs::write("/proc/sys/kernel/ns_last_pid", (gone.pid - 1).to_string()).unwrap();
            let mut command = Command::new("sleep");
            // Nothing by which the test would take it for one of its project.
            command.arg("1000").env_clear().env("PATH", "/usr/bin:/bin").current_dir("/");
            let mut child = command.stdin(Stdio::null()).spawn().unwrap();
            if child.id() == gone.pid {
                let identity = Identity::of(child.id()).unwrap().unwrap();
                return Ok(Self { child, identity });
            }
            let other = child.id();
            child.kill().unwrap();
            child.wait().unwrap();
            Err(other.to_string())
        })
    }

    #[track_caller]
    fn assert_unharmed(&mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "{} was ended", self.identity);
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.identity.pid)).unwrap();
        assert!(stat.contains(") S "), "it was stopped: {stat}");
    }
}

impl Drop for Innocent {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn chaos(fleet: &Fleet, args: &[&str]) -> Value {
    let args = [&["chaos", "--yes", "--format", "json"], args].concat();
    let output = fleet.orch(&args);
    assert_eq!(output.status.code(), Some(0), "{output:?}\n{}", fleet.log());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn process_with_the_pid_of_a_dead_one_should_be_left_alone() {
    let here = "faults::pids::process_with_the_pid_of_a_dead_one_should_be_left_alone";
    if !apart(here, &["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]) {
        return;
    }
    let block = "until test -e \"$ORCH_PROJECT/go\"; do sleep 0.05; done";
    let tasks = task("one: Wait", block) + &task("two: Wait", block);
    let fleet = fleet(agents(&["a_agent", "b_agent"]) + &goal(&tasks)).start().await;
    for id in ["one", "two"] {
        fleet.until_task(id, State::Running).await;
    }

    // While the orchestrator does not look.
    let before = fleet.until_registered("a_agent").await;
    let [orchestrator] = fleet.orchestrators()[..] else { panic!("not one orchestrator") };
    signal(orchestrator, Signal::STOP);
    signal(identity(&before), Signal::KILL);
    let mut first = Innocent::as_pid_of(identity(&before));
    let targets = fleet.orch(&["chaos", "--dry-run", "--format", "json"]);
    let seen = String::from_utf8_lossy(&targets.stdout).into_owned();
    assert!(!seen.contains(&format!("\"pid\": {}", before.pid)), "{seen}");
    signal(orchestrator, Signal::CONT);
    let second_life = fleet.until_replaced("a_agent", &before).await;
    assert_ne!(second_life.pid, before.pid);
    first.assert_unharmed();

    // While there is no orchestrator. (Where its own pid is given again, too, sysg 0.69
    // refuses to start the service as long as that process lives.)
    let b = fleet.until_registered("b_agent").await;
    let supervisor = fleet.project.supervisor().unwrap();
    for process in [supervisor, orchestrator, identity(&second_life)] {
        signal(process, Signal::KILL);
    }
    let mut second = Innocent::as_pid_of(identity(&second_life));
    fleet.project.start();
    let third_life = fleet.until_replaced("a_agent", &second_life).await;
    let status = fleet.status();
    let pids: Vec<u64> = status["agents"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|agent| agent["registered"]["pid"].as_u64())
        .collect();
    assert_eq!(pids, [u64::from(third_life.pid), u64::from(b.pid)], "{status:#}");

    // Whoever breaks things on purpose, and whoever ends them all, spares them, too.
    let json = chaos(&fleet, &["--kill", "agents", "--count", "2", "--every", "0.5s"]);
    let hit: Vec<u64> =
        json["faults"].as_array().unwrap().iter().filter_map(|f| f["pid"].as_u64()).collect();
    assert_eq!(hit.len(), 2, "{json:#}");
    fleet.project.write("go", "");
    fleet.until_goal(Status::Complete).await;
    let audit = fleet.orch(&["audit"]);
    assert!(audit.status.success(), "{audit:?}");
    fleet.project.stop();
    for innocent in [&mut first, &mut second] {
        innocent.assert_unharmed();
    }
}
