//! Verbs that look at what goes on: status, tasks, explain, retry, events, logs.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use model::agent::Phase;
use model::task::State;
use model::{AgentName, Dag, TaskSpec};
use store::Lead;
use store::lead::Controller;

use crate::support::{CHAIN, Running, World, goal_id, task_id};

#[tokio::test]
async fn status_should_show_goals_agents_and_who_leads() {
    let world = World::new().await;
    world.plan("goal-001", CHAIN).await;
    let agent = world.register("research_agent", "goal-001").await;
    let grant = agent.claim().await;
    world.store.report_problems(
        r#"[{"severity":"error","file":"INSTRUCTIONS.md","line":3,"column":1,"message":"odd \u001b[2J"}]"#,
    ).await.unwrap();
    let text = world.orch(&["status"]).ok();
    for part in ["goal-001", "active", "0/3", "research_agent", "4300", "task-001", "pid 4242"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("INSTRUCTIONS.md:3:1: odd \\u{1b}[2J"), "{text}");
    assert!(!text.contains('\x1b') && text.lines().all(|l| l.chars().count() <= 80), "{text}");

    let json = world.orch(&["status", "--format", "json"]).json();
    assert_eq!(json["goals"][0]["counts"]["running"], 1, "{json:#}");
    assert_eq!(json["agents"][0]["registered"]["task"][0], grant.task.as_str(), "{json:#}");
    assert_eq!(json["leaders"][0]["who"]["pid"], 4242, "{json:#}");
    assert_eq!(json["problems"][0]["line"], 3, "{json:#}");
}

#[tokio::test]
async fn status_should_show_the_rest_where_one_record_is_damaged() {
    let world = World::new().await;
    world.plan("goal-001", CHAIN).await;
    world.plan("goal-002", &[("other", &[])]).await;
    world.redis(&["HSET", "goal:goal-001", "status", "odd\x1b[2J"]);
    world.redis(&["HSET", "orchestrator:controllers", "dag", "{"]);
    let text = world.orch(&["status"]).ok();
    assert!(text.contains("goal-002") && text.contains("goal:goal-001 status"), "{text}");
    assert!(text.contains("controller dag") && !text.contains('\x1b'), "{text}");
}

#[tokio::test]
async fn status_should_watch_through_an_absence_of_redis() {
    let mut world = World::new().await;
    world.plan("goal-001", CHAIN).await;
    let mut child = world.command();
    child.args(["status", "--watch"]).stdout(Stdio::piped());
    let mut child = Running(child.spawn().unwrap());
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let mut until = |what: &str| {
        let found = lines.by_ref().map(Result::unwrap).any(|line| line.contains(what));
        assert!(found, "{what} is never shown");
    };
    until("goal-001");
    world.redis.kill9();
    until("Redis is away");
    until("goal-001");
    world.redis.restart();
    // Nothing was kept on disk: it is a Redis without goals.
    until("none yet: declare one under `## Goals`");
}

#[tokio::test]
async fn tasks_should_be_listed_with_what_they_wait_for() {
    let world = World::new().await;
    world.plan("goal-001", CHAIN).await;
    let text = world.orch(&["tasks", "goal-001"]).ok();
    assert!(text.contains("waits for task-001") && text.contains("Title of task-003"), "{text}");
    let json = world.orch(&["tasks", "--format", "json", "--state", "blocked"]).json();
    let ids: Vec<&str> =
        json.as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["task-002", "task-003"], "{json:#}");
    assert_eq!(json[0]["waits_for"][0], "task-001", "{json:#}");
    let error = world.orch(&["tasks", "goal-01"]).failed(4);
    assert!(error.contains("did you mean goal-001?"), "{error}");
    let error = world.orch(&["tasks", "--state", "asleep"]).failed(2);
    assert!(error.contains("asleep"), "{error}");
}

