//! Plans: writing a new one beside the one in force, and switching.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use model::task::{DEFAULT_MAX_ATTEMPTS, State};
use model::{Dag, GoalId, Role, TaskId, TaskSpec};
use redis::cmd;
use serde::Serialize;
use serde_json::json;

use crate::connection::Store;
use crate::error::Error;
use crate::lead::Lead;
use crate::{keys, script};

/// Ids in one reservation.
const RESERVE_CHUNK: usize = 2_000;
/// Tasks in one staging call: some milliseconds of Redis' time.
const STAGE_CHUNK: usize = 500;

/// How a plan differs from the one before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Tasks that are new.
    pub added: Vec<TaskId>,
    /// Tasks whose content changed: they run again.
    pub revised: Vec<TaskId>,
    /// Tasks that are no longer wanted.
    pub removed: Vec<TaskId>,
    /// Tasks that only wait for something else now.
    pub relinked: Vec<TaskId>,
}

impl Difference {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty()
            && self.revised.is_empty()
            && self.removed.is_empty()
            && self.relinked.is_empty()
    }

    /// In words, with at most a few ids each.
    #[must_use]
    pub fn summary(&self) -> String {
        let parts: Vec<String> = [
            ("added", &self.added),
            ("changed", &self.revised),
            ("removed", &self.removed),
            ("waits for something else", &self.relinked),
        ]
        .into_iter()
        .filter(|(_, ids)| !ids.is_empty())
        .map(|(what, ids)| {
            let shown: Vec<&str> = ids.iter().take(5).map(TaskId::as_str).collect();
            let more = if ids.len() > 5 { ", .." } else { "" };
            format!("{} {what} ({}{more})", ids.len(), shown.join(", "))
        })
        .collect();
        parts.join("; ")
    }
}

/// The plan in force as it is stored.
struct InForce {
    /// How many tasks detours had put into it.
    inserted: u64,
    nodes: HashMap<String, String>,
    deps: HashMap<String, String>,
}

/// One task of the new plan, ready to be written. Its texts are as long as they are: those of
/// a large plan are most of what accepting it takes.
struct Row<'a> {
    spec: &'a TaskSpec,
    json: Box<str>,
    deps: Box<str>,
    dependents: Box<str>,
    waiting: usize,
    seq: usize,
}

impl Row<'_> {
    /// '' is any.
    fn role(&self) -> &str {
        self.spec.role.as_ref().map_or("", Role::as_str)
    }
}

/// What tells a plan that is being written from every other one.
struct Staged {
    generation: u64,
    token: u64,
    /// As in the plan that it is compared with.
    inserted: u64,
}

/// What the switch has to be told besides the staged plan.
struct Changes<'a> {
    fresh: HashSet<&'a TaskId>,
    revised: Vec<&'a Row<'a>>,
    removed: Vec<TaskId>,
    /// Only their dependencies changed.
    rewired: Vec<&'a TaskId>,
    /// Everything whose dependencies must be counted anew.
    relinked: BTreeSet<&'a TaskId>,
}

impl Store {
    /// Makes `dag` the goal's plan in force. Tasks that exist already and did not
    /// change keep their state; those that changed run again; what is running
    /// finishes. `None` where the plan is the one in force already.
    ///
    /// # Errors
    /// [`Error::PlanMoved`] where another plan came between: read again.
    /// [`Error::IdTaken`], [`Error::NotLeader`], or Redis did not answer.
    pub async fn accept(
        &self,
        lead: &Lead,
        goal: &GoalId,
        dag: Dag,
        spec_hash: &str,
        title: &str,
    ) -> Result<Option<Difference>, Error> {
        let (generation, in_force) = self.plan_in_force(goal).await?;
        let dag = self.reserve(lead, goal, dag).await?;
        let rows = rows(&dag);
        let changes = compare(&dag, &rows, &in_force);
        let difference = changes.difference();
        if generation > 0 && difference.is_empty() {
            return Ok(None);
        }
        let staged = Staged {
            generation: generation + 1,
            token: fastrand::u64(..),
            inserted: in_force.inserted,
        };
        self.stage(lead, goal, &staged, &rows, &changes.fresh).await?;
        self.switch(lead, goal, &staged, (spec_hash, title), &rows, &changes).await?;
        Ok(Some(difference))
    }

