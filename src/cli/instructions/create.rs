//! `orch instructions create`: a new file, with what an agent's instructions should say.

use std::path::{Path, PathBuf};

use model::AgentName;

use crate::cli::args::Globals;
use crate::cli::text::safe;
use crate::cli::{Exit, Failure, connect, init, output};

const TEMPLATE: &str = include_str!("agent.md");

/// Write a new instruction file for an agent
#[derive(Debug, clap::Args)]
pub(super) struct Args {
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

pub(super) fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    let folder = match &args.path {
        Some(folder) => connect::absolute(folder)?,
        None => connect::project(globals.project.as_deref())?.join("instructions"),
    };
    let file = folder.join(format!("{}.md", args.name));
    let text = TEMPLATE.replace("{name}", args.name.as_str());
    if file.symlink_metadata().is_ok() {
        if !args.force {
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
        name = args.name
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
