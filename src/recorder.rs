//! Traces of goals, attempts and recoveries, sent as they end.
//!
//! They are built from the stream of events alone, so an agent that is killed leaves no
//! hole, and an orchestrator that comes back goes on where the last one stopped: how far
//! that came stands in Redis. What an agent did within an attempt it tells itself, as a
//! part of what is sent here.

use std::time::Duration;

use model::GoalId;
use reconcile::CancellationToken;
use store::Store;
use store::event::{Event, MAX_READ, Position, Told};
use tokio::time::sleep;
use traces::{Builder, Span};

use crate::telemetry::Export;

/// How long one read of the stream waits.
const WAIT: Duration = Duration::from_secs(5);
/// Between two reads: many events are read at once.
const PAUSE: Duration = Duration::from_millis(50);
/// After a read that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// Sends traces until the term ends.
pub(crate) async fn record(store: Store, export: Export, cancel: CancellationToken) {
    let follow = async {
        loop {
            if let Err(error) = follow(&store, &export).await {
                // Redis may come back with an older stream: all over then.
                tracing::debug!(target: "orchestrator", %error, "Cannot read events for traces");
            }
            sleep(AGAIN).await;
        }
    };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = follow => {}
    }
}

async fn follow(store: &Store, export: &Export) -> Result<(), store::Error> {
    let mut builder = Builder::new(&store.fleet().await?);
    let mut position = match store.told(Told::Traces).await? {
        Some(told) => told,
        // Nothing was ever sent: from now on.
        None => store.end_of_events().await?,
    };
    catch_up(store, &mut builder, &position).await?;
    let mut waiting = store.waiting()?;
    loop {
        let events = waiting.events(&mut position, WAIT).await?;
        if events.is_empty() {
            continue;
        }
        for event in &events {
            look(store, event, &mut builder).await?;
            for trace in whole(builder.event(event)) {
                export.trace(without_parts_of_others(trace));
            }
        }
        store.set_told(Told::Traces, &position).await?;
        sleep(PAUSE).await;
    }
}

/// What began before `end` is told by the events until there, which are still kept.
pub(crate) async fn catch_up(
    store: &Store,
    builder: &mut Builder,
    end: &Position,
) -> Result<(), store::Error> {
    let mut position = Position("0".to_owned());
    loop {
        let page = store.events_between(&position, end, MAX_READ).await?;
        let Some(last) = page.events.last() else { return Ok(()) };
        position.0.clone_from(&last.id);
        for event in &page.events {
            look(store, event, builder).await?;
            drop(builder.event(event));
        }
    }
}

/// A plan says what waits for what; attempts are linked by that.
async fn look(store: &Store, event: &Event, builder: &mut Builder) -> Result<(), store::Error> {
    if event.kind == "goal-accept"
        && let Ok(goal) = GoalId::new(event.field("goal"))
    {
        builder.dependencies(store.all_dependencies(&goal).await?);
    }
    Ok(())
}

/// Whole traces: each ends with its root.
pub(crate) fn whole(spans: Vec<Span>) -> Vec<Vec<Span>> {
    let mut traces = vec![Vec::new()];
    for span in spans {
        let is_root = span.parent.is_none();
        if let Some(trace) = traces.last_mut() {
            trace.push(span);
        }
        if is_root {
            traces.push(Vec::new());
        }
    }
    traces.retain(|trace| !trace.is_empty());
    traces
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
