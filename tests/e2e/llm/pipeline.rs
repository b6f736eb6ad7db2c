//! From prose to `complete`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use model::goal::Status;
use model::task::State;
use process::Signal;
use serde_json::json;
use store::llm::CostOf;
use testkit::{LlmServer, Say};

use super::script::{Asked, Cli, EIGHT, asked, calls_for, obey, prose, start, thinking};
use crate::support::{DEADLINE, goal_001, identity, signal};

const THREE: &[&str] = &["first_agent", "second_agent", "third_agent"];

/// One goal of eight tasks and three agents, from prose to its end.
async fn eight_tasks(cli: Cli) {
    let server = LlmServer::start(|call| obey(call, EIGHT));
    let Some(builder) = thinking(cli, &server, prose(cli, THREE, "")) else { return };
    let fleet = start(cli, &server, builder.args(&["--llm-max-concurrency", "3"])).await;
    fleet.until_goal(Status::Complete).await;

    for (task, _) in EIGHT {
        let text = fleet.read(fleet.work(&format!("{task}.txt")));
        assert_eq!(text.trim_end(), format!("this is {task}"));
        let task = fleet.until_task(task, State::Done).await;
        assert_eq!((task.failures, task.losses), (0, 0), "{task:?}");
        assert_eq!(task.progress.as_deref(), Some("Wrote what was asked for."));
        let made = task.artifacts.unwrap();
        assert!(made[0]["bytes"].as_u64() > Some(0) && made[0]["sha256"].is_string(), "{made}");
        assert!(task.prompt.is_some_and(|prompt| prompt.starts_with("execute/1 ")));
        assert!(task.llm_calls >= 2, "{}: {}", task.id, task.llm_calls);
    }
    assert_eq!(calls_for(&server, &Asked::Plan).len(), 1);
    // What came before is told to who goes on.
    let last = calls_for(&server, &Asked::Do("t8".to_owned()));
    assert!(last[0].text.contains("t7.txt"), "{}", last[0].text);
    // Two tasks are ready at the beginning, and the model chooses among them.
    assert!(server.calls().iter().any(|call| matches!(asked(call), Asked::Choose(_))));

    let costs = fleet.store.costs(CostOf::Goal(&goal_001())).await.unwrap();
    assert!(costs.calls >= 17 && costs.output_tokens > 0, "{costs:?}");
    match cli {
        Cli::Claude => assert!(costs.usd_micros > 0, "{costs:?}"),
        // It does not say.
        Cli::Codex => assert_eq!(costs.unpriced_calls, costs.calls),
    }
}

#[tokio::test]
async fn claude_should_bring_eight_tasks_from_prose_to_their_end() {
    eight_tasks(Cli::Claude).await;
}

#[tokio::test]
async fn codex_should_bring_eight_tasks_from_prose_to_their_end() {
    eight_tasks(Cli::Codex).await;
}

/// The agent is killed after its model wrote a file; its successor goes on with the same
/// conversation.
async fn resumed(cli: Cli) {
    let first = AtomicUsize::new(0);
    let server = LlmServer::start(move |call| match asked(call) {
        // What comes after the first file, the first time.
        Asked::Do(_) if call.round == 1 && first.fetch_add(1, Ordering::SeqCst) == 0 => Say::hang(),
        Asked::Do(task) if !call.tool_results.is_empty() => Say::json(super::script::done(&task)),
        _ => obey(call, &[("t1", &[])]),
    });
    let Some(builder) = thinking(cli, &server, prose(cli, &["an_agent"], "")) else { return };
    let fleet = start(cli, &server, builder).await;
    let hanging = || {
        let calls = server.calls();
        calls.into_iter().find(|call| matches!(asked(call), Asked::Do(_)) && call.round == 1)
    };
    let call = testkit::wait_until("the call hangs", DEADLINE, || async {
        hanging().ok_or_else(|| fleet.log())
    })
    .await;
    if cli == Cli::Claude {
        let session = call.session.clone().unwrap();
        testkit::wait_until("claude has stored the conversation", DEADLINE, || async {
            let history = testkit::claude_history(fleet.project.home(), &session);
            if history.contains("tool_result") { Ok(()) } else { Err(history) }
        })
        .await;
    }
    let agent = fleet.until_registered("an_agent").await;
    signal(identity(&agent), Signal::KILL);
    fleet.until_goal(Status::Complete).await;

    let task = fleet.until_task("t1", State::Done).await;
    assert_eq!((task.attempt, task.failures, task.losses), (2, 0, 1));
    let calls: Vec<_> =
        server.calls().into_iter().filter(|call| matches!(asked(call), Asked::Do(_))).collect();
    // Written once; then the hang; then the rest of the same conversation.
    let again = &calls[2];
    assert_eq!(again.session, call.session, "{:?}", again.text);
    assert!(!again.tool_results.is_empty(), "the history is there");
    assert!(again.text.contains("You were interrupted"), "{}", again.text);
}

