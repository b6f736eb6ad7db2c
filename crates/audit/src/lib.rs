//! Checks a history, the stream `events` and the state that it led to, against the
//! promises: what was accepted, by whom, under which epoch, and in which order.
//!
//! # How
//! A [`Checker`] is given every event once, in order, and remembers of each task where
//! its events left it, who holds it, the highest epoch, and how often it failed. What
//! an event alone shows is found at once; what needs the plan or the records is found
//! by [`Checker::finish`]. It does no IO and reads no clock; [`audit`] feeds it from a
//! Redis that may be at work meanwhile.
//!
//! # Where the history is not whole
//! The stream is bounded. After [`Checker::gap`] a task is judged from its next event
//! on, which says in what state it found the task. After [`Checker::restored`] (a Redis
//! that came back with older data) what was undone may be done again, by whoever held
//! it then: nothing counts any more but that epochs and incarnations grow, which they do
//! across it. Neither raises an alarm for what is not seen; the [`Report`] says so.
//!
//! # Not seen
//! Reads, renewals of a lease, and writes that were refused leave no event. Whether a
//! plan that is no longer in force was kept to cannot be checked: claims of older plans
//! are counted in [`Report::unchecked_claims`].

mod agents;
mod checker;
mod finish;
mod read;
mod report;
mod rule;
mod state;
mod task;

pub use checker::Checker;
pub use read::{audit, read_state};
pub use report::{EventId, Report, Violation};
pub use rule::Rule;
pub use state::{GoalState, State, TaskState};

use store::event::Event;

/// Checks a whole history, from its first event, and what it led to.
#[must_use]
pub fn check<'a>(events: impl IntoIterator<Item = &'a Event>, state: &State) -> Report {
    let mut checker = Checker::new();
    for event in events {
        checker.event(event);
    }
    checker.finish(state)
}
