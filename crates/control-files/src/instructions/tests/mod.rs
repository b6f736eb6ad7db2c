//! Whole files: what they declare, what is wrong in them, and what stays in force.

use std::time::Duration;

use super::*;
use model::agent::LogLevel;
use model::{AgentSpec, GoalSpec, Provider, TaskId};

mod errors;
mod large;
mod models;
mod trust;

/// The form that must work as it stands.
const SEED: &str = "\
## Agents

### research_agent
- Goal: goal-001
- Heartbeat: ./heartbeat/research.md
- Log Level: INFO

### analysis_agent
- Goal: goal-001
- Heartbeat: ./heartbeat/analysis.md
- Log Level: DEBUG
";

const FULL: &str = "\
# A project

Some prose, with a list:
- Goal: not one of ours

## Agents

### research_agent
- Goal: goal-001
- Heartbeat: ./heartbeat/research.md
- Log Level: INFO

### analysis_agent
Its job, in prose.

- **Goal:** `goal-001`
- Role: analysis
- Instructions: ./notes/analysis.md
- Cadence: 5s
- provider: claude
- Model: sonnet-4

## Goals

### goal-001: A health report
What is wanted, in prose.

- of this
- and: that

It goes on.

- Priority: 10
- Max attempts: 2
- Timeout: 10m
- Folder: ./out

#### Tasks
- task-001: Count the lines (of every crate) -> lines.json, sub/lines.csv
  ```sh
  wc -l src/*.rs > lines.json
    indented
  ```
- task-002: Write the report (after: task-001; priority: 5; role: analysis; verify: test -s report.md) -> report.md
- task-003: Check it
  - after: task-001, task-002
  - verify: grep -q '(a; b)' report.md; true
  - verify: test -s x
  - timeout: 90s
  - max attempts: 1

  A note on it.

## Notes

- after: nothing
";

struct Project(tempfile::TempDir);

impl Project {
    fn new() -> Self {
        let project = Self(tempfile::tempdir().unwrap());
        for (path, text) in [
            ("instructions/research_agent.md", "# Find out\n\nwhat is true.\n"),
            ("notes/analysis.md", "Analyse.\n"),
        ] {
            project.write(path, text);
        }
        project
    }

    fn root(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap().join("project")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn parse(&self, text: &str) -> Parsed {
        parse(&self.root(), Path::new("INSTRUCTIONS.md"), text)
    }

    /// All diagnostics as they are printed, without this machine's paths.
    fn shown(&self, text: &str) -> String {
        let shown: Vec<_> = self.parse(text).diagnostics.iter().map(ToString::to_string).collect();
        let folder = self.0.path().canonicalize().unwrap().display().to_string();
        shown.join("\n").replace(&folder, "")
    }

    fn good(&self, text: &str) -> Declared {
        let parsed = self.parse(text);
        assert!(parsed.is_valid(), "{}", self.shown(text));
        parsed.declared
    }
}

fn agent<'d>(declared: &'d Declared, name: &str) -> &'d AgentSpec {
    &declared.agents[&AgentName::new(name).unwrap()]
}

fn goal<'d>(declared: &'d Declared, id: &str) -> &'d GoalSpec {
    &declared.goals[&GoalId::new(id).unwrap()]
}

fn names(declared: &Declared) -> Vec<&str> {
    declared.agents.keys().map(AgentName::as_str).collect()
}

#[test]
fn seed_should_declare_what_it_says() {
    let project = Project::new();
    let declared = project.good(SEED);
    assert_eq!(names(&declared), ["analysis_agent", "research_agent"]);
    let research = agent(&declared, "research_agent");
    assert_eq!(research.goal.as_str(), "goal-001");
    assert_eq!(research.role.as_str(), "research");
    assert_eq!(research.log_level, LogLevel::Info);
    assert_eq!(research.heartbeat, project.root().join("heartbeat/research.md"));
    assert_eq!(research.instructions, project.root().join("instructions/research_agent.md"));
    assert_eq!(agent(&declared, "analysis_agent").log_level, LogLevel::Debug);
    // The goal is only named: its text is the first agent's instructions.
    let goal = goal(&declared, "goal-001");
    assert_eq!((goal.title.as_str(), goal.tasks.as_ref()), ("Find out", None));
    assert_eq!(goal.text, "# Find out\n\nwhat is true.");
    let reads = project.parse(SEED).reads;
    assert!(reads.contains(&research.instructions), "{reads:?}");
}

