//! `orch completions`: a completion script from the same source as the help.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Exit, output};

/// Print a completion script for a shell
///
/// bash: orch completions bash > ~/.local/share/bash-completion/completions/orch
/// zsh:  orch completions zsh > a folder of $fpath, as _orch
/// fish: orch completions fish > ~/.config/fish/completions/orch.fish
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "orch", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
