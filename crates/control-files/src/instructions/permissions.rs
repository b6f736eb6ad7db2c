//! What an agent's model may do: its tools, its permission mode, and the variables
//! that reach what it runs. All of these end up on a command line or in an
//! environment, so each is checked word by word.

use std::ops::Range;

use model::Provider;

use super::Context;
use super::settings::{self, Setting, Spot};
use crate::suggest::nearest;

/// The longest tool or name of a variable.
const MAX_CHARS: usize = 256;
/// The most entries of one list.
const MAX_ENTRIES: usize = 100;

/// The modes that today's programs have, and whose they are.
const MODES: &[(&str, Provider)] = &[
    ("default", Provider::Claude),
    ("acceptEdits", Provider::Claude),
    ("plan", Provider::Claude),
    ("auto", Provider::Claude),
    ("dontAsk", Provider::Claude),
    (BYPASS, Provider::Claude),
    ("read-only", Provider::Codex),
    ("workspace-write", Provider::Codex),
    (FULL_ACCESS, Provider::Codex),
];
const BYPASS: &str = "bypassPermissions";
const FULL_ACCESS: &str = "danger-full-access";

/// The tools that `setting` allows, in the order in which they are written.
pub(super) fn tools(context: &mut Context<'_>, setting: &Setting) -> Vec<String> {
    list(context, "tool", setting, |text| split(text, true), tool)
}

/// The names of variables in `setting`.
pub(super) fn environment(context: &mut Context<'_>, setting: &Setting) -> Vec<String> {
    list(context, "variable", setting, |text| split(text, false), variable)
}

/// A permission mode; what a risky one allows is said.
pub(super) fn mode(
    context: &mut Context<'_>,
    spot: &Spot,
    provider: Option<Provider>,
) -> Option<String> {
    let mode = settings::value(context, "permission mode", spot, settings::name)?;
    let known = MODES.iter().find(|(word, _)| *word == mode);
    match known {
        None => {
            let words = || MODES.iter().map(|(word, _)| *word);
            let help = match nearest(&mode, words()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known: {}", words().collect::<Vec<_>>().join(", ")),
            };
            let shown = mode.escape_debug();
            let message = format!(
                "orch does not know the permission mode `{shown}`: it is passed on as it is"
            );
            context.warning(&spot.range, message, Some(help));
        }
        Some((word, whose)) => {
            if let Some(provider @ (Provider::Claude | Provider::Codex)) = provider
                && provider != *whose
            {
                let words: Vec<&str> =
                    MODES.iter().filter(|(_, whose)| *whose == provider).map(|(w, _)| *w).collect();
                let message =
                    format!("`{word}` is a mode of {whose}, and this agent uses {provider}");
                context.warning(
                    &spot.range,
                    message,
                    Some(format!("{provider} has: {}", words.join(", "))),
                );
            }
            warn_of_risk(context, &spot.range, word);
        }
    }
    Some(mode)
}

fn warn_of_risk(context: &mut Context<'_>, at: &Range<usize>, mode: &str) {
    let (allows, instead) = match mode {
        BYPASS => (
            "run any command and write any file that your user may, without asking, also \
             outside of the goal's folder",
            "`acceptEdits`, and `Tools:` for the commands that it needs",
        ),
        FULL_ACCESS => (
            "run any command, write any file that your user may and reach the network, \
             without a sandbox",
            "`workspace-write`",
        ),
        _ => return,
    };
    let message = format!("`{mode}` lets the model {allows}");
    let help = format!("write {instead}; use this mode only in a container or virtual machine");
    context.warning(at, message, Some(help));
}

fn list(
    context: &mut Context<'_>,
    what: &str,
    setting: &Setting,
    split: impl Fn(&str) -> Vec<Range<usize>>,
    check: impl Fn(&str) -> Result<String, String>,
) -> Vec<String> {
    let spots = match &setting.items[..] {
        [] => parts(context, &setting.value, split),
        items => items.to_vec(),
    };
    if spots.is_empty() {
        let value = Spot { text: String::new(), range: setting.value.range.clone() };
        _ = settings::value(context, &setting.key, &value, &check);
    }
    if let Some(extra) = spots.get(MAX_ENTRIES) {
        let message = format!("at most {MAX_ENTRIES} entries may stand in one `{}`", setting.key);
        context.error(&extra.range, message, Some("remove those that are not needed".to_owned()));
        return Vec::new();
    }
    let mut found = Vec::new();
    for spot in spots {
        if let Some(entry) = settings::value(context, what, &spot, &check)
            && !found.contains(&entry)
        {
            found.push(entry);
        }
    }
    found
}

