//! Goals that share task ids, agents that share a role, and what directives change of
//! the order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use model::GoalId;
use model::goal::Status;
use model::task::State;
use process::Identity;
use store::task::Task;
use testkit::wait_until;

use crate::support::{DEADLINE, Fleet, agents, fleet, goal, goal_001, id, task};

/// Waits for the file `go-<goal>-<task>`, and tells that it was.
const GATED: &str = "until test -e \"$ORCH_PROJECT/go\"; do sleep 0.05; done\n\
    echo \"$ORCH_TASK\" >> order";
const NOTED: &str = "echo \"$ORCH_TASK\" >> order";

async fn until_complete(fleet: &Fleet, goal: &GoalId, deadline: Duration) {
    wait_until(&format!("{goal} is complete"), deadline, || async {
        match fleet.store.goal(goal).await {
            Ok(Some(goal)) if goal.status == Status::Complete => Ok(()),
            other => Err(format!("{other:?}\n{}", fleet.log())),
        }
    })
    .await;
}

fn sh(fleet: &Fleet, line: &str) {
    let output = fleet.sh(line);
    assert!(output.status.success(), "{line}: {output:?}");
}

/// Standard output and error together, and whether it succeeded.
fn orch(fleet: &Fleet, args: &[&str]) -> (bool, String) {
    let output = fleet.orch(args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[tokio::test]
async fn goals_should_share_ids_and_nothing_else() {
    let tasks = task("task-001: Wait", GATED)
        + &task("task-002: Second (after: task-001)", NOTED)
        + &task("task-003: Third (after: task-001)", NOTED);
    let second = goal(&tasks).replace("\n## Goals\n", "").replace("goal-001", "goal-002");
    let agents = agents(&["first_agent", "second_agent"])
        .replace("second_agent\n- Goal: goal-001", "second_agent\n- Goal: goal-002");
    let fleet = fleet(agents + &goal(&tasks) + &second).start().await;
    let goals = [goal_001(), GoalId::new("goal-002").unwrap()];
    let mut stored = Vec::new();
    for goal in &goals {
        let running = wait_until(&format!("{goal} runs"), DEADLINE, || async {
            let tasks = fleet.store.tasks(goal).await.unwrap_or_default();
            let running = tasks.iter().find(|task| task.status == State::Running);
            running.cloned().ok_or_else(|| format!("{tasks:?}\n{}", fleet.log()))
        })
        .await;
        stored.push(running);
    }
    assert_ne!(stored[0].id, stored[1].id);
    assert_eq!(stored[0].owner.as_ref().unwrap().as_str(), "first_agent");
    assert_eq!(stored[1].owner.as_ref().unwrap().as_str(), "second_agent");

    // Both forms lead to a task wherever they mean one only.
    for goal in &goals {
        for n in 1..=3 {
            let (found, text) = orch(&fleet, &["explain", &format!("{goal}.task-00{n}")]);
            assert!(found && text.contains(goal.as_str()), "{text}");
        }
        let (listed, json) = orch(&fleet, &["tasks", goal.as_str(), "--format", "json"]);
        let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
        let rows = rows.as_array().unwrap();
        assert!(listed && rows.len() == 3, "{json}");
        assert!(rows.iter().all(|row| row["goal"] == goal.as_str()), "{json}");
    }
    let (found, text) = orch(&fleet, &["explain", "task-001"]);
    assert!(!found && text.contains("2 tasks are called"), "{text}");
    assert!(text.contains("goal-001.task-001") && text.contains("goal-002.task-001"), "{text}");
    let (listed, text) = orch(&fleet, &["tasks"]);
    assert!(listed && text.contains("goal-001") && text.contains("goal-002"), "{text}");

    // A short id in an agent's heartbeat means a task of its own goal.
    sh(&fleet, "echo 'ELEVATE task-003 9' >> heartbeat/second_agent.md");
    wait_until("it is elevated", DEADLINE, || async {
        let tasks = fleet.store.tasks(&goals[1]).await.unwrap();
        if tasks[2].priority == 9 { Ok(()) } else { Err(format!("{tasks:?}")) }
    })
    .await;
    let untouched = fleet.store.tasks(&goals[0]).await.unwrap();
    assert!(untouched.iter().all(|task| task.priority == 0), "{untouched:?}");

    fleet.project.write("go", "");
    for goal in &goals {
        until_complete(&fleet, goal, DEADLINE).await;
        let figures = fleet.store.figures(goal).await.unwrap();
        assert_eq!((figures.contradiction(), figures.counts.done), (None, 3));
    }
    let order = fleet.read(fleet.work("order"));
    assert_eq!(order.lines().count(), 3, "{order}");
    let other = fleet.read(fleet.path(".orch/work/goal-002/order"));
    let numbers: Vec<&str> = other.lines().filter_map(|line| line.rsplit('-').next()).collect();
    assert_eq!(numbers, ["001", "003", "002"]);
    assert_eq!(fleet.events("task-complete").await.len(), 6);
}

/// So many shells, on a machine that does other things.
const LONG: Duration = Duration::from_secs(300);
const MANY: usize = 1_000;

#[tokio::test]
async fn agents_that_share_a_role_should_do_each_task_once() {
    let names = ["first_agent", "second_agent", "third_agent"];
    let agents = agents(&names).replace("- Goal: goal-001\n", "- Goal: goal-001\n- Role: worker\n");
    let tasks: String =
        (1..=MANY).map(|n| task(&format!("task-{n:04}: Short (role: worker)"), "true")).collect();
    let fleet = fleet(agents + &goal(&tasks)).lease_ttl("10").start().await;
    let began = Instant::now();
    until_complete(&fleet, &goal_001(), LONG).await;
    println!("{MANY} tasks by three agents in {:?}", began.elapsed());

    let completions = fleet.events("task-complete").await;
    let mut ids: Vec<&str> = completions.iter().map(|event| event.field("task")).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((completions.len(), ids.len()), (MANY, MANY));
    let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
    for event in &completions {
        *shares.entry(event.field("agent")).or_default() += 1;
    }
    println!("{shares:?}");
    assert_eq!(shares.keys().copied().collect::<Vec<_>>(), names);
    let figures = fleet.store.figures(&goal_001()).await.unwrap();
    assert_eq!((figures.contradiction(), figures.counts.done), (None, MANY as u64));
    let tasks = fleet.store.tasks(&goal_001()).await.unwrap();
    let clean = |task: &Task| task.status == State::Done && task.failures + task.losses == 0;
    assert!(tasks.len() == MANY && tasks.iter().all(clean));
    let claims = fleet.events("task-claim").await.len();
    assert_eq!(claims, tasks.iter().map(|task| task.attempt as usize).sum::<usize>());
}

#[tokio::test]
async fn elevate_should_change_the_order_and_nothing_else() {
    let tasks = task("task-001: Done (priority: 100)", NOTED)
        + &task("task-002: Wait (priority: 50)", GATED)
        + &task("task-003: Third", NOTED)
        + &task("task-004: Fourth", NOTED)
        + &task("task-005: Fifth", NOTED)
        + &task("task-006: Sixth (after: task-004)", NOTED);
    let fleet = fleet(agents(&["worker_agent"]) + &goal(&tasks)).start().await;
    fleet.until_task("task-002", State::Running).await;
    let before = fleet.store.tasks(&goal_001()).await.unwrap();
    let generation = fleet.store.goal(&goal_001()).await.unwrap().unwrap().generation;

    sh(&fleet, "echo 'ELEVATE task-005 10' >> heartbeat/worker_agent.md");
    // One that is blocked waits for what it waits for.
    sh(&fleet, "echo 'ELEVATE task-006 20' >> heartbeat/worker_agent.md");
    sh(&fleet, "echo 'ELEVATE task-002 1' >> heartbeat/worker_agent.md");
    wait_until("all three are applied", DEADLINE, || async {
        let events = fleet.events("directive").await;
        if events.len() == 3 { Ok(()) } else { Err(format!("{events:?}\n{}", fleet.log())) }
    })
    .await;
    let mut after = fleet.store.tasks(&goal_001()).await.unwrap();
    let priorities: Vec<u32> = after.iter().map(|task| task.priority).collect();
    assert_eq!(priorities, [100, 1, 0, 0, 10, 20]);
    for (new, old) in after.iter_mut().zip(&before) {
        new.priority = old.priority;
        // Renewed as ever.
        new.lease_expires.clone_from(&old.lease_expires);
    }
    assert_eq!(after, before);

    fleet.project.write("go", "");
    fleet.until_goal(Status::Complete).await;
    let order = fleet.read(fleet.work("order"));
    let numbers: Vec<&str> =
        order.lines().filter_map(|line| line.strip_prefix("task-00")).collect();
    assert_eq!(numbers, ["1", "2", "5", "3", "4", "6"]);
    let goal = fleet.store.goal(&goal_001()).await.unwrap().unwrap();
    assert_eq!(goal.generation, generation);
    assert_eq!(fleet.events("task-claim").await.len(), 6);
}

/// Its first attempt leaves children of all kinds behind, its second one ends.
const FAMILY: &str = "if test \"$ORCH_ATTEMPT\" = 1; then\n\
    echo $$ >> pids\n\
    sleep 1000 & echo $! >> pids\n\
    (trap '' TERM; while :; do sleep 1; done) & echo $! >> pids\n\
    setsid sleep 1000 & echo $! >> pids\n\
    touch complete\n\
    wait\n\
    fi";

#[tokio::test]
async fn dropped_task_should_end_all_its_processes_and_run_again() {
    let fleet = fleet(agents(&["worker_agent"]) + &goal(&task("task-001: Drop", FAMILY)));
    let fleet = fleet.start().await;
    wait_until("the block has its children", DEADLINE, || async {
        let there = fleet.work("complete").exists();
        if there { Ok(()) } else { Err(fleet.log()) }
    })
    .await;
    let pids = fleet.read(fleet.work("pids"));
    let family: Vec<Identity> = pids
        .lines()
        .map(|pid| Identity::of(pid.parse().unwrap()).unwrap().expect("it lives"))
        .collect();
    assert_eq!(family.len(), 4);
    let agent = fleet.until_registered("worker_agent").await;
    let held = fleet.until_task("task-001", State::Running).await;
    assert_eq!(held.attempt, 1);

    sh(&fleet, "echo 'DROP-TASK task-001' >> heartbeat/worker_agent.md");
    wait_until("all of it is ended", DEADLINE, || async {
        let left: Vec<_> = family.iter().filter(|process| process.is_alive()).copied().collect();
        if left.is_empty() { Ok(()) } else { Err(fleet.describe(&left)) }
    })
    .await;
    fleet.until_goal(Status::Complete).await;
    let done = fleet.store.task(&id("task-001")).await.unwrap().unwrap();
    assert_eq!((done.attempt, done.failures, done.losses), (2, 0, 0));
    assert!(done.epoch > held.epoch);
    assert_eq!(done.last_error, None);
    let events = fleet.store.last_events(1_000).await.unwrap();
    let of_task: Vec<(&str, &str)> = events
        .iter()
        .filter(|event| event.kind.starts_with("task-"))
        .map(|event| (event.kind.as_str(), event.field("to")))
        .collect();
    let expected = [
        ("task-claim", "running"),
        ("task-drop", "ready"),
        ("task-claim", "running"),
        ("task-complete", "done"),
    ];
    assert_eq!(of_task, expected);
    assert_eq!(fleet.until_registered("worker_agent").await.pid, agent.pid);
    assert_eq!(fleet.store.figures(&goal_001()).await.unwrap().contradiction(), None);
}
