//! The way to a model: one call at a time per caller, and only when it may be made.
//!
//! Before a call Redis is asked for a slot, which it refuses while the provider's usage
//! limit, the goal's or the task's budget, or other calls stand in the way. The same
//! step records the session, so that a successor can go on with it. After the call its
//! cost is recorded, and its slot goes to whoever waits for one. A call whose slot is
//! lost is ended: it would be one too many.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use model::lease::Epoch;
use model::{AgentName, GoalId, TaskId};
use providers::{Failure, FailureKind, Limit, Provider, Reply, Request, Session, Usage};
use store::agent::Incarnation;
use store::llm::{Begin, Begun, Caller, End, LimitHit, Recorded, Spent};
use store::{Lead, Store};
use tokio::time::{Instant, sleep};
use tracing::Instrument as _;

use super::launch::Launcher;
use crate::telemetry::spans;

/// The longest wait for a slot's wake before it is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// Wait between tries to record a call while Redis is away.
const RECORD_AGAIN: Duration = Duration::from_millis(250);
/// How often a slot is renewed in its time to live.
const RENEWALS: u32 = 3;

/// Who calls.
#[derive(Debug, Clone)]
pub(crate) enum Party {
    /// An agent, for the task that it holds or to choose one.
    Agent { agent: AgentName, incarnation: Incarnation, task: Option<(TaskId, Epoch)> },
    /// The planner of a goal.
    Planner { lead: Lead },
}

impl Party {
    fn caller(&self) -> Caller<'_> {
        match self {
            Self::Agent { agent, incarnation, task } => Caller::Agent {
                agent,
                incarnation: *incarnation,
                task: task.as_ref().map(|(task, epoch)| (task, *epoch)),
            },
            Self::Planner { lead } => Caller::Planner { lead },
        }
    }
}

/// Whose call it is, and what for.
#[derive(Debug, Clone)]
pub(crate) struct Errand {
    pub(crate) party: Party,
    pub(crate) goal: GoalId,
    /// Version and hash of the prompt.
    pub(crate) prompt: String,
}

/// The way to one provider.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) store: Store,
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) host: String,
    pub(crate) slots: u32,
    pub(crate) slot_ttl: Duration,
}

impl Gate {
    /// Makes one call, as soon as it may be made.
    ///
    /// # Errors
    /// [`Failure`]; of kind [`FailureKind::Limit`] or [`FailureKind::Budget`] also where
    /// the call was not made because of one.
    pub(crate) async fn call(
        &self,
        errand: &Errand,
        request: &Request,
        launcher: &Launcher,
    ) -> Result<Reply, Failure> {
        let mut open = Open {
            gate: self,
            errand,
            request,
            id: uuid::Uuid::new_v4().to_string(),
            began: Instant::now(),
            stage: Stage::Waiting,
            span: tracing::Span::none(),
        };
        let left = match open.enter(launcher).await {
            Ok(left) => left,
            Err(failure) => {
                open.stage = Stage::Closed;
                self.give_up(errand, &open.id).await;
                return Err(failure);
            }
        };
        open.stage = Stage::Granted;
        open.began = Instant::now();
        open.span = open.span();
        let budget = [request.budget_micros, left].into_iter().flatten().min();
        let request = Request { budget_micros: budget, ..request.clone() };
        let called = async {
            tokio::select! {
                biased;
                result = providers::call(&*self.provider, launcher, &request) => result,
                () = open.keep() => Err(Failure::new(
                    FailureKind::Cancelled,
                    "the slot of this call was lost, so the call was ended",
                )),
            }
        };
        let result = called.instrument(open.span.clone()).await;
        open.close(&result).await;
        result
    }

    fn ttl_ms(&self) -> u64 {
        u64::try_from(self.slot_ttl.as_millis()).unwrap_or(u64::MAX)
    }

    /// Waits in no queue any more, and keeps no slot of which nobody heard.
    async fn give_up(&self, errand: &Errand, call: &str) {
        let left = self.store.give_up_call(&errand.party.caller(), &errand.goal, call).await;
        if let Err(error) = left {
            let error = reconcile::error_chain(&error);
            tracing::debug!(target: "runtime", error, "A call that was given up may keep its slot");
        }
    }
}

