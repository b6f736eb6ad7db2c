//! Verbs that set up and check, and what is common to all: options, errors, help.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use testkit::{DEADLINE, RedisServer, wait_until_blocking};

use crate::support::{Running, Said, command, orch};

#[test]
fn unreachable_redis_should_be_said_without_the_password() {
    let folder = tempfile::tempdir().unwrap();
    let url = "redis://bob:s3cret@127.0.0.1:1/0";
    for verb in [&["status"][..], &["tasks"], &["explain", "x"], &["events"], &["retry", "x"]] {
        let error = orch(folder.path(), &[verb, &["--redis-url", url]].concat()).failed(3);
        assert!(error.contains("redis://bob:***@127.0.0.1:1/0"), "{verb:?}: {error}");
        assert!(!error.contains("s3cret") && error.contains("--redis-url"), "{verb:?}: {error}");
    }
}

#[test]
fn wrong_password_should_be_said_as_such() {
    let redis = RedisServer::options().password("right-one").start();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("redis://:wrong-one@127.0.0.1:{}", redis.port());
    let error = orch(folder.path(), &["--redis-url", &url, "status"]).failed(3);
    assert!(error.contains("password") && !error.contains("wrong-one"), "{error}");
    let url = format!("redis://127.0.0.1:{}", redis.port());
    let error = orch(folder.path(), &["status", "--redis-url", &url]).failed(3);
    assert!(error.contains("password"), "{error}");
    let file = folder.path().join("url");
    std::fs::write(&file, redis.url()).unwrap();
    let by_file = ["status", "--redis-url-file", "url"];
    let error = orch(folder.path(), &by_file).failed(2);
    assert!(error.contains("chmod 600"), "{error}");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, private).unwrap();
    assert!(orch(folder.path(), &by_file).ok().contains("GOALS"));
}

#[test]
fn env_file_of_the_project_should_be_read_and_lose_against_variables() {
    let redis = RedisServer::start();
    let (project, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(project.path().join(".env"), format!("REDIS_URL={}\n", redis.url())).unwrap();
    assert!(orch(project.path(), &["status"]).ok().contains(&redis.url()));
    let by_option = ["status", "--project", project.path().to_str().unwrap()];
    assert!(orch(elsewhere.path(), &by_option).ok().contains(&redis.url()));
    let output =
        command(project.path()).arg("status").env("REDIS_URL", "redis://127.0.0.1:1").output();
    assert!(Said::from(&output.unwrap()).failed(3).contains("127.0.0.1:1 (from REDIS_URL,"));
    std::fs::write(project.path().join(".env"), "REDIS_URL='redis://:s3cret@x\n").unwrap();
    let error = orch(project.path(), &["status"]).failed(2);
    assert!(error.contains(".env") && !error.contains("s3cret"), "{error}");
}

#[test]
fn bad_command_lines_should_be_refused_with_what_to_write() {
    let folder = tempfile::tempdir().unwrap();
    for (args, expected) in [
        (&["run"][..], "--role"),
        (&["run", "--role", "boss"], "orchestrator"),
        (&["--role", "agent", "--goal-id", "g"], "--agent-name"),
        (&["run", "--role", "agent", "--agent-name", "a"], "--goal-id"),
        (&["run", "--role", "orchestrator", "--lease-ttl", "soon"], "500ms"),
        (&["run", "--role", "orchestrator", "--lease-ttl", "0"], "10ms"),
        (&["run", "--role", "orchestrator", "--controllers", "brain"], "heartbeat"),
        (&["run", "--role", "orchestrator", "--llm-provider", "clade"], "offline"),
        (&["run", "--role", "orchestrator", "--log-level", "LOUD"], "DEBUG"),
        (&["status", "--redis-url", "http://x"], "redis://"),
        (&["status", "--project", "no-such-folder"], "no-such-folder"),
        (&["status", "--format", "xml"], "json"),
        (&["explain"], "TASK"),
        (&["no-such-verb\x1b[2J"], "no-such-verb"),
    ] {
        let error = orch(folder.path(), args).failed(2);
        assert!(error.contains(expected), "{args:?}: {error}");
        assert!(!error.contains('\x1b'), "{error:?}");
    }
}

#[test]
fn help_should_name_every_verb_and_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let help = orch(folder.path(), &["--help"]).ok();
    for word in
        ["run", "status", "explain", "validate", "init", "doctor", "Exit codes:", "orch init"]
    {
        assert!(help.contains(word), "{word}: {help}");
    }
    let short = orch(folder.path(), &["run", "-h"]).ok();
    assert!(short.contains("--lease-ttl") && !short.contains("--spec-hash"), "{short}");
    let long = orch(folder.path(), &["run", "--help"]).ok();
    assert!(long.contains("--spec-hash") && long.contains("--llm-use-sysg"), "{long}");
    assert!(orch(folder.path(), &["completions", "bash"]).ok().contains("complete -F _orch"));
    assert!(orch(folder.path(), &["man"]).ok().contains(".TH orch 1"));
    assert!(orch(folder.path(), &["man", "run"]).ok().contains("lease\\-ttl"));
    assert_eq!(orch(folder.path(), &["man", "nothing"]).code, 4);
}

