//! One simulated host with its Redis: who runs, whose turn it is, and what follows from
//! each step. Everything that is not decided by the product is decided by the seed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use store::event::Event;
use store::lead::Controller;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::agent::{Agent, Skill, State};
use crate::checks::{Checks, Ledger};
use crate::clock::Clock;
use crate::lane::{Came, Gate, Lane};
use crate::link::{Fault, Link, Sent};
use crate::orchestrator::{HOST, Orchestrator, Pinned, Project};
use crate::people::People;
use crate::processes::{Deed, Table, value};
use crate::upstream::Upstream;

/// Redis as it was, and what was known of it then.
pub(crate) struct Saved {
    pub(crate) content: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) ledger: Ledger,
}

pub(crate) struct World {
    pub(crate) random: fastrand::Rng,
    pub(crate) clock: Clock,
    pub(crate) upstream: Upstream,
    pub(crate) table: Table,
    pub(crate) project: Project,
    pub(crate) people: People,
    pub(crate) planner: Pinned,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) agents: BTreeMap<u32, Rc<Agent>>,
    pub(crate) orchestrators: BTreeMap<u32, Rc<Orchestrator>>,
    /// Processes that are stopped, and until when.
    pub(crate) frozen: BTreeMap<u32, Instant>,
    pub(crate) skill: Rc<RefCell<Skill>>,
    pub(crate) checks: Checks,
    pub(crate) saved: Option<Saved>,
    /// What arrived, and may arrive again.
    pub(crate) sent: Sent,
    /// How many of a hundred wakes of controllers are lost. That only costs time: they look
    /// by themselves, soon.
    lost_wakes: u32,
    /// The same for agents, who look by themselves much later.
    pub(crate) lost_tokens: u32,
    /// When systemg starts an orchestrator again.
    pub(crate) restart_at: Option<Instant>,
    pub(crate) steps: u64,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    pub(crate) trace: Vec<String>,
    links: u64,
    folder: TempDir,
}

impl World {
    pub(crate) fn new(seed: u64, upstream: &Upstream) -> Self {
        // What the product draws lots for.
        fastrand::seed(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        upstream.ask(&["FLUSHALL"]);
        let folder = folder();
        let root = folder.path().join("project");
        std::fs::create_dir(&root).expect("a folder");
        let project = Project { root };
        let people = People::new(&project, &mut random);
        let mut world = Self {
            clock: Clock::new(upstream),
            upstream: upstream.clone(),
            table: Table::default(),
            project,
            people,
            planner: Pinned::default(),
            lanes: Vec::new(),
            agents: BTreeMap::new(),
            orchestrators: BTreeMap::new(),
            frozen: BTreeMap::new(),
            skill: Rc::new(RefCell::new(Skill {
                start: Duration::from_millis(random.choice([0, 20, 500, 3_000]).unwrap_or(0)),
                fails: random.u32(0..40),
                gives_up: random.u32(0..5),
                longest: Duration::from_millis(random.u64(100..6_000)),
            })),
            checks: Checks::new(upstream),
            saved: None,
            sent: Sent::default(),
            lost_wakes: if random.u32(0..5) == 0 { 100 } else { random.u32(0..60) },
            lost_tokens: random.u32(0..60),
            restart_at: Some(Instant::now()),
            steps: 0,
            faults: BTreeMap::new(),
            trace: Vec::new(),
            links: 0,
            folder,
            random,
        };
        world.tell("begins");
        world
    }

    pub(crate) fn tell(&mut self, what: impl AsRef<str>) {
        let at = self.clock.elapsed().as_secs_f64();
        self.trace.push(format!("{at:8.2} {}", what.as_ref()));
    }

    pub(crate) fn fault(&mut self, kind: &'static str, detail: impl AsRef<str>) {
        *self.faults.entry(kind).or_default() += 1;
        self.tell(format!("!! {kind} {}", detail.as_ref()));
    }

    /// Whether one of a hundred chances out of `percent` comes true.
    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.random.u32(0..100) < percent
    }

    pub(crate) fn link(&mut self) -> Link {
        self.links += 1;
        Link::new(&self.upstream, &self.sent, self.folder.path(), self.links)
    }

    /// Starts another orchestrator.
    pub(crate) async fn start_orchestrator(&mut self) {
        let orchestrator = Orchestrator::new(&self.table, &self.project, &self.planner);
        let pid = orchestrator.identity.pid;
        let (first, second) = (self.link(), self.link());
        let elects = Rc::clone(&orchestrator).elect(first.store().await);
        let follows = Rc::clone(&orchestrator).follow();
        let (gate, files) = (&orchestrator.election_gate, &orchestrator.files_gate);
        self.lanes.push(Lane::new(pid, "election", gate, first, elects));
        self.lanes.push(Lane::new(pid, "files", files, second, follows));
        self.tell(format!("orchestrator {} starts", orchestrator.identity));
        self.orchestrators.insert(pid, orchestrator);
        // Each runs to its first gate.
        self.settle_new().await;
    }

