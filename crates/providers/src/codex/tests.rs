use std::path::PathBuf;
use std::time::Duration;

use process::Captured;
use serde_json::json;

use super::*;
use crate::call::Permissions;

fn request(step: Step) -> Request {
    Request {
        step,
        prompt: "do it".into(),
        schema: None,
        model: None,
        session: Session::Ephemeral,
        permissions: Permissions::default(),
        budget_micros: None,
        folder: PathBuf::from("/work"),
        scratch: PathBuf::from("/scratch"),
        log: PathBuf::from("/scratch/log"),
        timeout: Duration::from_secs(60),
    }
}

fn args(request: &Request) -> Vec<String> {
    Codex::default().invocation(request).unwrap().args
}

fn read(request: &Request, status: Status, lines: &[&str]) -> Result<Reply, Failure> {
    let captured = |text: String| Captured { text, left_out_bytes: 0 };
    let stdout = captured(lines.join("\n"));
    let stderr = captured("WARNING: x".into());
    let duration = Duration::from_secs(1);
    Codex::default().read(request, &Ended { status, stdout, stderr, duration })
}

const STARTED: &str = r#"{"type":"thread.started","thread_id":"t-1"}"#;
const DONE: &str = r#"{"type":"turn.completed","usage":{"input_tokens":100,"cached_input_tokens":7,"cache_write_input_tokens":2,"output_tokens":20,"reasoning_output_tokens":0}}"#;

fn said(text: &str) -> String {
    json!({ "type": "item.completed", "item": { "id": "1", "type": "agent_message", "text": text } })
        .to_string()
}

fn ran(output: &str, code: i32) -> String {
    let item = json!({
        "id": "1", "type": "command_execution", "command": "ls", "aggregated_output": output,
        "exit_code": code, "status": "failed",
    });
    json!({ "type": "item.completed", "item": item }).to_string()
}

#[test]
fn sandbox_should_be_as_narrow_as_the_step_and_as_wide_as_declared() {
    let of = |step, mode: Option<&str>| {
        let permissions = Permissions { tools: Vec::new(), mode: mode.map(str::to_owned) };
        args(&Request { permissions, ..request(step) })
            .into_iter()
            .find_map(|arg| arg.strip_prefix("--sandbox=").map(str::to_owned))
            .unwrap()
    };
    assert_eq!(of(Step::Execute, None), "workspace-write");
    assert_eq!(of(Step::Review, None), "read-only");
    assert_eq!(of(Step::Execute, Some("plan")), "read-only");
    assert_eq!(of(Step::Execute, Some("danger-full-access")), "danger-full-access");
    assert_eq!(of(Step::Decompose, Some("danger-full-access")), "read-only");
    assert!(args(&request(Step::Select)).contains(&"--disable=shell_tool".to_owned()));
    let mut request = request(Step::Execute);
    request.permissions.mode = Some("bypassPermissions".into());
    assert_eq!(Codex::default().invocation(&request).unwrap_err().kind, FailureKind::Refused);
}

#[test]
fn bypass_should_only_come_from_a_declared_mode() {
    for arg in ["--dangerously-bypass-approvals-and-sandbox", "-sdanger-full-access", "--yolo"] {
        let codex = Codex { extra_args: vec![arg.into()], ..Codex::default() };
        let failure = codex.invocation(&request(Step::Execute)).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused, "{arg}");
    }
}

#[test]
fn resumed_session_should_be_an_argument_behind_all_flags() {
    let mut request = request(Step::Execute);
    request.session = Session::Resume("-x".into());
    let codex = Codex { extra_args: vec!["--strict-config".into()], ..Codex::default() };
    let args = codex.invocation(&request).unwrap().args;
    assert_eq!(args[args.len() - 5..], ["--strict-config", "resume", "--", "-x", "-"]);
    assert!(!args.contains(&"--ephemeral".to_owned()));
}

