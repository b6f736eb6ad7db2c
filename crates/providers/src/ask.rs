//! From a prompt to an answer: calls, repairs and retries, at most [`MAX_CALLS`] in all.
//!
//! An answer that cannot be used is quoted back with what is wrong with it, and the whole
//! task is asked again; where the session goes on, only the answer is. A call that failed
//! is made again after a delay. What will not go better by itself (nobody is logged in, a
//! usage limit, a budget, denied tools, a timeout) is returned at once.

use std::time::Duration;

use crate::answers::{Answer, parse, schema};
use crate::prompts::{Prompt, Repair, one_line};
use crate::{Failure, FailureKind, Reply, Request, Session, Step, Usage};

/// The most calls for one answer.
pub const MAX_CALLS: u32 = 3;
/// The delay before a failed call is made again; it doubles.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// How a failure's message begins where the program knows nothing of the session that it
/// was to resume: to resume it again is in vain.
pub const SESSION_NOT_FOUND: &str = "session not found";
/// How much of one call's error stands in the last one's, in bytes.
const MAX_PROBLEM_BYTES: usize = 600;

/// An answer, and what it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked<T> {
    /// The answer: read, checked.
    pub value: T,
    /// [`Prompt::id`] of what was asked; a repair keeps that of the question.
    pub prompt: String,
    /// What all calls used up.
    pub usage: Usage,
    /// How many calls it took.
    pub calls: u32,
    /// The session that the answer came from, where the program says.
    pub session: Option<String>,
    /// The model that answered, where the program says.
    pub model: Option<String>,
}

/// Asks until there is an answer of type `T` that `check` takes.
///
/// `request` says where and how; its step, prompt and schema are set here. `call` makes
/// one call, and everything around one (slots, budgets, recording) is its own. It sees
/// the request as it is for that call: a call that is made again begins a session under
/// another id, because programs refuse one twice; a repair of [`Step::Execute`] resumes
/// the session of the answer, so that work is not done twice; and the budget shrinks by
/// what calls before cost.
///
/// # Errors
/// [`Failure`], with what all calls used up. After the last call its message says what was
/// wrong each time.
pub async fn ask<T: Answer, Called>(
    request: Request,
    prompt: &Prompt,
    call: impl FnMut(Request) -> Called,
    check: impl Fn(&T) -> Result<(), String>,
) -> Result<Asked<T>, Failure>
where
    // Not an `AsyncFnMut`: of its future nobody can say yet that it is `Send`.
    Called: Future<Output = Result<Reply, Failure>>,
{
    ask_with(request, prompt, call, check, tokio::time::sleep).await
}

async fn ask_with<T: Answer, Called, Paused>(
    request: Request,
    prompt: &Prompt,
    mut call: impl FnMut(Request) -> Called,
    check: impl Fn(&T) -> Result<(), String>,
    pause: impl Fn(Duration) -> Paused,
) -> Result<Asked<T>, Failure>
where
    Called: Future<Output = Result<Reply, Failure>>,
    Paused: Future<Output = ()>,
{
    let mut asking = Asking::new::<T>(request, prompt);
    loop {
        let reply = call(asking.request.clone()).await;
        asking.calls += 1;
        let next = match reply {
            Ok(reply) => {
                asking.used(reply.usage);
                match read(&reply, &check) {
                    Ok(value) => return Ok(asking.answered(value, reply)),
                    Err(problem) => asking.unusable(&came(&reply), problem, reply.session),
                }
            }
            Err(failure) => asking.failed(failure),
        };
        match next {
            Next::Now => {}
            Next::After(delay) => pause(delay).await,
            Next::Never(failure) => return Err(failure),
        }
    }
}

fn read<T: Answer>(reply: &Reply, check: &impl Fn(&T) -> Result<(), String>) -> Result<T, String> {
    let Some(value) = &reply.value else {
        return Err("the answer holds no JSON".to_owned());
    };
    let value = parse(value)?;
    check(&value)?;
    Ok(value)
}

/// What came, as text.
fn came(reply: &Reply) -> String {
    match &reply.value {
        Some(value) if reply.text.trim().is_empty() => value.to_string(),
        Some(_) | None => reply.text.clone(),
    }
}

/// What to do after a call without an answer.
enum Next {
    Now,
    After(Duration),
    Never(Failure),
}

/// The calls made so far.
struct Asking<'a> {
    prompt: &'a Prompt,
    request: Request,
    usage: Usage,
    calls: u32,
    /// How many of them failed, which the delay follows.
    failures: u32,
    /// What was wrong with each.
    problems: Vec<String>,
    /// The answer that the present call repairs within its session, and its error.
    in_session: Option<(String, String)>,
}

impl<'a> Asking<'a> {
    fn new<T: Answer>(mut request: Request, prompt: &'a Prompt) -> Self {
        request.step = T::STEP;
        request.prompt.clone_from(&prompt.text);
        request.schema = Some(schema::<T>());
        Self {
            prompt,
            request,
            usage: Usage::default(),
            calls: 0,
            failures: 0,
            problems: Vec::new(),
            in_session: None,
        }
    }

    fn used(&mut self, usage: Usage) {
        self.usage = sum(self.usage, usage);
        if let (Some(budget), Some(cost)) = (&mut self.request.budget_micros, usage.cost_micros) {
            *budget = budget.saturating_sub(cost);
        }
    }