    async fn start_agent(&mut self, pid: u32) {
        let Some(process) = self.table.get(pid) else { return };
        let Some(request) = process.request else { return };
        let text = |name| value(&request, name).to_owned();
        let agent = Rc::new(Agent {
            name: request.name.parse().expect("an agent's name"),
            identity: process.identity,
            goal: text("--goal-id").parse().expect("a goal"),
            role: text("--agent-role").parse().expect("a role"),
            spec_hash: text("--spec-hash"),
            state: RefCell::new(State::new()),
            work_gate: Gate::default(),
            beat_gate: Gate::default(),
            skill: Rc::clone(&self.skill),
            random: RefCell::new(self.random.fork()),
            table: self.table.clone(),
            host: HOST.to_owned(),
        });
        let (first, second) = (self.link(), self.link());
        let works = Rc::clone(&agent).work(first.store().await);
        let beats = Rc::clone(&agent).beat(second.store().await);
        self.lanes.push(Lane::new(pid, "work", &agent.work_gate, first, works));
        self.lanes.push(Lane::new(pid, "beat", &agent.beat_gate, second, beats));
        self.tell(format!("{} {} starts", agent.name, agent.identity));
        self.agents.insert(pid, agent);
        self.settle_new().await;
    }

    /// Lets lanes that have just been made run to their first gate.
    async fn settle_new(&mut self) {
        for lane in &mut self.lanes {
            if lane.is_new {
                lane.is_new = false;
                lane.go().await;
            }
        }
    }

    /// The lanes whose turn it may be, by position.
    pub(crate) fn due(&self) -> Vec<usize> {
        let now = Instant::now();
        let due = |lane: &Lane| lane.gate.due().is_some_and(|due| due <= now);
        let awake = |lane: &Lane| !self.frozen.contains_key(&lane.pid);
        let lanes = self.lanes.iter().enumerate();
        lanes.filter(|(_, lane)| due(lane) && awake(lane)).map(|(at, _)| at).collect()
    }

    /// How long nothing happens by itself.
    pub(crate) fn idle(&self) -> Duration {
        let now = Instant::now();
        let lanes = self.lanes.iter().filter(|lane| !self.frozen.contains_key(&lane.pid));
        let gates = lanes.filter_map(|lane| lane.gate.due());
        let others = self.frozen.values().copied().chain(self.restart_at);
        let next = gates.chain(others).min();
        next.map_or(Duration::from_secs(1), |next| next.saturating_duration_since(now))
    }

    /// One lane takes its next step.
    pub(crate) async fn step(&mut self, at: usize) {
        self.steps += 1;
        let lane = &mut self.lanes[at];
        let pid = lane.pid;
        if let Some(agent) = self.agents.get(&pid) {
            agent.state.borrow_mut().said.clear();
        }
        if let Some(orchestrator) = self.orchestrators.get(&pid) {
            orchestrator.said.borrow_mut().clear();
        }
        let came = lane.go().await;
        let happened = lane.link.happened();
        lane.link.disarm();
        let name = lane.name;
        if let Some(fault) = happened {
            self.fault(kind(fault), format!("at {pid} {name}"));
        }
        let said = match (self.agents.get(&pid), self.orchestrators.get(&pid)) {
            (Some(agent), _) => format!("{}: {}", agent.name, agent.state.borrow().said),
            (None, Some(orchestrator)) => orchestrator.said.borrow().clone(),
            (None, None) => String::new(),
        };
        self.tell(format!("{pid} {name} {came:?}: {said}"));
        if self.lanes[at].link.crashed() {
            self.table.end(pid);
        } else if came == Came::Home {
            self.lanes.remove(at);
            // An agent's process is its work.
            self.table.end(pid);
        }
        self.follow().await;
    }

    /// Takes note of what the last step changed.
    pub(crate) async fn follow(&mut self) {
        self.judge_deeds();
        self.bury();
        for pid in self.table.born() {
            self.start_agent(pid).await;
        }
        self.turn_terms().await;
        let listening: Vec<u32> = self
            .agents
            .iter()
            .filter(|(pid, agent)| {
                let cut = self.lanes.iter().any(|lane| lane.pid == **pid && lane.link.is_cut());
                !cut && !self.frozen.contains_key(pid) && agent.state.borrow().incarnation.is_some()
            })
            .map(|(pid, _)| *pid)
            .collect();
        let names: Vec<String> =
            listening.iter().map(|pid| self.agents[pid].name.to_string()).collect();
        let seen = self.checks.look(&names);
        for (pid, token) in listening.iter().zip(seen.tokens) {
            if token && !self.loses(self.lost_tokens, "an agent") {
                self.agents[pid].wake();
            }
        }
        for event in &seen.events {
            self.route(event);
        }
        let agents: Vec<Rc<Agent>> = self.agents.values().cloned().collect();
        for agent in agents {
            let accepted = std::mem::take(&mut agent.state.borrow_mut().accepted);
            for one in accepted {
                self.checks.accepted(agent.name.as_str(), &one);
            }
        }
    }

