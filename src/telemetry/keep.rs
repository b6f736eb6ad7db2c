//! Which traces are worth sending, decided when their local root is over.
//!
//! Spans of a trace are held back until then: a part must not arrive without its whole,
//! and whether something failed, or a pass did anything at all, is known only at the end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::trace::{SpanId, Status, TraceId};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};

use crate::cli::variable;

/// The most spans of one trace that are held back; further ones are dropped.
const MOST_PARTS: usize = 1_000;
/// The most traces with parts that are held back.
const MOST_TRACES: usize = 1_000;

/// How many of the traces are wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Keep {
    /// Of those that matter: all or none.
    failures: bool,
    /// Of the others: from 0 to 1.
    ratio: f64,
}

impl Keep {
    const ALL: Self = Self { failures: true, ratio: 1.0 };

    /// As `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` say. A parent decides
    /// nothing here: no trace begins outside of this program.
    pub(super) fn from_env() -> Result<Self, String> {
        let (sampler, arg) = (variable("OTEL_TRACES_SAMPLER"), variable("OTEL_TRACES_SAMPLER_ARG"));
        Self::from(sampler.as_deref(), arg.as_deref())
    }

    fn from(sampler: Option<&str>, arg: Option<&str>) -> Result<Self, String> {
        match sampler.map(|name| name.strip_prefix("parentbased_").unwrap_or(name)) {
            None | Some("always_on") => Ok(Self::ALL),
            Some("always_off") => Ok(Self { failures: false, ratio: 0.0 }),
            Some("traceidratio") => match arg.unwrap_or("1").parse::<f64>() {
                Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(Self { failures: true, ratio }),
                Ok(_) | Err(_) => {
                    Err("OTEL_TRACES_SAMPLER_ARG: expected a number from 0 to 1".to_owned())
                }
            },
            Some(other) => Err(format!(
                "OTEL_TRACES_SAMPLER: `{}` is not known: use always_on, always_off, traceidratio \
                 or one of these with parentbased_ before it",
                crate::cli::safe(other)
            )),
        }
    }

    /// Whether this trace is to be sent; `matters` where something failed or was mended.
    pub(super) fn wants(self, trace: TraceId, matters: bool) -> bool {
        if matters {
            return self.failures;
        }
        // As the specification's sampler does it, so that all processes agree.
        let bytes = trace.to_bytes();
        let mut low = [0; 8];
        low.copy_from_slice(&bytes[8..]);
        let place = (u64::from_be_bytes(low) >> 1) as f64 / (1_u64 << 63) as f64;
        place < self.ratio
    }
}

/// Passes on whole traces that are worth it.
#[derive(Debug)]
pub(super) struct Kept<P> {
    next: Arc<P>,
    keep: Keep,
    parts: Mutex<HashMap<TraceId, Vec<SpanData>>>,
}

impl<P: SpanProcessor> Kept<P> {
    pub(super) fn new(next: Arc<P>, keep: Keep) -> Self {
        Self { next, keep, parts: Mutex::default() }
    }

    fn is_wanted(&self, root: &SpanData) -> bool {
        let outcome = root.attributes.iter().find(|pair| pair.key.as_str() == "outcome");
        let outcome = outcome.map(|pair| pair.value.as_str());
        // A pass that did nothing, and an attempt that somebody else tells of.
        if matches!(outcome.as_deref(), Some("unchanged" | "lost")) {
            return false;
        }
        let failed = matches!(root.status, Status::Error { .. });
        self.keep.wants(root.span_context.trace_id(), failed)
    }
}

impl<P: SpanProcessor> SpanProcessor for Kept<P> {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        let trace = span.span_context.trace_id();
        let is_root = span.parent_span_id == SpanId::INVALID || span.parent_span_is_remote;
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_root {
            if parts.len() < MOST_TRACES || parts.contains_key(&trace) {
                let list = parts.entry(trace).or_default();
                if list.len() < MOST_PARTS {
                    list.push(span);
                }
            }
            return;
        }
        let list = parts.remove(&trace).unwrap_or_default();
        drop(parts);
        if self.is_wanted(&span) {
            list.into_iter().chain([span]).for_each(|span| self.next.on_end(span));
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samplers_should_be_those_of_the_specification() {
        assert_eq!(Keep::from(None, None), Ok(Keep::ALL));
        assert_eq!(Keep::from(Some("parentbased_always_on"), None), Ok(Keep::ALL));
        let quarter = Keep::from(Some("parentbased_traceidratio"), Some("0.25")).unwrap();
        assert_eq!(quarter, Keep { failures: true, ratio: 0.25 });
        for (sampler, arg) in
            [("x\x1b", None), ("traceidratio", Some("2")), ("traceidratio", Some(""))]
        {
            let error = Keep::from(Some(sampler), arg).unwrap_err();
            assert!(error.contains("OTEL_TRACES_SAMPLER") && !error.contains('\x1b'), "{error}");
        }
    }

    #[test]
    fn ratio_should_choose_by_the_trace_and_keep_what_matters() {
        let quarter = Keep { failures: true, ratio: 0.25 };
        let trace = |low: u64| TraceId::from(u128::from(low));
        let step = u64::MAX / 1_000;
        let kept = (0..1_000).filter(|n| quarter.wants(trace(n * step), false)).count();
        assert_eq!(kept, 250);
        assert!(quarter.wants(trace(u64::MAX), true) && !quarter.wants(trace(u64::MAX), false));
        let off = Keep::from(Some("always_off"), None).unwrap();
        assert!(!off.wants(trace(0), true) && !off.wants(trace(0), false));
    }
}
