//! What is wrong in a control file: where, what, and what to write instead.
//!
//! A diagnostic carries the line it is about, so that it can be shown where the
//! file is not at hand (in Redis, in `orch status`). All its texts are safe to
//! print: control characters and those that reorder text are escaped, and long
//! lines are cut around the place that matters.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use unicode_width::UnicodeWidthChar;

/// How many characters of a line a diagnostic keeps.
const LINE_CHARS: usize = 160;
/// How many characters are kept before the marked ones where a line is cut.
const LEAD_CHARS: usize = 60;
/// What a tab is shown as; the caret's line is built with the same width.
const TAB: &str = "    ";

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The declaration it lies in is not used; the last good one stays in force.
    Error,
    /// The declaration is used; something in it has no effect, or not the one
    /// that was meant.
    Warning,
}

impl Severity {
    /// The word on the terminal.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One finding in a control file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The file, relative to the project where it lies within.
    #[serde(serialize_with = "lossy")]
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1, in characters.
    pub column: u32,
    /// How many characters it is about; 0 where it is about a place between two.
    pub length: u32,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The line; cut with `…` where it is very long.
    pub source_line: String,
    /// Which character of `source_line` stands at `column`, from 0.
    #[serde(skip)]
    marked: u32,
}

fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

impl Diagnostic {
    /// `before` and `length` are the characters of `line` before the marked ones,
    /// and those.
    pub(crate) fn new(
        severity: Severity,
        file: PathBuf,
        number: usize,
        (before, length): (usize, usize),
        message: String,
        help: Option<String>,
        line: &str,
    ) -> Self {
        let (source_line, marked) = cut(line, before);
        Self {
            severity,
            file,
            line: small(number),
            column: small(before + 1),
            length: small(length),
            message,
            help,
            source_line,
            marked: small(marked),
        }
    }

    /// Whether the declaration it lies in is not used.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

fn small(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The part of `line` around the character at `before`, and where that one is in it.
fn cut(line: &str, before: usize) -> (String, usize) {
    // Counting stops early: a line can be as long as the file.
    if line.chars().nth(LINE_CHARS).is_none() {
        return (line.to_owned(), before);
    }
    let skip = before.saturating_sub(LEAD_CHARS);
    let mut kept: String = line.chars().skip(skip).take(LINE_CHARS).collect();
    if line.chars().nth(skip + LINE_CHARS).is_some() {
        kept.push('…');
    }
    if skip > 0 {
        kept.insert(0, '…');
    }
    (kept, before - skip + usize::from(skip > 0))
}

/// Appends `c` as it may be printed, and returns how many columns that takes.
fn push_shown(out: &mut String, c: char) -> usize {
    if c == '\t' {
        out.push_str(TAB);
        return TAB.len();
    }
    if c.is_control() || is_invisible(c) {
        let escaped = c.escape_unicode();
        let columns = escaped.len();
        out.extend(escaped);
        return columns;
    }
    out.push(c);
    c.width().unwrap_or(0)
}

/// Characters that show nothing but change how their neighbours are shown.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        push_shown(&mut out, c);
    }
    out
}

impl fmt::Display for Diagnostic {
    /// `file:line:column: severity: message`, the line, carets under what is
    /// meant, and the help.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = printable(&self.file.to_string_lossy());
        let (severity, message) = (self.severity.as_str(), printable(&self.message));
        write!(f, "{file}:{}:{}: {severity}: {message}", self.line, self.column)?;
        let gutter = self.line.to_string();
        let (mut shown, mut pad, mut carets) = (String::new(), 0, 0);
        let marked = self.marked as usize;
        for (i, c) in self.source_line.chars().enumerate() {
            let columns = push_shown(&mut shown, c);
            if i < marked {
                pad += columns;
            } else if i < marked + self.length as usize {
                carets += columns;
            }
        }
        write!(f, "\n {gutter} | {}", shown.trim_end())?;
        let mut under = String::new();
        write!(under, "{:pad$}{:^<width$}", "", "", width = carets.max(1))?;
        write!(f, "\n {:width$} | {under}", "", width = gutter.len())?;
        if let Some(help) = &self.help {
            write!(f, "\n {:width$} = help: {}", "", printable(help), width = gutter.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    fn show(text: &str, what: &str) -> String {
        let source = Source::new(Path::new("f.md"), text);
        let start = text.find(what).unwrap();
        let range = start..start + what.len();
        source.diagnostic(Severity::Error, &range, "wrong", Some("right".into())).to_string()
    }

    #[test]
    fn caret_should_stand_under_what_is_meant() {
        insta::assert_snapshot!(show("one\ntwo three\n", "three"), @r"
        f.md:2:5: error: wrong
         2 | two three
           |     ^^^^^
           = help: right
        ");
    }

    #[test]
    fn caret_should_follow_tabs_and_wide_characters() {
        insta::assert_snapshot!(show("\t日本 x\n", "x"), @r"
        f.md:1:5: error: wrong
         1 |     日本 x
           |          ^
           = help: right
        ");
        insta::assert_snapshot!(show("a 日本\n", "日本"), @r"
        f.md:1:3: error: wrong
         1 | a 日本
           |   ^^^^
           = help: right
        ");
    }

    #[test]
    fn control_characters_should_be_escaped_and_counted() {
        insta::assert_snapshot!(show("\u{1b}[2J\u{202e} x\r\n", "x"), @r"
        f.md:1:7: error: wrong
         1 | \u{1b}[2J\u{202e} x
           |                   ^
           = help: right
        ");
    }

    #[test]
    fn long_line_should_be_cut_around_the_place() {
        let text = format!("{}X{}", "a".repeat(100_000), "b".repeat(100_000));
        let shown = show(&text, "X");
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "f.md:1:100001: error: wrong");
        assert!(shown.len() < 800, "{shown}");
        let caret = lines[2].chars().position(|c| c == '^').unwrap();
        assert_eq!(lines[1].chars().nth(caret), Some('X'), "{shown}");
    }

    #[test]
    fn range_beyond_the_text_should_not_panic() {
        let source = Source::new(Path::new("f.md"), "ä\nö");
        for start in 0..8 {
            for end in 0..8 {
                let found = source.diagnostic(Severity::Warning, &(start..end), "w", None);
                assert!(found.line >= 1 && found.column >= 1, "{found}");
            }
        }
    }
}
