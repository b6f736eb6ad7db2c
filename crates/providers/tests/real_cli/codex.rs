//! `codex` on a scripted model.

use std::time::Duration;

use providers::codex::Codex;
use providers::{FailureKind, Limit, Provider, Session, Step};
use testkit::{Call, LlmServer, Say, installed};

use crate::world::{World, exists, plan, schema, uuid};

fn start(script: impl Fn(&Call) -> Say + Send + Sync + 'static) -> Option<(Codex, World)> {
    let cli = installed("codex")?.display().to_string();
    Some((Codex { cli, ..Codex::default() }, World::codex(LlmServer::start(script))))
}

#[tokio::test]
async fn plan_should_come_back_as_a_value() {
    // In strict mode, what is absent is null.
    let script = |_: &Call| {
        let mut answer = plan();
        answer["note"] = serde_json::Value::Null;
        Say::json(answer)
    };
    let Some((codex, world)) = start(script) else { return };
    let mut request = world.request(Step::Decompose, "--help is no flag");
    request.schema = Some(schema());
    let reply = world.call(&codex, &request).await.unwrap();
    assert_eq!(reply.value, Some(plan()));
    assert_eq!((reply.usage.cost_micros, reply.usage.output_tokens), (None, 100));
    let calls = world.server.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].last, request.prompt);
    let sent = calls[0].schema.as_ref().unwrap();
    assert_eq!(sent["required"].as_array().unwrap().len(), 3, "{sent}");
    // Its own models see their tools as headings of a text.
    let body = calls[0].body.to_string();
    assert!(body.contains("### `view_image`"), "{body}");
    assert!(!body.contains("### `exec_command`"), "a plan needs no shell: {body}");
}

#[tokio::test]
async fn execution_should_write_in_its_folder_and_nowhere_else() {
    // Its sandbox lets it write to /tmp, where the project may lie as well.
    let outside = tempfile::Builder::new().tempdir_in("/var/tmp").unwrap();
    let elsewhere = outside.path().join("out.txt");
    let script = {
        let elsewhere = elsewhere.clone();
        move |call: &Call| match call.round {
            0 => Say::write("out.txt", "written\n"),
            1 => Say::shell(format!("touch {}; env > env.txt", elsewhere.display())),
            _ => Say::json(plan()),
        }
    };
    let Some((codex, world)) = start(script) else { return };
    let mut request = world.request(Step::Execute, "write");
    request.schema = Some(schema());
    let reply = world.call(&codex, &request).await;
    assert!(reply.is_ok(), "{reply:?}; {:?}", world.server.calls().last().unwrap().tool_results);
    let read = |name| std::fs::read_to_string(world.folder().join(name)).unwrap();
    assert_eq!(read("out.txt"), "written\n");
    assert!(!read("env.txt").contains("not for programs"), "the environment leaks");
    assert!(!exists(elsewhere));
}

#[tokio::test]
async fn review_should_write_nothing() {
    let script =
        |call: &Call| if call.round == 0 { Say::write("out.txt", "x") } else { Say::text("Seen.") };
    let Some((codex, world)) = start(script) else { return };
    let reply = world.call(&codex, &world.request(Step::Review, "look")).await.unwrap();
    assert_eq!(reply.text, "Seen.");
    assert!(!exists(world.folder().join("out.txt")));
}

#[tokio::test]
async fn killed_call_should_be_resumed_with_its_history() {
    let script = |call: &Call| match (call.last.as_str(), call.round) {
        ("go on", _) => Say::json(plan()),
        (_, 0) => Say::shell("echo first >> steps.txt"),
        _ => Say::hang(),
    };
    let Some((codex, world)) = start(script) else { return };
    let mut request = world.request(Step::Execute, "begin");
    request.schema = Some(schema());
    request.session = Session::New(uuid());
    let failure = world
        .kill_when(&codex, &request, "the second call", || world.server.calls().len() == 2)
        .await;
    assert_eq!(failure.kind, FailureKind::Failed, "{failure}");

    let id = codex.resumable("not its own", &world.log()).unwrap();
    request.session = Session::Resume(id.clone());
    request.prompt = "go on".into();
    let reply = world.call(&codex, &request).await.unwrap();
    assert_eq!((reply.value, reply.session), (Some(plan()), Some(id)));
    let last = world.server.calls().pop().unwrap();
    assert!(last.text.contains("begin"), "the history is missing: {}", last.text);
    assert_eq!(std::fs::read_to_string(world.folder().join("steps.txt")).unwrap(), "first\n");
}

