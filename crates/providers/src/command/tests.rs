use std::path::PathBuf;
use std::time::Duration;

use process::Captured;

use super::*;
use crate::call::{Permissions, Step};

fn request(schema: Option<Value>) -> Request {
    Request {
        step: Step::Execute,
        prompt: "do it".into(),
        schema,
        model: Some("m".into()),
        session: Session::Resume("s".into()),
        permissions: Permissions { tools: vec!["x".into()], mode: None },
        budget_micros: Some(50_000),
        folder: PathBuf::from("/work"),
        scratch: PathBuf::from("/scratch"),
        log: PathBuf::from("/scratch/log"),
        timeout: Duration::from_secs(60),
    }
}

fn program() -> Program {
    Program { program: "x".into(), args: Vec::new() }
}

fn read(schema: Option<Value>, code: i32, stdout: &str) -> Result<Reply, Failure> {
    let captured = |text: &str| Captured { text: text.into(), left_out_bytes: 0 };
    let (stdout, stderr) = (captured(stdout), captured("last words"));
    let duration = Duration::from_secs(1);
    let ended = Ended { status: Status::Exited(code), stdout, stderr, duration };
    program().read(&request(schema), &ended)
}

fn asked() -> Option<Value> {
    Some(json!({ "required": ["a"] }))
}

#[test]
fn request_should_be_one_object_with_all_fields() {
    let invocation = program().invocation(&request(asked())).unwrap();
    let sent: Value = serde_json::from_str(&invocation.stdin).unwrap();
    let expected = json!({
        "version": 1, "step": "execute", "prompt": "do it", "schema": { "required": ["a"] },
        "model": "m", "session": "s", "resume": true, "tools": ["x"], "mode": null,
        "budget_usd": 0.05, "folder": "/work", "timeout_seconds": 60,
    });
    assert_eq!(sent, expected);
    let nameless = Program { program: String::new(), args: Vec::new() };
    assert_eq!(nameless.invocation(&request(None)).unwrap_err().kind, FailureKind::Refused);
}

#[test]
fn reply_should_be_read_in_all_its_forms() {
    let whole = r#"{"value": {"a": 1}, "usage": {"cost_usd": 0.5, "input_tokens": 3}, "model": "m2", "session": "t"}"#;
    let reply = read(asked(), 0, &format!("loading..\n{whole}\n")).unwrap();
    assert_eq!(reply.value, Some(json!({ "a": 1 })));
    assert_eq!((reply.usage.cost_micros, reply.usage.input_tokens), (Some(500_000), 3));
    assert_eq!((reply.model.as_deref(), reply.session.as_deref()), (Some("m2"), Some("t")));
    let value = |stdout: &str| read(asked(), 0, stdout).unwrap().value;
    assert_eq!(value(r#"{"text": "so: {\"a\": 1}"}"#), Some(json!({ "a": 1 })));
    assert_eq!(value("{\n \"a\": 1,\n \"text\": \"t\"\n}"), Some(json!({ "a": 1, "text": "t" })));
    assert_eq!(value("I say {\"a\": 1}."), Some(json!({ "a": 1 })));
    assert_eq!(read(None, 0, r#"{"text": "hello"}"#).unwrap().text, "hello");
    assert_eq!(read(None, 0, "hello\n").unwrap().text, "hello");
}

#[test]
fn errors_should_keep_their_kind() {
    let until = Timestamp::now() + jiff::SignedDuration::from_hours(3);
    let of = |kind: &str| {
        let error = json!({ "kind": kind, "message": "why", "until": until.to_string() });
        let stdout = json!({ "error": error, "usage": { "output_tokens": 4 } }).to_string();
        read(asked(), 1, &stdout).unwrap_err()
    };
    assert_eq!(of("limit").kind, FailureKind::Limit(Limit { until: Some(until) }));
    let odd = r#"{"error": {"kind": "limit", "message": null, "until": "soon"}, "usage": null}"#;
    let limit = FailureKind::Limit(Limit { until: None });
    assert_eq!(read(None, 0, odd).unwrap_err().kind, limit);
    assert_eq!(of("refused").kind, FailureKind::Refused);
    assert_eq!(of("budget").kind, FailureKind::Budget);
    assert_eq!(of("denied").kind, FailureKind::Denied);
    assert_eq!(of("malformed").kind, FailureKind::Malformed("why".into()));
    assert_eq!(of("odd").kind, FailureKind::Failed);
    assert_eq!(of("odd").usage.output_tokens, 4);
    assert_eq!(of("odd").message, "x: why");
}

#[test]
fn failures_without_a_reply_should_quote_standard_error() {
    let failure = read(asked(), 2, "").unwrap_err();
    assert_eq!(failure.message, "x ended with exit code 2 and no answer: last words");
    assert_eq!(read(asked(), 2, r#"{"a": 1}"#).unwrap_err().kind, FailureKind::Failed);
    assert!(matches!(read(asked(), 0, "hm").unwrap_err().kind, FailureKind::Malformed(_)));
    assert_eq!(read(None, 0, "").unwrap_err().kind, FailureKind::Failed);
    assert!(read(asked(), 0, r#"{"session": "t"}"#).is_err());
}

#[test]
fn session_should_be_resumed_only_where_the_program_named_one() {
    assert_eq!(program().resumable("s", "x\n{\"session\": \"t\"}\ny"), Some("t".into()));
    assert_eq!(program().resumable("s", "x\n{\"a\": 1}"), None);
}

/// Regression, found by fuzzing: a limit "until" the year 9999 was a hold for good, and
/// ids of sessions and names of models were taken as they came.
#[test]
fn reply_should_not_hold_for_good_or_name_what_cannot_be() {
    for until in ["9999-12-30T00:00:00Z", "1999-01-01T00:00:00Z", "soon"] {
        let error = json!({ "error": { "kind": "limit", "message": "wait", "until": until } });
        let failure = read(None, 0, &error.to_string()).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Limit(Limit { until: None }), "{until}");
    }
    for bad in [String::new(), "a\u{0}b".to_owned(), "x".repeat(257)] {
        let answer = json!({ "text": "x", "session": bad, "model": bad }).to_string();
        let reply = read(None, 0, &answer).unwrap();
        assert_eq!((reply.session, reply.model), (None, None), "{bad:?}");
        assert_eq!(program().resumable("ours", &answer), None, "{bad:?}");
    }
}
