//! `orch chaos` on a whole fleet: what it breaks, what it measures, what it leaves alone.

use std::fs;
use std::process::Output;

use model::goal::Status;
use model::task::State;
use process::{Identity, Signal};
use serde_json::Value;
use testkit::wait_until_blocking;

use crate::support::{DEADLINE, Fleet, ORCH, agents, fleet, goal, identity, name, signal, task};

/// Waits for the file `go`.
const WAITING: &str = "until test -e \"$ORCH_PROJECT/go\"; do sleep 0.05; done\n\
    echo \"$ORCH_TASK\" >> finished";
const NAMES: [&str; 2] = ["a_agent", "b_agent"];
const TASKS: [&str; 2] = ["task-001", "task-002"];

fn two_at_work() -> String {
    let tasks: String = TASKS.iter().map(|id| task(&format!("{id}: Wait"), WAITING)).collect();
    agents(&NAMES) + &goal(&tasks)
}

/// A fleet of two agents, each of which runs a task.
async fn at_work(lease_ttl: &'static str) -> Fleet {
    let fleet = fleet(two_at_work()).lease_ttl(lease_ttl).start().await;
    for task in TASKS {
        fleet.until_task(task, State::Running).await;
    }
    for name in NAMES {
        fleet.until_registered(name).await;
    }
    fleet
}

/// Runs `orch chaos --format json`, which must succeed.
#[track_caller]
fn chaos(fleet: &Fleet, args: &[&str]) -> Value {
    let output = fleet.orch(&[&["chaos", "--yes", "--format", "json"], args].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    let log = || format!("{said}\n{}", fleet.log());
    assert_eq!(output.status.code(), Some(0), "{output:?}\n{}", log());
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["converged"], &json["audit"]["clean"]), (&true.into(), &true.into()));
    json
}

fn faults(json: &Value) -> &[Value] {
    json["faults"].as_array().unwrap()
}

#[track_caller]
fn assert_legs(fault: &Value, legs: &[&str]) {
    for leg in legs {
        assert!(fault["legs"][leg].is_u64(), "{leg} is missing: {fault:#}");
    }
}

async fn finish(fleet: &Fleet) {
    fleet.project.write("go", "");
    fleet.until_goal(Status::Complete).await;
    let mut finished: Vec<String> =
        fleet.read(fleet.work("finished")).lines().map(str::to_owned).collect();
    finished.sort();
    assert_eq!(finished, TASKS, "a task did not come to its end once");
}

/// Everything of a fleet that a fault could hit.
fn all(fleet: &Fleet) -> Vec<Identity> {
    let mut all = fleet.all_agent_processes();
    all.extend(fleet.orchestrators());
    all.extend(fleet.project.supervisor());
    all.push(fleet.redis_process());
    all
}

fn code(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn killed_agents_should_show_every_leg_and_run_their_tasks_again() {
    let fleet = at_work("30").await;
    let args = ["chaos", "--yes", "--format", "json", "--count", "3", "--every", "0.5s"];
    let output = fleet.orch(&[&args[..], &["--seed", "7"]].concat());
    let live = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{live}\n{}", fleet.log());
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();

    let legs = ["detected", "lease_released", "registered", "running_again", "converged"];
    assert_eq!(faults(&json).len(), 3, "{json:#}");
    for fault in faults(&json) {
        assert_legs(fault, &legs);
        assert_eq!((&fault["converged"], &fault["signal"]), (&true.into(), &"kill".into()));
    }
    for leg in legs {
        assert_eq!(json["legs"][leg]["count"], 3, "{json:#}");
    }
    assert_eq!((&json["seed"], &json["audit"]["clean"]), (&7.into(), &true.into()), "{json:#}");
    assert!(live.contains("#3 kill") && live.contains("ms running again"), "{live}");
    // It is so in the world.
    assert_eq!(fleet.events("agent-death").await.len(), 3);
    let mut losses = 0;
    for task in TASKS {
        losses += fleet.until_task(task, State::Running).await.losses;
    }
    assert_eq!(losses, 3);
    let mut hit: Vec<&str> = faults(&json)[..2].iter().filter_map(|f| f["name"].as_str()).collect();
    hit.sort_unstable();
    assert_eq!(hit, NAMES, "one was hit twice before the other once");
    finish(&fleet).await;
}

#[tokio::test]
async fn killed_orchestrator_should_be_seen_to_lead_again() {
    let fleet = at_work("30").await;
    let [before] = fleet.orchestrators()[..] else { panic!("not one orchestrator") };
    let agents = fleet.all_agent_processes();
    let json = chaos(&fleet, &["--kill", "orchestrator", "--count", "2", "--every", "1s"]);
    assert_eq!(faults(&json).len(), 2);
    assert_eq!(faults(&json)[0]["pid"], before.pid);
    for fault in faults(&json) {
        assert_legs(fault, &["detected", "converged"]);
    }
    assert!(!before.is_alive());
    assert_eq!(fleet.all_agent_processes(), agents, "an agent was not adopted");
    finish(&fleet).await;
}

#[tokio::test]
async fn killed_redis_should_be_seen_to_come_back() {
    let fleet = at_work("30").await;
    let before = fleet.redis_process();
    let json = chaos(&fleet, &["--kill", "redis", "--count", "1"]);
    let [fault] = faults(&json) else { panic!("{json:#}") };
    assert_eq!(fault["pid"], before.pid);
    assert_legs(fault, &["redis_back", "converged"]);
    assert_ne!(fleet.redis_process(), before);
    finish(&fleet).await;
}

#[tokio::test]
async fn stopped_agent_should_go_on_or_be_replaced() {
    let fleet = at_work("2").await;
    let args = ["--signal", "stop", "--count", "1", "--seed", "1"];
    let short = chaos(&fleet, &[&args[..], &["--pause", "0.3s"]].concat());
    let fault = &faults(&short)[0];
    assert_legs(fault, &["continued", "converged"]);
    assert!(fault["legs"]["continued"].as_u64().unwrap() >= 300, "{fault:#}");
    let agent = fault["name"].as_str().unwrap();
    let same = fleet.store.agent(&name(agent)).await.unwrap().registered.unwrap();
    assert_eq!(fault["pid"], same.pid, "it was replaced");
    assert!(!is_stopped(identity(&same)), "it was not let go on");

    // Longer than it is believed alive.
    let long = chaos(&fleet, &[&args[..], &["--pause", "25s"]].concat());
    let fault = &faults(&long)[0];
    assert_legs(fault, &["detected", "lease_released", "registered", "converged"]);
    assert!(fault["legs"]["detected"].as_u64().unwrap() >= 1_000, "{fault:#}");
    finish(&fleet).await;
}

/// Whether the kernel shows a process as stopped.
fn is_stopped(process: Identity) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap_or_default();
    process.is_alive() && stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T"))
}

