//! A Redis, what is declared, a controller over both, and agents that work.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use dag_controller::{Settings, controller};
use model::goal::{PinnedTask, Status};
use model::task::TaskSpec;
use model::{AgentName, AgentSpec, Declared, GoalId, GoalSpec, Role, TaskId};
use reconcile::{CancellationToken, Policy, Stats, Waker};
use store::agent::{Incarnation, Registration};
use store::goal::Goal;
use store::lead::{Answer, Candidate, Controller};
use store::task::{Claim, Grant, Holder, Settled};
use store::{Lead, Options, Store};
use testkit::{DEADLINE, RedisServer, wait_until};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::scripted::Scripted;

pub(crate) const TTL_MS: u64 = 600_000;

pub(crate) fn goal_id(text: &str) -> GoalId {
    GoalId::new(text).unwrap()
}

pub(crate) fn task_id(text: &str) -> TaskId {
    TaskId::new(text).unwrap()
}

/// A goal that pins `tasks`: each `id`, `id@role` or `id: what it waits for`.
pub(crate) fn pinned(id: &str, text: &str, tasks: &[&str]) -> GoalSpec {
    let tasks = tasks
        .iter()
        .map(|line| {
            let (name, after) = line.split_once(':').unwrap_or((line, ""));
            let (name, role) = name.split_once('@').map_or((name, None), |(n, r)| (n, Some(r)));
            let mut spec = TaskSpec::new(task_id(name), format!("Title of {name}"));
            spec.role = role.map(|role| Role::new(role).unwrap());
            spec.max_attempts = Some(2);
            PinnedTask { spec, after: after.split_whitespace().map(task_id).collect() }
        })
        .collect();
    finish(GoalSpec { tasks: Some(tasks), ..bare(id, text) })
}

/// A goal without tasks of its own.
pub(crate) fn prose(id: &str, text: &str) -> GoalSpec {
    finish(bare(id, text))
}

fn bare(id: &str, text: &str) -> GoalSpec {
    GoalSpec { title: text.to_owned(), text: text.to_owned(), ..GoalSpec::new(goal_id(id)) }
}

fn finish(spec: GoalSpec) -> GoalSpec {
    let mut hasher = DefaultHasher::new();
    format!("{spec:?}").hash(&mut hasher);
    GoalSpec { spec_hash: format!("{:016x}", hasher.finish()), ..spec }
}

/// The same goal, reviewed.
pub(crate) fn reviewed(spec: GoalSpec) -> GoalSpec {
    finish(GoalSpec { review: true, ..spec })
}

fn agent_spec(name: &str, goal: &str) -> AgentSpec {
    let name = AgentName::new(name).unwrap();
    AgentSpec {
        goal: goal_id(goal),
        role: name.default_role(),
        heartbeat: "/project/heartbeat.md".into(),
        instructions: "/project/instructions.md".into(),
        log_level: model::agent::LogLevel::Info,
        cadence: None,
        provider: None,
        model: None,
        tools: Vec::new(),
        permission_mode: None,
        environment: Vec::new(),
        spec_hash: "a".to_owned(),
        name,
    }
}

pub(crate) fn settings() -> Settings {
    let short = Policy {
        first: Duration::from_millis(20),
        max: Duration::from_millis(200),
        ..Policy::default()
    };
    let defaults = Settings::default();
    Settings {
        kit: reconcile::Settings {
            resync: Duration::from_millis(30),
            backoff: short,
            ..defaults.kit
        },
        planning_backoff: short,
        drift_check: Duration::from_millis(50),
        ..defaults
    }
}

/// A controller at work. Dropped, it is gone in the middle of whatever it did.
pub(crate) struct Running {
    pub(crate) waker: Waker<GoalId>,
    pub(crate) stats: Stats,
    _task: AbortOnDropHandle<()>,
}

