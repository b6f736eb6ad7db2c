//! `claude` on a scripted model.

use std::time::Duration;

use providers::claude::Claude;
use providers::{FailureKind, Limit, Provider, Session, Step};
use serde_json::json;
use testkit::{Call, LlmServer, Say, Usage, claude_history, installed};

use crate::world::{World, exists, plan, schema, uuid};

/// The program and its world; nothing where the program is not installed.
fn start(script: impl Fn(&Call) -> Say + Send + Sync + 'static) -> Option<(Claude, World)> {
    let cli = installed("claude")?.display().to_string();
    Some((Claude { cli, ..Claude::default() }, World::claude(LlmServer::start(script))))
}

#[tokio::test]
async fn plan_should_come_back_as_a_value_with_its_cost() {
    let Some((claude, world)) = start(|_| Say::json(plan())) else { return };
    let mut request = world.request(Step::Decompose, "--help is no flag, and $(this) no command");
    request.schema = Some(schema());
    request.model = Some("claude-sonnet-4-5".into());
    let reply = world.call(&claude, &request).await.unwrap();
    assert_eq!(reply.value, Some(plan()));
    assert!(reply.usage.cost_micros.unwrap() > 0, "{reply:?}");
    assert_eq!((reply.usage.input_tokens, reply.usage.output_tokens), (1000, 100));
    assert!(reply.model.unwrap().starts_with("claude-sonnet-4-5"));
    let calls = world.server.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].tools, ["StructuredOutput"]);
    assert_eq!(calls[0].last, request.prompt);
    assert_eq!(calls[0].model, "claude-sonnet-4-5");
    assert_eq!(std::fs::read_dir(world.folder()).unwrap().count(), 0);
}

#[tokio::test]
async fn text_should_come_back_where_no_schema_was_given() {
    let Some((claude, world)) = start(|_| Say::text("It is so.")) else { return };
    let reply = world.call(&claude, &world.request(Step::Prompt, "/cost")).await.unwrap();
    assert_eq!((reply.text.as_str(), reply.value), ("It is so.", None));
    assert_eq!(world.server.calls()[0].last.trim(), "/cost");
}

#[tokio::test]
async fn execution_should_write_what_it_is_allowed_to() {
    let script = |call: &Call| match call.round {
        0 => Say::write("out.txt", "written\n"),
        1 => Say::shell("env > env.txt"),
        _ => Say::json(plan()),
    };
    let Some((claude, world)) = start(script) else { return };
    let mut request = world.request(Step::Execute, "write");
    request.schema = Some(schema());
    request.permissions.tools = vec!["Write".into(), "Bash(env:*)".into()];
    // A redirection is more than `env`: so that is asked for by its whole name.
    let failure = world.call(&claude, &request).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Denied, "{failure}");
    request.permissions.tools = vec!["Write".into(), "Bash".into()];
    assert!(world.call(&claude, &request).await.is_ok());
    let read = |name| std::fs::read_to_string(world.folder().join(name)).unwrap();
    assert_eq!(read("out.txt"), "written\n");
    assert!(!read("env.txt").contains("not for programs"), "the environment leaks");
}

#[tokio::test]
async fn execution_should_fail_where_a_tool_was_denied() {
    let script =
        |call: &Call| if call.round == 0 { Say::write("out.txt", "x") } else { Say::text("Done!") };
    let Some((claude, world)) = start(script) else { return };
    let failure = world.call(&claude, &world.request(Step::Execute, "write")).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Denied, "{failure}");
    assert!(failure.message.contains("- Tools: Write"), "{failure}");
    assert!(failure.usage.cost_micros.unwrap() > 0);
    assert!(!exists(world.folder().join("out.txt")));
}

#[tokio::test]
async fn mode_should_let_through_what_it_says() {
    let script =
        |call: &Call| if call.round == 0 { Say::write("out.txt", "x") } else { Say::text("Done!") };
    let Some((claude, world)) = start(script) else { return };
    let mut request = world.request(Step::Execute, "write");
    request.permissions.mode = Some("acceptEdits".into());
    world.call(&claude, &request).await.unwrap();
    assert!(exists(world.folder().join("out.txt")));
}

#[tokio::test]
async fn killed_call_should_be_resumed_with_its_history() {
    let script = |call: &Call| match (call.last.as_str(), call.round) {
        ("go on", _) => Say::json(plan()),
        (_, 0) => Say::shell("echo first >> steps.txt"),
        _ => Say::hang(),
    };
    let Some((claude, world)) = start(script) else { return };
    let id = uuid();
    let mut request = world.request(Step::Execute, "begin");
    request.schema = Some(schema());
    request.permissions.tools = vec!["Bash".into()];
    request.session = Session::New(id.clone());
    let failure = world
        .kill_when(&claude, &request, "the first step in the history", || {
            world.server.calls().len() == 2
                && claude_history(&world.home(), &id).contains("tool_result")
        })
        .await;
    assert_eq!(failure.kind, FailureKind::Failed, "{failure}");
    assert!(failure.message.contains("signal 9"), "{failure}");

    request.session = Session::Resume(claude.resumable(&id, &world.log()).unwrap());
    request.prompt = "go on".into();
    let reply = world.call(&claude, &request).await.unwrap();
    assert_eq!(reply.value, Some(plan()));
    assert_eq!(reply.session, Some(id));
    let last = world.server.calls().pop().unwrap();
    assert!(last.text.contains("begin"), "the history is missing: {}", last.text);
    assert!(last.turn >= 1, "{}", last.turn);
    assert_eq!(std::fs::read_to_string(world.folder().join("steps.txt")).unwrap(), "first\n");
}

