//! A task that a model does: what it is told, and what its answer means.

use std::path::Path;
use std::time::Duration;

use model::GoalSpec;
use providers::answers::{Execution, ExecutionStatus, Summary};
use providers::prompts::{Dependency, Execute, Summarise};
use providers::{Failure, Session};
use sha2::{Digest as _, Sha256};
use store::task::Input;

use super::attempt::{Attempt, Finished, Work};
use super::mind::{Mind, Question};

/// How long one line about what was done may take.
const SUMMARY_LIMIT: Duration = Duration::from_secs(5 * 60);
/// The most of a summary that a program's failure leaves us to make.
const NOTES_CHARS: usize = 400;
/// How much of the digest of instructions tells their versions apart.
const HASH_BYTES: usize = 16;
/// What a resumed attempt is told.
const RESUMED: &str = "The process that you worked for ended in the middle of this task. This \
    conversation is the one you had; what it did since its last line is unknown.";
/// What an attempt is told that cannot be resumed.
const LEFT: &str = "An earlier attempt at this task ended in the middle, and its conversation is \
    lost. It may have left files.";

/// What is known of the goal and the tasks before.
pub(super) struct Background {
    pub(super) goal: GoalSpec,
    pub(super) has_review: bool,
    pub(super) inputs: Vec<Input>,
    pub(super) instructions: String,
}

