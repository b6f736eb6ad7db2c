//! Killing any part changes nothing but a little time.

use std::time::Duration;

use model::goal::Status;
use model::task::State;
use process::{Identity, Signal};
use store::agent::Agent;
use testkit::{wait_until, wait_until_blocking};

use crate::support::{DEADLINE, Fleet, agents, fleet, goal, id, identity, name, signal, task};

/// Waits for the file `go`, and tells its attempt and pid.
const WAITING: &str = "echo \"$ORCH_ATTEMPT $$\" >> started\n\
    until test -e \"$ORCH_PROJECT/go\"; do sleep 0.05; done\n\
    echo \"$ORCH_ATTEMPT\" >> finished";

fn waiting_goal() -> String {
    goal(&(task("task-001: Wait", WAITING) + &task("task-002: Join (after: task-001)", "true")))
}

fn one_agent() -> String {
    agents(&["worker_agent"]) + &waiting_goal()
}

/// The pid of the shell that runs task-001 for the nth time, from 1.
async fn shell_of_attempt(fleet: &Fleet, attempt: usize) -> Identity {
    wait_until(&format!("attempt {attempt} has begun"), DEADLINE, || async {
        let started = fleet.read(fleet.work("started"));
        let pid = started.lines().nth(attempt - 1).and_then(|line| line.split(' ').nth(1));
        match pid.and_then(|pid| Identity::of(pid.parse().ok()?).ok()?) {
            Some(identity) => Ok(identity),
            None => Err(format!("{started}\n{}", fleet.log())),
        }
    })
    .await
}

async fn finish(fleet: &Fleet) {
    fleet.project.write("go", "");
    fleet.until_goal(Status::Complete).await;
}

/// Every task was completed once, and nothing runs twice.
async fn assert_accepted_once(fleet: &Fleet, tasks: usize) {
    let completions = fleet.events("task-complete").await;
    let mut ids: Vec<&str> = completions.iter().map(|event| event.field("task")).collect();
    ids.sort_unstable();
    let count = ids.len();
    ids.dedup();
    assert_eq!((ids.len(), count), (tasks, tasks), "{ids:?}");
}

#[tokio::test]
async fn killed_agent_should_come_back_and_run_the_same_task_again() {
    let fleet = fleet(one_agent()).start().await;
    let before = fleet.until_registered("worker_agent").await;
    let shell = shell_of_attempt(&fleet, 1).await;

    signal(identity(&before), Signal::KILL);
    let after = fleet.until_replaced("worker_agent", &before).await;
    shell_of_attempt(&fleet, 2).await;
    assert!(!shell.is_alive(), "the first attempt still runs");
    let running = fleet.until_task("task-001", State::Running).await;
    assert_eq!((running.attempt, running.losses), (2, 1));
    assert!(after.incarnation > before.incarnation);

    finish(&fleet).await;
    // Only the second attempt lived to its end.
    assert_eq!(fleet.read(fleet.work("finished")), "2\n");
    assert_accepted_once(&fleet, 2).await;

    let output = fleet.orch(&["trace", "task-001"]);
    let text = String::from_utf8_lossy(&output.stdout);
    for part in ["attempt #1", "lost: ", "recovery of worker_agent", "run again", "attempt #2"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("2 attempts, 1 recovery,"), "{text}");
}

#[tokio::test]
async fn killed_orchestrator_should_adopt_the_living_agents() {
    let fleet = fleet(agents(&["a_agent", "b_agent"]) + &waiting_goal()).start().await;
    let (a, b) = (fleet.until_registered("a_agent").await, fleet.until_registered("b_agent").await);
    shell_of_attempt(&fleet, 1).await;
    let [before] = fleet.orchestrators()[..] else { panic!("not one orchestrator") };
    let terms = fleet.events("leader").await.len();

    signal(before, Signal::KILL);
    wait_until("another orchestrator leads", DEADLINE, || async {
        let (led, now) = (fleet.events("leader").await.len(), fleet.orchestrators());
        let leads = led > terms && now.iter().all(|process| *process != before);
        if leads { Ok(()) } else { Err(format!("{led} {now:?}")) }
    })
    .await;
    finish(&fleet).await;

    for (agent, old) in [("a_agent", a), ("b_agent", b)] {
        let now = fleet.store.agent(&name(agent)).await.unwrap().registered.unwrap();
        assert_eq!((now.pid, now.incarnation), (old.pid, old.incarnation), "{agent}");
        assert_eq!(fleet.agent_processes(agent), [identity(&old)]);
    }
    assert_eq!(fleet.read(fleet.work("finished")), "1\n", "a task ran twice");
    assert_accepted_once(&fleet, 2).await;
}

