//! Carrying a plan out. Each action may come too late, or twice, and does no harm
//! then: burying checks the incarnation, signals check the start time, and of two
//! processes of one name the older is fenced.

use model::AgentName;
use model::agent::Phase;
use process::{Identity, Signal};
use store::agent::{Agent, Incarnation};
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::memory::Wait;
use crate::plan::{Action, Plan, Reason, Request, SILENT_THERE, waiting};
use crate::{Error, Processes, Reconciler, attempt};

/// What came of a plan.
pub(crate) struct Done {
    /// Whether anything changed.
    pub(crate) acted: bool,
    /// What the agent is doing now.
    pub(crate) phase: Phase,
}

impl<S: supervisor::Supervisor, P: Processes> Reconciler<S, P> {
    /// Does what the plan says, in its order.
    pub(crate) async fn carry_out(&self, record: &Agent, plan: &Plan) -> Result<Done, Error> {
        let name = &record.name;
        let (mut phase, mut acted) = (plan.phase, false);
        if !plan.actions.is_empty() {
            reconcile::note_plan(plan);
        }
        for action in &plan.actions {
            tracing::debug!(target: "orchestrator", agent = %name, %action, "Acting");
            let span = reconcile::action(word(action));
            let act = async {
                match action {
                    Action::Clear(incarnation) => self.clear(name, *incarnation).await?,
                    // Of one on another host only its beat tells whether it lives.
                    Action::Bury(incarnation, why @ SILENT_THERE) => {
                        let beat = record.registered.as_ref().map(|r| r.beat);
                        return self.bury(name, *incarnation, beat, why).await;
                    }
                    Action::Bury(incarnation, why) => {
                        self.bury(name, *incarnation, None, why).await?;
                    }
                    Action::Ask(process, request, why) => {
                        return self.ask(record, process, *request, *why).await;
                    }
                    Action::Spawn => phase = self.spawn(name).await?.unwrap_or(phase),
                }
                Ok::<bool, Error>(true)
            };
            if !act.instrument(span).await? {
                tracing::info!(target: "orchestrator", agent = %name, %action, "It beats again: not done");
                // The rest of the plan was made for a silence that is over.
                phase = record.status.phase.unwrap_or(phase);
                break;
            }
            acted = true;
        }
        let noted = self.note(record, phase).await?;
        Ok(Done { acted: noted || acted, phase })
    }

    /// Fails unless we lead. Redis refuses what a former leader writes to it; the
    /// kernel and systemg do not know leaders, so this comes right before whatever
    /// is asked of them.
    async fn fence(&self, name: &AgentName) -> Result<(), Error> {
        Ok(self.parts.store.note_agent(&self.lead, name, "", &[]).await?)
    }

    /// Whether its beat still stands where it was seen. Since then the pass may have been held
    /// up, and the kernel, unlike a script, compares no beats.
    async fn is_still_silent(&self, seen: &Agent) -> Result<bool, Error> {
        let beat = |agent: &Agent| agent.registered.as_ref().map(|r| (r.incarnation, r.beat));
        let now = self.parts.store.agent(&seen.name).await?;
        Ok(beat(&now) == beat(seen))
    }

    async fn clear(&self, name: &AgentName, incarnation: Incarnation) -> Result<(), Error> {
        self.fence(name).await?;
        let prefix = attempt::prefix(&self.parts.fleet, name, incarnation);
        end_attempts(&self.parts.processes, prefix).await?;
        if let Some(memory) = self.memories().get_mut(name) {
            memory.cleared(incarnation);
        }
        Ok(())
    }

    /// `false` where it was not buried: its name is another's, or it has beaten since `beat`.
    async fn bury(
        &self,
        name: &AgentName,
        incarnation: Incarnation,
        beat: Option<u64>,
        why: &str,
    ) -> Result<bool, Error> {
        let (store, lead) = (&self.parts.store, &self.lead);
        let buried = match beat {
            Some(beat) => store.bury_silent(lead, name, incarnation, beat, why).await?,
            None => store.bury(lead, name, incarnation, why).await?,
        };
        let Some(task) = buried else { return Ok(false) };
        let task = task.map_or_else(|| "no task".to_owned(), |task| format!("task {task}"));
        tracing::warn!(
            target: "orchestrator", code = "agent-is-dead", agent = %name, %incarnation, why,
            "Agent is dead; {task} is released"
        );
        Ok(true)
    }

