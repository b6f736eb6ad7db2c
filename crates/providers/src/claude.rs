//! Anthropic's `claude` command-line program, in its print mode.
//!
//! # Flow
//! `claude -p --output-format json` reads the prompt from stdin, works in the request's
//! folder, and prints one line of JSON at its end. That line alone says how the call went:
//! a run whose tools were denied, or that ran into a limit, calls itself a success in more
//! than one field.
//!
//! # What it may do
//! - Decompose, select and summarise: no tools at all.
//! - All other steps: its usual tools, but without being asked it uses only those of
//!   [`crate::Permissions::tools`] and what its permission mode lets through; by default
//!   that is reading below the folder. Nobody is there to be asked, so the rest is denied,
//!   and a denial while executing is a failure ([`FailureKind::Denied`]) that names the
//!   `Tools:` line that would have helped.
//! - Permission checks are never switched off by us: that takes the words
//!   `Permission mode: bypassPermissions` below an agent.
//!
//! The settings of the user's home count; those in the working folder do not, as an agent
//! can write there and would widen its own permissions. Nor are servers of the Model
//! Context Protocol started that are not named by an extra argument.
//!
//! # Sessions
//! The id of a session is ours. The program keeps its history below the home, by folder,
//! from the first message on; so a call that was killed can be resumed in the same folder
//! on the same host.

mod result;

use std::collections::BTreeSet;

use process::{Ended, Status};
use serde_json::Value;

use crate::call::{
    Failure, FailureKind, Invocation, Limit, Provider, Reply, Request, Session, Step,
};
use crate::common::{
    Cause, bypass, cause, dollars, malformed, name, pass_env, quote, refuse_bypass, some_of,
    too_long, value_in, without_answer,
};

use result::{Denial, Outcome};

/// Its name on the command line and in control files.
pub const NAME: &str = "claude";

/// What the program needs beside the common variables.
const PASS_ENV: &[&str] = &[
    "ANTHROPIC_*",
    "CLAUDE_*",
    // Claude through a cloud; their programs' own files lie below the home.
    "AWS_*",
    "GOOGLE_*",
    "CLOUD_ML_REGION",
    "VERTEX_*",
    "NODE_EXTRA_CA_CERTS",
    "DISABLE_*",
    "API_TIMEOUT_MS",
    "MAX_THINKING_TOKENS",
    "BASH_*",
    "IS_SANDBOX",
];

/// How often the program repeats a request by itself. It would do so ten times, for
/// minutes, also where nobody is logged in; waiting is the caller's, who holds no slot
/// meanwhile.
const MAX_RETRIES: &str = "3";

/// The permission modes that it knows.
const MODES: &[&str] = &["acceptEdits", "auto", "bypassPermissions", "default", "dontAsk", "plan"];
/// Those of codex that mean no more than one of them.
const MODES_OF_CODEX: &[(&str, &str)] =
    &[("read-only", "default"), ("workspace-write", "acceptEdits")];

/// The provider that runs `claude`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claude {
    /// The program; looked up in `PATH` where it holds no `/`.
    pub cli: String,
    /// Arguments after ours, for every call; the last of two that contradict each other
    /// counts.
    pub extra_args: Vec<String>,
}

impl Default for Claude {
    fn default() -> Self {
        Self { cli: NAME.to_owned(), extra_args: Vec::new() }
    }
}

impl Provider for Claude {
    fn name(&self) -> &'static str {
        NAME
    }

    fn invocation(&self, request: &Request) -> Result<Invocation, Failure> {
        if let Some(arg) = bypass(&self.extra_args) {
            return Err(refuse_bypass(arg, "bypassPermissions"));
        }
        if request.budget_micros == Some(0) {
            // The program would not take it for a budget.
            return Err(Failure::new(FailureKind::Budget, "nothing is left of the budget"));
        }
        let mut args = vec![
            "-p".to_owned(),
            "--output-format=json".to_owned(),
            "--strict-mcp-config".to_owned(),
            "--setting-sources=user".to_owned(),
        ];
        // One argument each, so that no value can pass for a flag.
        let mut set = |flag: &str, value: &str| args.push(format!("--{flag}={value}"));
        match &request.session {
            Session::Ephemeral => {}
            Session::New(id) => set("session-id", id),
            Session::Resume(id) => set("resume", id),
        }
        if let Some(schema) = &request.schema {
            set("json-schema", &schema.to_string());
        }
        if let Some(model) = &request.model {
            set("model", model);
        }
        if let Some(budget) = request.budget_micros {
            set("max-budget-usd", &dollars(budget));
        }
        if has_tools(request.step) {
            for tool in &request.permissions.tools {
                set("allowed-tools", tool);
            }
            if let Some(mode) = &request.permissions.mode {
                set("permission-mode", mode_of(mode)?);
            }
        } else {
            set("tools", "");
        }
        if request.session == Session::Ephemeral {
            args.push("--no-session-persistence".to_owned());
        }
        args.extend(self.extra_args.iter().cloned());
        Ok(Invocation {
            program: self.cli.clone(),
            args,
            env: vec![
                ("DISABLE_AUTOUPDATER".to_owned(), "1".to_owned()),
                ("CLAUDE_CODE_MAX_RETRIES".to_owned(), MAX_RETRIES.to_owned()),
            ],
            pass_env: pass_env(PASS_ENV),
            stdin: stdin(&request.prompt),
            files: Vec::new(),
        })
    }

    fn read(&self, request: &Request, ended: &Ended) -> Result<Reply, Failure> {
        if ended.status == Status::Cancelled {
            return Err(without_answer(NAME, ended));
        }
        match result::last(&ended.stdout.text) {
            // Also where the program was ended at its timeout: it is known to hang after
            // its last word, and that word is the answer.
            Some(outcome) if !outcome.is_error => answer(request, ended, outcome),
            Some(outcome) => Err(failure(&outcome)),
            None => Err(no_outcome(ended)),
        }
    }

    fn resumable(&self, id: &str, _log: &str) -> Option<String> {
        Some(id.to_owned())
    }
}

