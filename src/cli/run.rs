//! `orch run`: from flags to settings, then the program itself.
//!
//! The flags of the reference are all accepted. Where we need no interval any more
//! because events do its work, it bounds the resync instead: nobody waits longer than
//! they asked to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use model::agent::LogLevel;
use model::{AgentName, GoalId, Role};
use providers::Permissions;
use store::lead::Controller;
use tokio::runtime::Builder;

use super::args::{Globals, interval, wait};
use super::connect::{self, Target, Variables};
use super::llm_args::LlmArgs;
use super::{Exit, Failure};
use crate::metrics;
use crate::settings::{self, Common, LogSettings, LogStyle};
use crate::telemetry;

/// How long after a resync the next one starts, unless a flag says sooner.
const RESYNC: Duration = Duration::from_secs(5);
/// The longest that an agent waits for a wake before it looks for work by itself.
const CADENCE: Duration = Duration::from_secs(5);
/// How often a sign of life is given, at most.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Signs of life in one lease: two may be lost.
const BEATS_PER_LEASE: u32 = 3;

/// What to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ProcessRole {
    /// Keeps agents and goals as declared; one leads, others stand by
    Orchestrator,
    /// Works on the tasks of one goal; the orchestrator starts it
    Agent,
}

/// Run the orchestrator or an agent
///
/// systemg runs the orchestrator, and the orchestrator has systemg run the agents; both
/// can be started by hand as well. `orch --role ..` without `run` does the same.
///
/// Waits are seconds (30, 0.5) or have a unit (500ms, 5s, 2m). It ends on SIGTERM and
/// SIGINT: the orchestrator drains its agents, an agent hands its task back.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What this process is
    #[arg(long, value_enum, value_name = "ROLE", required_unless_present = "prompt")]
    role: Option<ProcessRole>,

    /// Ask the provider this once, print the answer, and end
    #[arg(short, long, value_name = "TEXT", conflicts_with = "role")]
    prompt: Option<String>,

    /// The control file; for an agent its own [default: INSTRUCTIONS.md, or instructions/<agent>.md]
    #[arg(long, value_name = "FILE", env = "ORCH_INSTRUCTIONS", hide_env_values = true)]
    instructions: Option<PathBuf>,

    /// The least that is logged: ERROR, WARN, INFO, DEBUG or TRACE
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = "INFO",
        env = "ORCH_LOG_LEVEL",
        hide_env_values = true
    )]
    log_level: LogLevel,

    /// How log lines look
    #[arg(
        long,
        value_enum,
        value_name = "STYLE",
        default_value = "concise",
        env = "ORCH_LOG_STYLE",
        hide_env_values = true
    )]
    log_style: LogStyle,

    /// How long a lease, and an agent, is believed alive without a sign of life
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = interval, env = "ORCH_LEASE_TTL", hide_env_values = true)]
    lease_ttl: Duration,

    /// How often an agent gives a sign of life [default: a third of the TTL, at most 5s]
    #[arg(long, value_name = "SECONDS", value_parser = interval, env = "ORCH_HEARTBEAT_INTERVAL", hide_env_values = true)]
    heartbeat_interval: Option<Duration>,

    /// How long what is asked to end may take before it is killed
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = wait, env = "ORCH_GRACE", hide_env_values = true)]
    grace: Duration,

    #[command(flatten)]
    llm: LlmArgs,
    #[command(flatten)]
    orchestrator: OrchestratorArgs,
    #[command(flatten)]
    agent: AgentArgs,
    #[command(flatten)]
    compatible: CompatibleArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Orchestrator")]
struct OrchestratorArgs {
    /// Which controllers run in this process: agent, dag, lease, heartbeat
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "agent,dag,lease,heartbeat",
        env = "ORCH_CONTROLLERS",
        hide_env_values = true
    )]
    controllers: Vec<Controller>,

    /// The sysg program [default: the one in PATH]
    #[arg(long, value_name = "FILE", env = "ORCH_SYSG", hide_env_values = true)]
    sysg: Option<PathBuf>,

    /// Where Prometheus may read metrics: a port of the loopback, or address:port; nowhere if absent [env: ORCH_METRICS_ADDR]
    #[arg(long, value_name = "ADDR")]
    metrics_addr: Option<metrics::Address>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Agent")]
struct AgentArgs {
    /// The agent's name; needed
    #[arg(long, value_name = "NAME")]
    agent_name: Option<AgentName>,

    /// Which tasks it takes [default: its name without _agent]
    #[arg(long, value_name = "ROLE")]
    agent_role: Option<Role>,

    /// Whose tasks it takes; needed
    #[arg(long, value_name = "GOAL")]
    goal_id: Option<GoalId>,

    /// Its heartbeat file [default: heartbeat/<agent>.md]
    #[arg(long, value_name = "FILE")]
    heartbeat: Option<PathBuf>,

