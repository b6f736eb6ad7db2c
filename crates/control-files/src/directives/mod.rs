//! Heartbeat files: what people tell agents now, one directive per line.
//!
//! [`parse_line`] says what one line means. [`additions()`] says which lines a
//! person has added since the file was last looked at, in steps that survive a
//! crash between any two of them. The answers go to [`ack_path`]; the file
//! itself is never written.

mod additions;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use model::TaskId;
use model::task::MAX_PRIORITY;

pub use additions::{Additions, LastLine, Seen, Step, additions};

use crate::suggest::nearest;

/// The directives' words, as they are documented.
pub const WORDS: [&str; 6] = ["PAUSE", "RESUME", "REPARSE", "DROP-TASK", "ELEVATE", "FLUSH-MEMORY"];

/// How much of a refused line an answer quotes, in characters.
const QUOTED_CHARS: usize = 60;

/// What a person tells an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Directive {
    /// Claim nothing more after the present task.
    Pause,
    /// Claim again.
    Resume,
    /// Read the instructions again and plan again.
    Reparse,
    /// Take a task from whoever runs it and make it READY.
    DropTask(TaskId),
    /// Give a task another priority.
    Elevate(TaskId, u32),
    /// Forget the agent's context.
    FlushMemory,
}

impl fmt::Display for Directive {
    /// As a person would write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pause => f.write_str("PAUSE"),
            Self::Resume => f.write_str("RESUME"),
            Self::Reparse => f.write_str("REPARSE"),
            Self::DropTask(task) => write!(f, "DROP-TASK {task}"),
            Self::Elevate(task, priority) => write!(f, "ELEVATE {task} {priority}"),
            Self::FlushMemory => f.write_str("FLUSH-MEMORY"),
        }
    }
}

/// What one line of a heartbeat file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Nothing but white space.
    Blank,
    /// `# ..`, a Markdown heading by that rule, or `<!-- .. -->`.
    Comment,
    /// To be carried out.
    Directive(Directive),
    /// Neither; the reason says what to write instead.
    Refused(String),
}

/// Where the answers to the lines of a heartbeat file go: `<name>.ack.md` beside it.
#[must_use]
pub fn ack_path(heartbeat: &Path) -> PathBuf {
    let name = if heartbeat.extension().is_some_and(|extension| extension == "md") {
        heartbeat.file_stem()
    } else {
        heartbeat.file_name()
    };
    let mut name: OsString = name.unwrap_or_default().to_owned();
    name.push(".ack.md");
    heartbeat.with_file_name(name)
}

/// What a line says without white space around it, list marker and comment.
fn content(line: &str) -> &str {
    let mut rest = line.trim().trim_start_matches('\u{feff}').trim_start();
    for marker in ["-", "*", "+"] {
        if let Some(after) = rest.strip_prefix(marker)
            && (after.is_empty() || after.starts_with(char::is_whitespace))
        {
            rest = after.trim_start();
            break;
        }
    }
    if rest.starts_with("<!--") && rest.find("-->").is_some_and(|end| end + 3 == rest.len()) {
        return "";
    }
    let mut before = ' ';
    for (at, c) in rest.char_indices() {
        if c == '#' && before.is_whitespace() {
            return rest[..at].trim_end();
        }
        before = c;
    }
    rest
}

/// What `line` means. Words may be in any case.
#[must_use]
pub fn parse_line(line: &str) -> Line {
    let text = content(line);
    let mut words = text.split_whitespace();
    let Some(word) = words.next() else {
        let bare = line.trim().trim_start_matches(['-', '*', '+', '\u{feff}']);
        return if bare.trim().is_empty() { Line::Blank } else { Line::Comment };
    };
    let arguments: Vec<&str> = words.collect();
    match directive(word, &arguments) {
        Ok(directive) => Line::Directive(directive),
        Err(reason) => Line::Refused(reason),
    }
}

fn directive(word: &str, arguments: &[&str]) -> Result<Directive, String> {
    let upper = word.to_ascii_uppercase();
    let alone = |directive| match arguments {
        [] => Ok(directive),
        [..] => Err(format!(
            "`{upper}` stands alone, but `{}` follows it: write just `{upper}`",
            quoted(&arguments.join(" "))
        )),
    };
    match upper.as_str() {
        "PAUSE" => alone(Directive::Pause),
        "RESUME" => alone(Directive::Resume),
        "REPARSE" => alone(Directive::Reparse),
        "FLUSH-MEMORY" => alone(Directive::FlushMemory),
        "DROP-TASK" => match arguments {
            [id] => Ok(Directive::DropTask(task(id)?)),
            [..] => Err("`DROP-TASK` needs one task: write `DROP-TASK <task id>`".to_owned()),
        },
        "ELEVATE" => match arguments {
            [id, value] => Ok(Directive::Elevate(task(id)?, priority(value)?)),
            [..] => Err("`ELEVATE` needs a task and a priority: write `ELEVATE <task id> <0 to \
                         1000000>`"
                .to_owned()),
        },
        _ => Err(unknown(word)),
    }
}

fn unknown(word: &str) -> String {
    let shown = quoted(word);
    match nearest(word, WORDS) {
        Some(known) => format!("unknown directive `{shown}`: did you mean {known}?"),
        None => format!("unknown directive `{shown}`: expected one of {}", WORDS.join(", ")),
    }
}

