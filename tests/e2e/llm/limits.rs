//! Usage limits, budgets, and programs that cannot be asked: holds, not failures.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use model::goal::Status;
use model::task::State;
use process::Signal;
use store::llm::CostOf;
use testkit::{LlmServer, Say, Usage};
use testkit::{installed, wait_until};

use super::script::{Asked, Cli, asked, calls_for, obey, prose, start, thinking};
use crate::support::{DEADLINE, fleet, goal_001, identity, signal};

const TWO: &[(&str, &[&str])] = &[("t1", &[]), ("t2", &["t1"])];

async fn limit_in_the_middle(cli: Cli, limit: impl Fn() -> Say + Send + Sync + 'static) {
    let hits = AtomicUsize::new(0);
    let server = LlmServer::start(move |call| match asked(call) {
        Asked::Do(task) if task == "t2" && hits.fetch_add(1, Ordering::SeqCst) == 0 => limit(),
        _ => obey(call, TWO),
    });
    let Some(builder) = thinking(cli, &server, prose(cli, &["an_agent"], "")) else { return };
    let fleet = start(cli, &server, builder).await;
    let held = wait_until("the provider is held", DEADLINE, || async {
        match &fleet.store.holds().await.unwrap()[..] {
            [hold] => Ok(hold.clone()),
            other => Err(format!("{other:?}\n{}", fleet.log())),
        }
    })
    .await;
    assert_eq!(held.provider, cli.name());
    let status = fleet.orch(&["status"]);
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(said.contains(cli.name()) && said.contains("limit"), "{said}");
    let explained = fleet.orch(&["explain", "t2"]);
    let why = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(why.contains("limit"), "{why}");
    assert!(!fleet.redis("EXISTS goal:goal-001:spending_cap_until").ends_with('0'));

    // It survives both.
    let agent = fleet.until_registered("an_agent").await;
    signal(identity(&agent), Signal::KILL);
    fleet.kill_orchestrator().await;
    fleet.until_replaced("an_agent", &agent).await;

    fleet.until_goal(Status::Complete).await;
    let task = fleet.until_task("t2", State::Done).await;
    assert_eq!(task.failures, 0, "a limit costs no attempt: {task:?}");
}

#[tokio::test]
async fn limit_of_claude_with_a_reset_time_should_hold_it_until_then() {
    limit_in_the_middle(Cli::Claude, || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let message = format!("Claude AI usage limit reached|{}", now.as_secs() + 12);
        // A wait that long is not the program's own.
        Say::error(429, "rate_limit_error", message).retry_after(7200)
    })
    .await;
}

#[tokio::test]
async fn limit_of_codex_should_hold_it() {
    limit_in_the_middle(Cli::Codex, || {
        Say::error(429, "usage_limit_reached", "The usage limit has been reached")
            .header("x-codex-primary-reset-after-seconds", 6)
    })
    .await;
}

#[tokio::test]
async fn spent_budget_should_stop_the_goal_until_a_person_raises_it() {
    let dear = Usage { input: 300_000, output: 20_000, cache_read: 0, cache_write: 0 };
    let server = LlmServer::start(move |call| obey(call, TWO).using(dear));
    let cli = Cli::Claude;
    // Planning alone costs more.
    let instructions = prose(cli, &["an_agent"], "- Budget: $0.10");
    let Some(builder) = thinking(cli, &server, instructions.clone()) else { return };
    let fleet = start(cli, &server, builder).await;
    let goal = goal_001();
    wait_until("the goal shows that its budget is spent", DEADLINE, || async {
        let said = String::from_utf8_lossy(&fleet.orch(&["status"]).stdout).into_owned();
        if said.contains("budget") { Ok(()) } else { Err(format!("{said}\n{}", fleet.log())) }
    })
    .await;
    let spent = fleet.store.costs(CostOf::Goal(&goal)).await.unwrap();
    assert!(spent.usd_micros >= 100_000, "{spent:?}");
    let calls = server.calls().len();

    let raised = instructions.replace("$0.10", "$500");
    fleet.project.write("INSTRUCTIONS.md", &raised);
    fleet.until_goal(Status::Complete).await;
    assert!(server.calls().len() > calls);
    for task in ["t1", "t2"] {
        assert_eq!(fleet.until_task(task, State::Done).await.failures, 0);
    }
}

#[tokio::test]
async fn spent_budget_of_a_task_should_let_the_others_go_on() {
    let dear = Usage { input: 300_000, output: 20_000, cache_read: 0, cache_write: 0 };
    let server = LlmServer::start(move |call| match asked(call) {
        Asked::Do(task) if task == "dear" => Say::shell("true").using(dear),
        _ => obey(call, &[]),
    });
    let cli = Cli::Claude;
    let tasks =
        "#### Tasks\n- dear: Spend (budget: $0.05; priority: 9)\n- cheap: Save -> cheap.txt\n";
    let instructions = prose(cli, &["an_agent"], tasks);
    let Some(builder) = thinking(cli, &server, instructions.clone()) else { return };
    let fleet = start(cli, &server, builder).await;
    fleet.until_task("cheap", State::Done).await;
    let parked = wait_until("the dear task is parked", DEADLINE, || async {
        let task = fleet.until_task("dear", State::Ready).await;
        if task.not_before.is_some() { Ok(task) } else { Err(format!("{task:?}")) }
    })
    .await;
    assert!(parked.reason.as_deref().is_some_and(|why| why.contains("budget")), "{parked:?}");
    assert_eq!(parked.failures, 0);
    let explained = fleet.orch(&["explain", "dear"]);
    let why = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(why.contains("budget"), "{why}");
}

