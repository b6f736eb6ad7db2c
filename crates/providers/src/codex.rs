//! OpenAI's `codex` command-line program, in its exec mode.
//!
//! # Flow
//! `codex exec --json -` reads the prompt from stdin, works in the request's folder, and
//! prints a line of JSON for each thing that happens. The last message of its agent is the
//! answer. It says what it used up in tokens, never what that cost, and has no budget of
//! its own.
//!
//! # What it may do
//! Its sandbox decides, not a list of tools; [`crate::Permissions::tools`] are not looked
//! at. Everywhere it reads what its user can read.
//! - Decompose, select and summarise: no shell, no search, and nothing is writable.
//! - Execute: it writes below its folder and in the folder for temporary files, and has no
//!   network (`workspace-write`), unless a mode is declared.
//! - All other steps: nothing is writable (`read-only`), unless a mode is declared.
//! - The sandbox is never switched off by us: that takes the words
//!   `Permission mode: danger-full-access` below an agent.
//!
//! The sandbox needs user namespaces, which some containers forbid. Then every command
//! fails; where that is what happened, the call is refused with what to do about it.
//!
//! # Sessions
//! The program chooses the id of a session and prints it first, so it is found in what is
//! left of a call's log. A resumed session counts its tokens from its very beginning.

mod events;
mod schema;

use process::{Ended, Status};

use crate::call::{Failure, FailureKind, Invocation, Provider, Reply, Request, Session, Step};
use crate::common::{
    Cause, bypass, cause, name, pass_env, quote, refuse_bypass, some_of, too_long, value_in,
    without_answer,
};

use events::Events;

/// Its name on the command line and in control files.
pub const NAME: &str = "codex";

/// What the program needs beside the common variables.
const PASS_ENV: &[&str] =
    &["OPENAI_*", "CODEX_*", "AZURE_OPENAI_*", "AWS_*", "GOOGLE_*", "RUST_LOG", "RUST_BACKTRACE"];

/// The name of the file that the schema is given in, within the request's scratch folder.
const SCHEMA_FILE: &str = "codex-schema.json";

/// Its sandboxes.
const MODES: &[&str] = &["read-only", "workspace-write", "danger-full-access"];
/// Those permission modes of claude that mean no less than one of them.
const MODES_OF_CLAUDE: &[(&str, &str)] = &[
    ("plan", "read-only"),
    ("default", "read-only"),
    ("dontAsk", "read-only"),
    ("acceptEdits", "workspace-write"),
];

/// The provider that runs `codex`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Codex {
    /// The program; looked up in `PATH` where it holds no `/`.
    pub cli: String,
    /// Arguments of `codex exec`, after ours, for every call.
    pub extra_args: Vec<String>,
}

impl Default for Codex {
    fn default() -> Self {
        Self { cli: NAME.to_owned(), extra_args: Vec::new() }
    }
}

impl Provider for Codex {
    fn name(&self) -> &'static str {
        NAME
    }

    fn invocation(&self, request: &Request) -> Result<Invocation, Failure> {
        if let Some(arg) = bypass(&self.extra_args) {
            return Err(refuse_bypass(arg, "danger-full-access"));
        }
        let mut args: Vec<String> = ["exec", "--json", "--skip-git-repo-check", "--color=never"]
            .map(str::to_owned)
            .to_vec();
        let mut files = Vec::new();
        // One argument each, so that no value can pass for a flag.
        let mut set = |flag: &str, value: &str| args.push(format!("--{flag}={value}"));
        set("sandbox", sandbox(request)?);
        set("cd", &request.folder.to_string_lossy());
        if let Some(model) = &request.model {
            set("model", model);
        }
        if let Some(given) = &request.schema {
            let path = request.scratch.join(SCHEMA_FILE);
            set("output-schema", &path.to_string_lossy());
            files.push((path, schema::strict(given).to_string()));
        }
        if is_blind(request.step) {
            set("disable", "shell_tool");
            set("config", "web_search=\"disabled\"");
        }
        if request.session == Session::Ephemeral {
            args.push("--ephemeral".to_owned());
        }
        args.extend(self.extra_args.iter().cloned());
        // The flags belong to `exec`: `resume` itself knows but a few of them.
        if let Session::Resume(id) = &request.session {
            args.extend(["resume".to_owned(), "--".to_owned(), id.clone()]);
        }
        args.push("-".to_owned());
        Ok(Invocation {
            program: self.cli.clone(),
            args,
            env: Vec::new(),
            pass_env: pass_env(PASS_ENV),
            stdin: request.prompt.clone(),
            files,
        })
    }

    fn read(&self, request: &Request, ended: &Ended) -> Result<Reply, Failure> {
        if ended.status == Status::Cancelled {
            return Err(without_answer(NAME, ended));
        }
        let events = Events::read(&ended.stdout.text);
        if let Some(words) = &events.sandbox_error {
            return Err(no_sandbox(words).with_usage(events.usage));
        }
        if !events.is_complete {
            return Err(failure(&events, ended).with_usage(events.usage));
        }
        if request.step == Step::Execute && !events.declined.is_empty() {
            return Err(declined(&events.declined).with_usage(events.usage));
        }
        answer(request, ended, events)
    }

    fn resumable(&self, _id: &str, log: &str) -> Option<String> {
        Events::read(log).thread.and_then(|id| name(&id))
    }
}

