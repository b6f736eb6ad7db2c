//! `orch retry`: another try for a task that failed for good or has spent its budget.

use model::task::State;

use super::args::Globals;
use super::connect::Session;
use super::{Exit, Failure, find, output};

/// Let a failed task be tried again
///
/// Its attempts and its cost are counted anew, what waits for it can go on once it is
/// done, and its goal is active again. Only a task that is FAILED can be retried, or one
/// that is READY but has spent its own budget: others are tried again by themselves.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The task's id, as `orch tasks` shows it, or <goal>.<id>
    task: String,
}

pub(crate) async fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    let session = Session::open(globals).await?;
    let text = session.known(retry(&session, &args.task).await)?;
    output::print(&text)?;
    Ok(Exit::Done)
}

async fn retry(session: &Session, text: &str) -> anyhow::Result<String> {
    let task = find::task(&session.store, text).await?;
    let id = &task.id;
    match session.store.retry(id).await? {
        None => Err(Failure::not_found(format!("the task {id} was removed just now")).into()),
        Some(Ok(State::Blocked)) => Ok(format!(
            "{id} will be tried again once what it waits for is done: `orch explain {id}`\n"
        )),
        Some(Ok(State::Ready | State::Running | State::Done | State::Failed)) => {
            Ok(format!("{id} is ready: an agent takes it as soon as one is free\n"))
        }
        Some(Err(state)) => Err(Failure::negative(format!(
            "{id} is {state}, not failed, and its budget is not spent: there is nothing to retry; \
             `orch explain {id}` says more"
        ))
        .into()),
    }
}