    fn answered<T>(self, value: T, reply: Reply) -> Asked<T> {
        Asked {
            value,
            prompt: self.prompt.id.clone(),
            usage: self.usage,
            calls: self.calls,
            session: reply.session,
            model: reply.model,
        }
    }

    /// Something came, but not what was asked for.
    fn unusable(&mut self, came: &str, problem: String, session: Option<String>) -> Next {
        let kind = FailureKind::Malformed(one_line(came, MAX_PROBLEM_BYTES));
        if let Some(failure) = self.give_up(kind, &problem) {
            return Next::Never(failure);
        }
        let step = self.request.step.as_str();
        tracing::warn!(step, calls = self.calls, problem, "answer cannot be used; asking again");
        match self.to_resume(session) {
            Some(id) => {
                self.request.prompt =
                    Repair { original: None, came, error: &problem }.render().text;
                self.request.session = Session::Resume(id);
                self.in_session = Some((came.to_owned(), problem));
            }
            None => self.repair_in_whole(came, &problem),
        }
        Next::Now
    }

    fn repair_in_whole(&mut self, came: &str, error: &str) {
        let repair = Repair { original: Some(self.prompt), came, error };
        self.request.prompt = repair.render().text;
        self.in_session = None;
        self.begin_anew();
    }

    fn failed(&mut self, failure: Failure) -> Next {
        self.used(failure.usage);
        let is_resumed = matches!(self.request.session, Session::Resume(_));
        if is_resumed && failure.message.starts_with(SESSION_NOT_FOUND) {
            return self.forgotten(failure);
        }
        match failure.kind {
            FailureKind::Malformed(came) => self.unusable(&came, failure.message, None),
            FailureKind::Failed => {
                if let Some(failure) = self.give_up(FailureKind::Failed, &failure.message) {
                    return Next::Never(failure);
                }
                let step = self.request.step.as_str();
                let problem = failure.message;
                tracing::warn!(step, calls = self.calls, problem, "call failed; calling again");
                if let Session::New(_) = self.request.session {
                    self.begin_anew();
                }
                let delay = FIRST_DELAY.saturating_mul(1 << self.failures.min(8));
                self.failures += 1;
                Next::After(delay.mul_f64(0.75 + 0.5 * fastrand::f64()))
            }
            kind @ (FailureKind::Refused
            | FailureKind::Denied
            | FailureKind::Limit(_)
            | FailureKind::Budget
            | FailureKind::TimedOut
            | FailureKind::Cancelled) => {
                Next::Never(Failure::new(kind, failure.message).with_usage(self.usage))
            }
        }
    }

    /// The end, where no call is left or none may be paid for.
    fn give_up(&mut self, kind: FailureKind, problem: &str) -> Option<Failure> {
        self.problems.push(one_line(problem, MAX_PROBLEM_BYTES));
        let spent = self.request.budget_micros == Some(0);
        if self.calls < MAX_CALLS && !spent {
            return None;
        }
        let calls = self.calls;
        let problems: Vec<String> = (1..)
            .zip(&self.problems)
            .map(|(number, problem)| format!("call {number}: {problem}"))
            .collect();
        let problems = problems.join("; ");
        let (kind, message) = if spent && self.calls < MAX_CALLS {
            let why = "its budget is spent, so it is not asked again";
            (
                FailureKind::Budget,
                format!("no usable answer to {}: {why}: {problems}", self.prompt.id),
            )
        } else {
            (kind, format!("no usable answer to {} in {calls} calls: {problems}", self.prompt.id))
        };
        Some(Failure::new(kind, message).with_usage(self.usage))
    }

    /// The program knows nothing of the session that the call was to resume.
    fn forgotten(&mut self, failure: Failure) -> Next {
        let Some((came, problem)) = self.in_session.take() else {
            return Next::Never(failure.with_usage(self.usage));
        };
        if let Some(failure) = self.give_up(FailureKind::Failed, &failure.message) {
            return Next::Never(failure);
        }
        self.repair_in_whole(&came, &problem);
        Next::Now
    }

    /// The session in which an answer is repaired. Only work is worth one: elsewhere the
    /// whole question is as cheap, and stands on its own.
    fn to_resume(&self, answered: Option<String>) -> Option<String> {
        if self.request.step != Step::Execute {
            return None;
        }
        match &self.request.session {
            Session::Ephemeral => None,
            Session::New(_) => answered,
            Session::Resume(id) => answered.or_else(|| Some(id.clone())),
        }
    }

    /// The next call does not go on with the session of the one before.
    fn begin_anew(&mut self) {
        if self.request.session != Session::Ephemeral {
            self.request.session = Session::New(uuid());
        }
    }
}

fn sum(a: Usage, b: Usage) -> Usage {
    let cost_micros = match (a.cost_micros, b.cost_micros) {
        (Some(a), Some(b)) => Some(a.saturating_add(b)),
        (one, other) => one.or(other),
    };
    Usage {
        cost_micros,
        input_tokens: a.input_tokens.saturating_add(b.input_tokens),
        output_tokens: a.output_tokens.saturating_add(b.output_tokens),
        cache_read_tokens: a.cache_read_tokens.saturating_add(b.cache_read_tokens),
        cache_write_tokens: a.cache_write_tokens.saturating_add(b.cache_write_tokens),
    }
}

/// A random UUID (version 4): a name, not a secret.
fn uuid() -> String {
    let bits = fastrand::u128(..);
    let bits = bits & !(0xf << 76) | (0x4 << 76);
    let bits = bits & !(0x3 << 62) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests;
