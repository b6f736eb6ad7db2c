use std::path::PathBuf;
use std::time::Duration;

use process::Captured;
use serde_json::json;

use super::*;
use crate::call::{Permissions, Usage};

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
    Claude::default().invocation(request).unwrap().args
}

fn ended(status: Status, stdout: &str, stderr: &str, left_out_bytes: u64) -> Ended {
    let stdout = Captured { text: stdout.into(), left_out_bytes };
    let stderr = Captured { text: stderr.into(), left_out_bytes: 0 };
    Ended { status, stdout, stderr, duration: Duration::from_secs(1) }
}

fn read(step: Step, line: &Value) -> Result<Reply, Failure> {
    read_with(&Request { schema: Some(json!({ "required": ["a"] })), ..request(step) }, line)
}

fn read_with(request: &Request, line: &Value) -> Result<Reply, Failure> {
    let code = i32::from(line["is_error"] == true);
    let stdout = format!("a warning\n{line}\n");
    Claude::default().read(request, &ended(Status::Exited(code), &stdout, "", 0))
}

fn line(fields: Value) -> Value {
    let mut line = json!({
        "type": "result",
        "subtype": "success",
        "is_error": false,
        "api_error_status": null,
        "result": "{\"a\": 1}",
        "session_id": "s",
        "total_cost_usd": 0.0315,
        "usage": { "input_tokens": 9, "output_tokens": 9, "server_tool_use": {} },
        "modelUsage": {
            "small": { "inputTokens": 1, "outputTokens": 2, "costUSD": 0.0015 },
            "big": {
                "inputTokens": 100, "outputTokens": 20, "cacheReadInputTokens": 7,
                "cacheCreationInputTokens": 3, "costUSD": 0.03
            }
        },
        "permission_denials": [],
    });
    for (name, value) in fields.as_object().unwrap() {
        line[name] = value.clone();
    }
    line
}

#[test]
fn thinking_steps_should_have_no_tools_whatever_is_declared() {
    for step in [Step::Decompose, Step::Select, Step::Summarise] {
        let mut request = request(step);
        request.permissions =
            Permissions { tools: vec!["Bash".into()], mode: Some("bypassPermissions".into()) };
        let args = args(&request);
        assert!(args.contains(&"--tools=".to_owned()), "{args:?}");
        assert!(!args.iter().any(|arg| arg.contains("Bash") || arg.contains("bypass")), "{args:?}");
    }
}

#[test]
fn execution_should_be_allowed_what_is_declared_and_never_more() {
    let plain = args(&request(Step::Execute)).join(" ");
    assert!(!plain.contains("tools") && !plain.contains("permission"), "{plain}");
    let mut request = request(Step::Execute);
    request.permissions.tools = vec!["Read".into(), "Bash(git log:*)".into()];
    request.permissions.mode = Some("acceptedits".into());
    let args = args(&request);
    for arg in
        ["--allowed-tools=Read", "--allowed-tools=Bash(git log:*)", "--permission-mode=acceptEdits"]
    {
        assert!(args.contains(&arg.to_owned()), "{args:?}");
    }
    assert!(args.contains(&"--setting-sources=user".to_owned()));
}

#[test]
fn bypass_should_only_come_from_a_declared_mode() {
    for arg in ["--dangerously-skip-permissions", "--permission-mode=bypassPermissions"] {
        let claude = Claude { extra_args: vec![arg.into()], ..Claude::default() };
        let failure = claude.invocation(&request(Step::Execute)).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused);
        assert!(failure.message.contains("Permission mode: bypassPermissions"), "{failure}");
    }
    let mut request = request(Step::Execute);
    request.permissions.mode = Some("bypassPermissions".into());
    assert!(args(&request).contains(&"--permission-mode=bypassPermissions".to_owned()));
    request.permissions.mode = Some("workspace-write".into());
    assert!(args(&request).contains(&"--permission-mode=acceptEdits".to_owned()));
    for unknown in ["danger-full-access", "--x", ""] {
        request.permissions.mode = Some(unknown.into());
        let failure = Claude::default().invocation(&request).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused, "{unknown}");
    }
}

