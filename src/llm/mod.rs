//! Language models as this program uses them: which one, started how, and when.

pub(crate) mod gate;
pub(crate) mod launch;

use std::sync::Arc;

use model::Provider as Name;
use providers::Provider;
use providers::claude::Claude;
use providers::codex::Codex;
use providers::command::Program;
use providers::offline::Offline;

use crate::cli::Failure;
use crate::settings::Llm;

/// The provider that `llm` names.
///
/// # Errors
/// Where the provider `command` has no command.
pub(crate) fn provider(llm: &Llm) -> Result<Arc<dyn Provider>, Failure> {
    let cli =
        |usual: &str| llm.programs.get(&llm.provider).cloned().unwrap_or_else(|| usual.to_owned());
    let extra_args = llm.extra_args.clone();
    Ok(match llm.provider {
        Name::Claude => Arc::new(Claude { cli: cli("claude"), extra_args }),
        Name::Codex => Arc::new(Codex { cli: cli("codex"), extra_args }),
        Name::Command => match llm.programs.get(&Name::Command) {
            Some(cli) => Arc::new(Program { program: cli.clone(), args: extra_args }),
            None => {
                return Err(Failure::usage(
                    "the provider `command` needs a program: name it with --llm-cli or \
                     ORCH_COMMAND_CLI",
                ));
            }
        },
        Name::Offline => Arc::new(Offline),
    })
}

impl Llm {
    /// The same, for someone who may have asked for another provider or model.
    pub(crate) fn as_asked(&self, provider: Option<Name>, model: Option<&str>) -> Self {
        let mut llm = self.clone();
        if let Some(provider) = provider.filter(|provider| *provider != self.provider) {
            llm.provider = provider;
            // These were meant for another program.
            llm.model = None;
            llm.extra_args.clear();
        }
        llm.model = model.map(str::to_owned).or(llm.model);
        llm
    }

    /// As arguments of `orch run`.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut args = vec!["--llm-provider".to_owned(), self.provider.to_string()];
        let mut add = |name: &str, value: &str| args.push(format!("{name}={value}"));
        if let Some(model) = &self.model {
            add("--llm-model", model);
        }
        for (provider, program) in &self.programs {
            add(&format!("--{provider}-cli"), program);
        }
        for arg in &self.extra_args {
            add("--llm-extra-arg", arg);
        }
        add("--llm-max-concurrency", &self.slots.to_string());
        if self.use_sysg {
            args.push("--llm-use-sysg".to_owned());
        }
        args
    }
}