/// A call from before its slot until its end is recorded.
struct Open<'a> {
    gate: &'a Gate,
    errand: &'a Errand,
    request: &'a Request,
    id: String,
    began: Instant,
    stage: Stage,
    span: tracing::Span,
}

/// How far a call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was asked of a model yet; Redis may have granted it meanwhile.
    Waiting,
    /// It may be under way.
    Granted,
    /// Nothing is left to be recorded.
    Closed,
}

impl Open<'_> {
    /// The planner's calls are part of the goal's trace, which tells of them; that of a
    /// choice tells the attempt that it led to.
    fn span(&self) -> tracing::Span {
        match self.errand.party {
            Party::Planner { .. } | Party::Agent { task: None, .. } => tracing::Span::none(),
            Party::Agent { task: Some(_), .. } => spans::chat(
                self.gate.provider.name(),
                self.request.step.as_str(),
                self.request.model.as_deref(),
                &self.errand.prompt,
            ),
        }
    }

    /// Waits for a slot. What is left of the budget, if there is one.
    async fn enter(&self, launcher: &Launcher) -> Result<Option<u64>, Failure> {
        let Self { gate, errand, request, id, .. } = self;
        let log = request.log.to_string_lossy();
        let session = match &request.session {
            Session::Ephemeral => None,
            Session::New(session) | Session::Resume(session) => Some(Recorded {
                session,
                provider: gate.provider.name(),
                host: &gate.host,
                log: &log,
            }),
        };
        let begin = Begin {
            call: id,
            caller: errand.party.caller(),
            goal: &errand.goal,
            provider: gate.provider.name(),
            step: request.step.as_str(),
            slots: gate.slots,
            ttl_ms: gate.ttl_ms(),
            session,
        };
        let mut waiting = None;
        loop {
            let begun = gate.store.begin_call(&begin).await.map_err(|error| {
                Failure::new(FailureKind::Failed, reconcile::error_chain(&error))
            })?;
            match begun {
                Begun::Granted { budget_left_micros } => return Ok(budget_left_micros),
                Begun::Waiting { reason } => {
                    tracing::debug!(target: "runtime", goal = %errand.goal, reason, "Waits for a slot");
                }
                Begun::Held { reason, until_us } => {
                    let until = until_us.and_then(timestamp);
                    return Err(Failure::new(FailureKind::Limit(Limit { until }), reason));
                }
                Begun::OverBudget { reason, .. } => {
                    return Err(Failure::new(FailureKind::Budget, reason));
                }
                Begun::Fenced => {
                    let text = "the right to call was lost meanwhile";
                    return Err(Failure::new(FailureKind::Cancelled, text));
                }
            }
            let connection = match &mut waiting {
                Some(waiting) => waiting,
                none => none.insert(gate.store.waiting().map_err(|error| {
                    Failure::new(FailureKind::Failed, reconcile::error_chain(&error))
                })?),
            };
            tokio::select! {
                () = launcher.cancel.cancelled() => {
                    return Err(Failure::new(FailureKind::Cancelled, "told to stop"));
                }
                woken = connection.slot(&begin.caller, &errand.goal, ASK_AGAIN) => if woken.is_err() {
                    sleep(ASK_AGAIN).await;
                },
            }
        }
    }

    /// Renews the slot; returns when it is lost.
    async fn keep(&self) {
        let mut heard = Instant::now();
        loop {
            sleep(self.gate.slot_ttl / RENEWALS).await;
            let (gate, errand) = (self.gate, self.errand);
            let caller = errand.party.caller();
            match gate.store.renew_call(&caller, &errand.goal, &self.id, gate.ttl_ms()).await {
                Ok(true) => heard = Instant::now(),
                Ok(false) => return,
                Err(_) if heard.elapsed() < gate.slot_ttl => {}
                Err(_) => return,
            }
        }
    }

    /// Records what the call came to and frees the slot.
    async fn close(mut self, result: &Result<Reply, Failure>) {
        self.stage = Stage::Closed;
        let ended = self.record(result);
        let Recording { gate, errand, .. } = &ended;
        let deadline = Instant::now() + gate.slot_ttl;
        while let Err(error) = gate.store.end_call(&ended.end()).await {
            // What it cost is known to nobody else. Beyond that time whoever called has
            // lost the task, too.
            if !error.is_transient() || Instant::now() >= deadline {
                tracing::error!(target: "runtime", goal = %errand.goal, cost_micros = ended.usage.cost_micros,
                    %error, "A call's cost is not recorded");
                return;
            }
            sleep(RECORD_AGAIN).await;
        }
    }

    fn record(&self, result: &Result<Reply, Failure>) -> Recording {
        let (usage, model, outcome) = match result {
            Ok(reply) => (reply.usage, reply.model.clone(), "ok"),
            Err(failure) => (spent(failure), None, word(&failure.kind)),
        };
        let limit = match result {
            Err(Failure { kind: FailureKind::Limit(limit), message, .. }) => {
                let until = limit.until.and_then(|at| u64::try_from(at.as_microsecond()).ok());
                Some((until, message.clone()))
            }
            Ok(_) | Err(_) => None,
        };
        let call = spans::Call {
            model: model.as_deref(),
            outcome,
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cost_micros: usage.cost_micros,
        };
        spans::chat_ended(&self.span, &call);
        Recording {
            gate: self.gate.clone(),
            errand: self.errand.clone(),
            id: self.id.clone(),
            step: self.request.step,
            model: model.or_else(|| self.request.model.clone()),
            outcome,
            usage,
            took: self.began.elapsed(),
            limit,
        }
    }
}

