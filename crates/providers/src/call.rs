//! One call of a model: what goes in, what comes out, and how it can fail.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use process::Ended;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// A goal's text becomes a plan.
    Decompose,
    /// One of several ready tasks is chosen.
    Select,
    /// A task is done.
    Execute,
    /// What was done becomes one line.
    Summarise,
    /// A finished task is looked at.
    Review,
    /// Whether a failed task can be rescued.
    Recover,
    /// `orch run -p`.
    Prompt,
}

impl Step {
    /// The word in Redis, logs and figures.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Decompose => "decompose",
            Self::Select => "select",
            Self::Execute => "execute",
            Self::Summarise => "summarise",
            Self::Review => "review",
            Self::Recover => "recover",
            Self::Prompt => "prompt",
        }
    }
}

/// Which conversation a call belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Session {
    /// None that is kept.
    #[default]
    Ephemeral,
    /// A new one, which can be resumed under this UUID.
    New(String),
    /// One that an earlier call began under this UUID.
    Resume(String),
}

/// What the program may do in the working folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Tools that it may use without being asked, in the program's own words
    /// (`Read`, `Bash(git:*)`); none is none.
    pub tools: Vec<String>,
    /// The program's permission mode, where it is not its default: `acceptEdits`,
    /// `plan`; for codex its sandbox: `read-only`, `workspace-write`.
    pub mode: Option<String>,
}

/// One question to a model.
#[derive(Debug, Clone)]
pub struct Request {
    /// What for.
    pub step: Step,
    /// The prompt, given on stdin.
    pub prompt: String,
    /// JSON schema of the answer; any text will do where there is none.
    pub schema: Option<Value>,
    /// The model, where it is not the program's default.
    pub model: Option<String>,
    /// Which conversation.
    pub session: Session,
    /// What the program may do.
    pub permissions: Permissions,
    /// What the call may cost at most, in millionths of a US dollar.
    pub budget_micros: Option<u64>,
    /// Where it works: exists, absolute.
    pub folder: PathBuf,
    /// A folder of its own for what the program must be given as files: exists, absolute.
    pub scratch: PathBuf,
    /// Gets all output while the program runs; what a resumed session is found by
    /// where a program chooses its own session ids.
    pub log: PathBuf,
    /// How long it may take.
    pub timeout: Duration,
}

/// A program to be run for a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation {
    /// Looked up in `PATH` where it holds no `/`.
    pub program: String,
    /// Its arguments: never the prompt, which `ps` would show and the kernel bounds.
    pub args: Vec<String>,
    /// Variables that are set for it.
    pub env: Vec<(String, String)>,
    /// Names of variables that are let through to it from ours, where set; a `*` at
    /// the end stands for any rest. The caller adds its own, and nothing else passes.
    pub pass_env: Vec<String>,
    /// What it reads from stdin, which is then closed.
    pub stdin: String,
    /// Files that are written before it starts, readable by their owner only.
    pub files: Vec<(PathBuf, String)>,
}

/// What a call used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// In millionths of a US dollar; absent where the program does not say.
    pub cost_micros: Option<u64>,
    /// Tokens read, without those from a cache.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// Tokens read from a cache.
    pub cache_read_tokens: u64,
    /// Tokens put into a cache.
    pub cache_write_tokens: u64,
}

/// What a model answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The answer as JSON, where a schema was given; not validated against it.
    pub value: Option<Value>,
    /// The answer as text.
    pub text: String,
    /// What it used up.
    pub usage: Usage,
    /// The model that answered, where the program says.
    pub model: Option<String>,
    /// The program's own id of the conversation.
    pub session: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What to do about it.
    pub kind: FailureKind,
    /// For a person, and for the next attempt's prompt.
    pub message: String,
    /// What it used up all the same.
    pub usage: Usage,
}

/// What to do about a call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailureKind {
    /// Something came that is not what was asked for; it may be repaired. Holds the
    /// beginning of what came.
    Malformed(String),
    /// The program or the service failed; it may go better next time.
    Failed,
    /// It will not go better: the program is missing, nobody is logged in, the model
    /// does not exist.
    Refused,
    /// Tool calls were denied: the answer does not count.
    Denied,
    /// Not before a usage limit is reset.
    Limit(Limit),
    /// The call's budget is spent.
    Budget,
    /// It ran longer than it may; it was ended.
    TimedOut,
    /// We ended it.
    Cancelled,
}

/// A usage limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// When it is reset, where that was said.
    pub until: Option<Timestamp>,
}

impl Failure {
    /// A failure before anything was used up.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), usage: Usage::default() }
    }

    /// The same, having used this up.
    #[must_use]
    pub fn with_usage(mut self, usage: Usage) -> Self {
        self.usage = usage;
        self
    }
}

/// A kind of model: how it is called, and what its program's output means. Does no IO.
pub trait Provider: Send + Sync {
    /// Its name on the command line, in control files and in Redis.
    fn name(&self) -> &'static str;

    /// How to run the program for `request`.
    ///
    /// # Errors
    /// [`Failure`] of kind [`FailureKind::Refused`] where this provider never can.
    fn invocation(&self, request: &Request) -> Result<Invocation, Failure>;

    /// What came of it.
    ///
    /// # Errors
    /// [`Failure`] says what to do, and what it used up.
    fn read(&self, request: &Request, ended: &Ended) -> Result<Reply, Failure>;

    /// The id under which [`Session::Resume`] goes on with the session that a call
    /// began as [`Session::New`] with `id`, given what is left of that call's log;
    /// `None` where it cannot.
    fn resumable(&self, id: &str, log: &str) -> Option<String>;
}

/// What runs an [`Invocation`].
pub trait Runner: Sync {
    /// Runs it in the request's folder, with its timeout and log, and leaves nothing
    /// of it behind, also where the future is dropped.
    ///
    /// # Errors
    /// [`Failure`] where it could not be run; see its conversion from [`process::Error`].
    fn run(
        &self,
        invocation: Invocation,
        request: &Request,
    ) -> impl Future<Output = Result<Ended, Failure>> + Send;
}

/// Asks once.
///
/// # Errors
/// [`Failure`]; nothing of the call is left running.
pub async fn call(
    provider: &dyn Provider,
    runner: &impl Runner,
    request: &Request,
) -> Result<Reply, Failure> {
    let invocation = provider.invocation(request)?;
    let ended = runner.run(invocation, request).await?;
    provider.read(request, &ended)
}

impl From<process::Error> for Failure {
    /// A program that is missing or may not be run is [`FailureKind::Refused`].
    fn from(error: process::Error) -> Self {
        let unfit = |source: &std::io::Error| {
            matches!(
                source.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied
            )
        };
        let kind = match &error {
            process::Error::Start { source, .. } if unfit(source) => FailureKind::Refused,
            process::Error::Start { .. }
            | process::Error::Log { .. }
            | process::Error::Watch { .. }
            | process::Error::End { .. } => FailureKind::Failed,
        };
        Self::new(kind, chain(&error))
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
