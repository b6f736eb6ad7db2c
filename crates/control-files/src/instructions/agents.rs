//! One agent: from its settings to what the rest of the program uses.

use std::ops::Range;
use std::path::{Path, PathBuf};

use model::agent::LogLevel;
use model::{AgentName, AgentSpec, GoalId, Role};

use super::Context;
use super::blocks::{Block, Kind};
use super::permissions;
use super::settings::{self, Setting, Spot};
use crate::directives::ack_path;
use crate::read::resolve;

/// An agent as written, in either form.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) name: Spot,
    pub(super) settings: Vec<Setting>,
}

/// An agent without fault of its own; whether its goal exists is seen later.
#[derive(Debug)]
pub(super) struct Agent {
    /// Its fingerprint is made last.
    pub(super) spec: AgentSpec,
    pub(super) name_at: Range<usize>,
    pub(super) goal_at: Range<usize>,
    /// Where its instructions are named, if they are.
    pub(super) instructions_at: Option<Range<usize>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Key {
    Goal,
    Heartbeat,
    LogLevel,
    Role,
    Instructions,
    Cadence,
    Provider,
    Model,
    Tools,
    PermissionMode,
    Environment,
}

const KEYS: &[(&str, Key)] = &[
    ("goal", Key::Goal),
    ("goal id", Key::Goal),
    ("heartbeat", Key::Heartbeat),
    ("log level", Key::LogLevel),
    ("role", Key::Role),
    ("instructions", Key::Instructions),
    ("cadence", Key::Cadence),
    ("provider", Key::Provider),
    ("model", Key::Model),
    (TOOLS, Key::Tools),
    ("permission mode", Key::PermissionMode),
    (ENVIRONMENT, Key::Environment),
];
const TOOLS: &str = "tools";
const ENVIRONMENT: &str = "environment";

/// Whether the value of `key` may be a list in YAML.
pub(super) fn takes_list(key: &str) -> bool {
    key == TOOLS || key == ENVIRONMENT
}

/// The agent that a heading of the seed's form and the blocks under it declare.
pub(super) fn from_section(context: &mut Context<'_>, name: Spot, blocks: &[&Block]) -> Raw {
    let text = context.source.text();
    let mut found = Vec::new();
    // A deeper heading begins notes, whose lists are prose.
    let own = blocks.iter().take_while(|block| !matches!(block.kind, Kind::Heading(_)));
    for list in own.filter(|block| block.kind == Kind::List) {
        for setting in settings::of_list(text, list) {
            match setting {
                Ok(setting) => found.push(setting),
                Err(range) => context.warning(
                    &range,
                    "this item has no effect: it is not of the form `Key: value`",
                    Some("write for example `- Goal: goal-001`, or make it a paragraph".to_owned()),
                ),
            }
        }
    }
    report_deep_agents(context, blocks);
    Raw { name, settings: found }
}

/// An agent whose heading is a level too deep would vanish into the notes of the
/// one before it.
fn report_deep_agents(context: &mut Context<'_>, blocks: &[&Block]) {
    let text = context.source.text();
    for pair in blocks.windows(2) {
        let [heading, list] = pair else { continue };
        let names_goal = |list: &Block| {
            let mut settings = settings::of_list(text, list).into_iter().flatten();
            settings.any(|setting| matches!(setting.key.as_str(), "goal" | "goal id"))
        };
        if matches!(heading.kind, Kind::Heading(_)) && list.kind == Kind::List && names_goal(list) {
            let help = "write it as `### <agent>`".to_owned();
            context.error(
                &heading.range,
                "a heading of this level declares no agent, but a list under it names a goal",
                Some(help),
            );
        }
    }
}

/// Checks all of `raw`; `None` where anything is wrong.
pub(super) fn check(context: &mut Context<'_>, name: AgentName, raw: Raw) -> Option<Agent> {
    let errors = context.errors();
    let (sorted, _) = settings::sort(context, raw.settings, KEYS, None);
    let setting = |key| sorted.iter().find(|(have, _)| *have == key).map(|(_, setting)| setting);
    let get = |key| setting(key).map(|setting| &setting.value);
    let name_at = raw.name.range;

    let goal = goal(context, &name, &name_at, get(Key::Goal));
    let heartbeat = path(context, &name, &name_at, "heartbeat", get(Key::Heartbeat));
    let instructions = path(context, &name, &name_at, "instructions", get(Key::Instructions));
    if let (Some(heartbeat), Some(instructions)) = (&heartbeat, &instructions) {
        let at = get(Key::Heartbeat).map_or(&name_at, |spot| &spot.range);
        check_heartbeat(context, at, heartbeat, instructions);
    }
    let log_level = optional(context, "log level", get(Key::LogLevel), str::parse::<LogLevel>);
    let role = optional(context, "role", get(Key::Role), str::parse::<Role>);
    let cadence = optional(context, "cadence", get(Key::Cadence), settings::duration);
    let provider = optional(context, "provider", get(Key::Provider), settings::provider);
    let model = optional(context, "model", get(Key::Model), settings::name);
    let tools = setting(Key::Tools).map(|setting| permissions::tools(context, setting));
    let permission_mode =
        get(Key::PermissionMode).and_then(|spot| permissions::mode(context, spot, provider));
    let environment =
        setting(Key::Environment).map(|setting| permissions::environment(context, setting));
    if context.errors() > errors {
        return None;
    }
    let spec = AgentSpec {
        goal: goal?,
        role: role.unwrap_or_else(|| name.default_role()),
        name,
        heartbeat: heartbeat?,
        instructions: instructions?,
        log_level: log_level.unwrap_or_default(),
        cadence,
        provider,
        model,
        tools: tools.unwrap_or_default(),
        permission_mode,
        environment: environment.unwrap_or_default(),
        spec_hash: String::new(),
    };
    let goal_at = get(Key::Goal).map_or_else(|| name_at.clone(), |spot| spot.range.clone());
    let instructions_at = get(Key::Instructions).map(|spot| spot.range.clone());
    Some(Agent { spec, name_at, goal_at, instructions_at })
}

fn optional<T, E: std::fmt::Display>(
    context: &mut Context<'_>,
    name: &str,
    spot: Option<&Spot>,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Option<T> {
    spot.and_then(|spot| settings::value(context, name, spot, parse))
}

fn goal(
    context: &mut Context<'_>,
    name: &AgentName,
    name_at: &Range<usize>,
    spot: Option<&Spot>,
) -> Option<GoalId> {
    let Some(spot) = spot else {
        let help =
            "add `- Goal: <goal id>` under its heading; in YAML, `goal: <goal id>`".to_owned();
        context.error(name_at, format!("the agent `{name}` names no goal"), Some(help));
        return None;
    };
    settings::value(context, "goal", spot, str::parse::<GoalId>)
}

/// A path as written, or the one that convention gives.
fn path(
    context: &mut Context<'_>,
    name: &AgentName,
    name_at: &Range<usize>,
    key: &str,
    spot: Option<&Spot>,
) -> Option<PathBuf> {
    let (root, base) = (context.root.to_owned(), context.base.clone());
    let resolve = |written: &str| resolve(&root, &base, written);
    match spot {
        Some(spot) => settings::value(context, key, spot, resolve),
        None => {
            let convention = format!("{key}/{name}.md");
            match resolve(&convention) {
                Ok(path) => Some(path),
                Err(error) => {
                    let message = format!("the agent `{name}` can have no `{convention}`");
                    context.error(name_at, message, Some(error.to_string()));
                    None
                }
            }
        }
    }
}

/// A heartbeat file is read for directives and answered beside it: no other
/// control file may be used as one.
fn check_heartbeat(
    context: &mut Context<'_>,
    at: &Range<usize>,
    heartbeat: &Path,
    instructions: &Path,
) {
    let help =
        || Some("give the heartbeat a file of its own, as `./heartbeat/<agent>.md`".to_owned());
    let name = heartbeat.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if name.ends_with(".ack.md") {
        let message = format!("`{name}` is the name of a file of answers, which orch overwrites");
        context.error(at, message, help());
    }
    let answers = ack_path(heartbeat);
    for (other, what) in
        [(&context.file.clone(), "this file"), (&instructions.to_owned(), "its instructions")]
    {
        if heartbeat == other {
            context.error(at, format!("the heartbeat is the same file as {what}"), help());
        } else if answers == *other {
            let message = format!("the answers to this heartbeat would overwrite {what}");
            context.error(at, message, help());
        }
    }
}