/// Steps that look at nothing but their prompt.
const fn is_blind(step: Step) -> bool {
    match step {
        Step::Decompose | Step::Select | Step::Summarise => true,
        Step::Execute | Step::Review | Step::Recover | Step::Prompt => false,
    }
}

fn sandbox(request: &Request) -> Result<&'static str, Failure> {
    if is_blind(request.step) {
        return Ok("read-only");
    }
    let Some(mode) = &request.permissions.mode else {
        return Ok(if request.step == Step::Execute { "workspace-write" } else { "read-only" });
    };
    let known = MODES.iter().find(|known| known.eq_ignore_ascii_case(mode)).copied();
    let of_claude = MODES_OF_CLAUDE
        .iter()
        .find(|(theirs, _)| theirs.eq_ignore_ascii_case(mode))
        .map(|(_, ours)| *ours);
    known.or(of_claude).ok_or_else(|| {
        let message = format!(
            "codex has no permission mode `{}`: write one of {} below the agent",
            quote(mode),
            MODES.join(", ")
        );
        Failure::new(FailureKind::Refused, message)
    })
}

fn answer(request: &Request, ended: &Ended, events: Events<'_>) -> Result<Reply, Failure> {
    let left_out_bytes = ended.stdout.left_out_bytes;
    let usage = events.usage;
    let Some(text) = events.message else {
        let failure = if left_out_bytes > 0 {
            too_long(NAME, &ended.stdout.text, left_out_bytes)
        } else {
            Failure::new(FailureKind::Failed, "codex ended its turn without a message")
        };
        return Err(failure.with_usage(usage));
    };
    let value = match &request.schema {
        Some(schema) => {
            let value = value_in(NAME, &text, schema, left_out_bytes)
                .map_err(|failure| failure.with_usage(usage))?;
            Some(schema::without_nulls(value))
        }
        None => None,
    };
    Ok(Reply {
        value,
        text: text.into_owned(),
        usage,
        model: request.model.clone(),
        session: events.thread.and_then(|id| name(&id)),
    })
}

/// What a run means whose turn did not complete.
fn failure(events: &Events<'_>, ended: &Ended) -> Failure {
    let failure = without_answer(NAME, ended);
    let words = events.error.as_deref().unwrap_or(ended.stderr.text.trim());
    if words.contains("no rollout found") {
        return Failure::new(FailureKind::Failed, format!("session not found: {}", quote(words)));
    }
    let said = quote(words);
    // The first two also where it was ended meanwhile: it repeats such requests for minutes.
    match (cause(words, None), ended.status) {
        (Cause::Limit(limit), _) => {
            Failure::new(FailureKind::Limit(limit), format!("codex is at a usage limit: {said}"))
        }
        (Cause::Refusal, _) => {
            let message = format!(
                "codex refuses: {said}. Log in with `codex login` as the user that the agents run \
                 as, or set OPENAI_API_KEY, and check the model's name"
            );
            Failure::new(FailureKind::Refused, message)
        }
        (Cause::Other, Status::Exited(_)) if events.error.is_some() => {
            Failure::new(FailureKind::Failed, format!("codex failed: {said}"))
        }
        (Cause::Other, _) => failure,
    }
}

fn no_sandbox(words: &str) -> Failure {
    let message = format!(
        "codex cannot start its sandbox on this machine, so no command ran: {}. Allow user \
         namespaces to the user or container that the agents run in; or, where that container \
         is itself the sandbox, write `- Permission mode: danger-full-access` below the agent",
        quote(words)
    );
    Failure::new(FailureKind::Refused, message)
}

fn declined(commands: &[String]) -> Failure {
    let message = format!(
        "codex was denied {}, so what it did does not count. If the agent shall be allowed more, \
         write a `- Permission mode:` below it that allows it: {}",
        some_of(commands.iter()),
        MODES.join(", ")
    );
    Failure::new(FailureKind::Denied, message)
}

#[cfg(test)]
mod tests;
