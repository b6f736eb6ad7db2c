//! People: what they declare and change in the control files, also half-way.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use crate::orchestrator::Project;

/// One task as it is declared.
#[derive(Debug, Clone)]
struct Task {
    id: String,
    wording: u32,
    after: Vec<String>,
    priority: u32,
    role: Option<&'static str>,
}

#[derive(Debug, Clone)]
struct Goal {
    id: String,
    max_attempts: u32,
    tasks: Vec<Task>,
}

#[derive(Debug, Clone)]
struct Agent {
    name: String,
    goal: String,
    role: &'static str,
    is_declared: bool,
    debug: bool,
}

pub(crate) struct People {
    project: Project,
    goals: Vec<Goal>,
    agents: Vec<Agent>,
    /// All lines that were ever written to be applied, by heartbeat file.
    lines: BTreeMap<String, Vec<String>>,
    written: u32,
    /// What stood in heartbeat files that are gone for now.
    hidden: BTreeMap<String, String>,
    /// The heartbeat file whose last line has no end yet, and the rest of it.
    torn: Option<(String, String)>,
    /// The instructions are not as people want them.
    is_spoilt: bool,
}

const ROLES: [&str; 2] = ["builder", "checker"];

impl People {
    pub(crate) fn new(project: &Project, random: &mut fastrand::Rng) -> Self {
        fs::create_dir_all(project.root.join("heartbeat")).expect("a folder");
        let goals: Vec<Goal> = (1..=random.usize(1..=2)).map(|n| goal(n, random)).collect();
        let mut agents = Vec::new();
        for n in 0..random.usize(2..=4) {
            let goal = goals[n % goals.len()].id.clone();
            // Of each goal the first may take whatever needs a role.
            let role = if n < goals.len() { ROLES[0] } else { ROLES[random.usize(0..2)] };
            let name = format!("a{n}");
            agents.push(Agent { name, goal, role, is_declared: true, debug: false });
        }
        let people = Self {
            project: project.clone(),
            goals,
            agents,
            lines: BTreeMap::new(),
            written: 0,
            hidden: BTreeMap::new(),
            torn: None,
            is_spoilt: false,
        };
        people.write(&people.text());
        people
    }

    fn text(&self) -> String {
        let mut text = String::from("# A project\n\n## Agents\n");
        for agent in self.agents.iter().filter(|agent| agent.is_declared) {
            let Agent { name, goal, role, debug, .. } = agent;
            let level = if *debug { "DEBUG" } else { "INFO" };
            _ = write!(
                text,
                "\n### {name}\n- Goal: {goal}\n- Role: {role}\n- Heartbeat: ./heartbeat/{name}.md\n\
                 - Log Level: {level}\n"
            );
        }
        text.push_str("\n## Goals\n");
        for goal in &self.goals {
            _ = write!(
                text,
                "\n### {}\nA goal.\n\n- Max attempts: {}\n",
                goal.id, goal.max_attempts
            );
            text.push_str("\n#### Tasks\n");
            for task in &goal.tasks {
                let mut terms = vec![format!("priority: {}", task.priority)];
                if !task.after.is_empty() {
                    terms.push(format!("after: {}", task.after.join(", ")));
                }
                if let Some(role) = task.role {
                    terms.push(format!("role: {role}"));
                }
                _ = writeln!(
                    text,
                    "- {}: Do it, version {} ({})",
                    task.id,
                    task.wording,
                    terms.join("; ")
                );
            }
        }
        text
    }

    fn write(&self, text: &str) {
        fs::write(self.project.instructions(), text).expect("the instructions");
    }

    fn heartbeat(&self, agent: &str) -> PathBuf {
        self.project.root.join("heartbeat").join(format!("{agent}.md"))
    }

    /// The agents that are declared, as far as people are concerned.
    pub(crate) fn declared(&self) -> Vec<String> {
        let declared = self.agents.iter().filter(|agent| agent.is_declared);
        declared.map(|agent| agent.name.clone()).collect()
    }

    pub(crate) fn goals(&self) -> Vec<String> {
        self.goals.iter().map(|goal| goal.id.clone()).collect()
    }

    /// The lines that stand in files and so must have been answered.
    pub(crate) fn standing_lines(&self) -> Vec<(String, String)> {
        let mut standing = Vec::new();
        for agent in self.agents.iter().filter(|agent| agent.is_declared) {
            let text = fs::read_to_string(self.heartbeat(&agent.name)).unwrap_or_default();
            let known = self.lines.get(&agent.name).into_iter().flatten();
            standing.extend(
                known
                    .filter(|line| text.lines().any(|other| other == line.as_str()))
                    .map(|line| (agent.name.clone(), line.clone())),
            );
        }
        standing
    }

