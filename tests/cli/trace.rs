//! `orch trace`: the waterfall of a task and of a goal, and both for a collector.

use std::collections::HashSet;

use serde_json::Value;

use crate::support::{CHAIN, World};

fn spans(json: &Value) -> Vec<Value> {
    let resources = json["resourceSpans"].as_array().unwrap().iter();
    let scopes = resources.flat_map(|resource| resource["scopeSpans"].as_array().unwrap());
    scopes.flat_map(|scope| scope["spans"].as_array().unwrap()).cloned().collect()
}

fn named<'a>(spans: &'a [Value], name: &str) -> Vec<&'a Value> {
    spans.iter().filter(|span| span["name"] == name).collect()
}

#[tokio::test]
async fn trace_should_show_attempts_and_link_them_to_what_came_before() {
    let world = World::new().await;
    world.plan("goal-001", CHAIN).await;
    let error = world.orch(&["trace", "task-001"]).failed(1);
    assert!(error.contains("nobody has tried task-001 yet: `orch explain task-001`"), "{error}");

    let agent = world.register("research_agent", "goal-001").await;
    let grant = agent.claim().await;
    agent.complete(&grant).await;
    agent.claim().await;
    let text = world.orch(&["trace", "task-001"]).ok();
    assert!(text.contains("attempt #1 research_agent") && text.contains("1 attempt,"), "{text}");
    let text = world.orch(&["trace", "goal-001"]).ok();
    for part in ["goal-001 plan 1", "task-001 #1", "task-002 #1", "2 attempts,"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let text = world.orch(&["trace", "goal-001", "--count", "1"]).ok();
    assert!(!text.contains("task-001 #1") && text.contains("--count 0 shows all"), "{text}");

    let json = world.orch(&["trace", "goal-001", "--format", "json"]).json();
    let all = spans(&json);
    let ids: HashSet<&str> = all.iter().map(|span| span["spanId"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), all.len(), "{json:#}");
    let parent = |span: &Value| span["parentSpanId"].as_str().unwrap().to_owned();
    let orphans = all.iter().filter(|s| !parent(s).is_empty() && !ids.contains(&*parent(s)));
    assert_eq!(orphans.count(), 0, "{json:#}");
    let attempts = named(&all, "attempt");
    let [first, second] = attempts[..] else { panic!("{json:#}") };
    let wait = named(&all, "wait").into_iter().find(|s| s["parentSpanId"] == second["spanId"]);
    let links = wait.unwrap()["links"].as_array().unwrap();
    let goes_to = |to: &Value| links.iter().any(|link| link["spanId"] == to["spanId"]);
    assert!(goes_to(first), "no link to the task before: {second:#}");
    assert!(goes_to(named(&all, "goal")[0]), "no link to the goal: {second:#}");
    assert_eq!((&first["status"]["code"], &second["status"]), (&1.into(), &serde_json::json!({})));

    // The same as seen of the task alone.
    let json = world.orch(&["trace", "task-001", "--format", "json"]).json();
    assert_eq!(named(&spans(&json), "attempt")[0]["traceId"], first["traceId"]);
}

#[tokio::test]
async fn trace_should_say_what_it_cannot_show() {
    let world = World::new().await;
    world.plan("goal-001", CHAIN).await;
    let agent = world.register("research_agent", "goal-001").await;
    let grant = agent.claim().await;
    agent.complete(&grant).await;
    let error = world.orch(&["trace", "task-01"]).failed(4);
    assert!(error.contains("did you mean task-001"), "{error}");
    world.redis(&["XTRIM", "events", "MAXLEN", "1"]);
    let error = world.orch(&["trace", "task-001"]).failed(1);
    assert!(error.contains("older ones are gone"), "{error}");
}
