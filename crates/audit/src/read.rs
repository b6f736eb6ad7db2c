//! Checking what stands in a Redis, which may be at work meanwhile.

use model::GoalId;
use store::event::{MAX_READ, Position};
use store::{Error, Store};

use crate::checker::Checker;
use crate::report::Report;
use crate::state::{GoalState, State, TaskState};

/// Checks the whole stream and the state of all goals, or of `goal`.
///
/// The state is read between two fixed places of the stream: what its events say until
/// the first is compared with it, except of what moved until the second. Events are read
/// in pages, so their number costs no memory; what is remembered of them does
/// ([`Checker`]).
///
/// # Errors
/// [`Error`] where Redis did not answer, or holds something else in a goal's record or
/// plan.
pub async fn audit(store: &Store, goal: Option<&GoalId>) -> Result<Report, Error> {
    let mut checker = goal.map_or_else(Checker::new, Checker::only);
    let mut position = Position("0".to_owned());
    feed(store, &mut checker, &mut position).await?;
    checker.state_is_read_from_here();
    let state = read_state(store, goal).await?;
    feed(store, &mut checker, &mut position).await?;
    Ok(checker.finish(&state))
}

/// Feeds what the stream holds after `position`, which moves to where it ends now.
async fn feed(store: &Store, checker: &mut Checker, position: &mut Position) -> Result<(), Error> {
    let until = store.end_of_events().await?;
    loop {
        let page = store.events_between(position, &until, MAX_READ).await?;
        if page.has_gap {
            checker.gap();
        }
        page.events.iter().for_each(|event| checker.event(event));
        match page.events.last() {
            Some(last) => position.0.clone_from(&last.id),
            None => return Ok(()),
        }
    }
}

/// Reads the state of all goals that have a plan, or of `goal`.
///
/// # Errors
/// As [`audit`].
pub async fn read_state(store: &Store, goal: Option<&GoalId>) -> Result<State, Error> {
    let ids = match goal {
        Some(goal) => vec![goal.clone()],
        None => store.goal_ids().await?,
    };
    let mut goals = Vec::with_capacity(ids.len());
    for id in ids {
        let Some(goal) = store.goal(&id).await?.filter(|goal| goal.generation > 0) else {
            continue;
        };
        let tasks = store.raw_tasks(&id).await?.into_iter().map(TaskState::from).collect();
        let (generation, counts) = (goal.generation, goal.counts);
        goals.push(GoalState { id: id.to_string(), generation, counts, tasks });
    }
    Ok(State { goals })
}
