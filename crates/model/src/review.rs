//! Review of what builders make: two more tasks behind each of theirs.
//!
//! For a goal with `Review: on` the plan is expanded before it is accepted: a builder's
//! task `x` is followed by `x__qa`, which a reviewer takes, and that by
//! `x__integrate`, which a manager takes; whatever waited for `x` waits for the latter.
//! The expansion depends on the plan alone, so the same plan always becomes the same one.
//!
//! Whether anybody has these roles is not seen here: a role that nobody has is found
//! where the declared agents are known.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::str::FromStr;

use crate::dag::{self, Dag};
use crate::id::{self, MAX_ID_BYTES, Role, TaskId};
use crate::task::TaskSpec;

/// The role whose tasks are reviewed, and that of tasks without one.
pub const BUILDER: &str = "builder";
/// The role that takes [`Stage::Qa`].
pub const REVIEWER: &str = "reviewer";
/// The role that takes [`Stage::Integrate`]; also that of the agent whose instructions
/// are those of its goal.
pub const MANAGER: &str = "manager";

/// Under this key of a task's metadata stands which [`Stage`] it is.
pub const STAGE: &str = "stage";
/// Under this key of a stage's metadata stands the task that it is for, by its id in
/// the plan: where another goal has that id, the task is stored under `<goal>.<id>`.
pub const OF: &str = "of";

/// A step that follows a builder's task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// A reviewer looks at what was made.
    Qa,
    /// A manager fits it into the whole.
    Integrate,
}

impl Stage {
    /// All stages, in the order in which they follow each other.
    pub const ALL: [Self; 2] = [Self::Qa, Self::Integrate];

