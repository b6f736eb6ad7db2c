//! A world of one's own: a Redis, a fleet, and a supervisor that starts processes
//! directly. The test registers them, as agents would do themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent_controller::plan::Limits;
use agent_controller::{Kernel, Parts, Settings, arguments, attempt, controller};
use model::agent::{LogLevel, Phase};
use model::task::State;
use model::{AgentName, AgentSpec, Dag, Declared, GoalId, Role, TaskId, TaskSpec};
use process::{Identity, Signal};
use reconcile::{CancellationToken, Policy, Stats, Waker};
use store::agent::{Agent, Incarnation, Registration};
use store::lead::{Answer, Candidate, Controller};
use store::task::{Claim, Grant};
use store::{Lead, Options, Store};
use supervisor::{Error, SpawnRequest, Supervisor};
use testkit::{DEADLINE, RedisServer, wait_until, wait_until_blocking};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

pub(crate) const HOST: &str = "here";
/// So long that only tests of silence ever see it end, or a resync come by itself.
pub(crate) const LONG: Duration = Duration::from_secs(600);
/// How long a registration's heartbeat key lives, which nothing here reads.
pub(crate) const TTL_MS: u64 = 600_000;

/// Obeys its standard input and ends with it, so that no test leaves it behind.
/// Signals are written to `$LOG`; a file of the pid's says that it is ready for them.
const OBEY: &str = r#"trap 'echo usr1 >> "$LOG"; s=1' USR1
: > "$LOG.$$"
while :; do s=; if read -r l; then eval "$l"; elif [ -z "$s" ]; then exit 0; fi; done"#;
/// Ends when told.
pub(crate) const POLITE: &str = r#"trap 'echo term >> "$LOG"; exit 0' TERM"#;
/// Ends only by SIGKILL.
pub(crate) const STUBBORN: &str = r#"trap 'echo term >> "$LOG"; s=1' TERM"#;
/// Shows its arguments in a child too, like a program between fork and exec.
pub(crate) const FORKING: &str = "exec 3<&0; (read -r l <&3) &";
/// Ends by itself.
pub(crate) const SHORT_LIVED: &str = r#": > "$LOG.$$"; sleep 0.1; exit 1"#;

/// What a test tells the supervisor, and learns from it.
#[derive(Default)]
struct Shared {
    /// How agents behave that do not just obey.
    scripts: BTreeMap<String, &'static str>,
    /// Who cannot be started, and why.
    refused: BTreeMap<String, fn() -> Error>,
    /// Who is started without the controller being told.
    timing_out: BTreeSet<String>,
    spawns: Vec<(String, Identity, Instant)>,
    /// Each process ends with its own.
    inputs: BTreeMap<Identity, ChildStdin>,
}

/// Starts processes directly.
#[derive(Clone)]
pub(crate) struct Direct {
    fleet: String,
    folder: PathBuf,
    shared: Arc<Mutex<Shared>>,
}

impl Direct {
    fn request(&self, fleet: &str, name: &str) -> SpawnRequest {
        let script = self.shared.lock().unwrap().scripts.get(name).copied().unwrap_or_default();
        let script = format!("{script}\n{OBEY}");
        let args = ["-c", &script, "agent", arguments::FLEET, fleet, arguments::AGENT_NAME, name];
        let args = args.map(str::to_owned).to_vec();
        SpawnRequest { name: name.to_owned(), program: "/bin/sh".into(), args }
    }

    fn start(&self, program: &mut Command, log: &str, wait: bool) -> Option<Identity> {
        let log = self.folder.join(log);
        let program = program.env("LOG", &log).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = program.spawn().unwrap();
        let identity = Identity::of(child.id()).unwrap();
        let ready = log.with_extension(child.id().to_string());
        if wait {
            wait_until_blocking("the process is ready", DEADLINE, || match child.try_wait() {
                Ok(None) if !ready.exists() => Err(format!("no {}", ready.display())),
                _ => Ok(()),
            });
        }
        let input = child.stdin.take().unwrap();
        std::thread::spawn(move || child.wait());
        self.shared.lock().unwrap().inputs.insert(identity?, input);
        identity
    }
}