fn task(id: &str) -> Result<TaskId, String> {
    TaskId::new(id).map_err(|error| error.to_string())
}

fn priority(value: &str) -> Result<u32, String> {
    match value.parse() {
        Ok(priority) if priority <= MAX_PRIORITY => Ok(priority),
        Ok(_) | Err(_) => Err(format!(
            "`{}` is no priority: a whole number from 0 to {MAX_PRIORITY} is expected",
            quoted(value)
        )),
    }
}

fn quoted(text: &str) -> String {
    let mut out: String = text.chars().take(QUOTED_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(QUOTED_CHARS).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(line: &str) -> String {
        match parse_line(line) {
            Line::Refused(reason) => reason,
            other @ (Line::Blank | Line::Comment | Line::Directive(_)) => {
                panic!("{line:?} is {other:?}")
            }
        }
    }

    #[test]
    fn directive_should_be_read_in_any_case_and_dress() {
        let id = TaskId::new("task-001").unwrap();
        for (line, directive) in [
            ("PAUSE", Directive::Pause),
            ("  resume\t", Directive::Resume),
            ("- RePaRsE", Directive::Reparse),
            ("* flush-memory   # it is confused", Directive::FlushMemory),
            ("DROP-TASK task-001\r", Directive::DropTask(id.clone())),
            ("+ elevate  task-001\t7 # soon", Directive::Elevate(id.clone(), 7)),
            ("\u{feff}PAUSE", Directive::Pause),
            ("ELEVATE task-001 1000000", Directive::Elevate(id, MAX_PRIORITY)),
        ] {
            assert_eq!(parse_line(line), Line::Directive(directive), "{line:?}");
        }
    }

    #[test]
    fn prose_of_markdown_should_be_comments() {
        for line in ["# Heartbeat", "  ## x", "#PAUSE", "<!-- PAUSE -->", "- # PAUSE"] {
            assert_eq!(parse_line(line), Line::Comment, "{line:?}");
        }
        for line in ["", " \t ", "- ", "*", "\r"] {
            assert_eq!(parse_line(line), Line::Blank, "{line:?}");
        }
    }

    #[test]
    fn refusal_should_say_what_to_write() {
        insta::assert_snapshot!(
            [
                "PUASE",
                "drop task-001",
                "hello there",
                "-PAUSE",
                "PAUSE now",
                "DROP-TASK",
                "DROP-TASK a b",
                "DROP-TASK ../x",
                "ELEVATE task-001",
                "ELEVATE task-001 -1",
                "ELEVATE task-001 1000001",
                "ELEVATE task-001 high",
                "<!-- PAUSE",
                "\u{1b}[2J",
            ]
            .map(refused)
            .join("\n"),
            @r"
        unknown directive `PUASE`: did you mean PAUSE?
        unknown directive `drop`: did you mean DROP-TASK?
        unknown directive `hello`: expected one of PAUSE, RESUME, REPARSE, DROP-TASK, ELEVATE, FLUSH-MEMORY
        unknown directive `-PAUSE`: did you mean PAUSE?
        `PAUSE` stands alone, but `now` follows it: write just `PAUSE`
        `DROP-TASK` needs one task: write `DROP-TASK <task id>`
        `DROP-TASK` needs one task: write `DROP-TASK <task id>`
        the id `../x` contains '/': use only A-Z a-z 0-9 . _ -
        `ELEVATE` needs a task and a priority: write `ELEVATE <task id> <0 to 1000000>`
        `-1` is no priority: a whole number from 0 to 1000000 is expected
        `1000001` is no priority: a whole number from 0 to 1000000 is expected
        `high` is no priority: a whole number from 0 to 1000000 is expected
        unknown directive `<!--`: expected one of PAUSE, RESUME, REPARSE, DROP-TASK, ELEVATE, FLUSH-MEMORY
        unknown directive `\u{1b}[2J`: expected one of PAUSE, RESUME, REPARSE, DROP-TASK, ELEVATE, FLUSH-MEMORY
        "
        );
    }

    #[test]
    fn ack_should_lie_beside_the_heartbeat() {
        let ack = |path: &str| ack_path(Path::new(path)).display().to_string();
        assert_eq!(ack("/p/heartbeat/research.md"), "/p/heartbeat/research.ack.md");
        assert_eq!(ack("/p/notes.txt"), "/p/notes.txt.ack.md");
        assert_eq!(ack("/p/plain"), "/p/plain.ack.md");
    }

    proptest! {
        #[test]
        fn any_line_should_be_read_without_panic(line in "\\PC{0,80}|(?s:.{0,40})") {
            let _ = parse_line(&line);
        }

        #[test]
        fn written_directive_should_read_back(which in 0usize..6, priority in 0..=MAX_PRIORITY) {
            let id = TaskId::new("a.b_c-1").unwrap();
            let directive = [
                Directive::Pause,
                Directive::Resume,
                Directive::Reparse,
                Directive::DropTask(id.clone()),
                Directive::Elevate(id, priority),
                Directive::FlushMemory,
            ][which].clone();
            prop_assert_eq!(parse_line(&directive.to_string()), Line::Directive(directive));
        }
    }
}
