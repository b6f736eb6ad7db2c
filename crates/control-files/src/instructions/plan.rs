//! The pinned tasks of one goal taken together: ids, what waits for what, and
//! that it ends.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use model::review::with_review;
use model::{Dag, TaskId, TaskSpec, dag, review};

use super::Context;
use super::tasks::{Task, Written};
use crate::suggest::nearest;

/// How many ids a wrong one is compared with, for a plan can have very many.
const COMPARED_IDS: usize = 1_000;

/// The tasks, if they are a DAG; else what is wrong is reported at the task.
///
/// `roles_at` receives where each role stands, by the task's position.
pub(super) fn check(
    context: &mut Context<'_>,
    heading: &Range<usize>,
    written: Written,
    review: bool,
    roles_at: &mut Vec<(usize, Range<usize>)>,
) -> Option<Vec<Task>> {
    let Written { tasks, faulty } = written;
    let errors = context.errors();
    check_ids(context, &tasks);
    // A faulty task is missing here; what waits for it may well be right.
    if faulty {
        return None;
    }
    check_dependencies(context, &tasks);
    if context.errors() > errors {
        return None;
    }
    if let Err(error) = check_dag(&tasks) {
        let (at, help) = place(&error, &tasks, heading);
        context.error(&at, error.to_string(), help);
        return None;
    }
    if review && let Err(error) = check_review(&tasks) {
        refuse_review(context, &error, &tasks, heading);
        return None;
    }
    let roles = tasks.iter().enumerate();
    roles_at.extend(roles.filter_map(|(i, task)| Some((i, task.role_at.clone()?))));
    Some(tasks)
}

/// Ids and dependencies are right. Copies nothing: a plan can have very many tasks.
fn check_dag(tasks: &[Task]) -> Result<(), dag::Error> {
    let specs: Vec<&TaskSpec> = tasks.iter().map(|task| &task.spec).collect();
    let ids = (0u32..).zip(&specs).map(|(position, spec)| (&spec.id, position));
    let positions: HashMap<&TaskId, u32> = ids.collect();
    let after = tasks
        .iter()
        .map(|task| task.after.iter().filter_map(|(id, _)| positions.get(id).copied()).collect());
    dag::check(&specs, &after.collect::<Vec<Vec<u32>>>())
}

fn check_review(tasks: &[Task]) -> Result<(), review::Error> {
    let specs = tasks.iter().map(|task| task.spec.clone()).collect();
    let edges = tasks.iter().flat_map(|task| task.after.iter().map(|(id, _)| (&task.spec.id, id)));
    with_review(&Dag::linked(specs, edges)?).map(drop)
}

/// Reports every repeated id.
fn check_ids(context: &mut Context<'_>, tasks: &[Task]) {
    let mut first: HashMap<&TaskId, &Task> = HashMap::with_capacity(tasks.len());
    for task in tasks {
        let id = &task.spec.id;
        if let Some(first) = first.get(id) {
            let line = context.source.line_of(first.at.start);
            let message = format!("two tasks have the id `{id}`; the first is at line {line}");
            context.error(&task.at, message, Some("give one of them another id".to_owned()));
            continue;
        }
        first.insert(id, task);
    }
}

/// Reports every dependency that does not exist.
fn check_dependencies(context: &mut Context<'_>, tasks: &[Task]) {
    let known: HashSet<&TaskId> = tasks.iter().map(|task| &task.spec.id).collect();
    for task in tasks {
        for (after, at) in task.after.iter().filter(|(after, _)| !known.contains(after)) {
            let id = &task.spec.id;
            let message = format!("`{id}` waits for `{after}`, which is no task of this goal");
            let ids = tasks.iter().take(COMPARED_IDS).map(|task| task.spec.id.as_str());
            let near = if context.is_full() { None } else { nearest(after.as_str(), ids) };
            let help = near.map_or_else(
                || format!("add the task `{after}`, or remove it here"),
                |near| format!("did you mean `{near}`?"),
            );
            context.error(at, message, Some(help));
        }
    }
}

fn refuse_review(
    context: &mut Context<'_>,
    error: &review::Error,
    tasks: &[Task],
    heading: &Range<usize>,
) {
    let (at, help) = match error {
        review::Error::Taken { id, .. } => {
            let task = tasks.iter().find(|task| task.spec.id == *id);
            (task.map_or(heading, |task| &task.at), "rename this task, or write `Review: off`")
        }
        review::Error::Plan(_) | review::Error::Name(_) => {
            (heading, "split the goal, or write `Review: off`")
        }
    };
    context.error(at, error.to_string(), Some(help.to_owned()));
}

fn place(
    error: &dag::Error,
    tasks: &[Task],
    heading: &Range<usize>,
) -> (Range<usize>, Option<String>) {
    let of = |id: &TaskId| {
        let task = tasks.iter().find(|task| task.spec.id == *id);
        task.map_or_else(|| heading.clone(), |task| task.at.clone())
    };
    match error {
        dag::Error::Empty => {
            let help = "add `- <id>: <title>` below, or remove the heading to have it planned";
            (heading.clone(), Some(help.to_owned()))
        }
        dag::Error::TooLarge { .. } => (heading.clone(), None),
        dag::Error::Duplicate(id) => (of(id), None),
        dag::Error::Dangling { task, .. } => (of(task), None),
        dag::Error::Cycle(ids) => {
            let at = ids.first().map_or_else(|| heading.clone(), of);
            (at, Some("remove one of these tasks from the `after` of the one before it".to_owned()))
        }
        dag::Error::Priority { task, .. } => (of(task), None),
    }
}
