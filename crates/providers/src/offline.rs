//! The provider without a model: plans come from the Markdown's own task list, and
//! tasks run their own shell block. With neither it refuses; it never invents.

use model::dag::Error as DagError;
use model::{Dag, GoalSpec, TaskId, TaskSpec};
use process::Ended;

use crate::call::{Failure, FailureKind, Invocation, Provider, Reply, Request, Step};

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
    let edges = pinned.iter().flat_map(|task| task.after.iter().map(|id| (&task.spec.id, id)));
    Dag::linked(tasks, edges).map_err(|source| Refused::NoPlan { goal: goal.id.clone(), source })
}

/// The shell block to run for a task.
///
/// # Errors
/// [`Refused::NoBlock`] where it has none.
pub fn block(task: &TaskSpec) -> Result<&str, Refused> {
    task.run.as_deref().ok_or_else(|| Refused::NoBlock { task: task.id.clone() })
}

/// The provider itself: it refuses every call. Plans that people pinned and shell blocks
/// need none; see [`plan`] and [`block`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offline;

impl Provider for Offline {
    fn name(&self) -> &'static str {
        NAME
    }

    fn invocation(&self, request: &Request) -> Result<Invocation, Failure> {
        Err(refused(request.step))
    }

    fn read(&self, request: &Request, _ended: &Ended) -> Result<Reply, Failure> {
        Err(refused(request.step))
    }

    fn resumable(&self, _id: &str, _log: &str) -> Option<String> {
        None
    }
}

fn refused(step: Step) -> Failure {
    let (what, instead) = match step {
        Step::Decompose => (
            "plans nothing by itself",
            "write a `#### Tasks` list below the goal in INSTRUCTIONS.md",
        ),
        Step::Execute => {
            ("does nothing by itself", "write a ```sh block below the task in INSTRUCTIONS.md")
        }
        Step::Select | Step::Summarise | Step::Review | Step::Recover | Step::Prompt => {
            ("answers nothing", "do without this step")
        }
    };
    let message = format!(
        "the offline provider {what}: {instead}, or choose another provider with \
         --llm-provider or a line `- Provider: claude`"
    );
    Failure::new(FailureKind::Refused, message)
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
        let tasks = tasks.map(|tasks| tasks.into_iter().map(pin).collect());
        GoalSpec { text: "please".into(), tasks, ..GoalSpec::new(GoalId::new("g").unwrap()) }
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

    #[test]
    fn every_call_should_be_refused_with_what_to_do_instead() {
        for step in [Step::Decompose, Step::Execute, Step::Prompt] {
            let failure = refused(step);
            assert_eq!(failure.kind, FailureKind::Refused);
            assert!(failure.message.contains("--llm-provider"), "{failure}");
        }
        assert!(refused(Step::Decompose).message.contains("#### Tasks"));
        assert!(refused(Step::Execute).message.contains("```sh"));
    }
}
