//! `orch instructions`: the files that tell agents how to work.

use std::path::{Path, PathBuf};

use model::AgentName;

use super::args::Globals;
use super::text::safe;
use super::{Exit, Failure, connect, init, output};

/// Write instruction files
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Write a new instruction file for an agent
    Create(Create),
}

#[derive(Debug, clap::Args)]
struct Create {
    /// The agent's name; the file is <NAME>.md
    #[arg(long, short, value_name = "NAME")]
    name: AgentName,

    /// The folder; made where it does not exist [default: instructions/ of the project]
    #[arg(long, short, value_name = "DIR")]
    path: Option<PathBuf>,

    /// Replace the file where there is one
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    let Action::Create(create) = &args.action;
    let folder = match &create.path {
        Some(folder) => connect::absolute(folder)?,
        None => connect::project(globals.project.as_deref())?.join("instructions"),
    };
    let file = folder.join(format!("{}.md", create.name));
    let text = init::AGENT.replace("{name}", create.name.as_str());
    if file.symlink_metadata().is_ok() {
        if !create.force {
            return Err(Failure::negative(format!(
                "{} is there already: --force replaces it",
                file.display()
            ))
            .into());
        }
        replace(&file, &text)?;
    } else {
        init::write_new(&file, &text)?;
    }
    output::print(&format!(
        "Made {}.\nNext: say in it how {name} shall work, and declare it under `## Agents` in \
         INSTRUCTIONS.md:\n\n  ### {name}\n  - Goal: <goal>\n  - Heartbeat: ./heartbeat/{name}.md\n",
        safe(&file.display().to_string()),
        name = create.name
    ))?;
    Ok(Exit::Done)
}

/// Whoever reads it sees the old file or the new one.
fn replace(file: &Path, text: &str) -> Result<(), Failure> {
    let aside = file.with_extension(format!("md.{}", std::process::id()));
    init::write_new(&aside, text)?;
    std::fs::rename(&aside, file).map_err(|error| {
        // What was written aside is of no use any more.
        let _ = std::fs::remove_file(&aside);
        Failure::negative(format!("cannot replace {}: {error}", file.display()))
    })
}
