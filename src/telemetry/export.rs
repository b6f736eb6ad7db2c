//! Spans on their way to a collector, by OTLP over HTTP.
//!
//! Off unless `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` says
//! where one is; the other variables of OpenTelemetry's specification hold as well. A
//! collector that is missing, slow or hangs costs its spans: whoever ends a span puts it
//! into a queue and goes on, a thread of its own sends what is in it, and what does not
//! fit is dropped.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use model::AgentName;
use opentelemetry::trace::{
    Event, Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
    TracerProvider as _,
};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, SpanData, SpanEvents,
    SpanExporter as Exporter, SpanLinks, SpanProcessor,
};

use super::keep::{Keep, Kept};
use crate::cli::variable;
use crate::secrets::masked;

/// How long the last spans may take on their way out: systemg kills a service one second
/// after it asked it to end.
const LAST_SPANS: Duration = Duration::from_millis(300);

/// The way to a collector. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Export {
    batch: Arc<BatchSpanProcessor>,
    provider: SdkTracerProvider,
    scope: InstrumentationScope,
    keep: Keep,
    lost: Arc<AtomicU64>,
}

impl Export {
    /// For the orchestrator, or the agent of that name; none where no collector is named.
    ///
    /// # Errors
    /// Where a variable cannot be used; what is wrong.
    pub(super) fn from_env(agent: Option<&AgentName>) -> Result<Option<Self>, String> {
        let is = |name: &str, value: &str| {
            variable(name).is_some_and(|said| said.eq_ignore_ascii_case(value))
        };
        let endpoint = variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
            .or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT"));
        if endpoint.is_none()
            || is("OTEL_SDK_DISABLED", "true")
            || is("OTEL_TRACES_EXPORTER", "none")
        {
            return Ok(None);
        }
        let keep = Keep::from_env()?;
        // The client has no cryptography of its own; an error says that there is one.
        _ = rustls::crypto::ring::default_provider().install_default();
        let exporter = SpanExporter::builder().with_http().build().map_err(|e| e.to_string())?;
        let resource = resource(agent);
        let told = Told::new(exporter);
        let lost = Arc::clone(&told.lost);
        let mut batch = BatchSpanProcessor::builder(told).build();
        batch.set_resource(&resource);
        let batch = Arc::new(batch);
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(Sampler::AlwaysOn)
            .with_span_processor(Kept::new(Arc::clone(&batch), keep))
            .build();
        let scope =
            InstrumentationScope::builder("orch").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Some(Self { batch, provider, scope, keep, lost }))
    }

    /// What makes spans of this process.
    pub(super) fn tracer(&self) -> SdkTracer {
        self.provider.tracer_with_scope(self.scope.clone())
    }

    /// Sends a whole trace, parts before the whole. A recovery, and what failed, is sent
    /// whatever part of the traces is asked for.
    pub(crate) fn trace(&self, spans: Vec<traces::Span>) {
        let Some(root) = spans.last() else { return };
        let matters = root.name == "recovery" || matches!(root.status, traces::Status::Error(_));
        if self.keep.wants(TraceId::from_bytes(root.place.trace.0), matters) {
            for span in spans {
                self.batch.on_end(data(span, &self.scope));
            }
        }
    }

    /// How many spans the collector did not take.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Sends what is left, within a bound. Blocks.
    pub(super) fn end(&self) {
        // What could not be sent in time is lost, as documented.
        _ = self.batch.shutdown_with_timeout(LAST_SPANS);
    }
}

fn resource(agent: Option<&AgentName>) -> Resource {
    let service = if agent.is_some() { "agent" } else { "orchestrator" };
    let mut own = vec![KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))];
    own.extend(agent.map(|name| KeyValue::new("service.instance.id", name.to_string())));
    let builder = Resource::builder().with_attributes(own);
    // Its detectors read OTEL_RESOURCE_ATTRIBUTES, and call who says nothing unknown.
    match variable("OTEL_SERVICE_NAME") {
        Some(_) => builder.build(),
        None => builder.with_service_name(service).build(),
    }
}

/// An exporter whose trouble is told once.
#[derive(Debug)]
struct Told<E> {
    inner: E,
    is_failing: AtomicBool,
    lost: Arc<AtomicU64>,
}

impl<E> Told<E> {
    fn new(inner: E) -> Self {
        Self { inner, is_failing: AtomicBool::new(false), lost: Arc::default() }
    }
}

