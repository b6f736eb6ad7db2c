//! Whatever three agents, a person and the controllers do, in whatever order: the
//! rules hold after every step.

use std::collections::{BTreeMap, BTreeSet};

use model::lease::Epoch;
use model::task::State;
use model::{Dag, TaskId, TaskSpec};
use proptest::prelude::*;
use store::agent::Beat;
use store::directive::{Action, Seen, Step};
use store::task::{Claim, Detoured, Grant, Settled};
use testkit::RedisServer;

use crate::detour::review;
use crate::llm::{begin, end};
use crate::world::{SECOND, T0, TTL_MS, Worker, World, agent, goal, task};

const TASKS: usize = 7;
const AGENTS: usize = 3;
const ROLES: [&str; 2] = ["red", "blue"];

/// One plan: for each task its role (2 is any), whether it is in, its wording, and
/// what it waits for (only lower numbers, so there is no cycle).
#[derive(Debug, Clone)]
struct Plan {
    tasks: Vec<(usize, bool, u8, u8)>,
}

#[derive(Debug, Clone)]
enum Op {
    Agent(usize, Act),
    Other(Deed),
}

/// What an agent does.
#[derive(Debug, Clone)]
enum Act {
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
enum Deed {
    Bury(usize),
    Reap(usize),
    Drop(usize),
    Elevate(usize, u32),
    Pause(usize, bool),
    Retry(usize),
    Promote,
    RollUp,
    Replan(Plan),
    /// Seconds, also back.
    Clock(i64),
}

fn plans() -> impl Strategy<Value = Plan> {
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
        2 => any::<bool>().prop_map(|ends| Act::Call { ends }),
        2 => Just(Act::Repeat),
        2 => Just(Act::Beat),
        2 => Just(Act::Restart),
        1 => Just(Act::Leave),
    ]
}

fn deeds() -> impl Strategy<Value = Deed> {
    prop_oneof![
        1 => (0..AGENTS).prop_map(Deed::Bury),
        2 => (0..TASKS).prop_map(Deed::Reap),
        1 => (0..TASKS).prop_map(Deed::Drop),
        1 => (0..TASKS, 0u32..20).prop_map(|(t, p)| Deed::Elevate(t, p)),
        1 => (0..AGENTS, any::<bool>()).prop_map(|(a, paused)| Deed::Pause(a, paused)),
        2 => (0..TASKS).prop_map(Deed::Retry),
        1 => Just(Deed::Promote),
        1 => Just(Deed::RollUp),
        2 => plans().prop_map(Deed::Replan),
        3 => (-50i64..100).prop_map(Deed::Clock),
    ]
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (0..AGENTS, acts()).prop_map(|(n, act)| Op::Agent(n, act)),
        1 => deeds().prop_map(Op::Other),
    ]
}

impl Plan {
    fn dag(&self) -> Dag {
        let is_in = |n: usize| self.tasks[n].1;
        let mut specs = Vec::new();
        let mut edges = Vec::new();
        for (n, (role, _, wording, deps)) in self.tasks.iter().enumerate() {
            if !is_in(n) {
                continue;
            }
            let mut spec = TaskSpec::new(id(n), format!("wording {wording}"));
            spec.role = ROLES.get(*role).map(|role| role.parse().unwrap());
            spec.max_attempts = Some(2);
            specs.push(spec);
            // Few edges: two of the bits have to be set for one.
            let waits = |d: &usize| deps >> d & 1 == 1 && deps >> ((d + 3) % 8) & 1 == 1;
            edges.extend((0..n).filter(|d| is_in(*d)).filter(waits).map(|d| (id(n), id(d))));
        }
        Dag::new(specs, &edges).unwrap()
    }
}

fn id(n: usize) -> TaskId {
    task(&format!("t{n}"))
}

fn name(n: usize) -> String {
    format!("w{n}")
}

struct Run<'a> {
    world: &'a mut World,
    clock: u64,
    workers: Vec<Worker>,
    /// What each agent believes that it holds.
    held: Vec<Option<Grant>>,
    /// What each agent held once, under which incarnation.
    past: Vec<Option<(Worker, Grant)>>,
    epochs: BTreeMap<TaskId, Epoch>,
    done: BTreeSet<(TaskId, u64)>,
    detours: u32,
    calls: u32,
}