pub(crate) struct Bench {
    pub(crate) server: RedisServer,
    pub(crate) store: Store,
    pub(crate) declared: watch::Sender<Arc<Declared>>,
    pub(crate) planner: Scripted,
    pub(crate) lead: Lead,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(RedisServer::start()).await
    }

    pub(crate) async fn with(server: RedisServer) -> Self {
        let url: store::RedisUrl = server.url().parse().unwrap();
        let store = Store::new(&Options::from(url)).await.unwrap();
        let lead = lead(&store, Controller::Dag, "first").await;
        let declared = watch::Sender::new(Arc::default());
        Self { server, store, declared, planner: Scripted::default(), lead }
    }

    /// A controller that leads as this bench does.
    pub(crate) fn run(&self) -> Running {
        self.run_with(settings(), self.lead)
    }

    pub(crate) fn run_with(&self, settings: Settings, lead: Lead) -> Running {
        let (store, planner) = (self.store.clone(), self.planner.clone());
        let (controller, waker, stats) =
            controller(store, planner, self.declared.subscribe(), lead, settings);
        let run = async move { controller.run(CancellationToken::new()).await.unwrap() };
        Running { waker, stats, _task: AbortOnDropHandle::new(tokio::spawn(run)) }
    }

    /// Declares `goal` as it is now; the first time with an agent for it.
    pub(crate) fn declare(&self, goal: GoalSpec) {
        self.change(|declared| {
            if !declared.goals.contains_key(&goal.id) {
                let agent = agent_spec(&format!("{}_agent", goal.id), goal.id.as_str());
                declared.agents.insert(agent.name.clone(), agent);
            }
            declared.goals.insert(goal.id.clone(), goal);
        });
    }

    pub(crate) fn declare_agent(&self, name: &str, goal: &str) {
        let agent = agent_spec(name, goal);
        self.change(|declared| {
            declared.agents.insert(agent.name.clone(), agent);
        });
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Declared)) {
        self.declared.send_modify(|declared| change(Arc::make_mut(declared)));
    }

    pub(crate) async fn goal(&self, id: &str) -> Goal {
        self.store.goal(&goal_id(id)).await.unwrap().expect("a goal")
    }

    /// Waits until the goal is as `right` says.
    #[track_caller]
    pub(crate) fn until(
        &self,
        id: &str,
        right: impl Fn(&Goal) -> bool,
    ) -> impl Future<Output = Goal> {
        let (store, id) = (self.store.clone(), goal_id(id));
        let right = Rc::new(right);
        wait_until("the goal is so", DEADLINE, move || {
            let (store, id, right) = (store.clone(), id.clone(), Rc::clone(&right));
            async move {
                match store.goal(&id).await.unwrap() {
                    Some(goal) if right(&goal) => Ok(goal),
                    other => Err(format!("{other:?}")),
                }
            }
        })
    }

    #[track_caller]
    pub(crate) fn until_status(&self, id: &str, status: Status) -> impl Future<Output = Goal> {
        self.until(id, move |goal| goal.status == status)
    }

    /// Waits for `count` more passes to have ended.
    #[track_caller]
    pub(crate) fn passes(&self, running: &Running, count: u64) -> impl Future<Output = ()> {
        let stats = running.stats.clone();
        let end = stats.snapshot().passes + count;
        wait_until("passes", DEADLINE, move || {
            let snapshot = stats.snapshot();
            let done = snapshot.passes >= end;
            async move { if done { Ok(()) } else { Err(format!("{snapshot:?}")) } }
        })
    }

    /// How many events of `kind` there were.
    pub(crate) async fn events(&self, kind: &str) -> usize {
        let events = self.store.last_events(1_000).await.unwrap();
        events.iter().filter(|event| event.kind == kind).count()
    }

    /// What a person does by hand.
    pub(crate) fn redis_cli(&self, words: &[&str]) -> String {
        let port = self.server.port().to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(words).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Writes `REPARSE`, as the heartbeat controller does.
    pub(crate) async fn reparse(&self, goal: &str) {
        let lead = lead(&self.store, Controller::Heartbeat, "heartbeat").await;
        let agent = AgentName::new("someone").unwrap();
        let version = self.store.consumed(&agent).await.unwrap().version;
        let step = store::directive::Step {
            agent: &agent,
            goal: &goal_id(goal),
            path: std::path::Path::new("/project/heartbeat.md"),
            version: &version,
            seen: store::directive::Seen::Append("REPARSE\n"),
            line: Some(("REPARSE", &store::directive::Action::Reparse)),
        };
        let outcome = self.store.apply(&lead, &step).await.unwrap();
        assert!(matches!(outcome, store::directive::Outcome::Applied(_)), "{outcome:?}");
    }

    /// An agent of `goal`; it takes tasks of its own role and of none.
    pub(crate) async fn worker(&self, name: &str, goal: &str) -> Worker {
        let name = AgentName::new(name).unwrap();
        let (role, goal) = (name.default_role(), goal_id(goal));
        let registration = Registration {
            agent: &name,
            pid: 1,
            host: "here",
            start_time: 1,
            role: &role,
            goal: &goal,
            spec_hash: "a",
            provider: "",
        };
        let incarnation = self.store.register(&registration, TTL_MS).await.unwrap();
        Worker { store: self.store.clone(), name, incarnation }
    }
}

/// The lead of `controller` for `holder`, whoever had it.
pub(crate) async fn lead(store: &Store, controller: Controller, holder: &str) -> Lead {
    let candidate = Candidate { holder: holder.into(), pid: 1, start_time: 1, host: "here".into() };
    let leaders = store.leaders().await.unwrap();
    let dead: Vec<_> = leaders.iter().map(|leader| (leader.controller, leader.pulse)).collect();
    match store.lead(&candidate, &[controller], &dead).await.unwrap() {
        Answer::Held(epoch) => Lead::new(controller, epoch),
        Answer::Standby(leader) => panic!("{leader:?} leads"),
    }
}

pub(crate) struct Worker {
    pub(crate) store: Store,
    pub(crate) name: AgentName,
    incarnation: Incarnation,
}

impl Worker {
    pub(crate) async fn claim(&self) -> Claim {
        self.store.claim(&self.name, self.incarnation, TTL_MS, None).await.unwrap()
    }

    #[track_caller]
    pub(crate) fn claim_some(&self) -> impl Future<Output = Grant> {
        wait_until("a task", DEADLINE, || async {
            match self.claim().await {
                Claim::Granted(grant) => Ok(*grant),
                other @ (Claim::Empty | Claim::Held { .. } | Claim::Taken | Claim::Fenced) => {
                    Err(format!("{other:?}"))
                }
            }
        })
    }

    fn holder<'a>(&'a self, grant: &'a Grant) -> Holder<'a> {
        Holder {
            agent: &self.name,
            incarnation: self.incarnation,
            task: &grant.task,
            epoch: grant.epoch,
        }
    }

    pub(crate) async fn complete(&self, grant: &Grant) -> Settled {
        self.store.complete(self.holder(grant), "[]", "", None).await.unwrap().0
    }

    pub(crate) async fn fail(&self, grant: &Grant, error: &str, permanent: bool) -> Settled {
        self.store.fail(self.holder(grant), error, permanent, None).await.unwrap().0
    }

    /// Claims and completes until there is nothing to claim; what it completed.
    pub(crate) async fn work(&self) -> Vec<String> {
        let mut done = Vec::new();
        while let Claim::Granted(grant) = self.claim().await {
            assert_eq!(self.complete(&grant).await, Settled::Done);
            done.push(grant.task.to_string());
        }
        done
    }
}
