//! `orch man`: the manual page from the same source as the help.

use clap::CommandFactory;

use super::{Cli, Exit, Failure, output};

/// Print the manual page, or that of a verb
///
/// Read it with `orch man | man -l -`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A verb, for its own page
    verb: Option<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut command = Cli::command();
    command.build();
    if let Some(verb) = &args.verb {
        let names: Vec<String> =
            command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
        let found = command.find_subcommand(verb).cloned();
        command = found.ok_or_else(|| {
            Failure::not_found(format!(
                "there is no verb `{}`: there are {}",
                super::safe(verb),
                names.join(", ")
            ))
        })?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    output::print(&String::from_utf8_lossy(&page))?;
    Ok(Exit::Done)
}