impl Run<'_> {
    async fn granted(&mut self, n: usize, claim: Claim) {
        let Claim::Granted(grant) = claim else { return };
        let last = self.epochs.insert(grant.task.clone(), grant.epoch).unwrap_or_default();
        // The plan may have changed meanwhile; the grant is the same one.
        let of = |held: &Grant| (held.task.clone(), held.epoch);
        let is_repeat = self.held[n].as_ref().map(of) == Some(of(&grant));
        assert!(grant.epoch > last || is_repeat, "{grant:?} after {last}");
        if !is_repeat {
            for dep in self.world.store.dependencies(&goal("g"), &grant.task).await.unwrap() {
                let status = self.world.status(dep.as_str()).await;
                assert_eq!(status, State::Done, "{} was granted, {dep} is open", grant.task);
            }
        }
        self.held[n] = Some(*grant);
    }

    /// The agent settled what it held, and was granted or told what is next.
    async fn settled(&mut self, n: usize, grant: Grant, next: Option<Claim>) {
        self.past[n] = Some((self.workers[n].clone(), grant));
        if let Some(claim) = next {
            self.granted(n, claim).await;
        }
    }

    async fn detour(&mut self, n: usize) {
        let Some(grant) = self.held[n].take() else { return };
        self.detours += 1;
        let spec = TaskSpec::new(task(&format!("detour{}", self.detours)), "a detour");
        let detour = review(&spec, "not yet");
        let detoured = self.world.store.detour(self.workers[n].holding(&grant), &detour).await;
        if detoured.unwrap() == Detoured::Exhausted {
            self.held[n] = Some(grant);
        } else {
            self.settled(n, grant, None).await;
        }
    }

    async fn call(&mut self, n: usize, ends: bool) {
        let (worker, g) = (&self.workers[n], goal("g"));
        let caller = self.held[n].as_ref().map_or(worker.caller(), |it| worker.caller_for(it));
        self.calls += 1;
        let id = format!("call{}", self.calls);
        let call = begin(caller, &g, &id);
        self.world.begin(&call).await;
        assert!(self.world.hash("llm:slots").len() <= 2, "{:?}", self.world.hash("llm:slots"));
        if ends {
            self.world.store.end_call(&end(&call)).await.unwrap();
        }
    }

    async fn restart(&mut self, n: usize) {
        if let Some(grant) = self.held[n].take() {
            self.past[n] = Some((self.workers[n].clone(), grant));
        }
        let before = self.workers[n].incarnation;
        self.workers[n] = self.world.join(&name(n), ROLES[n % ROLES.len()], "g").await;
        assert!(self.workers[n].incarnation > before);
    }

    async fn say(&self, n: usize, action: Action) {
        let of = agent(&name(n));
        let consumed = self.world.store.consumed(&of).await.unwrap();
        let step = Step {
            agent: &of,
            goal: &goal("g"),
            path: "x.md".as_ref(),
            version: &consumed.version,
            seen: Seen::Replace(""),
            line: Some(("line", &action)),
        };
        self.world.store.apply(&self.world.lead(), &step).await.unwrap();
    }

    async fn act(&mut self, n: usize, act: &Act) {
        let store = self.world.store.clone();
        match act {
            Act::Claim => {
                let claim = self.world.claim(&self.workers[n]).await;
                self.granted(n, claim).await;
            }
            Act::Want(t) => {
                let claim = self.world.want(&self.workers[n], id(*t).as_str()).await;
                self.granted(n, claim).await;
            }
            Act::Complete { wants_next } => {
                let Some(grant) = self.held[n].take() else { return };
                let next = wants_next.then_some(TTL_MS);
                let holder = self.workers[n].holding(&grant);
                let (settled, next) = store.complete(holder, "[]", "", next).await.unwrap();
                if settled == Settled::Done {
                    let generation = self.world.task(grant.task.as_str()).await.generation;
                    assert_eq!(generation, grant.generation);
                    let first = self.done.insert((grant.task.clone(), generation));
                    assert!(first, "{grant:?} was accepted twice");
                }
                self.settled(n, grant, next).await;
            }
            Act::Fail { permanent, wants_next } => {
                let Some(grant) = self.held[n].take() else { return };
                let next = wants_next.then_some(TTL_MS);
                let holder = self.workers[n].holding(&grant);
                let (_, next) = store.fail(holder, "broke", *permanent, next).await.unwrap();
                self.settled(n, grant, next).await;
            }
            Act::Release => {
                let Some(grant) = self.held[n].take() else { return };
                store.release(self.workers[n].holding(&grant), "stop").await.unwrap();
                self.settled(n, grant, None).await;
            }
            Act::Park => {
                let Some(grant) = self.held[n].take() else { return };
                store.park(self.workers[n].holding(&grant), "spent").await.unwrap();
                self.settled(n, grant, None).await;
            }
            Act::Detour => self.detour(n).await,
            Act::Call { ends } => self.call(n, *ends).await,
            Act::Repeat => {
                let Some((worker, grant)) = &self.past[n] else { return };
                let before = self.world.dump();
                let (settled, _) =
                    store.complete(worker.holding(grant), "[9]", "late", None).await.unwrap();
                assert!(matches!(settled, Settled::Already | Settled::Fenced), "{settled:?}");
                assert_eq!(self.world.dump(), before);
            }
            Act::Beat => {
                let (worker, held) = (&self.workers[n], &self.held[n]);
                let held = held.as_ref().map(|grant| (&grant.task, grant.epoch));
                let beat = store.beat(&worker.name, worker.incarnation, TTL_MS, held, "x").await;
                match beat.unwrap() {
                    Beat::Ok { lease: Some(false), .. } | Beat::Fenced => self.held[n] = None,
                    Beat::Ok { .. } => {}
                }
            }
            Act::Restart => self.restart(n).await,
            Act::Leave => {
                let worker = &self.workers[n];
                store.deregister(&worker.name, worker.incarnation, "stop").await.unwrap();
                self.held[n] = None;
            }
        }
    }

    async fn deed(&mut self, deed: &Deed) {
        let (store, lead, g) = (self.world.store.clone(), self.world.lead(), goal("g"));
        match deed {
            Deed::Bury(n) => {
                let worker = &self.workers[*n];
                store.bury(&lead, &worker.name, worker.incarnation, "dead").await.unwrap();
            }
            Deed::Reap(t) => {
                if let Some(pulse) = store.lease(&id(*t)).await.unwrap() {
                    store.reap(&lead, &id(*t), pulse, "silent").await.unwrap();
                }
            }
            Deed::Drop(t) => self.say(0, Action::DropTask(id(*t))).await,
            Deed::Elevate(t, priority) => self.say(0, Action::Elevate(id(*t), *priority)).await,
            Deed::Pause(n, true) => self.say(*n, Action::Pause).await,
            Deed::Pause(n, false) => self.say(*n, Action::Resume).await,
            Deed::Retry(t) => drop(store.retry(&id(*t)).await.unwrap()),
            Deed::Promote => drop(store.promote(&g).await.unwrap()),
            Deed::RollUp => {
                let now = store.goal(&g).await.unwrap().unwrap();
                store.roll_up(&lead, &g, now.generation, &now.counts, "so").await.unwrap();
            }
            Deed::Replan(plan) => drop(self.world.accept("g", plan.dag()).await),
            Deed::Clock(seconds) => {
                self.clock = self.clock.saturating_add_signed(seconds * SECOND as i64);
                self.world.store = store.at(self.clock);
            }
        }
    }

    async fn step(&mut self, op: &Op) {
        let done = self.all_done().await;
        match op {
            Op::Agent(n, act) => self.act(*n, act).await,
            Op::Other(deed) => self.deed(deed).await,
        }
        self.world.assert_sound(&["g"]);
        let figures = self.world.store.figures(&goal("g")).await.unwrap();
        assert_eq!(figures.contradiction(), None, "{figures:?}");
        if !matches!(op, Op::Other(Deed::Replan(_))) {
            let now = self.all_done().await;
            assert!(done.is_subset(&now), "done is final: {done:?}, then {now:?}");
        }
    }

    async fn all_done(&self) -> BTreeSet<TaskId> {
        let tasks = self.world.store.tasks(&goal("g")).await.unwrap();
        tasks.into_iter().filter(|t| t.status == State::Done).map(|t| t.id).collect()
    }

    async fn assert_history(&self) {
        let mut completed = BTreeSet::new();
        for event in self.world.events("task-complete").await {
            let key = (event.field("task").to_owned(), event.field("generation").to_owned());
            assert!(completed.insert(key.clone()), "{key:?} was completed twice");
        }
        assert_eq!(completed.len(), self.done.len());
    }
}

async fn play(world: &mut World, first: &Plan, ops: &[Op]) {
    world.raw::<()>(&["FLUSHDB"]);
    world.store = world.store.at(T0);
    world.epoch = crate::world::take_lead(&world.store, "us").await;
    world.accept("g", first.dag()).await;
    let mut workers = Vec::new();
    for n in 0..AGENTS {
        workers.push(world.join(&name(n), ROLES[n % ROLES.len()], "g").await);
    }
    let mut run = Run {
        world,
        clock: T0,
        workers,
        held: vec![None; AGENTS],
        past: vec![None; AGENTS],
        epochs: BTreeMap::new(),
        done: BTreeSet::new(),
        detours: 0,
        calls: 0,
    };
    for op in ops {
        run.step(op).await;
    }
    run.assert_history().await;
}

#[test]
fn any_order_of_steps_should_keep_the_rules() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = runtime.block_on(World::on(RedisServer::start()));
    let world = std::cell::RefCell::new(world);
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(30);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(first in plans(), ops in prop::collection::vec(ops(), 1..60))| {
        runtime.block_on(play(&mut world.borrow_mut(), &first, &ops));
    });
}
