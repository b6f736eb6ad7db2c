//! A project folder, a Redis, and the program's answers.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use model::lease::Epoch;
use model::task::State;
use model::{AgentName, Dag, GoalId, Role, TaskId, TaskSpec};
use store::agent::{Incarnation, Registration};
use store::lead::{Answer, Candidate, Controller};
use store::task::{Claim, Grant, Holder};
use store::{Lead, RedisUrl, Store};
use tempfile::TempDir;
use testkit::{DEADLINE, RedisServer, wait_until_blocking};

const TTL_MS: u64 = 30_000;

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn from(output: &Output) -> Self {
        Self {
            code: output.status.code().expect("an exit code"),
            out: String::from_utf8(output.stdout.clone()).expect("UTF-8"),
            err: String::from_utf8(output.stderr.clone()).expect("UTF-8"),
        }
    }

    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    #[track_caller]
    pub(crate) fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.ok()).expect("JSON")
    }

    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        self.err
    }
}

pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orch"));
    let ours = std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with("ORCH_"));
    for name in ours.chain(["REDIS_URL".to_owned(), "COLUMNS".to_owned()]) {
        command.env_remove(name);
    }
    command.current_dir(folder).stdin(Stdio::null());
    command
}

pub(crate) fn orch(folder: &Path, args: &[&str]) -> Said {
    Said::from(&command(folder).args(args).output().expect("orch"))
}

/// A project folder, a Redis, and a store on it.
pub(crate) struct World {
    pub(crate) redis: RedisServer,
    pub(crate) project: TempDir,
    pub(crate) store: Store,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(RedisServer::start()).await
    }

    pub(crate) async fn on(redis: RedisServer) -> Self {
        let url: RedisUrl = redis.url().parse().unwrap();
        let store = Store::new(&url.into()).await.unwrap();
        Self { project: tempfile::tempdir().unwrap(), redis, store }
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = command(self.project.path());
        command.env("REDIS_URL", self.redis.url());
        command
    }

    pub(crate) fn orch(&self, args: &[&str]) -> Said {
        Said::from(&self.command().args(args).output().expect("orch"))
    }

    pub(crate) async fn lead(&self) -> Lead {
        let candidate =
            Candidate { holder: "test".into(), pid: 4242, start_time: 1, host: "box".into() };
        match self.store.lead(&candidate, &Controller::ALL, &[]).await.unwrap() {
            Answer::Held(epoch) => Lead::new(Controller::Dag, epoch),
            Answer::Standby(leader) => panic!("{leader:?}"),
        }
    }

    /// Makes these tasks the plan of a goal; each with what it waits for.
    pub(crate) async fn plan(&self, goal: &str, tasks: &[(&str, &[&str])]) {
        let lead = self.lead().await;
        let goal = goal_id(goal);
        let specs = tasks.iter().map(|(name, _)| {
            let mut spec = TaskSpec::new(task_id(name), format!("Title of {name}"));
            spec.role = Role::new("research").ok();
            spec.max_attempts = Some(1);
            spec
        });
        let edges: Vec<(TaskId, TaskId)> = tasks
            .iter()
            .flat_map(|(name, after)| after.iter().map(|dep| (task_id(name), task_id(dep))))
            .collect();
        let dag = Dag::new(specs.collect(), &edges).unwrap();
        self.store.note_goal(&lead, &goal, "", &[]).await.unwrap();
        self.store.accept(&lead, &goal, dag, "hash", "A goal").await.unwrap();
        let made = self.store.goal(&goal).await.unwrap().unwrap();
        let reason = "";
        self.store.roll_up(&lead, &goal, made.generation, &made.counts, reason).await.unwrap();
    }

    pub(crate) async fn register(&self, agent: &str, goal: &str) -> Worker<'_> {
        self.register_asking(agent, goal, "").await
    }

    /// An agent that asks a model of this provider.
    pub(crate) async fn register_asking(
        &self,
        agent: &str,
        goal: &str,
        provider: &str,
    ) -> Worker<'_> {
        let (name, role) = (AgentName::new(agent).unwrap(), Role::new("research").unwrap());
        let registration = Registration {
            agent: &name,
            pid: 4300,
            host: "box",
            start_time: 7,
            role: &role,
            goal: &goal_id(goal),
            spec_hash: "",
            provider,
        };
        let incarnation = self.store.register(&registration, TTL_MS).await.unwrap();
        Worker { store: &self.store, name, incarnation }
    }

    /// A command of redis-cli.
    #[track_caller]
    pub(crate) fn redis(&self, words: &[&str]) -> String {
        let port = self.redis.port().to_string();
        let ran = Command::new("redis-cli").args(["-p", &port]).args(words).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        String::from_utf8_lossy(&ran.stdout).into_owned()
    }

    /// Until somebody blocks on the stream of events.
    pub(crate) fn wait_for_reader(&self) {
        wait_until_blocking("a reader of events", DEADLINE, || {
            let info = self.redis(&["INFO", "clients"]);
            if info.contains("blocked_clients:1") { Ok(()) } else { Err(info) }
        });
    }

    pub(crate) async fn state(&self, task: &str) -> State {
        self.store.task(&task_id(task)).await.unwrap().unwrap().status
    }
}

pub(crate) struct Worker<'a> {
    pub(crate) store: &'a Store,
    pub(crate) name: AgentName,
    pub(crate) incarnation: Incarnation,
}

impl Worker<'_> {
    pub(crate) async fn claim(&self) -> Grant {
        let claim = self.store.claim(&self.name, self.incarnation, TTL_MS, None).await.unwrap();
        let Claim::Granted(grant) = claim else { panic!("{claim:?}") };
        *grant
    }

    pub(crate) fn holder<'a>(&'a self, task: &'a TaskId, epoch: Epoch) -> Holder<'a> {
        Holder { agent: &self.name, incarnation: self.incarnation, task, epoch }
    }

    pub(crate) async fn fail(&self, grant: &Grant, error: &str) {
        let holder = self.holder(&grant.task, grant.epoch);
        self.store.fail(holder, error, false, None).await.unwrap();
    }

    pub(crate) async fn complete(&self, grant: &Grant) {
        let holder = self.holder(&grant.task, grant.epoch);
        self.store.complete(holder, r#"["a.txt"]"#, "did it", None).await.unwrap();
    }
}

pub(crate) fn goal_id(text: &str) -> GoalId {
    GoalId::new(text).unwrap()
}

pub(crate) fn task_id(text: &str) -> TaskId {
    TaskId::new(text).unwrap()
}

/// A child that is killed and reaped with the test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) const CHAIN: &[(&str, &[&str])] =
    &[("task-001", &[]), ("task-002", &["task-001"]), ("task-003", &["task-002"])];
