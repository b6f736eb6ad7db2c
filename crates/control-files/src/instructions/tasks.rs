//! The pinned tasks of a goal, one list item each:
//!
//! ```text
//! - <id>: <title> (after: a, b; priority: 5; ..) -> artifact, artifact
//! ```
//!
//! with, nested in the item, a `sh` block to run, a list of options for what the
//! parentheses cannot hold, and notes.

use std::ops::Range;

use model::{Role, TaskId, TaskSpec};

use super::Context;
use super::blocks::{Block, Kind};
use super::inline::{self, Head};
use super::settings::{self, Setting, Spot};

/// What a task's notes are called in its metadata.
const NOTES: &str = "notes";
/// The most artifacts of one task.
const MAX_ARTIFACTS: usize = 1_000;

/// A task as written: what it does not say is not filled in yet.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) spec: TaskSpec,
    pub(super) priority: Option<u32>,
    pub(super) after: Vec<(TaskId, Range<usize>)>,
    /// Where its id stands.
    pub(super) at: Range<usize>,
    /// Where its role stands.
    pub(super) role_at: Option<Range<usize>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Key {
    After,
    Priority,
    Role,
    Verify,
    Timeout,
    MaxAttempts,
    Artifacts,
    Budget,
}

const KEYS: &[(&str, Key)] = &[
    ("after", Key::After),
    ("priority", Key::Priority),
    ("role", Key::Role),
    ("verify", Key::Verify),
    ("timeout", Key::Timeout),
    ("max attempts", Key::MaxAttempts),
    ("artifacts", Key::Artifacts),
    ("budget", Key::Budget),
];

/// The options' names, for telling a group of options from a plain parenthesis.
pub(super) fn option_names() -> impl Iterator<Item = &'static str> + Clone {
    KEYS.iter().map(|(name, _)| *name)
}

/// What stands under a `Tasks` heading.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// The tasks without fault of their own.
    pub(super) tasks: Vec<Task>,
    /// Whether there were others.
    pub(super) faulty: bool,
}

/// All tasks of the blocks under a `Tasks` heading; what is wrong is reported.
pub(super) fn read(context: &mut Context<'_>, blocks: &[&Block]) -> Written {
    let errors = context.errors();
    let mut tasks = Vec::new();
    for block in blocks {
        match &block.kind {
            Kind::List => {
                let items = block.children.iter().filter(|item| item.kind == Kind::Item);
                tasks.extend(items.filter_map(|item| task(context, item)));
            }
            Kind::Code(_) => context.error(
                &block.range,
                "this block belongs to no task",
                Some("indent it, fences included, to where its task's text begins".to_owned()),
            ),
            Kind::Heading(_) | Kind::Paragraph | Kind::Item | Kind::Html | Kind::Other => {}
        }
    }
    Written { tasks, faulty: context.errors() > errors }
}

fn task(context: &mut Context<'_>, item: &Block) -> Option<Task> {
    let (head, rest) = item.head();
    let head = head.unwrap_or_else(|| item.range.clone());
    let Head { id, title, mut options, artifacts } = inline::head(context, &head)?;
    let at = id.range.clone();
    let id = settings::value(context, "task id", &id, short_id);
    for list in rest.iter().filter(|block| block.kind == Kind::List) {
        options.extend(nested_options(context, list));
    }
    let errors = context.errors();
    let (sorted, _) = settings::sort(context, options, KEYS, Some(Key::Verify));
    let id = id?;
    let title = if title.is_empty() { id.to_string() } else { title };
    let mut spec = TaskSpec::new(id, title);
    spec.run = script(context, rest);
    if let Some(notes) = notes(context, rest) {
        spec.metadata.insert(NOTES.to_owned(), notes);
    }
    let mut task = Task { spec, priority: None, after: Vec::new(), at, role_at: None };
    add_artifacts(context, &mut task.spec, &artifacts);
    for (key, setting) in sorted {
        apply(context, &mut task, key, &setting.value);
    }
    (context.errors() == errors).then_some(task)
}

fn short_id(text: &str) -> Result<TaskId, String> {
    let id = TaskId::new(text).map_err(|error| error.to_string())?;
    if id.is_plain() {
        return Ok(id);
    }
    Err(format!("a task id may have at most {} characters", model::id::MAX_ID_BYTES))
}

