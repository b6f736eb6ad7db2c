//! What the declarations say about each other: duplicates, goals without text,
//! roles without agents; and the finished declarations.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;

use model::review::{MANAGER, Stage, is_reviewed};
use model::{AgentName, GoalId, GoalSpec, Provider};

use super::agents::{self, Agent};
use super::goals::{self, Goal};
use super::sections::Written;
use super::settings::{self, Spot};
use super::{Context, Parsed, fingerprint};
use crate::read;
use crate::suggest::nearest;

/// How many goals' ids a wrong one is compared with, for a file can have very many.
const COMPARED_IDS: usize = 1_000;

/// Checks everything in `written` and fills in what `parsed` declares.
pub(super) fn declare(context: &mut Context<'_>, written: Written, parsed: &mut Parsed) {
    let mut agents = check_agents(context, written.agents, parsed);
    let mut goals = check_goals(context, written.goals, parsed);
    give_text(context, &mut agents, &mut goals, parsed);
    report_missing_instructions(context, &agents);
    report_shared_heartbeats(context, &agents);
    let mut roles: BTreeMap<&GoalId, BTreeSet<&str>> = BTreeMap::new();
    for Agent { spec, .. } in &agents {
        roles.entry(&spec.goal).or_default().insert(spec.role.as_str());
    }
    for goal in &goals {
        let roles = roles.get(&goal.spec.id);
        report_roles(context, goal, roles.unwrap_or(&BTreeSet::new()), parsed);
    }
    for agent in agents {
        let mut spec = agent.spec;
        fingerprint::seal_agent(&mut spec);
        parsed.declared.agents.insert(spec.name.clone(), spec);
    }
    for goal in goals {
        let mut spec = goal.spec;
        if spec.title.is_empty() {
            spec.title = goals::title_of(&spec.text).unwrap_or_else(|| spec.id.to_string());
        }
        fingerprint::seal_goal(&mut spec);
        parsed.declared.goals.insert(spec.id.clone(), spec);
    }
}

/// The agents without fault, in the order of the file.
fn check_agents(
    context: &mut Context<'_>,
    raws: Vec<agents::Raw>,
    parsed: &mut Parsed,
) -> Vec<Agent> {
    let mut first: BTreeMap<AgentName, Range<usize>> = BTreeMap::new();
    let mut agents = Vec::new();
    for raw in raws {
        let Some(name) = settings::value(context, "agent name", &raw.name, str::parse::<AgentName>)
        else {
            continue;
        };
        if is_second(context, "agent", &name, &raw.name, &mut first) {
            parsed.broken.agents.insert(name);
            continue;
        }
        match agents::check(context, name.clone(), raw) {
            Some(agent) => agents.push(agent),
            None => drop(parsed.broken.agents.insert(name)),
        }
    }
    agents.retain(|agent| !parsed.broken.agents.contains(&agent.spec.name));
    agents
}

/// The goals without fault, in the order of the file.
fn check_goals(
    context: &mut Context<'_>,
    raws: Vec<super::sections::RawGoal>,
    parsed: &mut Parsed,
) -> Vec<Goal> {
    let mut first: BTreeMap<GoalId, Range<usize>> = BTreeMap::new();
    let mut goals = Vec::new();
    for raw in raws {
        let Some(id) = settings::value(context, "goal id", &raw.id, str::parse::<GoalId>) else {
            continue;
        };
        if is_second(context, "goal", &id, &raw.id, &mut first) {
            parsed.broken.goals.insert(id);
            continue;
        }
        let blocks: Vec<_> = raw.blocks.iter().collect();
        match goals::check(context, id.clone(), &raw.id.range, raw.title, &blocks) {
            Some(goal) => goals.push(goal),
            None => drop(parsed.broken.goals.insert(id)),
        }
    }
    goals.retain(|goal| !parsed.broken.goals.contains(&goal.spec.id));
    goals
}

/// Reports `id` where it was declared before: neither of the two can be taken.
fn is_second<I: Ord + Clone + std::fmt::Display>(
    context: &mut Context<'_>,
    what: &str,
    id: &I,
    spot: &Spot,
    first: &mut BTreeMap<I, Range<usize>>,
) -> bool {
    match first.entry(id.clone()) {
        Entry::Vacant(vacant) => {
            vacant.insert(spot.range.clone());
            false
        }
        Entry::Occupied(first) => {
            let line = context.source.line_of(first.get().start);
            let message =
                format!("the {what} `{id}` is declared twice; the first is at line {line}");
            let help = "rename or remove one of the two; neither counts until then";
            context.error(&spot.range, message, Some(help.to_owned()));
            true
        }
    }
}

