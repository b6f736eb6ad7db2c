//! Whether all is as declared: the condition that must hold again after each fault.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use model::Role;
use model::agent::Phase;
use process::Identity;
use store::agent::Agent;
use store::lead::{Candidate, Controller, Leader};

use crate::scene::Scene;
use crate::support::identity;

/// Beyond this Redis does not answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a sign of life may take: several are due by then.
const SILENCE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Waits until nothing is missing and everybody has given a sign of life after that.
/// Since when nothing was missing; what is, where that is still so at the deadline.
pub(crate) async fn mended(scene: &Scene, deadline: Instant) -> Result<Instant, String> {
    loop {
        let at = nothing_missing(scene, deadline).await?;
        if lives_on(scene).await? {
            return Ok(at);
        }
    }
}

async fn nothing_missing(scene: &Scene, deadline: Instant) -> Result<Instant, String> {
    loop {
        let looked = Instant::now();
        let missing = match tokio::time::timeout(ANSWER, missing(scene)).await {
            Ok(Ok(None)) => return Ok(Instant::now()),
            Ok(Ok(Some(missing)) | Err(missing)) => missing,
            Err(_) => "Redis does not answer".to_owned(),
        };
        if looked >= deadline {
            return Err(missing);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Whether everybody gave another sign of life before anything was missing again.
async fn lives_on(scene: &Scene) -> Result<bool, String> {
    let (began, before) = (Instant::now(), World::read(scene).await?.pulses());
    loop {
        tokio::time::sleep(LOOK_AGAIN * 5).await;
        let Ok(world) = World::read(scene).await else { return Ok(false) };
        if world.missing(scene).is_some() {
            return Ok(false);
        }
        let now = world.pulses();
        let silent: Vec<&String> = before
            .iter()
            .filter(|(who, pulse)| now.get(*who) == Some(pulse))
            .map(|(w, _)| w)
            .collect();
        if silent.is_empty() {
            return Ok(true);
        }
        if began.elapsed() > SILENCE {
            return Err(format!("no sign of life of {silent:?}"));
        }
    }
}

/// What is not as it should be.
async fn missing(scene: &Scene) -> Result<Option<String>, String> {
    let world = World::read(scene).await?;
    let missing = world.missing(scene).or_else(|| world.idle_for_nothing(scene));
    Ok(missing.or_else(|| world.strays(scene)))
}

/// What Redis says, at one moment.
struct World {
    leaders: Vec<Leader>,
    agents: Vec<Agent>,
}

impl World {
    async fn read(scene: &Scene) -> Result<Self, String> {
        let said = |error: store::Error| format!("{error}: {error:?}");
        let store = &scene.fleet.store;
        let leaders = store.leaders().await.map_err(said)?;
        Ok(Self { leaders, agents: store.agents().await.map_err(said)? })
    }

    /// What changes while all live.
    fn pulses(&self) -> BTreeMap<String, String> {
        let of_leader = |leader: &Leader| (leader.controller.to_string(), leader.pulse.to_string());
        let of_agent = |agent: &Agent| {
            let registered = agent.registered.as_ref()?;
            Some((
                agent.name.to_string(),
                format!("{} {}", registered.incarnation, registered.beat),
            ))
        };
        let agents = self.agents.iter().filter_map(of_agent);
        self.leaders.iter().map(of_leader).chain(agents).collect()
    }

    /// Every controller is led, every declared agent is registered, by a living process.
    fn missing(&self, scene: &Scene) -> Option<String> {
        for controller in Controller::ALL {
            let leader = self.leaders.iter().find(|leader| leader.controller == controller);
            let is_at_work = leader.is_some_and(|leader| {
                let Candidate { pid, start_time, .. } = leader.who;
                is_at_work(&Identity { pid, start_time })
            });
            if !is_at_work {
                return Some(format!("the {controller} controller is led by {leader:?}"));
            }
        }
        let declared: BTreeSet<_> = scene.plan.agents.iter().collect();
        for name in &declared {
            let agent = self.agents.iter().find(|agent| agent.name == **name);
            if !agent.is_some_and(is_well) {
                return Some(format!("{name} is {agent:?}"));
            }
        }
        let is_extra =
            |agent: &&Agent| agent.registered.is_some() && !declared.contains(&agent.name);
        self.agents.iter().find(is_extra).map(|extra| format!("nobody declares {extra:?}"))
    }

    /// No agent is idle while a task of its role is READY: that would be a lost wake.
    fn idle_for_nothing(&self, scene: &Scene) -> Option<String> {
        let registered = self.agents.iter().filter_map(|agent| agent.registered.as_ref());
        let idle = registered.filter(|one| one.task.is_none());
        let roles: BTreeSet<&str> =
            idle.filter_map(|one| one.role.as_ref()).map(Role::as_str).collect();
        let waiting = roles.into_iter().find(|role| {
            let ready = scene.fleet.redis(&format!("ZCARD dag:goal-001:ready:{role}"));
            ready.parse() != Ok(0)
        })?;
        Some(format!("a {waiting} is idle while tasks of this role are READY"))
    }

    /// Processes that should not be there, or of which there are too few.
    fn strays(&self, scene: &Scene) -> Option<String> {
        let fleet = &scene.fleet;
        let mut found = fleet.all_agent_processes();
        let registered = self.agents.iter().filter_map(|agent| agent.registered.as_ref());
        let mut wanted: Vec<Identity> = registered.map(identity).collect();
        found.sort_unstable();
        wanted.sort_unstable();
        if found != wanted {
            let found = fleet.describe(&found);
            return Some(format!("agents are {wanted:?}, their processes\n{found}"));
        }
        let orchestrators = fleet.orchestrators();
        (orchestrators.len() != 1).then(|| format!("orchestrators: {orchestrators:?}"))
    }
}

fn is_well(agent: &Agent) -> bool {
    let process = agent.registered.as_ref().map(identity);
    agent.status.phase == Some(Phase::Running) && process.is_some_and(|one| is_at_work(&one))
}

/// Whether it lives and is not stopped.
fn is_at_work(process: &Identity) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap_or_default();
    process.is_alive() && !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T"))
}
