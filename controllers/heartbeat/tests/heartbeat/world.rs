//! A project folder, a Redis, and controllers that come and go.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use heartbeat_controller::{Problems, Settings, controller};
use model::agent::LogLevel;
use model::{AgentName, AgentSpec, Dag, Declared, GoalId, Role, TaskId, TaskSpec};
use reconcile::{CancellationToken, Policy, Stats};
use store::agent::{Incarnation, Registration};
use store::directive::Consumed;
use store::lead::{Answer, Candidate, Controller};
use store::{Lead, Options, Store};
use testkit::{DEADLINE, RedisServer, wait_until};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// Of the agents' own records; the controller's TTL is apart from it.
pub(crate) const AGENT_TTL_MS: u64 = 60_000;
/// Long enough that only tests of liveness meet it.
pub(crate) const LONG_TTL: Duration = Duration::from_secs(600);

/// There is no watch of folders here: the resync notices what changed.
pub(crate) const RESYNC: Duration = Duration::from_millis(20);

pub(crate) struct World {
    pub(crate) redis: RedisServer,
    pub(crate) store: Store,
    pub(crate) problems: Problems,
    declared: watch::Sender<Arc<Declared>>,
    folder: tempfile::TempDir,
}

pub(crate) fn agent(name: &str) -> AgentName {
    AgentName::new(name).unwrap()
}

pub(crate) fn task(id: &str) -> TaskId {
    TaskId::new(id).unwrap()
}

pub(crate) fn goal() -> GoalId {
    GoalId::new("goal-001").unwrap()
}

