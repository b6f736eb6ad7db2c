//! `orch instructions`: the files that tell agents how to work, and what they said before.

mod create;
mod history;

use super::Exit;
use super::args::Globals;

/// Write instruction files, and look at what agents were told
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Create(create::Args),
    History(history::Args),
}

pub(crate) async fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    match &args.action {
        Action::Create(args) => create::run(args, globals),
        Action::History(args) => history::run(args, globals).await,
    }
}
