//! The command line: one module per verb, and what they share.
//!
//! A verb asks, renders, prints and says how it went; rendering is a pure function of
//! what was read, so that it can be tested by calling it. Exit codes are few and
//! documented: [`Exit`].

mod args;
mod audit;
mod chaos;
mod completions;
mod connect;
mod cost;
mod doctor;
mod events;
mod explain;
mod find;
mod init;
mod instructions;
mod llm_args;
mod logs;
mod man;
mod output;
mod prompt;
mod retry;
mod run;
mod status;
mod tasks;
mod text;
mod trace;
mod units;
mod validate;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use args::Globals;
pub(crate) use connect::variable;
pub(crate) use output::{Exit, Failure, wants_color};
pub(crate) use text::{is_printable, safe};

const AFTER_HELP: &str = "\
First steps:
  orch init my-project && cd my-project && sysg start --daemonize && orch status --watch

Exit codes:
  0  done; the answer is yes
  1  the answer is no (validate, doctor or audit found errors, retry was refused, chaos
     did not see all come back), or it failed
  2  the command line, a variable or .env cannot be used
  3  Redis cannot be reached, does not let us in, or is unfit
  4  no such task, goal, agent or log; or the name means several";

/// Keeps a fleet of LLM agents at work on goals written in Markdown
///
/// People declare agents and goals in INSTRUCTIONS.md; agents run as processes under
/// systemg; Redis holds all shared state. `orch run` is the program that systemg runs;
/// all other verbs look at what goes on, or help to set it up.
#[derive(Debug, Parser)]
#[command(name = "orch", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Verb,
}

// Each verb says itself what it is for, beside its arguments.
#[derive(Debug, Subcommand)]
enum Verb {
    Run(Box<run::Args>),
    Status(status::Args),
    Tasks(tasks::Args),
    Explain(explain::Args),
    Trace(trace::Args),
    Retry(retry::Args),
    Events(events::Args),
    Cost(cost::Args),
    Chaos(chaos::Args),
    Audit(audit::Args),
    Logs(logs::Args),
    Validate(validate::Args),
    Init(init::Args),
    Instructions(instructions::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
    Man(man::Args),
    /// Run what a file says; for systemg
    #[command(hide = true)]
    Launch {
        /// The folder of the file
        scratch: PathBuf,
    },
}

/// Runs the command line `args`, the program's name first.
pub(crate) fn main(args: Vec<OsString>) -> Exit {
    match start(args) {
        Ok(exit) => exit,
        Err(error) => output::report(&error),
    }
}

/// Runs the agent of `orch run ARGS` in the caller's runtime, without its telemetry.
pub(crate) async fn agent(args: Vec<OsString>) -> anyhow::Result<()> {
    let words = ["orch", "run"].map(OsString::from);
    let cli = parse(&words.into_iter().chain(args).collect::<Vec<_>>())?;
    let Verb::Run(args) = &cli.verb else { anyhow::bail!("`orch run` runs agents") };
    run::agent(args, &cli.globals).await
}

fn start(args: Vec<OsString>) -> anyhow::Result<Exit> {
    let args = with_verb(args);
    if let Some(folder) = project_of(&args) {
        connect::load_env(&folder)?;
    }
    crate::secrets::learn_variables();
    let cli = match parse(&args) {
        Ok(cli) => cli,
        Err(error) => return Ok(output::usage(&error)),
    };
    let runtime = runtime(&cli.verb)?;
    let exit = runtime.block_on(dispatch(cli));
    // A thread that reads a file must not keep the program from ending.
    runtime.shutdown_background();
    exit
}

fn parse(args: &[OsString]) -> Result<Cli, clap::Error> {
    let matches = command().try_get_matches_from(args)?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command()))
}

fn command() -> clap::Command {
    without_empty_variables(Cli::command())
}

/// A variable that is set to nothing counts as unset, whatever its option accepts.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &clap::Arg| {
        arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty())
    };
    command
        .mut_args(|arg| if is_empty(&arg) { arg.env(Resettable::Reset) } else { arg })
        .mut_subcommands(without_empty_variables)
}

fn runtime(verb: &Verb) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = match verb {
        Verb::Run(args) => args.runtime(),
        Verb::Status(_)
        | Verb::Tasks(_)
        | Verb::Explain(_)
        | Verb::Trace(_)
        | Verb::Retry(_)
        | Verb::Events(_)
        | Verb::Cost(_)
        | Verb::Chaos(_)
        | Verb::Audit(_)
        | Verb::Logs(_)
        | Verb::Validate(_)
        | Verb::Init(_)
        | Verb::Instructions(_)
        | Verb::Doctor(_)
        | Verb::Completions(_)
        | Verb::Man(_)
        | Verb::Launch { .. } => tokio::runtime::Builder::new_current_thread(),
    };
    builder.enable_all().build()
}

