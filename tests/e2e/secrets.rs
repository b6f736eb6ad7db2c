//! Secrets reach those who are meant to have them, and nothing that orch writes or shows.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use model::GoalId;
use model::task::State;
use testkit::{OtlpSink, free_port, http_get, wait_until};

use crate::support::{Builder, DEADLINE, Fleet, fleet, goal, task};

/// Each stands in a variable, and no two have the same beginning.
const API_KEY: &str = "aacanary-Anthropic/1";
const OTHER_KEY: &str = "bbcanary-OpenAi+2";
const PASSWORD: &str = "cccanary-of-dotenv-3";
const OF_REDIS: &str = "ddcanaryofredis4";
const OF_COLLECTOR: &str = "eecanary-bearer-5";

/// What all of them have in common.
const CANARY: &str = "canary";

/// A model's program that tells what it knows, and fails where a test wants it to.
const MODEL: &str = r#"#!/bin/sh
request=$(cat)
said="keys: $OPENAI_API_KEY $ANTHROPIC_API_KEY $DB_PASSWORD"
echo "on stderr $said" >&2
case $request in
*'"step":"decompose"'*) exit 3 ;;
*'"step":"summarise"'*) echo "{\"value\": {\"summary\": \"$said\"}}" ;;
*'The task `task-002`'*) exit 3 ;;
*) echo "{\"value\": {\"status\": \"done\", \"notes\": \"$said\", \"outputs\": [], \"follow_ups\": []}}" ;;
esac
"#;

/// A shell block that tells what it knows, and fails.
const BLOCK: &str =
    "echo \"$ANTHROPIC_API_KEY $DB_PASSWORD $REDIS_URL $OTEL_EXPORTER_OTLP_HEADERS\" >&2; exit 1";

fn instructions() -> String {
    let agent = "## Agents\n\n### worker_agent\n- Goal: goal-001\n\
                 - Environment: ANTHROPIC_API_KEY, DB_PASSWORD\n";
    let tasks = task("task-001: Tell (max attempts: 1)", BLOCK)
        + "- task-002: Think, and fail (max attempts: 1; after: task-003)\n\
           - task-003: Think\n";
    format!("{agent}{}\n### goal-002\nA plan that nobody can make.\n", goal(&tasks))
}

fn canaries(sink: &OtlpSink, style: &str, metrics: u16) -> Builder {
    let port = free_port();
    fleet(instructions())
        .provider("command")
        .args(&["--log-style", style, "--metrics-addr", &metrics.to_string()])
        .redis_port(port)
        .redis_args(&["--requirepass", OF_REDIS])
        .env("REDIS_URL", &format!("redis://:{OF_REDIS}@127.0.0.1:{port}"))
        .env("ANTHROPIC_API_KEY", API_KEY)
        .env("OPENAI_API_KEY", OTHER_KEY)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &sink.url())
        .env("OTEL_EXPORTER_OTLP_HEADERS", &format!("authorization=Bearer%20{OF_COLLECTOR}"))
        .env("OTEL_BSP_SCHEDULE_DELAY", "200")
}

/// Runs all of it to its end.
async fn run(sink: &OtlpSink, style: &str, metrics: u16) -> Fleet {
    let fleet = canaries(sink, style, metrics).write().await;
    fleet.think_by(MODEL, &format!("DB_PASSWORD={PASSWORD}\n"));
    fleet.project.start();
    for (task, state) in
        [("task-001", State::Failed), ("task-003", State::Done), ("task-002", State::Failed)]
    {
        let task = fleet.until_task(task, state).await;
        let said = task.last_error.or(task.progress).unwrap_or_default();
        assert!(said.contains("***"), "{}: nothing was quoted: {said}", task.id);
    }
    let planned = GoalId::new("goal-002").unwrap();
    wait_until("planning of goal-002 failed", DEADLINE, async || {
        match fleet.store.goal(&planned).await {
            Ok(Some(goal)) if goal.planning.error.is_some() => Ok(()),
            other => Err(format!("{other:?}\n{}", fleet.log())),
        }
    })
    .await;
    fleet
}

