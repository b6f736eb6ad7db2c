//! Whether the system is as it was before the first fault.

use std::collections::BTreeSet;

use model::AgentName;
use model::agent::Phase;
use process::Identity;
use store::Store;
use store::agent::Agent;
use store::lead::{Candidate, Controller, Leader};

/// What Redis says, at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct World {
    pub(super) leaders: Vec<Leader>,
    pub(super) agents: Vec<Agent>,
}

impl World {
    /// # Errors
    /// [`store::Error`] where Redis did not answer.
    pub(super) async fn read(store: &Store) -> Result<Self, store::Error> {
        Ok(Self { leaders: store.leaders().await?, agents: store.agents().await? })
    }
}

/// What is known of processes from this host.
pub(super) struct Here<'a> {
    /// Its name.
    pub(super) host: &'a str,
    /// Whether this very process still runs.
    pub(super) alive: &'a dyn Fn(&Identity) -> bool,
}

impl Here<'_> {
    /// Whether a process that registered on `host` may be signalled from here.
    pub(super) fn may_signal(&self, host: &str, process: &Identity) -> bool {
        // Whatever Redis says: never the first process, never ourselves.
        let is_other = process.pid > 1 && process.pid != std::process::id();
        is_other && process.start_time > 0 && host == self.host && (self.alive)(process)
    }

    /// Whether a registered process lives, as far as this host can know.
    fn lives(&self, host: &str, process: &Identity) -> bool {
        host != self.host || (self.alive)(process)
    }
}

/// What has to be there again after every fault.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Baseline {
    pub(super) controllers: BTreeSet<Controller>,
    pub(super) agents: BTreeSet<AgentName>,
}

impl Baseline {
    /// What is there now: controllers that are led, agents that are declared.
    pub(super) fn of(world: &World) -> Self {
        let is_wanted = |agent: &&Agent| {
            let phase = agent.status.phase;
            agent.registered.is_some() || phase.is_some_and(|phase| phase != Phase::Gone)
        };
        Self {
            controllers: world.leaders.iter().map(|leader| leader.controller).collect(),
            agents: world.agents.iter().filter(is_wanted).map(|agent| agent.name.clone()).collect(),
        }
    }

    /// What of it is not there in `world`, in words; nothing where it has converged.
    pub(super) fn missing(&self, world: &World, here: &Here<'_>) -> Vec<String> {
        let mut missing = Vec::new();
        if self.controllers.is_empty() {
            missing.push("no controller is led: is the orchestrator running?".to_owned());
        }
        for controller in &self.controllers {
            let leader = world.leaders.iter().find(|leader| leader.controller == *controller);
            match leader.map(|leader| &leader.who) {
                None => missing.push(format!("nobody leads the {controller} controller")),
                Some(who) if here.lives(&who.host, &process_of(who)) => {}
                Some(who) => missing.push(format!(
                    "who leads the {controller} controller is gone (pid {})",
                    who.pid
                )),
            }
        }
        for name in &self.agents {
            let agent = world.agents.iter().find(|agent| agent.name == *name);
            missing.extend(agent_missing(name, agent, here));
        }
        missing
    }
}

fn agent_missing(name: &AgentName, agent: Option<&Agent>, here: &Here<'_>) -> Option<String> {
    let registered = agent.and_then(|agent| agent.registered.as_ref());
    if let Some(registered) = registered {
        let process = Identity { pid: registered.pid, start_time: registered.start_time };
        let gone = !here.lives(&registered.host, &process);
        return gone.then(|| format!("{name} is registered but gone (pid {})", process.pid));
    }
    let status = agent.map(|agent| &agent.status);
    let phase = status.and_then(|status| status.phase);
    let next = status.and_then(|status| status.next_start.as_deref());
    let phase = phase.map_or_else(String::new, |phase| format!(": {phase}"));
    let next = next.map_or_else(String::new, |next| format!(", next start {next}"));
    Some(format!("{name} is not registered{phase}{next}"))
}

