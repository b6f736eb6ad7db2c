//! What a fleet asks of Redis while there is nothing to do. Counted, not timed: a slow
//! machine can only ask less.

use std::collections::BTreeMap;

use model::goal::Status;
use redis::Value;

use crate::support::{agents, fleet, goal, task};

const AGENTS: usize = 20;
/// How long it is listened to, in seconds of Redis' clock: three times as long as anything
/// idle waits before it looks again.
const WINDOW: f64 = 15.0;
/// How many windows it may take until what the start left is done.
const WINDOWS: usize = 5;

/// The calls of clients within the window, by their command; those that scripts make are
/// not calls.
fn calls(port: u16) -> BTreeMap<String, usize> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
    let mut connection = client.get_connection().unwrap();
    connection.send_packed_command(&redis::cmd("MONITOR").get_packed_command()).unwrap();
    let mut calls = BTreeMap::new();
    let mut began = None;
    loop {
        // <seconds> [<database> <address>] "<COMMAND>" ..
        let Value::SimpleString(line) = connection.recv_response().unwrap() else { continue };
        let Some((at, rest)) = line.split_once(" [") else { continue };
        let at: f64 = at.parse().unwrap();
        if at - *began.get_or_insert(at) > WINDOW {
            return calls;
        }
        let Some((from, words)) = rest.split_once("] ") else { continue };
        if !from.ends_with(" lua") {
            let command = words.split(' ').next().unwrap_or_default();
            *calls.entry(command.trim_matches('"').to_ascii_lowercase()).or_default() += 1;
        }
    }
}

#[tokio::test]
async fn fleet_that_has_nothing_to_do_should_call_redis_less_than_once_per_agent_and_second() {
    let names: Vec<String> = (0..AGENTS).map(|n| format!("agent-{n:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let text = agents(&names) + &goal(&task("task-001: One", "true"));
    let fleet = fleet(text).lease_ttl("30").start().await;
    fleet.until_goal(Status::Complete).await;
    for name in names {
        fleet.until_registered(name).await;
    }

    let port = fleet.redis_port;
    let mut seen = Vec::new();
    for _ in 0..WINDOWS {
        let calls = tokio::task::spawn_blocking(move || calls(port)).await.unwrap();
        // They are alive: each gives signs of life, and looks for work.
        assert!(calls["fcall"] >= 2 * AGENTS, "{calls:?}");
        let all: usize = calls.values().sum();
        #[allow(clippy::cast_precision_loss, reason = "some hundreds")]
        let per_agent_and_second = all as f64 / AGENTS as f64 / WINDOW;
        if per_agent_and_second < 1.0 {
            println!("{per_agent_and_second:.2} calls per agent and second: {calls:?}");
            return;
        }
        seen.push(calls);
    }
    panic!("more than one call per agent and second in each window: {seen:?}");
}
