//! What all programs have in common: their environment, how their ends are told, and
//! how much of what they say is quoted.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use process::{Ended, Status};
use serde_json::Value;

use crate::call::{Failure, FailureKind, Limit};
use crate::limits;

/// Variables that any program may see; a `*` at the end stands for any rest. None of
/// them is a secret, but a proxy's password where one stands in its address.
pub(crate) const PASS_ENV: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TERM",
    "TZ",
    "TMPDIR",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "XDG_*",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// How much of a program's words stands in an error, in bytes.
const QUOTED_BYTES: usize = 600;
/// The longest id of a session or name of a model, in bytes.
const MAX_NAME_BYTES: usize = 256;
/// How many denied calls an error names.
const MAX_LISTED: usize = 10;
/// How much of a malformed answer is kept for its repair, in bytes.
const MALFORMED_BYTES: usize = 4 * 1024;

/// [`PASS_ENV`] and these.
pub(crate) fn pass_env(own: &[&str]) -> Vec<String> {
    PASS_ENV.iter().chain(own).map(|name| (*name).to_owned()).collect()
}

/// The beginning of `text`, at most `bytes` long.
pub(crate) fn head(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// The end of `text`, at most `bytes` long.
pub(crate) fn tail(text: &str, bytes: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(bytes))..]
}

/// The id of a session or the name of a model as a program says it, which is stored and
/// becomes an argument of the next call; nothing for what cannot be one.
pub(crate) fn name(said: &str) -> Option<String> {
    let fits = !said.is_empty() && said.len() <= MAX_NAME_BYTES;
    (fits && !said.contains(char::is_control)).then(|| said.to_owned())
}

/// The first of `calls`, and how many more there are.
pub(crate) fn some_of<'a>(calls: impl ExactSizeIterator<Item = &'a String>) -> String {
    let more = calls.len().saturating_sub(MAX_LISTED);
    let listed: Vec<&str> = calls.take(MAX_LISTED).map(String::as_str).collect();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", listed.join(", "))
}

/// As much of `text` as an error quotes.
pub(crate) fn quote(text: &str) -> &str {
    head(text.trim(), QUOTED_BYTES)
}

/// Dollars as millionths; nothing for what is no amount.
pub(crate) fn micros(usd: f64) -> Option<u64> {
    // The cast saturates, and a NaN has failed the comparison.
    (usd >= 0.0).then(|| (usd * 1e6).round() as u64)
}

