//! Any program as a model: one JSON request on its stdin, one JSON reply on its stdout.
//!
//! This is how other command-line tools and local model servers are used; a worked example
//! is `deploy/examples/command-provider.sh`.
//!
//! # The request
//! One JSON object on stdin, which is then closed:
//!
//! | field | type | meaning |
//! | --- | --- | --- |
//! | `version` | number | of this protocol: 1 |
//! | `step` | string | `decompose`, `select`, `execute`, `summarise`, `review`, `recover`, `prompt` |
//! | `prompt` | string | what the model is asked, whole |
//! | `schema` | object or null | JSON schema of the answer; null where any text will do |
//! | `model` | string or null | the model, where one is declared |
//! | `session` | string or null | the conversation's id; null where it need not be kept |
//! | `resume` | boolean | whether the conversation `session` is to be continued |
//! | `tools` | list of strings | tools that are declared as allowed, in no fixed vocabulary |
//! | `mode` | string or null | the permission mode that is declared |
//! | `budget_usd` | number or null | what the call may cost at most |
//! | `folder` | string | where to work: absolute, and also the program's current folder |
//! | `timeout_seconds` | number | after which the program is ended with all it started |
//!
//! Later versions may add fields.
//!
//! # The reply
//! One JSON object, the last one on stdout. Either the answer, all fields optional:
//!
//! | field | type | meaning |
//! | --- | --- | --- |
//! | `value` | any | the answer, where a schema was given |
//! | `text` | string | the answer as text; JSON in it is found where `value` is missing |
//! | `usage` | object | `cost_usd`, `input_tokens`, `output_tokens`, `cache_read_tokens`, `cache_write_tokens`: numbers |
//! | `model` | string | the model that answered |
//! | `session` | string | the program's id of the conversation |
//!
//! or the reason why there is none: `{"error": {"kind", "message", "until"}}`, with `usage`
//! beside it where something was used up:
//!
//! | `kind` | meaning |
//! | --- | --- |
//! | `limit` | a usage limit is reached; `until` is when it is reset (RFC 3339), if known; a time that has passed or is more than a year away is none |
//! | `refused` | it will not go better: no key, no such model |
//! | `denied` | the model tried what it may not do, so the answer does not count |
//! | `malformed` | the model's answer is not of the form asked for |
//! | `budget` | the budget is spent |
//! | `failed` | anything else; it may go better next time |
//!
//! A program may also be simpler than that: where a schema was given, an object with other
//! fields is itself the value; where none was given, output that is no such object is the
//! text. Exit codes other than 0 are failures where no reply was printed. What stands on
//! stderr is kept in the call's log and quoted in failures.
//!
//! # Conversations
//! A program that keeps conversations prints a line `{"session": "<its id>"}` as soon as it
//! has one. If the call is killed, the next one has that id and `resume`. If the program
//! does not know it any more, it fails with a message that begins with `session not found`.
//! A program that prints no such line is never asked to resume.

use jiff::Timestamp;
use process::{Ended, Status};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::call::{
    Failure, FailureKind, Invocation, Limit, Provider, Reply, Request, Session, Usage,
};
use crate::common::{malformed, micros, name, pass_env, quote, too_long, value_in, without_answer};
use crate::limits::is_ahead;

/// Its name on the command line and in control files.
pub const NAME: &str = "command";

/// The protocol's version.
const VERSION: u32 = 1;

/// What a program may see beside the common variables: settings and keys for it are best
/// named so.
const PASS_ENV: &[&str] = &["LLM_*", "OPENAI_*", "OLLAMA_*"];

/// The provider that runs any program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The program; looked up in `PATH` where it holds no `/`.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
}

