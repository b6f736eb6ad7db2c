//! `orch instructions history`: what an agent was told, and since when.
//!
//! An agent records its instructions when it begins a task that a model does, where they
//! are not what they were; so a version is what was really in a prompt.

use std::collections::BTreeSet;
use std::io::IsTerminal;

use model::{AgentName, GoalId};
use serde::Serialize;
use store::Store;
use store::instructions::InstructionVersion;

use crate::cli::args::{Globals, Output};
use crate::cli::connect::Session;
use crate::cli::output::{self, Screen};
use crate::cli::text::{Column, Paint, Table, Tone, safe_lines};
use crate::cli::{Exit, Failure};

/// How much of a hash tells versions apart for people.
const HASH_CHARS: usize = 12;

/// Show what an agent was told, version by version
///
/// A version is recorded when the agent first begins a task with it. The last 20 of each
/// goal are kept, each with its first 64 KiB.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The agent
    agent: AgentName,

    /// Only for this goal
    #[arg(long, value_name = "GOAL")]
    goal: Option<GoalId>,

    /// Print the text of this version
    #[arg(long, value_name = "N")]
    show: Option<u64>,

    #[command(flatten)]
    output: Output,
}

/// One version, and for which goal; documented in docs/cli.md and stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Entry {
    agent: AgentName,
    goal: GoalId,
    version: u64,
    time: String,
    hash: String,
    bytes: u64,
    /// Only where it was asked for: its first 64 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    let session = Session::open(globals).await?;
    let mut entries = session.known(entries(&session.store, args).await)?;
    if let Some(version) = args.show {
        return show(chosen(entries, args, version)?, args.output);
    }
    if args.output.is_json() {
        for entry in &mut entries {
            entry.text = None;
        }
        output::print_json(&entries)?;
        return Ok(Exit::Done);
    }
    let screen = Screen::now(globals);
    output::print(&text(&entries, &args.agent, screen.width, screen.paint))?;
    Ok(Exit::Done)
}

/// Every version, goal by goal, newest first.
async fn entries(store: &Store, args: &Args) -> anyhow::Result<Vec<Entry>> {
    let known = store.agents().await?;
    let registered = known.iter().find(|agent| agent.name == args.agent);
    let mut goals = match &args.goal {
        Some(goal) => vec![goal.clone()],
        None => store.goal_ids().await?,
    };
    // A goal that is not declared yet may have its agents already.
    let now = registered.and_then(|agent| agent.registered.as_ref()?.goal.clone());
    goals.extend(now.filter(|goal| args.goal.is_none() && !goals.contains(goal)));
    let mut entries = Vec::new();
    for goal in goals {
        for version in store.instructions(&args.agent, &goal).await? {
            entries.push(entry(&args.agent, &goal, version));
        }
    }
    if entries.is_empty() && registered.is_none() {
        let names: Vec<&str> = known.iter().take(8).map(|agent| agent.name.as_str()).collect();
        let hint = match names.as_slice() {
            [] => "none was declared yet".to_owned(),
            names => format!("there are {}", names.join(", ")),
        };
        return Err(
            Failure::not_found(format!("there is no agent `{}`: {hint}", args.agent)).into()
        );
    }
    Ok(entries)
}

fn entry(agent: &AgentName, goal: &GoalId, version: InstructionVersion) -> Entry {
    let InstructionVersion { version, hash, time, bytes, text } = version;
    let (agent, goal) = (agent.clone(), goal.clone());
    Entry { agent, goal, version, time, hash, bytes, text: Some(text) }
}

