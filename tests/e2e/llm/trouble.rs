//! Answers that are malformed, hostile or slow, and what is left of them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use model::goal::Status;
use model::task::State;
use serde_json::json;
use testkit::wait_until;
use testkit::{LlmServer, Say};

use super::script::{Asked, Cli, asked, calls_for, done, obey, plan, prose, start, thinking};
use crate::support::{DEADLINE, Fleet, goal_001};

const ONE: &[(&str, &[&str])] = &[("t1", &[])];

/// Each answer that is no plan, and what the next prompt says of it.
#[tokio::test]
async fn plans_that_are_none_should_be_repaired_with_the_error_quoted() {
    let circle = plan(&[("t1", &["t2"]), ("t2", &["t1"])]);
    let foreign = json!({ "goal_id": "another-goal", "nodes": plan(ONE)["nodes"], "edges": [] });
    let answers = Mutex::new(vec![circle, foreign]);
    let server = LlmServer::start(move |call| match asked(call) {
        Asked::Plan => match answers.lock().unwrap().pop() {
            Some(answer) => Say::json(answer),
            None => obey(call, ONE),
        },
        _ => obey(call, ONE),
    });
    let cli = Cli::Claude;
    let Some(builder) = thinking(cli, &server, prose(cli, &["an_agent"], "")) else { return };
    let fleet = start(cli, &server, builder).await;
    fleet.until_goal(Status::Complete).await;
    let calls = calls_for(&server, &Asked::Plan);
    assert_eq!(calls.len(), 3);
    assert!(calls[1].text.contains("another-goal"), "{}", calls[1].text);
    assert!(calls[2].text.contains("circle"), "{}", calls[2].text);
    for call in &calls {
        assert!(call.text.contains("Write some files"), "the whole task is kept: {}", call.text);
    }
}