#[tokio::test]
async fn missing_program_should_be_waited_for_and_cost_nothing() {
    let server = LlmServer::start(|call| obey(call, &[("t1", &[])]));
    let cli = Cli::Claude;
    let Some(program) = installed("claude") else { return };
    let bin = tempfile::tempdir().unwrap();
    let late = bin.path().join("claude");
    let mut builder = fleet(prose(cli, &["an_agent"], ""))
        .provider("claude")
        .env("ORCH_CLAUDE_CLI", late.to_str().unwrap());
    for (name, value) in server.claude_env() {
        builder = builder.env(&name, &value);
    }
    let fleet = builder.start().await;
    let goal = wait_until("the goal says what is missing", DEADLINE, || async {
        match fleet.store.goal(&goal_001()).await.unwrap() {
            Some(goal) if goal.planning.held.is_some() => Ok(goal),
            other => Err(format!("{other:?}\n{}", fleet.log())),
        }
    })
    .await;
    assert!(goal.planning.held.unwrap().contains("claude"));
    assert_eq!(goal.planning.attempts, 0);
    symlink(program, &late).unwrap();
    fleet.until_goal(Status::Complete).await;
}

#[tokio::test]
async fn program_of_ones_own_should_do_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("model");
    // Plans one task, does it, sums it up: told apart by the step.
    let script = r#"#!/bin/sh
request=$(cat)
case $request in
*'"step":"decompose"'*) echo '{"value": {"goal_id": "goal-001", "edges": [], "nodes": [{"id": "t1", "title": "Write", "priority": 1, "expected_artifacts": ["t1.txt"]}]}, "usage": {"cost_usd": 0.01, "input_tokens": 5, "output_tokens": 7}}' ;;
*'"step":"execute"'*) env > env.txt; echo hello > t1.txt; echo '{"value": {"status": "done", "outputs": [], "notes": "wrote it", "follow_ups": []}}' ;;
*'"step":"summarise"'*) echo '{"value": {"summary": "Wrote it."}}' ;;
*) echo '{"error": {"kind": "failed", "message": "unknown step"}}' ;;
esac
"#;
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let agents = "## Agents\n\n### an_agent\n- Goal: goal-001\n- Environment: SHOWN_*\n";
    let instructions = format!("{agents}\n## Goals\n\n### goal-001\nWrite a file.\n");
    let fleet = fleet(instructions)
        .provider("command")
        .env("ORCH_COMMAND_CLI", program.to_str().unwrap())
        .env("SHOWN_NAME", "shown")
        .env("SOME_SECRET", "hidden")
        .start()
        .await;
    fleet.until_goal(Status::Complete).await;
    assert_eq!(fleet.read(fleet.work("t1.txt")), "hello\n");
    let seen = fleet.read(fleet.work("env.txt"));
    let has = |name: &str| seen.lines().any(|line| line.starts_with(&format!("{name}=")));
    assert!(has("PATH") && has("HOME") && has("SHOWN_NAME"), "{seen}");
    assert!(!has("SOME_SECRET") && !has("ORCH_COMMAND_CLI"), "{seen}");
    let costs = fleet.store.costs(CostOf::Goal(&goal_001())).await.unwrap();
    assert_eq!((costs.calls, costs.usd_micros), (3, 10_000));
}

#[tokio::test]
async fn shell_blocks_should_run_while_the_model_is_held() {
    let limited = Arc::new(AtomicBool::new(true));
    let until = Arc::clone(&limited);
    let server = LlmServer::start(move |call| match until.load(Ordering::SeqCst) {
        true => {
            Say::error(429, "rate_limit_error", "You've hit your usage limit").retry_after(7200)
        }
        false => obey(call, &[]),
    });
    let cli = Cli::Claude;
    let tasks = "#### Tasks\n- think: Think (priority: 9) -> think.txt\n\
        - wait: Wait (priority: 5)\n  ```sh\n  until test -e \"$ORCH_PROJECT/go\"; do sleep 0.05; done\n  ```\n";
    let Some(builder) = thinking(cli, &server, prose(cli, &["an_agent"], tasks)) else { return };
    let fleet = start(cli, &server, builder).await;
    wait_until("the model is held", DEADLINE, || async {
        let holds = fleet.store.holds().await.unwrap();
        if holds.is_empty() { Err(fleet.log()) } else { Ok(()) }
    })
    .await;
    limited.store(false, Ordering::SeqCst);
    fleet.until_task("wait", State::Running).await;
    assert!(!fleet.store.holds().await.unwrap().is_empty(), "it is still held");
    fleet.project.write("go", "");
    fleet.until_goal(Status::Complete).await;
    assert_eq!(calls_for(&server, &Asked::Plan).len(), 0, "the plan is pinned");
}