/// Goals without prose of their own get it from the instructions of an agent.
/// An agent of a goal that has neither is left out.
fn give_text(
    context: &mut Context<'_>,
    agents: &mut Vec<Agent>,
    goals: &mut Vec<Goal>,
    parsed: &mut Parsed,
) {
    let sources = text_sources(agents);
    let is_planned =
        |goal: &GoalSpec| Provider::ALL.iter().all(|provider| goal.plan_for(*provider).is_some());
    for goal in goals.iter_mut().filter(|goal| goal.spec.text.is_empty() && !is_planned(&goal.spec))
    {
        match text_of(context, sources.get(&goal.spec.id), parsed) {
            Some(text) => goal.spec.text = text,
            None => {
                let message = format!("the goal `{}` has no text", goal.spec.id);
                let help = "say below its heading what is wanted, or pin `#### Tasks`".to_owned();
                context.warning(&goal.at, message, Some(help));
            }
        }
    }
    let known: BTreeSet<GoalId> =
        goals.iter().map(|goal| &goal.spec.id).chain(&parsed.broken.goals).cloned().collect();
    let mut named: BTreeMap<GoalId, Range<usize>> = BTreeMap::new();
    for agent in agents.iter().filter(|agent| !known.contains(&agent.spec.goal)) {
        named.entry(agent.spec.goal.clone()).or_insert_with(|| agent.goal_at.clone());
    }
    let mut missing = BTreeSet::new();
    for (id, at) in named {
        match text_of(context, sources.get(&id), parsed) {
            Some(text) => {
                let spec = GoalSpec { text, ..GoalSpec::new(id) };
                goals.push(Goal { spec, at, roles_at: Vec::new() });
            }
            None => drop(missing.insert(id)),
        }
    }
    for agent in agents.iter().filter(|agent| missing.contains(&agent.spec.goal)) {
        let id = &agent.spec.goal;
        let ids = known.iter().take(COMPARED_IDS).map(GoalId::as_str);
        let near = if context.is_full() { None } else { nearest(id.as_str(), ids) };
        let help = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("write `### {id}` under `## Goals`, or what is wanted into `{}`", {
                let source = sources.get(id).copied().unwrap_or(agent);
                let path = &source.spec.instructions;
                path.strip_prefix(&context.root).unwrap_or(path).display()
            }),
        };
        let message = format!("there is no goal `{id}`");
        context.error(&agent.goal_at, message, Some(help));
        parsed.broken.agents.insert(agent.spec.name.clone());
    }
    agents.retain(|agent| !missing.contains(&agent.spec.goal));
}

/// By goal, the agent whose instructions say what a goal without text is: its manager,
/// else its first agent.
fn text_sources(agents: &[Agent]) -> BTreeMap<GoalId, &Agent> {
    let mut sources: BTreeMap<GoalId, &Agent> = BTreeMap::new();
    let is_manager = |agent: &Agent| agent.spec.role.as_str() == MANAGER;
    for agent in agents {
        let source = sources.entry(agent.spec.goal.clone()).or_insert(agent);
        if is_manager(agent) && !is_manager(source) {
            *source = agent;
        }
    }
    sources
}

/// The instructions of `source`.
fn text_of(
    context: &mut Context<'_>,
    source: Option<&&Agent>,
    parsed: &mut Parsed,
) -> Option<String> {
    let agent = source?;
    let path = &agent.spec.instructions;
    parsed.reads.insert(path.clone());
    match read::read(&context.root, path) {
        Ok(text) if text.trim().is_empty() => None,
        Ok(text) => Some(text.trim().to_owned()),
        Err(read::Error::NotFound(_)) => None,
        Err(error) => {
            let at = agent.instructions_at.as_ref().unwrap_or(&agent.name_at);
            let message = format!("the instructions of `{}` cannot be read", agent.spec.name);
            context.warning(&at.clone(), message, Some(error.to_string()));
            None
        }
    }
}

fn report_missing_instructions(context: &mut Context<'_>, agents: &[Agent]) {
    for agent in agents {
        let Some(at) = &agent.instructions_at else { continue };
        if !agent.spec.instructions.exists() {
            let shown = agent.spec.instructions.strip_prefix(&context.root);
            let shown = shown.unwrap_or(&agent.spec.instructions).display().to_string();
            let help = format!("create `{shown}`, or correct the path");
            context.warning(at, "these instructions do not exist", Some(help));
        }
    }
}

fn report_shared_heartbeats(context: &mut Context<'_>, agents: &[Agent]) {
    let mut first: BTreeMap<&PathBuf, &AgentName> = BTreeMap::new();
    for agent in agents {
        let name = &agent.spec.name;
        match first.entry(&agent.spec.heartbeat) {
            Entry::Vacant(vacant) => drop(vacant.insert(name)),
            Entry::Occupied(other) => {
                let message = format!("`{name}` has the same heartbeat file as `{}`", other.get());
                let help =
                    "each directive in it goes to both; give each its own to tell them apart";
                context.warning(&agent.name_at, message, Some(help.to_owned()));
            }
        }
    }
}

/// `roles` are those of the goal's agents.
fn report_roles(context: &mut Context<'_>, goal: &Goal, roles: &BTreeSet<&str>, parsed: &Parsed) {
    let id = &goal.spec.id;
    if roles.is_empty() {
        // An agent in error may be the one that is missing here.
        if parsed.broken.agents.is_empty() {
            let message = format!("no agent takes the goal `{id}`: its tasks will wait");
            let help = format!("give an agent `- Goal: {id}`");
            context.warning(&goal.at, message, Some(help));
        }
        return;
    }
    let have = roles.iter().copied().collect::<Vec<_>>().join(", ");
    let pinned = goal.spec.tasks.as_deref();
    // What a model plans may well have a builder's task.
    let reviews = goal.spec.review
        && (goal.spec.tasks_are_fallback
            || pinned.is_none_or(|tasks| tasks.iter().any(|task| is_reviewed(&task.spec))));
    let missing = |stage: &Stage| reviews && !roles.contains(stage.role());
    for stage in Stage::ALL.into_iter().filter(missing) {
        let message = format!(
            "`{id}` is reviewed, but no agent of it has the role `{}`: builders' tasks will wait",
            stage.role()
        );
        context.warning(&goal.at, message, Some(format!("its agents have: {have}")));
    }
    let tasks = pinned.unwrap_or_default();
    for (position, at) in &goal.roles_at {
        let Some(role) = tasks.get(*position).and_then(|task| task.spec.role.as_ref()) else {
            continue;
        };
        if roles.contains(role.as_str()) {
            continue;
        }
        let message =
            format!("no agent of the goal `{id}` has the role `{role}`: this task will wait");
        context.warning(at, message, Some(format!("its agents have: {have}")));
    }
}