    /// The longest it waits for a wake before it looks for work [default: 5s]
    #[arg(long, value_name = "SECONDS", value_parser = interval, hide_short_help = true)]
    cadence: Option<Duration>,

    /// A tool that the model may use without being asked; may be given several times
    #[arg(long, value_name = "TOOL", hide_short_help = true)]
    llm_tool: Vec<String>,

    /// The permission mode of the model's program
    #[arg(long, value_name = "MODE", hide_short_help = true)]
    llm_permission_mode: Option<String>,

    /// A variable that the model's program may see; may be given several times
    #[arg(long, value_name = "NAME", hide_short_help = true)]
    llm_env: Vec<String>,

    /// Which orchestrator's fleet it belongs to; set by the orchestrator
    #[arg(
        long,
        value_name = "ID",
        default_value = "",
        hide_short_help = true,
        hide_default_value = true
    )]
    fleet: String,

    /// Tell how its calls to Redis go; set by the orchestrator where it tells metrics
    #[arg(long, hide_short_help = true)]
    measure: bool,

    /// Fingerprint of its declaration; set by the orchestrator
    #[arg(
        long,
        value_name = "HASH",
        default_value = "",
        hide_short_help = true,
        hide_default_value = true
    )]
    spec_hash: String,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Accepted for compatibility")]
struct CompatibleArgs {
    /// Bounds the resync, and an agent's wait for a wake
    #[arg(long, value_name = "SECONDS", value_parser = interval, hide_short_help = true)]
    loop_interval: Option<Duration>,

    /// Bounds the resync, and an agent's wait for a wake
    #[arg(long, value_name = "SECONDS", value_parser = interval, hide_short_help = true)]
    poll_interval: Option<Duration>,

    /// Bounds the resync: control files are watched, not polled
    #[arg(long, value_name = "SECONDS", value_parser = interval, hide_short_help = true)]
    instruction_interval: Option<Duration>,

    /// Without effect: an idle agent does not log
    #[arg(long, value_name = "SECONDS", value_parser = wait, hide_short_help = true)]
    idle_log_interval: Option<Duration>,
}

/// What the flags amount to.
#[derive(Debug)]
enum Settings {
    Orchestrator(settings::Orchestrator),
    Agent(settings::Agent),
}

impl Args {
    /// The runtime that the program works with. An agent has but its main thread:
    /// what it starts dies with the thread that started it, and nothing that it does
    /// itself takes long.
    pub(crate) fn runtime(&self) -> Builder {
        match self.role {
            Some(ProcessRole::Agent) | None => Builder::new_current_thread(),
            Some(ProcessRole::Orchestrator) => {
                let most = std::thread::available_parallelism().map_or(2, usize::from);
                let mut builder = Builder::new_multi_thread();
                builder.worker_threads(most.clamp(2, 4)).thread_name("orch");
                builder
            }
        }
    }

    fn bound(&self, usual: Duration) -> Duration {
        let c = &self.compatible;
        [c.loop_interval, c.poll_interval, c.instruction_interval]
            .into_iter()
            .flatten()
            .fold(usual, Duration::min)
    }

    fn common(&self, globals: &Globals, target: &Target, project: PathBuf) -> Common {
        let most = self.lease_ttl / BEATS_PER_LEASE;
        Common {
            redis: target.options.clone(),
            project,
            log: LogSettings { level: self.log_level, style: self.log_style, color: globals.color },
            lease_ttl: self.lease_ttl,
            heartbeat_interval: self.heartbeat_interval.unwrap_or(HEARTBEAT).min(most),
            grace: self.grace,
        }
    }

    fn resolve(&self, globals: &Globals, variables: Variables<'_>) -> Result<Settings, Failure> {
        let target = connect::target(globals, variables)?;
        match self.role {
            // clap sees to it that it is there, or a prompt.
            Some(ProcessRole::Orchestrator) | None => {
                self.orchestrator(globals, &target, variables).map(Settings::Orchestrator)
            }
            Some(ProcessRole::Agent) => {
                self.agent(globals, &target, variables).map(Settings::Agent)
            }
        }
    }

    fn orchestrator(
        &self,
        globals: &Globals,
        target: &Target,
        variables: Variables<'_>,
    ) -> Result<settings::Orchestrator, Failure> {
        let given = self.instructions.as_deref();
        let beside = given.map(|file| file.parent().unwrap_or(Path::new("")));
        let beside = beside
            .map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
        let project = connect::project(globals.project.as_deref().or(beside))?;
        let instructions = match given {
            None => project.join("INSTRUCTIONS.md"),
            Some(file) => control_file(file)?,
        };
        if !instructions.starts_with(&project) {
            return Err(Failure::usage(format!(
                "--instructions {} lies outside the project {}: give a --project that holds it",
                instructions.display(),
                project.display()
            )));
        }
        let sysg = self.orchestrator.sysg.as_deref().map(connect::absolute).transpose()?;
        let mut controllers = self.orchestrator.controllers.clone();
        controllers.sort();
        controllers.dedup();
        Ok(settings::Orchestrator {
            redis_url_file: target.file().map(Path::to_owned),
            common: self.common(globals, target, project),
            instructions,
            controllers,
            resync: self.bound(RESYNC),
            sysg,
            metrics: self.metrics(variables)?,
            llm: self.llm.resolve(variables)?,
        })
    }