/// Millionths as dollars, exactly, without trailing zeros: `0.05`.
pub(crate) fn dollars(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A failure whose text is not what was asked for.
pub(crate) fn malformed(message: impl Into<String>, came: &str) -> Failure {
    Failure::new(FailureKind::Malformed(head(came, MALFORMED_BYTES).to_owned()), message)
}

/// How a run without an answer ended, as a failure: `name` is the program's.
pub(crate) fn without_answer(name: &str, ended: &Ended) -> Failure {
    let said = last_words(ended);
    let seconds = ended.duration.as_secs();
    match ended.status {
        Status::TimedOut => Failure::new(
            FailureKind::TimedOut,
            format!("{name} was ended after {seconds} s without an answer{said}"),
        ),
        Status::Cancelled => {
            Failure::new(FailureKind::Cancelled, format!("{name} was ended at our request"))
        }
        Status::Signalled(signal) => Failure::new(
            FailureKind::Failed,
            format!("{name} was ended by signal {signal} from elsewhere{said}"),
        ),
        Status::Exited(0) if is_blank(&ended.stdout.text) => Failure::new(
            FailureKind::Failed,
            format!("{name} ended well and said nothing at all{said}"),
        ),
        Status::Exited(0) => {
            malformed(format!("{name} printed no answer that can be read"), &ended.stdout.text)
        }
        Status::Exited(code) => Failure::new(
            FailureKind::Failed,
            format!("{name} ended with exit code {code} and no answer{said}"),
        ),
    }
}

/// The end of what a program said, for an error: of its standard error, else of its
/// standard output.
fn last_words(ended: &Ended) -> String {
    let text = [&ended.stderr.text, &ended.stdout.text].into_iter().find(|text| !is_blank(text));
    text.map(|text| format!(": {}", tail(text.trim(), QUOTED_BYTES).trim())).unwrap_or_default()
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// Whether `value` is an object with all that `schema` requires at its top. That is no
/// validation: it tells an answer from an example that stands before it.
pub(crate) fn looks_like(value: &Value, schema: &Value) -> bool {
    let Some(required) = schema.get("required").and_then(Value::as_array) else {
        return true;
    };
    required.iter().filter_map(Value::as_str).all(|name| value.get(name).is_some())
}

/// The value that was asked for with `schema`, somewhere in `text`.
///
/// # Errors
/// [`FailureKind::Malformed`] where there is none; `left_out_bytes` is what was not kept
/// of the program's output.
pub(crate) fn value_in(
    name: &str,
    text: &str,
    schema: &Value,
    left_out_bytes: u64,
) -> Result<Value, Failure> {
    match crate::json::find(text, |value| looks_like(value, schema)) {
        Some(value) => Ok(value),
        None if left_out_bytes > 0 => Err(too_long(name, text, left_out_bytes)),
        None => Err(malformed(format!("the answer of {name} holds no JSON value"), text)),
    }
}

/// The failure where an answer is longer than what is kept of a program's output.
pub(crate) fn too_long(name: &str, came: &str, left_out_bytes: u64) -> Failure {
    let kept = came.len();
    malformed(
        format!(
            "the answer of {name} is too long: {kept} bytes of its output were kept, \
             {left_out_bytes} more were not; answer in fewer words"
        ),
        came,
    )
}

/// What an error of a program or its service comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A usage limit.
    Limit(Limit),
    /// It will not go better by itself.
    Refusal,
    /// It may.
    Other,
}

/// What an error comes from, given the HTTP status of the service where that is known.
pub(crate) fn cause(message: &str, status: Option<u16>) -> Cause {
    match limits::classify(message, status, Timestamp::now(), &TimeZone::system()) {
        Some(limit) => Cause::Limit(limit),
        None if is_refusal(message, status) => Cause::Refusal,
        None => Cause::Other,
    }
}

/// Whether an error means that nobody is logged in, or may not use what was asked for.
fn is_refusal(message: &str, status: Option<u16>) -> bool {
    const PHRASES: &[&str] = &[
        "not logged in",
        "please run /login",
        "run /login",
        "invalid api key",
        "incorrect api key",
        "invalid x-api-key",
        "failed to authenticate",
        "authentication_error",
        "401 unauthorized",
        "403 forbidden",
        "oauth token",
        "organization has disabled",
        "belongs to a disabled organization",
        "missing environment variable",
        "does not exist or you do not have access",
        "issue with the selected model",
        "model_not_found",
        "invalid model name",
        "unexpected argument",
        "unknown option",
        "is invalid. allowed choices are",
    ];
    if matches!(status, Some(401 | 403 | 404)) {
        return true;
    }
    let text = head(message, 4096).to_lowercase();
    PHRASES.iter().any(|phrase| text.contains(phrase))
}

/// Whether someone tries to switch all checks off by an argument.
pub(crate) fn bypass(args: &[String]) -> Option<&String> {
    const MARKS: &[&str] =
        &["dangerously", "bypassPermissions", "danger-full-access", "--yolo", "bypass-approvals"];
    args.iter().find(|arg| MARKS.iter().any(|mark| arg.contains(mark)))
}

/// The refusal of an argument that [`bypass`] found.
pub(crate) fn refuse_bypass(arg: &str, mode: &str) -> Failure {
    Failure::new(
        FailureKind::Refused,
        format!(
            "the extra argument `{arg}` would switch off all permission checks for every call: \
             remove it, and where an agent really shall run without them, write \
             `- Permission mode: {mode}` below that agent"
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use process::Captured;

    use super::*;

    fn ended(status: Status, stdout: &str, stderr: &str) -> Ended {
        let captured = |text: &str| Captured { text: text.into(), left_out_bytes: 0 };
        let (stdout, stderr) = (captured(stdout), captured(stderr));
        Ended { status, stdout, stderr, duration: Duration::from_secs(7) }
    }

    #[test]
    fn end_without_answer_should_say_how_it_ended_and_quote_the_last_words() {
        let of = |status, stdout, stderr| without_answer("x", &ended(status, stdout, stderr));
        let failure = of(Status::Exited(3), "", "warning\nboom\n");
        assert_eq!(failure.kind, FailureKind::Failed);
        assert_eq!(failure.message, "x ended with exit code 3 and no answer: warning\nboom");
        assert_eq!(of(Status::TimedOut, "", "").kind, FailureKind::TimedOut);
        assert_eq!(of(Status::Cancelled, "{}", "").kind, FailureKind::Cancelled);
        assert_eq!(of(Status::Signalled(9), "", "").kind, FailureKind::Failed);
        assert_eq!(of(Status::Exited(0), " \n", "").kind, FailureKind::Failed);
        assert_eq!(of(Status::Exited(0), "hm", "").kind, FailureKind::Malformed("hm".into()));
    }

    #[test]
    fn quotes_should_be_bounded_and_cut_between_characters() {
        let long = "ä".repeat(10_000);
        let failure = without_answer("x", &ended(Status::Exited(1), "", &long));
        assert!(failure.message.len() < 700, "{}", failure.message.len());
        assert_eq!(head("äb", 1), "");
        assert_eq!(tail("bä", 1), "");
    }

    #[test]
    fn amounts_should_survive_both_ways() {
        assert_eq!(micros(0.001_022_250_000_000_000_2), Some(1022));
        assert_eq!(micros(f64::NAN), None);
        assert_eq!(micros(-1.0), None);
        assert_eq!(dollars(50_000), "0.05");
        assert_eq!(dollars(1_000_000), "1");
        assert_eq!(dollars(1), "0.000001");
    }
}