    async fn plan_in_force(&self, goal: &GoalId) -> Result<(u64, InForce), Error> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("HMGET").arg(keys::goal(goal)).arg("generation").arg("inserted");
        pipeline.cmd("HGETALL").arg(keys::dag(goal, "nodes"));
        pipeline.cmd("HGETALL").arg(keys::dag(goal, "deps"));
        // One transaction, so that no detour falls between them.
        pipeline.atomic();
        let ((generation, inserted), nodes, deps): ((Option<u64>, Option<u64>), _, _) =
            self.ask_all("read the plan in force", &pipeline).await?;
        let in_force = InForce { inserted: inserted.unwrap_or(0), nodes, deps };
        Ok((generation.unwrap_or(0), in_force))
    }

    async fn reserve(&self, lead: &Lead, goal: &GoalId, dag: Dag) -> Result<Dag, Error> {
        let mut stored = Vec::with_capacity(dag.tasks().len());
        for chunk in dag.tasks().chunks(RESERVE_CHUNK) {
            let ids: Vec<&str> = chunk.iter().map(|task| task.id.as_str()).collect();
            let args = (lead.controller(), lead.epoch().0, goal.as_str(), ids);
            let reply = self.call("reserve task ids", &script::DAG_RESERVE, args).await?.led()?;
            match reply.verdict() {
                "reserved" if reply.rest().len() == chunk.len() => {}
                "taken" => return Err(Error::IdTaken { id: reply.word(0).to_owned() }),
                _ => return Err(reply.surprise()),
            }
            for id in reply.rest() {
                stored.push(TaskId::new(id.as_str()).map_err(|_| reply.surprise())?);
            }
        }
        dag.renamed(stored).map_err(|error| Error::IdTaken { id: error.to_string() })
    }

    async fn stage(
        &self,
        lead: &Lead,
        goal: &GoalId,
        staged: &Staged,
        rows: &[Row<'_>],
        fresh: &HashSet<&TaskId>,
    ) -> Result<(), Error> {
        let (first, rest) = rows.split_at(rows.len().min(STAGE_CHUNK));
        self.stage_some(lead, goal, staged, first, fresh, true).await?;
        // The others in any order. Two at a time: one is put together while Redis writes the
        // other.
        for two in rest.chunks(2 * STAGE_CHUNK) {
            let (one, other) = two.split_at(two.len().min(STAGE_CHUNK));
            let one = self.stage_some(lead, goal, staged, one, fresh, false);
            let other = async {
                if other.is_empty() {
                    return Ok(());
                }
                self.stage_some(lead, goal, staged, other, fresh, false).await
            };
            tokio::try_join!(one, other)?;
        }
        Ok(())
    }

    async fn stage_some(
        &self,
        lead: &Lead,
        goal: &GoalId,
        staged: &Staged,
        rows: &[Row<'_>],
        fresh: &HashSet<&TaskId>,
        is_first: bool,
    ) -> Result<(), Error> {
        let mut args: Vec<String> = vec![
            lead.controller().to_owned(),
            lead.epoch().to_string(),
            goal.to_string(),
            staged.generation.to_string(),
            staged.token.to_string(),
            if is_first { "1" } else { "" }.to_owned(),
        ];
        for row in rows {
            let is_fresh = fresh.contains(&row.spec.id);
            args.extend([
                row.spec.id.to_string(),
                row.json.to_string(),
                row.deps.to_string(),
                row.dependents.to_string(),
                if is_fresh { "1" } else { "" }.to_owned(),
                row.role().to_owned(),
                row.spec.priority.to_string(),
                row.seq.to_string(),
                max_attempts(row.spec).to_string(),
                row.waiting.to_string(),
                needs_model(row.spec).to_owned(),
            ]);
        }
        let reply = self.call("write a plan", &script::DAG_STAGE, args).await?.led()?;
        match reply.verdict() {
            "staged" => Ok(()),
            _ => Err(Error::PlanMoved { goal: goal.clone() }),
        }
    }

    async fn switch(
        &self,
        lead: &Lead,
        goal: &GoalId,
        staged: &Staged,
        (spec_hash, title): (&str, &str),
        rows: &[Row<'_>],
        changes: &Changes<'_>,
    ) -> Result<(), Error> {
        let mut fresh = BTreeMap::<(&str, State), usize>::new();
        for row in rows.iter().filter(|row| changes.fresh.contains(&row.spec.id)) {
            let state = if row.waiting == 0 { State::Ready } else { State::Blocked };
            *fresh.entry((row.role(), state)).or_default() += 1;
        }
        let fresh: Vec<_> =
            fresh.into_iter().map(|((role, state), n)| json!([role, state.as_str(), n])).collect();
        let revised: Vec<_> = changes
            .revised
            .iter()
            .map(|row| {
                let (id, role) = (row.spec.id.as_str(), row.role());
                let (most, llm) = (max_attempts(row.spec), needs_model(row.spec));
                json!([id, role, row.spec.priority, row.seq, most, llm])
            })
            .collect();
        let args = (
            (self.now(), lead.controller(), lead.epoch().0, goal.as_str(), staged.generation),
            (spec_hash, title, rows.len(), json!(fresh).to_string(), changes.fresh.len()),
            (json!(revised).to_string(), json!(changes.removed).to_string()),
            (json!(changes.relinked).to_string(), staged.token, staged.inserted),
        );
        let reply = self.call("accept a plan", &script::DAG_ACCEPT, args).await?.led()?;
        match reply.verdict() {
            "accepted" | "already" => Ok(()),
            "stale" | "missing" => Err(Error::PlanMoved { goal: goal.clone() }),
            _ => Err(reply.surprise()),
        }
    }

    /// Every role that a task of the goal ever asked for.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn goal_roles(&self, goal: &GoalId) -> Result<Vec<String>, Error> {
        self.ask("read a goal's roles", cmd("SMEMBERS").arg(keys::dag(goal, "roles"))).await
    }
}

pub(crate) fn max_attempts(spec: &TaskSpec) -> u32 {
    spec.max_attempts.unwrap_or(DEFAULT_MAX_ATTEMPTS).max(1)
}

/// '1' where the task needs a model: it has no shell block.
pub(crate) fn needs_model(spec: &TaskSpec) -> &'static str {
    if spec.run.is_none() { "1" } else { "" }
}

