//! The flags that say which language model is asked, and how.

use std::path::PathBuf;

use model::Provider;

use super::Failure;
use super::connect::{self, Variables};
use crate::settings::Llm;

/// How many calls may be under way at once, over all processes.
const SLOTS: u32 = 2;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Language model")]
pub(crate) struct LlmArgs {
    /// Who is asked: claude, codex, command (a program of yours) or offline (nobody)
    #[arg(
        long,
        value_name = "NAME",
        default_value = "claude",
        env = "ORCH_LLM_PROVIDER",
        hide_env_values = true
    )]
    llm_provider: Provider,

    /// The model, where it is not the provider's default
    #[arg(long, value_name = "NAME", env = "ORCH_LLM_MODEL", hide_env_values = true)]
    llm_model: Option<String>,

    /// The provider's program [default: claude or codex, in PATH; command has none]
    #[arg(long, value_name = "PROGRAM", env = "ORCH_LLM_CLI", hide_env_values = true)]
    llm_cli: Option<String>,

    /// One more argument for the provider's program; may be given several times
    #[arg(
        long,
        visible_alias = "claude-extra-arg",
        value_name = "ARG",
        allow_hyphen_values = true,
        hide_short_help = true
    )]
    llm_extra_arg: Vec<String>,

    /// Have systemg start the provider's program, so that it shows in `sysg status`
    #[arg(
        long,
        visible_alias = "claude-use-sysg",
        value_parser = clap::builder::BoolishValueParser::new(),
        env = "ORCH_LLM_USE_SYSG",
        hide_short_help = true
    )]
    llm_use_sysg: bool,

    /// How many calls may be under way at once, over all processes [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000), env = "ORCH_LLM_MAX_CONCURRENCY", hide_env_values = true)]
    llm_max_concurrency: Option<u32>,

    /// The program of the provider claude, also for agents that ask for it while the run
    /// has another provider
    #[arg(long, value_name = "PROGRAM", env = "ORCH_CLAUDE_CLI", hide_short_help = true)]
    claude_cli: Option<String>,

    /// The same for codex
    #[arg(long, value_name = "PROGRAM", env = "ORCH_CODEX_CLI", hide_short_help = true)]
    codex_cli: Option<String>,

    /// The same for the provider command
    #[arg(long, value_name = "PROGRAM", env = "ORCH_COMMAND_CLI", hide_short_help = true)]
    command_cli: Option<String>,
}

impl LlmArgs {
    /// What the flags amount to.
    pub(crate) fn resolve(&self, variables: Variables<'_>) -> Result<Llm, Failure> {
        let mut programs = self.programs();
        for program in programs.iter_mut().filter_map(|(_, program)| program.as_mut()) {
            *program = located(program)?;
        }
        let llm = Llm {
            provider: self.llm_provider,
            model: self.llm_model.clone(),
            programs: programs.into_iter().filter_map(|(p, cli)| Some((p, cli?))).collect(),
            extra_args: self.llm_extra_arg.clone(),
            use_sysg: self.llm_use_sysg,
            slots: match self.llm_max_concurrency {
                Some(slots) => slots,
                None => slots_of_the_reference(variables)?,
            },
        };
        Ok(llm)
    }

    fn programs(&self) -> [(Provider, Option<String>); 3] {
        let own = |provider: Provider, flag: &Option<String>| {
            let general = self.llm_cli.clone().filter(|_| provider == self.llm_provider);
            (provider, flag.clone().or(general))
        };
        [
            own(Provider::Claude, &self.claude_cli),
            own(Provider::Codex, &self.codex_cli),
            own(Provider::Command, &self.command_cli),
        ]
    }
}

/// A program that is named by a path runs from other folders than ours.
fn located(program: &str) -> Result<String, Failure> {
    if !program.contains('/') {
        return Ok(program.to_owned());
    }
    let path = connect::absolute(&PathBuf::from(program))?;
    path.into_os_string()
        .into_string()
        .map_err(|_| Failure::usage(format!("the path {program} is not UTF-8: rename it")))
}

/// The variable that the reference has for it.
fn slots_of_the_reference(variables: Variables<'_>) -> Result<u32, Failure> {
    const NAME: &str = "PORKI_LLM_MAX_CONCURRENCY";
    let Some(text) = variables(NAME) else { return Ok(SLOTS) };
    match text.trim().parse::<u32>() {
        Ok(slots) if (1..=1000).contains(&slots) => Ok(slots),
        Ok(_) | Err(_) => Err(Failure::usage(format!(
            "{NAME} is `{}`: write a number from 1 to 1000",
            super::safe(&text)
        ))),
    }
}