#[tokio::test]
async fn killed_redis_should_come_back_with_everything_done() {
    let before = task("task-000: Before", "true");
    let tasks = before + &task("task-001: Wait (after: task-000)", WAITING);
    let fleet = fleet(agents(&["worker_agent"]) + &goal(&tasks)).start().await;
    let done = fleet.until_task("task-000", State::Done).await;
    shell_of_attempt(&fleet, 1).await;

    let redis = fleet.redis_process();
    signal(redis, Signal::KILL);
    wait_until("Redis is another process", DEADLINE, || async {
        let info = fleet.redis("INFO server");
        let now = info.lines().find_map(|line| line.trim().strip_prefix("process_id:"));
        if now.is_some_and(|now| now != redis.pid.to_string()) { Ok(()) } else { Err(info) }
    })
    .await;
    finish(&fleet).await;

    let now = fleet.store.task(&id("task-000")).await.unwrap().unwrap();
    assert_eq!((now.epoch, now.finished), (done.epoch, done.finished), "it ran again");
    assert_accepted_once(&fleet, 2).await;
}

/// The agent lives on and its task is RUNNING again: claimed again, it is the same grant.
#[tokio::test]
async fn redis_with_older_data_should_not_make_a_grant_run_twice() {
    let block = "echo \"$ORCH_EPOCH\" >> epochs\n\
        until test -e \"$ORCH_PROJECT/go\"; do sleep 0.05; done";
    let tasks = task("task-001: Wait", block) + &task("task-002: Join (after: task-001)", "true");
    let fleet = fleet(agents(&["worker_agent"]) + &goal(&tasks)).lease_ttl("30").start().await;
    let before = fleet.until_registered("worker_agent").await;
    wait_until_blocking("task-001 has begun", DEADLINE, || {
        let epochs = fleet.read(fleet.work("epochs"));
        if epochs.ends_with('\n') { Ok(()) } else { Err(fleet.log()) }
    });
    let copy = fleet.copy_of_redis();
    finish(&fleet).await;
    let first = fleet.store.task(&id("task-001")).await.unwrap().unwrap();

    fleet.swap_redis(&copy, fleet.redis_process());
    let again = wait_until("task-001 is done once more", DEADLINE, || async {
        match fleet.store.task(&id("task-001")).await {
            Ok(Some(task)) if task.status == State::Done => Ok(task),
            other => Err(format!("{other:?}\n{}", fleet.log())),
        }
    })
    .await;
    finish(&fleet).await;
    let epochs = format!("{}\n{}\n", first.epoch, again.epoch);
    assert!(again.epoch > first.epoch, "it ran again under the same grant");
    assert_eq!(fleet.read(fleet.work("epochs")), epochs);
    let now = fleet.store.agent(&name("worker_agent")).await.unwrap().registered.unwrap();
    assert_eq!(now.pid, before.pid, "the agent did not have to end\n{}", fleet.log());
}

#[tokio::test]
async fn redis_without_its_data_should_be_told_and_the_work_be_done_again() {
    let mark = "echo \"$ORCH_EPOCH\" >> epochs";
    let tasks = task("task-001: Mark", mark) + &task("task-002: Mark (after: task-001)", mark);
    let fleet = fleet(agents(&["worker_agent"]) + &goal(&tasks)).start().await;
    fleet.until_goal(Status::Complete).await;
    let before = fleet.until_registered("worker_agent").await;
    let [orchestrator] = fleet.orchestrators()[..] else { panic!("not one orchestrator") };
    let id = fleet.store.fleet().await.unwrap();

    std::fs::create_dir(fleet.path(".orch/nothing")).unwrap();
    fleet.swap_redis(&fleet.path(".orch/nothing"), fleet.redis_process());
    // It is another process in any case: Redis does not know the one from before.
    fleet.until_replaced("worker_agent", &before).await;
    fleet.until_goal(Status::Complete).await;
    let epochs = fleet.read(fleet.work("epochs"));
    let epochs: Vec<u64> = epochs.lines().map(|line| line.parse().unwrap()).collect();
    assert!(epochs.len() == 4 && epochs.is_sorted_by(|a, b| a < b), "{epochs:?}");
    assert_eq!(fleet.events("data-lost").await.len(), 1);
    assert!(fleet.log().contains("Redis has lost its data"), "{}", fleet.log());
    // Its processes are found by it.
    assert_eq!(fleet.store.fleet().await.unwrap(), id);
    assert_eq!(fleet.orchestrators(), [orchestrator]);
}

