//! `orch explain`: why a task is not running, or what it is doing.
//!
//! Three steps: [`gather`] reads what could be the reason, [`why`] decides which it is
//! (pure), [`render`] says it. Only what is not done is followed, so a task at the end of
//! a long finished chain costs what is left of the chain.

mod blocked;
mod gather;
mod llm;
#[cfg(test)]
mod llm_tests;
mod ready;
mod render;
#[cfg(test)]
pub(super) mod tests;
mod why;

use super::Exit;
use super::args::{Globals, Output};
use super::connect::Session;
use super::output::{self, Screen};

/// Say why a task is not running, or what it is doing
///
/// Blocked: which dependencies are not done, down to the root cause. Ready: what holds it
/// back (a retry's delay, a usage limit, a budget, a slot), and what each agent that could
/// take it does. Running: who runs it and until when. Failed: every error. The last line
/// says what happens next, or what to do.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The task's id, as `orch tasks` shows it, or <goal>.<id>
    task: String,

    #[command(flatten)]
    output: Output,
}

pub(crate) async fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    let session = Session::open(globals).await?;
    let facts = session.known(gather::gather(&session, &args.task).await)?;
    let explanation = why::explain(&facts);
    if args.output.is_json() {
        output::print_json(&explanation)?;
    } else {
        let screen = Screen::now(globals);
        output::print(&render::text(&explanation, screen.width, screen.paint))?;
    }
    Ok(Exit::Done)
}
