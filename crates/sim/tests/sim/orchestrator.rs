//! An orchestrator's process: its part in the election, its look at the instructions, and
//! the four controllers of a term. What the program around them does is done here in the
//! same order; the controllers are the product's.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use agent_controller::plan::Limits;
use agent_controller::{Parts, arguments};
use control_files::instructions::{self, Parsed, SETTLE};
use dag_controller::{PlanError, Planner};
use model::lease::{Epoch, Pulse};
use model::{AgentName, AgentSpec, Dag, Declared, GoalId, GoalSpec, TaskId};
use process::Identity;
use reconcile::{Policy, Settings as Kit, Unchanged};
use store::lead::{Answer, Candidate, Controller};
use store::{Lead, Store};
use supervisor::SpawnRequest;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::agent::TTL;
use crate::lane::{Gate, Lane};
use crate::link::Link;
use crate::processes::Table;
use crate::queue::{RESYNC, Said, Waker, control};

pub(crate) const FLEET: &str = "sim";
pub(crate) const HOST: &str = "here";
const LEADER_TTL: Duration = Duration::from_millis(1_500);
const LIVING_LEADER_TTL: Duration = Duration::from_millis(4_500);
const BEAT: Duration = Duration::from_millis(400);
const LOOK: Duration = Duration::from_millis(250);
/// How long an agent may take to register.
const REGISTER: Duration = Duration::from_secs(5);
/// How long it may take to leave.
const GRACE: Duration = Duration::from_secs(1);
/// The longest wait before an agent is started again.
const LONGEST_RESPAWN: Duration = Duration::from_secs(4);

/// Plans what is pinned; fails as often as the seed says.
#[derive(Clone, Default)]
pub(crate) struct Pinned {
    pub(crate) failures: Arc<AtomicU32>,
}

impl Planner for Pinned {
    async fn plan(&self, goal: &GoalSpec) -> Result<Dag, PlanError> {
        let left = self
            .failures
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_ok() {
            return Err(PlanError::failed("the model was not in the mood"));
        }
        let tasks = goal.tasks.clone().unwrap_or_default();
        let mut specs = Vec::new();
        let mut edges = Vec::new();
        for task in tasks {
            edges.extend(task.after.iter().map(|dep| (task.spec.id.clone(), dep.clone())));
            specs.push(task.spec);
        }
        Dag::new(specs, &edges).map_err(|error| PlanError::refused(error.to_string()))
    }
}

/// Where the project's files lie.
#[derive(Debug, Clone)]
pub(crate) struct Project {
    pub(crate) root: PathBuf,
}

impl Project {
    pub(crate) fn instructions(&self) -> PathBuf {
        self.root.join("INSTRUCTIONS.md")
    }

    fn last_good(&self) -> PathBuf {
        self.root.join("last-good.md")
    }
}

pub(crate) struct Orchestrator {
    pub(crate) identity: Identity,
    pub(crate) table: Table,
    pub(crate) project: Project,
    pub(crate) planner: Pinned,
    pub(crate) election_gate: Gate,
    pub(crate) files_gate: Gate,
    pub(crate) declared: watch::Sender<Arc<Declared>>,
    /// Whether the instructions were ever read.
    pub(crate) known: Cell<bool>,
    /// Under which epoch it leads.
    pub(crate) term: Cell<Option<Epoch>>,
    /// Under which epoch its controllers run.
    pub(crate) running: Cell<Option<Epoch>>,
    pub(crate) wakers: RefCell<Vec<(Controller, Waker)>>,
    pub(crate) said: Said,
}

impl Orchestrator {
    pub(crate) fn new(table: &Table, project: &Project, planner: &Pinned) -> Rc<Self> {
        let this = Self {
            identity: table.start(None),
            table: table.clone(),
            project: project.clone(),
            planner: planner.clone(),
            election_gate: Gate::default(),
            files_gate: Gate::default(),
            declared: watch::Sender::new(Arc::default()),
            known: Cell::new(false),
            term: Cell::new(None),
            running: Cell::new(None),
            wakers: RefCell::default(),
            said: Said::default(),
        };
        this.restore();
        Rc::new(this)
    }

    fn say(&self, what: impl Into<String>) {
        *self.said.borrow_mut() = what.into();
    }

    pub(crate) fn wake(&self, controller: Controller, key: &str) {
        for (_, waker) in self.wakers.borrow().iter().filter(|(of, _)| *of == controller) {
            waker.wake(key);
        }
    }

