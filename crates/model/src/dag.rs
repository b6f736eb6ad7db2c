//! A goal's plan: tasks and what each waits for, checked before it exists.
//!
//! A [`Dag`] can only be made by [`Dag::new`], so whoever holds one knows that
//! its ids are unique, its edges join tasks that exist, and it has no cycle.

use std::collections::HashMap;

use petgraph::algo::{kosaraju_scc, toposort};
use petgraph::graph::{DiGraph, NodeIndex};

use crate::id::TaskId;
use crate::task::{MAX_PRIORITY, TaskSpec};

/// The most tasks of one DAG.
pub const MAX_TASKS: usize = 1_000_000;
/// The most edges of one DAG.
pub const MAX_EDGES: usize = 4_000_000;
/// How many ids of a cycle an error names.
const CYCLE_IDS_SHOWN: usize = 12;

/// Why a plan is not a DAG. Each names the task to look at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing to do.
    #[error("the plan has no tasks: declare at least one")]
    Empty,
    /// Too large.
    #[error("the plan has {count} {what}; at most {limit} are allowed: split the goal")]
    TooLarge {
        /// `tasks` or `edges`.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Two tasks with one id.
    #[error("two tasks have the id `{0}`: give one of them another id")]
    Duplicate(TaskId),
    /// An edge from or to nothing.
    #[error("`{task}` waits for `{missing}`, which is no task of this goal")]
    Dangling {
        /// The task that waits.
        task: TaskId,
        /// What does not exist.
        missing: TaskId,
    },
    /// A task that waits, directly or not, for itself.
    #[error("the tasks wait for each other in a circle: {}", show_cycle(.0))]
    Cycle(Vec<TaskId>),
    /// Beyond [`MAX_PRIORITY`].
    #[error("`{task}` has priority {priority}; 0 to {MAX_PRIORITY} are allowed")]
    Priority {
        /// The task.
        task: TaskId,
        /// What it asks for.
        priority: u32,
    },
}

fn show_cycle(ids: &[TaskId]) -> String {
    let mut text = String::new();
    for id in ids.iter().take(CYCLE_IDS_SHOWN) {
        text.push_str(id.as_str());
        text.push_str(" -> ");
    }
    if ids.len() > CYCLE_IDS_SHOWN {
        text.push_str(&format!("… ({} more) -> ", ids.len() - CYCLE_IDS_SHOWN));
    }
    text.push_str(ids.first().map_or("", TaskId::as_str));
    text
}

/// A checked plan.
#[derive(Debug, Clone)]
pub struct Dag {
    tasks: Vec<TaskSpec>,
    /// By position in `tasks`: positions of what it waits for, ascending, no repeats.
    deps: Vec<Vec<u32>>,
}

impl Dag {
    /// Checks `tasks` and `edges` (each `(waits, for)`) and makes them a DAG.
    /// An edge that is given twice counts once.
    ///
    /// # Errors
    /// [`Error`] names the first thing that is wrong.
    pub fn new(tasks: Vec<TaskSpec>, edges: &[(TaskId, TaskId)]) -> Result<Self, Error> {
        Self::linked(tasks, edges.iter().map(|(task, dependency)| (task, dependency)))
    }