async fn dispatch(cli: Cli) -> anyhow::Result<Exit> {
    let globals = &cli.globals;
    match &cli.verb {
        Verb::Run(args) => run::run(args, globals).await,
        Verb::Status(args) => status::run(args, globals).await,
        Verb::Tasks(args) => tasks::run(args, globals).await,
        Verb::Explain(args) => explain::run(args, globals).await,
        Verb::Trace(args) => trace::run(args, globals).await,
        Verb::Retry(args) => retry::run(args, globals).await,
        Verb::Events(args) => events::run(args, globals).await,
        Verb::Cost(args) => cost::run(args, globals).await,
        Verb::Chaos(args) => chaos::run(args, globals).await,
        Verb::Audit(args) => audit::run(args, globals).await,
        Verb::Logs(args) => logs::run(args, globals).await,
        Verb::Validate(args) => validate::run(args, globals),
        Verb::Init(args) => init::run(args),
        Verb::Instructions(args) => instructions::run(args, globals).await,
        Verb::Doctor(args) => doctor::run(args, globals).await,
        Verb::Completions(args) => completions::run(args),
        Verb::Man(args) => man::run(args),
        Verb::Launch { scratch } => {
            crate::llm::launch::launch(scratch).await?;
            Ok(Exit::Done)
        }
    }
}

/// The first form of the program had no verbs: `orch --role ..` is `orch run --role ..`.
fn with_verb(mut args: Vec<OsString>) -> Vec<OsString> {
    let command = Cli::command();
    let takes_value = |name: &str| command.get_arguments().any(|arg| arg.get_long() == Some(name));
    let mut words = args.iter().skip(1).map(|word| word.to_string_lossy());
    while let Some(word) = words.next() {
        let Some(option) = word.strip_prefix("--") else { return args };
        let (name, has_value) =
            option.split_once('=').map_or((option, false), |(name, _)| (name, true));
        match name {
            "help" | "version" | "" => return args,
            _ if takes_value(name) => {
                if !has_value {
                    words.next();
                }
            }
            _ => {
                args.insert(1, OsString::from("run"));
                return args;
            }
        }
    }
    args
}

/// The folder whose `.env` is to be read before the command line is: as far as it can
/// be told from the arguments alone.
fn project_of(args: &[OsString]) -> Option<PathBuf> {
    let matches = command().ignore_errors(true).try_get_matches_from(args).ok()?;
    let path = |matches: &clap::ArgMatches, name: &str| {
        matches.try_get_one::<PathBuf>(name).ok().flatten().cloned()
    };
    let (_, verb) = matches.subcommand()?;
    if let Some(project) = path(verb, "project").or_else(|| path(&matches, "project")) {
        return Some(project);
    }
    let is_agent =
        matches!(verb.try_get_one::<run::ProcessRole>("role"), Ok(Some(run::ProcessRole::Agent)));
    let instructions = path(verb, "instructions").filter(|_| !is_agent);
    let folder = instructions.as_deref().and_then(Path::parent);
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
    Some(folder.map_or_else(|| PathBuf::from("."), Path::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn with(line: &str) -> String {
        let args: Vec<String> =
            with_verb(words(line)).iter().map(|w| w.to_string_lossy().into_owned()).collect();
        args.join(" ")
    }

    #[test]
    fn command_should_be_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn form_without_a_verb_should_mean_run() {
        assert_eq!(with("orch --role agent"), "orch run --role agent");
        assert_eq!(
            with("orch --redis-url redis://x --role=agent"),
            "orch run --redis-url redis://x --role=agent"
        );
        for line in
            ["orch", "orch --help", "orch -h", "orch --project x status", "orch run --role agent"]
        {
            assert_eq!(with(line), line);
        }
    }

    #[test]
    fn seed_command_line_should_be_read_as_it_stands() {
        let line = "orch --role orchestrator --instructions ./INSTRUCTIONS.md \
                    --redis-url redis://localhost:6379 --log-level INFO";
        let cli = Cli::try_parse_from(with_verb(words(
            &line.split_whitespace().collect::<Vec<_>>().join(" "),
        )));
        assert!(matches!(cli.unwrap().verb, Verb::Run(_)));
    }

    #[test]
    fn project_should_be_told_from_the_arguments_alone() {
        for (line, folder) in [
            ("orch status", "."),
            ("orch --project a status", "a"),
            ("orch status --project a", "a"),
            ("orch run --role orchestrator --instructions b/INSTRUCTIONS.md", "b"),
            ("orch run --role orchestrator --instructions INSTRUCTIONS.md", "."),
            ("orch run --role agent --instructions b/x.md", "."),
            ("orch run --instructions b/I.md --no-such-flag", "b"),
        ] {
            assert_eq!(project_of(&words(line)), Some(PathBuf::from(folder)), "{line}");
        }
    }

    #[test]
    fn every_verb_should_say_what_it_is_for() {
        for verb in Cli::command().get_subcommands() {
            assert!(verb.get_about().is_some(), "{}", verb.get_name());
            for arg in verb.get_arguments() {
                assert!(arg.get_help().is_some(), "{} {}", verb.get_name(), arg.get_id());
            }
        }
    }
}