#[test]
fn prompt_should_go_to_stdin_and_values_into_one_argument_each() {
    let mut request = request(Step::Decompose);
    request.prompt = "--help".into();
    request.model = Some("--version".into());
    request.budget_micros = Some(50_000);
    request.schema = Some(json!({ "type": "object" }));
    request.session = Session::New("id".into());
    let invocation = Claude::default().invocation(&request).unwrap();
    assert_eq!(invocation.stdin, "--help");
    for arg in [
        "--model=--version",
        "--max-budget-usd=0.05",
        "--json-schema={\"type\":\"object\"}",
        "--session-id=id",
    ] {
        assert!(invocation.args.contains(&arg.to_owned()), "{:?}", invocation.args);
    }
    assert!(!invocation.args.contains(&"--no-session-persistence".to_owned()));
    request.budget_micros = Some(0);
    let failure = Claude::default().invocation(&request).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Budget);
    request.budget_micros = None;
    request.session = Session::Resume("id".into());
    assert!(args(&request).contains(&"--resume=id".to_owned()));
    request.prompt = "/cost".into();
    assert_eq!(Claude::default().invocation(&request).unwrap().stdin, "\n/cost");
}

#[test]
fn answer_should_come_from_structured_output_else_from_the_text() {
    let reply = read(Step::Select, &line(json!({ "structured_output": { "a": 2 } }))).unwrap();
    assert_eq!(reply.value, Some(json!({ "a": 2 })));
    let reply = read(Step::Select, &line(json!({}))).unwrap();
    assert_eq!(reply.value, Some(json!({ "a": 1 })));
    assert_eq!(reply.session.as_deref(), Some("s"));
    assert_eq!(reply.model.as_deref(), Some("big"));
    let usage = Usage {
        cost_micros: Some(31_500),
        input_tokens: 101,
        output_tokens: 22,
        cache_read_tokens: 7,
        cache_write_tokens: 3,
    };
    assert_eq!(reply.usage, usage);
    let failure = read(Step::Select, &line(json!({ "result": "sorry" }))).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Malformed("sorry".into()));
    assert_eq!(failure.usage, usage);
    let reply = read_with(&request(Step::Prompt), &line(json!({ "result": "ä\n" }))).unwrap();
    assert_eq!((reply.text.as_str(), reply.value), ("ä\n", None));
}

#[test]
fn figures_of_an_unknown_form_should_not_cost_the_answer() {
    let odd = line(json!({ "modelUsage": null, "usage": [], "api_error_status": "x" }));
    assert_eq!(read(Step::Select, &odd).unwrap().usage.cost_micros, Some(31_500));
    let old = line(json!({ "modelUsage": {} }));
    assert_eq!(read(Step::Select, &old).unwrap().usage.input_tokens, 9);
}

#[test]
fn denied_tools_should_fail_an_execution_and_name_the_remedy() {
    let denials = json!([
        { "tool_name": "Bash", "tool_use_id": "1", "tool_input": { "command": "echo x > f" } },
        { "tool_name": "Bash", "tool_use_id": "2", "tool_input": { "command": "$(x) y" } },
        { "tool_name": "Write", "tool_use_id": "3", "tool_input": { "file_path": "/f" } },
    ]);
    let denied = line(json!({ "permission_denials": denials }));
    let failure = read(Step::Execute, &denied).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Denied);
    assert!(failure.message.contains("Bash(echo x > f)"), "{failure}");
    assert!(failure.message.contains("- Tools: Bash, Bash(echo:*), Write"), "{failure}");
    assert_eq!(failure.usage.cost_micros, Some(31_500));
    assert!(read(Step::Review, &denied).is_ok());
}

#[test]
fn errors_should_be_told_apart() {
    let of = |fields| read(Step::Select, &line(fields)).unwrap_err().kind;
    let error = |status: Value, text: &str| json!({ "is_error": true, "api_error_status": status, "result": text });
    let limit = FailureKind::Limit(crate::Limit { until: None });
    assert_eq!(of(error(429.into(), "API Error: Request rejected (429) · no")), limit);
    assert_eq!(of(error(529.into(), "API Error: 529 Overloaded.")), limit);
    assert_eq!(of(error(400.into(), "Credit balance is too low")), limit);
    assert_eq!(of(error(Value::Null, "Not logged in · Please run /login")), FailureKind::Refused);
    assert_eq!(of(error(401.into(), "Failed")), FailureKind::Refused);
    assert_eq!(of(error(404.into(), "There's an issue")), FailureKind::Refused);
    assert_eq!(of(error(500.into(), "API Error: 500")), FailureKind::Failed);
    let of_subtype = |subtype: &str| {
        of(json!({ "is_error": true, "subtype": subtype, "result": null, "errors": ["why"] }))
    };
    assert_eq!(of_subtype("error_max_budget_usd"), FailureKind::Budget);
    assert_eq!(of_subtype("error_max_turns"), FailureKind::Failed);
    assert_eq!(
        of_subtype("error_max_structured_output_retries"),
        FailureKind::Malformed("why".into())
    );
}

