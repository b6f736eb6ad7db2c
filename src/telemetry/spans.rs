//! Spans of what an agent does. Where no collector is named they tell log lines which
//! attempt they are part of, and nothing else.

use model::AgentName;
use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt as _;
use store::task::Grant;
use tracing::field::Empty;
use tracing::{Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::export::remote;
use super::logs;

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
    let attempt = traces::ids::attempt(fleet, grant.task.as_str(), &grant.epoch.to_string());
    logs::know(&span, attempt);
    // It fails only where nobody listens.
    _ = span.set_parent(Context::new().with_remote_span_context(remote(attempt)));
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use opentelemetry::Context;
    use opentelemetry::trace::{Status, TracerProvider as _};
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{SdkTracerProvider, Span as Started, SpanData, SpanProcessor};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Debug, Clone, Default)]
    struct Ended(Arc<Mutex<Vec<SpanData>>>);

    impl SpanProcessor for Ended {
        fn on_start(&self, _span: &mut Started, _context: &Context) {}
        fn on_end(&self, span: SpanData) {
            self.0.lock().unwrap().push(span);
        }
        fn force_flush(&self) -> OTelSdkResult {
            Ok(())
        }
        fn shutdown_with_timeout(&self, _timeout: std::time::Duration) -> OTelSdkResult {
            Ok(())
        }
    }

    #[test]
    fn span_should_end_well_badly_or_neither() {
        let seen = Ended::default();
        let provider = SdkTracerProvider::builder().with_span_processor(seen.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let cases = [
                ("done", None, Status::Ok),
                ("ok", None, Status::Ok),
                ("held", None, Status::Unset),
                ("stopped", None, Status::Unset),
                ("failed", Some("exit 7"), Status::error("exit 7")),
            ];
            for (outcome, error, status) in cases {
                let span = chat("claude", "execute", None, "execute/1");
                ended(&span, outcome, error);
                drop(span);
                let told = seen.0.lock().unwrap().pop().unwrap();
                assert_eq!(told.status, status, "{outcome}");
                let said = told.attributes.iter().find(|pair| pair.key.as_str() == "outcome");
                assert_eq!(said.unwrap().value.as_str(), outcome);
            }
        });
    }
}
