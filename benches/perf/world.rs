//! One Redis, one plan in it, and agents within this process.

use std::ffi::OsString;
use std::time::Duration;

use model::lease::Epoch;
use model::{Dag, GoalId, TaskId, TaskSpec};
use store::event::{Event, Position};
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
    let (specs, edges) = parts(tasks, after);
    Dag::new(specs, &edges).unwrap()
}

/// What [`plan`] is made of.
pub(crate) fn parts(
    tasks: usize,
    after: impl Fn(usize) -> Vec<usize>,
) -> (Vec<TaskSpec>, Vec<(TaskId, TaskId)>) {
    let id = |n: usize| TaskId::new(format!("t{n}")).unwrap();
    let specs = (0..tasks).map(|n| milestone(id(n).as_str())).collect();
    let edges =
        (0..tasks).flat_map(|n| after(n).into_iter().map(move |dep| (id(n), id(dep)))).collect();
    (specs, edges)
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(RedisServer::start()).await
    }

    /// On a Redis that is ours and empty.
    pub(crate) async fn on(server: RedisServer) -> Self {
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

    /// More agents that wait for tasks, each with connections of its own.
    pub(crate) async fn join(&mut self, count: usize) {
        self.join_goals(&[GOAL.to_owned()], count).await;
    }

    /// The same for several goals, `count` for each.
    pub(crate) async fn join_goals(&mut self, goals: &[String], count: usize) {
        let wanted = self.agents.len() + goals.len() * count;
        goals.iter().for_each(|goal| self.set_to_work(goal, count));
        let mut connection = self.server.connection();
        loop {
            let mut waiting = redis::pipe();
            for goal in goals {
                waiting.cmd("SCARD").arg(format!("dag:{goal}:idle"));
            }
            let waiting: Vec<usize> = waiting.query(&mut connection).unwrap();
            if waiting.into_iter().sum::<usize>() == wanted {
                return;
            }
            if let Some(ended) = self.agents.try_join_next() {
                panic!("an agent ended: {ended:?}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// More agents, of any goal, which take what there is to be done as soon as they can.
    pub(crate) fn set_to_work(&mut self, goal: &str, count: usize) {
        for _ in 0..count {
            let args = [
                "--role".to_owned(),
                "agent".to_owned(),
                "--agent-name".to_owned(),
                format!("a{}_agent", self.agents.len()),
                "--agent-role".to_owned(),
                "worker".to_owned(),
                "--goal-id".to_owned(),
                goal.to_owned(),
                "--llm-provider".to_owned(),
                "offline".to_owned(),
                "--redis-url".to_owned(),
                self.server.url(),
                "--project".to_owned(),
                self.project.path().display().to_string(),
            ];
            self.agents.spawn_local(orch::agent(args.into_iter().map(OsString::from).collect()));
        }
    }

    /// Ends the agents as a crash would. The next ones have the same names.
    pub(crate) async fn stop(&mut self) {
        self.agents.shutdown().await;
    }

    /// Ends the agents. What is left is Redis.
    pub(crate) async fn end(mut self) -> RedisServer {
        self.stop().await;
        self.server
    }

    pub(crate) async fn accept(&self, dag: Dag) {
        self.accept_for(GOAL, dag).await;
    }

    pub(crate) async fn accept_for(&self, goal: &str, dag: Dag) {
        let goal = GoalId::new(goal).unwrap();
        let accepted = self.store.accept(&self.lead, &goal, dag, "hash", "title").await;
        accepted.unwrap().unwrap();
    }

    /// Waits until at least so many tasks of no role are done; how many are then.
    pub(crate) async fn until_done(&self, tasks: usize) -> usize {
        self.until_done_of(GOAL, tasks).await
    }

    /// The same, of another goal.
    pub(crate) async fn until_done_of(&self, goal: &str, tasks: usize) -> usize {
        let mut connection = self.server.connection();
        let counts = format!("dag:{goal}:counts");
        loop {
            let done: Option<usize> =
                redis::cmd("HGET").arg(&counts).arg("done:").query(&mut connection).unwrap();
            match done.unwrap_or(0) {
                done if done >= tasks => return done,
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// [`drained`] of its goal.
    pub(crate) async fn drained(&self, tasks: usize) -> Duration {
        drained(&self.store, &self.goal(), &Position("0".to_owned()), tasks).await
    }

    /// Those of the last so many tasks, oldest first.
    pub(crate) async fn events(&self, tasks: usize) -> Vec<Event> {
        self.store.last_events(3 * tasks + 1_000).await.unwrap()
    }
}

/// Waits until so many tasks are done; from the first grant after `before` to the last
/// completion.
pub(crate) async fn drained(
    store: &Store,
    goal: &GoalId,
    before: &Position,
    tasks: usize,
) -> Duration {
    while store.figures(goal).await.unwrap().counts.done != tasks as u64 {
        tokio::time::sleep(LOOK).await;
    }
    let mut events = store.last_events(3 * tasks + 1_000).await.unwrap();
    events.retain(|event| event.place() > before.place());
    let at = |kind: &str, pick: fn(u64, u64) -> u64| {
        let all = events.iter().filter(|event| event.kind == kind).map(Event::millis);
        all.reduce(pick).unwrap()
    };
    let (first, last) = (at("task-claim", u64::min), at("task-complete", u64::max));
    Duration::from_millis(last - first)
}

/// The lead of all controllers.
pub(crate) async fn lead(store: &Store) -> Epoch {
    let us = Candidate { holder: "bench".into(), pid: 1, start_time: 1, host: "here".into() };
    match store.lead(&us, &Controller::ALL, &[]).await.unwrap() {
        Answer::Held(epoch) => epoch,
        Answer::Standby(leader) => panic!("{leader:?} leads a Redis of our own"),
    }
}