#[test]
fn run_without_a_result_should_be_told_by_its_end() {
    let of = |status, stdout: &str, stderr: &str| {
        let request = request(Step::Select);
        Claude::default().read(&request, &ended(status, stdout, stderr, 0)).unwrap_err()
    };
    let unknown = of(Status::Exited(1), "", "No conversation found with session ID: x\n");
    assert_eq!(unknown.kind, FailureKind::Failed);
    assert!(unknown.message.starts_with("session not found"), "{unknown}");
    assert_eq!(of(Status::Exited(0), "", "").kind, FailureKind::Failed);
    assert_eq!(of(Status::TimedOut, "", "").kind, FailureKind::TimedOut);
    assert_eq!(of(Status::Exited(1), "", "error: unknown option '--x'").kind, FailureKind::Refused);
    let crash = of(Status::Exited(134), "{\"type\":\"x\"}", "Aborted");
    assert_eq!(crash.kind, FailureKind::Failed);
    assert!(crash.message.ends_with("exit code 134 and no answer: Aborted"), "{crash}");
}

#[test]
fn answer_should_count_where_only_the_end_of_the_program_hung() {
    let done = line(json!({})).to_string();
    let of = |status| Claude::default().read(&request(Step::Prompt), &ended(status, &done, "", 0));
    assert!(of(Status::TimedOut).is_ok());
    assert_eq!(of(Status::Cancelled).unwrap_err().kind, FailureKind::Cancelled);
}

#[test]
fn answer_that_was_not_written_to_its_end_should_be_malformed() {
    let cut = r#"{"type":"result","subtype":"success","is_error":false,"result":"abc"#;
    let failure =
        Claude::default().read(&request(Step::Prompt), &ended(Status::Exited(0), cut, "", 0));
    let failure = failure.unwrap_err();
    assert!(matches!(failure.kind, FailureKind::Malformed(_)), "{failure:?}");
    assert!(failure.message.contains("fewer words"), "{failure}");
}

#[test]
fn cut_answer_should_be_malformed_and_still_cost_what_it_cost() {
    let whole = line(json!({ "result": "\"total_cost_usd\":9, ".repeat(1000) })).to_string();
    let cut = format!("{}\n[... 9 bytes left out ...]\n{}", &whole[..500], &whole[600..]);
    let failure =
        Claude::default().read(&request(Step::Select), &ended(Status::Exited(0), &cut, "", 9));
    let failure = failure.unwrap_err();
    assert!(matches!(failure.kind, FailureKind::Malformed(_)), "{failure:?}");
    assert!(failure.message.contains("too long"), "{failure}");
    assert_eq!(failure.usage.cost_micros, Some(31_500));
}

/// Regression: the sum of all models' tokens overflowed.
#[test]
fn tokens_of_any_number_should_add_up_without_overflow() {
    let most = json!({ "inputTokens": u64::MAX, "outputTokens": u64::MAX, "costUSD": 1e300 });
    let reply = read(Step::Select, &line(json!({ "modelUsage": { "a": most, "b": most } })));
    let usage = reply.unwrap().usage;
    assert_eq!((usage.input_tokens, usage.output_tokens), (u64::MAX, u64::MAX));
}

/// Regression: both were taken as they came, of any length and with
/// control characters, into records and arguments.
#[test]
fn names_that_cannot_be_should_be_left_out() {
    for bad in [String::new(), "a\u{0}b".to_owned(), "x".repeat(257)] {
        let fields = json!({ "session_id": bad, "modelUsage": { bad.clone(): {} } });
        let reply = read(Step::Select, &line(fields)).unwrap();
        assert_eq!((reply.session, reply.model), (None, None), "{bad:?}");
    }
}

/// Regression: a model can try very much, under very long names.
#[test]
fn denied_calls_should_be_named_in_a_bounded_text() {
    let call = |n: usize| {
        let long = "x".repeat(10_000);
        json!({ "tool_name": format!("{n}{long}"), "tool_input": { "command": long } })
    };
    let denials: Vec<Value> = (0..1_000).map(call).collect();
    let failure = read(Step::Execute, &line(json!({ "permission_denials": denials })));
    let message = failure.unwrap_err().message;
    assert!(message.len() < 4_000 && message.contains("and 990 more"), "{message}");
}
