//! The stream of events, followed from where it was followed last, with what is to be known
//! of earlier events. Who builds on it misses nothing when a process dies.

use std::sync::Arc;
use std::time::Duration;

use model::GoalId;
use reconcile::CancellationToken;
use store::Store;
use store::event::{Event, MAX_READ, Position};
use tokio::time::sleep;
use traces::{Builder, Span};

/// How long one read of the stream waits.
const WAIT: Duration = Duration::from_secs(5);
/// Between two reads: many events are read at once.
const PAUSE: Duration = Duration::from_millis(50);
/// After a read that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// Who is told of events.
pub(crate) trait Follower: Send + Sync + 'static {
    /// What it makes of them, for the log.
    const MAKES: &'static str;

    /// The event after which it goes on.
    fn position(
        &self,
        store: &Store,
    ) -> impl Future<Output = Result<Position, store::Error>> + Send;

    /// The next event; `builder` knows of those before it, and is to be told of it.
    fn event(&self, event: &Event, builder: &mut Builder);

    /// All events up to there were told.
    fn told(
        &self,
        store: &Store,
        position: &Position,
    ) -> impl Future<Output = Result<(), store::Error>> + Send;
}

/// Tells events until the term ends.
pub(crate) async fn follow<F: Follower>(store: Store, follower: Arc<F>, cancel: CancellationToken) {
    let follow = async {
        loop {
            if let Err(error) = tell(&store, &*follower).await {
                // Redis may come back with an older stream: the follower says where to go on.
                let makes = F::MAKES;
                tracing::debug!(target: "orchestrator", %error, "Cannot read events for {makes}");
            }
            sleep(AGAIN).await;
        }
    };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = follow => {}
    }
}

async fn tell(store: &Store, follower: &impl Follower) -> Result<(), store::Error> {
    let mut builder = Builder::new(&store.fleet().await?);
    let mut position = follower.position(store).await?;
    catch_up(store, &mut builder, &position).await?;
    let mut waiting = store.waiting()?;
    loop {
        let events = waiting.events(&mut position, WAIT).await?;
        for event in &events {
            look(store, event, &mut builder).await?;
            follower.event(event, &mut builder);
        }
        if !events.is_empty() {
            follower.told(store, &position).await?;
        }
        sleep(PAUSE).await;
    }
}

/// What began before `end` is told by the events until there, which are still kept.
async fn catch_up(
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

/// A plan says what waits for what; attempts are linked by that, where nobody broke it.
async fn look(store: &Store, event: &Event, builder: &mut Builder) -> Result<(), store::Error> {
    if event.kind == "goal-accept"
        && let Ok(goal) = GoalId::new(event.field("goal"))
    {
        match store.all_dependencies(&goal).await {
            Ok(dependencies) => builder.dependencies(dependencies),
            Err(error @ store::Error::Malformed { .. }) => {
                tracing::debug!(target: "orchestrator", %error, "Attempts are not linked");
            }
            Err(error) => return Err(error),
        }
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