impl World {
    /// Goal `goal-001` with `tasks`, and agents `a` and `b` with `heartbeat/<name>.md`.
    pub(crate) async fn new(tasks: &[&str]) -> Self {
        let redis = RedisServer::start();
        let store = open(&redis.url()).await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("project/heartbeat")).unwrap();
        let (declared, _) = watch::channel(Arc::new(Declared::default()));
        let world = Self { redis, store, problems: Problems::new(), declared, folder };
        world.declare(&[("a", "heartbeat/a.md"), ("b", "heartbeat/b.md")]);
        let tasks = tasks.iter().map(|id| TaskSpec::new(task(id), "t")).collect();
        let lead = world.lead(Controller::Dag, "orch-1").await;
        let dag = Dag::new(tasks, &[]).unwrap();
        world.store.accept(&lead, &goal(), dag, "hash", "a goal").await.unwrap();
        world
    }

    /// The project's folder.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("project")
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    /// Runs a script in the project's folder.
    pub(crate) fn sh(&self, script: &str) {
        let status = Command::new("sh").args(["-ec", script]).current_dir(self.root()).status();
        assert!(status.unwrap().success(), "{script}");
    }

    pub(crate) fn declare(&self, agents: &[(&str, &str)]) {
        let spec = |(name, heartbeat): &(&str, &str)| {
            let name = agent(name);
            let spec = AgentSpec {
                goal: goal(),
                role: Role::new("any").unwrap(),
                heartbeat: self.path(heartbeat),
                instructions: self.path(&format!("instructions/{name}.md")),
                log_level: LogLevel::Info,
                cadence: None,
                provider: None,
                model: None,
                tools: Vec::new(),
                permission_mode: None,
                environment: Vec::new(),
                spec_hash: "hash".to_owned(),
                name: name.clone(),
            };
            (name, spec)
        };
        let agents: BTreeMap<_, _> = agents.iter().map(spec).collect();
        self.declared.send_replace(Arc::new(Declared { agents, ..Declared::default() }));
    }

    /// Makes `holder` the leader, whoever it was before.
    pub(crate) async fn lead(&self, controller: Controller, holder: &str) -> Lead {
        let leaders = self.store.leaders().await.unwrap();
        let dead: Vec<_> = leaders.iter().map(|leader| (leader.controller, leader.pulse)).collect();
        let holder = holder.to_owned();
        let candidate = Candidate { holder, pid: 1, start_time: 1, host: "here".to_owned() };
        match self.store.lead(&candidate, &[controller], &dead).await.unwrap() {
            Answer::Held(epoch) => Lead::new(controller, epoch),
            Answer::Standby(leader) => panic!("{leader:?} leads"),
        }
    }

    /// A controller in a term of its own.
    pub(crate) async fn start(&self, ttl: Duration) -> Running {
        let lead = self.lead(Controller::Heartbeat, "orch-1").await;
        self.start_with(&self.store, lead, ttl, RESYNC)
    }

    pub(crate) fn start_with(
        &self,
        store: &Store,
        lead: Lead,
        ttl: Duration,
        resync: Duration,
    ) -> Running {
        let backoff = Policy {
            first: Duration::from_millis(10),
            max: Duration::from_millis(100),
            ..Policy::default()
        };
        let kit = reconcile::Settings { resync, backoff, ..reconcile::Settings::default() };
        let (controller, _, stats) = controller(
            store.clone(),
            self.root(),
            self.declared.subscribe(),
            self.problems.clone(),
            lead,
            Settings { ttl, kit },
        );
        let run = tokio::spawn(async move {
            controller.run(CancellationToken::new()).await.unwrap();
        });
        Running { stats, _run: AbortOnDropHandle::new(run) }
    }

    pub(crate) async fn register(&self, name: &AgentName, pid: u32) -> Incarnation {
        let registration = Registration {
            agent: name,
            pid,
            host: "here",
            start_time: 1,
            role: &Role::new("any").unwrap(),
            goal: &goal(),
            spec_hash: "hash",
            provider: "",
        };
        self.store.register(&registration, AGENT_TTL_MS).await.unwrap()
    }

    pub(crate) async fn consumed(&self, name: &str) -> Consumed {
        self.store.consumed(&agent(name)).await.unwrap()
    }

    /// Waits until so many lines of `name`'s file were applied and refused.
    pub(crate) async fn wait_for(&self, name: &str, applied: u64, refused: u64) {
        let what = format!("{applied} lines applied and {refused} refused");
        wait_until(&what, 2 * DEADLINE, async || {
            let now = self.consumed(name).await;
            let all = (now.applied, now.refused) == (applied, refused);
            assert!(now.applied <= applied && now.refused <= refused, "too many: {now:?}");
            if all { Ok(()) } else { Err(format!("{} and {}", now.applied, now.refused)) }
        })
        .await;
    }

    /// What was answered to `name`'s lines, oldest first, as `line: answer`.
    pub(crate) async fn answers(&self, name: &str) -> Vec<String> {
        let answers = self.store.answers(&agent(name)).await.unwrap();
        answers.into_iter().map(|a| format!("{} {}: {}", a.outcome, a.line, a.answer)).collect()
    }

    /// Waits until the file holds all of `parts`.
    pub(crate) async fn wait_for_text(&self, path: &str, parts: &[&str]) -> String {
        wait_until(&format!("{path} says {parts:?}"), DEADLINE, async || {
            let text = std::fs::read_to_string(self.path(path)).map_err(|e| e.to_string())?;
            let all = parts.iter().all(|part| text.contains(part));
            if all { Ok(text) } else { Err(text) }
        })
        .await
    }

    /// Waits until the agent's problems hold `part`; with "" until it has none.
    pub(crate) async fn wait_for_problem(&self, name: &str, part: &str) {
        wait_until(&format!("{name} has the problem {part:?}"), DEADLINE, async || {
            let all = self.problems.current();
            let as_wanted = match all.get(&agent(name)) {
                None => part.is_empty(),
                Some(problems) => !part.is_empty() && problems.join("; ").contains(part),
            };
            if as_wanted { Ok(()) } else { Err(format!("{all:?}")) }
        })
        .await;
    }
}

pub(crate) async fn open(url: &str) -> Store {
    let url = url.parse::<store::RedisUrl>().unwrap();
    Store::new(&Options::from(url)).await.unwrap()
}

/// Whether two looks at `path` saw the same file: it was not written in between.
pub(crate) fn identity(path: &Path) -> (u64, std::time::SystemTime, Vec<u8>) {
    let meta = std::fs::metadata(path).unwrap();
    let inode = std::os::unix::fs::MetadataExt::ino(&meta);
    (inode, meta.modified().unwrap(), std::fs::read(path).unwrap())
}

/// A controller that runs until this is dropped, which ends it wherever it is.
pub(crate) struct Running {
    pub(crate) stats: Stats,
    _run: AbortOnDropHandle<()>,
}

impl Running {
    /// Waits until every agent was looked at, by passes that began after this call.
    pub(crate) async fn wait_for_looks(&self, times: u64) {
        // The listing that runs now may have begun before.
        let target = self.stats.snapshot().resyncs + 1 + times;
        wait_until("the controller has looked", DEADLINE, async || {
            let now = self.stats.snapshot();
            let idle = now.queued + now.in_flight == 0;
            if now.resyncs >= target && idle { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await;
    }
}
