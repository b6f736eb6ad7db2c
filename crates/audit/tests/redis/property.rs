//! Whatever agents, people and controllers do through the store: its history is clean.

use model::task::State;
use model::{Dag, TaskId, TaskSpec};
use proptest::prelude::*;
use store::directive::{Action, Seen, Step};
use store::task::{Detour, DetourKind, Detoured, Grant};

use crate::world::{Worker, World, goal, id};

const TASKS: usize = 6;
const AGENTS: usize = 3;
const T0: u64 = 1_800_000_000_000_000;

/// For each task whether it is in, its wording, and what it waits for: lower numbers only.
type Plan = Vec<(bool, u8, u8)>;

#[derive(Debug, Clone, Copy)]
enum How {
    Complete,
    Fail { permanent: bool },
    Release,
    Park,
}

#[derive(Debug, Clone)]
enum Op {
    Claim(usize),
    /// And whether the next one is claimed.
    Settle(usize, How, bool),
    Detour(usize),
    Restart(usize),
    Leave(usize),
    Bury(usize),
    Reap(usize),
    Drop(usize),
    Retry(usize),
    Promote,
    /// A record is deleted by hand, and the goal repaired.
    Damage(usize),
    Replan(Plan),
    /// Seconds, also back.
    Clock(i64),
}

fn plans() -> impl Strategy<Value = Plan> {
    prop::collection::vec((prop::bool::weighted(0.9), 0u8..2, any::<u8>()), TASKS)
        .prop_filter("a task", |plan| plan.iter().any(|(is_in, _, _)| *is_in))
}

fn hows() -> impl Strategy<Value = How> {
    prop_oneof![
        8 => Just(How::Complete),
        4 => prop::bool::weighted(0.2).prop_map(|permanent| How::Fail { permanent }),
        1 => Just(How::Release),
        1 => Just(How::Park),
    ]
}

fn ops() -> impl Strategy<Value = Op> {
    let agent = 0..AGENTS;
    let task = 0..TASKS;
    prop_oneof![
        8 => agent.clone().prop_map(Op::Claim),
        14 => (agent.clone(), hows(), any::<bool>())
            .prop_map(|(n, how, next)| Op::Settle(n, how, next)),
        2 => agent.clone().prop_map(Op::Detour),
        2 => agent.clone().prop_map(Op::Restart),
        1 => agent.clone().prop_map(Op::Leave),
        1 => agent.prop_map(Op::Bury),
        3 => task.clone().prop_map(Op::Reap),
        1 => task.clone().prop_map(Op::Drop),
        3 => task.clone().prop_map(Op::Retry),
        1 => Just(Op::Promote),
        1 => task.prop_map(Op::Damage),
        2 => plans().prop_map(Op::Replan),
        3 => (-50i64..100).prop_map(Op::Clock),
    ]
}

fn dag(plan: &Plan) -> Dag {
    let mut specs = Vec::new();
    let mut edges = Vec::new();
    for (n, (is_in, wording, deps)) in plan.iter().enumerate() {
        if !is_in {
            continue;
        }
        let mut spec = TaskSpec::new(name(n), format!("wording {wording}"));
        spec.max_attempts = Some(2);
        specs.push(spec);
        let waits = |d: &usize| plan[*d].0 && deps >> d & 1 == 1 && deps >> ((d + 3) % 8) & 1 == 1;
        edges.extend((0..n).filter(waits).map(|d| (name(n), name(d))));
    }
    Dag::new(specs, &edges).unwrap()
}

fn name(n: usize) -> TaskId {
    id(&format!("t{n}"))
}

struct Run<'a> {
    world: &'a mut World,
    clock: u64,
    /// How far the clock ever was.
    latest: u64,
    /// How far back it may go.
    earliest: u64,
    workers: Vec<Worker>,
    held: Vec<Option<Grant>>,
    detours: u32,
}

