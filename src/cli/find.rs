//! What people mean by the names they give: tasks, goals, agents.

use model::{GoalId, TaskId};
use store::Store;
use store::goal::Goal;
use store::task::Task;

use super::Failure;
use super::text::safe;

/// How many names an error lists.
const SHOWN: usize = 8;

/// The one task that `text` means.
pub(crate) async fn task(store: &Store, text: &str) -> anyhow::Result<Task> {
    let mut found = store.find_tasks(text).await?;
    let id = match (found.pop(), found.is_empty()) {
        (Some(id), true) => id,
        (Some(last), false) => {
            found.push(last);
            return Err(ambiguous(store, text, &found).await?.into());
        }
        (None, _) => return Err(unknown_task(store, text).await?.into()),
    };
    match store.task(&id).await? {
        Some(task) => Ok(task),
        None => Err(Failure::not_found(format!("the task {id} was removed just now")).into()),
    }
}

async fn ambiguous(store: &Store, text: &str, ids: &[TaskId]) -> anyhow::Result<Failure> {
    let mut forms = Vec::new();
    for id in ids.iter().take(SHOWN) {
        let goal = store.task(id).await?.map(|task| task.goal);
        forms.push(goal.map_or_else(|| id.to_string(), |goal| unique_form(&goal, id)));
    }
    forms.sort();
    Ok(Failure::not_found(format!(
        "{} tasks are called `{}`: say {}",
        ids.len(),
        safe(text),
        forms.join(" or ")
    )))
}

/// The form `<goal>.<id>`, which means one task only.
fn unique_form(goal: &GoalId, id: &TaskId) -> String {
    let scoped = format!("{goal}.");
    if id.as_str().starts_with(&scoped) { id.to_string() } else { format!("{scoped}{id}") }
}

/// What to ask instead where `text` names something else than a task.
async fn other_thing(store: &Store, text: &str) -> anyhow::Result<Option<String>> {
    if let Ok(id) = GoalId::new(text)
        && store.goal(&id).await?.is_some()
    {
        return Ok(Some(format!(
            "`{id}` is a goal: `orch status` says how it does, `orch tasks {id}` what is left, \
             `orch trace {id}` what happened"
        )));
    }
    let agents = store.agents().await?;
    Ok(agents.iter().any(|agent| agent.name.as_str() == text).then(|| {
        format!(
            "`{text}` is an agent: `orch status` says what it does, `orch events --agent {text}` \
             what happened"
        )
    }))
}

async fn unknown_task(store: &Store, text: &str) -> anyhow::Result<Failure> {
    if let Some(other) = other_thing(store, text).await? {
        return Ok(Failure::not_found(other));
    }
    let mut ids: Vec<TaskId> = Vec::new();
    for goal in store.goal_ids().await? {
        ids.extend(store.tasks(&goal).await?.into_iter().map(|task| task.id));
    }
    let names: Vec<&str> = ids.iter().map(TaskId::as_str).collect();
    let shown = safe(text);
    if names.is_empty() {
        return Ok(Failure::not_found(format!(
            "there is no task `{shown}`, and no other: see `orch status` for goals and problems"
        )));
    }
    Ok(Failure::not_found(format!(
        "there is no task `{shown}`: {}; `orch tasks` lists all",
        suggestion(text, &names)
    )))
}

/// The goal with this id.
pub(crate) async fn goal(store: &Store, id: &GoalId) -> anyhow::Result<Goal> {
    if let Some(goal) = store.goal(id).await? {
        return Ok(goal);
    }
    let ids = store.goal_ids().await?;
    let names: Vec<&str> = ids.iter().map(GoalId::as_str).collect();
    let hint = if names.is_empty() {
        "none was declared yet".to_owned()
    } else {
        suggestion(id.as_str(), &names)
    };
    Err(Failure::not_found(format!("there is no goal `{id}`: {hint}")).into())
}

/// The names nearest to `text`, in words.
fn suggestion(text: &str, names: &[&str]) -> String {
    let mut near: Vec<(usize, &str)> =
        names.iter().map(|name| (strsim::levenshtein(text, name), *name)).collect();
    near.sort();
    let limit = (text.chars().count() / 2).max(2);
    let alike: Vec<&str> =
        near.iter().filter(|(far, _)| *far <= limit).take(3).map(|(_, name)| *name).collect();
    if !alike.is_empty() {
        return format!("did you mean {}?", alike.join(", "));
    }
    let first: Vec<&str> = names.iter().take(SHOWN).copied().collect();
    let more = if names.len() > SHOWN { ", .." } else { "" };
    format!("there are {}{more}", first.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestion_should_name_what_is_alike_else_what_there_is() {
        assert_eq!(suggestion("task-01", &["task-001", "report"]), "did you mean task-001?");
        assert_eq!(suggestion("zzz", &["task-001", "report"]), "there are task-001, report");
    }

    #[test]
    fn unique_form_should_not_name_the_goal_twice() {
        let goal = GoalId::new("g").unwrap();
        assert_eq!(unique_form(&goal, &TaskId::new("t").unwrap()), "g.t");
        assert_eq!(unique_form(&goal, &TaskId::new("g.t").unwrap()), "g.t");
    }
}
