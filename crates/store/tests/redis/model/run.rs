//! The same steps on a real Redis.

use std::cell::RefCell;
use std::collections::BTreeMap;

use model::lease::{Epoch, Pulse};
use model::{TaskId, TaskSpec};
use store::Store;
use store::agent::{Beat, Incarnation};
use store::directive::{Action, Outcome, Seen, Step};
use store::task::{Claim, Detoured, Grant, Settled};
use testkit::RedisServer;
use tokio::runtime::Runtime;

use super::AGENTS;
use super::op::{Act, Deed, Op};
use super::reference::{JITTER_SEED, Reference, id, role};
use super::step::{Alive, Answer, Claimed, MAX_DETOURS};
use crate::detour::review;
use crate::llm::{begin, end};
use crate::world::{SECOND, T0, TTL_MS, Worker, World, agent, goal, paused, take_lead, task};

thread_local! {
    /// One server serves all sequences, as long as none fails.
    static SERVER: RefCell<Option<RedisServer>> = const { RefCell::new(None) };
}

pub(super) fn name(n: usize) -> String {
    format!("w{n}")
}

pub(super) struct Run {
    pub(super) world: World,
    runtime: Runtime,
    clock: u64,
    workers: Vec<Worker>,
    /// What each agent believes that it holds.
    pub(super) held: Vec<Option<Grant>>,
    /// What each agent held once, under which incarnation.
    past: Vec<Option<(Worker, Grant)>>,
    /// Leases as they were looked at.
    watched: BTreeMap<TaskId, Pulse>,
    detours: u32,
    calls: u32,
}