/// Which process leads.
pub(super) const fn process_of(who: &Candidate) -> Identity {
    Identity { pid: who.pid, start_time: who.start_time }
}

#[cfg(test)]
mod tests {
    use model::lease::{Epoch, Pulse};
    use store::agent::{Incarnation, Registered, Status};

    use super::*;

    fn leader(controller: Controller, pid: u32, host: &str) -> Leader {
        Leader {
            controller,
            pulse: Pulse { epoch: Epoch(1), beat: 1 },
            who: Candidate {
                holder: format!("{host}-{pid}"),
                pid,
                start_time: 5,
                host: host.to_owned(),
            },
        }
    }

    fn agent(name: &str, pid: Option<u32>, phase: Option<Phase>) -> Agent {
        let registered = pid.map(|pid| Registered {
            pid,
            host: "here".to_owned(),
            start_time: 5,
            incarnation: Incarnation(1),
            timestamp: String::new(),
            role: None,
            goal: None,
            spec_hash: String::new(),
            provider: String::new(),
            beat: 0,
            task: None,
        });
        Agent {
            name: AgentName::new(name).unwrap(),
            registered,
            heartbeat: None,
            status: Status { phase, ..Status::default() },
            paused: false,
            consumed_version: String::new(),
        }
    }

    fn missing(baseline: &Baseline, world: &World, dead: &[u32]) -> Vec<String> {
        let alive = |process: &Identity| !dead.contains(&process.pid);
        baseline.missing(world, &Here { host: "here", alive: &alive })
    }

    #[test]
    fn baseline_should_hold_what_is_led_and_declared() {
        let world = World {
            leaders: vec![leader(Controller::Agent, 10, "here")],
            agents: vec![
                agent("runs", Some(11), Some(Phase::Running)),
                agent("loops", None, Some(Phase::CrashLoop)),
                agent("left", None, Some(Phase::Gone)),
                agent("never", None, None),
            ],
        };
        let baseline = Baseline::of(&world);
        let names: Vec<&str> = baseline.agents.iter().map(AgentName::as_str).collect();
        assert_eq!(names, ["loops", "runs"]);
        assert_eq!(missing(&baseline, &world, &[]), ["loops is not registered: crash-loop"]);
    }

    #[test]
    fn system_should_have_converged_only_when_all_of_it_lives() {
        let world = World {
            leaders: vec![
                leader(Controller::Agent, 10, "here"),
                leader(Controller::Dag, 20, "elsewhere"),
            ],
            agents: vec![agent("a", Some(11), Some(Phase::Running))],
        };
        let baseline = Baseline::of(&world);
        assert_eq!(missing(&baseline, &world, &[]), [""; 0]);
        // Of another host it is not known.
        assert_eq!(missing(&baseline, &world, &[20]), [""; 0]);
        assert_eq!(
            missing(&baseline, &world, &[10, 11]),
            [
                "who leads the agent controller is gone (pid 10)",
                "a is registered but gone (pid 11)"
            ]
        );
        assert_eq!(
            missing(&baseline, &World::default(), &[]),
            [
                "nobody leads the agent controller",
                "nobody leads the dag controller",
                "a is not registered"
            ]
        );
        let nothing = missing(&Baseline::default(), &world, &[]);
        assert!(nothing[0].contains("no controller is led"), "{nothing:?}");
    }

    #[test]
    fn processes_of_other_hosts_and_ourselves_should_not_be_signalled() {
        let here = Here { host: "here", alive: &|_| true };
        let other = Identity { pid: std::process::id() + 1, start_time: 5 };
        assert!(here.may_signal("here", &other));
        assert!(!here.may_signal("elsewhere", &other));
        for (pid, start_time) in [(1, 5), (0, 5), (std::process::id(), 5), (other.pid, 0)] {
            assert!(!here.may_signal("here", &Identity { pid, start_time }), "{pid}");
        }
        let dead = Here { host: "here", alive: &|_| false };
        assert!(!dead.may_signal("here", &other));
    }
}