#[tokio::test]
async fn claude_should_go_on_with_the_conversation_of_a_killed_agent() {
    resumed(Cli::Claude).await;
}

#[tokio::test]
async fn codex_should_go_on_with_the_conversation_of_a_killed_agent() {
    resumed(Cli::Codex).await;
}

#[tokio::test]
async fn done_without_the_file_should_be_found_out_and_the_next_attempt_told() {
    let tries = AtomicUsize::new(0);
    let server = LlmServer::start(move |call| match asked(call) {
        // It says that it wrote the file, and did not.
        Asked::Do(task) if tries.fetch_add(1, Ordering::SeqCst) == 0 => {
            Say::json(super::script::done(&task))
        }
        _ => obey(call, &[("t1", &[])]),
    });
    let cli = Cli::Claude;
    let Some(builder) = thinking(cli, &server, prose(cli, &["an_agent"], "")) else { return };
    let fleet = start(cli, &server, builder).await;
    fleet.until_goal(Status::Complete).await;
    let task = fleet.until_task("t1", State::Done).await;
    assert_eq!((task.attempt, task.failures), (2, 1));
    let calls = calls_for(&server, &Asked::Do("t1".to_owned()));
    assert!(calls[1].text.contains("the artifact t1.txt was not made"), "{}", calls[1].text);
    assert_ne!(calls[0].text, calls[1].text);
}

#[tokio::test]
async fn calls_should_never_be_more_than_there_are_slots() {
    let now = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (under_way, highest) = (Arc::clone(&now), Arc::clone(&most));
    let tasks: &[(&str, &[&str])] = &[("a", &[]), ("b", &[]), ("c", &[])];
    let server = LlmServer::start(move |call| {
        let count = under_way.fetch_add(1, Ordering::SeqCst) + 1;
        highest.fetch_max(count, Ordering::SeqCst);
        // Long enough to be met by another, if there were one.
        std::thread::sleep(Duration::from_millis(300));
        under_way.fetch_sub(1, Ordering::SeqCst);
        obey(call, tasks)
    });
    let cli = Cli::Claude;
    let Some(builder) = thinking(cli, &server, prose(cli, THREE, "")) else { return };
    let fleet = start(cli, &server, builder.args(&["--llm-max-concurrency", "1"])).await;
    testkit::wait_until("somebody is seen waiting for a slot", DEADLINE, || async {
        let slots = fleet.store.slots().await.unwrap();
        let status = fleet.status();
        if slots.waiting.is_empty() { Err(format!("{slots:?} {status}")) } else { Ok(()) }
    })
    .await;
    fleet.until_goal(Status::Complete).await;
    assert_eq!(most.load(Ordering::SeqCst), 1);
    for task in ["a", "b", "c"] {
        let task = fleet.until_task(task, State::Done).await;
        assert_eq!((task.failures, task.losses), (0, 0), "waiting costs nothing: {task:?}");
    }
}

#[tokio::test]
async fn systemg_should_know_the_program_where_that_is_asked_for() {
    let server = LlmServer::start(|call| match asked(call) {
        Asked::Do(_) if call.round == 0 => obey(call, &[("t1", &[])]).after(Duration::from_secs(2)),
        _ => obey(call, &[("t1", &[])]),
    });
    let cli = Cli::Claude;
    let Some(builder) = thinking(cli, &server, prose(cli, &["an_agent"], "")) else { return };
    let fleet = start(cli, &server, builder.args(&["--llm-use-sysg"])).await;
    testkit::wait_until("sysg lists the program's launcher", DEADLINE, || async {
        let status = fleet.project.sysg(&["status", "--live", "--format", "json"]);
        if status.stdout.contains("an_agent-llm") { Ok(()) } else { Err(fleet.log()) }
    })
    .await;
    fleet.until_goal(Status::Complete).await;
    assert_eq!(fleet.read(fleet.work("t1.txt")).trim_end(), "this is t1");
}

#[tokio::test]
async fn prompt_on_the_command_line_should_be_answered() {
    let server = LlmServer::start(|call| {
        assert!(call.last.contains("how are you"), "{}", call.last);
        Say::text("Fine, thank you.")
    });
    let cli = Cli::Claude;
    let Some(builder) = thinking(cli, &server, prose(cli, &["an_agent"], "")) else { return };
    let fleet = builder.write().await;
    let output = fleet.orch(&["run", "-p", "how are you"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        (said.as_str(), output.status.code()),
        ("Fine, thank you.\n", Some(0)),
        "{output:?}"
    );
    assert_eq!(json!(server.calls().len()), json!(1));
}
