//! The fleet under stress, the proxy between it and its Redis, and who watches.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use model::{AgentName, TaskId};
use process::Identity;
use testkit::{FaultProxy, free_port};

use crate::files;
use crate::plan::{EFFECTS, Plan};
use crate::settings::Settings;
use crate::support::{Fleet, fleet, identity};
use crate::witness::Witness;

/// How long a lease lives, and how long an agent is believed alive that says nothing.
pub(crate) const TTL: Duration = Duration::from_secs(3);
const TTL_SECONDS: &str = "3";

pub(crate) struct Scene {
    // Dropped first: what is left of the fleet is ended before the proxy is.
    pub(crate) fleet: Fleet,
    pub(crate) proxy: FaultProxy,
    pub(crate) witness: Witness,
    pub(crate) plan: Plan,
}

/// An agent that lives.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) name: AgentName,
    pub(crate) process: Identity,
    /// What it runs.
    pub(crate) task: Option<TaskId>,
}

/// Whom a fault may hit.
#[derive(Debug, Clone)]
pub(crate) struct Targets {
    pub(crate) agents: Vec<Target>,
    pub(crate) orchestrator: Identity,
    pub(crate) redis: Identity,
    pub(crate) sysg: Identity,
}

/// An agent's heartbeat file.
pub(crate) fn heartbeat(agent: &AgentName) -> String {
    format!("heartbeat/{agent}.md")
}

impl Scene {
    /// Starts the fleet: its Redis keeps its data as asked, and is reached through the
    /// proxy by all but us.
    pub(crate) async fn start(settings: &Settings) -> Self {
        let plan = Plan::new(settings, 0);
        let port = free_port();
        let proxy = FaultProxy::start(port);
        let fleet = fleet(plan.instructions(None))
            .lease_ttl(TTL_SECONDS)
            .redis_port(port)
            .redis_args(&["--appendfsync", settings.fsync])
            .env("REDIS_URL", &proxy.url())
            .write()
            .await;
        fs::create_dir_all(fleet.path(EFFECTS)).unwrap();
        for agent in &plan.agents {
            fleet.project.write(&heartbeat(agent), "# What this agent is to do now\n");
        }
        fleet.project.start();
        let witness = Witness::start(&fleet.store);
        Self { fleet, proxy, witness, plan }
    }

    /// Another plan takes the place of the one that is complete.
    pub(crate) fn plan_again(&mut self, settings: &Settings, round: u64) {
        self.plan = Plan::new(settings, round);
        self.witness.count_anew();
        _ = fs::remove_dir_all(self.effects());
        fs::create_dir_all(self.effects()).unwrap();
        files::save(&self.fleet.path("INSTRUCTIONS.md"), &self.plan.instructions(None));
    }

    pub(crate) fn effects(&self) -> PathBuf {
        self.fleet.path(EFFECTS)
    }

    /// Who is there now; the reason where that is not all.
    pub(crate) async fn targets(&self) -> Result<Targets, String> {
        let said = |error: store::Error| error.to_string();
        let mut agents = Vec::new();
        for agent in self.fleet.store.agents().await.map_err(said)? {
            let Some(registered) = agent.registered else { continue };
            let (name, process) = (agent.name, identity(&registered));
            let task = registered.task.map(|(task, _)| task);
            if process.is_alive() {
                agents.push(Target { name, process, task });
            }
        }
        let redis = self.fleet.store.server().await.map_err(said)?.process_id;
        let redis = Identity::of(redis).ok().flatten().ok_or("Redis has no process")?;
        let orchestrators = self.fleet.orchestrators();
        let [orchestrator] = orchestrators[..] else {
            return Err(format!("orchestrators: {orchestrators:?}"));
        };
        let sysg = self.fleet.project.supervisor().ok_or("sysg does not run")?;
        Ok(Targets { agents, orchestrator, redis, sysg })
    }
}
