//! What is declared, what Redis says, and what the kernel says, of one agent.

use std::collections::BTreeSet;
use std::time::Duration;

use model::AgentName;
use process::Identity;
use store::agent::Agent;
use tokio::time::Instant;

use crate::plan::{Registered, Snapshot};
use crate::{Error, Reconciler, arguments};

/// An agent as it stands, in the terms of [`crate::plan`], and as Redis has it.
pub(crate) struct Observed {
    pub(crate) snapshot: Snapshot,
    pub(crate) record: Agent,
}

impl<S: supervisor::Supervisor> Reconciler<S> {
    /// Reads one agent.
    pub(crate) async fn observe(&self, name: &AgentName) -> Result<Observed, Error> {
        let record = self.parts.store.agent(name).await?;
        Ok(self.interpret(record))
    }

    /// Puts what Redis said of an agent beside what the kernel says.
    pub(crate) fn interpret(&self, record: Agent) -> Observed {
        let now = Instant::now();
        let name = &record.name;
        let declared = self.parts.declared.borrow();
        let declared = declared.agents.get(name).map(|spec| spec.spec_hash.clone());
        let registered = record.registered.as_ref().map(|r| {
            let identity = Identity { pid: r.pid, start_time: r.start_time };
            let local = r.host == self.parts.host;
            let pulse = (r.incarnation, r.beat);
            Registered {
                incarnation: r.incarnation,
                identity,
                spec_hash: r.spec_hash.clone(),
                local,
                alive: !local || identity.is_alive(),
                silent_for: self.silent_for(name, pulse, now),
            }
        });
        // One that registered by itself, or before our term, is adopted here.
        if let Some(holder) = registered.as_ref().filter(|r| r.local && r.alive) {
            self.sight(name, holder.identity);
        }
        let mut memories = self.memories();
        let memory = memories.entry(name.clone()).or_insert_with(|| self.new_memory());
        memory.sweep(Identity::is_alive, now);
        if let Some(holder) = registered.as_ref().filter(|r| r.local) {
            memory.registered(&holder.identity, now);
        }
        let snapshot = Snapshot {
            declared,
            registered,
            processes: memory.living(now),
            start_in: memory.start_in(now),
            deaths: memory.deaths(),
        };
        Observed { snapshot, record }
    }

    fn silent_for(
        &self,
        name: &AgentName,
        pulse: (store::agent::Incarnation, u64),
        now: Instant,
    ) -> Duration {
        let mut beats = self.beats();
        beats.observe(name.clone(), pulse, now)
    }

    /// Finds the processes of this fleet that run on this host, registered or not,
    /// and remembers them. Their names.
    pub(crate) async fn find_processes(&self) -> Result<BTreeSet<AgentName>, Error> {
        let fleet = self.parts.fleet.clone();
        let scan = move || process::find(|args| arguments::is_agent_of(args, &fleet));
        let found = tokio::task::spawn_blocking(scan)
            .await
            .map_err(std::io::Error::other)
            .and_then(|found| found)
            .map_err(|source| Error::Processes { source })?;
        let mut names = BTreeSet::new();
        for process in found {
            let args: Vec<&str> = process.args.iter().map(String::as_str).collect();
            if let Some(name) = arguments::agent_name(&args) {
                self.sight(&name, process.identity);
                names.insert(name);
            }
        }
        Ok(names)
    }
}
