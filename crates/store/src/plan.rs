//! A plan in force as it is stored, for those who judge whether it is as it should be.

use std::collections::HashMap;

use model::{GoalId, TaskId};
use redis::cmd;

use crate::connection::Store;
use crate::error::Error;
use crate::keys;

/// Records read in one round trip.
const READ_CHUNK: usize = 500;

/// What is read of each record.
const FIELDS: [&str; 9] = [
    "status",
    "owner",
    "epoch",
    "generation",
    "failures",
    "losses",
    "max_attempts",
    "reason",
    "artifacts",
];

/// One task of a plan, as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawTask {
    /// The stored id.
    pub id: String,
    /// The task as JSON.
    pub spec: String,
    /// What it waits for, as a JSON list.
    pub waits_for: String,
    /// Its record: `status`, `owner`, `epoch`, `generation`, `failures`, `losses`,
    /// `max_attempts`, `reason`, `artifacts`, as far as they are there; empty where it
    /// has none.
    pub record: HashMap<String, String>,
}

impl Store {
    /// All tasks of a goal's plan, by id, whatever their records say: also those that
    /// have none, which [`Store::tasks`] leaves out.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer, or an id is none.
    pub async fn raw_tasks(&self, goal: &GoalId) -> Result<Vec<RawTask>, Error> {
        let nodes_key = keys::dag(goal, "nodes");
        let mut pipeline = redis::pipe();
        pipeline.cmd("HGETALL").arg(&nodes_key);
        pipeline.cmd("HGETALL").arg(keys::dag(goal, "deps"));
        // One transaction, so that no new plan falls between them.
        pipeline.atomic();
        let (nodes, mut deps): (HashMap<String, String>, HashMap<String, String>) =
            self.ask_all("read a plan", &pipeline).await?;
        let mut tasks: Vec<RawTask> = nodes
            .into_iter()
            .map(|(id, spec)| {
                let waits_for = deps.remove(&id).unwrap_or_else(|| "[]".to_owned());
                RawTask { id, spec, waits_for, record: HashMap::new() }
            })
            .collect();
        tasks.sort_by(|a, b| a.id.cmp(&b.id));
        for chunk in tasks.chunks_mut(READ_CHUNK) {
            let mut pipeline = redis::pipe();
            for task in chunk.iter() {
                let id = TaskId::new(task.id.as_str())
                    .map_err(|_| Error::malformed(&nodes_key, &task.id, "task ids"))?;
                let mut read = cmd("HMGET");
                read.arg(keys::task(&id)).arg(&FIELDS[..]);
                pipeline.add_command(read);
            }
            let records: Vec<Vec<Option<String>>> = self.ask_all("read tasks", &pipeline).await?;
            for (task, record) in chunk.iter_mut().zip(records) {
                task.record = FIELDS
                    .into_iter()
                    .zip(record)
                    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
                    .collect();
            }
        }
        Ok(tasks)
    }
}