    pub(crate) fn resync(&self, controller: Controller) {
        for (_, waker) in self.wakers.borrow().iter().filter(|(of, _)| *of == controller) {
            waker.resync();
        }
    }

    /// Takes the lead, keeps it, and takes it again.
    pub(crate) async fn elect(self: Rc<Self>, store: Store) {
        let candidate = Candidate {
            holder: format!("{HOST}-{}-{}", self.identity.pid, self.identity.start_time),
            pid: self.identity.pid,
            start_time: self.identity.start_time,
            host: HOST.to_owned(),
        };
        let mut wait = Duration::ZERO;
        loop {
            let epoch = self.win(&store, &candidate, wait).await;
            self.say(format!("leads under {epoch}"));
            self.term.set(Some(epoch));
            self.keep(&store, &candidate, epoch).await;
            self.say("leads no more");
            self.term.set(None);
            wait = LOOK;
        }
    }

    async fn win(&self, store: &Store, candidate: &Candidate, mut wait: Duration) -> Epoch {
        let mut pulses = Unchanged::new(LEADER_TTL / 2);
        let mut dead: Vec<(Controller, Pulse)> = Vec::new();
        loop {
            self.election_gate.pass(Instant::now() + wait).await;
            let asked = Instant::now();
            wait = LOOK;
            match store.lead(candidate, &Controller::ALL, &dead).await {
                Ok(Answer::Held(epoch)) => return epoch,
                Ok(Answer::Standby(leader)) => {
                    self.say(format!("stands by for {}", leader.who.holder));
                    let still = pulses
                        .look(leader.controller, leader.pulse, asked, Instant::now())
                        .unwrap_or_default();
                    let process =
                        Identity { pid: leader.who.pid, start_time: leader.who.start_time };
                    let lives = self.table.get(process.pid).is_some_and(|p| p.identity == process);
                    let patience = if lives { LIVING_LEADER_TTL } else { Duration::ZERO };
                    if still >= patience {
                        dead.retain(|(controller, _)| *controller != leader.controller);
                        dead.push((leader.controller, leader.pulse));
                        wait = Duration::ZERO;
                    }
                }
                Err(error) => self.say(format!("cannot ask for the lead: {error}")),
            }
        }
    }

    async fn keep(&self, store: &Store, candidate: &Candidate, epoch: Epoch) {
        loop {
            self.election_gate.pass(Instant::now() + BEAT).await;
            match store.lead(candidate, &Controller::ALL, &[]).await {
                Ok(Answer::Held(same)) if same == epoch => {}
                Ok(Answer::Held(_) | Answer::Standby(_)) => return,
                Err(error) => self.say(format!("cannot keep the lead: {error}")),
            }
        }
    }

    /// What was in force when the process before this one ended.
    fn restore(&self) {
        let Ok(text) = std::fs::read_to_string(self.project.last_good()) else { return };
        let parsed = self.parse(&text).settled();
        self.declared.send_replace(Arc::new(parsed.declared));
        self.known.set(true);
    }

    fn parse(&self, text: &str) -> Parsed {
        instructions::parse(&self.project.root, &self.project.instructions(), text)
    }

    /// Follows the instructions, as the program does: what cannot be trusted changes
    /// nothing.
    pub(crate) async fn follow(self: Rc<Self>) {
        let mut last: Option<(String, Parsed)> = None;
        let mut changed_at = Instant::now();
        let mut wait = Duration::ZERO;
        loop {
            self.files_gate.pass(Instant::now() + wait).await;
            wait = RESYNC;
            let now = Instant::now();
            let read = control_files::read::read(&self.project.root, &self.project.instructions());
            let Ok(text) = read else {
                self.say("cannot read the instructions");
                if last.take().is_some() {
                    changed_at = now;
                }
                continue;
            };
            let known = last.take().filter(|(old, _)| *old == text);
            let same = known.is_some();
            if !same {
                changed_at = now;
            }
            let parsed = known.map_or_else(|| self.parse(&text), |(_, parsed)| parsed);
            let age = now.duration_since(changed_at);
            let settled = !parsed.unsettled || age >= SETTLE;
            if !same || settled {
                self.take(if settled { parsed.clone().settled() } else { parsed.clone() }, &text);
            }
            if !settled {
                wait = SETTLE.saturating_sub(age).max(crate::clock::GRAIN);
            }
            last = Some((text, parsed));
        }
    }