fn rows(dag: &Dag) -> Vec<Row<'_>> {
    let dependents = dag.dependents();
    let list = |positions: &[u32]| {
        // By id: another order of declaration is not another structure.
        let mut ids: Vec<&TaskId> =
            positions.iter().map(|p| &dag.tasks()[*p as usize].id).collect();
        ids.sort();
        json!(ids).to_string().into_boxed_str()
    };
    dag.tasks()
        .iter()
        .enumerate()
        .map(|(seq, spec)| Row {
            spec,
            json: json!(spec).to_string().into_boxed_str(),
            deps: list(dag.dependencies(seq)),
            dependents: list(&dependents[seq]),
            waiting: dag.dependencies(seq).len(),
            seq,
        })
        .collect()
}

fn compare<'a>(dag: &'a Dag, rows: &'a [Row<'a>], old: &InForce) -> Changes<'a> {
    let mut changes = Changes {
        fresh: HashSet::new(),
        revised: Vec::new(),
        removed: Vec::new(),
        rewired: Vec::new(),
        relinked: BTreeSet::new(),
    };
    // Only where there is something to compare with.
    let dependents = LazyCell::new(|| dag.dependents());
    let wanted =
        LazyCell::new(|| rows.iter().map(|row| row.spec.id.as_str()).collect::<HashSet<_>>());
    for row in rows {
        let id = row.spec.id.as_str();
        let same_deps = old.deps.get(id).map_or("[]", String::as_str) == &*row.deps;
        match old.nodes.get(id) {
            None => {
                changes.fresh.insert(&row.spec.id);
                // Its dependencies may be done already.
                let known = |p: &u32| old.nodes.contains_key(dag.tasks()[*p as usize].id.as_str());
                if dag.dependencies(row.seq).iter().any(known) {
                    changes.relinked.insert(&row.spec.id);
                }
                continue;
            }
            Some(json) if **json != *row.json => {
                changes.revised.push(row);
                changes.relinked.insert(&row.spec.id);
                let waiting = dependents[row.seq].iter();
                changes.relinked.extend(waiting.map(|p| &dag.tasks()[*p as usize].id));
            }
            Some(_) if !same_deps => changes.rewired.push(&row.spec.id),
            Some(_) => {}
        }
        if !same_deps {
            changes.relinked.insert(&row.spec.id);
        }
    }
    changes.removed = old
        .nodes
        .keys()
        .filter(|id| !wanted.contains(id.as_str()))
        .filter_map(|id| TaskId::new(id.as_str()).ok())
        .collect();
    changes.removed.sort();
    changes
}

impl Changes<'_> {
    fn difference(&self) -> Difference {
        let mut added: Vec<TaskId> = self.fresh.iter().map(|id| (*id).clone()).collect();
        added.sort();
        Difference {
            added,
            revised: self.revised.iter().map(|row| row.spec.id.clone()).collect(),
            removed: self.removed.clone(),
            relinked: self.rewired.iter().map(|id| (*id).clone()).collect(),
        }
    }
}