impl Drop for Open<'_> {
    /// The call was given up in the middle: its slot, or its place in the queue, is
    /// another's now.
    fn drop(&mut self) {
        // Without a runtime the process is at its end, and its successor frees the slot.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        match self.stage {
            Stage::Closed => {}
            // A call that was never made costs nothing and is none.
            Stage::Waiting => {
                let (gate, errand) = (self.gate.clone(), self.errand.clone());
                let id = std::mem::take(&mut self.id);
                runtime.spawn(async move { gate.give_up(&errand, &id).await });
            }
            Stage::Granted => {
                let given_up = Failure::new(FailureKind::Cancelled, "given up");
                let recording = self.record(&Err(given_up));
                runtime.spawn(async move { recording.gate.store.end_call(&recording.end()).await });
            }
        }
    }
}

/// What is recorded of a call.
struct Recording {
    gate: Gate,
    errand: Errand,
    id: String,
    step: providers::Step,
    model: Option<String>,
    outcome: &'static str,
    usage: Usage,
    took: Duration,
    limit: Option<(Option<u64>, String)>,
}

impl Recording {
    fn end(&self) -> End<'_> {
        End {
            call: &self.id,
            caller: self.errand.party.caller(),
            goal: &self.errand.goal,
            provider: self.gate.provider.name(),
            model: self.model.as_deref(),
            step: self.step.as_str(),
            outcome: self.outcome,
            spent: Spent {
                cost_micros: self.usage.cost_micros,
                input_tokens: self.usage.input_tokens,
                output_tokens: self.usage.output_tokens,
                cache_read_tokens: self.usage.cache_read_tokens,
                cache_write_tokens: self.usage.cache_write_tokens,
            },
            duration_ms: u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            prompt: &self.errand.prompt,
            limit: self
                .limit
                .as_ref()
                .map(|(until_us, message)| LimitHit { until_us: *until_us, message }),
        }
    }
}

/// What a call cost that came to nothing. One that was refused before any model read it
/// cost nothing, which is not the same as that nobody knows.
fn spent(failure: &Failure) -> Usage {
    let was_refused = match failure.kind {
        FailureKind::Refused | FailureKind::Limit(_) | FailureKind::Budget => true,
        FailureKind::Malformed(_)
        | FailureKind::Failed
        | FailureKind::Denied
        | FailureKind::TimedOut
        | FailureKind::Cancelled => false,
    };
    if was_refused && failure.usage == Usage::default() {
        return Usage { cost_micros: Some(0), ..Usage::default() };
    }
    failure.usage
}

fn word(kind: &FailureKind) -> &'static str {
    match kind {
        FailureKind::Malformed(_) => "malformed",
        FailureKind::Failed => "failed",
        FailureKind::Refused => "refused",
        FailureKind::Denied => "denied",
        FailureKind::Limit(_) => "limit",
        FailureKind::Budget => "budget",
        FailureKind::TimedOut => "timed-out",
        FailureKind::Cancelled => "cancelled",
    }
}

fn timestamp(micros: u64) -> Option<Timestamp> {
    Timestamp::from_microsecond(i64::try_from(micros).ok()?).ok()
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