    fn metrics(&self, variables: Variables<'_>) -> Result<Option<metrics::Address>, Failure> {
        if self.orchestrator.metrics_addr.is_some() {
            return Ok(self.orchestrator.metrics_addr);
        }
        let read = |text: String| {
            text.parse().map_err(|error| {
                Failure::usage(format!("cannot use ORCH_METRICS_ADDR {text:?}: {error}"))
            })
        };
        variables("ORCH_METRICS_ADDR").map(read).transpose()
    }

    fn agent(
        &self,
        globals: &Globals,
        target: &Target,
        variables: Variables<'_>,
    ) -> Result<settings::Agent, Failure> {
        let missing =
            |flag: &str, what: &str| Failure::usage(format!("--role agent needs {flag}: {what}"));
        let agent = &self.agent;
        let name = agent.agent_name.clone();
        let name = name.ok_or_else(|| missing("--agent-name NAME", "which agent this is"))?;
        let goal = agent.goal_id.clone();
        let goal = goal.ok_or_else(|| missing("--goal-id GOAL", "whose tasks it takes"))?;
        let project = connect::project(globals.project.as_deref())?;
        let file = |given: &Option<PathBuf>, folder: &str| match given {
            Some(path) => within(&project, path),
            None => Ok(project.join(folder).join(format!("{name}.md"))),
        };
        Ok(settings::Agent {
            instructions: file(&self.instructions, "instructions")?,
            heartbeat: file(&agent.heartbeat, "heartbeat")?,
            role: agent.agent_role.clone().unwrap_or_else(|| name.default_role()),
            goal,
            fleet: agent.fleet.clone(),
            spec_hash: agent.spec_hash.clone(),
            cadence: self.bound(agent.cadence.unwrap_or(CADENCE)),
            llm: self.llm.resolve(variables)?,
            permissions: Permissions {
                tools: agent.llm_tool.clone(),
                mode: agent.llm_permission_mode.clone(),
            },
            environment: agent.llm_env.clone(),
            sysg: self.orchestrator.sysg.as_deref().map(connect::absolute).transpose()?,
            measure: agent.measure,
            common: self.common(globals, target, project),
            name,
        })
    }
}

/// The file's absolute path with its folder's real place; the file need not exist yet.
fn control_file(file: &Path) -> Result<PathBuf, Failure> {
    let path = connect::absolute(file)?;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Failure::usage(format!("--instructions {} is no file", file.display())));
    };
    if path.is_dir() {
        return Err(Failure::usage(format!(
            "--instructions {} is a folder: give the file in it",
            file.display()
        )));
    }
    let folder = folder.canonicalize().map_err(|error| {
        Failure::usage(format!("cannot use --instructions {}: {error}", file.display()))
    })?;
    Ok(folder.join(name))
}

fn within(project: &Path, written: &Path) -> Result<PathBuf, Failure> {
    let path = connect::absolute(written)?;
    let text = path.to_str().ok_or_else(|| {
        Failure::usage(format!("the path {} is not UTF-8: rename it", written.display()))
    })?;
    control_files::read::resolve(project, project, text)
        .map_err(|error| Failure::usage(error.to_string()))
}

pub(crate) async fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    if let Some(prompt) = &args.prompt {
        return super::prompt::run(prompt, &args.llm.resolve(&connect::variable)?).await;
    }
    let settings = args.resolve(globals, &connect::variable)?;
    let (common, agent) = match &settings {
        Settings::Orchestrator(settings) => (&settings.common, None),
        Settings::Agent(settings) => (&settings.common, Some(&settings.name)),
    };
    crate::secrets::learn_url(&common.redis.url);
    let telemetry = telemetry::init(common.log, agent);
    let in_arguments = globals.redis_url.is_some() && common.redis.url.has_secret();
    if in_arguments {
        tracing::warn!(
            code = "password-in-arguments",
            "The Redis password shows in ps: use --redis-url-file or REDIS_URL"
        );
    }
    let ended = match settings {
        Settings::Orchestrator(settings) => {
            crate::compose::orchestrate(settings, telemetry.export()).await
        }
        Settings::Agent(settings) => crate::worker::work(settings).await,
    };
    telemetry.end().await;
    ended.map(|()| Exit::Done)
}

/// The agent alone: whoever calls this has a log of its own.
pub(crate) async fn agent(args: &Args, globals: &Globals) -> anyhow::Result<()> {
    match args.resolve(globals, &connect::variable)? {
        Settings::Agent(settings) => crate::worker::work(settings).await,
        Settings::Orchestrator(_) => anyhow::bail!("the arguments ask for no agent"),
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
