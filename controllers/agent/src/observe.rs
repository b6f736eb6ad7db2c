//! What is declared, what Redis says, and what the kernel says, of one agent.

use std::collections::BTreeSet;

use model::AgentName;
use process::Identity;
use store::agent::Agent;
use tokio::time::Instant;

use crate::plan::{Registered, Snapshot};
use crate::{Error, Processes, Reconciler};

/// An agent as it stands, in the terms of [`crate::plan`], and as Redis has it.
pub(crate) struct Observed {
    pub(crate) snapshot: Snapshot,
    pub(crate) record: Agent,
}

impl<S: supervisor::Supervisor, P: Processes> Reconciler<S, P> {
    /// Reads one agent.
    pub(crate) async fn observe(&self, name: &AgentName) -> Result<Observed, Error> {
        let began = Instant::now();
        let record = self.parts.store.agent(name).await?;
        Ok(self.interpret(record, began))
    }

    /// Puts what Redis said of an agent, when it was asked at `began`, beside what the
    /// kernel says.
    pub(crate) fn interpret(&self, record: Agent, began: Instant) -> Observed {
        let now = Instant::now();
        let name = &record.name;
        let declared = self.parts.declared.borrow();
        let declared = declared.agents.get(name).map(|spec| spec.spec_hash.clone());
        let mut registered = record.registered.as_ref().map(|r| Registered {
            incarnation: r.incarnation,
            identity: Identity { pid: r.pid, start_time: r.start_time },
            spec_hash: r.spec_hash.clone(),
            local: r.host == self.parts.host,
            alive: true,
            silent_for: self
                .beats()
                .look(name.clone(), (r.incarnation, r.beat), began, now)
                .unwrap_or_default(),
        });
        let local = registered.as_ref().filter(|r| r.local).map(|r| (r.identity, r.incarnation));
        // One that registered by itself, or before our term, is adopted here.
        if let Some((process, _)) = local {
            self.found(name, process);
        }
        let mut memories = self.memories();
        // Whoever is only listed, and gone, costs no memory.
        if declared.is_none() && !memories.contains_key(name) {
            if let Some(registered) = &mut registered {
                registered.alive = !registered.local;
            }
            return Observed { snapshot: Snapshot { registered, ..Snapshot::default() }, record };
        }
        let memory = memories.entry(name.clone()).or_insert_with(|| self.new_memory());
        memory.declared(declared.as_deref());
        memory.look(local, |process| self.parts.processes.is_alive(process), now);
        if let Some(registered) = &mut registered {
            // Asked of the kernel once: two answers could contradict each other.
            registered.alive = !registered.local || memory.knows(&registered.identity);
        }
        let snapshot = Snapshot {
            declared,
            registered,
            processes: memory.living(now),
            start_in: memory.start_in(now),
            deaths: memory.deaths(),
            leftovers: memory.leftovers(),
        };
        Observed { snapshot, record }
    }

    /// Finds the processes of this fleet that run on this host, registered or not,
    /// and remembers them. Their names.
    pub(crate) async fn find_processes(&self) -> Result<BTreeSet<AgentName>, Error> {
        let found = self.parts.processes.find(&self.parts.fleet).await;
        let found = found.map_err(|source| Error::Processes { source })?;
        let mut names = BTreeSet::new();
        for (name, process) in found {
            self.found(&name, process);
            names.insert(name);
        }
        Ok(names)
    }
}
