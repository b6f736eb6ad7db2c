//! One goal: its prose, its settings and its pinned plan.

use std::ops::Range;

use model::goal::PinnedTask;
use model::{GoalId, GoalSpec};

use super::Context;
use super::blocks::{Block, Kind};
use super::settings::{self, Setting, Spot};
use super::{plan, tasks};
use crate::read::resolve;
use crate::suggest::nearest;

/// The longest title taken from a goal's text.
const TITLE_CHARS: usize = 100;
/// The level of the headings within a goal's section.
const PART_LEVEL: usize = 4;
/// The heading of a plan that a person pins.
const TASKS: &str = "tasks";
/// The same for a plan that counts only where there is no model to make one.
const FALLBACK_TASKS: &str = "tasks without a model";

/// A goal without fault; its text may still come from elsewhere.
#[derive(Debug)]
pub(super) struct Goal {
    /// Its fingerprint is made last; its title may be empty until then.
    pub(super) spec: GoalSpec,
    pub(super) at: Range<usize>,
    /// Where each role that a task asks for is written.
    pub(super) roles_at: Vec<(usize, Range<usize>)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Key {
    Priority,
    MaxAttempts,
    Timeout,
    Folder,
    Provider,
    Model,
    Budget,
    Review,
}

const KEYS: &[(&str, Key)] = &[
    ("priority", Key::Priority),
    ("max attempts", Key::MaxAttempts),
    ("timeout", Key::Timeout),
    ("folder", Key::Folder),
    ("provider", Key::Provider),
    ("model", Key::Model),
    ("budget", Key::Budget),
    ("review", Key::Review),
];

/// The blocks of a goal's section, told apart.
#[derive(Default)]
struct Parts<'b> {
    prose: Vec<&'b Block>,
    settings: Vec<&'b Block>,
    /// The heading and what stands under it.
    tasks: Option<(Range<usize>, Vec<&'b Block>)>,
    tasks_are_fallback: bool,
}

/// The id and the title of a goal's heading: `goal-001` or `goal-001: Title`.
pub(super) fn heading(context: &Context<'_>, range: &Range<usize>) -> (Spot, String) {
    let text = context.source.text();
    let colon = context.source.slice(range).find(':').map(|at| range.start + at);
    let id = settings::clean_id(text, &(range.start..colon.unwrap_or(range.end)));
    let title = colon.map_or_else(String::new, |at| {
        settings::one_line(context.source.slice(&(at + 1..range.end)))
    });
    (id, title)
}

/// Checks the section of the goal `id`; `None` where anything is wrong.
pub(super) fn check(
    context: &mut Context<'_>,
    id: GoalId,
    at: &Range<usize>,
    title: String,
    blocks: &[&Block],
) -> Option<Goal> {
    let errors = context.errors();
    let parts = parts(context, blocks);
    let settings = settings_of(context, &parts.settings);
    let (sorted, _) = settings::sort(context, settings, KEYS, None);
    let get = |key| sorted.iter().find(|(have, _)| *have == key).map(|(_, setting)| &setting.value);

    let mut spec = GoalSpec::new(id);
    spec.title = title;
    spec.text = prose(context, &parts.prose);
    if let Some(spot) = get(Key::Priority) {
        spec.priority =
            settings::value(context, "priority", spot, settings::priority).unwrap_or_default();
    }
    if let Some(spot) = get(Key::MaxAttempts) {
        spec.max_attempts = settings::value(context, "max attempts", spot, settings::max_attempts);
    }
    if let Some(spot) = get(Key::Timeout) {
        spec.timeout_secs = settings::value(context, "timeout", spot, settings::timeout_secs);
    }
    if let Some(spot) = get(Key::Folder) {
        spec.folder = folder(context, spot);
    }
    if let Some(spot) = get(Key::Provider) {
        spec.provider = settings::value(context, "provider", spot, settings::provider);
    }
    if let Some(spot) = get(Key::Model) {
        spec.model = settings::value(context, "model", spot, settings::name);
    }
    if let Some(spot) = get(Key::Budget) {
        spec.budget_micros = settings::value(context, "budget", spot, settings::budget);
    }
    if let Some(spot) = get(Key::Review) {
        spec.review =
            settings::value(context, "review", spot, settings::switch).unwrap_or_default();
    }
    spec.tasks_are_fallback = parts.tasks_are_fallback;
    let mut roles_at = Vec::new();
    if let Some((heading, blocks)) = parts.tasks {
        let written = tasks::read(context, &blocks);
        if let Some(pinned) = plan::check(context, &heading, written, spec.review, &mut roles_at) {
            spec.tasks = Some(pinned.into_iter().map(|task| inherit(task, &spec)).collect());
        }
    }
    (context.errors() == errors).then(|| Goal { spec, at: at.clone(), roles_at })
}

/// What a task does not say itself, its goal says.
fn inherit(task: tasks::Task, goal: &GoalSpec) -> PinnedTask {
    let tasks::Task { mut spec, after, priority, .. } = task;
    spec.priority = priority.unwrap_or(goal.priority);
    spec.timeout_secs = spec.timeout_secs.or(goal.timeout_secs);
    spec.max_attempts = spec.max_attempts.or(goal.max_attempts);
    spec.folder.clone_from(&goal.folder);
    let mut after: Vec<_> = after.into_iter().map(|(id, _)| id).collect();
    // They were collected where they stood, beside their places in the text.
    after.shrink_to_fit();
    PinnedTask { spec, after }
}

fn parts<'b>(context: &mut Context<'_>, blocks: &[&'b Block]) -> Parts<'b> {
    let mut parts = Parts::default();
    let mut in_tasks = false;
    for block in blocks {
        if let Kind::Heading(PART_LEVEL) = block.kind {
            let range = block.inline.clone().unwrap_or_else(|| block.range.clone());
            let name = settings::normal_key(context.source.slice(&range).trim_end_matches(':'));
            in_tasks = name == TASKS || name == FALLBACK_TASKS;
            if in_tasks {
                begin_tasks(context, &mut parts, range, name == FALLBACK_TASKS);
                continue;
            }
            let help = match nearest(&name, [TASKS, FALLBACK_TASKS]) {
                Some(FALLBACK_TASKS) => {
                    "to pin a plan for runs without a model, write `#### Tasks without a model`"
                }
                Some(_) => "to pin the plan, write `#### Tasks`",
                None => "",
            };
            if !help.is_empty() {
                context.warning(&range, "this part is taken for prose", Some(help.to_owned()));
            }
        }
        match (&mut parts.tasks, &block.kind) {
            (Some((_, tasks)), _) if in_tasks => tasks.push(block),
            (_, Kind::List) if is_settings(context.source.text(), block) => {
                parts.settings.push(block);
            }
            (_, Kind::Html) => {}
            _ => parts.prose.push(block),
        }
    }
    parts
}

/// Takes what follows for the tasks of the goal, where it has none yet.
fn begin_tasks(
    context: &mut Context<'_>,
    parts: &mut Parts<'_>,
    heading: Range<usize>,
    are_fallback: bool,
) {
    if parts.tasks.is_some() {
        let help = if parts.tasks_are_fallback == are_fallback {
            "put all tasks of the goal under one heading"
        } else {
            "`#### Tasks` is the plan always, `#### Tasks without a model` only where no model can \
             be asked: keep one of the two"
        };
        context.error(&heading, "this goal has a second list of tasks", Some(help.to_owned()));
        return;
    }
    parts.tasks = Some((heading, Vec::new()));
    parts.tasks_are_fallback = are_fallback;
}

/// A list is one of settings when some item has a known key; or when all items
/// look like settings and one key is nearly known. Any other list is prose.
fn is_settings(text: &str, list: &Block) -> bool {
    let items = settings::of_list(text, list);
    let known = |setting: &Setting| KEYS.iter().any(|(name, _)| *name == setting.key);
    let near =
        |setting: &Setting| nearest(&setting.key, KEYS.iter().map(|(name, _)| *name)).is_some();
    items.iter().flatten().any(known)
        || (items.iter().all(Result::is_ok) && items.iter().flatten().any(near))
}

fn settings_of(context: &mut Context<'_>, lists: &[&Block]) -> Vec<Setting> {
    let text = context.source.text();
    let mut found = Vec::new();
    for list in lists {
        for item in settings::of_list(text, list) {
            match item {
                Ok(setting) => found.push(setting),
                Err(range) => context.warning(
                    &range,
                    "this item is lost among the settings: it is not of the form `Key: value`",
                    Some("put prose into a paragraph or list of its own".to_owned()),
                ),
            }
        }
    }
    found
}

/// The prose as it stands, so that nothing of it is lost for a planner; only
/// line ends and the space between blocks are made regular.
fn prose(context: &Context<'_>, blocks: &[&Block]) -> String {
    let piece = |block: &&Block| {
        let lines = context.source.slice(&block.range).trim_end().lines();
        lines.map(str::trim_end).collect::<Vec<_>>().join("\n")
    };
    let pieces: Vec<String> = blocks.iter().map(piece).filter(|piece| !piece.is_empty()).collect();
    pieces.join("\n\n")
}

fn folder(context: &mut Context<'_>, spot: &Spot) -> Option<String> {
    let (root, base) = (context.root.to_owned(), context.base.clone());
    let path = settings::value(context, "folder", spot, |written| resolve(&root, &base, written))?;
    let relative = path.strip_prefix(&context.root).unwrap_or(&path).to_string_lossy().into_owned();
    Some(if relative.is_empty() { ".".to_owned() } else { relative })
}

/// One line for people from a text: its first one, without heading marks.
pub(super) fn title_of(text: &str) -> Option<String> {
    let lines = text.lines().map(|line| line.trim().trim_start_matches('#').trim());
    let line = lines.into_iter().find(|line| line.chars().any(char::is_alphanumeric))?;
    let mut title: String = line.chars().take(TITLE_CHARS).collect();
    if line.chars().nth(TITLE_CHARS).is_some() {
        title.push('…');
    }
    Some(title)
}
