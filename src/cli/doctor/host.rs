//! Checks of this host and the project: systemg, control files, folders, kernel.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use control_files::instructions::parse;
use control_files::read::read;
use model::Declared;
use rustix::process::{PidfdFlags, Resource, getpid, getrlimit, pidfd_open};
use supervisor::Sysg;

use super::Check;
use crate::cli::text::count;
use crate::paths;

/// The version that all tests ran against.
const TESTED: &str = "0.69.2";
/// The oldest whose command line is known to do.
const OLDEST: (u32, u32) = (0, 35);
/// The service that spawns the agents.
const SERVICE: &str = "orchestrator";
/// Files that the orchestrator holds open besides one per agent.
const OTHER_FILES: u64 = 128;
const INSTANCES: u64 = 16;
const WATCHES: u64 = 1_024;

/// The control file, and what it declares where it can be read.
pub(super) fn instructions(project: &Path) -> (Check, Option<Declared>) {
    let name = "instructions";
    let file = project.join("INSTRUCTIONS.md");
    let text = match read(project, &file) {
        Ok(text) => text,
        Err(error) => {
            let advice = "run `orch init`, or say where the project is with --project";
            return (Check::fail(name, reconcile::error_chain(&error), advice), None);
        }
    };
    let parsed = parse(project, &file, &text).settled();
    let errors = parsed.diagnostics.iter().filter(|found| found.is_error()).count();
    let found = format!(
        "{}, {}",
        count(parsed.declared.agents.len() as u64, "agent", "agents"),
        count(parsed.declared.goals.len() as u64, "goal", "goals")
    );
    let check = if errors > 0 {
        let found = format!("{}; {found}", count(errors as u64, "error", "errors"));
        Check::fail(name, found, "run `orch validate`: it shows each error with its line")
    } else if parsed.declared.agents.is_empty() {
        Check::warn(name, found, "declare an agent under `## Agents`")
    } else {
        Check::ok(name, found)
    };
    (check, Some(parsed.declared))
}

pub(super) async fn systemg(path: Option<&Path>) -> Check {
    let name = "systemg";
    let sysg = match Sysg::find(path) {
        Ok(sysg) => sysg,
        Err(error) => {
            return Check::fail(
                name,
                reconcile::error_chain(&error),
                "without it no agent is started",
            );
        }
    };
    let program = sysg.program().display().to_string();
    match sysg.version().await {
        Ok(version) if old(&version) => Check::warn(
            name,
            format!("{version}, {program}"),
            format!("install {TESTED}, with which orch is tested"),
        ),
        Ok(version) => Check::ok(name, format!("{version}, {program}")),
        Err(error) => Check::fail(name, reconcile::error_chain(&error), "install it anew"),
    }
}

fn old(version: &str) -> bool {
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < OLDEST
}

/// `with_models`: whether systemg starts the programs of models as well, as children of
/// the agents.
pub(super) fn spawn_limits(
    project: &Path,
    declared: Option<&Declared>,
    with_models: bool,
) -> Check {
    let name = "spawn limits";
    let agents = declared.map_or(0, |declared| declared.agents.len()) as u64;
    let limits = match supervisor::spawn_limits(&project.join("systemg.yaml"), SERVICE) {
        Ok(limits) => limits,
        Err(error) => {
            let advice = "write a systemg.yaml as `orch init` does, with a service `orchestrator`";
            return Check::warn(name, reconcile::error_chain(&error), advice);
        }
    };
    let most = limits.most_children();
    let found = format!("{most} children allowed, {} declared", count(agents, "agent", "agents"));
    if !limits.dynamic {
        let advice = "set `spawn: {mode: dynamic}` of the orchestrator in systemg.yaml";
        return Check::fail(name, "systemg.yaml lets the orchestrator spawn nothing", advice);
    }
    // An agent, and the program of its model below it.
    if with_models && (limits.depth < 2 || limits.descendants < 2 * agents) {
        let found = format!(
            "depth {} and {} descendants allowed; with --llm-use-sysg each of {} has a child of \
             its own",
            limits.depth,
            limits.descendants,
            count(agents, "agent", "agents")
        );
        let advice = "set `spawn.limits` of the orchestrator in systemg.yaml to `depth: 2` and \
                      more descendants, or run without --llm-use-sysg";
        return Check::fail(name, found, advice);
    }
    let advice = "raise `spawn.limits` (children, descendants) of the orchestrator in systemg.yaml";
    if most < agents {
        Check::fail(name, found, advice)
    } else if most < agents + agents.div_ceil(4) {
        // A replaced agent finishes its task while its successor starts.
        Check::warn(name, format!("{found}: few are left for replacing agents"), advice)
    } else {
        Check::ok(name, found)
    }
}

pub(super) fn folders(project: &Path, declared: Option<&Declared>) -> Vec<Check> {
    let name = "folders";
    let state = paths::state_folder(project);
    let mut checks = Vec::new();
    if let Err(error) = writable(&state) {
        checks.push(Check::fail(
            name,
            format!("cannot write into {}: {error}", state.display()),
            "logs, results and the last good INSTRUCTIONS.md go there: make room there, or mend \
             its permissions",
        ));
    }
    let agents = declared.into_iter().flat_map(|declared| declared.agents.values());
    let beside: BTreeSet<PathBuf> =
        agents.filter_map(|agent| agent.heartbeat.parent().map(Path::to_owned)).collect();
    for folder in &beside {
        if !folder.is_dir() {
            checks.push(Check::warn(
                name,
                format!("{} does not exist", folder.display()),
                "make it: heartbeat files lie there, and the answers to their directives",
            ));
        } else if rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_err() {
            checks.push(Check::fail(
                name,
                format!("cannot write into {}", folder.display()),
                "answers to directives go there: make room there, or mend its permissions",
            ));
        }
    }
    if checks.is_empty() {
        checks.push(Check::ok(
            name,
            format!("{} and what lies below can be written", project.display()),
        ));
    }
    checks
}