    /// Somebody edits the instructions. What was done, for the trace.
    pub(crate) fn edit(&mut self, random: &mut fastrand::Rng) -> &'static str {
        let done = match random.u32(0..8) {
            0 | 1 => {
                let at = random.usize(0..self.agents.len());
                // Somebody has to be there for each goal's work.
                let first_of_goal = at < self.goals.len();
                let agent = &mut self.agents[at];
                if first_of_goal {
                    agent.debug = !agent.debug;
                    "instructions: an agent is changed"
                } else {
                    agent.is_declared = !agent.is_declared;
                    "instructions: an agent comes or goes"
                }
            }
            2 => {
                let at = random.usize(0..self.agents.len());
                self.agents[at].debug = !self.agents[at].debug;
                "instructions: an agent is changed"
            }
            3 => {
                let at = random.usize(0..self.goals.len());
                let tasks = &mut self.goals[at].tasks;
                let task = random.usize(0..tasks.len());
                tasks[task].wording += 1;
                "instructions: a goal is changed"
            }
            4 | 5 => {
                let text = self.text();
                let cut = random.usize(0..text.len());
                self.write(&text[..cut]);
                self.is_spoilt = true;
                return "instructions: half written";
            }
            6 => {
                _ = fs::remove_file(self.project.instructions());
                self.is_spoilt = true;
                return "instructions: deleted";
            }
            _ => {
                self.write("## Agents\n### not a name !\n- Gaol: x\n");
                self.is_spoilt = true;
                return "instructions: senseless";
            }
        };
        self.is_spoilt = false;
        self.write(&self.text());
        done
    }

    pub(crate) fn is_spoilt(&self) -> bool {
        self.is_spoilt
    }

    /// All files are as people want them.
    pub(crate) fn mend(&mut self) {
        if self.is_spoilt {
            self.is_spoilt = false;
            self.write(&self.text());
        }
        self.finish_line();
        let hidden: Vec<String> = self.hidden.keys().cloned().collect();
        hidden.iter().for_each(|agent| self.find_again(agent));
    }

    /// Somebody writes into a heartbeat file, often of a task that is `running`.
    pub(crate) fn direct(&mut self, random: &mut fastrand::Rng, running: &[String]) -> String {
        if self.finish_line() {
            return "heartbeat: the rest of a line".to_owned();
        }
        let name = self.agents[random.usize(0..self.agents.len())].name.clone();
        if random.u32(0..12) == 0 {
            self.hide(&name);
            return format!("heartbeat: {name}'s is deleted, until it is written again");
        }
        let goal = &self.goals[random.usize(0..self.goals.len())];
        let mut task = goal.tasks[random.usize(0..goal.tasks.len())].id.clone();
        if random.bool()
            && let Some(running) = random.choice(running)
        {
            task.clone_from(running);
        }
        let word = match random.u32(0..9) {
            0 => "PAUSE".to_owned(),
            1 | 2 => "RESUME".to_owned(),
            3 => "REPARSE".to_owned(),
            4 | 5 => format!("DROP-TASK {task}"),
            6 => format!("ELEVATE {task} {}", random.u32(0..50)),
            7 => "FLUSH-MEMORY".to_owned(),
            _ => "PLEASE HURRY".to_owned(),
        };
        let line = self.append(&name, &word);
        if random.u32(0..4) == 0 {
            // Saved by an editor in the middle of the line.
            let mut text = fs::read_to_string(self.heartbeat(&name)).expect("a heartbeat file");
            // Within what it says: a comment that is still being written changes nothing.
            let kept = random.usize(0..word.len());
            let rest = text.split_off(text.len() - line.len() - 1 + kept);
            fs::write(self.heartbeat(&name), text).expect("a heartbeat file");
            self.torn = Some((name.clone(), rest));
            return format!("heartbeat: {name}'s gets half of {line}");
        }
        format!("heartbeat: {name}'s gets {line}")
    }

    fn append(&mut self, agent: &str, word: &str) -> String {
        self.written += 1;
        let line = format!("{word} # n{:05}", self.written);
        let path = self.heartbeat(agent);
        self.find_again(agent);
        let mut text = fs::read_to_string(&path).unwrap_or_default();
        text.push_str(&line);
        text.push('\n');
        fs::write(path, text).expect("a heartbeat file");
        self.lines.entry(agent.to_owned()).or_default().push(line.clone());
        line
    }

    /// A heartbeat file is gone for a while.
    fn hide(&mut self, agent: &str) {
        let path = self.heartbeat(agent);
        if let Ok(text) = fs::read_to_string(&path) {
            self.hidden.insert(agent.to_owned(), text);
            fs::remove_file(path).expect("a heartbeat file");
        }
    }

    fn find_again(&mut self, agent: &str) {
        if let Some(text) = self.hidden.remove(agent) {
            fs::write(self.heartbeat(agent), text).expect("a heartbeat file");
        }
    }

    fn finish_line(&mut self) -> bool {
        let Some((agent, rest)) = self.torn.take() else { return false };
        let path = self.heartbeat(&agent);
        self.find_again(&agent);
        let mut text = fs::read_to_string(&path).unwrap_or_default();
        text.push_str(&rest);
        fs::write(path, text).expect("a heartbeat file");
        true
    }

    /// Every goal is planned anew.
    pub(crate) fn reparse_all(&mut self) {
        for agent in 0..self.goals.len() {
            let name = self.agents[agent].name.clone();
            self.append(&name, "REPARSE");
        }
    }

    /// Everybody may work again.
    pub(crate) fn resume_all(&mut self) {
        for name in self.declared() {
            if self.lines.get(&name).is_some_and(|lines| lines.iter().any(|l| l.contains("PAUSE")))
            {
                self.append(&name, "RESUME");
            }
        }
    }
}

/// A chain, a diamond, a fan, or layers.
fn goal(number: usize, random: &mut fastrand::Rng) -> Goal {
    let count = random.usize(3..=7);
    let shape = random.u32(0..4);
    let id = |n: usize| format!("g{number}t{n}");
    let tasks = (0..count).map(|n| {
        let after: Vec<String> = match shape {
            0 => n.checked_sub(1).map(id).into_iter().collect(),
            1 if n == 0 => Vec::new(),
            1 if n == count - 1 => (1..n).map(id).collect(),
            1 => vec![id(0)],
            2 if n == count - 1 => (0..n).map(id).collect(),
            2 => Vec::new(),
            _ => (n.saturating_sub(3)..n / 2).map(id).collect(),
        };
        let role = (random.u32(0..4) == 0).then_some(ROLES[0]);
        Task { id: id(n), wording: 1, after, priority: random.u32(0..3), role }
    });
    let tasks = tasks.collect();
    Goal { id: format!("goal-{number}"), max_attempts: random.u32(2..=4), tasks }
}
