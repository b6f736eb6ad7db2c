//! Whatever three agents, a person and the controllers do, in whatever order: after
//! every step Redis holds what a plain model in memory says, each reply is the one that
//! the model foretells, and the rules of [`World::assert_sound`] hold.
//!
//! The model ([`reference`]) is the second telling of the scripts, without Redis, keys or
//! queues: where the two differ one of them is wrong. Its tasks move by the product's
//! table, and time is an argument of each step. A sequence that fails is shrunk.
//!
//! More cases: `PROPTEST_CASES=1000 cargo test -p store --test redis model::`.
//!
//! [`World::assert_sound`]: crate::world::World::assert_sound

mod compare;
mod op;
mod plan;
mod reference;
mod run;
mod step;

use proptest::prelude::*;
use proptest::strategy::BoxedStrategy;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use self::op::Op;
use self::reference::Reference;
use self::run::Run;

const TASKS: usize = 7;
const AGENTS: usize = 3;
const ROLES: [&str; 2] = ["red", "blue"];
/// Sequences of one test run: some ten seconds.
const CASES: u32 = 60;

struct Machine;

impl ReferenceStateMachine for Machine {
    type State = Reference;
    type Transition = Op;

    fn init_state() -> BoxedStrategy<Reference> {
        op::plans().prop_map(Reference::new).boxed()
    }

    fn transitions(_: &Reference) -> BoxedStrategy<Op> {
        op::ops().boxed()
    }

    fn apply(mut state: Reference, op: &Op) -> Reference {
        state.step(op);
        state
    }
}

struct Sequences;

impl StateMachineTest for Sequences {
    type SystemUnderTest = Run;
    type Reference = Machine;

    fn init_test(reference: &Reference) -> Run {
        Run::start(reference)
    }

    fn apply(mut run: Run, reference: &Reference, op: Op) -> Run {
        let answer = run.step(&op);
        assert_eq!(answer, reference.answer, "the reply to {op:?}");
        run
    }

    fn check_invariants(run: &Run, reference: &Reference) {
        run.compare(reference);
    }

    fn teardown(run: Run, reference: Reference) {
        run.end(&reference);
    }
}

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
    ProptestConfig {
        cases: cases.unwrap_or(CASES),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

prop_state_machine! {
    #![proptest_config(config())]
    #[test]
    fn any_order_of_steps_should_end_where_the_model_does(sequential 1..80 => Sequences);
}
