//! How an agent's process is recognised by its command line: the orchestrator that
//! started it may be gone, and nobody else lists it.

use std::collections::BTreeSet;
use std::io;

use model::AgentName;
use process::Identity;

/// Names the project that a process belongs to.
pub const FLEET: &str = "--fleet";
/// Names the agent that a process is.
pub const AGENT_NAME: &str = "--agent-name";

/// The agents' processes of `fleet` on this host. Reads all of `/proc`.
pub(crate) fn find(fleet: &str) -> io::Result<Vec<(AgentName, Identity)>> {
    let found = process::find(|args| is_agent_of(args, fleet))?;
    let pids: BTreeSet<u32> = found.iter().map(|process| process.identity.pid).collect();
    let agents = found.into_iter().filter_map(|process| {
        let args: Vec<&str> = process.args.iter().map(String::as_str).collect();
        let name = agent_name(&args)?;
        // What an agent starts shows the agent's arguments until it calls exec(2), and
        // remains the same process after that: taken for an agent that does not
        // register, it would be ended in the middle of its work.
        (!pids.contains(&process.parent)).then_some((name, process.identity))
    });
    Ok(agents.collect())
}

/// Whether these are the arguments of an agent of this fleet.
fn is_agent_of(args: &[&str], fleet: &str) -> bool {
    value(args, FLEET) == Some(fleet) && agent_name(args).is_some()
}

/// Which agent it is.
fn agent_name(args: &[&str]) -> Option<AgentName> {
    value(args, AGENT_NAME).and_then(|name| AgentName::new(name).ok())
}

fn value<'a>(args: &[&'a str], name: &str) -> Option<&'a str> {
    let at = args.iter().position(|arg| *arg == name)?;
    // `sysg start .. -- orch run --fleet ..` carries the same arguments while it runs,
    // and is no agent.
    if args[..at].contains(&"--") {
        return None;
    }
    args.get(at + 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agent_should_be_known_by_fleet_and_name() {
        let args = ["orch", "run", FLEET, "f", AGENT_NAME, "a"];
        assert!(is_agent_of(&args, "f"));
        assert!(!is_agent_of(&args, "g"));
        assert_eq!(agent_name(&args), AgentName::new("a").ok());
        assert!(!is_agent_of(&["orch", FLEET, "f"], "f"));
        assert!(!is_agent_of(&["orch", AGENT_NAME, "a", FLEET], "f"));
    }

    #[test]
    fn sysg_that_starts_an_agent_should_not_be_taken_for_it() {
        let args = ["sysg", "start", "--", "orch", "run", FLEET, "f", AGENT_NAME, "a"];
        assert!(!is_agent_of(&args, "f"));
    }
}
