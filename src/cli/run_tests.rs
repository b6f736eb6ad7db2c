use clap::Parser;
use model::Provider;

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
fn metrics_should_be_told_where_asked_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let asked = |words: &[&str], variable: Option<&str>| {
        let all = [&["orch", "--role", "orchestrator"], words].concat();
        let line = Line::try_parse_from(all).map_err(|e| e.to_string())?;
        let globals = Globals { project: Some(folder.path().to_owned()), ..line.globals };
        let named =
            |name: &str| variable.filter(|_| name == "ORCH_METRICS_ADDR").map(str::to_owned);
        match line.args.resolve(&globals, &named).map_err(|e| e.to_string())? {
            Settings::Orchestrator(settings) => Ok(settings.metrics.map(|at| at.to_string())),
            Settings::Agent(_) => Err("an agent".to_owned()),
        }
    };
    assert_eq!(asked(&[], None), Ok(None));
    assert_eq!(asked(&[], Some("9464")), Ok(Some("127.0.0.1:9464".to_owned())));
    let option = ["--metrics-addr", "0.0.0.0:80"];
    assert_eq!(asked(&option, Some("9464")), Ok(Some("0.0.0.0:80".to_owned())));
    assert!(asked(&["--metrics-addr", "here"], None).unwrap_err().contains("9464"));
    assert!(asked(&[], Some("here")).unwrap_err().contains("ORCH_METRICS_ADDR"));
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
    assert_eq!((settings.cadence, settings.llm.provider), (CADENCE, Provider::Claude));
    assert_eq!((settings.llm.slots, settings.llm.use_sysg), (2, false));
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
    let llm = line.args.llm.resolve(&|_| None).unwrap();
    assert_eq!((llm.provider, llm.use_sysg), (Provider::Offline, true));
    assert_eq!(llm.extra_args, ["--flag", "b"]);
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
    let llm = line.args.llm.resolve(&|_| None).unwrap();
    assert_eq!(llm.programs[&Provider::Claude], "x");
    assert_eq!((llm.extra_args, llm.use_sysg), (vec!["-y".to_owned()], true));
    assert_eq!(line.args.log_level, LogLevel::Warn);
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

#[test]
fn slots_should_be_those_of_the_flag_or_of_the_references_variable() {
    let slots = |flag: &[&str], variable: Option<&str>| {
        let words = [&["orch", "--role", "orchestrator"], flag].concat();
        let line = Line::try_parse_from(words).unwrap();
        let of = |name: &str| {
            (name == "PORKI_LLM_MAX_CONCURRENCY").then_some(variable).flatten().map(str::to_owned)
        };
        line.args.llm.resolve(&of).map(|llm| llm.slots).map_err(|error| error.to_string())
    };
    assert_eq!(slots(&[], Some("7")), Ok(7));
    assert_eq!(slots(&["--llm-max-concurrency", "3"], Some("7")), Ok(3));
    assert!(slots(&[], Some("many")).unwrap_err().contains("PORKI_LLM_MAX_CONCURRENCY"));
    assert!(slots(&[], Some("0")).is_err());
}

#[test]
fn unknown_provider_should_be_refused_with_those_there_are() {
    let error = refused(&["--role", "orchestrator", "--llm-provider", "gpt"]);
    assert!(error.contains("claude") && error.contains("offline"), "{error}");
}

#[test]
fn prompt_should_need_no_role_and_nothing_else_may() {
    assert!(Line::try_parse_from(["orch", "-p", "hello"]).is_ok());
    assert!(Line::try_parse_from(["orch"]).is_err());
    assert!(Line::try_parse_from(["orch", "-p", "hello", "--role", "agent"]).is_err());
}

#[test]
fn arguments_of_an_agent_should_read_back_as_its_settings() {
    let words = ["--llm-provider", "codex", "--llm-model", "m", "--llm-cli", "/bin/x"];
    let more = ["--llm-extra-arg=-y", "--llm-max-concurrency", "5", "--llm-use-sysg"];
    let given = agent(&[&words[..], &more].concat()).llm;
    let arguments = given.arguments();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let again = agent(&words).llm;
    assert_eq!(format!("{given:?}"), format!("{again:?}"));
    // Somebody else's model and arguments are not this one's.
    let claude = given.as_asked(Some(Provider::Claude), None);
    assert_eq!((claude.model, claude.extra_args.len()), (None, 0));
    assert_eq!(given.as_asked(None, Some("n")).model.as_deref(), Some("n"));
}
