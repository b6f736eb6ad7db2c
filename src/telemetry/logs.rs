//! Log lines on standard output, with what the spans around an event know.
//!
//! A line that cannot be written is lost in silence: who reads our output may be killed,
//! and that must not end us.

use std::io::Write;
use std::sync::OnceLock;

use jiff::Timestamp;
use opentelemetry::trace::TraceContextExt as _;
use traces::{Place, SpanId, TraceId};
use tracing::dispatcher::WeakDispatch;
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Span, Subscriber};
use tracing_opentelemetry::get_otel_context;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::{LookupSpan, Registry, SpanRef};

use super::SPANS;
use super::lines::{Around, Lines, Pairs, Said};

/// Fields of spans that are too long, or too late, for log lines.
const FOR_TRACES: [&str; 4] = ["plan", "next_in_ms", "otel.status_code", "otel.status_description"];
/// How the span of an attempt names what lines call otherwise.
const OF_ATTEMPT: [(&str, &str); 4] = [
    ("orch.goal", "goal"),
    ("orch.task", "task"),
    ("orch.attempt", "attempt"),
    ("orch.epoch", "epoch"),
];

/// Writes each event as a line.
pub(super) struct Logs {
    lines: Lines,
    dispatch: OnceLock<WeakDispatch>,
}

/// What a span said.
struct Fields(Pairs);

/// Where a span stands in a trace whose ids are known without a collector.
struct Known(Place);

/// From now on lines within `span` belong to the trace of `place`.
pub(super) fn know(span: &Span, place: Place) {
    span.with_subscriber(|(id, dispatch)| {
        let registry = dispatch.downcast_ref::<Registry>();
        if let Some(span) = registry.and_then(|registry| registry.span(id)) {
            span.extensions_mut().insert(Known(place));
        }
    });
}

impl Logs {
    pub(super) const fn new(lines: Lines) -> Self {
        Self { lines, dispatch: OnceLock::new() }
    }

    /// As it is sent to a collector, else as it would be.
    fn place<'a, S: LookupSpan<'a>>(&self, span: &SpanRef<'a, S>) -> Option<Place> {
        let sent = self.lines.traced.then(|| {
            let dispatch = self.dispatch.get()?.upgrade()?;
            let context = get_otel_context(&span.id(), &dispatch)?;
            let here = context.span().span_context().clone();
            here.is_valid().then(|| Place {
                trace: TraceId(here.trace_id().to_bytes()),
                span: SpanId(here.span_id().to_bytes()),
            })
        });
        sent.flatten().or_else(|| span.extensions().get::<Known>().map(|known| known.0))
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Logs {
    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        _ = self.dispatch.set(dispatch.downgrade());
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut said = Said::default();
        attributes.record(&mut said);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Fields(told(said)));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut said = Said::default();
        values.record(&mut said);
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            fields.0.extend(told(said));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        let mut around = Around::default();
        for span in context.event_scope(event).into_iter().flatten() {
            if around.place.is_none() {
                around.place = self.place(&span);
            }
            let extensions = span.extensions();
            let Some(Fields(fields)) = extensions.get::<Fields>() else { continue };
            if span.metadata().target() == SPANS {
                let named = fields.iter().filter_map(|(name, value)| {
                    let (_, short) = OF_ATTEMPT.into_iter().find(|(long, _)| long == name)?;
                    Some((short, value.clone()))
                });
                around.of_attempt.extend(named);
            } else {
                around.shown.extend(fields.iter().cloned());
            }
        }
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        let line = self.lines.line(Timestamp::now(), level, target, &said, &around);
        _ = writeln!(std::io::stdout().lock(), "{line}");
    }
}

/// What of a span's fields lines tell.
fn told(said: Said) -> Pairs {
    let mut fields: Pairs = said.agent.into_iter().map(|agent| ("agent", agent)).collect();
    let others = said.fields.into_iter().filter(|(name, _)| !FOR_TRACES.contains(name));
    fields.extend(others);
    fields
}