#[test]
fn full_form_should_declare_what_it_says() {
    let project = Project::new();
    let declared = project.good(FULL);
    assert_eq!(project.shown(FULL), "");
    let analysis = agent(&declared, "analysis_agent");
    assert_eq!(analysis.heartbeat, project.root().join("heartbeat/analysis_agent.md"));
    assert_eq!(analysis.instructions, project.root().join("notes/analysis.md"));
    assert_eq!(analysis.cadence, Some(Duration::from_secs(5)));
    assert_eq!(analysis.provider, Some(Provider::Claude));
    assert_eq!(analysis.model.as_deref(), Some("sonnet-4"));
    let goal = goal(&declared, "goal-001");
    assert_eq!(goal.title, "A health report");
    assert_eq!(goal.text, "What is wanted, in prose.\n\n- of this\n- and: that\n\nIt goes on.");
    assert_eq!((goal.priority, goal.max_attempts, goal.timeout_secs), (10, Some(2), Some(600)));
    assert_eq!(goal.folder.as_deref(), Some("out"));
}

#[test]
fn tasks_should_be_pinned_with_what_their_goal_says_filled_in() {
    let declared = Project::new().good(FULL);
    let tasks = goal(&declared, "goal-001").tasks.as_ref().unwrap();
    let [count, write, check] = &tasks[..] else { panic!("{tasks:?}") };
    assert_eq!(count.spec.title, "Count the lines (of every crate)");
    assert_eq!(count.spec.expected_artifacts, ["lines.json", "sub/lines.csv"]);
    assert_eq!(count.spec.run.as_deref(), Some("wc -l src/*.rs > lines.json\n  indented\n"));
    assert_eq!((count.spec.priority, count.spec.max_attempts), (10, Some(2)));
    assert_eq!(count.spec.timeout_secs, Some(600));
    assert_eq!(write.spec.title, "Write the report");
    assert_eq!(write.after, [TaskId::new("task-001").unwrap()]);
    assert_eq!(write.spec.priority, 5);
    assert_eq!(write.spec.role.as_ref().unwrap().as_str(), "analysis");
    assert_eq!(write.spec.verify, ["test -s report.md"]);
    assert_eq!(write.spec.expected_artifacts, ["report.md"]);
    assert_eq!(check.spec.verify, ["grep -q '(a; b)' report.md; true", "test -s x"]);
    assert_eq!((check.spec.timeout_secs, check.spec.max_attempts), (Some(90), Some(1)));
    assert_eq!(check.after.len(), 2);
    assert_eq!(check.spec.metadata["notes"], "A note on it.");
}

#[test]
fn yaml_should_declare_agents_in_fences_and_front_matter() {
    let list = "\
agents:
  - name: research_agent
    role: manager
    goal_id: 001
    heartbeat: heartbeat/research.md
    log-level: DEBUG
    cadence: 5s
  - name: analysis_agent
    goal: \"001\"
    instructions: ./notes/analysis.md
    log_level: warning
";
    let project = Project::new();
    let texts = [
        format!("# Prose\n\n```yaml\nversion: 1\n{list}```\n"),
        format!("```\n{list}```\n"),
        format!("## Agents\n\n### All\n\n```yml\r\n{}```\r\n", list.replace('\n', "\r\n")),
        format!("\u{feff}---\ntitle: x\n{list}---\n\n# Prose\n"),
    ];
    for text in texts {
        let declared = project.good(&text);
        assert_eq!(names(&declared), ["analysis_agent", "research_agent"], "{text}");
        let research = agent(&declared, "research_agent");
        assert_eq!((research.goal.as_str(), research.role.as_str()), ("001", "manager"));
        assert_eq!(research.cadence, Some(Duration::from_secs(5)));
        assert_eq!(agent(&declared, "analysis_agent").log_level, LogLevel::Warn);
        assert_eq!(goal(&declared, "001").title, "Find out");
    }
}

#[test]
fn both_forms_of_one_agent_should_have_one_fingerprint() {
    let project = Project::new();
    let yaml = "```yaml\nagents:\n- {name: research_agent, goal: goal-001, heartbeat: ./heartbeat/research.md, log-level: INFO}\n```\n";
    let hash = |text| agent(&project.good(text), "research_agent").spec_hash.clone();
    assert_eq!(hash(yaml), hash(SEED));
    assert_eq!(hash(SEED).len(), 32);
}

