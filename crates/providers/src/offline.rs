//! The provider without a model: plans come from the Markdown's own task list, and
//! tasks run their own shell block. With neither it refuses; it never invents.

use model::dag::Error as DagError;
use model::{Dag, GoalSpec, TaskId, TaskSpec};

/// Its name on the command line and in control files.
pub const NAME: &str = "offline";

/// Why there is no plan, or nothing to run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The goal's section has no task list.
    #[error(
        "goal {goal} has no `#### Tasks` list, and the offline provider plans nothing by \
         itself: write the list below the goal in INSTRUCTIONS.md"
    )]
    NoTasks {
        /// The goal.
        goal: model::GoalId,
    },
    /// The task list is not a DAG.
    #[error("the task list of goal {goal} is no plan")]
    NoPlan {
        /// The goal.
        goal: model::GoalId,
        /// What is wrong with it.
        source: DagError,
    },
    /// The task has no shell block.
    #[error(
        "task {task} has no shell block, and the offline provider does nothing by itself: \
         write a ```sh block below the task in INSTRUCTIONS.md"
    )]
    NoBlock {
        /// The task.
        task: TaskId,
    },
}

/// The plan that a person pinned.
///
/// # Errors
/// [`Refused`] where there is none, or it is no DAG.
pub fn plan(goal: &GoalSpec) -> Result<Dag, Refused> {
    let Some(pinned) = goal.tasks.as_deref().filter(|tasks| !tasks.is_empty()) else {
        return Err(Refused::NoTasks { goal: goal.id.clone() });
    };
    let tasks = pinned.iter().map(|task| task.spec.clone()).collect();
    let edges: Vec<(TaskId, TaskId)> = pinned
        .iter()
        .flat_map(|task| task.after.iter().map(|after| (task.spec.id.clone(), after.clone())))
        .collect();
    Dag::new(tasks, &edges).map_err(|source| Refused::NoPlan { goal: goal.id.clone(), source })
}

/// The shell block to run for a task.
///
/// # Errors
/// [`Refused::NoBlock`] where it has none.
pub fn block(task: &TaskSpec) -> Result<&str, Refused> {
    task.run.as_deref().ok_or_else(|| Refused::NoBlock { task: task.id.clone() })
}

#[cfg(test)]
mod tests {
    use model::GoalId;
    use model::goal::PinnedTask;

    use super::*;

    fn goal(tasks: Option<Vec<(&str, &[&str])>>) -> GoalSpec {
        let id = |text: &str| TaskId::new(text).unwrap();
        let pin = |(name, after): (&str, &[&str])| PinnedTask {
            spec: TaskSpec::new(id(name), name),
            after: after.iter().map(|text| id(text)).collect(),
        };
        GoalSpec {
            id: GoalId::new("g").unwrap(),
            title: "g".into(),
            text: "please".into(),
            priority: 0,
            max_attempts: None,
            timeout_secs: None,
            folder: None,
            provider: None,
            model: None,
            tasks: tasks.map(|tasks| tasks.into_iter().map(pin).collect()),
            spec_hash: String::new(),
        }
    }

    #[test]
    fn pinned_tasks_should_be_the_plan() {
        let dag = plan(&goal(Some(vec![("b", &["a"]), ("a", &[])]))).unwrap();
        assert_eq!(dag.dependencies(0), &[1]);
    }

    #[test]
    fn goal_without_tasks_should_be_refused_however_much_prose_it_has() {
        assert!(matches!(plan(&goal(None)), Err(Refused::NoTasks { .. })));
        assert!(matches!(plan(&goal(Some(vec![]))), Err(Refused::NoTasks { .. })));
        let circle = goal(Some(vec![("a", &["a"])]));
        assert!(matches!(plan(&circle), Err(Refused::NoPlan { .. })));
    }

    #[test]
    fn task_without_block_should_be_refused() {
        let mut task = TaskSpec::new(TaskId::new("a").unwrap(), "a");
        assert!(block(&task).is_err());
        task.run = Some("true".into());
        assert_eq!(block(&task), Ok("true"));
    }
}
