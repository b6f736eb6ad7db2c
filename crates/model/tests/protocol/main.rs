//! The protocol of claim, lease, fence, reap and complete, in every state that it can
//! reach.
//!
//! What is explored: four tasks in a diamond, two agents, each with a process and maybe
//! an older one that was replaced and does not know it, the reaper, the undertaker of
//! dead processes, lost and late messages, and a Redis that comes back with what it held
//! some time ago. Tasks move by [`model::task::TRANSITIONS`], the table that the scripts
//! are made of.
//!
//! How often each thing may go wrong is bounded, by a [`Budget`] for each search; within
//! it every order of steps is looked at.
//!
//! # Liveness
//! `eventually` of stateright misses a counterexample where two runs meet in a state. So
//! that all tasks end is two properties of states here: wherever no step is left that
//! is sure to be taken ([`Protocol::steps`]: no fault is), every task has ended; and each
//! step climbs a rank that is bounded, so no run goes round in a circle. From both
//! follows that every run ends with its tasks, at whatever time the faults stop.
//!
//! # Not here
//! Plans that change, detours, parked tasks, delays, roles and priorities: an agent may be
//! granted any READY task at any time, which is more than the product allows. The
//! sequences against a real Redis in the store's tests have these.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic of a test is its report"
)]

mod bugs;
mod rules;
mod shared;
mod steps;
mod system;

use std::collections::BTreeSet;
use std::num::NonZero;
use std::time::Instant;

use model::task::State;
use stateright::{Checker, HasDiscoveries, Model};

use crate::bugs::{Bug, PLANTED};
use crate::rules::Rule;
use crate::steps::Protocol;
use crate::system::Budget;

const NOTHING: Budget = Budget {
    crashes: 0,
    replacements: 0,
    suspicions: 0,
    messages: 0,
    failures: 0,
    releases: 0,
    beats: 0,
    restores: 0,
};

/// What goes wrong together, each explored to its end.
const SEARCHES: [(&str, Budget); 9] = [
    ("nothing", NOTHING),
    ("restore", Budget { restores: 1, ..NOTHING }),
    ("old processes", Budget { crashes: 1, replacements: 1, ..NOTHING }),
    ("silence", Budget { suspicions: 2, beats: 1, ..NOTHING }),
    ("messages", Budget { messages: 1, failures: 2, releases: 1, ..NOTHING }),
    ("late to another", Budget { messages: 1, replacements: 1, ..NOTHING }),
    ("attempts", Budget { crashes: 1, suspicions: 1, failures: 1, ..NOTHING }),
    ("restore and crash", Budget { crashes: 1, restores: 1, ..NOTHING }),
    ("restore and message", Budget { messages: 1, restores: 1, ..NOTHING }),
];

/// In which every planted bug shows.
const ALL_AT_ONCE: Budget = Budget {
    crashes: 1,
    replacements: 1,
    suspicions: 1,
    messages: 1,
    failures: 2,
    releases: 1,
    beats: 1,
    restores: 1,
};

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

#[test]
fn protocol_should_keep_its_promises_in_every_state() {
    let (mut states, started) = (0, Instant::now());
    let mut reached = BTreeSet::new();
    for (name, budget) in SEARCHES {
        let begun = Instant::now();
        let protocol = Protocol { budget, bug: Bug::None };
        let checker = protocol.checker().threads(threads()).spawn_bfs().join();
        println!(
            "{name:<20} {:>8} states, {:>9} steps, depth {:>2}, {:>5.1} s",
            checker.unique_state_count(),
            checker.state_count(),
            checker.max_depth(),
            begun.elapsed().as_secs_f64(),
        );
        for rule in Rule::ALL {
            checker.assert_no_discovery(rule.name());
        }
        reached.extend(checker.discoveries().into_keys());
        states += checker.unique_state_count();
    }
    println!("{:<20} {states:>8} states, {:.1} s", "together", started.elapsed().as_secs_f64());
    // What is never reached proves nothing.
    let expected: BTreeSet<_> = rules::reached().into_iter().map(|(name, _)| name).collect();
    assert_eq!(reached, expected);
}

#[test]
fn planted_bugs_should_be_found() {
    for (bug, rule) in PLANTED {
        let begun = Instant::now();
        let finish = HasDiscoveries::AnyOf([rule.name()].into());
        let protocol = Protocol { budget: ALL_AT_ONCE, bug };
        // One thread finds a shortest way.
        let checker = protocol.checker().finish_when(finish).spawn_bfs().join();
        let path = checker.discovery(rule.name());
        let path = path.unwrap_or_else(|| panic!("{bug:?} does not break {:?}", rule.name()));
        println!(
            "{bug:?}: {} is broken after {} steps; {} states, {:.1} s",
            rule.name(),
            path.clone().into_actions().len(),
            checker.unique_state_count(),
            begun.elapsed().as_secs_f64(),
        );
        println!("    {:?}", path.into_actions());
    }
}

#[test]
fn undisturbed_run_should_end_with_all_tasks_done() {
    let protocol = Protocol { budget: NOTHING, bug: Bug::None };
    let mut system = protocol.init_states().remove(0);
    let mut actions = Vec::new();
    loop {
        protocol.steps(&system, &mut actions);
        let next = actions.drain(..).find_map(|action| protocol.next_state(&system, action));
        let Some(next) = next else { break };
        system = next;
    }
    assert!(system.shared.tasks.iter().all(|task| task.state == State::Done), "{system:?}");
}