#[tokio::test]
async fn killed_supervisor_should_leave_one_of_each_after_a_new_start() {
    let fleet = fleet(one_agent()).start().await;
    fleet.until_registered("worker_agent").await;
    shell_of_attempt(&fleet, 1).await;

    let supervisor = fleet.project.supervisor().unwrap();
    signal(supervisor, Signal::KILL);
    // Also as a zombie: sysg takes one for a supervisor that does not answer.
    wait_until("the supervisor is gone", DEADLINE, || async {
        let there = std::path::Path::new("/proc").join(supervisor.pid.to_string()).exists();
        if there { Err(supervisor.to_string()) } else { Ok(()) }
    })
    .await;
    fleet.project.start();
    // New spawns work: what is killed now comes back.
    let before = fleet.until_registered("worker_agent").await;
    signal(identity(&before), Signal::KILL);
    fleet.until_replaced("worker_agent", &before).await;
    finish(&fleet).await;

    assert_eq!(fleet.orchestrators().len(), 1);
    assert_eq!(fleet.agent_processes("worker_agent").len(), 1);
    assert_accepted_once(&fleet, 2).await;
}

#[tokio::test]
async fn silent_agent_should_be_replaced() {
    let fleet = fleet(one_agent()).lease_ttl("1.5").start().await;
    let before = fleet.until_registered("worker_agent").await;
    shell_of_attempt(&fleet, 1).await;

    signal(identity(&before), Signal::STOP);
    fleet.until_replaced("worker_agent", &before).await;
    wait_until("the silent process is gone", DEADLINE, || async {
        if identity(&before).is_alive() { Err(before.pid.to_string()) } else { Ok(()) }
    })
    .await;
    finish(&fleet).await;
    assert_eq!(fleet.agent_processes("worker_agent").len(), 1);
    assert_accepted_once(&fleet, 2).await;
}

/// A Redis that hangs is worse than one that is gone: connections stay open.
#[tokio::test]
async fn agent_without_redis_for_one_ttl_should_stop_its_work_and_end() {
    let fleet = fleet(one_agent()).lease_ttl("1.5").start().await;
    let before = fleet.until_registered("worker_agent").await;
    let shell = shell_of_attempt(&fleet, 1).await;
    let redis = fleet.redis_process();
    signal(redis, Signal::STOP);
    wait_until("agent and block have ended", DEADLINE, || async {
        let left = (identity(&before).is_alive(), shell.is_alive());
        if left == (false, false) { Ok(()) } else { Err(format!("{left:?}\n{}", fleet.log())) }
    })
    .await;
    signal(redis, Signal::CONT);
    fleet.until_replaced("worker_agent", &before).await;
    finish(&fleet).await;
    assert_eq!(fleet.agent_processes("worker_agent").len(), 1);
    assert_accepted_once(&fleet, 2).await;
}

