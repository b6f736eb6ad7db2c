//! One Redis, a store whose clock a test may set, and short ways to say things.

use audit::Report;
use model::lease::Epoch;
use model::{AgentName, Dag, GoalId, Role, TaskId, TaskSpec};
use redis::FromRedisValue;
use store::agent::{Incarnation, Registration};
use store::lead::{Answer, Candidate, Controller};
use store::task::{Claim, Grant, Holder, Settled};
use store::{Lead, Options, Store};
use testkit::RedisServer;

pub(crate) const TTL_MS: u64 = 600_000;

pub(crate) fn goal() -> GoalId {
    GoalId::new("g").unwrap()
}

pub(crate) fn id(text: &str) -> TaskId {
    TaskId::new(text).unwrap()
}

/// A plan in which each task waits for those named beside it, and may fail twice.
pub(crate) fn plan(tasks: &[(&str, &[&str])]) -> Dag {
    let specs = tasks.iter().map(|(name, _)| {
        let mut spec = TaskSpec::new(id(name), *name);
        spec.max_attempts = Some(2);
        spec
    });
    let edges: Vec<(TaskId, TaskId)> = tasks
        .iter()
        .flat_map(|(name, after)| after.iter().map(|dep| (id(name), id(dep))))
        .collect();
    Dag::new(specs.collect(), &edges).unwrap()
}

#[derive(Debug, Clone)]
pub(crate) struct Worker {
    pub(crate) name: AgentName,
    pub(crate) incarnation: Incarnation,
}

impl Worker {
    pub(crate) fn holding<'a>(&'a self, grant: &'a Grant) -> Holder<'a> {
        let (agent, incarnation) = (&self.name, self.incarnation);
        Holder { agent, incarnation, task: &grant.task, epoch: grant.epoch }
    }

    pub(crate) async fn claim(&self, store: &Store) -> Option<Grant> {
        match store.claim(&self.name, self.incarnation, TTL_MS, None).await.unwrap() {
            Claim::Granted(grant) => Some(*grant),
            Claim::Empty | Claim::Held { .. } | Claim::Taken | Claim::Fenced => None,
        }
    }

    pub(crate) async fn complete(&self, store: &Store, grant: &Grant) -> Settled {
        store.complete(self.holding(grant), "[]", "", None).await.unwrap().0
    }
}

pub(crate) struct World {
    pub(crate) server: RedisServer,
    pub(crate) store: Store,
    pub(crate) epoch: Epoch,
    pids: u32,
}

impl World {
    pub(crate) async fn new() -> Self {
        let server = RedisServer::start();
        let url: store::RedisUrl = server.url().parse().unwrap();
        let store = Store::new(&Options::from(url)).await.unwrap();
        let mut world = Self { server, store, epoch: Epoch(0), pids: 100 };
        world.take_lead().await;
        world
    }

    pub(crate) async fn take_lead(&mut self) {
        self.pids += 1;
        let holder = format!("holder-{}", self.pids);
        let candidate = Candidate { holder, pid: 1, start_time: 7, host: "box".into() };
        self.raw::<()>(&["DEL", "orchestrator:leader"]);
        match self.store.lead(&candidate, &Controller::ALL, &[]).await.unwrap() {
            Answer::Held(epoch) => self.epoch = epoch,
            Answer::Standby(leader) => panic!("{leader:?} leads"),
        }
    }

    pub(crate) fn lead(&self) -> Lead {
        Lead::new(Controller::Dag, self.epoch)
    }

    pub(crate) async fn accept(&self, dag: Dag) {
        self.store.accept(&self.lead(), &goal(), dag, "hash", "a title").await.unwrap();
    }

    /// Registers a process of its own for each call.
    pub(crate) async fn join(&mut self, name: &str) -> Worker {
        self.pids += 1;
        let name = AgentName::new(name).unwrap();
        let registration = Registration {
            agent: &name,
            pid: self.pids,
            host: "box",
            start_time: 7,
            role: &Role::new("any").unwrap(),
            goal: &goal(),
            spec_hash: "",
            provider: "",
        };
        let incarnation = self.store.register(&registration, TTL_MS).await.unwrap();
        Worker { name, incarnation }
    }

    pub(crate) async fn audit(&self) -> Report {
        audit::audit(&self.store, None).await.unwrap()
    }

    pub(crate) async fn assert_clean(&self) -> Report {
        let report = self.audit().await;
        assert!(report.is_clean(), "{report:#?}");
        report
    }

    /// Any command on a connection apart.
    pub(crate) fn raw<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut self.server.connection()).unwrap_or_else(|e| panic!("{words:?}: {e}"))
    }

    /// All that Redis holds, to be put back with [`World::restore`].
    pub(crate) fn dump(&self) -> Vec<(String, Vec<u8>)> {
        let keys: Vec<String> = self.raw(&["KEYS", "*"]);
        keys.into_iter().map(|key| (key.clone(), self.raw(&["DUMP", &key]))).collect()
    }

    pub(crate) fn restore(&self, dump: &[(String, Vec<u8>)]) {
        self.raw::<()>(&["FLUSHALL"]);
        for (key, value) in dump {
            let mut command = redis::cmd("RESTORE");
            command.arg(key).arg(0).arg(value);
            command.query::<()>(&mut self.server.connection()).unwrap();
        }
    }
}