#[tokio::test]
async fn titles_with_control_characters_should_be_escaped() {
    let world = World::new().await;
    let lead = world.lead().await;
    let goal = goal_id("goal-001");
    let spec = TaskSpec::new(task_id("evil"), "a\x1b]0;owned\x07\x1b[2Jb\u{202e}");
    let dag = Dag::new(vec![spec], &[]).unwrap();
    world.store.note_goal(&lead, &goal, "", &[("title", "\x1b[31mred".into())]).await.unwrap();
    world.store.accept(&lead, &goal, dag, "h", "\x1b[31mred").await.unwrap();
    for args in [&["tasks"][..], &["status"], &["explain", "evil"], &["events"]] {
        let text = world.orch(args).ok();
        let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.chars().any(bad), "{args:?}: {text:?}");
    }
}

#[tokio::test]
async fn explain_should_find_the_root_cause_and_retry_should_heal_it() {
    let world = World::new().await;
    world.plan("goal-001", CHAIN).await;
    let text = world.orch(&["explain", "task-003"]).ok();
    assert!(text.contains("task-001  ready") && text.contains("Next:"), "{text}");
    let agent = world.register("research_agent", "goal-001").await;
    let grant = agent.claim().await;
    let text = world.orch(&["explain", "task-001"]).ok();
    assert!(text.contains("research_agent runs it: attempt 1"), "{text}");
    agent.fail(&grant, "exit code 7\nsh: no such thing").await;

    let json = world.orch(&["explain", "goal-001.task-003", "--format", "json"]).json();
    assert_eq!(
        (&json["verdict"], &json["state"]),
        (&"stuck".into(), &"blocked".into()),
        "{json:#}"
    );
    assert_eq!(json["blockers"][1]["task"], "task-001", "{json:#}");
    assert_eq!(json["blockers"][1]["root"], true, "{json:#}");
    let text = world.orch(&["explain", "task-001"]).ok();
    assert!(text.contains("FAILED") && text.contains("sh: no such thing"), "{text}");
    assert!(text.contains("`orch retry task-001`"), "{text}");

    let error = world.orch(&["retry", "task-003"]).failed(1);
    assert!(error.contains("blocked, not failed"), "{error}");
    let text = world.orch(&["retry", "task-001"]).ok();
    assert!(text.contains("task-001 is ready"), "{text}");
    assert_eq!(world.state("task-001").await, State::Ready);

    let grant = agent.claim().await;
    agent.complete(&grant).await;
    let text = world.orch(&["explain", "task-001"]).ok();
    assert!(text.contains("completed by research_agent") && text.contains("a.txt"), "{text}");
    assert_eq!(world.state("task-002").await, State::Ready);
}

#[tokio::test]
async fn explain_should_say_that_no_agent_of_the_role_is_there() {
    let world = World::new().await;
    world.plan("goal-001", CHAIN).await;
    let json = world.orch(&["explain", "task-001", "--format", "json"]).json();
    assert_eq!(json["verdict"], "no-agent", "{json:#}");
    // Declared but not started is not the same.
    let text = "## Goals\n### goal-001\nText.\n\n## Agents\n### research_agent\n- Goal: goal-001\n\
                - Heartbeat: ./heartbeat/research.md\n";
    std::fs::write(world.project.path().join("INSTRUCTIONS.md"), text).unwrap();
    let lead = world.lead().await;
    let lead = Lead::new(Controller::Agent, lead.epoch());
    let name = AgentName::new("research_agent").unwrap();
    let fields = [("phase", Phase::CrashLoop.to_string()), ("last_exit", "signal 9".to_owned())];
    world.redis(&["SADD", "agents", "research_agent"]);
    world.store.note_agent(&lead, &name, "", &fields).await.unwrap();
    let json = world.orch(&["explain", "task-001", "--format", "json"]).json();
    assert_eq!(json["verdict"], "agents-away", "{json:#}");
    assert_eq!(json["agents"][0]["doing"], "crashes again and again after signal 9", "{json:#}");
}