/// A prompt that begins with a slash would be taken for a command of the program.
fn stdin(prompt: &str) -> String {
    if prompt.starts_with('/') { format!("\n{prompt}") } else { prompt.to_owned() }
}

/// Steps that look at nothing but their prompt get no tools.
const fn has_tools(step: Step) -> bool {
    match step {
        Step::Decompose | Step::Select | Step::Summarise => false,
        Step::Execute | Step::Review | Step::Recover | Step::Prompt => true,
    }
}

fn mode_of(mode: &str) -> Result<&str, Failure> {
    let known = MODES.iter().find(|known| known.eq_ignore_ascii_case(mode)).copied();
    let of_codex = MODES_OF_CODEX.iter().find(|(theirs, _)| *theirs == mode).map(|(_, ours)| *ours);
    known.or(of_codex).ok_or_else(|| {
        let message = format!(
            "claude has no permission mode `{}`: write one of {} below the agent",
            quote(mode),
            MODES.join(", ")
        );
        Failure::new(FailureKind::Refused, message)
    })
}

fn answer(request: &Request, ended: &Ended, mut outcome: Outcome<'_>) -> Result<Reply, Failure> {
    let usage = outcome.usage();
    if request.step == Step::Execute && !outcome.permission_denials.is_empty() {
        return Err(denied(&outcome.permission_denials).with_usage(usage));
    }
    let value = match (&request.schema, outcome.structured_output.take()) {
        (None, _) => None,
        (Some(_), Some(value)) => Some(value),
        (Some(schema), None) => Some(
            value_in(NAME, &outcome.text(), schema, ended.stdout.left_out_bytes)
                .map_err(|failure| failure.with_usage(usage))?,
        ),
    };
    let session = outcome.session_id.take().and_then(|id| name(&id));
    Ok(Reply { value, usage, model: outcome.model(), session, text: outcome.into_text() })
}

/// What a result line that calls itself an error means.
fn failure(outcome: &Outcome<'_>) -> Failure {
    let usage = outcome.usage();
    let text = outcome.text();
    let said = quote(&text);
    let failure = match outcome.subtype.as_deref() {
        Some("error_max_budget_usd") => Failure::new(
            FailureKind::Budget,
            format!("claude stopped at the budget of this call: {said}"),
        ),
        Some("error_max_structured_output_retries") => {
            malformed(format!("claude found no answer of the form asked for: {said}"), &text)
        }
        _ => match cause(&text, outcome.api_error_status) {
            Cause::Limit(limit) => limited(limit, said),
            Cause::Refusal => refused(said),
            Cause::Other => Failure::new(FailureKind::Failed, format!("claude failed: {said}")),
        },
    };
    failure.with_usage(usage)
}

fn limited(limit: Limit, said: &str) -> Failure {
    Failure::new(FailureKind::Limit(limit), format!("claude is at a usage limit: {said}"))
}

fn refused(said: &str) -> Failure {
    let message = format!(
        "claude refuses: {said}. Log in with `claude /login` as the user that the agents run \
         as, or set ANTHROPIC_API_KEY, and check the model's name"
    );
    Failure::new(FailureKind::Refused, message)
}

/// What a run without a result line means.
fn no_outcome(ended: &Ended) -> Failure {
    let failure = without_answer(NAME, ended);
    if ended.stdout.left_out_bytes > 0 {
        // The line is broken by the gap, its end says what it cost.
        let usage = result::usage_at_end(&ended.stdout.text);
        let came = &ended.stdout.text;
        return match ended.status {
            Status::Exited(_) => too_long(NAME, came, ended.stdout.left_out_bytes),
            Status::Signalled(_) | Status::TimedOut | Status::Cancelled => failure,
        }
        .with_usage(usage);
    }
    let Status::Exited(code) = ended.status else {
        return failure;
    };
    if result::is_cut(&ended.stdout.text) {
        return malformed(
            format!(
                "claude ended before all of its answer was written, as it does with long ones: \
                 {} bytes came; answer in fewer words",
                ended.stdout.text.len()
            ),
            &ended.stdout.text,
        );
    }
    let said = [&ended.stderr.text, &ended.stdout.text].map(|text| text.trim());
    let missing = said
        .iter()
        .find_map(|text| text.lines().find(|line| line.contains("No conversation found")));
    if let Some(line) = missing {
        return Failure::new(FailureKind::Failed, format!("session not found: {}", quote(line)));
    }
    let words = if said[0].is_empty() { said[1] } else { said[0] };
    if code == 0 {
        return failure;
    }
    match cause(words, None) {
        Cause::Limit(limit) => limited(limit, quote(words)),
        Cause::Refusal => refused(quote(words)),
        Cause::Other => failure,
    }
}

fn denied(denials: &[Denial]) -> Failure {
    let calls: BTreeSet<String> = denials.iter().map(Denial::call).collect();
    let rules: BTreeSet<String> = denials.iter().map(Denial::rule).collect();
    let message = format!(
        "claude was denied {}, so what it did does not count. If the agent shall be allowed \
         that, add this to it: `- Tools: {}`",
        some_of(calls.iter()),
        some_of(rules.iter())
    );
    Failure::new(FailureKind::Denied, message)
}

/// The tool's input, as far as an error shows it.
fn shown(input: &Value) -> Option<&str> {
    ["command", "file_path", "path", "url", "pattern"]
        .iter()
        .find_map(|name| input.get(name)?.as_str())
}

#[cfg(test)]
mod tests;