#[tokio::test]
async fn interrupted_run_should_leave_nobody_stopped() {
    let fleet = at_work("60").await;
    let mut command = fleet.project.command(ORCH);
    command.args(["chaos", "--yes", "--signal", "stop", "--pause", "1h"]);
    command.env("REDIS_URL", format!("redis://127.0.0.1:{}", fleet.redis_port));
    let child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let ours = Identity::of(child.id()).unwrap().unwrap();
    let agents = fleet.all_agent_processes();
    let stopped = wait_until_blocking("an agent is stopped", DEADLINE, || {
        agents.iter().copied().find(|agent| is_stopped(*agent)).ok_or_else(String::new)
    });
    signal(ours, Signal::INT);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("ended by Ctrl-C") && text.contains("NOT converged"), "{text}");
    assert!(stopped.is_alive() && !is_stopped(stopped), "{text}");
    finish(&fleet).await;
}

#[tokio::test]
async fn killed_sysg_should_be_the_last_fault_and_end_nothing_else() {
    let fleet = at_work("30").await;
    let supervisor = fleet.project.supervisor().unwrap();
    let others: Vec<Identity> =
        all(&fleet).into_iter().filter(|process| *process != supervisor).collect();
    let output = fleet.orch(&["chaos", "--yes", "--kill", "sysg", "--count", "3"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text.contains("1 fault") && text.contains("sysg start"), "{text}");
    assert!(!supervisor.is_alive());
    assert!(others.iter().all(Identity::is_alive), "{}", fleet.describe(&others));
    finish(&fleet).await;
}

#[tokio::test]
async fn nothing_should_be_hit_that_is_not_of_the_project() {
    let (ours, other) = tokio::join!(at_work("30"), at_work("30"));
    let (before, not_ours) = (all(&ours), all(&other));

    // Without a yes, and without a terminal to ask on.
    let (refused, said) = code(&ours.orch(&["chaos"]));
    assert!(refused == Some(2) && said.contains("--yes"), "{refused:?} {said}");
    let (refused, said) =
        code(&ours.orch(&["chaos", "--yes", "--kill", "sysg", "--signal", "term"]));
    assert!(refused == Some(2) && said.contains("SIGTERM"), "{refused:?} {said}");

    // A dry run tells whom it would hit, and hits nobody.
    let args = ["chaos", "--kill", "all", "--dry-run", "--format", "json", "--seed", "3"];
    let output = ours.orch(&args);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut pids: Vec<u64> =
        json["targets"].as_array().unwrap().iter().filter_map(|t| t["pid"].as_u64()).collect();
    pids.sort_unstable();
    let mut expected: Vec<u64> = before.iter().map(|process| process.pid.into()).collect();
    expected.sort_unstable();
    assert_eq!(pids, expected, "{json:#}");
    assert_eq!(json["schedule"].as_array().unwrap().len(), 5, "{json:#}");
    assert_eq!(ours.orch(&args).stdout, output.stdout, "the same seed chose something else");
    assert_eq!(all(&ours), before);

    // A real one hits only its own.
    let args = ["--kill", "all", "--count", "3", "--every", "1s", "--seed", "3"];
    chaos(&ours, &args);
    assert_ne!(all(&ours).len(), 0);
    assert_eq!(all(&other), not_ours);
    assert_eq!(other.events("agent-death").await.len(), 0);
    finish(&ours).await;
}

#[tokio::test]
async fn system_that_is_not_well_should_not_be_hit() {
    let fleet = fleet(two_at_work()).write().await;
    let mut redis = fleet.redis_alone().await;
    let (refused, said) = code(&fleet.orch(&["chaos", "--yes"]));
    assert!(refused == Some(1) && said.contains("no controller is led"), "{refused:?} {said}");
    let (refused, said) = code(&fleet.orch(&["chaos", "--yes", "--kill", "redis"]));
    assert!(refused == Some(1) && said.contains("nothing was sent"), "{refused:?} {said}");
    assert_eq!(redis.try_wait().unwrap(), None);
    redis.kill().unwrap();
    redis.wait().unwrap();
}