#[tokio::test]
async fn task_names_should_be_found_or_explained() {
    let world = World::new().await;
    let error = world.orch(&["explain", "task-001"]).failed(4);
    assert!(error.contains("there is no task `task-001`, and no other"), "{error}");
    world.plan("goal-001", CHAIN).await;
    world.plan("goal-002", &[("task-001", &[])]).await;
    let error = world.orch(&["retry", "task-001"]).failed(4);
    assert!(error.contains("goal-001.task-001 or goal-002.task-001"), "{error}");
    assert!(world.orch(&["explain", "goal-002.task-001"]).ok().contains("of goal-002"));
    let error = world.orch(&["explain", "task-04"]).failed(4);
    assert!(error.contains("did you mean"), "{error}");
    let error = world.orch(&["explain", "../x\x1b[2J"]).failed(4);
    assert!(!error.contains('\x1b'), "{error:?}");
}

#[tokio::test]
async fn events_should_be_filtered_and_followed() {
    let world = World::new().await;
    world.plan("goal-001", CHAIN).await;
    world.plan("goal-002", &[("other", &[])]).await;
    let agent = world.register("research_agent", "goal-001").await;
    let text = world.orch(&["events", "--goal", "goal-002"]).ok();
    assert!(text.contains("goal-002") && !text.contains("goal-001"), "{text}");
    assert_eq!(world.orch(&["events", "-n", "2"]).ok().lines().count(), 2);

    let mut follow = world.command();
    follow.args(["events", "--follow", "-n", "0", "--task", "task-001", "--format", "json"]);
    let mut child = Running(follow.stdout(Stdio::piped()).spawn().unwrap());
    let mut out = BufReader::new(child.0.stdout.take().unwrap());
    // It follows from where the stream ended when it looked.
    world.wait_for_reader();
    let grant = agent.claim().await;
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&event["kind"], &event["task"]), (&"task-claim".into(), &"task-001".into()));
    agent.complete(&grant).await;
    line.clear();
    out.read_line(&mut line).unwrap();
    assert!(line.contains("\"task-complete\""), "{line}");
}

#[tokio::test]
async fn events_should_be_chosen_by_kind_and_time() {
    let world = World::new().await;
    world.plan("goal-001", CHAIN).await;
    let agent = world.register("research_agent", "goal-001").await;
    let grant = agent.claim().await;
    let claim = world.orch(&["events", "--kind", "task-claim", "--format", "json"]).json();
    assert_eq!(claim["task"], "task-001", "{claim:#}");
    agent.complete(&grant).await;
    let kinds = |args: &[&str]| {
        let text = world.orch(&[&["events", "--format", "json"], args].concat()).ok();
        let events = text.lines().map(serde_json::from_str::<serde_json::Value>);
        let kind = |event: serde_json::Value| event["kind"].as_str().unwrap().to_owned();
        events.map(|event| kind(event.unwrap())).collect::<Vec<String>>()
    };
    let of_tasks = kinds(&["--kind", "task", "--task", "task-001"]);
    assert_eq!(of_tasks, ["task-claim", "task-complete"]);
    assert_eq!(kinds(&["--kind", "agent-register,task-unblock"]).len(), 2);
    // All since then, however many; and none of what was before.
    world.plan("goal-002", &[("other", &[])]).await;
    let id = claim["id"].as_str().unwrap().split_once('-').unwrap().0.parse().unwrap();
    let at = jiff::Timestamp::from_millisecond(id).unwrap().to_string();
    let since = kinds(&["--since", &at]);
    assert!(since.contains(&"task-claim".to_owned()), "{since:?}");
    assert!(!kinds(&["--since", "2999-01-01T00:00:00Z"]).contains(&"task-claim".to_owned()));
    assert!(kinds(&["--since", "1h"]).len() >= since.len());
    let error = world.orch(&["events", "--since", "lately"]).failed(2);
    assert!(error.contains("1h") && error.contains("2026-03-18T10:15:00Z"), "{error}");
}