#[tokio::test]
async fn unknown_session_should_be_recognisable() {
    let Some((codex, world)) = start(|_| Say::text("never")) else { return };
    let mut request = world.request(Step::Execute, "go on");
    request.session = Session::Resume(uuid());
    let failure = world.call(&codex, &request).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Failed);
    assert!(failure.message.starts_with("session not found"), "{failure}");
}

#[tokio::test]
async fn usage_limit_should_be_a_limit_with_its_reset() {
    // By the minute: that is how it is told.
    let until = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() / 60 * 60 + 7200);
    let until = until.unwrap();
    let script = move |_: &Call| {
        let error = serde_json::json!({ "error": {
            "type": "usage_limit_reached",
            "message": "The usage limit has been reached",
            "plan_type": "plus",
            "resets_at": until.as_second(),
        }});
        Say::raw(429, &[("content-type", "application/json")], error.to_string())
    };
    let Some((codex, world)) = start(script) else { return };
    let failure = world.call(&codex, &world.request(Step::Select, "x")).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Limit(Limit { until: Some(until) }), "{failure}");
}

#[tokio::test]
async fn limit_that_the_program_waits_for_should_be_a_limit_at_the_timeout() {
    let script = |_: &Call| Say::error(429, "rate_limit_exceeded", "slow down").retry_after(20);
    let Some((codex, world)) = start(script) else { return };
    let mut request = world.request(Step::Select, "x");
    request.timeout = Duration::from_secs(5);
    let failure = world.call(&codex, &request).await.unwrap_err();
    assert!(matches!(failure.kind, FailureKind::Limit(_)), "{failure:?}");
}

#[tokio::test]
async fn answer_that_is_no_json_should_be_malformed() {
    let Some((codex, world)) = start(|_| Say::text("I would rather not.")) else { return };
    let mut request = world.request(Step::Decompose, "plan");
    request.schema = Some(schema());
    let failure = world.call(&codex, &request).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Malformed("I would rather not.".into()), "{failure}");
    assert_eq!(failure.usage.output_tokens, 100);
}

#[tokio::test]
async fn hang_should_end_at_the_timeout() {
    let Some((codex, world)) = start(|_| Say::hang()) else { return };
    let mut request = world.request(Step::Select, "x");
    request.timeout = Duration::from_secs(4);
    let failure = world.call(&codex, &request).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::TimedOut, "{failure}");
}

#[tokio::test]
async fn connection_that_breaks_once_should_do_no_harm() {
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let script = move |_: &Call| match calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => Say::text("never whole").cut_after(3),
        _ => Say::text("whole"),
    };
    let Some((codex, world)) = start(script) else { return };
    let reply = world.call(&codex, &world.request(Step::Select, "x")).await.unwrap();
    assert_eq!(reply.text, "whole");
}

#[tokio::test]
async fn huge_answer_should_be_malformed_and_bounded() {
    let Some((codex, world)) = start(|_| Say::huge(10 << 20)) else { return };
    let mut request = world.request(Step::Select, "x");
    request.schema = Some(schema());
    let failure = world.call(&codex, &request).await.unwrap_err();
    let FailureKind::Malformed(came) = &failure.kind else { panic!("{failure:?}") };
    assert!(came.len() < 10_000 && failure.message.len() < 1_000, "{failure}");
    assert_eq!(failure.usage.output_tokens, 100);
}

#[tokio::test]
async fn missing_key_should_be_refused_with_what_to_do() {
    let Some((codex, world)) = start(|_| Say::text("never")) else { return };
    let world = world.without("OPENAI_API_KEY");
    let failure = world.call(&codex, &world.request(Step::Select, "x")).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    assert!(failure.message.contains("codex login"), "{failure}");
}