/// A reply, as the module's text describes it. Any other field makes it a value.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Answer {
    value: Option<Value>,
    text: Option<String>,
    usage: Option<Figures>,
    model: Option<String>,
    session: Option<String>,
    error: Option<Reason>,
    #[serde(rename = "version")]
    _version: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Figures {
    cost_usd: Option<f64>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reason {
    kind: Option<String>,
    message: Option<String>,
    /// A time that cannot be read is no time: the limit counts all the same.
    until: Option<String>,
}

impl Provider for Program {
    fn name(&self) -> &'static str {
        NAME
    }

    fn invocation(&self, request: &Request) -> Result<Invocation, Failure> {
        if self.program.is_empty() {
            let message = "the provider `command` has no program: name one with --llm-cli";
            return Err(Failure::new(FailureKind::Refused, message));
        }
        let (session, resume) = match &request.session {
            Session::Ephemeral => (None, false),
            Session::New(id) => (Some(id), false),
            Session::Resume(id) => (Some(id), true),
        };
        let stdin = json!({
            "version": VERSION,
            "step": request.step.as_str(),
            "prompt": request.prompt,
            "schema": request.schema,
            "model": request.model,
            "session": session,
            "resume": resume,
            "tools": request.permissions.tools,
            "mode": request.permissions.mode,
            "budget_usd": request.budget_micros.map(|micros| micros as f64 / 1e6),
            "folder": request.folder,
            "timeout_seconds": request.timeout.as_secs(),
        });
        Ok(Invocation {
            program: self.program.clone(),
            args: self.args.clone(),
            env: Vec::new(),
            pass_env: pass_env(PASS_ENV),
            stdin: format!("{stdin}\n"),
            files: Vec::new(),
        })
    }

    fn read(&self, request: &Request, ended: &Ended) -> Result<Reply, Failure> {
        let stdout = ended.stdout.text.trim();
        let left_out_bytes = ended.stdout.left_out_bytes;
        let name = self.program.as_str();
        let Some(found) =
            (ended.status != Status::Cancelled).then(|| last_object(stdout)).flatten()
        else {
            return match &request.schema {
                _ if !ended.status.is_success() || stdout.is_empty() => {
                    Err(without_answer(name, ended))
                }
                _ if left_out_bytes > 0 => Err(too_long(name, stdout, left_out_bytes)),
                Some(schema) => {
                    let value = value_in(name, stdout, schema, left_out_bytes)?;
                    Ok(reply(Some(value), stdout.to_owned()))
                }
                None => Ok(reply(None, stdout.to_owned())),
            };
        };
        match serde_json::from_str::<Answer>(found) {
            Ok(answer) => read_answer(name, request, ended, answer),
            // An exit code says more than an object of unknown meaning.
            Err(_) if !ended.status.is_success() => Err(without_answer(name, ended)),
            Err(_) if request.schema.is_some() => match serde_json::from_str(found) {
                Ok(value) => Ok(reply(Some(value), found.to_owned())),
                Err(_) => Err(malformed(format!("{name} printed no answer"), found)),
            },
            Err(_) => Ok(reply(None, stdout.to_owned())),
        }
    }

    fn resumable(&self, _id: &str, log: &str) -> Option<String> {
        let lines = log.lines().rev().map(str::trim).filter(|line| line.starts_with('{'));
        lines
            .filter_map(|line| serde_json::from_str::<Answer>(line).ok())
            .find_map(|one| name(&one.session?))
    }
}

fn reply(value: Option<Value>, text: String) -> Reply {
    Reply { value, text, usage: Usage::default(), model: None, session: None }
}

/// The whole text, or its last line, where that is a JSON object.
fn last_object(stdout: &str) -> Option<&str> {
    let is_object = |text: &str| {
        text.starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
    };
    [Some(stdout), stdout.lines().next_back().map(str::trim)]
        .into_iter()
        .flatten()
        .find(|text| is_object(text))
}

fn read_answer(
    name: &str,
    request: &Request,
    ended: &Ended,
    answer: Answer,
) -> Result<Reply, Failure> {
    let usage = answer.usage.map(|figures| figures.usage()).unwrap_or_default();
    if let Some(reason) = answer.error {
        return Err(failure(name, &reason).with_usage(usage));
    }
    let text = answer.text;
    let value = match (&request.schema, answer.value, &text) {
        (None, value, _) => value,
        (Some(_), Some(value), _) => Some(value),
        (Some(schema), None, Some(text)) => Some(
            value_in(name, text, schema, ended.stdout.left_out_bytes)
                .map_err(|failure| failure.with_usage(usage))?,
        ),
        (Some(_), None, None) => return Err(without_answer(name, ended).with_usage(usage)),
    };
    if value.is_none() && text.is_none() {
        return Err(without_answer(name, ended).with_usage(usage));
    }
    let text = text.unwrap_or_else(|| value.as_ref().map(Value::to_string).unwrap_or_default());
    let fitting = |said: Option<String>| said.as_deref().and_then(crate::common::name);
    let (model, session) = (fitting(answer.model), fitting(answer.session));
    Ok(Reply { value, text, usage, model, session })
}

fn failure(name: &str, reason: &Reason) -> Failure {
    let message = reason.message.as_deref().unwrap_or("no reason given");
    let said = quote(message);
    let until = || {
        let until = reason.until.as_deref()?.parse::<Timestamp>().ok()?;
        is_ahead(until, Timestamp::now()).then_some(until)
    };
    let kind = match reason.kind.as_deref().unwrap_or_default() {
        "limit" => FailureKind::Limit(Limit { until: until() }),
        "refused" => FailureKind::Refused,
        "denied" => FailureKind::Denied,
        "malformed" => return malformed(format!("{name}: {said}"), message),
        "budget" => FailureKind::Budget,
        _ => FailureKind::Failed,
    };
    // Its beginning is how the caller knows it.
    if said.starts_with("session not found") {
        return Failure::new(FailureKind::Failed, said);
    }
    Failure::new(kind, format!("{name}: {said}"))
}

impl Figures {
    fn usage(&self) -> Usage {
        Usage {
            cost_micros: self.cost_usd.and_then(micros),
            input_tokens: self.input_tokens.unwrap_or_default(),
            output_tokens: self.output_tokens.unwrap_or_default(),
            cache_read_tokens: self.cache_read_tokens.unwrap_or_default(),
            cache_write_tokens: self.cache_write_tokens.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests;
