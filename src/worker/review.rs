//! Looking at what a builder made, and rescuing what failed: both may put another task
//! in front of the present one.

use std::path::Path;
use std::time::Duration;

use model::review::{OF, Stage};
use model::{TaskId, TaskSpec};
use providers::Session;
use providers::answers::{Recovery, Review, Verdict};
use providers::prompts::{self, Recover};
use providers::recovery;
use store::task::{DetourKind, Task};

use super::attempt::{Attempt, Finished, SentBack};
use super::mind::{Mind, Question};
use super::think::artifacts_of;

/// How long it may take to judge whether a failure can be mended.
const RECOVERY_LIMIT: Duration = Duration::from_secs(5 * 60);

impl Attempt<'_> {
    /// Has the model look at the task that this stage is of.
    pub(super) async fn review(&self, mind: &Mind, folder: &Path) -> Finished {
        let background = match self.background().await {
            Ok(background) => background,
            Err(end) => return end,
        };
        let looked_at = match self.looked_at().await {
            Ok(task) => task,
            Err(end) => return end,
        };
        let Some(spec) = &looked_at.spec else {
            return Finished::held("the task to be reviewed is not in the plan any more");
        };
        // What was mended since counts as well.
        let mut outputs: Vec<String> = background.inputs.iter().flat_map(artifacts_of).collect();
        outputs.sort();
        outputs.dedup();
        let said: Vec<&str> =
            background.inputs.iter().filter_map(|input| input.progress.as_deref()).collect();
        let prompt = prompts::Review {
            agent: &self.settings.name,
            goal: &background.goal,
            task: spec,
            folder,
            outputs: &outputs,
            summary: &said.join("\n"),
            instructions: &background.instructions,
        }
        .render();
        let question = Question {
            prompt,
            session: Session::Ephemeral,
            may_act: true,
            folder: folder.to_owned(),
            log: self.log(),
            timeout: self.grant.spec.timeout(),
            budget_micros: self.grant.spec.budget_micros,
        };
        let held = Some((&self.grant.task, self.grant.epoch));
        let review = match mind.ask::<Review>(held, question, |_| Ok(())).await {
            Ok(asked) => asked.value,
            Err(failure) => return mind.finished(failure),
        };
        let findings = review.findings.join("\n- ");
        match review.verdict {
            Verdict::Pass => Finished::Done {
                artifacts: "[]".to_owned(),
                summary: match findings.as_str() {
                    "" => format!("passed: {}", spec.title),
                    findings => format!("passed: {}; noted: {findings}", spec.title),
                },
            },
            Verdict::Fail => {
                let round = self.grant.detours.review + 1;
                let description = format!(
                    "A review of `{}` found what follows. Mend all of it in the files that are \
                     there.\n\n- {findings}",
                    spec.id
                );
                let mut like = spec.clone();
                like.role.clone_from(&looked_at.role);
                self.send_back(Mending {
                    id: detour_id(&looked_at.id, "fix", round),
                    like,
                    title: format!("Fix: {}", spec.title),
                    description,
                    kind: DetourKind::Review,
                    error: format!("the review found: {findings}"),
                })
            }
        }
    }

    /// The task that this stage is of.
    async fn looked_at(&self) -> Result<Task, Finished> {
        let of = self.grant.spec.metadata.get(OF).map(String::as_str).unwrap_or_default();
        let unknown = |error: store::Error| {
            Finished::held(format!("reading the plan: {}", reconcile::error_chain(&error)))
        };
        let (store, goal) = (self.store, &self.grant.goal);
        for id in store.dependencies(goal, &self.grant.task).await.map_err(unknown)? {
            let task = store.task(&id).await.map_err(unknown)?;
            let is_it = |task: &Task| task.spec.as_ref().is_some_and(|spec| spec.id.as_str() == of);
            if let Some(task) = task.filter(is_it) {
                return Ok(task);
            }
        }
        Err(Finished::held(format!("the task `{of}` to be reviewed is not in the plan any more")))
    }

    /// A failed attempt, where it is the last one of a goal that is reviewed, may be
    /// rescued by another task that mends what stood in its way.
    pub(super) async fn rescue(&self, error: String) -> Finished {
        let failed = |error| Finished::Failed { error, permanent: false };
        let Some(mind) = self.mind.filter(|_| Stage::of(&self.grant.spec).is_none()) else {
            return failed(error);
        };
        let is_last = match self.store.task(&self.grant.task).await {
            Ok(Some(task)) => task.failures + 1 >= task.max_attempts,
            Ok(None) | Err(_) => false,
        };
        if !is_last {
            return failed(error);
        }
        let background = match self.background().await {
            Ok(background) if background.has_review => background,
            Ok(_) | Err(_) => return failed(error),
        };
        let remedy = match recovery::known(&error) {
            Some(remedy) => Some((remedy.title, remedy.steps)),
            None if recovery::hopeless(&error).is_some() => None,
            None => self.judge(mind, &background.goal, &error).await,
        };
        let Some((title, steps)) = remedy else { return failed(error) };
        let description = format!(
            "The task `{}` ({}) failed, and waits for this one:\n\n{error}\n\nWhat may help:\n\n- {}",
            self.grant.spec.id,
            self.grant.spec.title,
            steps.join("\n- ")
        );
        let mut like = TaskSpec::new(self.grant.spec.id.clone(), "");
        like.role.clone_from(&self.grant.spec.role);
        like.timeout_secs = self.grant.spec.timeout_secs;
        like.folder.clone_from(&self.grant.spec.folder);
        let round = self.grant.detours.recovery + 1;
        self.send_back(Mending {
            id: detour_id(&self.grant.task, "recover", round),
            like,
            title,
            description,
            kind: DetourKind::Recovery,
            error,
        })
    }

    /// The model's own judgement on whether a failure can be mended.
    async fn judge(
        &self,
        mind: &Mind,
        goal: &model::GoalSpec,
        error: &str,
    ) -> Option<(String, Vec<String>)> {
        let mut errors = self.errors();
        errors.push(error.to_owned());
        let question = Question {
            prompt: Recover { goal, task: &self.grant.spec, errors: &errors }.render(),
            session: Session::Ephemeral,
            may_act: false,
            folder: self.settings.common.project.clone(),
            log: self.log().with_extension("recovery.log"),
            timeout: RECOVERY_LIMIT,
            budget_micros: self.grant.spec.budget_micros,
        };
        let held = Some((&self.grant.task, self.grant.epoch));
        // One that cannot be asked is no reason to believe that it can be mended.
        let judged = mind.ask::<Recovery>(held, question, |_| Ok(())).await.ok()?.value;
        let sure = judged.is_worth_trying();
        tracing::info!(target: "runtime", agent = %self.settings.name, task = %self.grant.task,
            recoverable = judged.recoverable, confidence = judged.confidence, reason = judged.reason,
            "Judged whether the task can be rescued");
        sure.then_some((judged.remediation_title, judged.remediation_steps))
    }

    fn send_back(&self, mending: Mending) -> Finished {
        let Mending { id, like, title, description, kind, error } = mending;
        let id = match id {
            Ok(id) => id,
            Err(refused) => return Finished::failed(format!("{error}; {refused}")),
        };
        let metadata = [
            ("description".to_owned(), description),
            (OF.to_owned(), self.grant.spec.id.to_string()),
        ];
        let spec = TaskSpec { id, title, run: None, metadata: metadata.into(), ..like };
        Finished::Detour(Box::new(SentBack { spec, error, kind }))
    }
}

/// A task that mends something before the present one goes on.
struct Mending {
    id: Result<TaskId, model::id::Error>,
    /// Whose role, folder, limits and evidence it takes over.
    like: TaskSpec,
    title: String,
    description: String,
    kind: DetourKind,
    /// Why the present task did not get through.
    error: String,
}

/// `<task>__fix1`; where that is too long, the end of the task's id goes.
fn detour_id(task: &TaskId, word: &str, round: u32) -> Result<TaskId, model::id::Error> {
    let end = format!("__{word}{round}");
    let room = model::id::MAX_ID_BYTES.saturating_sub(end.len());
    let start: String = task.as_str().chars().take(room).collect();
    TaskId::new(start + &end)
}
