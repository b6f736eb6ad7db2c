//! What can be done, and how often each of it is tried.

use proptest::prelude::*;

use super::plan::Plan;
use super::{AGENTS, ROLES, TASKS};

#[derive(Debug, Clone)]
pub(super) enum Op {
    Agent(usize, Act),
    Other(Deed),
}

/// What an agent does.
#[derive(Debug, Clone)]
pub(super) enum Act {
    Claim,
    Want(usize),
    Complete {
        wants_next: bool,
    },
    Fail {
        permanent: bool,
        wants_next: bool,
    },
    Release,
    Park,
    /// Puts another task in front of the one it holds.
    Detour,
    /// Asks for a model call of what it holds; it ends or it hangs.
    Call {
        ends: bool,
    },
    /// Says again what was settled, or was lost, before.
    Repeat,
    Beat,
    Restart,
    Leave,
}

/// What controllers, people and time do.
#[derive(Debug, Clone)]
pub(super) enum Deed {
    /// Of this agent's process, or of one that it never had.
    Bury(usize, bool),
    /// Looks at all leases.
    Watch,
    /// Ends a lease as it was looked at, else that of this task as it is now.
    Reap(usize),
    Drop(usize),
    Elevate(usize, u32),
    Pause(usize, bool),
    Retry(usize),
    Promote,
    RollUp,
    Repair,
    Replan(Plan),
    /// Seconds, also back.
    Clock(i64),
}

pub(super) fn plans() -> impl Strategy<Value = Plan> {
    let one = (0..=ROLES.len(), prop::bool::weighted(0.9), 0u8..2, any::<u8>());
    prop::collection::vec(one, TASKS)
        .prop_filter("at least one task", |tasks| tasks.iter().any(|(_, is_in, _, _)| *is_in))
        .prop_map(|tasks| Plan { tasks })
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => Just(Act::Claim),
        2 => (0..TASKS).prop_map(Act::Want),
        8 => any::<bool>().prop_map(|wants_next| Act::Complete { wants_next }),
        3 => (prop::bool::weighted(0.2), any::<bool>())
            .prop_map(|(permanent, wants_next)| Act::Fail { permanent, wants_next }),
        1 => Just(Act::Release),
        1 => Just(Act::Park),
        2 => Just(Act::Detour),
        1 => any::<bool>().prop_map(|ends| Act::Call { ends }),
        4 => Just(Act::Repeat),
        3 => Just(Act::Beat),
        2 => Just(Act::Restart),
        1 => Just(Act::Leave),
    ]
}

fn deeds() -> impl Strategy<Value = Deed> {
    prop_oneof![
        1 => (0..AGENTS, prop::bool::weighted(0.7)).prop_map(|(n, own)| Deed::Bury(n, own)),
        2 => Just(Deed::Watch),
        2 => (0..TASKS).prop_map(Deed::Reap),
        1 => (0..TASKS).prop_map(Deed::Drop),
        1 => (0..TASKS, 0u32..20).prop_map(|(t, p)| Deed::Elevate(t, p)),
        1 => (0..AGENTS, any::<bool>()).prop_map(|(a, paused)| Deed::Pause(a, paused)),
        2 => (0..TASKS).prop_map(Deed::Retry),
        1 => Just(Deed::Promote),
        1 => Just(Deed::RollUp),
        1 => Just(Deed::Repair),
        2 => plans().prop_map(Deed::Replan),
        3 => (-50i64..100).prop_map(Deed::Clock),
    ]
}

pub(super) fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (0..AGENTS, acts()).prop_map(|(n, act)| Op::Agent(n, act)),
        1 => deeds().prop_map(Op::Other),
    ]
}
