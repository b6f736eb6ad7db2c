//! Whom a fault may hit: processes that this project's Redis has registered on this host.
//!
//! Whatever Redis says of a process is checked against the kernel: pid and start time for
//! agents and the orchestrator, the program for Redis and sysg, which register no start
//! time. What does not fit is no target.

use std::net::IpAddr;
use std::path::Path;

use process::Identity;
use serde::Serialize;
use store::{RedisUrl, Store};

use super::converge::{Here, World, process_of};
use super::legs::Victim;
use super::schedule::Kind;

/// As which programs Redis runs: Debian's is a link to its checker.
const REDIS: [&str; 3] = ["redis-server", "redis-check-rdb", "valkey-server"];
const SYSG: [&str; 1] = ["sysg"];

/// One process that may be hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) kind: Kind,
    /// The agent's name, else what kind it is.
    pub(super) name: String,
    pub(super) process: Identity,
    pub(super) victim: Victim,
}

/// A target, as `--dry-run --format json` shows it.
#[derive(Debug, Serialize)]
pub(super) struct Shown<'a> {
    kind: Kind,
    name: &'a str,
    pid: u32,
    task: Option<&'a str>,
}

impl Target {
    pub(super) fn shown(&self) -> Shown<'_> {
        Shown { kind: self.kind, name: &self.name, pid: self.process.pid, task: self.victim.task() }
    }
}

/// Who may be hit now, and why others of the wanted kinds may not.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) targets: Vec<Target>,
    /// Why there is no target of a kind.
    pub(super) missing: Vec<(Kind, String)>,
}

impl Found {
    pub(super) fn of(&self, kind: Kind) -> Vec<&Target> {
        self.targets.iter().filter(|target| target.kind == kind).collect()
    }
}

/// The targets of these kinds in `world`, which was read from `store` just now.
///
/// # Errors
/// [`store::Error`] where Redis did not answer.
pub(super) async fn find(
    store: &Store,
    url: &RedisUrl,
    kinds: &[Kind],
    world: &World,
    here: &Here<'_>,
) -> Result<Found, store::Error> {
    let mut found = Found::default();
    for kind in kinds {
        let of_kind = match kind {
            Kind::Agent => some(agents(world, here), "no living agent is registered on this host"),
            Kind::Orchestrator => some(
                orchestrators(world, here),
                "no living orchestrator leads on this host: see `orch status`",
            ),
            Kind::Redis if !is_local(url) => {
                Err("its URL names neither a loopback address nor a socket".to_owned())
            }
            Kind::Redis => redis(store.server().await?.process_id),
            Kind::Sysg => sysg(&orchestrators(world, here)),
        };
        match of_kind {
            Ok(targets) => found.targets.extend(targets),
            Err(why) => found.missing.push((*kind, why)),
        }
    }
    Ok(found)
}

fn some(targets: Vec<Target>, why_not: &str) -> Result<Vec<Target>, String> {
    if targets.is_empty() { Err(why_not.to_owned()) } else { Ok(targets) }
}

fn agents(world: &World, here: &Here<'_>) -> Vec<Target> {
    let of = |agent: &store::agent::Agent| {
        let registered = agent.registered.as_ref()?;
        let process = Identity { pid: registered.pid, start_time: registered.start_time };
        let held = registered.task.as_ref().map(|(task, epoch)| (task.to_string(), epoch.0));
        here.may_signal(&registered.host, &process).then(|| Target {
            kind: Kind::Agent,
            name: agent.name.to_string(),
            process,
            victim: Victim::Agent {
                name: agent.name.to_string(),
                incarnation: registered.incarnation.0,
                held,
            },
        })
    };
    world.agents.iter().filter_map(of).collect()
}

/// The processes that lead here; each once, for however many controllers.
fn orchestrators(world: &World, here: &Here<'_>) -> Vec<Target> {
    let mut found: Vec<Target> = Vec::new();
    for leader in &world.leaders {
        let process = process_of(&leader.who);
        let is_known = found.iter().any(|target| target.process == process);
        if !is_known && here.may_signal(&leader.who.host, &process) {
            found.push(Target {
                kind: Kind::Orchestrator,
                name: Kind::Orchestrator.to_string(),
                process,
                victim: Victim::Orchestrator { holder: leader.who.holder.clone() },
            });
        }
    }
    found
}

