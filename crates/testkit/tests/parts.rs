//! The kit's parts against the real servers.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test, in its helpers too")]

use std::time::Duration;

use process::{Identity, Signal};
use redis::RedisResult;
use testkit::{DEADLINE, FaultProxy, Mode, RedisServer, SysgProject, wait_until_blocking};

fn get(server: &RedisServer, key: &str) -> Option<String> {
    redis::cmd("GET").arg(key).query(&mut server.connection()).unwrap()
}

fn set(server: &RedisServer, key: &str, value: &str) {
    redis::cmd("SET").arg(key).arg(value).exec(&mut server.connection()).unwrap();
}

#[test]
fn redis_should_keep_its_data_when_it_is_killed_and_started_again() {
    let mut server = RedisServer::options().append_only().start();
    set(&server, "a", "1");
    let (port, pid) = (server.port(), server.pid());
    server.kill9();
    assert_eq!(Identity::of(pid).unwrap(), None);
    server.restart();
    assert_eq!(server.port(), port);
    assert_ne!(server.pid(), pid);
    assert_eq!(get(&server, "a").as_deref(), Some("1"));
    let pid = server.pid();
    drop(server);
    assert_eq!(Identity::of(pid).unwrap(), None);
}

#[test]
fn redis_should_hold_still_while_paused() {
    let server = RedisServer::start();
    let mut connection = server.connection();
    connection.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    server.pause();
    assert!(redis::cmd("PING").query::<String>(&mut connection).unwrap_err().is_timeout());
    server.resume();
    set(&server, "a", "1");
}

#[test]
fn redis_should_demand_what_its_url_gives() {
    let user = RedisServer::options().user("orch", "p@ss:/word").start();
    let password = RedisServer::options().password("p#ss").start();
    let socket = RedisServer::options().password("s/ecret").unix_socket().start();
    for server in [&user, &password, &socket] {
        set(server, "a", "1");
        let bare = redis::Client::open(format!("redis://127.0.0.1:{}", server.port())).unwrap();
        let answer: RedisResult<String> = bare
            .get_connection()
            .and_then(|mut connection| redis::cmd("PING").query(&mut connection));
        assert!(answer.unwrap_err().to_string().contains("Authentication required"));
    }
}

#[test]
fn redis_should_speak_tls() {
    let server = RedisServer::options().tls().start();
    assert!(server.url().starts_with("rediss://"));
    set(&server, "a", "1");
    assert_eq!(get(&server, "a").as_deref(), Some("1"));
}

fn connect(proxy: &FaultProxy, read_timeout: Duration) -> redis::Connection {
    let connection = redis::Client::open(proxy.url()).unwrap().get_connection().unwrap();
    connection.set_read_timeout(Some(read_timeout)).unwrap();
    connection
}

fn increment(connection: &mut redis::Connection) -> RedisResult<u64> {
    redis::cmd("INCR").arg("n").query(connection)
}

#[test]
fn proxy_should_execute_and_lose_the_reply() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.port());
    let mut first = connect(&proxy, Duration::from_millis(100));
    assert_eq!(increment(&mut first).unwrap(), 1);
    proxy.set(Mode::DropReplies);
    assert!(increment(&mut first).unwrap_err().is_timeout());
    let mut second = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    assert_eq!(get(&server, "n").as_deref(), Some("2"));
    proxy.set(Mode::Forward);
    let mut third = connect(&proxy, DEADLINE);
    proxy.set(Mode::CutOnReply);
    assert!(increment(&mut third).unwrap_err().is_connection_dropped());
    assert_eq!(increment(&mut second).unwrap(), 4);
    wait_until_blocking("lossy connections are closed", DEADLINE, || {
        let open = proxy.open_connections();
        if open == 0 { Ok(()) } else { Err(format!("{open} open")) }
    });
}

#[test]
fn proxy_should_hold_cut_and_refuse() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.port());
    let mut held = connect(&proxy, DEADLINE);
    proxy.set(Mode::Blackhole);
    let waiting = std::thread::spawn(move || increment(&mut held).map(|n| (n, held)));
    // Nothing may have reached the server, however long one waits.
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(get(&server, "n"), None);
    proxy.set(Mode::Delay(Duration::from_millis(5)));
    let (n, mut held) = waiting.join().unwrap().unwrap();
    assert_eq!(n, 1);
    proxy.set(Mode::Refuse);
    proxy.cut();
    assert!(increment(&mut held).unwrap_err().is_io_error());
    assert!(redis::Client::open(proxy.url()).unwrap().get_connection().is_err());
    proxy.set(Mode::Forward);
    assert_eq!(increment(&mut connect(&proxy, DEADLINE)).unwrap(), 2);
}

const MANIFEST: &str = r#"
version: "2"
services:
  sleeper:
    exec: ["sleep", "1000"]
    restart_policy: "always"
    backoff: "1ms"
  redis:
    exec: ["redis-server", "--port", "0", "--unixsocket", "socket", "--save", ""]
    restart_policy: "always"
    backoff: "1ms"
"#;

#[test]
fn sysg_project_should_leave_nothing_behind() {
    let project = SysgProject::new(MANIFEST);
    assert_eq!(project.supervisor(), None);
    project.start();
    let supervisor = project.supervisor().unwrap();
    let service = project.service("sleeper").unwrap();
    // Redis wipes its environment.
    let redis = project.service("redis").unwrap();
    for process in [&supervisor, &service, &redis] {
        assert!(project.processes().contains(process), "{process}");
    }
    // A supervisor that is gone leaves its service behind; the drop ends it too.
    assert!(process::signal(&supervisor, Signal::KILL).unwrap());
    wait_until_blocking("the supervisor is dead", DEADLINE, || {
        project.supervisor().map_or(Ok(()), |found| Err(found.to_string()))
    });
    assert!(service.is_alive() && redis.is_alive());
    drop(project);
    assert!(!service.is_alive() && !redis.is_alive());
}

#[test]
fn sysg_project_should_start_and_stop() {
    let project = SysgProject::new(MANIFEST);
    project.start();
    project.stop();
    assert_eq!(project.service("sleeper"), None);
    assert!(project.supervisor().is_some());
    project.stop_supervisor();
    wait_until_blocking("nothing is left", DEADLINE, || {
        let left = project.processes();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}