    /// Before the killed are forgotten.
    fn judge_deeds(&mut self) {
        for deed in self.table.deeds() {
            match deed {
                Deed::Killed(name, process) => self.checks.killed(&name, process),
                Deed::Doubled(name, other) => self
                    .checks
                    .violations
                    .push(format!("{name} was started a second time, beside {other}")),
            }
        }
    }

    fn bury(&mut self) {
        for process in self.table.dead() {
            let pid = process.identity.pid;
            self.lanes.retain(|lane| lane.pid != pid);
            self.frozen.remove(&pid);
            self.orchestrators.remove(&pid);
            self.tell(format!("{} is dead", process.identity));
            match process.request {
                Some(request) => {
                    self.agents.remove(&pid);
                    self.wake(Controller::Agent, &request.name);
                }
                None if self.restart_at.is_none() => {
                    let wait = Duration::from_millis(self.random.u64(10..300) * 10);
                    self.restart_at = Some(Instant::now() + wait);
                }
                None => {}
            }
        }
    }

    /// Begins and ends terms of leadership.
    async fn turn_terms(&mut self) {
        let orchestrators: Vec<Rc<Orchestrator>> = self.orchestrators.values().cloned().collect();
        for orchestrator in orchestrators {
            let pid = orchestrator.identity.pid;
            let of_term =
                |lane: &Lane| lane.pid == pid && !matches!(lane.name, "election" | "files");
            let leads = orchestrator.term.get().filter(|_| orchestrator.known.get());
            let runs = self.lanes.iter().any(of_term);
            let ours = orchestrator.running.get();
            if runs && leads != ours {
                self.lanes.retain(|lane| !of_term(lane));
                orchestrator.end_term();
            }
            if let Some(epoch) = leads.filter(|_| leads != ours) {
                let links = [self.link(), self.link(), self.link(), self.link()];
                let lanes = orchestrator.begin_term(epoch, links).await;
                self.lanes.extend(lanes);
                self.settle_new().await;
            }
            orchestrator.running.set(leads);
        }
    }

    /// Whether a wake is lost.
    fn loses(&mut self, percent: u32, whom: &str) -> bool {
        let lost = self.chance(percent);
        if lost {
            self.fault("wake lost", whom);
        }
        lost
    }

    /// Whether a wake of a controller arrives.
    fn wakes(&mut self, whom: &str) -> bool {
        !self.loses(self.lost_wakes, whom)
    }

    pub(crate) fn wake(&mut self, controller: Controller, key: &str) {
        if !self.wakes(controller.as_str()) {
            return;
        }
        for orchestrator in self.orchestrators.values() {
            orchestrator.wake(controller, key);
        }
    }

    /// Passes on what happened in Redis, as the program does.
    fn route(&mut self, event: &Event) {
        match event.kind.as_str() {
            "agent-register" | "agent-deregister" => {
                self.wake(Controller::Agent, event.field("agent"));
            }
            "task-complete" | "task-fail" | "task-retry" | "task-lose" | "task-release"
            | "task-drop" | "task-reset" | "goal-active" => {
                self.wake(Controller::Dag, event.field("goal"));
            }
            "directive" if self.wakes("dag") => {
                for orchestrator in self.orchestrators.values() {
                    orchestrator.resync(Controller::Dag);
                }
            }
            _ => {}
        }
    }

    /// Somebody saved a control file.
    pub(crate) fn saved_file(&mut self, heartbeats: bool) {
        if !self.wakes("files") {
            return;
        }
        for orchestrator in self.orchestrators.values() {
            if heartbeats {
                orchestrator.resync(Controller::Heartbeat);
            } else {
                orchestrator.files_gate.wake(Instant::now());
            }
        }
    }

    /// Lets time pass, and those go on who only waited for that.
    pub(crate) async fn pass(&mut self, time: Duration) {
        self.clock.pass(time).await;
        let now = Instant::now();
        self.frozen.retain(|_, until| *until > now);
        if self.restart_at.is_some_and(|at| at <= now) {
            self.restart_at = None;
            self.start_orchestrator().await;
        }
        self.go_on().await;
    }

    /// Those in the middle of a step try to go on.
    pub(crate) async fn go_on(&mut self) {
        let stuck = |world: &Self, lane: &Lane| {
            lane.gate.due().is_none() && !world.frozen.contains_key(&lane.pid)
        };
        let stuck: Vec<u64> =
            self.lanes.iter().filter(|lane| stuck(self, lane)).map(|lane| lane.id()).collect();
        for id in stuck {
            // A step may have ended others.
            if let Some(at) = self.lanes.iter().position(|lane| lane.id() == id) {
                self.step(at).await;
            }
        }
    }
}

/// A folder for sockets and control files, in memory where there is such a place: what is
/// written there need not outlive a power failure.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("sim-").tempdir_in(parent).expect("a folder")
}

/// What a fault of a link is called.
pub(crate) const fn kind(fault: Fault) -> &'static str {
    match fault {
        Fault::CrashBefore => "crash before a request",
        Fault::CrashAfter => "crash after a request",
        Fault::CutReply => "reply cut off",
        Fault::SwallowReply => "reply swallowed",
        Fault::Hold => "request held back",
    }
}
