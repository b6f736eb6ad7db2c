//! The Lua scripts, and what all of them share: one library of functions.

use std::fmt::Write;
use std::sync::LazyLock;

use model::task::{DEFAULT_MAX_ATTEMPTS, MAX_LOSSES, MAX_PRIORITY, State, TRANSITIONS};

/// How many events the stream keeps, about.
const EVENTS_KEPT: u32 = 100_000;
/// How many errors a task keeps.
const ERRORS_KEPT: u32 = 20;
/// How many answers to directives an agent keeps.
pub(crate) const ANSWERS_KEPT: u32 = 200;
/// How many versions of an agent's instructions are kept.
const INSTRUCTIONS_KEPT: u32 = 20;
/// What the wall clock may be set back without anybody having to mind, in microseconds.
pub(crate) const CLOCK_SLACK_US: u32 = 1_000_000;

/// In this order: each uses those above it.
const SHARED: [&str; 5] = [
    include_str!("lua/base.lua"),
    include_str!("lua/tasks.lua"),
    include_str!("lua/llm.lua"),
    include_str!("lua/grant.lua"),
    include_str!("lua/script.lua"),
];

/// The model's table of transitions and the limits, as Lua.
fn constants() -> String {
    let mut text = String::from("local STATES = ' ");
    for state in State::ALL {
        _ = write!(text, "{state} ");
    }
    text.push_str("'\nlocal LEGAL = {}\n");
    for (from, cause, to) in TRANSITIONS {
        _ = writeln!(text, "LEGAL.{cause} = LEGAL.{cause} or {{}}\nLEGAL.{cause}.{from} = '{to}'");
    }
    for (name, value) in [
        ("ERRORS_KEPT", ERRORS_KEPT),
        ("ANSWERS_KEPT", ANSWERS_KEPT),
        ("INSTRUCTIONS_KEPT", INSTRUCTIONS_KEPT),
        ("CLOCK_SLACK_US", CLOCK_SLACK_US),
        ("MAX_LOSSES", MAX_LOSSES),
        ("MAX_PRIORITY", MAX_PRIORITY),
        ("DEFAULT_MAX_ATTEMPTS", DEFAULT_MAX_ATTEMPTS),
    ] {
        _ = writeln!(text, "local {name} = {value}");
    }
    // A number would be written out anew in each call of a command.
    _ = writeln!(text, "local EVENTS_KEPT = '{EVENTS_KEPT}'");
    text
}

/// One script: a function of the [`Library`].
#[derive(Debug)]
pub(crate) struct Script {
    /// How Redis knows it.
    pub(crate) name: String,
}

/// All scripts as what Redis calls a library: it runs the text once, where it is loaded, and
/// not at each call. The names end with the text's digest, so that processes of two versions
/// can use one Redis, each with its own scripts.
#[derive(Debug)]
pub(crate) struct Library {
    pub(crate) name: String,
    pub(crate) text: String,
    digest: String,
}

/// How the names of all our libraries begin.
pub(crate) const LIBRARIES: &str = "orch_";
/// Only these write nothing, and Redis is told so: they run also where it can write nothing.
const READERS: [&str; 1] = ["agents.lua"];
/// As many digits as make two versions differ.
const DIGEST_DIGITS: usize = 12;

pub(crate) static LIBRARY: LazyLock<Library> = LazyLock::new(|| Library::of(&shared(), SOURCES));

fn shared() -> String {
    std::iter::once(constants()).chain(SHARED.map(str::to_owned)).collect()
}

impl Library {
    fn of(shared: &str, sources: &[(&str, &str)]) -> Self {
        let mut scripts = String::new();
        for (file, source) in sources {
            let (stem, reads) = (stem(file), READERS.contains(file));
            _ = write!(scripts, "\nscript('{stem}', {reads}, function()\n{source}end)\n");
        }
        let mut digest = redis::Script::new(&format!("{shared}{scripts}")).get_hash().to_owned();
        digest.truncate(DIGEST_DIGITS);
        let name = format!("{LIBRARIES}{digest}");
        let text = format!("#!lua name={name}\nlocal DIGEST = '{digest}'\n{shared}{scripts}");
        Self { name, text, digest }
    }

    fn script(&self, file: &str) -> Script {
        Script { name: format!("{}_{}", stem(file), self.digest) }
    }
}

fn stem(file: &str) -> &str {
    file.strip_suffix(".lua").unwrap_or(file)
}

/// Names a script's file once and makes it a static.
macro_rules! scripts {
    ($($name:ident = $file:literal;)*) => {
        $(pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| LIBRARY.script($file));)*

        /// Each script's file and text.
        const SOURCES: &[(&str, &str)] = &[$(($file, include_str!(concat!("lua/", $file)))),*];
    };
}

scripts! {
    AGENTS = "agents.lua";
    AGENT_STATUS = "agent_status.lua";
    BEAT = "beat.lua";
    BURY = "bury.lua";
    CANDIDATES = "candidates.lua";
    CLAIM = "claim.lua";
    COMPLETE = "complete.lua";
    DAG_ACCEPT = "dag_accept.lua";
    DAG_RESERVE = "dag_reserve.lua";
    DAG_STAGE = "dag_stage.lua";
    DEREGISTER = "deregister.lua";
    DETOUR = "detour.lua";
    DIRECTIVE = "directive.lua";
    FAIL = "fail.lua";
    FLEET = "fleet.lua";
    GOAL_NOTE = "goal_note.lua";
    GOAL_ROLLUP = "goal_rollup.lua";
    INSTRUCTIONS = "instructions.lua";
    LEAD = "lead.lua";
    LLM_BEGIN = "llm_begin.lua";
    LLM_END = "llm_end.lua";
    LLM_LEAVE = "llm_leave.lua";
    LLM_RENEW = "llm_renew.lua";
    MEASURES = "measures.lua";
    MEMORY = "memory.lua";
    PARK = "park.lua";
    PROMOTE = "promote.lua";
    REAP = "reap.lua";
    REGISTER = "register.lua";
    RELEASE = "release.lua";
    REPAIR = "repair.lua";
    RESIGN = "resign.lua";
    RETRY = "retry.lua";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lua_file_should_be_a_script_or_shared() {
        let shared = ["base.lua", "tasks.lua", "llm.lua", "grant.lua", "script.lua"];
        let files: Vec<&str> = SOURCES.iter().map(|(file, _)| *file).collect();
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lua");
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(files.contains(&&*name) || shared.contains(&&*name), "{name} is not used");
        }
    }

    #[test]
    fn table_in_lua_should_be_the_models() {
        let text = constants();
        assert!(text.contains("\nLEGAL.claim.ready = 'running'\n"), "{text}");
        assert!(text.contains("\nLEGAL.complete.running = 'done'\n"), "{text}");
        assert!(text.contains(" blocked ready running "), "{text}");
    }

    #[test]
    fn names_should_differ_where_any_text_does() {
        let one = Library::of("-- a\n", &[("claim.lua", "return 1\n")]);
        assert_eq!(one.script("claim.lua").name, format!("claim_{}", &one.name[5..]));
        for (shared, source) in [("-- b\n", "return 1\n"), ("-- a\n", "return 2\n")] {
            let other = Library::of(shared, &[("claim.lua", source)]);
            assert_ne!(one.name, other.name);
        }
        assert!(LIBRARY.text.starts_with("#!lua name=orch_"), "{}", LIBRARY.name);
    }
}
