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
            '\\' | '`' | '*' | '[' | ']' | '<' | '>' | '&' | '|' | '~' | '^' | '$' | '@' => true,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

    use super::*;

    fn answer(line: &str, outcome: &str, answer: &str) -> Answer {
        Answer {
            time: "2026-11-22T13:40:05.123456Z".to_owned(),
            line: line.to_owned(),
            outcome: outcome.to_owned(),
            answer: answer.to_owned(),
        }
    }

    fn render(answers: &[Answer], paused: bool, applied: u64) -> String {
        let agent = &AgentName::new("research_agent").unwrap();
        Ack { agent, file: "research.md", paused, applied, refused: 1, answers }.to_string()
    }

    fn is_frame(event: &Event<'_>) -> bool {
        matches!(
            event,
            Event::Start(Tag::Strong | Tag::Table(_) | Tag::TableHead | Tag::TableRow)
                | Event::End(TagEnd::Strong | TagEnd::Table | TagEnd::TableHead | TagEnd::TableRow)
        )
    }

    /// The table's cells as a Markdown reader shows them. What is not text, code or
    /// the table itself is an error.
    fn cells(markdown: &str) -> Vec<String> {
        let mut cells: Vec<String> = Vec::new();
        let mut within = false;
        // Curly quotes are the reader's, not the writer's.
        let options = Options::all() - Options::ENABLE_SMART_PUNCTUATION;
        let before = |event: &Event<'_>| !matches!(event, Event::Start(Tag::Table(_)));
        for event in Parser::new_ext(markdown, options).skip_while(before) {
            if matches!(event, Event::Start(Tag::Paragraph)) {
                break;
            }
            if let Event::Text(text) | Event::Code(text) = &event
                && within
            {
                cells.last_mut().unwrap().push_str(text);
                continue;
            }
            if matches!(event, Event::Start(Tag::TableCell)) {
                cells.push(String::new());
                within = true;
            } else if matches!(event, Event::End(TagEnd::TableCell)) {
                within = false;
            } else {
                assert!(is_frame(&event), "{event:?} in\n{markdown}");
            }
        }
        cells
    }

    #[test]
    fn answers_should_read_well_as_text_and_newest_first() {
        let answers = [
            answer("PAUSE", "applied", "pauses after its present task, if any"),
            answer(
                "DROP-TASK task-001 # stuck",
                "applied",
                "task-001 was taken from research_agent",
            ),
            answer("PUASE", "refused", "unknown directive `PUASE`: did you mean PAUSE?"),
        ];
        let expected = "\
<!-- Written by orch: what is changed here is lost. -->

# Answers to `research.md`

Agent `research_agent`: 240 lines applied, 1 refused.
It is **paused**: write `RESUME` into `research.md` and it works again.

| When (UTC)          | Line                         | Outcome     | Answer |
| ------------------- | ---------------------------- | ----------- | ------ |
| 2026-11-22 13:40:05 | `PUASE`                      | **refused** | unknown directive 'PUASE': did you mean PAUSE? |
| 2026-11-22 13:40:05 | DROP-TASK task-001 # stuck   | applied     | task-001 was taken from research_agent |
| 2026-11-22 13:40:05 | `PAUSE`                      | applied     | pauses after its present task, if any |

The last 3 of 241 answers; `orch events` has more.
";
        let expected = expected
            .replace("| DROP-TASK task-001 # stuck   |", "| `DROP-TASK task-001 # stuck` |");
        assert_eq!(render(&answers, true, 240), expected);
        let one = render(&answers[..1], false, 0);
        assert!(!one.contains("paused") && !one.contains("The last"), "{one}");
    }

    #[test]
    fn user_text_should_be_nothing_but_text() {
        for text in [
            "<script>alert(1)</script>",
            "a | b | c",
            "a \\| b",
            "``` `x` ``",
            "[x](http://example.org) ![y](z)",
            "<http://example.org> http://example.org www.example.org a@example.org",
            "**b** _i_ ~~s~~ $m$ &lt; &#124; \\",
            "<!-- -->",
            "| --- | --- |",
        ] {
            let shown = cells(&render(&[answer(text, "refused", text)], false, 0));
            let answer = text.replace('`', "'");
            assert_eq!(shown[5..], [text, "refused", answer.as_str()], "{text:?}");
        }
        let bell = cells(&render(&[answer("a\u{1b}[2Jb\u{202e}", "x", "a\nb")], false, 0));
        assert_eq!(bell[5..], ["a\\u{1b}[2Jb\\u{202e}", "x", "a\\u{a}b"]);
    }

    proptest! {
        #[test]
        fn any_text_should_stay_in_its_cell(text in "\\PC{1,60}|[-`*_\\[\\]<>&|~^$@:/.w\\\\#! a]{1,40}") {
            let trimmed = text.trim();
            prop_assume!(!trimmed.is_empty());
            let shown = cells(&render(&[answer(&text, &text, &text)], false, 0));
            prop_assert_eq!(shown.len(), 8);
            let collapse = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            if !trimmed.chars().any(is_invisible) {
                prop_assert_eq!(collapse(&shown[5]), collapse(trimmed));
                prop_assert_eq!(collapse(&shown[7]), collapse(&trimmed.replace('`', "'")));
            }
        }
    }
}
