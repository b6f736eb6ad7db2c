use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    globals: Globals,
    #[command(flatten)]
    args: Args,
}

fn resolve(words: &[&str]) -> Result<Settings, String> {
    let line = Line::try_parse_from([&["orch"], words].concat()).map_err(|e| e.to_string())?;
    line.args.resolve(&line.globals, &|_| None).map_err(|e| e.to_string())
}

fn orchestrator(words: &[&str]) -> settings::Orchestrator {
    match resolve(&[&["--role", "orchestrator"], words].concat()) {
        Ok(Settings::Orchestrator(settings)) => settings,
        other => panic!("{other:?}"),
    }
}

fn agent(words: &[&str]) -> settings::Agent {
    let needed = ["--role", "agent", "--agent-name", "research_agent", "--goal-id", "goal-001"];
    match resolve(&[&needed, words].concat()) {
        Ok(Settings::Agent(settings)) => settings,
        other => panic!("{other:?}"),
    }
}

fn refused(words: &[&str]) -> String {
    resolve(words).unwrap_err()
}

#[test]
fn orchestrator_should_have_defaults_that_work() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let settings = orchestrator(&["--project", root.to_str().unwrap()]);
    assert_eq!(settings.common.project, root);
    assert_eq!(settings.instructions, root.join("INSTRUCTIONS.md"));
    assert_eq!(settings.controllers, Controller::ALL);
    assert_eq!(settings.common.lease_ttl, Duration::from_secs(30));
    assert_eq!(settings.common.heartbeat_interval, Duration::from_secs(5));
    assert_eq!((settings.resync, settings.common.grace), (RESYNC, Duration::from_secs(5)));
}

#[test]
fn project_should_be_the_folder_of_the_instructions() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let file = root.join("INSTRUCTIONS.md");
    let settings = orchestrator(&["--instructions", file.to_str().unwrap()]);
    assert_eq!((settings.common.project, settings.instructions), (root.clone(), file.clone()));
    let other = tempfile::tempdir().unwrap();
    let outside = refused(&[
        "--role",
        "orchestrator",
        "--project",
        other.path().to_str().unwrap(),
        "--instructions",
        file.to_str().unwrap(),
    ]);
    assert!(outside.contains("outside the project"), "{outside}");
    let is_folder = refused(&["--role", "orchestrator", "--instructions", root.to_str().unwrap()]);
    assert!(is_folder.contains("is a folder"), "{is_folder}");
}

#[test]
fn intervals_of_the_reference_should_bound_the_resync() {
    let quick = orchestrator(&["--poll-interval", "0.5", "--loop-interval", "60"]);
    assert_eq!(quick.resync, Duration::from_millis(500));
    let slow = orchestrator(&["--instruction-interval", "300"]);
    assert_eq!(slow.resync, RESYNC);
    assert_eq!(agent(&["--loop-interval", "1s"]).cadence, Duration::from_secs(1));
}

#[test]
fn signs_of_life_should_come_often_enough_for_the_lease() {
    let short = orchestrator(&["--lease-ttl", "0.6"]);
    assert_eq!(short.common.heartbeat_interval, Duration::from_millis(200));
    // The reference's interval is that of its files, 300 s.
    let slow = orchestrator(&["--heartbeat-interval", "300"]);
    assert_eq!(slow.common.heartbeat_interval, Duration::from_secs(10));
}

#[test]
fn agent_should_have_defaults_from_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let settings = agent(&["--project", root.to_str().unwrap()]);
    assert_eq!(settings.role.as_str(), "research");
    assert_eq!(settings.instructions, root.join("instructions/research_agent.md"));
    assert_eq!(settings.heartbeat, root.join("heartbeat/research_agent.md"));
    assert_eq!((settings.cadence, settings.provider.as_str()), (CADENCE, OFFLINE));
}

#[test]
fn agent_should_be_told_what_it_lacks() {
    let error = refused(&["--role", "agent", "--goal-id", "g"]);
    assert!(error.contains("--agent-name"), "{error}");
    let error = refused(&["--role", "agent", "--agent-name", "a"]);
    assert!(error.contains("--goal-id"), "{error}");
    let error = refused(&["--role", "agent", "--agent-name", "a:b", "--goal-id", "g"]);
    assert!(error.contains("a:b"), "{error}");
    let base = ["--role", "agent", "--agent-name", "a", "--goal-id", "g"];
    let error = refused(&[&base[..], &["--heartbeat", "/etc/passwd"]].concat());
    assert!(error.contains("/etc/passwd"), "{error}");
}

#[test]
fn flags_of_the_reference_should_all_be_read() {
    let line = Line::try_parse_from([
        "orch",
        "--role",
        "agent",
        "--agent-name",
        "a",
        "--agent-role",
        "r",
        "--goal-id",
        "g",
        "--log-style",
        "event",
        "--color",
        "never",
        "--idle-log-interval",
        "60",
        "--llm-provider",
        "offline",
        "--llm-cli",
        "x",
        "--llm-extra-arg",
        "--flag",
        "--llm-extra-arg",
        "b",
        "--llm-use-sysg",
    ])
    .unwrap();
    assert_eq!(line.args.idle_flags(), ["--llm-cli", "--llm-extra-arg", "--llm-use-sysg"]);
    let line = Line::try_parse_from([
        "orch",
        "--role",
        "orchestrator",
        "--claude-cli",
        "x",
        "--claude-extra-arg",
        "-y",
        "--claude-use-sysg",
        "--log-level",
        "warning",
    ])
    .unwrap();
    assert_eq!(line.args.idle_flags().len(), 3);
    assert_eq!(line.args.log_level, LogLevel::Warn);
}

#[test]
fn provider_that_does_not_exist_should_be_refused_with_what_does() {
    let error = refused(&["--role", "orchestrator", "--llm-provider", "claude"]);
    assert!(error.contains("only `offline`"), "{error}");
}

#[test]
fn controllers_should_be_picked_and_checked() {
    let picked = orchestrator(&["--controllers", "lease,agent,lease"]);
    assert_eq!(picked.controllers, [Controller::Agent, Controller::Lease]);
    let error = refused(&["--role", "orchestrator", "--controllers", "agent,brain"]);
    assert!(error.contains("brain") && error.contains("heartbeat"), "{error}");
    let error = refused(&["--role", "orchestrator", "--controllers", ""]);
    assert!(error.contains("controller"), "{error}");
}
