//! The Lua scripts, each with what all of them share in front of it.

use std::fmt::Write;
use std::sync::LazyLock;

use model::task::{Cause, DEFAULT_MAX_ATTEMPTS, MAX_LOSSES, MAX_PRIORITY, State, TRANSITIONS};
use redis::Script;

/// How many events the stream keeps, about.
pub(crate) const EVENTS_KEPT: u32 = 100_000;
/// How many errors a task keeps.
const ERRORS_KEPT: u32 = 20;
/// How many answers to directives an agent keeps.
pub(crate) const ANSWERS_KEPT: u32 = 200;
/// How many versions of an agent's instructions are kept.
const INSTRUCTIONS_KEPT: u32 = 20;
/// What the wall clock may be set back without anybody having to mind, in microseconds.
pub(crate) const CLOCK_SLACK_US: u32 = 1_000_000;

const SHARED: [&str; 4] = [
    include_str!("lua/base.lua"),
    include_str!("lua/tasks.lua"),
    include_str!("lua/llm.lua"),
    include_str!("lua/grant.lua"),
];

/// The model's table of transitions and the limits, as Lua.
fn constants() -> String {
    let mut text = String::from("local LEGAL = {known = {");
    for state in State::ALL {
        _ = write!(text, "{state} = true, ");
    }
    text.push('}');
    for cause in Cause::ALL {
        _ = write!(text, ", {cause} = {{");
        for (from, _, to) in TRANSITIONS.iter().filter(|(_, c, _)| *c == cause) {
            _ = write!(text, "{from} = '{to}', ");
        }
        text.push('}');
    }
    _ = writeln!(text, "}}");
    for (name, value) in [
        ("EVENTS_KEPT", EVENTS_KEPT),
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
    text
}

fn assemble(own: &str) -> Script {
    let mut text = constants();
    for part in SHARED {
        text.push_str(part);
    }
    text.push_str(own);
    Script::new(&text)
}

/// Names a script's file once and makes it a static.
macro_rules! scripts {
    ($($name:ident = $file:literal;)*) => {
        $(pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| assemble(include_str!(concat!("lua/", $file))));)*

        #[cfg(test)]
        pub(crate) const FILES: &[&str] = &[$($file),*];
    };
}

scripts! {
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
        let shared = ["base.lua", "tasks.lua", "llm.lua", "grant.lua"];
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lua");
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(FILES.contains(&&*name) || shared.contains(&&*name), "{name} is not used");
        }
    }

    #[test]
    fn table_in_lua_should_be_the_models() {
        let text = constants();
        assert!(text.contains("claim = {ready = 'running', }"), "{text}");
        assert!(text.contains("complete = {running = 'done', }"), "{text}");
    }
}
