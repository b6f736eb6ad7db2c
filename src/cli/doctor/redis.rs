//! Checks of Redis: there, new enough, keeps what it is told, agrees on the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use store::server::Server;
use tokio::time::Instant;

use super::Check;
use crate::cli::connect::Session;
use crate::cli::text::span;

/// Questions whose median is taken.
const QUESTIONS: usize = 9;
/// Beyond this, every claim and report of an agent takes noticeably long.
const SLOW: Duration = Duration::from_millis(20);
/// Clocks that differ by more make times in `orch status` misleading.
const APART: Duration = Duration::from_secs(2);

pub(super) async fn checks(session: &Session) -> Vec<Check> {
    let server = match session.store.server().await {
        Ok(server) => server,
        Err(error) => return vec![unfit(session, &error)],
    };
    let here = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    vec![
        reachable(session, &server).await,
        persistence(&server),
        memory(&server),
        clock(Duration::from_micros(server.time_micros), here),
    ]
}

fn unfit(session: &Session, error: &store::Error) -> Check {
    let found = format!("{}: {}", session.target, reconcile::error_chain(error));
    let advice = match error {
        store::Error::Unavailable { .. } => {
            "start it (`sysg start`, or redis-server), or set REDIS_URL to where it is"
        }
        store::Error::Denied { .. } => "put user and password into REDIS_URL, or mend its ACL",
        store::Error::TooOld { .. } => "install Redis 7.0 or newer",
        store::Error::Cluster => "use a Redis that is no cluster",
        store::Error::Failed { .. }
        | store::Error::NotLeader { .. }
        | store::Error::Malformed { .. }
        | store::Error::IdTaken { .. }
        | store::Error::PlanMoved { .. } => "see the message, and the log of Redis",
    };
    Check::fail("redis", found, advice)
}

async fn reachable(session: &Session, server: &Server) -> Check {
    let mut times = Vec::new();
    for _ in 0..QUESTIONS {
        let began = Instant::now();
        if let Err(error) = session.store.leaders().await {
            return Check::fail("redis", reconcile::error_chain(&error), "see the log of Redis");
        }
        times.push(began.elapsed());
    }
    times.sort();
    let median = times[QUESTIONS / 2];
    let found = format!(
        "{} at {}, {:.2} ms per question",
        server.version,
        session.target.options.url,
        median.as_secs_f64() * 1_000.0
    );
    if median > SLOW {
        return Check::warn("redis", found, "that is slow: run Redis nearer to the agents");
    }
    Check::ok("redis", found)
}

fn persistence(server: &Server) -> Check {
    let name = "persistence";
    if let Some(why) = server.refuses_writes {
        let advice = "make room there (`redis-cli config get dir`): it goes on by itself then";
        return Check::fail(name, format!("every write is refused: {why}"), advice);
    }
    let fsync = server.appendfsync.as_str();
    match (server.appendonly, fsync) {
        (false, _) => Check::warn(
            name,
            "appendonly is off: a crash of Redis loses what was done since its last snapshot",
            "start Redis with `--appendonly yes --appendfsync always`",
        ),
        (true, "always") => Check::ok(name, "appendonly, every write on disk before its answer"),
        (true, "everysec") => Check::ok(
            name,
            "appendonly, on disk every second: a crash of the machine may lose the last one",
        ),
        (true, "no") => Check::warn(
            name,
            "appendonly, on disk when the system pleases",
            "set `appendfsync always`, or everysec",
        ),
        (true, _) => Check::ok(name, "appendonly; how often it is on disk, Redis does not tell us"),
    }
}

fn memory(server: &Server) -> Check {
    let mib = server.used_memory as f64 / (1024.0 * 1024.0);
    let found = format!("{mib:.1} MiB used, maxmemory-policy {}", server.maxmemory_policy);
    if server.maxmemory_policy == "noeviction" {
        return Check::ok("memory", found);
    }
    Check::fail(
        "memory",
        found,
        "set `maxmemory-policy noeviction`: with any other, Redis drops tasks when memory is full",
    )
}

fn clock(theirs: Duration, ours: Duration) -> Check {
    let apart = theirs.abs_diff(ours);
    let found = format!("{} apart from Redis' clock", span(apart));
    if apart > APART {
        let advice = "let both hosts take the time from the same server (NTP); nothing breaks, but \
                      times in `orch status` mislead";
        return Check::warn("clock", found, advice);
    }
    Check::ok("clock", found)
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;

    fn server(appendonly: bool, appendfsync: &str, policy: &str) -> Server {
        Server {
            version: "7.0.15".into(),
            process_id: 7,
            appendonly,
            appendfsync: appendfsync.into(),
            refuses_writes: None,
            maxmemory_policy: policy.into(),
            used_memory: 1 << 20,
            time_micros: 0,
        }
    }

    #[test]
    fn redis_that_loses_data_should_be_told_apart() {
        let grade = |on, fsync| persistence(&server(on, fsync, "noeviction")).grade;
        assert_eq!((grade(true, "always"), grade(true, "everysec")), (Grade::Ok, Grade::Ok));
        assert_eq!((grade(true, "no"), grade(false, "always")), (Grade::Warn, Grade::Warn));
        let full = Server { refuses_writes: Some("full"), ..server(true, "always", "noeviction") };
        assert_eq!(persistence(&full).grade, Grade::Fail);
        assert_eq!(memory(&server(true, "always", "allkeys-lru")).grade, Grade::Fail);
        assert_eq!(memory(&server(true, "always", "noeviction")).grade, Grade::Ok);
    }

    #[test]
    fn clocks_should_be_compared_in_both_directions() {
        let (a, b) = (Duration::from_secs(100), Duration::from_secs(107));
        assert_eq!((clock(a, b).grade, clock(b, a).grade), (Grade::Warn, Grade::Warn));
        assert_eq!(clock(a, a).grade, Grade::Ok);
    }
}
