//! The file of answers as a person reads it: Markdown, newest answer first.
//!
//! What people wrote appears as they wrote it and as nothing else: it cannot become a
//! link, a heading, HTML, or another cell of the table. Plain lines stand in code
//! spans; in everything else each character that could mean something to a Markdown
//! reader is written as a character reference, which never does.

use std::fmt::{self, Write as _};

use jiff::Timestamp;
use model::AgentName;
use store::directive::Answer;

/// Columns of the table are aligned for whoever reads the file as text, up to this.
const ALIGNED_CHARS: usize = 40;
/// How much of a cell is shown, in characters of what was written.
const SHOWN_CHARS: usize = 400;

/// What a file of answers says.
pub(crate) struct Ack<'a> {
    /// Whose heartbeat it answers.
    pub(crate) agent: &'a AgentName,
    /// The heartbeat file's name.
    pub(crate) file: &'a str,
    /// Whether a person paused the agent.
    pub(crate) paused: bool,
    /// How many lines were applied, ever.
    pub(crate) applied: u64,
    /// How many lines were refused, ever.
    pub(crate) refused: u64,
    /// The last of them, oldest first.
    pub(crate) answers: &'a [Answer],
}

impl fmt::Display for Ack<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { agent, paused, applied, refused, answers, .. } = self;
        let file = span(self.file);
        writeln!(f, "<!-- Written by orch: what is changed here is lost. -->\n")?;
        writeln!(f, "# Answers to {file}\n")?;
        let lines = if *applied == 1 { "line" } else { "lines" };
        writeln!(f, "Agent `{agent}`: {applied} {lines} applied, {refused} refused.")?;
        if *paused {
            writeln!(f, "It is **paused**: write `RESUME` into {file} and it works again.")?;
        }
        if answers.is_empty() {
            return Ok(());
        }
        let rows: Vec<[String; 4]> = answers.iter().rev().map(row).collect();
        let heading = ["When (UTC)", "Line", "Outcome", "Answer"];
        let mut widths = heading.map(|cell| cell.chars().count());
        // The last column needs no end.
        for (n, width) in widths.iter_mut().enumerate().take(3) {
            let cells = rows.iter().map(|row| row[n].chars().count());
            *width = cells.map(|chars| chars.min(ALIGNED_CHARS)).fold(*width, usize::max);
        }
        writeln!(f)?;
        write_row(f, &heading.map(str::to_owned), &widths)?;
        write_row(f, &widths.map(|width| "-".repeat(width)), &widths)?;
        for row in &rows {
            write_row(f, row, &widths)?;
        }
        let total = applied + refused;
        let shown = answers.len() as u64;
        if total > shown {
            writeln!(f, "\nThe last {shown} of {total} answers; `orch events` has more.")?;
        }
        Ok(())
    }
}

fn write_row(
    f: &mut fmt::Formatter<'_>,
    [when, line, outcome, answer]: &[String; 4],
    widths: &[usize; 4],
) -> fmt::Result {
    let [a, b, c, _] = *widths;
    writeln!(f, "| {when:a$} | {line:b$} | {outcome:c$} | {answer} |")
}

fn row(answer: &Answer) -> [String; 4] {
    let when = match answer.time.parse::<Timestamp>() {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => prose(&answer.time),
    };
    let outcome = match answer.outcome.as_str() {
        "refused" => "**refused**".to_owned(),
        word => prose(word),
    };
    // Backticks in answers quote what a person wrote; here they would be escaped.
    [when, span(&answer.line), outcome, prose(&answer.answer.replace('`', "'"))]
}

/// As code where nothing in it needs escaping, else as escaped prose.
fn span(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || " ._:/#+=%,-?!'()".contains(c);
    let text = text.trim();
    if !text.is_empty() && text.chars().count() <= SHOWN_CHARS && text.chars().all(plain) {
        format!("`{text}`")
    } else {
        prose(text)
    }
}

/// Text that means to a Markdown reader nothing but itself.
fn prose(text: &str) -> String {
    let chars: Vec<char> = text.trim().chars().collect();
    let mut out = String::with_capacity(text.len());
    for (i, c) in chars.iter().copied().enumerate().take(SHOWN_CHARS) {
        let word = |at: Option<usize>| {
            at.and_then(|at| chars.get(at)).is_some_and(|c| c.is_alphanumeric())
        };
        let within_word = word(i.checked_sub(1)) && word(Some(i + 1));
        let meant = match c {
            '\\' | '`' | '*' | '[' | ']' | '<' | '>' | '&' | '|' | '~' | '$' | '@' => true,
            // `a_b` is itself everywhere; `_b_` is not.
            '_' => !within_word,
            // Some readers make links of bare addresses.
            ':' => chars.get(i + 1) == Some(&'/'),
            '.' => within_word && chars[..i].iter().rev().take(3).all(|c| matches!(c, 'w' | 'W')),
            _ => false,
        };
        if meant {
            _ = write!(out, "&#{};", u32::from(c));
        } else if c.is_control() || is_invisible(c) {
            _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    if chars.len() > SHOWN_CHARS {
        out.push('…');
    }
    out
}

/// Characters that turn or break a line unseen.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}
