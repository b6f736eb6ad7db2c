//! The Lua scripts, each with what all of them share in front of it.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::LazyLock;

use model::task::{DEFAULT_MAX_ATTEMPTS, MAX_LOSSES, MAX_PRIORITY, State, TRANSITIONS};
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
    let mut text = String::from("local STATES = ' ");
    for state in State::ALL {
        _ = write!(text, "{state} ");
    }
    text.push_str("'\nlocal LEGAL = ' ");
    for (from, cause, to) in TRANSITIONS {
        _ = write!(text, "{cause}:{from}>{to} ");
    }
    text.push_str("'\n");
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

/// A script with what it uses of the shared text. Redis runs all of a script's text at each
/// call, also the definitions: those of everything would take longer than most scripts.
fn assemble(own: &str) -> Script {
    let used = DEFINITIONS.used_by(own);
    let counts = used.iter().any(|item| item.names.contains(&"write_counts"));
    let mut text: String = used.iter().map(|item| item.text).collect();
    if counts {
        text.push_str("local function script()\n");
        text.push_str(own);
        text.push_str("\nend\nlocal reply = script()\nwrite_counts()\nreturn reply\n");
    } else {
        text.push_str(own);
    }
    Script::new(&text)
}

/// What all scripts may use, read once: each process assembles a dozen of them as it starts.
static DEFINITIONS: LazyLock<Definitions<'static>> = LazyLock::new(|| {
    let text = std::iter::once(constants()).chain(SHARED.map(str::to_owned)).collect::<String>();
    Definitions::read(text.leak())
});

/// One definition, with the comment above it.
#[derive(Debug)]
struct Item<'a> {
    text: &'a str,
    /// In front of `=` or behind `function`; none for a comment by itself.
    names: Vec<&'a str>,
}

#[derive(Debug)]
struct Definitions<'a> {
    items: Vec<Item<'a>>,
    by_name: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Definitions<'a> {
    /// Each begins at a comment's or a `local`'s line that follows the end of the one before.
    fn read(text: &'a str) -> Self {
        let mut starts = Vec::new();
        let (mut at, mut has_body) = (0, true);
        for line in text.split_inclusive('\n') {
            let is_start = line.starts_with("local ");
            if has_body && (is_start || line.starts_with("--")) {
                starts.push(at);
                has_body = false;
            }
            has_body |= is_start;
            at += line.len();
        }
        let ends = starts.iter().skip(1).copied().chain([text.len()]);
        let texts = starts.iter().zip(ends).map(|(start, end)| &text[*start..end]);
        let items: Vec<Item<'a>> = texts.map(|text| Item { text, names: names(text) }).collect();
        let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
        for (n, item) in items.iter().enumerate() {
            for name in &item.names {
                by_name.entry(name).or_default().push(n);
            }
        }
        Self { items, by_name }
    }

    /// What `own` uses, directly or not, in the order of the text.
    fn used_by(&self, own: &str) -> Vec<&Item<'a>> {
        let mut is_used = vec![false; self.items.len()];
        let mut wanted: Vec<&str> = words(own).collect();
        while let Some(name) = wanted.pop() {
            for n in self.by_name.get(name).into_iter().flatten() {
                let Some(item) = self.items.get(*n) else { continue };
                if !std::mem::replace(&mut is_used[*n], true) {
                    wanted.extend(words(item.text).filter(|word| self.by_name.contains_key(word)));
                    // Who counts writes the counts.
                    if name == "count" {
                        wanted.push("write_counts");
                    }
                }
            }
        }
        let used = self.items.iter().zip(is_used);
        used.filter_map(|(item, is_used)| is_used.then_some(item)).collect()
    }
}

fn names(text: &str) -> Vec<&str> {
    let line = text.lines().find_map(|line| line.strip_prefix("local ")).unwrap_or_default();
    let line = line.strip_prefix("function ").unwrap_or(line);
    let names = line.split(['=', '(']).next().unwrap_or_default();
    names.split(',').map(str::trim).filter(|name| !name.is_empty()).collect()
}

/// The words of a Lua text, without those of whole lines of comment and of texts.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("--"));
    // None of the scripts has a quote in a text, or a text over several lines.
    let code = code.flat_map(|line| line.split('\'').step_by(2));
    code.flat_map(|code| code.split(|c: char| !c.is_alphanumeric() && c != '_'))
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
        assert!(text.contains(" claim:ready>running "), "{text}");
        assert!(text.contains(" complete:running>done "), "{text}");
        assert!(text.contains(" blocked ready running "), "{text}");
    }

    #[test]
    fn script_should_get_what_it_uses_and_nothing_else() {
        let shared = "\
-- Of the whole.

-- A limit.
local A, B = 1, 2

local function b()
  -- c is not meant
  return A
end
-- Uses b.
local function c() return b() end
local function d() return 'x' end
";
        let all = Definitions::read(shared);
        let used = |own| all.used_by(own).iter().map(|item| item.text).collect::<String>();
        assert_eq!(used("return 1"), "");
        assert_eq!(used("return d()"), "local function d() return 'x' end\n");
        let of_b = "-- A limit.\nlocal A, B = 1, 2\n\nlocal function b()\n  -- c is not meant\n  return A\nend\n";
        assert!(used("return b()").ends_with(of_b));
        assert!(used("return c()").ends_with("-- Uses b.\nlocal function c() return b() end\n"));
        assert!(!used("return c()").contains("function d"));
    }

    #[test]
    fn scripts_should_be_short() {
        // A sign of life is the most frequent call: it needs no plans, queues or models.
        let shared = SHARED.concat();
        let beat = DEFINITIONS.used_by(include_str!("lua/beat.lua"));
        let length: usize = beat.iter().map(|item| item.text.len()).sum();
        assert!(length * 4 < shared.len(), "{length} of {}", shared.len());
    }
}