fn apply(context: &mut Context<'_>, task: &mut Task, key: Key, spot: &Spot) {
    match key {
        Key::After => {
            for part in inline::parts(context, spot) {
                if let Some(id) = settings::value(context, "after", &part, short_id) {
                    task.after.push((id, part.range));
                }
            }
        }
        Key::Priority => {
            task.priority = settings::value(context, "priority", spot, settings::priority);
        }
        Key::Role => {
            task.spec.role = settings::value(context, "role", spot, str::parse::<Role>);
            task.role_at = Some(spot.range.clone());
        }
        Key::Verify => {
            let whole = |text: &str| Ok::<_, String>(text.to_owned());
            task.spec.verify.extend(settings::value(context, "verify", spot, whole));
        }
        Key::Timeout => {
            task.spec.timeout_secs =
                settings::value(context, "timeout", spot, settings::timeout_secs);
        }
        Key::MaxAttempts => {
            task.spec.max_attempts =
                settings::value(context, "max attempts", spot, settings::max_attempts);
        }
        Key::Budget => {
            task.spec.budget_micros = settings::value(context, "budget", spot, settings::budget);
        }
        Key::Artifacts => {
            let parts = inline::parts(context, spot);
            add_artifacts(context, &mut task.spec, &parts);
        }
    }
}

fn add_artifacts(context: &mut Context<'_>, spec: &mut TaskSpec, spots: &[Spot]) {
    if let Some(extra) = spots.get(MAX_ARTIFACTS) {
        let message = format!("a task may have at most {MAX_ARTIFACTS} artifacts");
        context.error(&extra.range, message, Some("split the task".to_owned()));
        return;
    }
    for spot in spots {
        if let Some(path) = settings::value(context, "artifact", spot, artifact)
            && !spec.expected_artifacts.contains(&path)
        {
            spec.expected_artifacts.push(path);
        }
    }
}

/// A relative path that stays where it begins, without `.` parts.
fn artifact(written: &str) -> Result<String, &'static str> {
    if written.starts_with('/') {
        return Err("an artifact lies in the goal's working folder: write a relative path");
    }
    if written.chars().any(char::is_control) {
        return Err("a path has no control characters");
    }
    let parts: Vec<&str> =
        written.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err("an artifact may not leave the goal's working folder: write a path without ..");
    }
    if parts.is_empty() {
        return Err("write the path of a file");
    }
    Ok(parts.join("/"))
}

/// `- verify: ..` and the like under a task. `verify` is taken as it stands.
fn nested_options(context: &mut Context<'_>, list: &Block) -> Vec<Setting> {
    let text = context.source.text();
    let mut found = Vec::new();
    for item in list.children.iter().filter(|item| item.kind == Kind::Item) {
        let range = item.head().0.unwrap_or_else(|| item.range.clone());
        let Some(mut setting) = settings::read(text, &range) else {
            let help = "write `- verify: <command>`, or notes as a paragraph".to_owned();
            context.warning(&range, "this item is no option of the task", Some(help));
            continue;
        };
        if setting.key == "verify" {
            setting.value = inline::command(text, &range);
        }
        found.push(setting);
    }
    found
}

fn script(context: &mut Context<'_>, blocks: &[Block]) -> Option<String> {
    let mut script: Option<String> = None;
    for block in blocks {
        let Some(code) = block.code() else { continue };
        if !code.fenced {
            continue;
        }
        match code.language.as_str() {
            "" | "sh" | "shell" => {}
            "bash" => context.warning(
                &block.range,
                "this block is run by sh, not by bash",
                Some(
                    "write `sh` after the fence, and call bash in it where it is needed".to_owned(),
                ),
            ),
            other => {
                let message = format!("a block of `{}` is not run", other.escape_debug());
                let help = "write `sh` after the fence, and call the program in it".to_owned();
                context.warning(&block.range, message, Some(help));
                continue;
            }
        }
        if !super::blocks::is_closed(&block.kind, context.source.slice(&block.range)) {
            let help = "end it with a line of its own with the same fence".to_owned();
            context.error(&block.range, "this block is never closed", Some(help));
        }
        if script.is_some() {
            let help = "put both into one block".to_owned();
            context.error(&block.range, "this task has a second block to run", Some(help));
        }
        script = Some(code.text.clone());
    }
    script.filter(|script| !script.trim().is_empty())
}

fn notes(context: &Context<'_>, blocks: &[Block]) -> Option<String> {
    let prose = blocks.iter().filter(|block| block.kind == Kind::Paragraph);
    let pieces: Vec<String> =
        prose.map(|block| settings::one_line(context.source.slice(&block.range))).collect();
    let notes = pieces.join("\n");
    (!notes.is_empty()).then_some(notes)
}
