//! Where plans come from: a person's task list, or a model.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dag_controller::{PlanError, Planner as Plans};
use jiff::Timestamp;
use model::task::State;
use model::{Dag, Declared, GoalSpec, Provider, Role, review};
use providers::answers::{DEFAULT_MAX_TASKS, Plan, PlanLimits, schema};
use providers::ask::ask;
use providers::prompts::{Agent, Decompose, DoneTask};
use providers::{Failure, FailureKind, Permissions, Request, Session, Step, offline};
use reconcile::CancellationToken;
use store::{Lead, Store};
use tokio::sync::watch;

use crate::llm::gate::{Errand, Gate, Party};
use crate::llm::launch::Launcher;
use crate::settings::Llm;
use crate::systemg::Systemg;
use crate::{host, llm, paths};

/// How long one answer may take.
const CALL_LIMIT: Duration = Duration::from_secs(10 * 60);
/// How long a plan may take: three answers and what lies between them.
pub(crate) const PLANNING_LIMIT: Duration = Duration::from_secs(40 * 60);
/// The name in markers of what planners start; no agent can have it.
const MARKED: &str = "@planner";

/// Makes the plans of one term.
pub(crate) struct Planner {
    pub(crate) store: Store,
    pub(crate) lead: Lead,
    pub(crate) declared: watch::Receiver<Arc<Declared>>,
    pub(crate) llm: Llm,
    pub(crate) project: PathBuf,
    pub(crate) slot_ttl: Duration,
    pub(crate) fleet: String,
    pub(crate) sysg: Option<PathBuf>,
    pub(crate) cancel: CancellationToken,
}

/// What a planner's programs of this fleet carry in their environment begins with this.
pub(crate) fn marked(fleet: &str) -> String {
    format!("{fleet}/{MARKED}/")
}

impl Plans for Planner {
    async fn plan(&self, goal: &GoalSpec) -> Result<Dag, PlanError> {
        let llm = self.llm.as_asked(goal.provider, goal.model.as_deref());
        let dag = match (goal.plan_for(llm.provider), llm.provider) {
            (Some(_), _) | (None, Provider::Offline) => offline::plan(goal).map_err(refused)?,
            (None, Provider::Claude | Provider::Codex | Provider::Command) => {
                self.ask(goal, &llm).await?
            }
        };
        if goal.review { review::with_review(&dag).map_err(refused) } else { Ok(dag) }
    }

    fn means(&self, goal: &GoalSpec) -> String {
        let llm = self.llm.as_asked(goal.provider, goal.model.as_deref());
        let model = llm.model.as_deref().unwrap_or("its default model");
        let budget = goal.budget_micros.map_or_else(String::new, |micros| format!(", {micros}"));
        format!("{}, {model}{budget}", llm.provider)
    }
}

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> PlanError {
    PlanError::refused(reconcile::error_chain(&error))
}

impl Planner {
    async fn ask(&self, goal: &GoalSpec, llm: &Llm) -> Result<Dag, PlanError> {
        let gate = Gate {
            store: self.store.clone(),
            provider: llm::provider(llm)
                .map_err(|failure| PlanError::refused(failure.to_string()))?,
            host: host::name(),
            slots: llm.slots,
            slot_ttl: self.slot_ttl,
        };
        let prompt = self.prompt(goal).await?;
        let folder = paths::working_folder(&self.project, &goal.id, goal.folder.as_deref());
        let scratch = paths::llm_scratch(&self.project, &format!("{MARKED}-{}", goal.id));
        let log = scratch.with_extension("log");
        for folder in [&folder, &scratch] {
            fs::create_dir_all(folder).map_err(|error| {
                PlanError::failed(format!("making the folder {}: {error}", folder.display()))
            })?;
        }
        let request = Request {
            step: Step::Decompose,
            prompt: prompt.text.clone(),
            schema: Some(schema::<Plan>().clone()),
            model: llm.model.clone(),
            session: Session::Ephemeral,
            permissions: Permissions::default(),
            budget_micros: goal.budget_micros,
            folder,
            scratch: scratch.clone(),
            log,
            timeout: CALL_LIMIT,
        };
        let launcher = Launcher {
            environment: Vec::new(),
            marker: format!("{}{}/{}", marked(&self.fleet), self.lead.epoch(), goal.id),
            cancel: self.cancel.clone(),
            systemg: llm
                .use_sysg
                .then(|| (Systemg::new(self.sysg.clone()), format!("planner-{}", goal.id))),
        };
        let party = Party::Planner { lead: self.lead };
        let errand = Errand { party, goal: goal.id.clone(), prompt: prompt.id.clone() };
        let (gate, errand, launcher) = (&gate, &errand, &launcher);
        let call = |request: Request| async move { gate.call(errand, &request, launcher).await };
        let roles = self.roles(goal);
        let limits = PlanLimits { max_tasks: DEFAULT_MAX_TASKS, roles: &roles };
        let check = |plan: &Plan| plan.check(goal, &limits);
        let asked = ask::<Plan, _>(request, &prompt, call, check).await;
        _ = fs::remove_dir_all(&scratch);
        let plan = asked.map_err(|failure| error_of(&failure))?.value;
        plan.into_dag(goal, &limits).map_err(PlanError::failed)
    }