#[tokio::test]
async fn goal_that_nobody_can_plan_should_say_so_after_bounded_tries() {
    let server = LlmServer::start(|call| match asked(call) {
        Asked::Plan => Say::json(plan(&[("t1", &["nowhere"])])),
        _ => obey(call, ONE),
    });
    let cli = Cli::Claude;
    let Some(builder) = thinking(cli, &server, prose(cli, &["an_agent"], "")) else { return };
    let fleet = start(cli, &server, builder).await;
    let goal = fleet
        .until("planning is given up", async || {
            match fleet.store.goal(&goal_001()).await.unwrap() {
                Some(goal) if goal.planning.attempts == 3 => Ok(goal),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    assert!(goal.planning.error.unwrap().contains("nowhere"));
    assert_eq!(calls_for(&server, &Asked::Plan).len(), 9);
}

#[tokio::test]
async fn answers_of_prose_nothing_and_ten_megabytes_should_end_in_work_that_is_done() {
    let tries = AtomicUsize::new(0);
    let server = LlmServer::start(move |call| match asked(call) {
        Asked::SumUp => match tries.fetch_add(1, Ordering::SeqCst) {
            0 => Say::text("I am done, and it was a pleasure."),
            1 => Say::huge(10 << 20),
            _ => Say::text("Here you are:\n```json\n{\"summary\": \"Wrote it.\"}\n```\nGoodbye."),
        },
        _ => obey(call, ONE),
    });
    // Whose answers are texts, so that all of these reach us.
    let cli = Cli::Codex;
    let Some(builder) = thinking(cli, &server, prose(cli, &["an_agent"], "")) else { return };
    let fleet = start(cli, &server, builder).await;
    fleet.until_goal(Status::Complete).await;
    let task = fleet.until_task("t1", State::Done).await;
    assert_eq!((task.attempt, task.progress.as_deref()), (1, Some("Wrote it.")), "{task:?}");
}

/// The processes of this fleet that run `program`.
fn programs(fleet: &Fleet, program: &str) -> Vec<process::Identity> {
    let mine = fleet.project.processes();
    let running = process::find(|args| args.first().is_some_and(|arg| arg.contains(program)));
    running.unwrap().into_iter().map(|p| p.identity).filter(|p| mine.contains(p)).collect()
}

async fn until_none(fleet: &Fleet, program: &str) {
    wait_until("nothing of the program is left", DEADLINE, || async {
        let left = programs(fleet, program);
        if left.is_empty() { Ok(()) } else { Err(fleet.describe(&left)) }
    })
    .await;
}

#[tokio::test]
async fn hanging_call_should_end_at_its_time_limit_and_leave_nothing() {
    let tries = AtomicUsize::new(0);
    let server = LlmServer::start(move |call| match asked(call) {
        Asked::Do(_) if call.round == 0 && tries.fetch_add(1, Ordering::SeqCst) == 0 => {
            // A grandchild that would outlive it, and then silence.
            Say::shell("setsid sleep 600 & echo started")
        }
        Asked::Do(_) if tries.load(Ordering::SeqCst) == 1 => Say::hang(),
        _ => obey(call, ONE),
    });
    let cli = Cli::Claude;
    let instructions = prose(cli, &["an_agent"], "- Timeout: 15s");
    let Some(builder) = thinking(cli, &server, instructions) else { return };
    let fleet = start(cli, &server, builder).await;
    fleet.until_goal(Status::Complete).await;
    let task = fleet.until_task("t1", State::Done).await;
    assert_eq!((task.attempt, task.failures), (2, 1), "{task:?}");
    until_none(&fleet, "claude").await;
    until_none(&fleet, "sleep").await;
}

#[tokio::test]
async fn dropped_task_should_end_its_program() {
    let server = LlmServer::start(|call| match asked(call) {
        Asked::Do(_) => Say::hang(),
        _ => obey(call, ONE),
    });
    let cli = Cli::Claude;
    let Some(builder) = thinking(cli, &server, prose(cli, &["an_agent"], "")) else { return };
    let fleet = start(cli, &server, builder).await;
    wait_until("the call hangs", DEADLINE, || async {
        let calls = calls_for(&server, &Asked::Do("t1".to_owned()));
        if calls.is_empty() { Err(fleet.log()) } else { Ok(()) }
    })
    .await;
    assert!(!programs(&fleet, "claude").is_empty());
    fleet.sh("printf 'PAUSE\\nDROP-TASK t1\\n' >> heartbeat/an_agent.md");
    let task = fleet.until_task("t1", State::Ready).await;
    assert_eq!(task.failures, 0);
    until_none(&fleet, "claude").await;
    wait_until("its slot is free", DEADLINE, || async {
        let slots = fleet.store.slots().await.unwrap();
        if slots.in_use.is_empty() { Ok(()) } else { Err(format!("{slots:?}")) }
    })
    .await;
}

#[tokio::test]
async fn stopped_fleet_should_leave_no_program() {
    let server = LlmServer::start(|call| match asked(call) {
        Asked::Do(_) => Say::hang(),
        _ => obey(call, ONE),
    });
    let cli = Cli::Claude;
    let Some(builder) = thinking(cli, &server, prose(cli, &["an_agent"], "")) else { return };
    let fleet = start(cli, &server, builder).await;
    wait_until("the call hangs", DEADLINE, || async {
        let calls = calls_for(&server, &Asked::Do("t1".to_owned()));
        if calls.is_empty() { Err(fleet.log()) } else { Ok(()) }
    })
    .await;
    fleet.project.sysg(&["stop", "--supervisor"]);
    until_none(&fleet, "claude").await;
}

#[tokio::test]
async fn tool_that_is_not_allowed_should_fail_the_attempt_and_name_the_line_that_allows_it() {
    let server = LlmServer::start(|call| match asked(call) {
        Asked::Do(_) if call.round == 0 => Say::shell("echo x > t1.txt"),
        Asked::Do(task) => Say::json(done(&task)),
        _ => obey(call, ONE),
    });
    let cli = Cli::Claude;
    let instructions = prose(cli, &["an_agent"], "").replace(cli.permissions(), "");
    let Some(builder) = thinking(cli, &server, instructions) else { return };
    let fleet = start(cli, &server, builder).await;
    let task = fleet.until_task("t1", State::Failed).await;
    let why = task.last_error.unwrap();
    assert!(why.contains("Tools:") && why.contains("Bash"), "{why}");
    assert!(!fleet.work("t1.txt").exists());
}

#[tokio::test]
async fn cut_connection_should_cost_no_more_than_another_call() {
    let tries = AtomicUsize::new(0);
    let server = LlmServer::start(move |call| match asked(call) {
        Asked::Plan if tries.fetch_add(1, Ordering::SeqCst) == 0 => obey(call, ONE).cut_after(2),
        _ => obey(call, ONE),
    });
    let cli = Cli::Claude;
    let Some(builder) = thinking(cli, &server, prose(cli, &["an_agent"], "")) else { return };
    let fleet = start(cli, &server, builder).await;
    fleet.until_goal(Status::Complete).await;
    assert_eq!(fleet.store.goal(&goal_001()).await.unwrap().unwrap().planning.attempts, 0);
}
