//! The project that is put under stress: agents of three roles, and a DAG of short tasks
//! by seed. Each task writes what it does into a file of its own.

use std::fmt::Write as _;
use std::time::Duration;

use model::AgentName;

use crate::settings::Settings;
use crate::support::{goal, name, task};

/// Where tasks write, below the project's folder.
pub(crate) const EFFECTS: &str = "effects";

/// One role for each three agents or so.
const ROLES: [&str; 8] =
    ["builder", "tester", "writer", "builder", "tester", "writer", "builder", "tester"];
/// A task waits for at most two of so many before it.
const WINDOW: usize = 40;
/// The share of the agents' time that the tasks fill, if nothing breaks.
const LOAD: f64 = 0.5;

pub(crate) struct Plan {
    pub(crate) agents: Vec<AgentName>,
    pub(crate) tasks: Vec<String>,
    goal: String,
}

impl Plan {
    /// The plan of one round, from 0.
    pub(crate) fn new(settings: &Settings, round: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(settings.seed.wrapping_add(round));
        let agents: Vec<AgentName> =
            (1..=settings.agents).map(|n| name(&format!("a{n}_agent"))).collect();
        let tasks: Vec<String> =
            (1..=settings.tasks).map(|n| format!("r{round}-t{n:04}")).collect();
        let mean = average(settings);
        let mut lines = String::new();
        for (n, id) in tasks.iter().enumerate() {
            let role = ROLES[random.usize(..settings.agents.min(ROLES.len()))];
            let mut after: Vec<&str> = (0..random.usize(..3).min(n))
                .map(|_| tasks[random.usize(n.saturating_sub(WINDOW)..n)].as_str())
                .collect();
            after.sort_unstable();
            after.dedup();
            let after = match after.is_empty() {
                true => String::new(),
                false => format!("; after: {}", after.join(", ")),
            };
            let seconds = mean.as_secs_f64() * (0.2 + 1.6 * random.f64());
            lines.push_str(&task(&format!("{id}: Short (role: {role}{after})"), &block(seconds)));
        }
        Self { agents, tasks, goal: goal(&lines) }
    }

    /// INSTRUCTIONS.md, perhaps without one of the agents.
    pub(crate) fn instructions(&self, without: Option<&AgentName>) -> String {
        let agents = self.agents.iter().zip(ROLES.iter().cycle());
        let declared = agents.filter(|(agent, _)| Some(*agent) != without);
        let sections: String = declared.map(|(agent, role)| section(agent, role)).collect();
        format!("## Agents\n{sections}{}", self.goal)
    }
}

/// The section that declares an agent.
fn section(agent: &AgentName, role: &str) -> String {
    let mut text = String::new();
    _ = writeln!(text, "\n### {agent}\n- Goal: goal-001\n- Role: {role}");
    _ = writeln!(text, "- Heartbeat: ./heartbeat/{agent}.md");
    text
}

/// What a task does: it says that it began and that it ended, under which grant.
fn block(seconds: f64) -> String {
    format!(
        "f=\"$ORCH_PROJECT/{EFFECTS}/$ORCH_TASK\"\n\
         echo \"begin $ORCH_EPOCH $ORCH_AGENT\" >> \"$f\"\n\
         sleep {seconds:.2}\n\
         echo \"end $ORCH_EPOCH $ORCH_AGENT\" >> \"$f\""
    )
}

/// How long a task takes on average, so that there is work for the whole run.
fn average(settings: &Settings) -> Duration {
    #[allow(clippy::cast_precision_loss, reason = "some thousands")]
    let each =
        settings.during.as_secs_f64() * settings.agents as f64 * LOAD / settings.tasks as f64;
    Duration::from_secs_f64(each.clamp(0.05, 5.0))
}
