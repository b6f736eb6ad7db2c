//! A whole fleet for one test: a project under systemg with a Redis of its own.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use model::task::State;
use model::{AgentName, GoalId, TaskId};
use process::{Identity, Signal};
use store::Store;
use store::agent::{Agent, Registered};
use store::event::Event;
use store::task::Task;
use testkit::{SysgProject, free_port, sysg_path, wait_until, wait_until_blocking};

/// What does not happen within this does not happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The built program.
pub(crate) const ORCH: &str = env!("CARGO_BIN_EXE_orch");

/// A fleet to be started.
pub(crate) struct Builder {
    instructions: String,
    lease_ttl: &'static str,
    log_level: &'static str,
    orchestrator_args: Vec<String>,
    env: Vec<(String, String)>,
    redis_env: Vec<String>,
    children: u32,
    knows_sysg: bool,
    provider: String,
    redis_port: u16,
    redis_args: Vec<String>,
}

/// A running fleet. All of its processes are killed on drop.
pub(crate) struct Fleet {
    pub(crate) project: SysgProject,
    pub(crate) store: Store,
    pub(crate) redis_port: u16,
    redis_url: String,
}

/// A fleet with this INSTRUCTIONS.md.
pub(crate) fn fleet(instructions: impl Into<String>) -> Builder {
    Builder {
        instructions: instructions.into(),
        lease_ttl: "3",
        log_level: "DEBUG",
        orchestrator_args: Vec::new(),
        env: Vec::new(),
        redis_env: Vec::new(),
        children: 300,
        knows_sysg: true,
        provider: "offline".to_owned(),
        redis_port: free_port(),
        redis_args: Vec::new(),
    }
}

/// The `## Agents` section for these names, all on goal `goal-001`.
pub(crate) fn agents(names: &[&str]) -> String {
    let mut text = String::from("## Agents\n");
    for name in names {
        _ = write!(text, "\n### {name}\n- Goal: goal-001\n- Heartbeat: ./heartbeat/{name}.md\n");
    }
    text
}

/// The `## Goals` section with goal-001 and these task lines.
pub(crate) fn goal(tasks: &str) -> String {
    format!("\n## Goals\n\n### goal-001\nA goal of a test.\n\n#### Tasks\n{tasks}\n")
}

/// A task with a shell block.
pub(crate) fn task(line: &str, block: &str) -> String {
    let block = block.replace('\n', "\n  ");
    format!("- {line}\n  ```sh\n  {block}\n  ```\n")
}

impl Builder {
    /// How long a lease lives, in seconds, as on the command line.
    pub(crate) fn lease_ttl(mut self, seconds: &'static str) -> Self {
        self.lease_ttl = seconds;
        self
    }

    /// How much the orchestrator tells in its log.
    #[allow(dead_code, reason = "what is measured is not how it logs")]
    pub(crate) fn log_level(mut self, level: &'static str) -> Self {
        self.log_level = level;
        self
    }

    /// More arguments for the orchestrator.
    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.orchestrator_args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// A variable for everything that systemg starts.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A variable for Redis alone.
    pub(crate) fn redis_env(mut self, name: &str, value: &str) -> Self {
        self.redis_env.push(format!("{name}={value}"));
        self
    }

    /// How many children systemg lets the orchestrator have.
    pub(crate) fn children(mut self, children: u32) -> Self {
        self.children = children;
        self
    }

    /// Who is asked; nobody by default.
    pub(crate) fn provider(mut self, name: &str) -> Self {
        name.clone_into(&mut self.provider);
        self
    }

    /// The port of the project's Redis, which is a free one by default.
    pub(crate) fn redis_port(mut self, port: u16) -> Self {
        self.redis_port = port;
        self
    }