    /// The word in metadata, and after `__` in the id.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Qa => "qa",
            Self::Integrate => "integrate",
        }
    }

    /// Who takes it.
    #[must_use]
    pub const fn role(self) -> &'static str {
        match self {
            Self::Qa => REVIEWER,
            Self::Integrate => MANAGER,
        }
    }

    const fn verb(self) -> &'static str {
        match self {
            Self::Qa => "Review",
            Self::Integrate => "Integrate",
        }
    }

    /// Which stage `task` is, if it is one.
    #[must_use]
    pub fn of(task: &TaskSpec) -> Option<Self> {
        task.metadata.get(STAGE)?.parse().ok()
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no stage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no stage: expected qa or integrate", .0.escape_debug())]
pub struct UnknownStage(pub String);

impl FromStr for Stage {
    type Err = UnknownStage;
    fn from_str(word: &str) -> Result<Self, UnknownStage> {
        Self::ALL
            .into_iter()
            .find(|stage| stage.as_str() == word)
            .ok_or_else(|| UnknownStage(word.to_owned()))
    }
}

/// Why a plan cannot be given reviews.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The plan uses the id of a stage for something else.
    #[error(
        "the {stage} stage of `{task}` would have the id `{id}`, which another task of this \
         goal has: give that one another id"
    )]
    Taken {
        /// The task to be reviewed.
        task: TaskId,
        /// Which of its stages.
        stage: Stage,
        /// The id of both.
        id: TaskId,
    },
    /// With its stages it is no plan any more: it is too large.
    #[error("the plan cannot be given reviews")]
    Plan(#[from] dag::Error),
    /// A stage's id is none.
    #[error("a stage cannot be named")]
    Name(#[from] id::Error),
}

/// Whether [`with_review`] gives `task` stages: whether it is a builder's. One with a
/// shell block is only where it says so: most blocks build nothing to review.
#[must_use]
pub fn is_reviewed(task: &TaskSpec) -> bool {
    let builds = match &task.role {
        Some(role) => role.as_str() == BUILDER,
        None => task.run.is_none(),
    };
    builds && Stage::of(task).is_none()
}

/// `dag` with the stages of each builder's task.
///
/// # Errors
/// [`Error::Taken`] names the task to rename; [`Error::Plan`] where it has too many
/// tasks then.
pub fn with_review(dag: &Dag) -> Result<Dag, Error> {
    let names = names(dag)?;
    let mut tasks = Vec::with_capacity(dag.tasks().len() + Stage::ALL.len() * names.len());
    let mut edges = Vec::with_capacity(dag.edge_count() + Stage::ALL.len() * names.len());
    for (position, task) in dag.tasks().iter().enumerate() {
        for dependency in dag.dependencies(position) {
            let Some(before) = dag.tasks().get(*dependency as usize) else { continue };
            let last = names.get(&before.id).and_then(|stages| stages.last());
            edges.push((task.id.clone(), last.unwrap_or(&before.id).clone()));
        }
        tasks.push(task.clone());
        let mut before = &task.id;
        let stages = names.get(&task.id).into_iter().flatten();
        for (stage, id) in Stage::ALL.into_iter().zip(stages) {
            tasks.push(spec(stage, id, task)?);
            edges.push((id.clone(), before.clone()));
            before = id;
        }
    }
    Ok(Dag::new(tasks, &edges)?)
}

fn spec(stage: Stage, id: &TaskId, of: &TaskSpec) -> Result<TaskSpec, Error> {
    let mut spec = TaskSpec::new(id.clone(), format!("{}: {}", stage.verb(), of.title));
    spec.role = Some(Role::new(stage.role())?);
    spec.priority = of.priority;
    spec.timeout_secs = of.timeout_secs;
    spec.folder.clone_from(&of.folder);
    spec.metadata.insert(STAGE.to_owned(), stage.as_str().to_owned());
    spec.metadata.insert(OF.to_owned(), of.id.to_string());
    Ok(spec)
}

/// By task to be reviewed: the ids of its stages.
fn names(dag: &Dag) -> Result<HashMap<&TaskId, Vec<TaskId>>, Error> {
    let declared: HashSet<&str> = dag.tasks().iter().map(|task| task.id.as_str()).collect();
    let reviewed = || dag.tasks().iter().filter(|task| is_reviewed(task));
    // First those that need no shortening, so that a shortened one keeps clear of them.
    let mut made = HashSet::new();
    for task in reviewed() {
        made.extend(Stage::ALL.into_iter().filter_map(|stage| whole(&task.id, stage)));
    }
    let mut names = HashMap::new();
    for task in reviewed() {
        let mut ids = Vec::with_capacity(Stage::ALL.len());
        for stage in Stage::ALL {
            let id = whole(&task.id, stage).unwrap_or_else(|| {
                let free = (0..).map(|salt| shortened(&task.id, stage, salt));
                free.into_iter().find(|id| made.insert(id.clone())).unwrap_or_default()
            });
            let taken = declared.contains(id.as_str());
            let id = TaskId::new(id)?;
            if taken {
                return Err(Error::Taken { task: task.id.clone(), stage, id });
            }
            ids.push(id);
        }
        names.insert(&task.id, ids);
    }
    Ok(names)
}

/// `<id>__<stage>`, where a person may have written an id of that length.
fn whole(task: &TaskId, stage: Stage) -> Option<String> {
    let id = format!("{task}__{stage}");
    (id.len() <= MAX_ID_BYTES).then_some(id)
}

/// The beginning of the id, a digest of all of it, and the stage.
fn shortened(task: &TaskId, stage: Stage, salt: u64) -> String {
    let end = format!("-{:016x}__{stage}", digest(task.as_str(), salt));
    // Ids are ASCII, so any place is between two characters.
    let start: String = task.as_str().chars().take(MAX_ID_BYTES - end.len()).collect();
    start + &end
}

/// FNV-1a: the same in every build, which the standard library's hashes need not be.
fn digest(text: &str, salt: u64) -> u64 {
    let bytes = text.bytes().chain(salt.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> TaskId {
        TaskId::new(text).unwrap()
    }

    fn task(name: &str, role: Option<&str>) -> TaskSpec {
        let mut spec = TaskSpec::new(id(name), format!("Make {name}"));
        spec.role = role.map(|role| Role::new(role).unwrap());
        spec
    }

    /// Each task as `id(role) <- what it waits for`.
    fn show(dag: &Dag) -> Vec<String> {
        let line = |(at, task): (usize, &TaskSpec)| {
            let deps =
                dag.dependencies(at).iter().map(|dep| dag.tasks()[*dep as usize].id.as_str());
            let role = task.role.as_ref().map_or("any", Role::as_str);
            format!("{}({role}) <- {}", task.id, deps.collect::<Vec<_>>().join(" "))
        };
        dag.tasks().iter().enumerate().map(line).collect()
    }

    #[test]
    fn builders_task_should_be_followed_by_its_stages_and_they_by_what_waited_for_it() {
        let tasks = vec![
            task("a", None),
            task("b", Some(BUILDER)),
            task("c", Some("analysis")),
            task("d", None),
        ];
        let edges = [("b", "a"), ("c", "b"), ("d", "c"), ("d", "a")];
        let edges = edges.map(|(task, after)| (id(task), id(after)));
        let dag = with_review(&Dag::new(tasks, &edges).unwrap()).unwrap();
        assert_eq!(
            show(&dag),
            [
                "a(any) <- ",
                "a__qa(reviewer) <- a",
                "a__integrate(manager) <- a__qa",
                "b(builder) <- a__integrate",
                "b__qa(reviewer) <- b",
                "b__integrate(manager) <- b__qa",
                "c(analysis) <- b__integrate",
                "d(any) <- a__integrate c",
                "d__qa(reviewer) <- d",
                "d__integrate(manager) <- d__qa",
            ]
        );
    }

    #[test]
    fn stage_should_inherit_how_but_not_what() {
        let mut made = task("a", None);
        made.priority = 7;
        made.timeout_secs = Some(60);
        made.folder = Some("out".to_owned());
        made.expected_artifacts = vec!["x".to_owned()];
        made.verify = vec!["true".to_owned()];
        made.budget_micros = Some(1);
        made.max_attempts = Some(1);
        let dag = with_review(&Dag::new(vec![made.clone()], &[]).unwrap()).unwrap();
        assert_eq!(dag.tasks()[0], made);
        for (at, stage, title) in
            [(1, Stage::Qa, "Review: Make a"), (2, Stage::Integrate, "Integrate: Make a")]
        {
            let spec = &dag.tasks()[at];
            assert_eq!((Stage::of(spec), spec.metadata[OF].as_str()), (Some(stage), "a"));
            let mut expected = TaskSpec::new(spec.id.clone(), title);
            expected.role = Some(Role::new(stage.role()).unwrap());
            expected.priority = 7;
            expected.timeout_secs = Some(60);
            expected.folder = Some("out".to_owned());
            expected.metadata.clone_from(&spec.metadata);
            assert_eq!(*spec, expected);
        }
    }

    #[test]
    fn shell_blocks_should_be_reviewed_only_where_they_are_a_builders() {
        let with_block = |name, role| TaskSpec { run: Some("true".into()), ..task(name, role) };
        let tasks = vec![with_block("a", None), with_block("b", Some(BUILDER))];
        let dag = with_review(&Dag::new(tasks, &[]).unwrap()).unwrap();
        let ids: Vec<&str> = dag.tasks().iter().map(|task| task.id.as_str()).collect();
        assert_eq!(ids, ["a", "b", "b__qa", "b__integrate"]);
    }

    #[test]
    fn id_that_exists_already_should_be_named() {
        let dag = Dag::new(vec![task("a", None), task("a__integrate", None)], &[]).unwrap();
        let error = with_review(&dag).unwrap_err();
        let (task, taken) = (id("a"), id("a__integrate"));
        assert_eq!(error, Error::Taken { task, stage: Stage::Integrate, id: taken });
        assert!(error.to_string().contains("`a__integrate`"), "{error}");
        // So a plan is not expanded twice.
        let once = with_review(&Dag::new(vec![self::task("a", None)], &[]).unwrap()).unwrap();
        assert!(matches!(with_review(&once), Err(Error::Taken { .. })));
    }

    #[test]
    fn long_ids_should_be_shortened_apart_from_each_other() {
        let long = |last: char| format!("{}{last}", "x".repeat(MAX_ID_BYTES - 1));
        // What the first one would be shortened to is another stage's whole id.
        let mut occupied = shortened(&id(&long('a')), Stage::Qa, 0);
        occupied.truncate(occupied.len() - "__qa".len());
        let names = [long('a'), long('b'), occupied];
        let tasks = names.iter().map(|name| task(name, None)).collect();
        let dag = with_review(&Dag::new(tasks, &[]).unwrap()).unwrap();
        assert_eq!(dag.tasks().len(), 9);
        assert!(dag.tasks().iter().all(|task| task.id.is_plain()));
        assert!(dag.tasks()[1].id.as_str().ends_with("__qa"));
        // The same in every build, for they are stored.
        assert_eq!(digest("", 0), 0xa8c7_f832_281a_39c5);
    }

    proptest! {
        #[test]
        fn every_old_edge_should_be_implied_and_nothing_else_wait_for_a_reviewed_task(
            lengths in prop::collection::vec(1usize..=60, 1..12),
            roles in prop::collection::vec(0usize..4, 12),
            pairs in prop::collection::vec((0usize..12, 0usize..12), 0..40),
        ) {
            let roles = roles.into_iter().map(|at| [None, Some(BUILDER), Some("x"), Some(MANAGER)][at]);
            let tasks: Vec<TaskSpec> = lengths.iter().zip(roles).enumerate()
                .map(|(at, (length, role))| task(&format!("{}{at}", "t".repeat(*length)), role))
                .collect();
            let count = tasks.len();
            let edges: Vec<_> = pairs.into_iter()
                .filter(|(to, from)| from < to && *to < count)
                .map(|(to, from)| (tasks[to].id.clone(), tasks[from].id.clone()))
                .collect();
            let dag = Dag::new(tasks.clone(), &edges).unwrap();
            let reviewed = with_review(&dag).unwrap();
            prop_assert_eq!(&show(&reviewed), &show(&with_review(&dag).unwrap()));
            let builders = tasks.iter().filter(|task| is_reviewed(task)).count();
            prop_assert_eq!(reviewed.tasks().len(), count + 2 * builders);
            let at = |id: &TaskId| reviewed.tasks().iter().position(|task| task.id == *id).unwrap();
            for (to, from) in &edges {
                let (mut open, mut seen) = (vec![at(to)], HashSet::new());
                while let Some(next) = open.pop() {
                    if seen.insert(next) {
                        open.extend(reviewed.dependencies(next).iter().map(|dep| *dep as usize));
                    }
                }
                prop_assert!(seen.contains(&at(from)));
            }
            let dependents = reviewed.dependents();
            for task in tasks.iter().filter(|task| is_reviewed(task)) {
                let [only] = dependents[at(&task.id)][..] else { panic!("not one") };
                let qa = &reviewed.tasks()[only as usize];
                prop_assert_eq!(Stage::of(qa), Some(Stage::Qa));
                prop_assert_eq!(qa.metadata[OF].as_str(), task.id.as_str());
                prop_assert!(qa.id.is_plain());
            }
        }
    }
}
