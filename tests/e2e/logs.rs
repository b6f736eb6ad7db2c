//! Log lines of a whole fleet, for programs: which trace each of them belongs to.

use std::fs;

use model::goal::Status;
use serde_json::Value;
use testkit::{OtlpSink, wait_until};

use crate::support::{Builder, DEADLINE, Fleet, agents, fleet, goal, task};

fn one_task(style: &str) -> Builder {
    // The block fails once, so that something is told in the middle of an attempt.
    let block = "test -e \"$ORCH_PROJECT/again\" || { : > \"$ORCH_PROJECT/again\"; exit 1; }";
    let tasks = task("task-001: Do", block);
    fleet(agents(&["worker_agent"]) + &goal(&tasks)).args(&["--log-style", style])
}

/// What the agents, or else the orchestrator, logged until now.
fn lines(fleet: &Fleet, of_agents: bool) -> Vec<String> {
    let logs = fleet.project.home().join(".local/share/systemg/logs");
    let mut lines = Vec::new();
    for folder in fs::read_dir(logs).unwrap().flatten() {
        for log in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            let (name, is_spawn) = (log.file_name(), folder.file_name() == "spawn");
            let name = name.to_string_lossy();
            let is_wanted = if of_agents {
                is_spawn && name.ends_with("_stdout.log")
            } else {
                !is_spawn && name.starts_with("orchestrator")
            };
            if is_wanted {
                let text = fleet.read(log.path());
                // systemg begins each line of a service with the time and the stream.
                let own = |line: &str| match line.split_once(" stdout ") {
                    Some((_, line)) if !of_agents => line.to_owned(),
                    _ => line.to_owned(),
                };
                lines.extend(text.lines().map(own));
            }
        }
    }
    lines
}

fn objects(lines: &[String]) -> Vec<Value> {
    let read = |line: &String| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    lines.iter().map(read).collect()
}

fn with_code<'a>(lines: &'a [Value], code: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["code"] == code).collect()
}

#[tokio::test]
async fn json_lines_should_name_their_attempt_where_nobody_collects_spans() {
    let fleet = one_task("json").start().await;
    fleet.until_goal(Status::Complete).await;
    let said = objects(&lines(&fleet, true));
    let traced = fleet.orch(&["trace", "task-001", "--format", "json"]).stdout;
    let traced: Value = serde_json::from_slice(&traced).unwrap();
    let mut attempts: Vec<&Value> = traced["resourceSpans"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|resource| resource["scopeSpans"][0]["spans"].as_array().unwrap())
        .filter(|span| span["name"] == "attempt")
        .collect();
    attempts.sort_by_key(|attempt| attempt["startTimeUnixNano"].as_str());
    let (begun, failed) =
        (with_code(&said, "acquired-lock-for-task"), with_code(&said, "task-failed"));
    let done = with_code(&said, "task-completed");
    assert_eq!((attempts.len(), begun.len(), failed.len(), done.len()), (2, 2, 1, 1), "{said:#?}");
    for (attempt, lines) in attempts.iter().zip([[begun[0], failed[0]], [begun[1], done[0]]]) {
        for line in lines {
            assert_eq!(line["trace_id"], attempt["traceId"], "{line:#}");
            assert_eq!(line["span_id"], attempt["spanId"], "{line:#}");
            assert_eq!((&line["task"], &line["goal"]), (&"task-001".into(), &"goal-001".into()));
            assert_eq!(
                (&line["service"], &line["agent"]),
                (&"agent".into(), &"worker_agent".into())
            );
        }
    }
    assert_eq!(failed[0]["level"], "WARN");
    assert!(failed[0]["fields"]["error"].as_str().unwrap().contains("exited with 1"));
    assert!(with_code(&said, "registered")[0].get("trace_id").is_none());
    let orchestrator = objects(&lines(&fleet, false));
    let [planned] = with_code(&orchestrator, "dag-created")[..] else {
        panic!("{orchestrator:#?}")
    };
    let named = [&planned["service"], &planned["controller"], &planned["goal"]];
    assert_eq!(named, ["orchestrator", "dag", "goal-001"]);
}

#[tokio::test]
async fn lines_should_name_the_spans_that_a_collector_is_sent() {
    let sink = OtlpSink::start();
    let traced = |style: &str| {
        one_task(style)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &sink.url())
            .env("OTEL_BSP_SCHEDULE_DELAY", "200")
    };
    let fleet = traced("event").start().await;
    fleet.until_goal(Status::Complete).await;
    let spans = wait_until("both attempts are told", DEADLINE, async || {
        let spans = sink.spans();
        let told = spans.iter().filter(|span| span.name == "attempt" || span.name == "execute");
        if told.count() == 4 { Ok(spans) } else { Err(format!("{spans:#?}")) }
    })
    .await;
    let place = |line: &String| {
        let field = |name: &str| line.split_once(name)?.1.split(' ').next().map(str::to_owned);
        Some((field(" trace_id=")?, field(" span_id=")?))
    };
    let named = |places: &(String, String), name: &str| {
        let is_it = |span: &&testkit::OtlpSpan| span.name == name && span.id == places.1;
        spans.iter().find(is_it).is_some_and(|span| span.trace == places.0)
    };
    let (agent, orchestrator) = (lines(&fleet, true), lines(&fleet, false));
    let begun: Vec<_> = agent.iter().filter(|l| l.contains("acquired-lock-for-task")).collect();
    assert_eq!(begun.len(), 2, "{agent:#?}");
    for line in begun {
        assert!(place(line).is_some_and(|place| named(&place, "execute")), "{line} {spans:#?}");
    }
    let planned = orchestrator.iter().find(|line| line.contains("event=dag-created "));
    let planned = planned.unwrap_or_else(|| panic!("{orchestrator:#?}"));
    let at = place(planned).unwrap_or_else(|| panic!("{planned}"));
    assert!(named(&at, "accept"), "{planned} {spans:#?}");

    // For people the trace is named at the end of the line.
    let fleet = traced("concise").start().await;
    fleet.until_goal(Status::Complete).await;
    let agent = lines(&fleet, true);
    let begun = agent.iter().find(|line| line.contains("Acquired lock for task task-001"));
    assert!(begun.is_some_and(|line| line.contains(" trace_id=")), "{agent:#?}");
}

#[tokio::test]
async fn concise_lines_should_be_as_in_the_reference_where_nobody_collects_spans() {
    let fleet = one_task("concise").start().await;
    fleet.until_goal(Status::Complete).await;
    let agent = lines(&fleet, true);
    let begun: Vec<_> = agent.iter().filter(|line| line.contains("Acquired lock")).collect();
    assert_eq!(begun.len(), 2, "{agent:#?}");
    let (time, said) = begun[0].split_at(20);
    assert!(time.chars().all(|c| c.is_ascii_digit() || "-: ".contains(c)), "{time}");
    let (said, epoch) = said.split_once(" epoch=").unwrap();
    assert_eq!(said, "INFO runtime: [worker_agent] Acquired lock for task task-001");
    assert!(epoch.ends_with(" attempt=1"), "{epoch}");
    assert!(!agent.join("\n").contains("trace_id"), "{agent:#?}");
}
