//! An agent within the process of somebody else, as benchmarks have it.

use std::ffi::OsString;

use testkit::{DEADLINE, RedisServer, wait_until};
use tokio::task::LocalSet;

/// How many connections there are besides the one that asks.
fn connections(server: &RedisServer) -> usize {
    let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut server.connection()).unwrap();
    clients.lines().count() - 1
}

#[tokio::test]
async fn agent_that_is_dropped_should_leave_nothing_behind() {
    let server = RedisServer::start();
    let project = tempfile::tempdir().unwrap();
    let (url, folder) = (server.url(), project.path().display().to_string());
    let words = "--role agent --agent-name one_agent --goal-id goal-001 --llm-provider offline";
    let args = words.split(' ').chain(["--redis-url", &url, "--project", &folder]);
    let args: Vec<OsString> = args.map(OsString::from).collect();
    let until = async |count: usize| {
        let look = async || match connections(&server) {
            found if found == count => Ok(()),
            found => Err(format!("{found} connections")),
        };
        wait_until("so many connections", DEADLINE, look).await;
    };
    LocalSet::new()
        .run_until(async {
            let agent = tokio::task::spawn_local(orch::agent(args));
            // One for work, one to wait for wakes.
            until(2).await;
            agent.abort();
            until(0).await;
        })
        .await;
}