impl Supervisor for Direct {
    async fn spawn(&self, request: &SpawnRequest) -> Result<Identity, Error> {
        let name = request.name.clone();
        if let Some(refusal) = self.shared.lock().unwrap().refused.get(&name) {
            return Err(refusal());
        }
        let process = self.start(Command::new(&request.program).args(&request.args), &name, true);
        let process = process.ok_or_else(|| Error::DiedAtOnce { name: name.clone(), pid: 0 })?;
        let mut shared = self.shared.lock().unwrap();
        shared.spawns.push((name.clone(), process, Instant::now()));
        if shared.timing_out.remove(&name) {
            return Err(Error::TimedOut { action: "start".into(), after: Duration::from_secs(1) });
        }
        Ok(process)
    }
}

/// An agent's process that took its name.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) name: AgentName,
    pub(crate) process: Identity,
    pub(crate) incarnation: Incarnation,
}

/// A controller that runs until this is dropped.
pub(crate) struct Control {
    pub(crate) stats: Stats,
    pub(crate) waker: Waker<AgentName>,
    _run: AbortOnDropHandle<()>,
}

pub(crate) struct World {
    pub(crate) redis: RedisServer,
    pub(crate) store: Store,
    pub(crate) fleet: String,
    pub(crate) direct: Direct,
    declared: watch::Sender<Arc<Declared>>,
    _folder: tempfile::TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        // Without its input each would end by itself, but not one that is stopped.
        let fleet = self.fleet.clone();
        let ours = |args: &[&str]| args.windows(2).any(|two| two == [arguments::FLEET, &fleet]);
        for process in process::find(ours).unwrap_or_default() {
            _ = process::signal(&process.identity, Signal::KILL);
        }
        let marked = format!("{fleet}/");
        _ = process::end_marked(attempt::MARKER, |value| value.starts_with(&marked));
    }
}

async fn store_on(redis: &RedisServer) -> Store {
    let options = Options::from(redis.url().parse::<store::RedisUrl>().unwrap());
    Store::new(&options).await.unwrap()
}

impl World {
    pub(crate) async fn new() -> Self {
        let redis = RedisServer::start();
        let store = store_on(&redis).await;
        let folder = tempfile::tempdir().unwrap();
        // Its pid makes the server's, and so the fleet's, unique.
        let fleet = format!("fleet-{}-{}", redis.pid(), redis.port());
        let direct = Direct {
            fleet: fleet.clone(),
            folder: folder.path().to_owned(),
            shared: Arc::default(),
        };
        let declared = watch::Sender::new(Arc::default());
        let world = Self { redis, store, fleet, direct, declared, _folder: folder };
        let ids = ["task-001", "task-002", "task-003"];
        let tasks = ids.map(|id| TaskSpec::new(TaskId::new(id).unwrap(), "t")).to_vec();
        let lead = world.lead(Controller::Dag, "orch-1").await;
        let dag = Dag::new(tasks, &[]).unwrap();
        world.store.accept(&lead, &goal(), dag, "hash", "a goal").await.unwrap();
        world
    }

    /// A store with a connection of its own.
    pub(crate) async fn other_store(&self) -> Store {
        store_on(&self.redis).await
    }

    /// Makes `holder` the leader, whoever it was before.
    pub(crate) async fn lead(&self, controller: Controller, holder: &str) -> Lead {
        let leaders = self.store.leaders().await.unwrap();
        let dead: Vec<_> = leaders.iter().map(|leader| (leader.controller, leader.pulse)).collect();
        let candidate =
            Candidate { holder: holder.to_owned(), pid: 1, start_time: 1, host: HOST.to_owned() };
        match self.store.lead(&candidate, &[controller], &dead).await.unwrap() {
            Answer::Held(epoch) => Lead::new(controller, epoch),
            Answer::Standby(leader) => panic!("{leader:?} leads"),
        }
    }

    /// A controller for a new term.
    pub(crate) async fn control(&self, settings: Settings) -> Control {
        let lead = self.lead(Controller::Agent, "orch-1").await;
        self.control_under(lead, settings)
    }

    pub(crate) fn control_under(&self, lead: Lead, settings: Settings) -> Control {
        let direct = self.direct.clone();
        let parts = Parts {
            store: self.store.clone(),
            supervisor: self.direct.clone(),
            processes: Kernel,
            declared: self.declared.subscribe(),
            fleet: self.fleet.clone(),
            host: HOST.to_owned(),
            command: Arc::new(move |spec| direct.request(&direct.fleet, spec.name.as_str())),
        };
        let (controller, waker, stats) = controller(parts, lead, settings);
        let run = tokio::spawn(async move {
            controller.run(CancellationToken::new()).await.unwrap();
        });
        Control { stats, waker, _run: AbortOnDropHandle::new(run) }
    }