impl Run<'_> {
    fn set_clock(&mut self, micros: u64) {
        self.clock = micros.max(self.earliest);
        self.latest = self.latest.max(self.clock);
        self.world.store = self.world.store.at(self.clock);
    }

    async fn next(&mut self, n: usize) {
        self.held[n] = self.workers[n].claim(&self.world.store).await;
    }

    async fn detour(&mut self, n: usize) {
        let Some(grant) = self.held[n].take() else { return };
        self.detours += 1;
        let spec = TaskSpec::new(id(&format!("detour{}", self.detours)), "a detour");
        let detour = Detour { spec: &spec, error: "not yet", limit: 2, kind: DetourKind::Review };
        let holder = self.workers[n].holding(&grant);
        if self.world.store.detour(holder, &detour).await.unwrap() == Detoured::Exhausted {
            self.held[n] = Some(grant);
        }
    }

    async fn drop_task(&self, t: usize) {
        let of = &self.workers[0].name;
        let consumed = self.world.store.consumed(of).await.unwrap();
        let action = Action::DropTask(name(t));
        let step = Step {
            agent: of,
            goal: &goal(),
            path: "x.md".as_ref(),
            version: &consumed.version,
            seen: Seen::Replace(""),
            line: Some(("line", &action)),
        };
        self.world.store.apply(&self.world.lead(), &step).await.unwrap();
    }

    /// Only of what nobody holds: its holder would be one of nothing. With the record goes
    /// the task's epoch: then only a clock that goes on makes it grow.
    async fn damage(&mut self, t: usize) {
        self.earliest = self.latest + 1_000_000;
        self.set_clock(self.earliest);
        let found = self.world.store.task(&name(t)).await.unwrap();
        if found.is_some_and(|task| task.status != State::Running) {
            self.world.raw::<()>(&["DEL", &format!("task:t{t}")]);
            self.world.store.repair(&self.world.lead(), &goal()).await.unwrap();
        }
    }

    /// What the agent holds, or held: it stays in its memory, so that it is also settled
    /// again, when that is out of date.
    async fn settle(&mut self, n: usize, how: How, next: bool) {
        let store = self.world.store.clone();
        let Some(grant) = self.held[n].clone() else { return };
        let holder = self.workers[n].holding(&grant);
        match how {
            How::Complete => drop(store.complete(holder, "[]", "", None).await.unwrap()),
            How::Fail { permanent } => {
                drop(store.fail(holder, "broke", permanent, None).await.unwrap());
            }
            How::Release => drop(store.release(holder, "stop").await.unwrap()),
            How::Park => drop(store.park(holder, "spent").await.unwrap()),
        }
        if next {
            self.next(n).await;
        }
    }

    async fn step(&mut self, op: &Op) {
        let (store, lead) = (self.world.store.clone(), self.world.lead());
        match op {
            Op::Claim(n) => self.next(*n).await,
            Op::Settle(n, how, next) => self.settle(*n, *how, *next).await,
            Op::Detour(n) => self.detour(*n).await,
            // What it held stays in its memory: its writes are out of date.
            Op::Restart(n) => self.workers[*n] = self.world.join(&format!("w{n}")).await,
            Op::Leave(n) => {
                let worker = &self.workers[*n];
                store.deregister(&worker.name, worker.incarnation, "stop").await.unwrap();
            }
            Op::Bury(n) => {
                let worker = &self.workers[*n];
                store.bury(&lead, &worker.name, worker.incarnation, "dead").await.unwrap();
            }
            Op::Reap(t) => {
                if let Some(pulse) = store.lease(&name(*t)).await.unwrap() {
                    store.reap(&lead, &name(*t), pulse, "silent").await.unwrap();
                }
            }
            Op::Drop(t) => self.drop_task(*t).await,
            Op::Retry(t) => drop(store.retry(&name(*t)).await.unwrap()),
            Op::Promote => drop(store.promote(&goal()).await.unwrap()),
            Op::Damage(t) => self.damage(*t).await,
            Op::Replan(plan) => self.world.accept(dag(plan)).await,
            Op::Clock(seconds) => {
                self.set_clock(self.clock.saturating_add_signed(seconds * 1_000_000));
            }
        }
    }
}

async fn play(world: &mut World, first: &Plan, ops: &[Op], cut: usize) {
    world.raw::<()>(&["FLUSHDB"]);
    world.store = world.store.at(T0);
    world.take_lead().await;
    world.accept(dag(first)).await;
    let mut workers = Vec::new();
    for n in 0..AGENTS {
        workers.push(world.join(&format!("w{n}")).await);
    }
    let held = vec![None; AGENTS];
    let mut run = Run { world, clock: T0, latest: T0, earliest: 0, workers, held, detours: 0 };
    for op in ops {
        run.step(op).await;
    }
    let report = world.assert_clean().await;
    assert!(report.complete && report.restores == 0, "{report:#?}");
    // The same with any part of its beginning gone.
    let kept = (report.events as usize).saturating_sub(cut).to_string();
    world.raw::<()>(&["XTRIM", "events", "MAXLEN", &kept]);
    world.assert_clean().await;
}

#[test]
fn any_order_of_steps_should_leave_a_clean_history() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = std::cell::RefCell::new(runtime.block_on(World::new()));
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let histories = (plans(), prop::collection::vec(ops(), 1..80), 0usize..200);
    proptest!(config, |((first, ops, cut) in histories)| {
        runtime.block_on(play(&mut world.borrow_mut(), &first, &ops, cut));
    });
}
