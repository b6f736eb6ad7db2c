//! Ending all agents of this host, as the orchestrator leaves.

use std::collections::BTreeSet;
use std::time::Duration;

use model::agent::Phase;
use process::{Exit, Identity, Signal};
use store::{Lead, Store};
use tokio::time::{Instant, sleep, timeout_at};

use crate::act::end_attempts;
use crate::{Error, Kernel, arguments};

/// How long the kernel may take for a SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(2);
/// Wait between looks at a process that cannot be watched.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Ends every agent process of `fleet` on this host: SIGTERM, so that each hands its
/// task back, and SIGKILL after `grace`; then whatever their attempts left running,
/// and what the dead still hold. How many there were.
///
/// It asks the kernel and not Redis whom to end, so that it works without Redis and
/// finds orphans of earlier crashes.
///
/// # Errors
/// [`Error::Processes`] where `/proc` cannot be read; [`Error::Store`] where what the
/// dead held could not be released: then the lease reaper will.
pub async fn drain(
    store: &Store,
    lead: &Lead,
    fleet: &str,
    host: &str,
    grace: Duration,
) -> Result<usize, Error> {
    let ended = end_processes(fleet, grace).await?;
    end_attempts(&Kernel, format!("{fleet}/")).await?;
    for agent in store.agents().await? {
        if let Some(r) = agent.registered.as_ref() {
            let process = Identity { pid: r.pid, start_time: r.start_time };
            // On another host, or not ours to end.
            if r.host != host || process.is_alive() {
                continue;
            }
            store.bury(lead, &agent.name, r.incarnation, "it was ended on shutdown").await?;
        }
        if agent.status.phase != Some(Phase::Gone) {
            let empty = |field| (field, String::new());
            let fields = [("phase", Phase::Gone.to_string()), empty("next_start"), empty("error")];
            store.note_agent(lead, &agent.name, "agent-phase", &fields).await?;
        }
    }
    Ok(ended)
}

async fn end_processes(fleet: &str, grace: Duration) -> Result<usize, Error> {
    let deadline = Instant::now() + grace;
    let mut told = BTreeSet::new();
    loop {
        // Again: a spawn that was under way may have come after the last look.
        let left = arguments::find(fleet).map_err(|source| Error::Processes { source })?;
        let now = Instant::now();
        let late = now >= deadline;
        if left.is_empty() || now >= deadline + KILL_LIMIT {
            return Ok(told.len());
        }
        for (_, process) in &left {
            if told.insert(*process) || late {
                let signal = if late { Signal::KILL } else { Signal::TERM };
                // One that may not be signalled is not ours to end.
                _ = process::signal(process, signal);
            }
        }
        let until = if late { now + KILL_LIMIT } else { deadline };
        for (_, process) in left {
            match Exit::watch(process) {
                Ok(exit) => _ = timeout_at(until, exit.wait()).await,
                Err(_) => sleep(LOOK_AGAIN).await,
            }
        }
    }
}
