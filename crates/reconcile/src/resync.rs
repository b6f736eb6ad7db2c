//! The timer that makes a lost wake harmless: lists all keys, again and again.
//!
//! It runs beside the loop, so that a listing which hangs hinders no pass.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::{Instant, sleep};
use tracing::Instrument;

use crate::backoff::Backoff;
use crate::contain::{Failure, contain};
use crate::controller::Context;
use crate::{Reconciler, lock};

/// The queue is locked for so many keys at a time: wakes must not wait for a long list.
const CHUNK_KEYS: usize = 1024;

/// Resyncs are at least so far apart, whatever the settings say.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// Never ends by itself.
pub(crate) async fn run<R: Reconciler>(context: Arc<Context<R>>) {
    let interval = context.settings.resync.max(SHORTEST_INTERVAL);
    let mut backoff = Backoff::new(context.settings.backoff);
    let mut told = None;
    loop {
        // This listing answers whoever asked for one so far.
        let _ = context.shared.resync_now.notified().now_or_never();
        let span = tracing::debug_span!("resync", controller = context.name());
        match once(&context).instrument(span).await {
            Ok(()) => {
                if told.take().is_some() {
                    let failures = backoff.failures();
                    tracing::info!(controller = context.name(), failures, "resync recovered");
                }
                backoff.reset();
                tokio::select! {
                    () = context.shared.resync_now.notified() => {}
                    () = sleep(interval) => {}
                }
            }
            Err(failure) => {
                let text = failure.text();
                let retry_in = backoff.failed(Duration::ZERO);
                context.stats.resync_failed(text.clone());
                if told.as_ref() != Some(&text) {
                    let controller = context.name();
                    tracing::warn!(controller, error = text, ?retry_in, "resync failed");
                    told = Some(text);
                }
                sleep(retry_in).await;
            }
        }
    }
}

async fn once<R: Reconciler>(context: &Context<R>) -> Result<(), Failure> {
    let limit = Some(context.settings.pass_timeout);
    let mut keys = contain(limit, || context.reconciler.keys()).await?.into_iter().peekable();
    while keys.peek().is_some() {
        lock(&context.shared.queue).resync(keys.by_ref().take(CHUNK_KEYS), Instant::now());
        context.shared.changed.notify_one();
    }
    context.stats.resynced();
    Ok(())
}
