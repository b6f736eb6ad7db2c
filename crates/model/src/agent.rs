//! An agent: a declared name, and the life of the processes that bear it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{AgentName, GoalId, Role};
use crate::provider::Provider;

/// One declared agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AgentSpec {
    /// Its name: at most one process of a name can write.
    pub name: AgentName,
    /// The goal whose tasks it takes.
    pub goal: GoalId,
    /// Which of the goal's tasks it takes; see [`AgentName::default_role`].
    pub role: Role,
    /// Absolute path of its heartbeat file, within the project.
    pub heartbeat: PathBuf,
    /// Absolute path of its instructions, within the project.
    pub instructions: PathBuf,
    /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`.
    pub log_level: LogLevel,
    /// The longest it may wait before it looks for work again without a wake.
    pub cadence: Option<Duration>,
    /// LLM provider, where it is not the run's.
    pub provider: Option<Provider>,
    /// Model, where it is not the provider's default.
    pub model: Option<String>,
    /// What its model's program may use without asking, in that program's own words:
    /// `Read`, `Bash(git:*)`. None is none: orch allows nothing by itself.
    pub tools: Vec<String>,
    /// The program's permission mode, or its sandbox, where it is not its default:
    /// `acceptEdits`, `read-only`.
    pub permission_mode: Option<String>,
    /// Names of variables of our environment that reach what the agent runs; a `*`
    /// at the end stands for any rest.
    pub environment: Vec<String>,
    /// Fingerprint of all of the above: an agent whose process was started with
    /// another one is replaced.
    pub spec_hash: String,
}

/// How much an agent logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// What may need a person.
    Warn,
    /// What was done.
    #[default]
    Info,
    /// How it was done.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// All levels, least first.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The word in control files and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Warn => "WARN",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
            Self::Trace => "TRACE",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no log level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no log level: expected ERROR, WARN, INFO, DEBUG or TRACE", .0.escape_debug())]
pub struct UnknownLogLevel(pub String);

impl FromStr for LogLevel {
    type Err = UnknownLogLevel;
    /// In any case; `WARNING` and `CRITICAL`, which the reference has, are read
    /// as `WARN` and `ERROR`.
    fn from_str(word: &str) -> Result<Self, UnknownLogLevel> {
        match word.to_ascii_uppercase().as_str() {
            "ERROR" | "CRITICAL" => Ok(Self::Error),
            "WARN" | "WARNING" => Ok(Self::Warn),
            "INFO" => Ok(Self::Info),
            "DEBUG" => Ok(Self::Debug),
            "TRACE" => Ok(Self::Trace),
            _ => Err(UnknownLogLevel(word.to_owned())),
        }
    }
}

/// What an agent is doing, as `orch status` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Declared; no process yet.
    Pending,
    /// A process was started and has not registered yet.
    Starting,
    /// Registered and alive.
    Running,
    /// Asked to finish its task and leave.
    Draining,
    /// Died; will be started again at once or after a short delay.
    Restarting,
    /// Died again and again; will be started again after a longer delay.
    CrashLoop,
    /// No longer declared, and gone.
    Gone,
}

impl Phase {
    /// All phases.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Starting,
        Self::Running,
        Self::Draining,
        Self::Restarting,
        Self::CrashLoop,
        Self::Gone,
    ];

    /// The word in Redis and on the terminal.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Restarting => "restarting",
            Self::CrashLoop => "crash-loop",
            Self::Gone => "gone",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Phase {
    type Err = UnknownPhase;
    fn from_str(word: &str) -> Result<Self, UnknownPhase> {
        Self::ALL
            .into_iter()
            .find(|phase| phase.as_str() == word)
            .ok_or_else(|| UnknownPhase(word.to_owned()))
    }
}

/// A word that names no agent phase.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no agent phase", .0.escape_debug())]
pub struct UnknownPhase(pub String);