#[test]
fn schema_should_be_given_as_a_file() {
    let mut request = request(Step::Select);
    request.schema = Some(json!({ "type": "object", "properties": { "a": { "type": "string" } } }));
    let invocation = Codex::default().invocation(&request).unwrap();
    let [(path, text)] = invocation.files.as_slice() else { panic!("{:?}", invocation.files) };
    assert!(invocation.args.contains(&format!("--output-schema={}", path.display())));
    assert!(text.contains(r#""required":["a"]"#), "{text}");
}

#[test]
fn answer_should_be_the_last_message() {
    let mut request = request(Step::Execute);
    request.schema = Some(json!({ "required": ["a"] }));
    let warning = r#"{"type":"item.completed","item":{"type":"error","message":"usage limit"}}"#;
    let lines = ["noise", STARTED, warning, &said("I begin"), &said(r#"{"a":1,"b":null}"#), DONE];
    let reply = read(&request, Status::Exited(0), &lines).unwrap();
    assert_eq!(reply.value, Some(json!({ "a": 1 })));
    assert_eq!(reply.session.as_deref(), Some("t-1"));
    let usage = reply.usage;
    assert_eq!((usage.input_tokens, usage.cache_read_tokens, usage.output_tokens), (93, 7, 20));
    assert_eq!((usage.cost_micros, usage.cache_write_tokens), (None, 2));
    let failure = read(&request, Status::Exited(0), &[STARTED, &said("no"), DONE]).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Malformed("no".into()));
}

#[test]
fn errors_should_be_told_apart() {
    let of = |status, message: &str| {
        let event = json!({ "type": "error", "message": message }).to_string();
        read(&request(Step::Select), status, &[STARTED, &event]).unwrap_err()
    };
    let limit = of(Status::Exited(1), "You\u{2019}ve hit your usage limit. Try again later.");
    assert!(matches!(limit.kind, FailureKind::Limit(_)), "{limit:?}");
    let waiting = of(
        Status::TimedOut,
        "Reconnecting... 2/5 (exceeded retry limit, last status: 429 Too Many Requests)",
    );
    assert!(matches!(waiting.kind, FailureKind::Limit(_)), "{waiting:?}");
    let refused =
        of(Status::TimedOut, "Reconnecting... 2/5 (unexpected status 401 Unauthorized: x)");
    assert_eq!(refused.kind, FailureKind::Refused);
    let cut = "stream disconnected before completion: stream closed";
    assert_eq!(of(Status::Exited(1), cut).message, format!("codex failed: {cut}"));
    assert_eq!(of(Status::TimedOut, cut).kind, FailureKind::TimedOut);
    let context = of(Status::Exited(1), "Codex ran out of room in the model's context window.");
    assert_eq!(context.kind, FailureKind::Failed);
}

#[test]
fn missing_sandbox_should_be_refused_unless_a_command_did_run() {
    let request = request(Step::Execute);
    let broken = ran("bwrap: No permissions to create a new namespace\n", 1);
    let lines = [STARTED, &broken, &said("done"), DONE];
    let failure = read(&request, Status::Exited(0), &lines).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused);
    assert!(failure.message.contains("bwrap: No permissions"), "{failure}");
    let lines = [STARTED, &broken, &ran("f", 0), &said("done"), DONE];
    assert!(read(&request, Status::Exited(0), &lines).is_ok());
}

#[test]
fn session_should_be_found_in_what_is_left_of_a_log() {
    let log = format!("WARNING: x\n{STARTED}\n{{\"type\":\"turn.sta");
    assert_eq!(Codex::default().resumable("ours", &log).as_deref(), Some("t-1"));
    assert_eq!(Codex::default().resumable("ours", "WARNING: x"), None);
}

#[test]
fn unknown_session_should_be_recognisable() {
    let stderr = "Error: thread/resume: thread/resume failed: no rollout found for thread id x";
    let captured = |text: &str| Captured { text: text.into(), left_out_bytes: 0 };
    let (stdout, stderr) = (captured(""), captured(stderr));
    let duration = Duration::from_secs(1);
    let ended = Ended { status: Status::Exited(1), stdout, stderr, duration };
    let failure = Codex::default().read(&request(Step::Execute), &ended).unwrap_err();
    assert!(failure.message.starts_with("session not found"), "{failure}");
}

/// Regression, found by fuzzing: the id was taken as it came.
#[test]
fn id_of_a_session_that_cannot_be_should_be_left_out() {
    for bad in [String::new(), "a\u{0}b".to_owned(), "x".repeat(257)] {
        let started = json!({ "type": "thread.started", "thread_id": bad }).to_string();
        assert_eq!(Codex::default().resumable("ours", &started), None, "{bad:?}");
        let reply = read(&request(Step::Select), Status::Exited(0), &[&started, &said("x"), DONE]);
        assert_eq!(reply.unwrap().session, None, "{bad:?}");
    }
}