/// What verbs show, each with its name.
fn shown(fleet: &Fleet) -> Vec<(String, Vec<u8>)> {
    let mut verbs: Vec<Vec<&str>> = Vec::new();
    for verb in [&["status"][..], &["tasks"], &["events", "-n", "1000"], &["cost"], &["doctor"]] {
        verbs.push(verb.to_vec());
    }
    for of in ["task-001", "task-002", "task-003"] {
        verbs.extend([vec!["explain", of], vec!["trace", of]]);
    }
    verbs.push(vec!["trace", "goal-001"]);
    let json = verbs.clone().into_iter().map(|verb| [&verb[..], &["--format", "json"]].concat());
    let all: Vec<Vec<&str>> = verbs.iter().cloned().chain(json).collect();
    let show = |verb: &Vec<&str>| {
        let ran = fleet.orch(verb);
        (format!("orch {}", verb.join(" ")), [ran.stdout, ran.stderr].concat())
    };
    all.iter().map(show).collect()
}

/// All files below a folder with what is in them.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(kind) if kind.is_file() => {
                found.push((entry.path(), fs::read(entry.path()).unwrap_or_default()));
            }
            _ => {}
        }
    }
    found
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Around the first canary in it, for people.
fn around(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(CANARY)).take(3).collect();
    lines.join("\n")
}

async fn secrets_should_stay_where_they_are(style: &str) {
    let sink = OtlpSink::start();
    let metrics = free_port();
    let fleet = run(&sink, style, metrics).await;
    let scrape = http_get(metrics, "/metrics", "text/plain").unwrap();
    assert!(scrape.contains("orch_") && !scrape.contains(CANARY), "{scrape}");
    for (verb, said) in shown(&fleet) {
        assert!(!holds(&said, CANARY), "{verb}: {}", around(&said));
    }
    let spans = wait_until("a failed attempt is told", DEADLINE, async || {
        let spans = sink.spans();
        let is_told = spans.iter().filter(|span| span.error.is_some()).count() >= 4;
        if is_told { Ok(spans) } else { Err(format!("{spans:#?}")) }
    })
    .await;
    fleet.project.stop();
    let spans = format!("{spans:#?}{:#?}", sink.spans());
    assert!(!spans.contains(CANARY), "{}", around(spans.as_bytes()));
    assert!(spans.contains("***"), "no error quotes what was printed: {spans}");

    // Redis writes each of its commands to its append-only file. What a program printed is
    // its own; the address of Redis is in a file that only its owner can read.
    let theirs = [".env", "systemg.yaml", ".orch/redis-url", ".orch/logs/", ".orch/llm/"];
    let mode = fs::metadata(fleet.path(".orch/redis-url")).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0);
    let (mut logged, mut stored) = (false, false);
    for root in [fleet.project.folder(), fleet.project.home()] {
        for (path, bytes) in files(root) {
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            if theirs.iter().any(|place| name.starts_with(place)) {
                continue;
            }
            assert!(!holds(&bytes, CANARY), "{name}: {}", around(&bytes));
            logged |= name.contains("logs/spawn") && holds(&bytes, "***");
            stored |= name.contains(".orch/redis/") && holds(&bytes, "***");
        }
    }
    assert!(logged && stored, "nothing was quoted: {logged} {stored}");
}

#[tokio::test]
async fn secrets_should_show_in_no_concise_log_and_nowhere_else() {
    secrets_should_stay_where_they_are("concise").await;
}

#[tokio::test]
async fn secrets_should_show_in_no_event_log_and_nowhere_else() {
    secrets_should_stay_where_they_are("event").await;
}

#[tokio::test]
async fn secrets_should_show_in_no_json_log_and_nowhere_else() {
    secrets_should_stay_where_they_are("json").await;
}