#[tokio::test]
async fn unknown_session_should_be_recognisable() {
    let Some((claude, world)) = start(|_| Say::text("never")) else { return };
    let mut request = world.request(Step::Execute, "go on");
    request.session = Session::Resume(uuid());
    let failure = world.call(&claude, &request).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Failed);
    assert!(failure.message.starts_with("session not found"), "{failure}");
    assert_eq!(world.server.calls().len(), 0);
}

#[tokio::test]
async fn usage_limit_should_be_a_limit() {
    let script = |_: &Call| {
        let message = "You've hit your session limit · resets in 2 hours";
        Say::error(429, "rate_limit_error", message).retry_after(7200)
    };
    let Some((claude, world)) = start(script) else { return };
    let before = jiff::Timestamp::now();
    let failure = world.call(&claude, &world.request(Step::Select, "x")).await.unwrap_err();
    let FailureKind::Limit(Limit { until: Some(until) }) = failure.kind else {
        panic!("{failure:?}")
    };
    let hours = until.duration_since(before).as_secs_f64() / 3600.0;
    assert!((2.0..2.1).contains(&hours), "{hours}");
}

#[tokio::test]
async fn overload_should_be_a_limit_without_a_time() {
    let Some((claude, world)) = start(|_| Say::error(529, "overloaded_error", "Overloaded")) else {
        return;
    };
    let failure = world.call(&claude, &world.request(Step::Select, "x")).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Limit(Limit { until: None }), "{failure}");
}

#[tokio::test]
async fn answer_that_is_no_json_should_be_malformed() {
    for text in ["I would rather not.", r#"{"title": "half a pl"#] {
        let Some((claude, world)) = start(move |_| Say::text(text)) else { return };
        let mut request = world.request(Step::Decompose, "plan");
        request.schema = Some(schema());
        let failure = world.call(&claude, &request).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Malformed(text.into()), "{failure}");
        assert!(failure.usage.cost_micros.unwrap() > 0);
    }
}

#[tokio::test]
async fn json_in_prose_should_be_found() {
    let text = format!("Here it is:\n```json\n{}\n```\nEnjoy.", plan());
    let Some((claude, world)) = start(move |_| Say::text(text.clone())) else { return };
    let mut request = world.request(Step::Decompose, "plan");
    request.schema = Some(schema());
    assert_eq!(world.call(&claude, &request).await.unwrap().value, Some(plan()));
}

#[tokio::test]
async fn hang_should_end_at_the_timeout() {
    let Some((claude, world)) = start(|_| Say::hang()) else { return };
    let mut request = world.request(Step::Select, "x");
    request.timeout = Duration::from_secs(4);
    let failure = world.call(&claude, &request).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::TimedOut, "{failure}");
    assert_eq!(world.server.calls().len(), 1);
}

#[tokio::test]
async fn connection_that_breaks_should_be_a_failure_unless_the_program_mends_it() {
    // After a break the program asks again without a stream.
    let script = |call: &Call| match call.body["stream"].as_bool() {
        Some(true) => Say::text("whole").cut_after(3),
        _ => Say::text("whole"),
    };
    let Some((claude, world)) = start(script) else { return };
    let reply = world.call(&claude, &world.request(Step::Select, "x")).await.unwrap();
    assert_eq!(reply.text, "whole");

    let Some((claude, world)) = start(|_| Say::raw(200, &[], "").cut_after(0)) else { return };
    let failure = world.call(&claude, &world.request(Step::Select, "x")).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Failed, "{failure}");
}

#[tokio::test]
async fn spent_budget_should_stop_the_call_and_say_what_it_cost() {
    let script = |_: &Call| {
        let usage = Usage { output: 100_000, ..Usage::default() };
        Say::shell("true").using(usage)
    };
    let Some((claude, world)) = start(script) else { return };
    let mut request = world.request(Step::Execute, "spend");
    request.permissions.tools = vec!["Bash".into()];
    request.budget_micros = Some(10_000);
    let failure = world.call(&claude, &request).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Budget, "{failure}");
    assert!(failure.usage.cost_micros.unwrap() > 10_000, "{:?}", failure.usage);
    assert_eq!(world.server.calls().len(), 1);
}

#[tokio::test]
async fn huge_answer_should_be_malformed_and_bounded() {
    let Some((claude, world)) = start(|_| Say::huge(10 << 20)) else { return };
    let mut request = world.request(Step::Select, "x");
    request.schema = Some(json!({ "type": "object" }));
    let failure = world.call(&claude, &request).await.unwrap_err();
    let FailureKind::Malformed(came) = &failure.kind else { panic!("{failure:?}") };
    assert!(came.len() < 10_000 && failure.message.len() < 1_000, "{failure}");
    // What it cost is not always known: the program may end before all is written.
    assert!(failure.message.contains("fewer words"), "{failure}");
}

#[tokio::test]
async fn missing_key_should_be_refused_with_what_to_do() {
    let Some((claude, world)) = start(|_| Say::text("never")) else { return };
    let world = world.without("ANTHROPIC_API_KEY");
    let failure = world.call(&claude, &world.request(Step::Select, "x")).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    assert!(failure.message.contains("ANTHROPIC_API_KEY"), "{failure}");
}

#[tokio::test]
async fn wrong_key_and_unknown_model_should_be_refused_within_seconds() {
    for (status, kind) in [(401, "authentication_error"), (404, "not_found_error")] {
        let Some((claude, world)) = start(move |_| Say::error(status, kind, "no")) else { return };
        let mut request = world.request(Step::Select, "x");
        request.timeout = Duration::from_secs(30);
        let failure = world.call(&claude, &request).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused, "{status}: {failure}");
    }
}