    /// Declares these and no others, by name and fingerprint.
    pub(crate) fn declare(&self, agents: &[(&str, &str)]) {
        let agents = agents.iter().map(|(name, hash)| (agent(name), spec(name, hash))).collect();
        let declared = Declared { agents, ..Declared::default() };
        self.declared.send_replace(Arc::new(declared));
    }

    pub(crate) fn behave(&self, name: &str, script: &'static str) {
        self.direct.shared.lock().unwrap().scripts.insert(name.to_owned(), script);
    }

    pub(crate) fn refuse(&self, name: &str, error: fn() -> Error) {
        self.direct.shared.lock().unwrap().refused.insert(name.to_owned(), error);
    }

    pub(crate) fn allow(&self, name: &str) {
        self.direct.shared.lock().unwrap().refused.remove(name);
    }

    pub(crate) fn time_out(&self, name: &str) {
        self.direct.shared.lock().unwrap().timing_out.insert(name.to_owned());
    }

    /// The processes that the controller started for `name`, and when.
    pub(crate) fn spawns(&self, name: &str) -> Vec<(Identity, Instant)> {
        let shared = self.direct.shared.lock().unwrap();
        let of_name = shared.spawns.iter().filter(|(n, ..)| n == name);
        of_name.map(|(_, process, at)| (*process, *at)).collect()
    }

    /// Waits for the `nth` process of `name`, counted from 1.
    pub(crate) async fn spawned(&self, name: &str, nth: usize) -> Identity {
        wait_until("a process is started", DEADLINE, async || {
            let spawns = self.spawns(name);
            spawns.get(nth - 1).map(|(process, _)| *process).ok_or(format!("{spawns:?}"))
        })
        .await
    }

    /// Starts a process of `name` in `fleet` without the controller's doing.
    pub(crate) fn start(&self, fleet: &str, name: &str) -> Identity {
        let request = self.direct.request(fleet, name);
        let mut program = Command::new(&request.program);
        self.direct.start(program.args(&request.args), name, true).unwrap()
    }

    /// Starts something for an attempt, in a session of its own.
    pub(crate) fn start_attempt(&self, of: &Running) -> Identity {
        let value = attempt::value(&self.fleet, &of.name, of.incarnation, model::lease::Epoch(1));
        let mut program = Command::new("setsid");
        let program = program.args(["--wait", "sh", "-c", "read -r l"]);
        self.direct.start(program.env(attempt::MARKER, value), "attempt", false).unwrap()
    }

    /// Starts a process that is no agent.
    pub(crate) fn start_bystander(&self) -> Identity {
        let mut program = Command::new("/bin/sh");
        self.direct
            .start(program.args(["-c", &format!("{POLITE}\n{OBEY}")]), "bystander", true)
            .unwrap()
    }

    /// As an agent registers itself.
    pub(crate) async fn register(&self, name: &str, process: Identity, hash: &str) -> Running {
        self.register_at(HOST, name, process, hash).await
    }

    pub(crate) async fn register_at(
        &self,
        host: &str,
        name: &str,
        process: Identity,
        hash: &str,
    ) -> Running {
        let name = agent(name);
        let registration = Registration {
            agent: &name,
            pid: process.pid,
            host,
            start_time: process.start_time,
            role: &Role::new("any").unwrap(),
            goal: &goal(),
            spec_hash: hash,
            provider: "",
        };
        let incarnation = self.store.register(&registration, TTL_MS).await.unwrap();
        Running { name, process, incarnation }
    }

    /// Waits for the `nth` process of `name`, registers it, and waits until it runs.
    pub(crate) async fn run(
        &self,
        control: &Control,
        name: &str,
        hash: &str,
        nth: usize,
    ) -> Running {
        let process = self.spawned(name, nth).await;
        let running = self.register(name, process, hash).await;
        control.waker.wake(running.name.clone());
        self.phase(name, Phase::Running).await;
        running
    }

    pub(crate) async fn claim(&self, of: &Running) -> Grant {
        let claim = self.store.claim(&of.name, of.incarnation, TTL_MS, None).await.unwrap();
        let Claim::Granted(grant) = claim else { panic!("{claim:?}") };
        *grant
    }