    /// The same with edges that are read where they are: a large plan has many.
    ///
    /// # Errors
    /// As [`Dag::new`].
    pub fn linked<'a>(
        tasks: Vec<TaskSpec>,
        edges: impl Iterator<Item = (&'a TaskId, &'a TaskId)> + Clone,
    ) -> Result<Self, Error> {
        check_sizes(tasks.len(), edges.clone().count())?;
        let mut position = HashMap::with_capacity(tasks.len());
        for (i, task) in tasks.iter().enumerate() {
            check_priority(task)?;
            if position.insert(&task.id, i as u32).is_some() {
                return Err(Error::Duplicate(task.id.clone()));
            }
        }
        let mut deps = vec![Vec::new(); tasks.len()];
        for (task, dependency) in edges {
            let dangling = || Error::Dangling { task: task.clone(), missing: dependency.clone() };
            let from = position.get(dependency).ok_or_else(dangling)?;
            let to = position.get(task).ok_or_else(|| Error::Dangling {
                task: dependency.clone(),
                missing: task.clone(),
            })?;
            deps[*to as usize].push(*from);
        }
        for list in &mut deps {
            list.sort_unstable();
            list.dedup();
        }
        drop(position);
        check_cycles(&deps).map_err(|circle| cycle(&circle, |i| &tasks[i].id))?;
        Ok(Self { tasks, deps })
    }

    /// The tasks, in the order in which they were declared.
    #[must_use]
    pub fn tasks(&self) -> &[TaskSpec] {
        &self.tasks
    }

    /// The positions of what the task at `position` waits for, ascending.
    #[must_use]
    pub fn dependencies(&self, position: usize) -> &[u32] {
        self.deps.get(position).map_or(&[], Vec::as_slice)
    }

    /// How many edges there are.
    #[must_use]
    pub fn edge_count(&self) -> usize {
        self.deps.iter().map(Vec::len).sum()
    }

    /// By position: the positions of the tasks that wait for it, ascending.
    #[must_use]
    pub fn dependents(&self) -> Vec<Vec<u32>> {
        let mut lists = vec![Vec::new(); self.tasks.len()];
        for (to, deps) in self.deps.iter().enumerate() {
            for from in deps {
                lists[*from as usize].push(to as u32);
            }
        }
        lists
    }

    /// The same plan with its tasks renamed by position, as for storing one
    /// whose ids another goal uses too.
    ///
    /// # Errors
    /// [`Error::Duplicate`] where two tasks get one name.
    pub fn renamed(mut self, ids: Vec<TaskId>) -> Result<Self, Error> {
        let mut seen = std::collections::HashSet::with_capacity(ids.len());
        if let Some(twice) = ids.iter().find(|id| !seen.insert(*id)) {
            return Err(Error::Duplicate(twice.clone()));
        }
        for (task, id) in self.tasks.iter_mut().zip(ids) {
            task.id = id;
        }
        Ok(self)
    }
}

fn check_sizes(tasks: usize, edges: usize) -> Result<(), Error> {
    if tasks == 0 {
        return Err(Error::Empty);
    }
    if tasks > MAX_TASKS {
        return Err(Error::TooLarge { what: "tasks", count: tasks, limit: MAX_TASKS });
    }
    if edges > MAX_EDGES {
        return Err(Error::TooLarge { what: "edges", count: edges, limit: MAX_EDGES });
    }
    Ok(())
}

fn check_priority(task: &TaskSpec) -> Result<(), Error> {
    if task.priority > MAX_PRIORITY {
        return Err(Error::Priority { task: task.id.clone(), priority: task.priority });
    }
    Ok(())
}

/// Whether tasks of different ids would be a DAG, where `deps` holds by position the positions
/// of what each waits for: as [`Dag::new`] without making one.
///
/// # Errors
/// [`Error`] names the first thing that is wrong.
///
/// # Panics
/// Where a position is not one of `tasks`.
pub fn check(tasks: &[&TaskSpec], deps: &[Vec<u32>]) -> Result<(), Error> {
    check_sizes(tasks.len(), deps.iter().map(Vec::len).sum())?;
    tasks.iter().try_for_each(|task| check_priority(task))?;
    check_cycles(deps).map_err(|circle| cycle(&circle, |i| &tasks[i].id))
}

fn cycle<'a>(circle: &[u32], id: impl Fn(usize) -> &'a TaskId) -> Error {
    Error::Cycle(circle.iter().map(|i| id(*i as usize).clone()).collect())
}

/// Else the positions of one circle.
fn check_cycles(deps: &[Vec<u32>]) -> Result<(), Vec<u32>> {
    let edge_count = deps.iter().map(Vec::len).sum();
    let mut graph = DiGraph::<(), (), u32>::with_capacity(deps.len(), edge_count);
    for _ in deps {
        graph.add_node(());
    }
    for (to, list) in deps.iter().enumerate() {
        for from in list {
            graph.add_edge(NodeIndex::new(*from as usize), NodeIndex::new(to), ());
        }
    }
    if toposort(&graph, None).is_ok() {
        return Ok(());
    }
    // Some component holds more than one task, or one that waits for itself.
    let component = kosaraju_scc(&graph)
        .into_iter()
        .find(|scc| scc.len() > 1 || scc.iter().any(|n| graph.contains_edge(*n, *n)));
    let members: Vec<u32> =
        component.unwrap_or_default().iter().map(|n| n.index() as u32).collect();
    Err(walk_cycle(deps, &members))
}