#[tokio::test]
async fn explain_should_say_who_holds_a_task_and_what_happened_to_it() {
    let world = World::new().await;
    world.plan("goal-001", CHAIN).await;
    let none = world.orch(&["explain", "task-001", "--format", "json"]).json();
    assert_eq!((&none["holder"], &none["trace"]), (&().into(), &().into()), "{none:#}");
    let agent = world.register("research_agent", "goal-001").await;
    let grant = agent.claim().await;
    let json = world.orch(&["explain", "task-001", "--format", "json"]).json();
    let holder = &json["holder"];
    assert_eq!((&holder["agent"], &holder["pid"]), (&"research_agent".into(), &4300.into()));
    assert_eq!(holder["epoch"], grant.epoch.0, "{json:#}");
    assert_eq!(json["history"][0]["kind"], "task-claim", "{json:#}");
    let traced = world.orch(&["trace", "task-001", "--format", "json"]).ok();
    assert!(traced.contains(json["trace"].as_str().unwrap()), "{json:#} {traced}");
    let text = world.orch(&["explain", "task-001"]).ok();
    for part in
        ["Held by: research_agent (process 4300 on box)", "claim by research_agent", "Trace: "]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    agent.fail(&grant, "no luck").await;
    let json = world.orch(&["explain", "task-001", "--format", "json"]).json();
    assert_eq!((&json["holder"], &json["history"][1]["kind"]), (&().into(), &"task-fail".into()));
}

#[tokio::test]
async fn names_of_other_things_should_be_told_where_to_ask() {
    let world = World::new().await;
    world.plan("goal-001", CHAIN).await;
    world.register("research_agent", "goal-001").await;
    let error = world.orch(&["explain", "goal-001"]).failed(4);
    assert!(error.contains("is a goal") && error.contains("orch tasks goal-001"), "{error}");
    let error = world.orch(&["explain", "research_agent"]).failed(4);
    assert!(error.contains("orch events --agent research_agent"), "{error}");
}

#[tokio::test]
async fn logs_should_be_shown_also_while_redis_is_away() {
    let mut world = World::new().await;
    world.plan("goal-001", CHAIN).await;
    let error = world.orch(&["logs", "task-001"]).failed(4);
    assert!(error.contains("has no log"), "{error}");
    let folder = world.project.path().join(".orch/logs/task-001");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("1.log"), "first\n").unwrap();
    std::fs::write(folder.join("2.log"), "second \x1b[1mbold\n").unwrap();
    // Not a terminal: as it is.
    assert_eq!(world.orch(&["logs", "task-001"]).ok(), "second \x1b[1mbold\n");
    assert_eq!(world.orch(&["logs", "goal-001.task-001", "--attempt", "1"]).ok(), "first\n");
    let error = world.orch(&["logs", "task-001", "--attempt", "9"]).failed(4);
    assert!(error.contains("there are 1, 2"), "{error}");
    world.redis.stop();
    assert_eq!(world.orch(&["logs", "task-001", "--attempt", "1"]).ok(), "first\n");
}

#[tokio::test]
async fn logs_should_follow_what_is_written() {
    let world = World::new().await;
    world.plan("goal-001", CHAIN).await;
    let folder = world.project.path().join(".orch/logs/task-001");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("1.log");
    std::fs::write(&file, "one\n").unwrap();
    let mut follow = world.command();
    follow.args(["logs", "task-001", "--follow"]).stdout(Stdio::piped());
    let mut child = Running(follow.spawn().unwrap());
    let mut out = child.0.stdout.take().unwrap();
    let mut four = [0; 4];
    out.read_exact(&mut four).unwrap();
    let mut log = std::fs::OpenOptions::new().append(true).open(&file).unwrap();
    std::io::Write::write_all(&mut log, b"two\n").unwrap();
    out.read_exact(&mut four).unwrap();
    assert_eq!(&four, b"two\n");
}