    /// More arguments for the project's Redis.
    pub(crate) fn redis_args(mut self, args: &[&str]) -> Self {
        self.redis_args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Writes the project and starts it under systemg.
    pub(crate) async fn start(self) -> Fleet {
        let fleet = self.write().await;
        fleet.project.start();
        fleet
    }

    /// As [`Builder::start`], where an argument of ours names another sysg.
    pub(crate) async fn start_without_sysg(mut self) -> Fleet {
        self.knows_sysg = false;
        self.start().await
    }

    /// Writes the project without starting it.
    pub(crate) async fn write(self) -> Fleet {
        let redis_port = self.redis_port;
        let mut project = SysgProject::new(&self.manifest());
        for (name, value) in &self.env {
            project = project.env(name, value);
        }
        project.write("INSTRUCTIONS.md", &self.instructions);
        for folder in ["heartbeat", "instructions", ".orch/redis"] {
            fs::create_dir_all(project.folder().join(folder)).unwrap();
        }
        let redis_url = self.redis_url();
        let store = redis_url.parse::<store::RedisUrl>().unwrap();
        let store = Store::new(&store.into()).await.unwrap();
        Fleet { project, store, redis_port, redis_url }
    }

    /// Where Redis is: as the variable says, where there is one.
    fn redis_url(&self) -> String {
        let variable = self.env.iter().find(|(name, _)| name == "REDIS_URL");
        let usual = || format!("redis://127.0.0.1:{}", self.redis_port);
        variable.map_or_else(usual, |(_, url)| url.clone())
    }

    /// The command line of Redis.
    fn redis(&self) -> Vec<String> {
        let port = self.redis_port;
        let line = format!("redis-server --bind 127.0.0.1 --port {port} --dir .orch/redis");
        let mut words = Vec::new();
        if !self.redis_env.is_empty() {
            words.push("env".to_owned());
            words.extend(self.redis_env.iter().cloned());
        }
        words.extend(line.split(' ').map(str::to_owned));
        words.extend(["--appendonly", "yes", "--save", ""].map(str::to_owned));
        words.extend(self.redis_args.iter().cloned());
        words
    }

    fn manifest(&self) -> String {
        let redis_port = self.redis_port;
        let sysg = sysg_path();
        let mut exec = vec![
            ORCH,
            "run",
            "--role",
            "orchestrator",
            "--instructions",
            "./INSTRUCTIONS.md",
            "--log-level",
            self.log_level,
            "--lease-ttl",
            self.lease_ttl,
            "--grace",
            "3",
            "--llm-provider",
            &self.provider,
        ];
        if self.knows_sysg {
            exec.extend(["--sysg", sysg.to_str().unwrap()]);
        }
        exec.extend(self.orchestrator_args.iter().map(String::as_str));
        let url = self.redis_url();
        if !self.env.iter().any(|(name, _)| name == "REDIS_URL") {
            exec.extend(["--redis-url", &url]);
        }
        let exec = serde_json::to_string(&exec).unwrap();
        let redis = serde_json::to_string(&self.redis()).unwrap();
        let children = self.children;
        format!(
            r#"version: "2"
status:
  snapshot_mode: detailed
  snapshot_interval_secs: 300
services:
  redis:
    exec: {redis}
    restart_policy: always
    backoff: "50ms"
    max_restarts: 1000000
  redis-ready:
    exec: ["sh", "-c", "until redis-cli -p {redis_port} ping; do sleep 0.02; done"]
    restart_policy: never
  orchestrator:
    exec: {exec}
    depends_on:
      - service: redis-ready
        condition: completed
    restart_policy: always
    backoff: "50ms"
    max_restarts: 1000000
    spawn:
      mode: dynamic
      limits:
        children: {children}
        depth: 2
        descendants: {children}
        termination_policy: cascade
"#
        )
    }
}

/// An agent's name.
pub(crate) fn name(text: &str) -> AgentName {
    AgentName::new(text).unwrap()
}

/// The goal of most tests.
pub(crate) fn goal_001() -> GoalId {
    GoalId::new("goal-001").unwrap()
}

/// A task's id.
pub(crate) fn id(text: &str) -> TaskId {
    TaskId::new(text).unwrap()
}

impl Fleet {
    /// A path within the project.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.project.folder().join(name)
    }

    /// The working folder of goal-001.
    pub(crate) fn work(&self, name: &str) -> PathBuf {
        self.path(".orch/work/goal-001").join(name)
    }

    /// Makes this shell script the model of the provider `command`, and adds `more` lines
    /// to `.env`. Before the start.
    pub(crate) fn think_by(&self, script: &str, more: &str) {
        let model = self.project.write("model.sh", script);
        fs::set_permissions(&model, fs::Permissions::from_mode(0o755)).unwrap();
        let text = format!("ORCH_COMMAND_CLI={}\n{more}", model.display());
        self.project.write(".env", &text);
    }

    /// A file's text, '' where there is none.
    pub(crate) fn read(&self, path: impl AsRef<Path>) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    /// Runs a line of shell in the project's folder, as a person would.
    pub(crate) fn sh(&self, line: &str) -> Output {
        let mut command = self.project.command("sh");
        command.arg("-c").arg(line).env("REDIS_PORT", self.redis_port.to_string());
        command.output().unwrap()
    }

