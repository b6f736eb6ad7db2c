//! One Redis, one store whose clock stands where a test puts it, and short ways to
//! say things.

use std::cell::RefCell;
use std::collections::BTreeMap;

use model::lease::Epoch;
use model::task::State;
use model::{AgentName, Dag, GoalId, Role, TaskId, TaskSpec};
use redis::FromRedisValue;
use store::agent::{Incarnation, Registration};
use store::dag::Difference;
use store::event::Event;
use store::lead::{Answer, Candidate, Controller};
use store::task::{Claim, Grant, Holder, Settled};
use store::{Lead, Options, Store};
use testkit::RedisServer;

/// Where the clock stands unless a test moves it.
pub(crate) const T0: u64 = 1_800_000_000_000_000;
pub(crate) const SECOND: u64 = 1_000_000;
pub(crate) const TTL_MS: u64 = 600_000;

pub(crate) fn task(id: &str) -> TaskId {
    TaskId::new(id).unwrap()
}

pub(crate) fn goal(id: &str) -> GoalId {
    GoalId::new(id).unwrap()
}

pub(crate) fn agent(name: &str) -> AgentName {
    AgentName::new(name).unwrap()
}

pub(crate) fn spec(id: &str) -> TaskSpec {
    TaskSpec::new(task(id), format!("do {id}"))
}

/// A plan in which each task waits for those named beside it.
pub(crate) fn plan(tasks: &[(&str, &[&str])]) -> Dag {
    plan_with(tasks, |_| {})
}

/// The same, with `say` to add to each task.
pub(crate) fn plan_with(tasks: &[(&str, &[&str])], say: impl Fn(&mut TaskSpec)) -> Dag {
    let mut specs: Vec<TaskSpec> = tasks.iter().map(|(id, _)| spec(id)).collect();
    specs.iter_mut().for_each(say);
    let edges: Vec<(TaskId, TaskId)> = tasks
        .iter()
        .flat_map(|(id, after)| after.iter().map(|dep| (task(id), task(dep))))
        .collect();
    Dag::new(specs, &edges).unwrap()
}

/// An agent's process as the test plays it.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    pub(crate) name: AgentName,
    pub(crate) incarnation: Incarnation,
}

impl Worker {
    pub(crate) fn holding<'a>(&'a self, grant: &'a Grant) -> Holder<'a> {
        self.with(&grant.task, grant.epoch)
    }

    pub(crate) fn with<'a>(&'a self, task: &'a TaskId, epoch: Epoch) -> Holder<'a> {
        Holder { agent: &self.name, incarnation: self.incarnation, task, epoch }
    }
}

pub(crate) fn granted(claim: Claim) -> Grant {
    match claim {
        Claim::Granted(grant) => *grant,
        other @ (Claim::Empty | Claim::Held { .. } | Claim::Taken | Claim::Fenced) => {
            panic!("expected a grant, got {other:?}")
        }
    }
}

/// What a paused agent is told.
pub(crate) fn paused() -> Claim {
    Claim::Held { reason: "paused".into(), until_us: None }
}

pub(crate) fn candidate(holder: &str) -> Candidate {
    Candidate { holder: holder.into(), pid: 100, start_time: 7, host: "box".into() }
}