    /// The roles that somebody has who works on the goal.
    fn roles(&self, goal: &GoalSpec) -> Vec<Role> {
        let declared = Arc::clone(&self.declared.borrow());
        let agents = declared.agents.values().filter(|agent| agent.goal == goal.id);
        let roles: BTreeSet<Role> = agents.map(|agent| agent.role.clone()).collect();
        roles.into_iter().collect()
    }

    async fn prompt(&self, goal: &GoalSpec) -> Result<providers::prompts::Prompt, PlanError> {
        let declared = Arc::clone(&self.declared.borrow());
        let agents: Vec<Agent<'_>> = declared
            .agents
            .values()
            .filter(|agent| agent.goal == goal.id)
            .map(|agent| Agent { name: &agent.name, role: &agent.role })
            .collect();
        let unknown = |error: store::Error| PlanError::failed(reconcile::error_chain(&error));
        let known = self.store.goal(&goal.id).await.map_err(unknown)?;
        let errors: Vec<String> = known
            .iter()
            .filter(|goal| goal.planning.attempts > 0)
            .filter_map(|goal| goal.planning.error.clone())
            .collect();
        let has_plan = known.is_some_and(|goal| goal.generation > 0);
        let tasks = match has_plan {
            true => self.store.tasks(&goal.id).await.map_err(unknown)?,
            false => Vec::new(),
        };
        let mut done = Vec::new();
        for task in tasks.iter().filter(|task| task.status == State::Done) {
            let Some(spec) = &task.spec else { continue };
            // What reviews and rescues added is not the planner's.
            if spec.metadata.contains_key(review::OF) {
                continue;
            }
            let after = self.store.dependencies(&goal.id, &task.id).await.map_err(unknown)?;
            done.push((spec, after, task.progress.as_deref().unwrap_or_default()));
        }
        let done: Vec<DoneTask<'_>> =
            done.iter().map(|(spec, after, summary)| DoneTask { spec, after, summary }).collect();
        let decompose = Decompose {
            goal,
            agents: &agents,
            done: &done,
            errors: &errors,
            max_tasks: DEFAULT_MAX_TASKS,
        };
        Ok(decompose.render())
    }
}

/// What a call that gave no plan means for planning.
fn error_of(failure: &Failure) -> PlanError {
    let message = failure.message.clone();
    match &failure.kind {
        FailureKind::Limit(limit) => {
            let until = limit.until.map(Timestamp::as_millisecond);
            PlanError::held(message, until.and_then(|at| u64::try_from(at).ok()))
        }
        // A person mends these, and then planning goes on by itself.
        FailureKind::Budget | FailureKind::Refused | FailureKind::Cancelled => {
            PlanError::held(message, None)
        }
        FailureKind::Malformed(_)
        | FailureKind::Failed
        | FailureKind::Denied
        | FailureKind::TimedOut => PlanError::failed(message),
    }
}