#[test]
fn closed_output_should_end_it_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = command(folder.path())
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut error = String::new();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert_eq!((child.wait().unwrap().code(), error.as_str()), (Some(0), ""));
}

#[test]
fn init_should_make_a_project_that_is_valid_and_refuse_to_overwrite() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(".gitignore"), "/target").unwrap();
    let said = orch(folder.path(), &["init", "--redis-port", "7001"]).ok();
    assert!(said.contains("sysg start") && said.contains("INSTRUCTIONS.md"), "{said}");
    let ignored = std::fs::read_to_string(folder.path().join(".gitignore")).unwrap();
    assert_eq!(ignored, "/target\n/.orch\n/.env\n/heartbeat/*.ack.md\n");
    let env = std::fs::read_to_string(folder.path().join(".env")).unwrap();
    assert!(env.contains("REDIS_URL=redis://127.0.0.1:7001\n"), "{env}");
    assert!(env.contains("\nORCH_REDIS_PORT=7001\n"), "{env}");
    assert!(env.contains("\nORCH_LLM_PROVIDER=offline\n") && !env.contains('{'), "{env}");
    let mode = std::fs::metadata(folder.path().join(".env")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let manifest = std::fs::read_to_string(folder.path().join("systemg.yaml")).unwrap();
    assert!(manifest.contains(env!("CARGO_BIN_EXE_orch")), "{manifest}");

    let json = orch(folder.path(), &["validate", "--format", "json"]).json();
    assert_eq!(
        (&json["agents"], &json["goals"], &json["tasks"]),
        (&2.into(), &1.into(), &2.into())
    );
    assert_eq!((&json["valid"], &json["problems"]), (&true.into(), &serde_json::json!([])));

    std::fs::write(folder.path().join("INSTRUCTIONS.md"), "mine").unwrap();
    let error = orch(folder.path(), &["init"]).failed(1);
    assert!(error.contains("INSTRUCTIONS.md, instructions/research_agent.md"), "{error}");
    assert_eq!(std::fs::read_to_string(folder.path().join("INSTRUCTIONS.md")).unwrap(), "mine");
}

#[test]
fn instructions_should_be_created_once_unless_forced() {
    let folder = tempfile::tempdir().unwrap();
    let create = ["instructions", "create", "-n", "new_agent", "-p", "texts"];
    orch(folder.path(), &create).ok();
    let file = folder.path().join("texts/new_agent.md");
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("# new_agent\n"));
    std::fs::write(&file, "mine").unwrap();
    let error = orch(folder.path(), &create).failed(1);
    assert!(error.contains("--force"), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    orch(folder.path(), &[&create[..], &["--force"]].concat()).ok();
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("# new_agent\n"));
    let error = orch(folder.path(), &["instructions", "create", "-n", "../x"]).failed(2);
    assert!(error.contains("../x"), "{error}");
}

#[test]
fn validate_should_point_at_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("INSTRUCTIONS.md");
    let good = "## Goals\n### goal-001\nText.\n\n## Agents\n### research_agent\n- Goal: goal-001\n\
                - Heartbeat: ./heartbeat/research.md\n";
    std::fs::write(&file, good).unwrap();
    std::fs::create_dir(folder.path().join("heartbeat")).unwrap();
    let heartbeat = folder.path().join("heartbeat/research.md");
    std::fs::write(&heartbeat, "PAUSE\n# a comment\nPUASE\x1b[2J\n").unwrap();
    let text = orch(folder.path(), &["validate"]).ok();
    assert!(text.contains("heartbeat/research.md:3:1: warning"), "{text}");
    assert!(text.contains("0 errors, 1 warning") && !text.contains('\x1b'), "{text}");

    std::fs::write(&file, good.replace("./heartbeat/research.md", "../../outside.md")).unwrap();
    let said = orch(folder.path(), &["validate"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.contains("INSTRUCTIONS.md:8:14: error"), "{}", said.out);
    assert!(said.out.contains("- Heartbeat: ../../outside.md"), "{}", said.out);
    let said = orch(folder.path(), &["validate", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, &json["problems"][0]["line"]), (1, &8.into()), "{json:#}");

    std::fs::remove_file(&file).unwrap();
    assert!(orch(folder.path(), &["validate"]).failed(4).contains("orch init"));
    let made = Command::new("mkfifo").arg(&file).status().unwrap();
    assert!(made.success());
    let said = orch(folder.path(), &["validate"]);
    assert!(said.code == 1 && said.out.contains("FIFO"), "{said:?}");
    let said = orch(folder.path(), &["validate", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, &json["valid"]), (1, &false.into()), "{json:#}");
    assert_eq!(json["problems"][0]["file"], "INSTRUCTIONS.md", "{json:#}");
}