/// One circle within a strongly connected component, in the order in which each waits for
/// the next.
fn walk_cycle(deps: &[Vec<u32>], members: &[u32]) -> Vec<u32> {
    let inside: std::collections::HashSet<u32> = members.iter().copied().collect();
    let mut path: Vec<u32> = Vec::new();
    let mut seen_at: HashMap<u32, usize> = HashMap::new();
    let mut current = members.iter().copied().min();
    while let Some(node) = current {
        if let Some(start) = seen_at.get(&node) {
            path.drain(..*start);
            break;
        }
        seen_at.insert(node, path.len());
        path.push(node);
        current = deps[node as usize].iter().copied().find(|d| inside.contains(d));
    }
    path
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: usize) -> TaskId {
        TaskId::new(format!("t{n}")).unwrap()
    }

    fn build(count: usize, edges: &[(usize, usize)]) -> Result<Dag, Error> {
        let tasks = (0..count).map(|n| TaskSpec::new(id(n), "t")).collect();
        let edges: Vec<_> = edges.iter().map(|(a, b)| (id(*a), id(*b))).collect();
        Dag::new(tasks, &edges)
    }

    #[test]
    fn cycle_should_be_named_in_waiting_order_without_its_tail() {
        // 0 waits for 1 waits for 2 waits for 3 waits for 1.
        let error = build(5, &[(0, 1), (1, 2), (2, 3), (3, 1), (4, 0)]).unwrap_err();
        assert_eq!(error, Error::Cycle(vec![id(1), id(2), id(3)]));
        assert!(error.to_string().ends_with("t1 -> t2 -> t3 -> t1"), "{error}");
        assert_eq!(build(1, &[(0, 0)]).unwrap_err(), Error::Cycle(vec![id(0)]));
    }

    #[test]
    fn long_cycle_should_be_shortened() {
        let edges: Vec<_> = (0..100).map(|n| (n, (n + 1) % 100)).collect();
        let text = build(100, &edges).unwrap_err().to_string();
        assert!(text.contains("(88 more)") && text.len() < 300, "{text}");
    }

    #[test]
    fn plan_should_be_refused_with_the_task_to_look_at() {
        assert_eq!(build(0, &[]).unwrap_err(), Error::Empty);
        let dangling = Error::Dangling { task: id(1), missing: id(9) };
        assert_eq!(build(2, &[(1, 9)]).unwrap_err(), dangling);
        let twice = vec![TaskSpec::new(id(1), "a"), TaskSpec::new(id(1), "b")];
        assert_eq!(Dag::new(twice, &[]).unwrap_err(), Error::Duplicate(id(1)));
        let mut eager = TaskSpec::new(id(1), "a");
        eager.priority = MAX_PRIORITY + 1;
        assert!(matches!(Dag::new(vec![eager], &[]), Err(Error::Priority { .. })));
    }

    #[test]
    fn repeated_edges_should_count_once() {
        let dag = build(2, &[(1, 0), (1, 0)]).unwrap();
        assert_eq!((dag.edge_count(), dag.dependencies(1)), (1, &[0][..]));
        assert_eq!(dag.dependents(), vec![vec![1], vec![]]);
    }

    proptest! {
        #[test]
        fn graph_should_be_accepted_exactly_when_it_has_no_cycle(
            edges in proptest::collection::vec((0usize..8, 0usize..8), 0..20)
        ) {
            // The transitive closure is the slow and plain way to find a cycle.
            let mut reach = [[false; 8]; 8];
            for (a, b) in &edges { reach[*a][*b] = true; }
            for k in 0..8 { for i in 0..8 { for j in 0..8 {
                reach[i][j] |= reach[i][k] && reach[k][j];
            }}}
            let cyclic = (0..8).any(|n| reach[n][n]);
            match build(8, &edges) {
                Ok(_) => prop_assert!(!cyclic),
                Err(Error::Cycle(ids)) => {
                    prop_assert!(cyclic);
                    for (n, waiting) in ids.iter().enumerate() {
                        let next = &ids[(n + 1) % ids.len()];
                        prop_assert!(edges.iter().any(|(a, b)| (&id(*a), &id(*b)) == (waiting, next)));
                    }
                }
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
    }
}
