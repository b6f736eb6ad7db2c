//! One Redis, one plan in it, and agents within this process.

use std::ffi::OsString;
use std::time::Duration;

use model::lease::Epoch;
use model::{Dag, GoalId, TaskId, TaskSpec};
use store::event::Event;
use store::lead::{Answer, Candidate, Controller};
use store::{Lead, Options, Store};
use testkit::RedisServer;
use tokio::task::JoinSet;

/// The only goal.
pub(crate) const GOAL: &str = "goal-001";

/// How often it is asked whether all is done. The end itself is told by the last event.
const LOOK: Duration = Duration::from_millis(20);

pub(crate) struct World {
    pub(crate) server: RedisServer,
    pub(crate) store: Store,
    project: tempfile::TempDir,
    lead: Lead,
    agents: JoinSet<anyhow::Result<()>>,
}

/// A task without anything to run.
pub(crate) fn milestone(id: &str) -> TaskSpec {
    let mut spec = TaskSpec::new(TaskId::new(id).unwrap(), id);
    spec.run = Some(String::new());
    spec
}

/// Tasks by number, each after those that `after` names.
pub(crate) fn plan(tasks: usize, after: impl Fn(usize) -> Vec<usize>) -> Dag {
    let id = |n: usize| TaskId::new(format!("t{n}")).unwrap();
    let specs = (0..tasks).map(|n| milestone(id(n).as_str())).collect();
    let edges: Vec<(TaskId, TaskId)> =
        (0..tasks).flat_map(|n| after(n).into_iter().map(move |dep| (id(n), id(dep)))).collect();
    Dag::new(specs, &edges).unwrap()
}

impl World {
    pub(crate) async fn new() -> Self {
        let server = RedisServer::start();
        let url: store::RedisUrl = server.url().parse().unwrap();
        let store = Store::new(&Options::from(url)).await.unwrap();
        let epoch = lead(&store).await;
        let project = tempfile::tempdir().unwrap();
        let lead = Lead::new(Controller::Dag, epoch);
        Self { server, store, project, lead, agents: JoinSet::new() }
    }

    pub(crate) fn goal(&self) -> GoalId {
        GoalId::new(GOAL).unwrap()
    }

    /// Agents that wait for tasks, each with connections of its own.
    pub(crate) async fn join(&mut self, count: usize) {
        for n in 0..count {
            let args = [
                "--role".to_owned(),
                "agent".to_owned(),
                "--agent-name".to_owned(),
                format!("a{n}_agent"),
                "--agent-role".to_owned(),
                "worker".to_owned(),
                "--goal-id".to_owned(),
                GOAL.to_owned(),
                "--llm-provider".to_owned(),
                "offline".to_owned(),
                "--redis-url".to_owned(),
                self.server.url(),
                "--project".to_owned(),
                self.project.path().display().to_string(),
            ];
            self.agents.spawn_local(orch::agent(args.into_iter().map(OsString::from).collect()));
        }
        let idle = format!("dag:{GOAL}:idle");
        let mut connection = self.server.connection();
        loop {
            let waiting: usize = redis::cmd("SCARD").arg(&idle).query(&mut connection).unwrap();
            if waiting == count {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends the agents. What is left is Redis.
    pub(crate) async fn end(mut self) -> RedisServer {
        self.agents.shutdown().await;
        self.server
    }

    pub(crate) async fn accept(&self, dag: Dag) {
        let accepted = self.store.accept(&self.lead, &self.goal(), dag, "hash", "title").await;
        accepted.unwrap().unwrap();
    }

    /// Waits until so many tasks are done; from the first grant to the last completion.
    pub(crate) async fn drained(&self, tasks: usize) -> Duration {
        let mut connection = self.server.connection();
        let counts = format!("dag:{GOAL}:counts");
        loop {
            let done: Option<usize> =
                redis::cmd("HGET").arg(&counts).arg("done").query(&mut connection).unwrap();
            if done == Some(tasks) {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        let events = self.store.last_events(3 * tasks + 1_000).await.unwrap();
        let at = |kind: &str, pick: fn(u64, u64) -> u64| {
            let all = events.iter().filter(|event| event.kind == kind).map(Event::millis);
            all.reduce(pick).unwrap()
        };
        let (first, last) = (at("task-claim", u64::min), at("task-complete", u64::max));
        Duration::from_millis(last - first)
    }
}

async fn lead(store: &Store) -> Epoch {
    let us = Candidate { holder: "bench".into(), pid: 1, start_time: 1, host: "here".into() };
    match store.lead(&us, &Controller::ALL, &[]).await.unwrap() {
        Answer::Held(epoch) => epoch,
        Answer::Standby(leader) => panic!("{leader:?} leads a Redis of our own"),
    }
}