    /// Gives signs of life until dropped.
    pub(crate) fn beat(&self, of: &Running) -> AbortOnDropHandle<()> {
        let (store, of) = (self.store.clone(), of.clone());
        AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                _ = store.beat(&of.name, of.incarnation, TTL_MS, None, "").await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }))
    }

    /// Writes to its standard input.
    pub(crate) fn tell(&self, process: &Identity, line: &str) {
        let mut shared = self.direct.shared.lock().unwrap();
        writeln!(shared.inputs.get_mut(process).unwrap(), "{line}").unwrap();
    }

    /// The signals that the processes of `name` got.
    pub(crate) fn signals(&self, name: &str) -> Vec<String> {
        let log = std::fs::read_to_string(self.direct.folder.join(name)).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    pub(crate) async fn agent(&self, name: &str) -> Agent {
        self.store.agent(&agent(name)).await.unwrap()
    }

    pub(crate) async fn phase(&self, name: &str, phase: Phase) {
        wait_until("the agent's phase", DEADLINE, async || {
            let agent = self.agent(name).await;
            if agent.status.phase == Some(phase) { Ok(()) } else { Err(format!("{agent:?}")) }
        })
        .await;
    }

    /// All phases that the agent went through.
    pub(crate) async fn phases(&self, name: &str) -> Vec<String> {
        let events = self.store.last_events(1_000).await.unwrap();
        let of_name = events.iter().filter(|e| e.kind == "agent-phase" && e.field("agent") == name);
        of_name.map(|e| e.field("phase").to_owned()).filter(|phase| !phase.is_empty()).collect()
    }

    pub(crate) async fn state(&self, task: &TaskId) -> State {
        self.store.task(task).await.unwrap().unwrap().status
    }

    pub(crate) async fn wait_for_state(&self, task: &TaskId, state: State) {
        wait_until("the task's state", DEADLINE, async || {
            let now = self.state(task).await;
            if now == state { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await;
    }

    /// Sends commands that the store has no use for; the whole reply.
    pub(crate) fn redis_says(&self, command: &str) -> String {
        let mut redis = TcpStream::connect(("127.0.0.1", self.redis.port())).unwrap();
        redis.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).unwrap();
        let mut reply = String::new();
        redis.read_to_string(&mut reply).unwrap();
        reply
    }
}

impl Control {
    /// Waits until everything was looked at `times` more, and nothing is left to do.
    pub(crate) async fn looked(&self, times: u64) {
        for _ in 0..times {
            let target = self.stats.snapshot().resyncs + 1;
            // One that is under way may have begun before what the caller did.
            for target in [target, target + 1] {
                self.waker.resync();
                wait_until("the controller has looked", DEADLINE, async || {
                    let now = self.stats.snapshot();
                    let idle = now.queued + now.in_flight == 0;
                    if now.resyncs >= target && idle { Ok(()) } else { Err(format!("{now:?}")) }
                })
                .await;
            }
        }
    }
}

pub(crate) async fn dead(process: &Identity) {
    wait_until("a process ends", DEADLINE, async || {
        if process.is_alive() { Err(process.to_string()) } else { Ok(()) }
    })
    .await;
}

pub(crate) fn signal(process: &Identity, signal: Signal) {
    assert!(process::signal(process, signal).unwrap(), "{process} is gone");
}

pub(crate) fn kill9(process: &Identity) {
    signal(process, Signal::KILL);
}

pub(crate) fn goal() -> GoalId {
    GoalId::new("goal-001").unwrap()
}

pub(crate) fn agent(name: &str) -> AgentName {
    AgentName::new(name).unwrap()
}

fn spec(name: &str, hash: &str) -> AgentSpec {
    AgentSpec {
        name: agent(name),
        goal: goal(),
        role: Role::new("any").unwrap(),
        heartbeat: "/nowhere/heartbeat.md".into(),
        instructions: "/nowhere/instructions.md".into(),
        log_level: LogLevel::Info,
        cadence: None,
        provider: None,
        model: None,
        tools: Vec::new(),
        permission_mode: None,
        environment: Vec::new(),
        spec_hash: hash.to_owned(),
    }
}

/// Nothing happens by the clock but the delays between starts.
pub(crate) fn settings() -> Settings {
    let ms = Duration::from_millis;
    let respawn = Policy { at_once: true, first: ms(200), max: ms(400), reset_after: LONG };
    let backoff = Policy { at_once: false, first: ms(20), max: ms(100), reset_after: LONG };
    let kit = reconcile::Settings { resync: LONG, backoff, ..reconcile::Settings::default() };
    Settings { limits: Limits { ttl: LONG, register: LONG, grace: LONG }, respawn, kit }
}
