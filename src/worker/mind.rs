//! An agent's way to its model: who asks, on which terms, and what a failure means for
//! the task.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::lease::Epoch;
use model::{Provider, TaskId};
use providers::answers::Answer;
use providers::ask::{Asked, ask};
use providers::prompts::Prompt;
use providers::{Failure, FailureKind, Permissions, Request, Session};
use store::Store;
use store::agent::Incarnation;
use tokio_util::sync::CancellationToken;

use super::attempt::{Finished, Lack};
use crate::llm::gate::{Errand, Gate, Party};
use crate::llm::launch::Launcher;
use crate::settings::Agent;
use crate::systemg::Systemg;
use crate::{host, llm, paths};

/// A question's own terms; the rest is the agent's.
pub(super) struct Question {
    pub(super) prompt: Prompt,
    pub(super) session: Session,
    /// Whether it may use the agent's tools.
    pub(super) may_act: bool,
    pub(super) folder: PathBuf,
    pub(super) log: PathBuf,
    pub(super) timeout: Duration,
    /// The task's own budget, in millionths of a US dollar.
    pub(super) budget_micros: Option<u64>,
}

/// The model of one agent.
pub(super) struct Mind {
    gate: Gate,
    settings: Arc<Agent>,
    incarnation: Incarnation,
    stopped: CancellationToken,
}

impl Mind {
    /// `None` for an agent without a model.
    pub(super) fn new(
        store: &Store,
        settings: &Arc<Agent>,
        incarnation: Incarnation,
        stopped: CancellationToken,
    ) -> anyhow::Result<Option<Self>> {
        if settings.llm.provider == Provider::Offline {
            return Ok(None);
        }
        let gate = Gate {
            store: store.clone(),
            provider: llm::provider(&settings.llm)?,
            host: host::name(),
            slots: settings.llm.slots,
            slot_ttl: settings.common.lease_ttl,
        };
        Ok(Some(Self { gate, settings: Arc::clone(settings), incarnation, stopped }))
    }

    /// The id under which the session of an earlier attempt goes on, where it can.
    pub(super) fn resumable(&self, record: &store::task::SessionRecord) -> Option<String> {
        let here = record.host == self.gate.host;
        if !here || record.provider != self.gate.provider.name() {
            return None;
        }
        // The beginning is enough: that is where a program names its session.
        let log = read_start(&record.log).unwrap_or_default();
        self.gate.provider.resumable(&record.session, &log)
    }

    /// Asks, for the task that is held or for none.
    pub(super) async fn ask<T: Answer>(
        &self,
        task: Option<(&TaskId, Epoch)>,
        question: Question,
        check: impl Fn(&T) -> Result<(), String>,
    ) -> Result<Asked<T>, Failure> {
        let settings = &self.settings;
        let name = &settings.name;
        let scratch = scratch(settings, task)?;
        let request = Request {
            step: T::STEP,
            prompt: question.prompt.text.clone(),
            schema: Some(providers::answers::schema::<T>().clone()),
            model: settings.llm.model.clone(),
            session: question.session,
            permissions: match question.may_act {
                true => settings.permissions.clone(),
                false => Permissions::default(),
            },
            budget_micros: question.budget_micros,
            folder: question.folder,
            scratch: scratch.clone(),
            log: question.log,
            timeout: question.timeout,
        };
        let epoch = task.map_or(Epoch(0), |(_, epoch)| epoch);
        let launcher = Launcher {
            environment: settings.environment.clone(),
            marker: agent_controller::attempt::value(
                &settings.fleet,
                name,
                self.incarnation,
                epoch,
            ),
            cancel: self.stopped.clone(),
            systemg: settings
                .llm
                .use_sysg
                .then(|| (Systemg::new(settings.sysg.clone()), format!("{name}-llm"))),
        };
        let errand = Errand {
            party: Party::Agent {
                agent: name.clone(),
                incarnation: self.incarnation,
                task: task.map(|(task, epoch)| (task.clone(), epoch)),
            },
            goal: settings.goal.clone(),
            prompt: question.prompt.id.clone(),
        };
        let (gate, errand, launcher) = (&self.gate, &errand, &launcher);
        let call = |request: Request| async move { gate.call(errand, &request, launcher).await };
        let asked = ask(request, &question.prompt, call, check).await;
        _ = std::fs::remove_dir_all(scratch);
        if let Err(failure) = &asked {
            tracing::warn!(target: "runtime", agent = %name, step = T::STEP.as_str(),
                error = failure.message, "The model gave no answer");
        }
        asked
    }

    /// What a call that gave no answer means for the task it was made for.
    pub(super) fn finished(&self, failure: Failure) -> Finished {
        let Failure { kind, message, .. } = failure;
        match kind {
            FailureKind::Cancelled if self.stopped.is_cancelled() => Finished::Stopped,
            FailureKind::Limit(_) | FailureKind::Cancelled => Finished::held(message),
            FailureKind::Budget => Finished::Parked { reason: message },
            // That is the agent's trouble, and no fault of the task.
            FailureKind::Refused => Finished::Held { reason: message, lacks: Some(Lack::Model) },
            FailureKind::Malformed(_)
            | FailureKind::Failed
            | FailureKind::Denied
            | FailureKind::TimedOut => Finished::failed(message),
        }
    }
}

fn read_start(log: &str) -> std::io::Result<String> {
    const START_BYTES: u64 = 64 * 1024;
    let mut start = Vec::new();
    let file = std::fs::File::open(log)?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, START_BYTES), &mut start)?;
    Ok(String::from_utf8_lossy(&start).into_owned())
}

/// A folder for what the program is given as files; nobody else's, as each agent makes
/// one call at a time.
fn scratch(settings: &Agent, task: Option<(&TaskId, Epoch)>) -> Result<PathBuf, Failure> {
    let project = &settings.common.project;
    let who = match task {
        Some((_, epoch)) => format!("{}-{epoch}", settings.name),
        None => format!("{}-choosing", settings.name),
    };
    let folder = paths::llm_scratch(project, &who);
    std::fs::create_dir_all(&folder).map_err(|error| {
        Failure::new(FailureKind::Failed, format!("making {}: {error}", folder.display()))
    })?;
    Ok(folder)
}