#[test]
fn fingerprints_should_change_with_what_is_declared_and_nothing_else() {
    let project = Project::new();
    let hashes = |text: &str| {
        let declared = project.good(text);
        (
            agent(&declared, "research_agent").spec_hash.clone(),
            agent(&declared, "analysis_agent").spec_hash.clone(),
            goal(&declared, "goal-001").spec_hash.clone(),
        )
    };
    let before = hashes(FULL);
    let (head, rest) = FULL.split_once("### research_agent").unwrap();
    let (research, rest) = rest.split_once("### analysis_agent").unwrap();
    let (analysis, rest) = rest.split_once("## Goals").unwrap();
    let swapped =
        format!("{head}### analysis_agent{analysis}### research_agent{research}## Goals{rest}");
    for same in [
        swapped,
        FULL.replace("\n\n", "\n\n\n"),
        FULL.replace("Some prose", "Other prose"),
        FULL.replace('\n', "\r\n"),
        FULL.replace("- Goal", "*   goal"),
    ] {
        assert_eq!(hashes(&same), before, "{same}");
    }
    let after = hashes(&FULL.replace("Log Level: INFO", "Log Level: TRACE"));
    assert!(after.0 != before.0 && after.1 == before.1 && after.2 == before.2);
    for changed in [
        FULL.replace("in prose.\n\n- of", "in words.\n\n- of"),
        FULL.replace("wc -l", "wc -c"),
        FULL.replace("after: task-001;", "after: ;"),
        FULL.replace("Priority: 10", "Priority: 11"),
    ] {
        let after = hashes(&changed);
        assert!(after.0 == before.0 && after.2 != before.2, "{changed}");
    }
}

#[test]
fn titles_should_keep_their_parentheses_and_arrows() {
    let project = Project::new();
    let read = |line: &str| {
        let text = format!("{SEED}## Goals\n### goal-001\n#### Tasks\n- b: x\n- {line}\n");
        let declared = project.good(&text);
        let task = goal(&declared, "goal-001").tasks.as_ref().unwrap()[1].clone();
        (task.spec.title, task.after.len(), task.spec.verify, task.spec.expected_artifacts)
    };
    let expect = |title: &str, after: usize, verify: &[&str], artifacts: &[&str]| {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        (title.to_owned(), after, owned(verify), owned(artifacts))
    };
    for (line, expected) in [
        ("a: Do (not) this", expect("Do (not) this", 0, &[], &[])),
        ("a: Don't (really don't) (after: b)", expect("Don't (really don't)", 1, &[], &[])),
        ("a: Note (see: below)", expect("Note (see: below)", 0, &[], &[])),
        ("a: Map `x -> y` -> z.md", expect("Map `x -> y`", 0, &[], &["z.md"])),
        ("a: x -> y -> z", expect("x -> y", 0, &[], &["z"])),
        ("a: x->y", expect("x->y", 0, &[], &[])),
        ("a: T -> `./o.md` (after: b)", expect("T", 1, &[], &["o.md"])),
        (
            "a: T (verify: test -s 'a;b)' -a \"(\" ) -> o",
            expect("T", 0, &["test -s 'a;b)' -a \"(\""], &["o"]),
        ),
        ("a: T (verify: \"a; b, c\"; after: b)", expect("T", 1, &["a; b, c"], &[])),
        ("a: T (verify: (cd x; make); verify: y)", expect("T", 0, &["(cd x; make)", "y"], &[])),
        ("[ ] **a**: T (after: b)", expect("T", 1, &[], &[])),
        ("**a:** T\n  goes on", expect("T goes on", 0, &[], &[])),
        ("a:", expect("a", 0, &[], &[])),
        ("a: Größe (日本) (after: b) -> größe.md", expect("Größe (日本)", 1, &[], &["größe.md"])),
    ] {
        assert_eq!(read(line), expected, "{line}");
    }
}

#[test]
fn instructions_of_the_manager_should_come_before_those_of_the_first_agent() {
    let project = Project::new();
    project.write("instructions/boss.md", "Lead.\n");
    let text = format!("{SEED}### boss\n- Goal: goal-001\n- Role: manager\n");
    assert_eq!(goal(&project.good(&text), "goal-001").text, "Lead.");
}
