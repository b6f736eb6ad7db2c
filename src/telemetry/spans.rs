//! Spans of what an agent does. They cost nothing where no collector is named: nobody
//! listens to their target then.

use model::AgentName;
use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt as _;
use store::task::Grant;
use tracing::field::Empty;
use tracing::{Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::export::remote;

/// What one call of a model came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    /// As billed; none where nobody said.
    pub(crate) model: Option<&'a str>,
    /// `ok`, or what went wrong.
    pub(crate) outcome: &'static str,
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    /// In millionths of a US dollar; none where nobody said.
    pub(crate) cost_micros: Option<u64>,
}

/// What an agent does in one attempt: a part of the attempt's trace, whose root the
/// orchestrator sends.
pub(crate) fn execute(fleet: &str, agent: &AgentName, grant: &Grant) -> Span {
    let span = info_span!(
        target: "trace",
        parent: None,
        "execute",
        orch.goal = %grant.goal,
        orch.task = %grant.task,
        orch.attempt = grant.attempt,
        orch.epoch = grant.epoch.0,
        orch.agent = %agent,
        outcome = Empty,
        otel.status_code = Empty,
        otel.status_description = Empty,
    );
    if !span.is_disabled() {
        let attempt = traces::ids::attempt(fleet, grant.task.as_str(), &grant.epoch.to_string());
        // It fails only where nobody listens.
        _ = span.set_parent(Context::new().with_remote_span_context(remote(attempt)));
    }
    span
}

/// How it ended; `error` where badly.
pub(crate) fn ended(span: &Span, outcome: &str, error: Option<&str>) {
    span.record("outcome", outcome);
    if let Some(error) = error {
        span.record("otel.status_code", "ERROR");
        span.record("otel.status_description", error);
    } else if matches!(outcome, "done" | "ok") {
        // What was handed back, as a task that is held, ended neither well nor badly.
        span.record("otel.status_code", "OK");
    }
}

/// One call of a model. Neither the prompt nor the answer is part of it.
pub(crate) fn chat(provider: &str, step: &str, model: Option<&str>, prompt: &str) -> Span {
    let name = model.map_or_else(|| "chat".to_owned(), |model| format!("chat {model}"));
    info_span!(
        target: "trace",
        "chat",
        otel.name = name,
        otel.kind = "client",
        gen_ai.operation.name = "chat",
        gen_ai.system = provider,
        gen_ai.provider.name = provider,
        gen_ai.request.model = model,
        gen_ai.response.model = Empty,
        gen_ai.response.finish_reasons = Empty,
        gen_ai.usage.input_tokens = Empty,
        gen_ai.usage.output_tokens = Empty,
        orch.llm.step = step,
        orch.llm.prompt = prompt,
        orch.llm.usd_micros = Empty,
        outcome = Empty,
        otel.status_code = Empty,
        otel.status_description = Empty,
    )
}

/// What the call came to.
pub(crate) fn chat_ended(span: &Span, call: &Call<'_>) {
    if let Some(model) = call.model {
        span.record("gen_ai.response.model", model);
    }
    span.record("gen_ai.response.finish_reasons", traces::finish_reason(call.outcome));
    span.record("gen_ai.usage.input_tokens", call.input_tokens);
    span.record("gen_ai.usage.output_tokens", call.output_tokens);
    if let Some(micros) = call.cost_micros {
        span.record("orch.llm.usd_micros", micros);
    }
    ended(span, call.outcome, Some(call.outcome).filter(|outcome| *outcome != "ok"));
}
