//! After the last fault: within 30 s of virtual time everything is as it should be, and
//! stays so. A task that waits before it is tried again has its 30 s after that wait, which
//! is a minute at most, also where the clock was set back meanwhile.

use std::time::Duration;

use tokio::time::Instant;

use crate::checks::Task;
use crate::world::World;

/// How long convergence may take, by the fourth promise of liveness.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a task may have to wait before it is tried again.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// For so long nothing changes once all is well: more than one resync of everybody.
const QUIET: Duration = Duration::from_millis(2_500);

impl World {
    /// Mends everything, and lets it converge.
    pub(crate) async fn converge(&mut self) {
        self.heal().await;
        let mut deadline = Instant::now() + LIMIT;
        let last_delay = Instant::now() + LONGEST_DELAY;
        let mut events = self.checks.events();
        let mut quiet_since: Option<Instant> = None;
        loop {
            if !self.checks.violations.is_empty() {
                return;
            }
            let due = self.due();
            if !due.is_empty() {
                let at = due[self.random.usize(0..due.len())];
                self.step(at).await;
                continue;
            }
            let wrong = self.wrong();
            let now = Instant::now();
            if now < last_delay && self.checks.sight().tasks.iter().any(Task::is_waiting) {
                deadline = deadline.max(now + LIMIT);
            }
            if wrong.is_empty() && self.checks.events() == events {
                let since = *quiet_since.get_or_insert(now);
                if now.duration_since(since) >= QUIET {
                    return self.tell("has converged");
                }
            } else {
                quiet_since = None;
                events = self.checks.events();
            }
            if now >= deadline && !(wrong.is_empty() && quiet_since.is_some()) {
                let text = if wrong.is_empty() {
                    "it does not come to rest".to_owned()
                } else {
                    wrong.join("; ")
                };
                let text = format!("L1: {} s after the last fault: {text}", LIMIT.as_secs());
                self.checks.violations.push(text);
                return;
            }
            let idle = self.idle().clamp(Duration::from_millis(10), Duration::from_millis(250));
            self.pass(idle).await;
        }
    }

    async fn heal(&mut self) {
        self.tell("---- no more faults");
        for lane in &self.lanes {
            lane.link.cut(false);
            lane.link.disarm();
            lane.link.release();
        }
        self.frozen.clear();
        self.table.fail_spawn(None);
        self.planner.failures.store(0, std::sync::atomic::Ordering::Relaxed);
        self.lost_tokens = 0;
        {
            let mut skill = self.skill.borrow_mut();
            skill.fails = 0;
            skill.start = Duration::from_millis(20);
            skill.longest = Duration::from_millis(50);
        }
        self.people.mend();
        self.people.resume_all();
        if self.faults.contains_key("planner failed") {
            // After three failures in a row only a person starts it over.
            self.people.reparse_all();
        }
        self.saved_file(false);
        self.saved_file(true);
        self.go_on().await;
        self.follow().await;
        if self.orchestrators.is_empty() && self.restart_at.is_none() {
            self.restart_at = Some(Instant::now());
        }
    }

    /// What is not as it should be.
    fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let leading: Vec<_> =
            self.orchestrators.values().filter(|one| one.term.get().is_some()).collect();
        if leading.len() != 1 {
            wrong.push(format!("{} orchestrators lead", leading.len()));
        }
        self.wrong_agents(&mut wrong);
        let sight = self.checks.sight();
        for goal in self.people.goals() {
            match sight.goals.get(&goal).map(String::as_str) {
                Some("complete" | "failed") => {}
                other => wrong.push(format!("{goal} is {other:?}")),
            }
        }
        for task in &sight.tasks {
            if !is_settled(task, &sight.tasks) {
                wrong.push(format!("{} is {}", task.id, task.status));
            }
        }
        if !sight.leases.is_empty() {
            wrong.push(format!("leases are left: {:?}", sight.leases));
        }
        for (agent, line) in self.people.standing_lines() {
            let answers = self.checks.ledger.answers.get(&line).copied().unwrap_or(0);
            if answers != 1 {
                wrong.push(format!("{agent}'s `{line}` was answered {answers} times"));
            }
        }
        wrong
    }

    fn wrong_agents(&self, wrong: &mut Vec<String>) {
        let sight = self.checks.sight();
        let declared = self.people.declared();
        for name in &declared {
            let processes: Vec<_> =
                self.agents.values().filter(|agent| agent.name.as_str() == name).collect();
            let [process] = processes.as_slice() else {
                wrong.push(format!("{name} has {} processes", processes.len()));
                continue;
            };
            let registered = sight.agents.iter().find(|agent| agent.name == *name);
            let is_it = registered.is_some_and(|r| {
                r.pid == process.identity.pid.to_string()
                    && r.start_time == process.identity.start_time.to_string()
            });
            if !is_it {
                wrong.push(format!(
                    "{name} is {} and is registered as {registered:?}",
                    process.identity
                ));
            }
        }
        for agent in self.agents.values() {
            if !declared.iter().any(|name| name == agent.name.as_str()) {
                wrong.push(format!("{} {} is not declared", agent.name, agent.identity));
            }
        }
    }
}

/// Whether nothing more will become of a task.
fn is_settled(task: &Task, all: &[Task]) -> bool {
    match task.status.as_str() {
        "done" | "failed" => true,
        "blocked" => all.iter().any(|other| other.goal == task.goal && other.status == "failed"),
        _ => false,
    }
}