#[test]
fn doctor_should_find_what_is_wrong_and_say_what_to_do() {
    let redis = RedisServer::options().append_only().start();
    let folder = tempfile::tempdir().unwrap();
    orch(folder.path(), &["init", "--redis-port", &redis.port().to_string()]).ok();
    let sysg = testkit::sysg_path();
    let sysg = sysg.to_str().unwrap();
    let json = orch(folder.path(), &["doctor", "--sysg", sysg, "--format", "json"]).json();
    let grade = |json: &serde_json::Value, name: &str| {
        let checks = json["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["name"] == name);
        check.unwrap_or_else(|| panic!("{name}: {json:#}"))["grade"].as_str().unwrap().to_owned()
    };
    for name in
        ["redis", "persistence", "memory", "clock", "instructions", "systemg", "spawn limits"]
    {
        assert_eq!(grade(&json, name), "ok", "{name}: {json:#}");
    }

    let manifest = folder.path().join("systemg.yaml");
    let text = std::fs::read_to_string(&manifest).unwrap().replace("children: 512", "children: 1");
    std::fs::write(&manifest, text).unwrap();
    let away = ["--redis-url", "redis://127.0.0.1:1", "--sysg", "/no/such/sysg"];
    let said = orch(folder.path(), &[&["doctor", "--format", "json"][..], &away].concat());
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, &json["ok"]), (1, &false.into()), "{json:#}");
    for name in ["redis", "systemg", "spawn limits"] {
        assert_eq!(grade(&json, name), "fail", "{name}: {json:#}");
    }
    let said = orch(folder.path(), &[&["doctor"][..], &away].concat());
    assert!(said.out.contains("-> raise `spawn.limits`"), "{}", said.out);
}

#[test]
fn run_should_end_when_it_is_told_to_and_log_in_the_reference_format() {
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    orch(folder.path(), &["init", "--redis-port", &redis.port().to_string()]).ok();
    let args = ["--role", "agent", "--agent-name", "research_agent", "--goal-id", "goal-001"];
    let log = folder.path().join("log");
    let mut child = command(folder.path());
    child.args(args).stdout(std::fs::File::create(&log).unwrap());
    let mut child = Running(child.spawn().unwrap());
    let read = || std::fs::read_to_string(&log).unwrap();
    wait_until_blocking("the agent registers", DEADLINE, || {
        if read().contains("Registered") { Ok(()) } else { Err(read()) }
    });
    let text = read();
    let line = text.lines().find(|line| line.contains("Registered")).unwrap();
    let (time, rest) = line.split_at(20);
    assert!(rest.starts_with("INFO runtime: [research_agent] Registered"), "{line}");
    assert!(time.starts_with("20") && &time[10..11] == " " && time.ends_with(' '), "{line}");
    let status = Command::new("kill").arg(child.0.id().to_string()).status().unwrap();
    assert!(status.success());
    let ended = wait_until_blocking("the agent ends", DEADLINE, || match child.0.try_wait() {
        Ok(Some(status)) => Ok(status),
        other => Err(format!("{other:?}: {}", read())),
    });
    assert_eq!(ended.code(), Some(0), "{}", read());
}

#[test]
fn variables_set_to_nothing_should_count_as_unset() {
    let folder = tempfile::tempdir().unwrap();
    orch(folder.path(), &["init", "--redis-port", "7001"]).ok();
    let empty = ["ORCH_COLOR", "ORCH_REDIS_CA", "ORCH_INSTRUCTIONS", "ORCH_SYSG"];
    let run = |args: &[&str]| {
        let mut command = command(folder.path());
        Said::from(&command.args(args).envs(empty.map(|name| (name, ""))).output().unwrap())
    };
    run(&["validate"]).ok();
    // Of a verb's own options, too: it fails at a file, which is read after all of them.
    let mut command = command(folder.path());
    command.args(["run", "--role", "orchestrator", "--redis-url-file", "missing"]);
    for name in ["ORCH_LEASE_TTL", "ORCH_GRACE", "ORCH_LOG_LEVEL", "ORCH_LLM_MAX_CONCURRENCY"] {
        command.env(name, "");
    }
    let error = Said::from(&command.output().unwrap()).failed(2);
    assert!(error.starts_with("error: cannot use --redis-url-file "), "{error}");
}