    fn take(&self, parsed: Parsed, text: &str) {
        let merged = instructions::merge(&self.declared.borrow(), &parsed);
        if parsed.is_valid() && !parsed.unsettled {
            let same =
                std::fs::read_to_string(self.project.last_good()).is_ok_and(|old| old == text);
            if !same {
                std::fs::write(self.project.last_good(), text).expect("a copy of the instructions");
            }
        }
        if !parsed.unsettled && !parsed.broken.whole_file {
            self.known.set(true);
        }
        let changed = self.declared.send_if_modified(|declared| {
            let changed = **declared != merged;
            if changed {
                *declared = Arc::new(merged);
            }
            changed
        });
        if changed {
            self.say("takes other instructions");
            for controller in [Controller::Agent, Controller::Dag, Controller::Heartbeat] {
                self.resync(controller);
            }
        }
    }

    /// The controllers of a term, each with a link of its own.
    pub(crate) async fn begin_term(&self, epoch: Epoch, links: [Link; 4]) -> Vec<Lane> {
        let kit = Kit { resync: RESYNC, ..Kit::default() };
        let mut lanes = Vec::new();
        let mut wakers = Vec::new();
        for (controller, link) in Controller::ALL.into_iter().zip(links) {
            let store = link.store().await;
            let lead = Lead::new(controller, epoch);
            let gate = Gate::default();
            let declared = self.declared.subscribe();
            let lane = match controller {
                Controller::Agent => {
                    let reconciler = agent_controller::reconciler(
                        Parts {
                            store,
                            supervisor: self.table.clone(),
                            processes: self.table.clone(),
                            declared,
                            fleet: FLEET.to_owned(),
                            host: HOST.to_owned(),
                            command: Arc::new(command),
                        },
                        lead,
                        agent_controller::Settings {
                            limits: Limits { ttl: TTL, register: REGISTER, grace: GRACE },
                            respawn: Policy { max: LONGEST_RESPAWN, ..Policy::default() }.at_once(),
                            kit,
                        },
                    );
                    let name = |key: &str| AgentName::new(key).ok();
                    let (run, waker) = control(reconciler, &gate, &self.said, name);
                    wakers.push((controller, waker));
                    Lane::new(self.identity.pid, "agents", &gate, link, run)
                }
                Controller::Dag => {
                    let settings = dag_controller::Settings {
                        kit,
                        // It is measured by the real wall clock, which must not show.
                        planning_backoff: Policy { max: Duration::ZERO, ..Policy::default() },
                        drift_check: Duration::from_secs(3),
                        ..dag_controller::Settings::default()
                    };
                    let planner = self.planner.clone();
                    let goals =
                        dag_controller::reconciler(store, planner, declared, lead, settings);
                    let id = |key: &str| GoalId::new(key).ok();
                    let (run, waker) = control(goals, &gate, &self.said, id);
                    wakers.push((controller, waker));
                    Lane::new(self.identity.pid, "goals", &gate, link, run)
                }
                Controller::Lease => {
                    let settings = lease_reaper::Settings { ttl: TTL, kit };
                    let reaper = lease_reaper::reconciler(store, lead, settings);
                    let id = |key: &str| TaskId::new(key).ok();
                    let (run, waker) = control(reaper, &gate, &self.said, id);
                    wakers.push((controller, waker));
                    Lane::new(self.identity.pid, "leases", &gate, link, run)
                }
                Controller::Heartbeat => {
                    let problems = heartbeat_controller::Problems::new();
                    let root = self.project.root.clone();
                    let beats = heartbeat_controller::reconciler(
                        store, root, declared, problems, lead, TTL,
                    );
                    let name = |key: &str| AgentName::new(key).ok();
                    let (run, waker) = control(beats, &gate, &self.said, name);
                    wakers.push((controller, waker));
                    Lane::new(self.identity.pid, "heartbeats", &gate, link, run)
                }
            };
            lanes.push(lane);
        }
        *self.wakers.borrow_mut() = wakers;
        lanes
    }

    pub(crate) fn end_term(&self) {
        self.wakers.borrow_mut().clear();
    }
}

/// Everything that an agent has to know, as arguments.
fn command(spec: &AgentSpec) -> SpawnRequest {
    let args = [
        (arguments::FLEET, FLEET),
        (arguments::AGENT_NAME, spec.name.as_str()),
        ("--agent-role", spec.role.as_str()),
        ("--goal-id", spec.goal.as_str()),
        ("--spec-hash", spec.spec_hash.as_str()),
    ];
    let args = args.iter().flat_map(|(name, value)| [(*name).to_owned(), (*value).to_owned()]);
    SpawnRequest { name: spec.name.to_string(), program: "/bin/orch".into(), args: args.collect() }
}