impl Run {
    pub(super) fn start(reference: &Reference) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let server = SERVER.take().unwrap_or_else(RedisServer::start);
        let (world, workers) = runtime.block_on(async {
            let mut world = World::on(server).await;
            world.raw::<()>(&["FLUSHALL"]);
            world.epoch = take_lead(&world.store, "us").await;
            world.accept("g", reference.first.dag()).await;
            let mut workers = Vec::new();
            for n in 0..AGENTS {
                workers.push(world.join(&name(n), role(n).as_str(), "g").await);
            }
            (world, workers)
        });
        Self {
            world,
            runtime,
            clock: T0,
            workers,
            held: vec![None; AGENTS],
            past: vec![None; AGENTS],
            watched: BTreeMap::new(),
            detours: 0,
            calls: 0,
        }
    }

    pub(super) fn step(&mut self, op: &Op) -> Answer {
        // So that the model knows how long a failed task waits.
        fastrand::seed(JITTER_SEED);
        match op {
            Op::Agent(n, act) => self.act(*n, act),
            Op::Other(deed) => self.deed(deed),
        }
    }

    pub(super) fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    fn store(&self) -> Store {
        self.world.store.clone()
    }

    fn claimed(&mut self, n: usize, claim: Claim) -> Claimed {
        match claim {
            Claim::Granted(grant) => {
                let claimed = Claimed::Granted {
                    task: grant.task.clone(),
                    epoch: grant.epoch.0,
                    attempt: grant.attempt,
                    generation: grant.generation,
                };
                self.held[n] = Some(*grant);
                claimed
            }
            Claim::Empty => Claimed::Empty,
            Claim::Held { .. } => {
                assert_eq!(claim, paused());
                Claimed::Paused
            }
            Claim::Taken => Claimed::Taken,
            Claim::Fenced => Claimed::Fenced,
        }
    }

    /// The agent lets go of what it believes that it holds.
    fn forget(&mut self, n: usize) -> Option<Grant> {
        let grant = self.held[n].take()?;
        self.past[n] = Some((self.workers[n].clone(), grant.clone()));
        Some(grant)
    }

    fn settled(&mut self, n: usize, (settled, next): (Settled, Option<Claim>)) -> Answer {
        Answer::Settled(settled, next.map(|claim| self.claimed(n, claim)))
    }

    fn act(&mut self, n: usize, act: &Act) -> Answer {
        let (store, worker) = (self.store(), self.workers[n].clone());
        match act {
            Act::Claim => {
                let claim = self.wait(self.world.claim(&worker));
                Answer::Claimed(self.claimed(n, claim))
            }
            Act::Want(t) => {
                let claim = self.wait(self.world.want(&worker, id(*t).as_str()));
                Answer::Claimed(self.claimed(n, claim))
            }
            Act::Complete { wants_next } => {
                let Some(grant) = self.forget(n) else { return Answer::Nothing };
                let next = wants_next.then_some(TTL_MS);
                let ended = self.wait(store.complete(worker.holding(&grant), "[]", "", next));
                self.settled(n, ended.unwrap())
            }
            Act::Fail { permanent, wants_next } => {
                let Some(grant) = self.forget(n) else { return Answer::Nothing };
                let next = wants_next.then_some(TTL_MS);
                let holder = worker.holding(&grant);
                let ended = self.wait(store.fail(holder, "broke", *permanent, next));
                self.settled(n, ended.unwrap())
            }
            Act::Release => {
                let Some(grant) = self.forget(n) else { return Answer::Nothing };
                let ended = self.wait(store.release(worker.holding(&grant), "stop"));
                Answer::Settled(ended.unwrap(), None)
            }
            Act::Park => {
                let Some(grant) = self.forget(n) else { return Answer::Nothing };
                let ended = self.wait(store.park(worker.holding(&grant), "spent"));
                Answer::Settled(ended.unwrap(), None)
            }
            Act::Detour => self.detour(n),
            Act::Call { ends } => self.call(n, *ends),
            Act::Repeat => {
                let Some((worker, grant)) = &self.past[n] else { return Answer::Nothing };
                let before: Vec<_> = self.world.dump().into_iter().collect();
                let holder = worker.holding(grant);
                let (settled, next) =
                    self.wait(store.complete(holder, "[9]", "late", None)).unwrap();
                let after: Vec<_> = self.world.dump().into_iter().collect();
                let changed: Vec<_> = after.iter().filter(|it| !before.contains(it)).collect();
                assert_eq!(changed, Vec::<&(String, String)>::new(), "said again: {holder:?}");
                assert_eq!((after.len(), next), (before.len(), None));
                Answer::Settled(settled, None)
            }
            Act::Beat => self.beat(n),
            Act::Restart => {
                self.forget(n);
                let (name, role) = (name(n), role(n));
                let worker = self.wait(self.world.join(&name, role.as_str(), "g"));
                let incarnation = worker.incarnation.0;
                self.workers[n] = worker;
                Answer::Registered(incarnation)
            }
            Act::Leave => {
                self.forget(n);
                let left = store.deregister(&worker.name, worker.incarnation, "stop");
                Answer::Left(self.wait(left).unwrap())
            }
        }
    }

    fn detour(&mut self, n: usize) -> Answer {
        let Some(grant) = self.held[n].clone() else { return Answer::Nothing };
        self.detours += 1;
        let spec = TaskSpec::new(task(&format!("detour{}", self.detours)), "a detour");
        let detour = review(&spec, "not yet");
        assert_eq!(detour.limit, MAX_DETOURS);
        let (store, worker) = (self.store(), self.workers[n].clone());
        let detoured = self.wait(store.detour(worker.holding(&grant), &detour)).unwrap();
        if detoured != Detoured::Exhausted {
            self.forget(n);
        }
        Answer::Detoured(detoured)
    }

    /// The model knows nothing of calls: they change nothing that it knows of.
    fn call(&mut self, n: usize, ends: bool) -> Answer {
        let (worker, g) = (&self.workers[n], goal("g"));
        let caller = self.held[n].as_ref().map_or(worker.caller(), |it| worker.caller_for(it));
        self.calls += 1;
        let id = format!("call{}", self.calls);
        let call = begin(caller, &g, &id);
        self.wait(self.world.begin(&call));
        let slots = self.world.hash("llm:slots");
        assert!(slots.len() <= 2, "{slots:?}");
        if ends {
            self.wait(self.world.store.end_call(&end(&call))).unwrap();
        }
        Answer::Nothing
    }

    fn beat(&mut self, n: usize) -> Answer {
        let (store, worker) = (self.store(), &self.workers[n]);
        let held = self.held[n].as_ref().map(|grant| (&grant.task, grant.epoch));
        let beat = store.beat(&worker.name, worker.incarnation, TTL_MS, held, "x");
        match self.wait(beat).unwrap() {
            Beat::Fenced => {
                self.forget(n);
                Answer::Beat(None)
            }
            Beat::Ok { lease, control, holds, .. } => {
                if lease == Some(false) {
                    self.forget(n);
                }
                Answer::Beat(Some(Alive { lease, holds, paused: control.paused }))
            }
        }
    }

    fn say(&self, n: usize, action: Action) -> Answer {
        let (store, of, g) = (self.store(), agent(&name(n)), goal("g"));
        let consumed = self.wait(store.consumed(&of)).unwrap();
        let step = Step {
            agent: &of,
            goal: &g,
            path: "x.md".as_ref(),
            version: &consumed.version,
            seen: Seen::Replace(""),
            line: Some(("line", &action)),
        };
        match self.wait(store.apply(&self.world.lead(), &step)).unwrap() {
            Outcome::Applied(_) => Answer::Applied(true),
            Outcome::Refused(_) => Answer::Applied(false),
            other @ (Outcome::Noted | Outcome::Stale) => panic!("{action:?}: {other:?}"),
        }
    }

    fn deed(&mut self, deed: &Deed) -> Answer {
        let (store, lead, g) = (self.store(), self.world.lead(), goal("g"));
        match deed {
            Deed::Bury(n, is_own) => {
                let worker = &self.workers[*n];
                let dead = Incarnation(worker.incarnation.0 - u64::from(!is_own));
                let buried = store.bury(&lead, &worker.name, dead, "dead");
                Answer::Buried(self.wait(buried).unwrap())
            }
            Deed::Watch => {
                self.watched = self.wait(store.leases()).unwrap().into_iter().collect();
                Answer::Nothing
            }
            Deed::Reap(t) => {
                let watched = self.watched.keys().nth(t % self.watched.len().max(1)).cloned();
                let id = watched.unwrap_or_else(|| id(*t));
                let now = self.wait(store.lease(&id)).unwrap();
                let Some(seen) = self.watched.remove(&id).or(now) else {
                    return Answer::Reaped(None);
                };
                let reaped = self.wait(store.reap(&lead, &id, seen, "silent"));
                Answer::Reaped(Some(reaped.unwrap()))
            }
            Deed::Drop(t) => self.say(0, Action::DropTask(id(*t))),
            Deed::Elevate(t, priority) => self.say(0, Action::Elevate(id(*t), *priority)),
            Deed::Pause(n, true) => self.say(*n, Action::Pause),
            Deed::Pause(n, false) => self.say(*n, Action::Resume),
            Deed::Retry(t) => Answer::Retried(self.wait(store.retry(&id(*t))).unwrap()),
            Deed::Promote => {
                let next = self.wait(store.promote(&g)).unwrap();
                Answer::Next(next.map(|next| next.as_micros() as u64))
            }
            Deed::RollUp => {
                let now = self.wait(store.goal(&g)).unwrap().unwrap();
                let rolled = store.roll_up(&lead, &g, now.generation, &now.counts, "so");
                Answer::RolledUp(self.wait(rolled).unwrap())
            }
            Deed::Repair => Answer::Repaired(self.wait(store.repair(&lead, &g)).unwrap()),
            Deed::Replan(plan) => Answer::Accepted(self.wait(self.world.accept("g", plan.dag()))),
            Deed::Clock(seconds) => {
                self.clock = self.clock.saturating_add_signed(seconds * SECOND as i64);
                self.world.store = store.at(self.clock);
                Answer::Nothing
            }
        }
    }

    /// What each agent believes that it holds, and under which incarnation.
    pub(super) fn belief(&self, n: usize) -> (u64, Option<(&TaskId, Epoch)>) {
        let held = self.held[n].as_ref().map(|grant| (&grant.task, grant.epoch));
        (self.workers[n].incarnation.0, held)
    }

    /// Gives the server to the next sequence.
    pub(super) fn hand_on(self) {
        let World { server, .. } = self.world;
        SERVER.set(Some(server));
    }
}
