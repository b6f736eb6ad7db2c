//! Carrying a plan out. Each action may come too late, or twice, and does no harm
//! then: burying checks the incarnation, signals check the start time, and of two
//! processes of one name the older is fenced.

use model::AgentName;
use model::agent::Phase;
use process::{Identity, Signal};
use store::agent::{Agent, Incarnation};
use tokio::time::Instant;

use crate::memory::Unreported;
use crate::plan::{Action, Plan, Request};
use crate::{Error, Reconciler, attempt};

impl<S: supervisor::Supervisor> Reconciler<S> {
    /// Does what the plan says, in its order. Whether anything changed.
    pub(crate) async fn carry_out(&self, record: &Agent, plan: &Plan) -> Result<bool, Error> {
        let name = &record.name;
        let mut acted = false;
        let mut phase = plan.phase;
        for action in &plan.actions {
            tracing::debug!(target: "orchestrator", agent = %name, %action, "Acting");
            match action {
                Action::Bury(incarnation, why) => self.bury(name, *incarnation, why).await?,
                Action::Ask(process, request, why) => self.ask(name, process, *request, why)?,
                Action::Spawn => {
                    if !self.spawn(name).await? {
                        phase = Phase::Restarting;
                    }
                }
            }
            acted = true;
        }
        Ok(self.note(record, phase).await? || acted)
    }

    /// What the dead one left running on this host ends first: the next holder of
    /// its task must not work beside it.
    async fn bury(
        &self,
        name: &AgentName,
        incarnation: Incarnation,
        why: &str,
    ) -> Result<(), Error> {
        let prefix = attempt::prefix(&self.parts.fleet, name, incarnation);
        end_attempts(prefix).await?;
        let buried = self.parts.store.bury(&self.lead, name, incarnation, why).await?;
        if let Some(task) = buried {
            let task = task.map_or_else(|| "no task".to_owned(), |task| format!("task {task}"));
            tracing::warn!(
                target: "orchestrator", agent = %name, %incarnation, why,
                "Agent is dead; {task} is released"
            );
        }
        Ok(())
    }

    fn ask(
        &self,
        name: &AgentName,
        process: &Identity,
        request: Request,
        why: &str,
    ) -> Result<(), Error> {
        let signal = match request {
            Request::Retire => Signal::USR1,
            Request::Terminate => Signal::TERM,
            Request::Kill => Signal::KILL,
        };
        tracing::info!(target: "orchestrator", agent = %name, %process, why, ?request, "Ending agent");
        process::signal(process, signal)
            .map_err(|source| Error::Signal { process: *process, source })?;
        if let Some(memory) = self.memories().get_mut(name) {
            memory.asked(process, request, Instant::now());
        }
        Ok(())
    }

    /// Whether a process was started. That it could not be is shown and tried again
    /// later; it is no failure of the pass.
    async fn spawn(&self, name: &AgentName) -> Result<bool, Error> {
        let spec = self.parts.declared.borrow().agents.get(name).cloned();
        let Some(spec) = spec else { return Ok(false) };
        let request = (self.parts.command)(&spec);
        match self.parts.supervisor.spawn(&request).await {
            Ok(process) => {
                tracing::info!(target: "orchestrator", agent = %name, %process, "Spawned agent");
                self.sight(name, process);
                if let Some(memory) = self.memories().get_mut(name) {
                    memory.unreported.error = None;
                }
                Ok(true)
            }
            Err(error) => {
                let error = chain(&error);
                let mut memories = self.memories();
                let memory = memories.entry(name.clone()).or_insert_with(|| self.new_memory());
                if memory.unreported.error.as_ref() != Some(&error) {
                    tracing::error!(target: "orchestrator", agent = %name, error, "Agent cannot be started");
                }
                memory.failed_to_start(error, Instant::now());
                Ok(false)
            }
        }
    }

    /// Shows what changed of an agent, for people. Whether anything did.
    async fn note(&self, record: &Agent, phase: Phase) -> Result<bool, Error> {
        let name = &record.name;
        let (unreported, next_start) = {
            let mut memories = self.memories();
            let Some(memory) = memories.get_mut(name) else { return Ok(false) };
            (memory.unreported.clone(), memory.start_in(Instant::now()))
        };
        let old = &record.status;
        let mut fields: Vec<(&str, String)> = Vec::new();
        if old.phase != Some(phase) {
            fields.push(("phase", phase.to_string()));
            let waits = matches!(phase, Phase::Restarting | Phase::CrashLoop);
            let at = jiff::Timestamp::now() + next_start;
            fields.push(("next_start", if waits { at.to_string() } else { String::new() }));
        }
        if unreported.restarts > 0 {
            fields.push(("restarts", (old.restarts + unreported.restarts).to_string()));
        }
        if let Some(exit) = &unreported.last_exit
            && old.last_exit.as_ref() != Some(exit)
        {
            fields.push(("last_exit", exit.clone()));
        }
        if unreported.error != old.error {
            fields.push(("error", unreported.error.clone().unwrap_or_default()));
        }
        if fields.is_empty() {
            return Ok(false);
        }
        self.parts.store.note_agent(&self.lead, name, "agent-phase", &fields).await?;
        self.reported(name, &unreported, phase);
        Ok(true)
    }

    fn reported(&self, name: &AgentName, told: &Unreported, phase: Phase) {
        let mut memories = self.memories();
        let Some(memory) = memories.get_mut(name) else { return };
        memory.unreported.restarts -= told.restarts.min(memory.unreported.restarts);
        if memory.unreported.last_exit == told.last_exit {
            memory.unreported.last_exit = None;
        }
        if phase == Phase::Gone && memory.is_idle() {
            memories.remove(name);
            self.beats().forget(name);
        }
    }
}

/// Kills whatever still runs for attempts whose marker starts with `prefix`.
pub(crate) async fn end_attempts(prefix: String) -> Result<(), Error> {
    let scan = move || process::end_marked(attempt::MARKER, |value| value.starts_with(&prefix));
    let ended = tokio::task::spawn_blocking(scan)
        .await
        .map_err(std::io::Error::other)
        .and_then(|ended| ended)
        .map_err(|source| Error::Processes { source })?;
    if ended > 0 {
        tracing::info!(target: "orchestrator", ended, "Ended processes that a dead agent left");
    }
    Ok(())
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