/// Nobody kills the silent one here: fencing alone must do.
#[tokio::test]
async fn agent_stopped_for_three_ttls_should_be_fenced_and_end_itself() {
    let quick = task("task-001: Quick", "until test -e \"$ORCH_PROJECT/go\"; do sleep 0.05; done");
    let text = agents(&["worker_agent"]) + &goal(&quick);
    let fleet =
        fleet(text).lease_ttl("1").args(&["--controllers", "dag,lease,heartbeat"]).start().await;
    let start = |agent: &str| {
        let mut command = fleet.project.command(crate::support::ORCH);
        let url = format!("redis://127.0.0.1:{}", fleet.redis_port);
        command.args(["run", "--role", "agent", "--agent-name", agent, "--goal-id", "goal-001"]);
        command.args(["--redis-url", &url, "--lease-ttl", "1"]).spawn().unwrap()
    };
    let mut first = start("first_agent");
    let held = fleet.until_task("task-001", State::Running).await;
    let stopped = fleet.until_registered("first_agent").await;
    signal(identity(&stopped), Signal::STOP);

    let lost = fleet.until_task("task-001", State::Ready).await;
    assert_eq!((lost.losses, lost.epoch), (1, held.epoch));
    let mut second = start("second_agent");
    let taken = fleet.until_task("task-001", State::Running).await;
    assert!(taken.epoch > held.epoch);
    // Meanwhile another process has the first one's name.
    let mut successor = start("first_agent");
    fleet.until_replaced("first_agent", &stopped).await;
    // Its block ends well while it is stopped, so a late completion is what it wants.
    fleet.project.write("go", "");
    fleet.until_goal(Status::Complete).await;
    signal(identity(&stopped), Signal::CONT);

    wait_until_blocking("the fenced process ends itself", DEADLINE, || match first.try_wait() {
        Ok(Some(_)) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let completions = fleet.events("task-complete").await;
    assert_eq!(completions.len(), 1);
    assert_eq!(completions[0].field("epoch"), taken.epoch.to_string());
    let now = fleet.store.agent(&name("first_agent")).await.unwrap().registered.unwrap();
    assert_eq!(now.pid, successor.id());
    for child in [&mut second, &mut successor] {
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()),
            nix::sys::signal::Signal::SIGTERM,
        )
        .unwrap();
        assert!(child.wait().unwrap().success());
    }
}

/// The path is driven by events: pidfd, release, spawn, register, claim. How long it
/// takes is printed, not asserted. Each agent dies once, so that none waits for its
/// backoff, and nobody else may take its task.
#[tokio::test]
async fn recovery_time_should_not_wait_for_any_timer() {
    const AGENTS: usize = 20;
    let names: Vec<String> = (1..=AGENTS).map(|n| format!("w{n}_agent")).collect();
    let tasks: String =
        (1..=AGENTS).map(|n| task(&format!("t{n}: Wait (role: w{n})"), "sleep 1000")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let text = agents(&names) + &goal(&tasks);
    let fleet = fleet(text).lease_ttl("600").args(&["--poll-interval", "600"]).start().await;
    for n in 1..=AGENTS {
        fleet.until_task(&format!("t{n}"), State::Running).await;
    }
    let mut times = Vec::new();
    for (n, agent) in (1..).zip(&names) {
        let before = fleet.until_registered(agent).await;
        let killed = fleet.store.server().await.unwrap().time_micros;
        signal(identity(&before), Signal::KILL);
        fleet.until_replaced(agent, &before).await;
        let task = fleet.until_task(&format!("t{n}"), State::Running).await;
        assert_eq!((task.attempt, task.losses), (2, 1));
        times.push(Duration::from_micros(task.epoch.0 - killed));
    }
    times.sort();
    println!(
        "kill -9 of an agent to the same task running again, {AGENTS} times: median {:?}, longest \
         {:?}",
        times[AGENTS / 2],
        times[AGENTS - 1]
    );
}

/// Redis keeps an agent's time: a wait for a wake that ends says that the next sign of life is
/// due. Where Redis refuses to wait, the agent keeps its time by itself.
#[tokio::test]
async fn agent_that_may_not_wait_should_still_give_signs_of_life() {
    let fleet = fleet(one_agent()).start().await;
    let mut last = fleet.until_registered("worker_agent").await;
    shell_of_attempt(&fleet, 1).await;
    assert_eq!(fleet.redis("ACL SETUSER default -blpop"), "OK");
    // By itself it gives one every half TTL: eight take four times as long as a lease lives.
    for _ in 0..8 {
        let goes_on = |agent: &Agent| {
            let now = agent.registered.as_ref();
            now.is_some_and(|now| now.incarnation == last.incarnation && now.beat > last.beat)
        };
        let agent = fleet.until_agent("worker_agent", "gives a sign of life", goes_on).await;
        last = agent.registered.unwrap();
    }
    finish(&fleet).await;
    assert_eq!(fleet.read(fleet.work("finished")), "1\n");
}