fn redis(pid: u32) -> Result<Vec<Target>, String> {
    let process = of_program(pid, &REDIS)?;
    Ok(vec![Target { kind: Kind::Redis, name: "redis".to_owned(), process, victim: Victim::Redis }])
}

/// The parents of these orchestrators, where they are sysg.
fn sysg(orchestrators: &[Target]) -> Result<Vec<Target>, String> {
    let mut found: Vec<Target> = Vec::new();
    let mut why = "no orchestrator leads on this host, so its supervisor is not known".to_owned();
    for child in orchestrators.iter().map(|target| target.process) {
        let parent = child.parent().ok_or_else(|| format!("orchestrator {child} has ended"));
        let checked = parent.and_then(|pid| {
            let process = of_program(pid, &SYSG)?;
            // A child whose parent is still this one has not ended meanwhile, nor has it.
            let same = parent_is(child, pid);
            if same { Ok(process) } else { Err(format!("process {pid} has ended")) }
        });
        match checked {
            Ok(process) if found.iter().all(|target| target.process != process) => {
                found.push(Target {
                    kind: Kind::Sysg,
                    name: "sysg".to_owned(),
                    process,
                    victim: Victim::Sysg,
                });
            }
            Ok(_) => {}
            Err(error) => why = format!("the orchestrator's parent: {error}"),
        }
    }
    some(found, &why)
}

fn parent_is(child: Identity, pid: u32) -> bool {
    child.parent() == Some(pid)
}

/// The process that has `pid`, where it runs one of these programs.
fn of_program(pid: u32, programs: &[&str]) -> Result<Identity, String> {
    let gone = || format!("process {pid} is not on this host");
    let process = Identity::of(pid).map_err(|error| error.to_string())?.ok_or_else(gone)?;
    let path = std::fs::read_link(format!("/proc/{pid}/exe"))
        .map_err(|error| format!("cannot see which program process {pid} runs: {error}"))?;
    let program = program(&path);
    if pid <= 1 || !programs.contains(&program.as_str()) {
        return Err(format!("process {pid} runs `{program}`, not {}", programs.join(" or ")));
    }
    // What was looked at is still what the pid names.
    if process.is_alive() { Ok(process) } else { Err(gone()) }
}

/// A program's file name; the kernel marks one that was replaced by an update.
fn program(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(" (deleted)").unwrap_or(&name).to_owned()
}

/// Whether what answers at the URL must be on this host.
fn is_local(url: &RedisUrl) -> bool {
    let Some((scheme, rest)) = url.expose().split_once(':') else { return false };
    if matches!(scheme, "unix" | "redis+unix") {
        return true;
    }
    let place = rest.trim_start_matches('/');
    // A password may hold an `@`, and the database comes after the host.
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    let place = place.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match place.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => place.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_should_be_hit_only_where_the_url_is_of_this_host() {
        for (url, local) in [
            ("redis://127.0.0.1:6379", true),
            ("redis://localhost", true),
            ("redis://bob:p@ss@127.0.0.3:1/2", true),
            ("rediss://[::1]:6379/0", true),
            ("unix:/run/redis.sock?db=1", true),
            ("redis://10.0.0.7:6379", false),
            ("redis://127.0.0.1.example.org", false),
            ("redis://localhost:x@example.org/0", false),
            ("redis://[fe80::1]/127.0.0.1", false),
        ] {
            if let Ok(url) = url.parse::<RedisUrl>() {
                assert_eq!(is_local(&url), local, "{url}");
            }
        }
    }

    #[test]
    fn process_should_be_a_target_only_as_the_program_it_should_be() {
        let pid = std::process::id();
        let refused = redis(pid).unwrap_err();
        assert!(refused.contains("not redis-server"), "{refused}");
        assert!(of_program(1, &SYSG).is_err() && of_program(0, &SYSG).is_err());
        let mine = program(&std::env::current_exe().unwrap());
        assert_eq!(of_program(pid, &[&mine]), Ok(Identity::this().unwrap()));
        assert_eq!(program(Path::new("/usr/bin/sysg (deleted)")), "sysg");
    }
}