impl Attempt<'_> {
    /// Has the model do the task.
    pub(super) async fn think(&self, mind: &Mind, folder: &Path) -> Result<Work, Finished> {
        let background = self.background().await?;
        let resumed = self.grant.session.as_ref().and_then(|record| mind.resumable(record));
        let answer = match resumed {
            Some(session) => {
                let going_on = self.execute(mind, folder, &background, Some(session)).await;
                match going_on {
                    // Its program has forgotten it.
                    Err(failure) if failure.message.starts_with("session not found") => {
                        tracing::info!(target: "runtime", agent = %self.settings.name,
                            task = %self.grant.task, "The session is gone; the task starts anew");
                        self.execute(mind, folder, &background, None).await
                    }
                    answer => answer,
                }
            }
            None => self.execute(mind, folder, &background, None).await,
        };
        let answer = answer.map_err(|failure| mind.finished(failure))?;
        let says = match answer.status {
            ExecutionStatus::Done => return Ok(Work::Thought(Box::new(answer))),
            ExecutionStatus::Failed => "the model says that it failed",
            ExecutionStatus::Blocked => "the model says that it is blocked",
        };
        Err(Finished::failed(match answer.notes.trim() {
            "" => says.to_owned(),
            notes => format!("{says}: {notes}"),
        }))
    }

    async fn execute(
        &self,
        mind: &Mind,
        folder: &Path,
        background: &Background,
        resumed: Option<String>,
    ) -> Result<Execution, Failure> {
        let grant = self.grant;
        let artifacts: Vec<Vec<String>> = background.inputs.iter().map(artifacts_of).collect();
        let specs: Vec<model::TaskSpec> = background
            .inputs
            .iter()
            .map(|input| model::TaskSpec::new(input.id.clone(), input.title.as_str()))
            .collect();
        let dependencies: Vec<Dependency<'_>> = background
            .inputs
            .iter()
            .zip(specs.iter().zip(&artifacts))
            .map(|(input, (spec, artifacts))| Dependency {
                spec,
                summary: input.progress.as_deref().unwrap_or_default(),
                artifacts,
            })
            .collect();
        let interrupted = match (&resumed, &grant.session) {
            (Some(_), _) => Some(RESUMED),
            (None, Some(_)) => Some(LEFT),
            (None, None) => None,
        };
        if let Some(session) = &resumed {
            tracing::info!(target: "runtime", agent = %self.settings.name, task = %grant.task,
                session, "Goes on with the session of an earlier attempt");
        }
        let prompt = Execute {
            agent: &self.settings.name,
            goal: &background.goal,
            task: &grant.spec,
            folder,
            instructions: &background.instructions,
            dependencies: &dependencies,
            memory: self.memory,
            errors: &self.errors(),
            resumed: interrupted,
        }
        .render();
        let question = Question {
            prompt,
            session: match resumed {
                Some(session) => Session::Resume(session),
                None => Session::New(uuid::Uuid::new_v4().to_string()),
            },
            may_act: true,
            folder: folder.to_owned(),
            log: self.log(),
            timeout: grant.spec.timeout(),
            budget_micros: grant.spec.budget_micros,
        };
        let held = Some((&grant.task, grant.epoch));
        mind.ask::<Execution>(held, question, |_| Ok(())).await.map(|asked| asked.value)
    }

    /// One line about what was done. An answer that does not come is no reason to do
    /// the work again.
    pub(super) async fn summarise(
        &self,
        mind: &Mind,
        answer: &Execution,
        artifacts: &[&str],
        folder: &Path,
    ) -> Result<String, Finished> {
        let result = serde_json::json!({ "notes": answer.notes, "files": artifacts }).to_string();
        let question = Question {
            prompt: Summarise { task: &self.grant.spec, result: &result }.render(),
            session: Session::Ephemeral,
            may_act: false,
            folder: folder.to_owned(),
            log: self.log().with_extension("summary.log"),
            timeout: SUMMARY_LIMIT,
            budget_micros: self.grant.spec.budget_micros,
        };
        let held = Some((&self.grant.task, self.grant.epoch));
        match mind.ask::<Summary>(held, question, |_| Ok(())).await {
            Ok(asked) => Ok(asked.value.summary),
            Err(failure) => match mind.finished(failure) {
                end @ (Finished::Stopped | Finished::Lost) => Err(end),
                Finished::Done { .. }
                | Finished::Failed { .. }
                | Finished::Detour(_)
                | Finished::Held { .. }
                | Finished::Parked { .. } => Ok(answer.notes.chars().take(NOTES_CHARS).collect()),
            },
        }
    }

    /// What the prompts of this task tell beside the task itself.
    pub(super) async fn background(&self) -> Result<Background, Finished> {
        let (store, grant) = (self.store, self.grant);
        let unknown = |error: store::Error| {
            Finished::held(format!(
                "reading what the task needs: {}",
                reconcile::error_chain(&error)
            ))
        };
        let goal = store.goal(&grant.goal).await.map_err(unknown)?;
        let goal = goal.ok_or_else(|| Finished::held("its goal is not in Redis any more"))?;
        let inputs = store.inputs(&grant.goal, &grant.task).await.map_err(unknown)?;
        let mut spec = GoalSpec::new(grant.goal.clone());
        spec.title.clone_from(&goal.title);
        spec.text.clone_from(&goal.text);
        let instructions = self.instructions().await;
        Ok(Background { goal: spec, has_review: goal.review, inputs, instructions })
    }

    /// The agent's instructions as they are now; what they were is kept in Redis.
    async fn instructions(&self) -> String {
        let settings = self.settings;
        let name = &settings.name;
        let text = match control_files::read::read(&settings.common.project, &settings.instructions)
        {
            Ok(text) => text,
            Err(control_files::read::Error::NotFound(_)) => return String::new(),
            Err(error) => {
                tracing::warn!(target: "runtime", agent = %name,
                    error = reconcile::error_chain(&error), "Cannot read its instructions");
                return String::new();
            }
        };
        let (store, goal) = (self.store, &self.grant.goal);
        let hash: String = Sha256::digest(&text)
            .iter()
            .take(HASH_BYTES)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let noted = store.note_instructions(name, self.incarnation, goal, &hash, &text).await;
        if let Err(error) = noted {
            tracing::warn!(target: "runtime", agent = %name,
                error = reconcile::error_chain(&error), "Instructions are not recorded");
        }
        text
    }

    /// How the attempts before this one failed, oldest first.
    pub(super) fn errors(&self) -> Vec<String> {
        self.grant.errors.iter().rev().cloned().collect()
    }
}

/// The paths of what a task made.
pub(super) fn artifacts_of(input: &Input) -> Vec<String> {
    let list = input.artifacts.as_ref().and_then(serde_json::Value::as_array);
    let path = |made: &serde_json::Value| made.get("path")?.as_str().map(str::to_owned);
    list.into_iter().flatten().filter_map(path).collect()
}
