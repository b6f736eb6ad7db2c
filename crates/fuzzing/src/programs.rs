//! What the programs print that models speak through.

use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use process::{Captured, Ended, Status};
use providers::answers::{Execution, Plan, schema};
use providers::claude::Claude;
use providers::codex::Codex;
use providers::command::Program;
use providers::{Failure, FailureKind, Permissions, Provider, Reply, Request, Session, Step};

use crate::check::{halves, text};

/// The longest message of a failure: what a program said is quoted in it.
const MESSAGE_BYTES: usize = 8 * 1024;
/// How much of an answer that cannot be used is kept.
const MALFORMED_BYTES: usize = 4 * 1024;
/// The longest id of a session or name of a model: both are stored, and become arguments.
const NAME_BYTES: usize = 256;
/// The longest usage limit, and a day's leeway for the clock's own progress.
const LONGEST_LIMIT: SignedDuration = SignedDuration::from_hours(367 * 24);

/// Standard output of `claude`, and behind the divider its standard error.
pub fn claude(data: &[u8]) {
    check(&Claude::default(), data);
}

/// Standard output of `codex`, and behind the divider its standard error.
pub fn codex(data: &[u8]) {
    check(&Codex::default(), data);
}

/// Standard output of any program, and behind the divider its standard error.
pub fn command(data: &[u8]) {
    check(&Program { program: "llm".to_owned(), args: Vec::new() }, data);
}

/// Whatever a program prints and however it ends, there is a reply or a failure, both
/// bounded; and the log of what was printed tells which session to resume, or none.
fn check(provider: &dyn Provider, data: &[u8]) {
    let text = text(data);
    let (stdout, stderr) = halves(&text);
    let stderr = stderr.unwrap_or_default();
    let runs = [
        (Step::Decompose, Some(schema::<Plan>()), Status::Exited(0), 0),
        (Step::Execute, Some(schema::<Execution>()), Status::Exited(1), 0),
        (Step::Execute, Some(schema::<Execution>()), Status::TimedOut, 1_000),
        (Step::Prompt, None, Status::Exited(0), 0),
        (Step::Prompt, None, Status::Cancelled, 0),
    ];
    for (step, schema, status, left_out_bytes) in runs {
        let request = Request { step, schema, ..request() };
        let ended = Ended {
            status,
            stdout: Captured { text: stdout.to_owned(), left_out_bytes },
            stderr: Captured { text: stderr.to_owned(), left_out_bytes: 0 },
            duration: Duration::from_secs(3),
        };
        match provider.read(&request, &ended) {
            Ok(reply) => {
                assert_ne!(status, Status::Cancelled, "an answer of a call that was given up");
                check_reply(&request, &reply);
            }
            Err(failure) => check_failure(&failure),
        }
    }
    let resumed = provider.resumable("11111111-2222-4333-8444-555555555555", stdout);
    resumed.as_deref().iter().for_each(|id| check_name(id, "a session's id"));
}

fn request() -> Request {
    Request {
        step: Step::Prompt,
        prompt: String::new(),
        schema: None,
        model: None,
        session: Session::Ephemeral,
        permissions: Permissions::default(),
        budget_micros: None,
        folder: PathBuf::from("/"),
        scratch: PathBuf::from("/"),
        log: PathBuf::from("/dev/null"),
        timeout: Duration::from_secs(60),
    }
}

fn check_reply(request: &Request, reply: &Reply) {
    assert!(request.schema.is_none() || reply.value.is_some(), "no value: {reply:?}");
    reply.session.iter().for_each(|id| check_name(id, "a session's id"));
    reply.model.iter().for_each(|name| check_name(name, "a model's name"));
}

/// What becomes an argument of a program and part of a record.
fn check_name(name: &str, what: &str) {
    assert!(!name.is_empty() && name.len() <= NAME_BYTES, "{what} has {} bytes", name.len());
    assert!(!name.chars().any(char::is_control), "{what} has control characters: {name:?}");
}

fn check_failure(failure: &Failure) {
    let message = &failure.message;
    assert!(message.len() <= MESSAGE_BYTES, "a message of {} bytes", message.len());
    match &failure.kind {
        FailureKind::Malformed(came) => assert!(came.len() <= MALFORMED_BYTES),
        FailureKind::Limit(limit) => {
            // A time that has passed is a limit that is over; one far away holds for good.
            let far = limit.until.map(|until| until.duration_since(Timestamp::now()));
            assert!(far.is_none_or(|far| far <= LONGEST_LIMIT), "{limit:?}");
        }
        FailureKind::Refused
        | FailureKind::Denied
        | FailureKind::Budget
        | FailureKind::TimedOut
        | FailureKind::Cancelled
        | FailureKind::Failed => {}
    }
}