    /// `false` where it is not silent any more, and was asked nothing.
    async fn ask(
        &self,
        record: &Agent,
        process: &Identity,
        request: Request,
        why: Reason,
    ) -> Result<bool, Error> {
        let name = &record.name;
        self.fence(name).await?;
        if why == Reason::Silent && !self.is_still_silent(record).await? {
            return Ok(false);
        }
        let signal = match request {
            Request::Retire => Signal::USR1,
            Request::Terminate => Signal::TERM,
            Request::Kill => Signal::KILL,
        };
        tracing::info!(target: "orchestrator", agent = %name, %process, %why, ?request, "Ending agent");
        // Locked meanwhile: a process that ends at once must not be taken for one that
        // ended unasked.
        let mut memories = self.memories();
        let sent = self
            .parts
            .processes
            .signal(process, signal)
            .map_err(|source| Error::Signal { process: *process, source })?;
        if let Some(memory) = memories.get_mut(name).filter(|_| sent) {
            memory.asked(process, request, why, Instant::now());
        }
        Ok(true)
    }

    /// What the agent is doing instead of starting, where no process was started.
    /// That it could not be is shown and tried again later; it is no failure of the
    /// pass.
    async fn spawn(&self, name: &AgentName) -> Result<Option<Phase>, Error> {
        // One that an earlier term started, or a request without an answer.
        if self.find_processes().await?.contains(name) {
            return Ok(None);
        }
        let spec = self.parts.declared.borrow().agents.get(name).cloned();
        // Not declared any more: who changed that wakes us.
        let Some(spec) = spec else { return Ok(None) };
        let request = (self.parts.command)(&spec);
        self.fence(name).await?;
        match self.parts.supervisor.spawn(&request).await {
            Ok(process) => {
                tracing::info!(target: "orchestrator", agent = %name, %process, "Spawned agent");
                self.started(name, process);
                Ok(None)
            }
            Err(error) => {
                let error = reconcile::error_chain(&error);
                let mut memories = self.memories();
                let memory = memories.entry(name.clone()).or_insert_with(|| self.new_memory());
                if memory.failed_to_start(error.clone(), Instant::now()) {
                    tracing::error!(target: "orchestrator", agent = %name, error, "Agent cannot be started");
                }
                Ok(Some(waiting(memory.deaths())))
            }
        }
    }

    /// Shows what changed of an agent, for people. Whether anything did.
    async fn note(&self, record: &Agent, phase: Phase) -> Result<bool, Error> {
        let (name, old) = (&record.name, &record.status);
        let (told, wait) = self
            .memories()
            .get(name)
            .map(|memory| (memory.unreported(), memory.wait(phase)))
            .unwrap_or_default();
        let mut fields: Vec<(&str, String)> = Vec::new();
        if old.phase != Some(phase) {
            fields.push(("phase", phase.to_string()));
        }
        if wait.error != old.error {
            fields.push(("error", wait.error.clone().unwrap_or_default()));
        }
        // Whoever follows the events hears of these two.
        let kind = if fields.is_empty() { "" } else { "agent-phase" };
        if old.phase != Some(phase) || wait.is_news {
            fields.push(("next_start", next_start(&wait)));
        }
        if told.restarts > 0 {
            fields.push(("restarts", (old.restarts + told.restarts).to_string()));
        }
        if let Some(exit) = &told.last_exit {
            fields.push(("last_exit", exit.clone()));
        }
        if fields.is_empty() {
            return Ok(false);
        }
        self.parts.store.note_agent(&self.lead, name, kind, &fields).await?;
        if let Some(memory) = self.memories().get_mut(name) {
            memory.reported(&told, &wait);
        }
        Ok(true)
    }
}

/// What is done, for traces.
const fn word(action: &Action) -> &'static str {
    match action {
        Action::Clear(_) => "clear",
        Action::Bury(..) => "bury",
        Action::Spawn => "spawn",
        Action::Ask(_, Request::Retire, _) => "retire",
        Action::Ask(_, Request::Terminate, _) => "terminate",
        Action::Ask(_, Request::Kill, _) => "kill",
    }
}

/// By people's clock; empty where none is planned.
fn next_start(wait: &Wait) -> String {
    wait.until.map_or_else(String::new, |until| {
        let left = until.saturating_duration_since(Instant::now());
        (jiff::Timestamp::now() + left).to_string()
    })
}

/// Kills whatever still runs for attempts whose marker starts with `prefix`.
pub(crate) async fn end_attempts(processes: &impl Processes, prefix: String) -> Result<(), Error> {
    let ended = processes.end_attempts(prefix).await;
    let ended = ended.map_err(|source| Error::Processes { source })?;
    if ended > 0 {
        tracing::info!(target: "orchestrator", ended, "Ended processes that a dead agent left");
    }
    Ok(())
}
