//! What a pass tells of itself to whoever collects spans. Where nobody does it costs
//! next to nothing.

use std::fmt::Display;

use tracing::{Span, info_span};

/// Notes on the pass that runs here what it is going to do, as text for people.
pub fn note_plan(plan: &impl Display) {
    let span = Span::current();
    // The text is only made where somebody wants it.
    if !span.is_disabled() {
        span.record("plan", tracing::field::display(plan));
    }
}

/// A span for one action of the pass that runs here: enter it, or instrument the action
/// with it. `what` is of few words, so that equal actions have equal names.
#[must_use]
pub fn action(what: &'static str) -> Span {
    info_span!(target: "trace", "action", otel.name = what)
}