/// The entries of a value on one line, each with its place.
fn parts(
    context: &Context<'_>,
    value: &Spot,
    split: impl Fn(&str) -> Vec<Range<usize>>,
) -> Vec<Spot> {
    // In YAML the value may be spelled in other characters than it has.
    let start = context.source.slice(&value.range).find(&value.text);
    let place = |within: &Range<usize>| {
        start.map_or_else(
            || value.range.clone(),
            |start| {
                let start = value.range.start + start;
                start + within.start..start + within.end
            },
        )
    };
    let pieces = split(&value.text).into_iter().map(|within| {
        let spot = settings::clean(&value.text, &within);
        Spot { range: place(&spot.range), text: spot.text }
    });
    pieces.filter(|spot| !spot.text.is_empty()).collect()
}

/// The places in `text` between commas; those in parentheses separate nothing where
/// these are `nested`.
fn split(text: &str, nested: bool) -> Vec<Range<usize>> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0usize);
    for (at, c) in text.char_indices() {
        match c {
            '(' if nested => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(start..at);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(start..text.len());
    parts
}

/// `Read`, `Bash(git:*)`, `mcp__server__tool`.
fn tool(written: &str) -> Result<String, String> {
    if written.starts_with('-') {
        return Err("a tool does not begin with -, which would make it an option".to_owned());
    }
    if written.chars().any(char::is_control) || written.chars().count() > MAX_CHARS {
        return Err(format!("write at most {MAX_CHARS} characters without control characters"));
    }
    let mut depth = 0i32;
    for c in written.chars() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        if depth < 0 {
            break;
        }
    }
    if depth != 0 {
        return Err("its parentheses do not match: write for example Bash(git:*)".to_owned());
    }
    Ok(written.to_owned())
}

/// `GITHUB_TOKEN`, or `AWS_*` for all that begin so.
fn variable(written: &str) -> Result<String, String> {
    if written == "*" {
        return Err("everything would reach the model's program, orch's own secrets included: \
                    name the variables, as GITHUB_TOKEN, or how they begin, as AWS_*"
            .to_owned());
    }
    let stem = written.strip_suffix('*').unwrap_or(written);
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let begins_well = stem.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if begins_well && stem.chars().all(legal) && written.len() <= MAX_CHARS {
        return Ok(written.to_owned());
    }
    if written.contains('=') {
        return Err("write the name alone: the value comes from the environment".to_owned());
    }
    Err("a variable's name has only A-Z a-z 0-9 _ and does not begin with a digit; \
         a * may end it, as in AWS_*"
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_parentheses_should_belong_to_the_tool() {
        let parts = |text: &str, nested| -> Vec<String> {
            split(text, nested).into_iter().map(|part| text[part].trim().to_owned()).collect()
        };
        assert_eq!(parts("Read, Bash(a, b(c,d)), X", true), ["Read", "Bash(a, b(c,d))", "X"]);
        assert_eq!(parts("Bash(a, b", true), ["Bash(a, b"]);
        assert_eq!(parts("a), b", true), ["a)", "b"]);
        assert_eq!(parts("A(,B", false), ["A(", "B"]);
    }

    #[test]
    fn tools_should_not_become_options_or_break_lines() {
        for text in ["Read", "Bash(git:*)", "Bash(git log:*, git diff)", "mcp__x__y"] {
            assert_eq!(tool(text).as_deref(), Ok(text));
        }
        let long = "x".repeat(MAX_CHARS + 1);
        for text in ["-p", "--allowed", "a\u{1b}b", "Bash(", "Bash)(", &long] {
            assert!(tool(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn variables_should_be_names_and_never_all() {
        for text in ["GITHUB_TOKEN", "AWS_*", "_x1", "A*"] {
            assert_eq!(variable(text).as_deref(), Ok(text));
        }
        for text in ["*", "**", "A*B", "1A", "A=b", "A B", "A-B", "ä", "=", "$HOME"] {
            assert!(variable(text).is_err(), "{text:?}");
        }
    }
}
