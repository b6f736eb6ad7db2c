//! Traces of goals, attempts and recoveries, built from the stream of events.
//!
//! # How
//! A [`Builder`] is given every event once, in order, and returns each span when it is
//! over; [`Builder::open`] returns those that are not. It does no IO and reads no clock:
//! the same events make the same spans, with the same ids, whoever asks and whenever.
//!
//! The ids follow from what Redis holds ([`ids`]), so the context of a trace travels with
//! the task: an agent, the orchestrator and `orch trace` name one attempt alike without
//! having told each other.
//!
//! # Shape
//! One trace per attempt (`attempt` with `select` where a model chose the task, `wait`,
//! `execute` and a span per call of a model), linked to its goal's, to the attempts it waited for and to the recovery that
//! brought it; one per plan of a goal (`goal` with `plan` and `run`);
//! one per recovery (`recovery` with `respawn` and `run again`).
//!
//! # Caveats
//! Times are those of the events: milliseconds of Redis' clock. Where the stream was
//! trimmed, what began before it is not seen.

mod attempts;
mod builder;
mod goals;
pub mod ids;
pub mod otlp;
mod recoveries;
mod span;

pub use builder::{Builder, finish_reason};
pub use span::{Link, Note, Place, Service, Span, SpanId, Status, TraceId, Value};