impl<E: Exporter> Exporter for Told<E> {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        batch.iter_mut().for_each(mask);
        let result = self.inner.export(batch).await;
        let failed = result.is_err();
        if failed {
            self.lost.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        if self.is_failing.swap(failed, Ordering::Relaxed) != failed {
            match &result {
                Ok(()) => tracing::info!(target: "orch", "Spans reach their collector again"),
                Err(error) => {
                    let error = reconcile::error_chain(error);
                    tracing::warn!(target: "orch", error, lost = count,
                        "Spans do not reach their collector; this is told once");
                }
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// What errors quote was masked where it was read; this is for all else.
fn mask(span: &mut SpanData) {
    let mask_all = |pairs: &mut Vec<KeyValue>| {
        for pair in pairs {
            if let Value::String(text) = &mut pair.value {
                *text = masked(text.as_str().to_owned()).into();
            }
        }
    };
    mask_all(&mut span.attributes);
    for event in &mut span.events.events {
        event.name = masked(event.name.to_string()).into();
        mask_all(&mut event.attributes);
    }
    if let Status::Error { description } = &mut span.status {
        *description = masked(description.to_string()).into();
    }
}

fn context(place: traces::Place) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes(place.trace.0),
        SpanId::from_bytes(place.span.0),
        TraceFlags::SAMPLED,
        false,
        TraceState::default(),
    )
}

/// The context of a span that another process sends.
pub(super) fn remote(place: traces::Place) -> SpanContext {
    let here = context(place);
    SpanContext::new(
        here.trace_id(),
        here.span_id(),
        TraceFlags::SAMPLED,
        true,
        TraceState::default(),
    )
}

fn data(span: traces::Span, scope: &InstrumentationScope) -> SpanData {
    let at = |micros: u64| SystemTime::UNIX_EPOCH + Duration::from_micros(micros);
    let is_call = span.name.starts_with("chat");
    let mut events = SpanEvents::default();
    events.events = span
        .notes
        .into_iter()
        .map(|note| Event::new(note.text, at(note.at_us), Vec::new(), 0))
        .collect();
    let mut links = SpanLinks::default();
    links.links = span
        .links
        .iter()
        .map(|link| Link::new(context(link.to), vec![KeyValue::new("orch.link", link.kind)], 0))
        .collect();
    SpanData {
        span_context: context(span.place),
        parent_span_id: span.parent.map_or(SpanId::INVALID, |id| SpanId::from_bytes(id.0)),
        parent_span_is_remote: false,
        span_kind: if is_call { SpanKind::Client } else { SpanKind::Internal },
        name: span.name.into(),
        start_time: at(span.start_us),
        end_time: at(span.end_us.unwrap_or(span.start_us)),
        attributes: span.attributes.into_iter().map(attribute).collect(),
        dropped_attributes_count: 0,
        events,
        links,
        status: match span.status {
            traces::Status::Unset => Status::Unset,
            traces::Status::Ok => Status::Ok,
            traces::Status::Error(text) => Status::error(text),
        },
        instrumentation_scope: scope.clone(),
    }
}

fn attribute((name, value): (&'static str, traces::Value)) -> KeyValue {
    let value = match value {
        traces::Value::Text(text) => Value::from(text),
        traces::Value::Int(number) => Value::from(number),
        traces::Value::List(texts) => {
            let texts = texts.into_iter().map(StringValue::from).collect();
            Value::Array(Array::String(texts))
        }
    };
    KeyValue::new(name, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_should_leave_without_secrets() {
        crate::secrets::learn_url(&"redis://:only-in-that-test@x".parse().unwrap());
        let secret = "an only-in-that-test".to_owned();
        let span = traces::Span {
            place: traces::ids::attempt("fleet", "task", "1"),
            parent: None,
            name: "attempt".to_owned(),
            service: traces::Service::Orchestrator,
            start_us: 1,
            end_us: Some(2),
            attributes: vec![("orch.reason", traces::Value::Text(secret.clone()))],
            links: Vec::new(),
            notes: vec![traces::Note { at_us: 1, text: secret.clone() }],
            status: traces::Status::Error(secret),
        };
        let mut span = data(span, &InstrumentationScope::builder("test").build());
        mask(&mut span);
        assert_eq!(span.attributes[0].value.as_str(), "an ***");
        assert_eq!(span.events.events[0].name, "an ***");
        assert_eq!(span.status, Status::error("an ***"));
    }
}