fn chosen(entries: Vec<Entry>, args: &Args, version: u64) -> Result<Entry, Failure> {
    let agent = &args.agent;
    let kept: BTreeSet<u64> = entries.iter().map(|entry| entry.version).collect();
    let kept: Vec<String> = kept.iter().map(u64::to_string).collect();
    let mut found: Vec<Entry> =
        entries.into_iter().filter(|entry| entry.version == version).collect();
    match (found.pop(), found.as_slice()) {
        (Some(entry), []) => Ok(entry),
        (Some(last), others) => {
            let goals: Vec<&str> =
                others.iter().chain([&last]).map(|entry| entry.goal.as_str()).collect();
            Err(Failure::not_found(format!(
                "{agent} has a version {version} for several goals: say which with --goal: {}",
                goals.join(", ")
            )))
        }
        (None, _) if kept.is_empty() => {
            Err(Failure::not_found(format!("nothing that {agent} was told is recorded yet")))
        }
        (None, _) => Err(Failure::not_found(format!(
            "{agent} has no version {version}: there are {}",
            kept.join(", ")
        ))),
    }
}

fn show(entry: Entry, output: Output) -> anyhow::Result<Exit> {
    if output.is_json() {
        output::print_json(&entry)?;
        return Ok(Exit::Done);
    }
    let text = entry.text.unwrap_or_default();
    let mut shown = if std::io::stdout().is_terminal() { safe_lines(&text) } else { text.clone() };
    if !shown.ends_with('\n') {
        shown.push('\n');
    }
    output::print(&shown)?;
    if (text.len() as u64) < entry.bytes {
        let (kept, bytes) = (text.len(), entry.bytes);
        output::tell(&format!("only the first {kept} of {bytes} bytes are kept\n"));
    }
    Ok(Exit::Done)
}

fn text(entries: &[Entry], agent: &AgentName, width: usize, paint: Paint) -> String {
    if entries.is_empty() {
        return format!(
            "nothing that {agent} was told is recorded yet: that is done when it begins a task \
             that a model does\n"
        );
    }
    let mut table = Table::new(vec![
        Column::left("GOAL", 28),
        Column::right("VERSION", 7),
        Column::left("SINCE (UTC)", 19),
        Column::right("BYTES", 8),
        Column::left("HASH", HASH_CHARS),
    ]);
    let plain = |text: String| (text, Tone::Plain);
    for entry in entries {
        let time: String = entry.time.chars().take(19).collect();
        table.row([
            plain(entry.goal.to_string()),
            plain(entry.version.to_string()),
            plain(time.replace('T', " ")),
            plain(entry.bytes.to_string()),
            plain(entry.hash.chars().take(HASH_CHARS).collect()),
        ]);
    }
    table.render(0, width, paint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(goal: &str, version: u64) -> Entry {
        Entry {
            agent: AgentName::new("research_agent").unwrap(),
            goal: GoalId::new(goal).unwrap(),
            version,
            time: "2026-03-18T10:15:30.123456Z".into(),
            hash: "0123456789abcdef".into(),
            bytes: 1_234,
            text: Some("# research_agent\n".into()),
        }
    }

    fn args(goal: Option<&str>) -> Args {
        Args {
            agent: AgentName::new("research_agent").unwrap(),
            goal: goal.map(|goal| GoalId::new(goal).unwrap()),
            show: None,
            output: Output { format: crate::cli::args::Format::Text },
        }
    }

    #[test]
    fn history_should_say_since_when_each_version_counted() {
        let entries = [entry("goal-001", 2), entry("goal-001", 1)];
        let shown = text(&entries, &args(None).agent, 80, Paint { on: false });
        insta::assert_snapshot!(shown, @r"
        GOAL      VERSION  SINCE (UTC)          BYTES  HASH
        goal-001        2  2026-03-18 10:15:30   1234  0123456789ab
        goal-001        1  2026-03-18 10:15:30   1234  0123456789ab
        ");
        let none = text(&[], &args(None).agent, 80, Paint { on: false });
        assert!(none.starts_with("nothing that research_agent was told is recorded"), "{none}");
    }

    #[test]
    fn version_should_be_found_or_explained() {
        let entries = || vec![entry("a", 2), entry("a", 1), entry("b", 1)];
        assert_eq!(chosen(entries(), &args(None), 2).unwrap(), entry("a", 2));
        let said = |version| chosen(entries(), &args(None), version).unwrap_err().to_string();
        assert!(said(1).contains("--goal: a, b"), "{}", said(1));
        assert!(said(7).contains("there are 1, 2"), "{}", said(7));
    }
}