    /// What `redis-cli` says.
    pub(crate) fn redis(&self, args: &str) -> String {
        let output = self.sh(&format!("redis-cli -p {} {args}", self.redis_port));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// The process of Redis.
    pub(crate) fn redis_process(&self) -> Identity {
        let info = self.redis("INFO server");
        let pid = info.lines().find_map(|line| line.trim().strip_prefix("process_id:"));
        Identity::of(pid.unwrap().parse().unwrap()).unwrap().unwrap()
    }

    /// Runs `orch` in the project's folder.
    pub(crate) fn orch(&self, args: &[&str]) -> Output {
        let mut command = self.project.command(ORCH);
        command.args(args).env("REDIS_URL", &self.redis_url).output().unwrap()
    }

    /// `orch status --format json`.
    pub(crate) fn status(&self) -> serde_json::Value {
        let output = self.orch(&["status", "--format", "json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    /// The ends of the orchestrator's log and of its agents' last ones, for a message
    /// of a test that fails. Made at each look, hence without a process.
    pub(crate) fn log(&self) -> String {
        let logs = self.project.home().join(".local/share/systemg/logs");
        let mut text = String::new();
        for folder in files(&logs) {
            let is_spawn = folder.file_name().is_some_and(|name| name == "spawn");
            let mut of = files(&folder);
            of.retain(|log| is_spawn || log.ends_with("orchestrator.log"));
            for log in of.iter().take(8) {
                let said = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
                // Each look at a heartbeat in which nothing is new.
                let lines: Vec<&str> =
                    said.lines().filter(|line| !line.contains(": no line\"")).collect();
                let shown = if is_spawn { 8 } else { 40 };
                let last = &lines[lines.len().saturating_sub(shown)..];
                if !last.is_empty() {
                    _ = writeln!(text, "{}:\n{}", log.display(), last.join("\n"));
                }
            }
        }
        text
    }

    /// Waits for what needs many steps: as long as anything happens, since on a loaded
    /// machine each call of a model takes its time.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        look: impl AsyncFn() -> Result<T, String>,
    ) -> T {
        let last = RefCell::new((None, Instant::now()));
        wait_until(what, 5 * DEADLINE, async || {
            let seen = match look().await {
                Ok(found) => return Ok(found),
                Err(seen) => format!("{seen}\n{}", self.log()),
            };
            let event = self.store.end_of_events().await.ok();
            let mut last = last.borrow_mut();
            if event != last.0 {
                *last = (event, Instant::now());
            }
            assert!(last.1.elapsed() < DEADLINE, "nothing happens: {what}; last seen: {seen}");
            Err(seen)
        })
        .await
    }

    /// Waits until the goal has this status.
    pub(crate) async fn until_goal(&self, wanted: model::goal::Status) {
        let goal = goal_001();
        self.until(&format!("goal-001 is {wanted}"), async || match self.store.goal(&goal).await {
            Ok(Some(goal)) if goal.status == wanted => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }

    /// Waits until the task is in this state, and returns it.
    pub(crate) async fn until_task(&self, task: &str, wanted: State) -> Task {
        let task = id(task);
        self.until(&format!("{task} is {wanted}"), async || match self.store.task(&task).await {
            Ok(Some(task)) if task.status == wanted => Ok(task),
            other => Err(format!("{other:?}")),
        })
        .await
    }

    /// Kills `worker_agent` in the middle of `task-001`, which waits for the file `go`; then
    /// all goes on to its end.
    pub(crate) async fn finish_after_a_kill(&self) {
        let before = self.until_registered("worker_agent").await;
        signal(identity(&before), Signal::KILL);
        self.until_replaced("worker_agent", &before).await;
        self.until_task("task-001", State::Running).await;
        self.project.write("go", "");
        self.until_goal(model::goal::Status::Complete).await;
    }

    /// Waits until the agent is registered and its process lives, and returns it.
    pub(crate) async fn until_registered(&self, agent: &str) -> Registered {
        self.until_agent(agent, "is registered and lives", |agent| {
            agent.registered.as_ref().is_some_and(|r| identity(r).is_alive())
        })
        .await
        .registered
        .unwrap()
    }

    /// Waits until the agent is registered as another process than `before`.
    pub(crate) async fn until_replaced(&self, agent: &str, before: &Registered) -> Registered {
        let old = before.incarnation;
        self.until_agent(agent, "is replaced", |agent| {
            agent.registered.as_ref().is_some_and(|r| r.incarnation > old && identity(r).is_alive())
        })
        .await
        .registered
        .unwrap()
    }

    /// Waits until an agent is as wanted.
    pub(crate) async fn until_agent(
        &self,
        agent: &str,
        what: &str,
        is_so: impl Fn(&Agent) -> bool,
    ) -> Agent {
        let agent = name(agent);
        wait_until(&format!("{agent} {what}"), DEADLINE, || async {
            match self.store.agent(&agent).await {
                Ok(agent) if is_so(&agent) => Ok(agent),
                other => Err(format!("{other:?}\n{}", self.log())),
            }
        })
        .await
    }

    /// The processes of this agent that live now.
    pub(crate) fn agent_processes(&self, agent: &str) -> Vec<Identity> {
        self.processes_with(&["--agent-name", agent])
    }

    /// The processes of all agents that live now.
    pub(crate) fn all_agent_processes(&self) -> Vec<Identity> {
        self.processes_with(&["--role", "agent"])
    }

    /// Our processes with these two arguments; not `sysg` that starts one, and not a
    /// child of one between fork and exec, which still shows its parent's arguments.
    fn processes_with(&self, pair: &[&str; 2]) -> Vec<Identity> {
        let mine = self.project.processes();
        let mut found: Vec<Identity> = process::find(|args| {
            args.windows(2).any(|found| found == pair) && !args.contains(&"--")
        })
        .unwrap()
        .into_iter()
        .map(|found| found.identity)
        .filter(|identity| mine.contains(identity))
        .collect();
        let pids: Vec<u32> = found.iter().map(|identity| identity.pid).collect();
        found.retain(|identity| !identity.parent().is_some_and(|parent| pids.contains(&parent)));
        found
    }

    /// The orchestrator processes of this project that live now.
    pub(crate) fn orchestrators(&self) -> Vec<Identity> {
        self.processes_with(&["--role", "orchestrator"])
    }

    /// Kills the only orchestrator and waits until another one leads.
    pub(crate) async fn kill_orchestrator(&self) {
        let before = wait_until("an orchestrator runs", DEADLINE, || async {
            match self.orchestrators()[..] {
                [only] => Ok(only),
                ref other => Err(format!("{other:?}\n{}", self.log())),
            }
        })
        .await;
        let terms = self.events("leader").await.len();
        signal(before, Signal::KILL);
        wait_until("another orchestrator leads", DEADLINE, || async {
            let (led, now) = (self.events("leader").await.len(), self.orchestrators());
            let leads = led > terms && !now.is_empty() && !now.contains(&before);
            if leads { Ok(()) } else { Err(format!("{led} {now:?}\n{}", self.log())) }
        })
        .await;
    }

    /// What these processes are, for a message of a test that fails.
    pub(crate) fn describe(&self, processes: &[Identity]) -> String {
        let line = |process: &Identity| {
            let args = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
            format!("{process} {}", String::from_utf8_lossy(&args).replace('\0', " "))
        };
        processes.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// The project's Redis without systemg and without a fleet, when all has ended.
    pub(crate) async fn redis_alone(&self) -> Child {
        let mut command = self.project.command("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &self.redis_port.to_string()]);
        command.args(["--dir", ".orch/redis", "--appendonly", "yes", "--save", ""]);
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        wait_until("Redis answers", DEADLINE, || async {
            let said = self.redis("PING");
            if said == "PONG" { Ok(()) } else { Err(said) }
        })
        .await;
        child
    }

    /// A copy of what Redis has on disk now; its last write may be there in half.
    #[must_use]
    pub(crate) fn copy_of_redis(&self) -> PathBuf {
        let copy = self.path(".orch/redis-older");
        _ = fs::remove_dir_all(&copy);
        let copied = self.sh("cp -a .orch/redis .orch/redis-older");
        assert!(copied.status.success(), "{copied:?}");
        copy
    }

    /// Kills Redis, which then starts with the data of this folder.
    pub(crate) fn swap_redis(&self, folder: &Path, redis: Identity) {
        let (place, aside) = (self.path(".orch/redis"), self.path(".orch/redis-before"));
        _ = fs::remove_dir_all(&aside);
        // It goes on writing to the folder that it has open, wherever that is moved: so the
        // other one is in its place before systemg can start it again.
        fs::rename(&place, &aside).unwrap();
        fs::rename(folder, &place).unwrap();
        signal(redis, Signal::KILL);
        wait_until_blocking("the killed Redis is gone", DEADLINE, || {
            if redis.is_alive() { Err(redis.to_string()) } else { Ok(()) }
        });
    }

    /// The events of this kind, oldest first.
    pub(crate) async fn events(&self, kind: &str) -> Vec<Event> {
        let mut events = self.store.last_events(100_000).await.unwrap();
        events.retain(|event| event.kind == kind);
        events
    }
}

/// What lies in a folder, the newest first.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    let modified = |path: &PathBuf| fs::metadata(path).and_then(|data| data.modified()).ok();
    found.sort_by_cached_key(|path| std::cmp::Reverse(modified(path)));
    found
}

/// Which process registered.
pub(crate) fn identity(registered: &Registered) -> Identity {
    Identity { pid: registered.pid, start_time: registered.start_time }
}

/// Sends a signal to exactly that process.
pub(crate) fn signal(process: Identity, signal: Signal) {
    assert!(process::signal(&process, signal).unwrap(), "{process} is gone already");
}