/// Writes and removes a file, which also finds a full disk.
fn writable(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let file = folder.join(format!(".doctor-{}", std::process::id()));
    let written = std::fs::write(&file, "doctor");
    let removed = std::fs::remove_file(&file);
    written.and(removed)
}

pub(super) fn kernel(agents: usize) -> Vec<Check> {
    vec![pidfds(), inotify(), open_files(agents as u64)]
}

fn pidfds() -> Check {
    match pidfd_open(getpid(), PidfdFlags::empty()) {
        Ok(_) => Check::ok("kernel", "processes can be watched (pidfd)"),
        Err(error) => Check::fail(
            "kernel",
            format!("processes cannot be watched: pidfd_open says {error}"),
            "Linux 5.3 or newer is needed, and a container that allows pidfd_open",
        ),
    }
}

fn inotify() -> Check {
    let name = "inotify";
    let limit = |what: &str| {
        std::fs::read_to_string(format!("/proc/sys/fs/inotify/{what}"))
            .ok()
            .and_then(|text| text.trim().parse::<u64>().ok())
    };
    if let Err(error) = control_files::Watch::new(|_| ()) {
        return Check::warn(
            name,
            reconcile::error_chain(&error),
            "files are then looked at by the resync only; raise fs.inotify.max_user_instances",
        );
    }
    let (instances, watches) = (limit("max_user_instances"), limit("max_user_watches"));
    let shown = |n: Option<u64>| n.map_or_else(|| "?".to_owned(), |n| n.to_string());
    let found = format!("{} instances, {} watches allowed", shown(instances), shown(watches));
    let low = instances.is_some_and(|n| n < INSTANCES) || watches.is_some_and(|n| n < WATCHES);
    if low {
        let advice = "raise fs.inotify.max_user_instances and max_user_watches with sysctl";
        return Check::warn(name, found, advice);
    }
    Check::ok(name, found)
}

fn open_files(agents: u64) -> Check {
    let name = "open files";
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < agents + OTHER_FILES => Check::warn(
            name,
            format!("{limit} allowed, {} agents declared", agents),
            format!("raise it to {} or more (ulimit -n)", 2 * (agents + OTHER_FILES)),
        ),
        Some(limit) => Check::ok(name, format!("{limit} allowed")),
        None => Check::ok(name, "any number allowed"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;

    fn project(spawn: &str, agents: usize) -> (tempfile::TempDir, Option<Declared>) {
        let folder = tempfile::tempdir().unwrap();
        let manifest = format!(
            "version: \"2\"\nservices:\n  orchestrator:\n    exec: [orch]\n    spawn: {spawn}\n"
        );
        std::fs::write(folder.path().join("systemg.yaml"), manifest).unwrap();
        let mut text = String::from("## Goals\n### g\nText.\n\n## Agents\n");
        for n in 0..agents {
            text.push_str(&format!("### a{n}\n- Goal: g\n- Heartbeat: ./heartbeat/a{n}.md\n\n"));
        }
        std::fs::write(folder.path().join("INSTRUCTIONS.md"), text).unwrap();
        let declared = instructions(folder.path()).1;
        (folder, declared)
    }

    #[test]
    fn spawn_limits_should_be_held_against_the_declared_agents() {
        for (limits, agents, grade) in [
            ("{mode: dynamic, limits: {children: 3}}", 4, Grade::Fail),
            ("{mode: dynamic, limits: {children: 4}}", 4, Grade::Warn),
            ("{mode: dynamic, limits: {children: 5}}", 4, Grade::Ok),
            ("{mode: static}", 1, Grade::Fail),
        ] {
            let (folder, declared) = project(limits, agents);
            let check = spawn_limits(folder.path(), declared.as_ref(), false);
            assert_eq!(check.grade, grade, "{limits}: {}", check.found);
        }
        let none = spawn_limits(Path::new("/no/such/folder"), None, false);
        assert_eq!(none.grade, Grade::Warn);
    }

    #[test]
    fn spawn_limits_should_have_room_for_models_under_systemg() {
        for (limits, grade) in [
            ("{mode: dynamic, limits: {depth: 1}}", Grade::Fail),
            ("{mode: dynamic, limits: {depth: 2}}", Grade::Ok),
            ("{mode: dynamic, limits: {depth: 2, descendants: 7}}", Grade::Fail),
        ] {
            let (folder, declared) = project(limits, 4);
            let check = spawn_limits(folder.path(), declared.as_ref(), true);
            assert_eq!(check.grade, grade, "{limits}: {}", check.found);
        }
    }

    #[test]
    fn folder_that_is_missing_should_be_named() {
        let (folder, declared) = project("{mode: dynamic}", 1);
        let checks = folders(folder.path(), declared.as_ref());
        assert!(checks[0].found.contains("heartbeat does not exist"), "{checks:?}");
        std::fs::create_dir(folder.path().join("heartbeat")).unwrap();
        assert_eq!(folders(folder.path(), declared.as_ref())[0].grade, Grade::Ok);
    }

    #[test]
    fn old_systemg_should_be_told_apart() {
        assert!(old("0.34.9") && !old("0.35.0") && !old("0.69.2") && !old("1.0.0"));
    }
}
