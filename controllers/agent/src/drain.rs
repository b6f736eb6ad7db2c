//! Ending all agents of this host, as the orchestrator leaves.

use std::collections::BTreeSet;
use std::time::Duration;

use model::agent::Phase;
use process::{Exit, Identity, Signal};
use store::{Lead, Store};
use tokio::time::{Instant, timeout_at};

use crate::act::end_attempts;
use crate::{Error, arguments};

/// How long the kernel may take for a SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(2);


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
    end_attempts(format!("{fleet}/")).await?;
    for agent in store.agents().await? {
        if let Some(r) = agent.registered.as_ref().filter(|r| r.host == host) {
            let process = Identity { pid: r.pid, start_time: r.start_time };
            if !process.is_alive() {
                store.bury(lead, &agent.name, r.incarnation, "it was ended on shutdown").await?;
            }
        }
        if agent.status.phase != Some(Phase::Gone) {
            let phase = [("phase", Phase::Gone.to_string()), ("next_start", String::new())];
            store.note_agent(lead, &agent.name, "agent-phase", &phase).await?;
        }
    }
    Ok(ended)
}

async fn end_processes(fleet: &str, grace: Duration) -> Result<usize, Error> {
    let deadline = Instant::now() + grace;
    let mut told = BTreeSet::new();
    loop {
        // Again: a spawn that was under way may have come after the last look.
        let left = process::find(|args| arguments::is_agent_of(args, fleet))
            .map_err(|source| Error::Processes { source })?;
        let now = Instant::now();
        let late = now >= deadline;
        if left.is_empty() || now >= deadline + KILL_LIMIT {
            return Ok(told.len());
        }
        for process in &left {
            if told.insert(process.identity) || late {
                let signal = if late { Signal::KILL } else { Signal::TERM };
                // One that may not be signalled is not ours to end.
                _ = process::signal(&process.identity, signal);
            }
        }
        let until = if late { now + KILL_LIMIT } else { deadline };
        for process in left {
            if let Ok(exit) = Exit::watch(process.identity) {
                _ = timeout_at(until, exit.wait()).await;
            }
        }
    }
}