pub(crate) struct World {
    pub(crate) server: RedisServer,
    /// For looking past the store.
    connection: RefCell<Option<redis::Connection>>,
    pub(crate) store: Store,
    pub(crate) epoch: Epoch,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(RedisServer::start()).await
    }

    pub(crate) async fn on(server: RedisServer) -> Self {
        let url: store::RedisUrl = server.url().parse().unwrap();
        let store = Store::new(&Options::from(url)).await.unwrap().at(T0);
        let epoch = take_lead(&store, "us").await;
        Self { server, connection: RefCell::default(), store, epoch }
    }

    pub(crate) fn lead(&self) -> Lead {
        Lead::new(Controller::Dag, self.epoch)
    }

    /// Somebody else leads from now on: our writes are out of date.
    pub(crate) async fn lose_lead(&self) {
        self.store.resign(&candidate("us"), &Controller::ALL).await.unwrap();
        take_lead(&self.store, "them").await;
    }

    /// The store `seconds` later.
    pub(crate) fn later(&self, seconds: u64) -> Store {
        self.store.at(T0 + seconds * SECOND)
    }

    pub(crate) async fn accept(&self, name: &str, dag: Dag) -> Option<Difference> {
        let hash = format!("hash-{}", dag.tasks().len());
        self.store.accept(&self.lead(), &goal(name), dag, &hash, "a title").await.unwrap()
    }

    /// Registers a process of its own kind for each call.
    pub(crate) async fn join(&self, name: &str, role: &str, of: &str) -> Worker {
        let pid: u32 = self.raw(&["INCR", "test:pid"]);
        self.raw::<()>(&["DEL", &format!("agent:{name}:inbox")]);
        self.join_as(name, role, of, pid).await
    }

    pub(crate) async fn join_as(&self, name: &str, role: &str, of: &str, pid: u32) -> Worker {
        self.join_with(name, role, of, pid, "").await
    }

    /// Joins as an agent that asks this provider.
    pub(crate) async fn join_model(&self, name: &str, of: &str, provider: &str) -> Worker {
        let pid: u32 = self.raw(&["INCR", "test:pid"]);
        self.raw::<()>(&["DEL", &format!("agent:{name}:inbox")]);
        self.join_with(name, "any", of, pid, provider).await
    }

    async fn join_with(
        &self,
        name: &str,
        role: &str,
        of: &str,
        pid: u32,
        provider: &str,
    ) -> Worker {
        let name = agent(name);
        let registration = Registration {
            agent: &name,
            pid,
            host: "box",
            start_time: 7,
            role: &Role::new(role).unwrap(),
            goal: &goal(of),
            spec_hash: "spec",
            provider,
        };
        let incarnation = self.store.register(&registration, TTL_MS).await.unwrap();
        Worker { name, incarnation }
    }

    /// Joins, and finds nothing to do; its inbox is empty afterwards.
    pub(crate) async fn idle(&self, name: &str, role: &str, of: &str) -> Worker {
        let worker = self.join(name, role, of).await;
        assert_eq!(self.claim(&worker).await, Claim::Empty);
        self.raw::<()>(&["DEL", &format!("agent:{name}:inbox")]);
        worker
    }

    /// It fell asleep before there was work, as far as Redis knows.
    pub(crate) async fn asleep(&self, name: &str, role: &str, of: &str) -> Worker {
        let worker = self.join(name, role, of).await;
        let member = format!("{name}|{role}");
        self.raw::<()>(&["SADD", &format!("dag:{of}:idle"), &member]);
        self.raw::<()>(&["SADD", &format!("dag:{of}:idle:{role}"), &member]);
        self.raw::<()>(&["DEL", &format!("agent:{name}:inbox")]);
        worker
    }

    pub(crate) async fn claim(&self, worker: &Worker) -> Claim {
        self.claim_at(&self.store, worker).await
    }

    pub(crate) async fn claim_at(&self, store: &Store, worker: &Worker) -> Claim {
        store.claim(&worker.name, worker.incarnation, TTL_MS, None).await.unwrap()
    }

    pub(crate) async fn want(&self, worker: &Worker, id: &str) -> Claim {
        let id = task(id);
        self.store.claim(&worker.name, worker.incarnation, TTL_MS, Some(&id)).await.unwrap()
    }

    /// Claims and asserts which task that is.
    pub(crate) async fn start(&self, worker: &Worker, id: &str) -> Grant {
        let grant = granted(self.claim(worker).await);
        assert_eq!(grant.task.as_str(), id);
        grant
    }

    pub(crate) async fn complete(&self, worker: &Worker, grant: &Grant) -> Settled {
        let holder = worker.holding(grant);
        let (settled, next) = self.store.complete(holder, "[]", "fine", None).await.unwrap();
        assert_eq!(next, None);
        settled
    }

    pub(crate) async fn fail(&self, worker: &Worker, grant: &Grant, permanent: bool) -> Settled {
        let holder = worker.holding(grant);
        self.store.fail(holder, "it broke", permanent, None).await.unwrap().0
    }

    /// Runs the task to its end.
    pub(crate) async fn run(&self, worker: &Worker, id: &str) {
        let grant = self.start(worker, id).await;
        assert_eq!(self.complete(worker, &grant).await, Settled::Done);
    }

    pub(crate) async fn status(&self, id: &str) -> State {
        self.task(id).await.status
    }

    pub(crate) async fn task(&self, id: &str) -> store::task::Task {
        self.store.task(&task(id)).await.unwrap().unwrap_or_else(|| panic!("no task {id}"))
    }

    pub(crate) async fn events(&self, kind: &str) -> Vec<Event> {
        let all = self.store.last_events(10_000).await.unwrap();
        all.into_iter().filter(|event| event.kind == kind).collect()
    }

    /// Any command on a connection apart.
    pub(crate) fn raw<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut held = self.connection.borrow_mut();
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        let mut ask = || {
            let connection = held.get_or_insert_with(|| self.server.connection());
            let found = command.query(connection);
            if matches!(&found, Err(error) if error.is_io_error()) {
                *held = None;
            }
            found
        };
        // The connection may have ended with the server that it was made to.
        let found = ask().or_else(|error| if error.is_io_error() { ask() } else { Err(error) });
        found.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    pub(crate) fn hash(&self, key: &str) -> BTreeMap<String, String> {
        self.raw(&["HGETALL", key])
    }

    pub(crate) fn field(&self, key: &str, field: &str) -> Option<String> {
        self.raw(&["HGET", key, field])
    }

    /// The members of a sorted set, lowest score first.
    pub(crate) fn queue(&self, key: &str) -> Vec<String> {
        self.raw(&["ZRANGE", key, "0", "-1"])
    }

    pub(crate) fn members(&self, key: &str) -> Vec<String> {
        let mut members: Vec<String> = self.raw(&["SMEMBERS", key]);
        members.sort();
        members
    }

    pub(crate) fn inbox(&self, name: &str) -> Vec<String> {
        self.raw(&["LRANGE", &format!("agent:{name}:inbox"), "0", "-1"])
    }

    pub(crate) fn leases(&self) -> BTreeMap<String, String> {
        self.hash("leases")
    }

    /// Everything that Redis holds, as text by key.
    pub(crate) fn dump(&self) -> BTreeMap<String, String> {
        let keys: Vec<String> = self.raw(&["KEYS", "*"]);
        keys.into_iter().map(|key| (key.clone(), self.show(&key))).collect()
    }

    fn show(&self, key: &str) -> String {
        let kind: String = self.raw(&["TYPE", key]);
        match kind.as_str() {
            "string" => self.raw(&["GET", key]),
            "hash" => format!("{:?}", self.hash(key)),
            "set" => format!("{:?}", self.members(key)),
            "list" => format!("{:?}", self.raw::<Vec<String>>(&["LRANGE", key, "0", "-1"])),
            "zset" => {
                let all = ["ZRANGE", key, "0", "-1", "WITHSCORES"];
                format!("{:?}", self.raw::<Vec<String>>(&all))
            }
            "stream" => {
                format!("{:?}", self.raw::<redis::Value>(&["XRANGE", key, "-", "+"]))
            }
            other => panic!("{key} is a {other}"),
        }
    }

    /// The rules that hold after every step, whatever the step was.
    #[track_caller]
    pub(crate) fn assert_sound(&self, goals: &[&str]) {
        let mut running = BTreeMap::new();
        for name in goals {
            self.assert_goal_sound(name, &mut running);
        }
        let leases = self.leases();
        assert_eq!(
            running.keys().collect::<Vec<_>>(),
            leases.keys().collect::<Vec<_>>(),
            "leases are the running tasks"
        );
        let mut held = BTreeMap::new();
        for key in self.raw::<Vec<String>>(&["KEYS", "agent:*:registered"]) {
            let registered = self.hash(&key);
            if let Some(task) = registered.get("task") {
                let name = key.split(':').nth(1).unwrap().to_owned();
                let record = &running[task];
                assert_eq!(record["owner"], name, "{task}");
                assert_eq!(record["epoch"], registered["epoch"], "{task}");
                assert_eq!(record["incarnation"], registered["incarnation"], "{task}");
                assert!(leases[task].starts_with(&format!("{}:", record["epoch"])), "{task}");
                assert_eq!(held.insert(task.clone(), name), None, "{task} is held twice");
            }
        }
        assert_eq!(held.len(), running.len(), "each running task has its holder: {held:?}");
    }

    #[track_caller]
    fn assert_goal_sound(
        &self,
        name: &str,
        running: &mut BTreeMap<String, BTreeMap<String, String>>,
    ) {
        let nodes = self.hash(&format!("dag:{name}:nodes"));
        let deps = self.hash(&format!("dag:{name}:deps"));
        let mut queues: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for key in self.raw::<Vec<String>>(&["KEYS", &format!("dag:{name}:ready*")]) {
            for id in self.queue(&key) {
                queues.entry(id).or_default().push(key.clone());
            }
        }
        let delayed = format!("dag:{name}:delayed");
        for id in self.queue(&delayed) {
            queues.entry(id).or_default().push(delayed.clone());
        }
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for id in nodes.keys() {
            let record = self.hash(&format!("task:{id}"));
            let state: State = record["status"].parse().unwrap();
            assert_eq!(record["goal"], name, "{id}");
            *counts.entry(format!("{state}:{}", record["role"])).or_default() += 1;
            let deps: Vec<String> =
                deps.get(id).map_or_else(Vec::new, |list| serde_json::from_str(list).unwrap());
            let open = deps
                .iter()
                .filter(|dep| {
                    self.field(&format!("task:{dep}"), "status").as_deref() != Some("done")
                })
                .count();
            let place = queues.remove(id).unwrap_or_default();
            match state {
                State::Blocked => assert!(open > 0, "{id} is blocked and waits for nothing"),
                State::Ready => assert_eq!(open, 0, "{id} is ready and waits for something"),
                State::Running => {
                    running.insert(id.clone(), record.clone());
                }
                State::Done | State::Failed => {}
            }
            if state != State::Done {
                assert_eq!(record["waiting"], open.to_string(), "{id} {state} waits for {deps:?}");
            }
            if state == State::Ready {
                let role = &record["role"];
                let own = match role.as_str() {
                    "" => format!("dag:{name}:ready"),
                    role => format!("dag:{name}:ready:{role}"),
                };
                assert!(place == [own] || place == [delayed.clone()], "{id} is in {place:?}");
            } else {
                assert!(place.is_empty(), "{id} is {state} and queued in {place:?}");
            }
        }
        assert!(queues.is_empty(), "queued, and not in the plan: {queues:?}");
        let kept: BTreeMap<String, u64> = self
            .hash(&format!("dag:{name}:counts"))
            .into_iter()
            .map(|(state, count)| (state, count.parse().unwrap()))
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(kept, counts, "the counts of {name}");
    }
}

pub(crate) async fn take_lead(store: &Store, holder: &str) -> Epoch {
    match store.lead(&candidate(holder), &Controller::ALL, &[]).await.unwrap() {
        Answer::Held(epoch) => epoch,
        Answer::Standby(leader) => panic!("{leader:?} leads"),
    }
}
