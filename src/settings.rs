//! What a process of ours was told to do, with nothing left to find out.
//!
//! The command line, the environment and `.env` end here: paths are absolute, waits are
//! durations, ids are checked. Who gets one of these reads no variable and no working
//! directory afterwards, so a child that systemg starts in `/` behaves as one that was
//! started by hand.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use model::agent::LogLevel;
use model::{AgentName, GoalId, Provider, Role};
use providers::Permissions;
use store::lead::Controller;

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogStyle {
    /// Time, level, component, a sentence
    #[default]
    Concise,
    /// Time, level, a stable event code, key=value
    Event,
    /// The same as one JSON object per line
    Json,
}

impl LogStyle {
    /// The word on the command line, to be handed on to agents.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Concise => "concise",
            Self::Event => "event",
            Self::Json => "json",
        }
    }
}

/// When to colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What is logged, and how it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogSettings {
    /// The least that is logged.
    pub(crate) level: LogLevel,
    /// How a line looks.
    pub(crate) style: LogStyle,
    /// When it has colours.
    pub(crate) color: Color,
}

/// What orchestrator and agents have in common.
#[derive(Debug, Clone)]
pub(crate) struct Common {
    /// Where Redis is.
    pub(crate) redis: store::Options,
    /// The project's folder, absolute and canonical.
    pub(crate) project: PathBuf,
    /// What is logged, and how.
    pub(crate) log: LogSettings,
    /// How long a lease lives without a renewal.
    pub(crate) lease_ttl: Duration,
    /// How often a sign of life is given.
    pub(crate) heartbeat_interval: Duration,
    /// How long what is asked to end may take.
    pub(crate) grace: Duration,
}

impl Common {
    /// How long a lease lives, in milliseconds, as scripts take it.
    pub(crate) fn lease_ttl_ms(&self) -> u64 {
        u64::try_from(self.lease_ttl.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Which language model is asked, and how.
#[derive(Debug, Clone)]
pub(crate) struct Llm {
    /// Who is asked where neither agent nor goal says.
    pub(crate) provider: Provider,
    /// The model where neither agent nor goal says; the provider's default if absent.
    pub(crate) model: Option<String>,
    /// Programs that are not the provider's own name in PATH.
    pub(crate) programs: BTreeMap<Provider, String>,
    /// Arguments besides ours, for the provider of the run.
    pub(crate) extra_args: Vec<String>,
    /// Whether systemg starts the provider's program.
    pub(crate) use_sysg: bool,
    /// How many calls may be under way at once, over all processes.
    pub(crate) slots: u32,
}

/// `orch run --role orchestrator`.
#[derive(Debug, Clone)]
pub(crate) struct Orchestrator {
    /// What both roles have.
    pub(crate) common: Common,
    /// The control file, absolute.
    pub(crate) instructions: PathBuf,
    /// Which controllers run in this process; at least one, each once.
    pub(crate) controllers: Vec<Controller>,
    /// How long after a resync the next one starts.
    pub(crate) resync: Duration,
    /// The sysg program, where it is not to be looked for in PATH.
    pub(crate) sysg: Option<PathBuf>,
    /// The file the URL of Redis was read from, absolute, to be handed on to agents.
    pub(crate) redis_url_file: Option<PathBuf>,
    /// The language model.
    pub(crate) llm: Llm,
    /// Where metrics are told; nowhere where absent.
    pub(crate) metrics: Option<crate::metrics::Address>,
}

/// `orch run --role agent`.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    /// What both roles have.
    pub(crate) common: Common,
    /// Who it is.
    pub(crate) name: AgentName,
    /// Which tasks it takes.
    pub(crate) role: Role,
    /// Whose tasks.
    pub(crate) goal: GoalId,
    /// Its instructions, absolute; the file may be absent.
    pub(crate) instructions: PathBuf,
    /// Its heartbeat file, absolute; the file may be absent.
    pub(crate) heartbeat: PathBuf,
    /// What tells this project's processes from another's; '' where started by hand.
    pub(crate) fleet: String,
    /// Fingerprint of its declaration; '' where started by hand.
    pub(crate) spec_hash: String,
    /// The longest it waits for a wake before it looks for work again.
    pub(crate) cadence: Duration,
    /// The language model: provider and model are the agent's own.
    pub(crate) llm: Llm,
    /// What the model's program may do without being asked.
    pub(crate) permissions: Permissions,
    /// Variables that it may see besides those that its provider needs.
    pub(crate) environment: Vec<String>,
    /// The sysg program, where it is not to be looked for in PATH.
    pub(crate) sysg: Option<PathBuf>,
    /// Whether it tells how its calls to Redis go.
    pub(crate) measure: bool,
}
