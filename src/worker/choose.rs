//! Which task comes next: the best there is, or, among several equals, the one that the
//! model chooses.

use std::time::Duration;

use model::{GoalSpec, TaskId, TaskSpec};
use providers::answers::Selection;
use providers::prompts::Select;
use providers::{FailureKind, Session};
use store::task::{Candidates, Claim};

use super::mind::{Mind, Question};
use super::{REPORT_AGAIN, Worker};
use crate::paths;

/// Among how many tasks a model chooses at most.
const CANDIDATES: usize = 20;
/// The shortest wait for the end of a hold.
const SHORTEST: Duration = Duration::from_millis(50);
/// How long choosing may take.
const LIMIT: Duration = Duration::from_secs(2 * 60);

impl Worker {
    /// The next task, if there is one; `None` where that could not be found out.
    pub(super) async fn next_claim(&self) -> Option<Claim> {
        let Some(mind) = &self.mind else { return self.claim(None).await };
        let agent = &self.settings.name;
        let candidates = match self.store.candidates(agent, self.incarnation, CANDIDATES).await {
            Ok(candidates) => candidates,
            Err(error) => {
                tracing::warn!(target: "runtime", %agent,
                    error = reconcile::error_chain(&error), "Cannot look for tasks");
                self.link.wait_for_wake(REPORT_AGAIN).await;
                return None;
            }
        };
        match candidates {
            Candidates::Tasks(tasks) => self.claim_one_of(mind, tasks).await,
            Candidates::Held { reason, until_us } => Some(Claim::Held { reason, until_us }),
            Candidates::Empty => Some(Claim::Empty),
            Candidates::Holding => self.claim(None).await,
            Candidates::Fenced => Some(Claim::Fenced),
        }
    }

    async fn claim_one_of(&self, mind: &Mind, tasks: Vec<(TaskId, TaskSpec)>) -> Option<Claim> {
        let first = tasks.first().map(|(id, _)| id.clone());
        // A block needs no choosing: it runs as it stands.
        let thoughtful = tasks.iter().filter(|(_, spec)| spec.run.is_none()).count();
        let wanted = match tasks.len() {
            0 | 1 => first,
            _ if thoughtful < tasks.len() => first,
            _ => match self.choose(mind, &tasks).await {
                Ok(chosen) => Some(chosen),
                Err(Held { reason, until_us }) => return Some(Claim::Held { reason, until_us }),
            },
        };
        let claim = self.claim(wanted.as_ref()).await?;
        // Another agent was quicker; there may be more.
        if claim == Claim::Taken { self.claim(None).await } else { Some(claim) }
    }

    /// Which of them the model wants; the first where it does not say.
    async fn choose(&self, mind: &Mind, tasks: &[(TaskId, TaskSpec)]) -> Result<TaskId, Held> {
        let (settings, goal_id) = (&self.settings, &self.settings.goal);
        let mut goal = GoalSpec::new(goal_id.clone());
        if let Ok(Some(known)) = self.store.goal(goal_id).await {
            goal.text = known.text;
        }
        let candidates: Vec<TaskSpec> = tasks.iter().map(|(_, spec)| spec.clone()).collect();
        let folder = paths::working_folder(&settings.common.project, goal_id, None);
        _ = std::fs::create_dir_all(&folder);
        let question = Question {
            prompt: Select {
                agent: &settings.name,
                goal: &goal,
                candidates: &candidates,
                memory: self.memory.lines(),
            }
            .render(),
            session: Session::Ephemeral,
            may_act: false,
            folder,
            log: paths::llm_scratch(&settings.common.project, &format!("{}.log", settings.name)),
            timeout: LIMIT,
            budget_micros: None,
        };
        let offered = |selection: &Selection| selection.check(&candidates);
        let first = |tasks: &[(TaskId, TaskSpec)]| tasks.first().map(|(id, _)| id.clone());
        match mind.ask::<Selection>(None, question, offered).await {
            Ok(asked) => {
                let chosen = &asked.value.selected_task_id;
                let of = tasks.iter().find(|(_, spec)| spec.id.as_str() == chosen.as_str());
                tracing::info!(target: "runtime", agent = %settings.name, task = chosen.as_str(),
                    why = asked.value.justification, "Chose task {chosen}");
                of.map(|(id, _)| id.clone()).or_else(|| first(tasks)).ok_or_else(Held::nothing)
            }
            Err(failure) => match failure.kind {
                FailureKind::Limit(limit) => Err(Held {
                    reason: failure.message,
                    until_us: limit.until.and_then(|at| u64::try_from(at.as_microsecond()).ok()),
                }),
                FailureKind::Budget | FailureKind::Cancelled => {
                    Err(Held { reason: failure.message, until_us: None })
                }
                // Work goes on without a choice.
                FailureKind::Malformed(_)
                | FailureKind::Failed
                | FailureKind::Refused
                | FailureKind::Denied
                | FailureKind::TimedOut => first(tasks).ok_or_else(Held::nothing),
            },
        }
    }

    async fn claim(&self, wanted: Option<&TaskId>) -> Option<Claim> {
        let agent = &self.settings.name;
        let ttl_ms = self.settings.common.lease_ttl_ms();
        match self.store.claim(agent, self.incarnation, ttl_ms, wanted).await {
            Ok(claim) => Some(claim),
            Err(error) => {
                tracing::warn!(target: "runtime", %agent,
                    error = reconcile::error_chain(&error), "Cannot claim");
                self.link.wait_for_wake(REPORT_AGAIN).await;
                None
            }
        }
    }

    /// How long to wait before the next look: no longer than the hold.
    pub(super) fn until(&self, until_us: Option<u64>) -> Duration {
        let left = until_us.map(|until| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            Duration::from_micros(until).saturating_sub(now.unwrap_or_default())
        });
        // A clock that jumped must not make this a busy loop.
        left.map_or(self.settings.cadence, |left| left.max(SHORTEST)).min(self.settings.cadence)
    }
}

/// Nothing may be chosen now.
struct Held {
    reason: String,
    until_us: Option<u64>,
}

impl Held {
    fn nothing() -> Self {
        Self { reason: "there is nothing to choose from".to_owned(), until_us: None }
    }
}
