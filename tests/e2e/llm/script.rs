//! What a scripted model is asked, and a fleet whose agents ask it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use serde_json::{Value, json};
use testkit::installed;
use testkit::{Call, LlmServer, Say};

use crate::support::{Builder, Fleet, fleet};

/// A program that asks a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cli {
    Claude,
    Codex,
}

impl Cli {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Codex => "codex",
        }
    }

    /// What lets its agents write files.
    pub(crate) const fn permissions(self) -> &'static str {
        match self {
            Self::Claude => "- Tools: Read, Write, Edit, Bash\n",
            Self::Codex => "- Permission mode: workspace-write\n",
        }
    }
}

/// What a call is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    Plan,
    Choose(Vec<String>),
    Do(String),
    SumUp,
    Review,
    Rescue,
    Other,
}

/// What `call` asks, told by the form of the answer that it wants.
pub(crate) fn asked(call: &Call) -> Asked {
    let wants = |field: &str| {
        call.schema.as_ref().is_some_and(|schema| schema["properties"].get(field).is_some())
    };
    match () {
        () if wants("nodes") => Asked::Plan,
        () if wants("selected_task_id") => Asked::Choose(offered(&call.text)),
        () if wants("follow_ups") => Asked::Do(task_of(&call.text)),
        () if wants("verdict") => Asked::Review,
        () if wants("remediation_title") => Asked::Rescue,
        () if wants("summary") => Asked::SumUp,
        () => Asked::Other,
    }
}

/// The task of a prompt to do one.
fn task_of(prompt: &str) -> String {
    let (_, rest) = prompt.split_once("## The task `").unwrap_or_default();
    rest.split_once('`').map(|(task, _)| task.to_owned()).unwrap_or_default()
}

fn offered(prompt: &str) -> Vec<String> {
    let lines = prompt.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter_map(|task| Some(task["id"].as_str()?.to_owned())).collect()
}

/// A plan: each task with what it waits for.
pub(crate) fn plan(tasks: &[(&str, &[&str])]) -> Value {
    let nodes: Vec<Value> = tasks
        .iter()
        .map(|(id, _)| {
            json!({ "id": id, "title": format!("Write {id}"), "description": null, "role": null,
                "priority": 10, "expected_artifacts": [format!("{id}.txt")] })
        })
        .collect();
    let edges: Vec<Value> = tasks
        .iter()
        .flat_map(|(id, after)| after.iter().map(move |dep| json!({"source": dep, "target": id})))
        .collect();
    json!({ "goal_id": "goal-001", "nodes": nodes, "edges": edges })
}

/// The answer to a task.
pub(crate) fn done(task: &str) -> Value {
    json!({ "status": "done", "notes": format!("wrote {task}.txt"), "follow_ups": [],
        "outputs": [{ "path": format!("{task}.txt"), "description": "what was asked for" }] })
}

/// The obedient answer to any call: plans `tasks`, writes what each task is to write,
/// and says so.
pub(crate) fn obey(call: &Call, tasks: &[(&str, &[&str])]) -> Say {
    match asked(call) {
        Asked::Plan => Say::json(plan(tasks)),
        Asked::Choose(offered) => Say::json(json!({
            "selected_task_id": offered.last(), "justification": "it is the last", "confidence": 0.9 })),
        Asked::Do(task) if call.round == 0 => {
            Say::write(format!("{task}.txt"), format!("this is {task}\n"))
        }
        Asked::Do(task) => Say::json(done(&task)),
        Asked::SumUp => Say::json(json!({ "summary": "Wrote what was asked for." })),
        Asked::Review => Say::json(json!({ "verdict": "pass", "findings": [] })),
        Asked::Rescue => Say::json(json!({ "recoverable": false, "reason": "no",
            "remediation_title": "", "remediation_steps": [], "confidence": 0.1 })),
        Asked::Other => Say::text("I was asked for nothing in particular."),
    }
}

/// Eight tasks, several of which can be done side by side.
pub(crate) const EIGHT: &[(&str, &[&str])] = &[
    ("t1", &[]),
    ("t2", &[]),
    ("t3", &["t1"]),
    ("t4", &["t1"]),
    ("t5", &["t2", "t3"]),
    ("t6", &["t4"]),
    ("t7", &["t5", "t6"]),
    ("t8", &["t7"]),
];

/// How often something happened, by name.
#[derive(Default)]
pub(crate) struct Tally(Mutex<BTreeMap<String, usize>>);

impl Tally {
    /// Counts one more. How many there were before.
    pub(crate) fn count(&self, what: impl Into<String>) -> usize {
        let mut counts = self.0.lock().unwrap();
        let count = counts.entry(what.into()).or_default();
        *count += 1;
        *count - 1
    }
}

/// INSTRUCTIONS.md with these agents on goal-001, and the goal in prose.
pub(crate) fn prose(cli: Cli, agents: &[&str], settings: &str) -> String {
    let mut text = String::from("## Agents\n");
    for agent in agents {
        text += &format!("\n### {agent}\n- Goal: goal-001\n{}", cli.permissions());
    }
    text + &format!(
        "\n## Goals\n\n### goal-001\nWrite some files, each with its name in it.\n\n{settings}\n"
    )
}

/// A fleet that asks `server` by `cli`; `None` where that is not installed.
pub(crate) fn thinking(cli: Cli, server: &LlmServer, instructions: String) -> Option<Builder> {
    let program: PathBuf = installed(cli.name())?;
    let variables = match cli {
        Cli::Claude => server.claude_env(),
        Cli::Codex => server.codex_env(),
    };
    let mut builder = fleet(instructions)
        .provider(cli.name())
        .env(&format!("ORCH_{}_CLI", cli.name().to_uppercase()), program.to_str()?);
    for (name, value) in &variables {
        builder = builder.env(name, value);
    }
    Some(builder)
}

/// Writes and starts it.
pub(crate) async fn start(cli: Cli, server: &LlmServer, builder: Builder) -> Fleet {
    let fleet = builder.write().await;
    if cli == Cli::Codex {
        server.write_codex_home(fleet.project.home());
    }
    fleet.project.start();
    fleet
}

/// The calls of `server` that asked for this.
pub(crate) fn calls_for(server: &LlmServer, wanted: &Asked) -> Vec<Call> {
    server.calls().into_iter().filter(|call| asked(call) == *wanted).collect()
}
