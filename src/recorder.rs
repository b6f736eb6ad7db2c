//! Traces of goals, attempts and recoveries, sent as they end.
//!
//! They are built from the stream of events alone, so an agent that is killed leaves no
//! hole, and an orchestrator that comes back goes on where the last one stopped: how far
//! that came stands in Redis. What an agent did within an attempt it tells itself, as a
//! part of what is sent here.

use store::Store;
use store::event::{Event, Position, Told};
use traces::{Builder, Span};

use crate::follow::{Follower, whole};
use crate::telemetry::Export;

impl Follower for Export {
    const MAKES: &'static str = "traces";

    async fn position(&self, store: &Store) -> Result<Position, store::Error> {
        match store.told(Told::Traces).await? {
            Some(told) => Ok(told),
            // Nothing was ever sent: from now on.
            None => store.end_of_events().await,
        }
    }

    fn event(&self, event: &Event, builder: &mut Builder) {
        for trace in whole(builder.event(event)) {
            self.trace(without_parts_of_others(trace));
        }
    }

    async fn told(&self, store: &Store, position: &Position) -> Result<(), store::Error> {
        store.set_told(Told::Traces, position).await
    }
}

/// What an agent lived to tell itself is not told twice.
fn without_parts_of_others(mut trace: Vec<Span>) -> Vec<Span> {
    let Some(root) = trace.last() else { return trace };
    let told = ["complete", "retry", "fail", "release", "detour"];
    if root.name == "attempt"
        && told.contains(&root.text("orch.outcome"))
        && let Some(execute) = trace.iter().find(|span| span.name == "execute")
    {
        let execute = execute.place.span;
        trace.retain(|span| span.place.span != execute && span.parent != Some(execute));
    }
    trace
}
