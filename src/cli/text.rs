//! Text for people: what may be printed, how wide it is, and tables of it.
//!
//! Whatever comes from Redis, files or arguments passes [`safe`] before it reaches a
//! terminal: an agent's title must not move the cursor or reorder its neighbours.
//! Nothing here does IO.

use std::time::Duration;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// `text` as one printable line: control characters and those that show nothing but
/// change how others are shown are escaped.
pub(crate) fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if !is_printable(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// The same for text of several lines: line ends and tabs stay.
pub(crate) fn safe_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        let line = line.strip_suffix('\r').unwrap_or(line);
        for (n, part) in line.split('\t').enumerate() {
            if n > 0 {
                out.push('\t');
            }
            out.push_str(&safe(part));
        }
        out.push_str(end);
    }
    out
}

/// The first line of `text`, with `…` where there is more.
pub(crate) fn first_line(text: &str) -> String {
    let text = text.trim();
    match text.split_once('\n') {
        Some((first, _)) => format!("{} …", first.trim_end()),
        None => text.to_owned(),
    }
}

/// `text` as one line, cut with `…` after `most` characters.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Whether a character shows itself and nothing else.
pub(crate) fn is_printable(c: char) -> bool {
    let is_invisible = matches!(
        c,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    );
    !c.is_control() && !is_invisible
}

/// `text`, cut with `…` where it takes more than `columns`.
pub(crate) fn fit(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let width = c.width().unwrap_or(0);
        if used + width + 1 > columns {
            break;
        }
        out.push(c);
        used += width;
    }
    if columns > 0 {
        out.push('…');
    }
    out
}

fn pad(text: &str, columns: usize, right: bool) -> String {
    let blank = " ".repeat(columns.saturating_sub(text.width()));
    if right { format!("{blank}{text}") } else { format!("{text}{blank}") }
}

/// Breaks `text` at blanks into lines of at most `columns`. What stands in backticks is a
/// command to be copied and counts as one word; a word that is longer keeps its line.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for c in text.chars().chain([' ']) {
        quoted ^= c == '`';
        if !c.is_whitespace() || (quoted && word.width() < columns) {
            word.push(c);
            continue;
        }
        let word = std::mem::take(&mut word);
        match lines.last_mut() {
            _ if word.is_empty() => {}
            Some(line) if line.width() + 1 + word.width() <= columns => {
                line.push(' ');
                line.push_str(&word);
            }
            Some(_) | None => lines.push(word),
        }
    }
    // A backtick that is not closed.
    lines.extend(Some(word.trim_end().to_owned()).filter(|word| !word.is_empty()));
    lines
}

/// Wrapped text, the first line after `lead`, the others under it.
pub(crate) fn paragraph(out: &mut String, lead: &str, text: &str, columns: usize) {
    let indent = lead.width();
    let lines = wrap(text, columns.saturating_sub(indent).max(20));
    for (n, line) in lines.iter().enumerate() {
        if n == 0 {
            out.push_str(lead);
        } else {
            out.push_str(&" ".repeat(indent));
        }
        out.push_str(line);
        out.push('\n');
    }
}

/// How long something takes or took, in the unit that fits.
pub(crate) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 10.0 {
        format!("{seconds:.1} s")
    } else if seconds < 120.0 {
        format!("{seconds:.0} s")
    } else if seconds < 7_200.0 {
        format!("{:.0} min", seconds / 60.0)
    } else if seconds < 172_800.0 {
        format!("{:.0} h", seconds / 3_600.0)
    } else {
        format!("{:.0} d", seconds / 86_400.0)
    }
}

/// How a count of things is said.
pub(crate) fn count(n: u64, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}

/// Colours, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paint {
    /// Whether to colour.
    pub(crate) on: bool,
}

impl Paint {
    fn paint(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }
    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }
    pub(crate) fn red(self, text: &str) -> String {
        self.paint("31", text)
    }
    pub(crate) fn green(self, text: &str) -> String {
        self.paint("32", text)
    }
    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }
    pub(crate) fn cyan(self, text: &str) -> String {
        self.paint("36", text)
    }
}

/// How good a word is, and so its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Busy,
    Warn,
    Bad,
    Faint,
}

impl Paint {
    /// `text` in the colour of `tone`.
    pub(crate) fn tone(self, tone: Tone, text: &str) -> String {
        match tone {
            Tone::Plain => text.to_owned(),
            Tone::Good => self.green(text),
            Tone::Busy => self.cyan(text),
            Tone::Warn => self.yellow(text),
            Tone::Bad => self.red(text),
            Tone::Faint => self.dim(text),
        }
    }
}

/// `[####----]`: how much of `total` is done. Not full before all is, not empty once
/// something is.
pub(crate) fn bar(done: u64, total: u64, columns: usize) -> String {
    let wide = columns as u64;
    let filled = match (done, total) {
        (_, 0) | (0, _) => 0,
        (done, total) if done >= total => wide,
        (done, total) => (done.saturating_mul(wide) / total).clamp(1, wide.saturating_sub(1)),
    };
    let filled = usize::try_from(filled).unwrap_or(columns).min(columns);
    format!("[{}{}]", "#".repeat(filled), ".".repeat(columns - filled))
}

/// How a column is set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    title: &'static str,
    most: usize,
    right: bool,
}

impl Column {
    /// Left-aligned, cut after `most` columns.
    pub(crate) const fn left(title: &'static str, most: usize) -> Self {
        Self { title, most, right: false }
    }
    /// Right-aligned, as numbers are.
    pub(crate) const fn right(title: &'static str, most: usize) -> Self {
        Self { title, most, right: true }
    }
}

/// Rows under titles. The last column takes what is left of the width.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    cells: Vec<(String, Tone)>,
    notes: Vec<(String, Tone)>,
}

impl Table {
    pub(crate) fn new(columns: Vec<Column>) -> Self {
        Self { columns, rows: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Adds a row; texts are made safe here.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = (String, Tone)>) {
        let cells = cells.into_iter().map(|(text, tone)| (safe(&text), tone)).collect();
        self.rows.push(Row { cells, notes: Vec::new() });
    }

    /// Adds a line under the last row.
    pub(crate) fn note(&mut self, text: &str, tone: Tone) {
        if let Some(row) = self.rows.last_mut() {
            row.notes.push((safe(text), tone));
        }
    }

    /// The table, `indent` columns in, at most `width` columns wide.
    pub(crate) fn render(&self, indent: usize, width: usize, paint: Paint) -> String {
        let widths = self.widths(indent, width);
        let margin = " ".repeat(indent);
        let mut out = String::new();
        let titles: Vec<(String, Tone)> =
            self.columns.iter().map(|c| (c.title.to_owned(), Tone::Faint)).collect();
        self.line(&mut out, &margin, &titles, &widths, paint);
        for row in &self.rows {
            self.line(&mut out, &margin, &row.cells, &widths, paint);
            for (note, tone) in &row.notes {
                let room = width.saturating_sub(indent + 2).max(20);
                for line in wrap(note, room) {
                    out.push_str(&margin);
                    out.push_str("  ");
                    out.push_str(&paint.tone(*tone, &fit(&line, room)));
                    out.push('\n');
                }
            }
        }
        out
    }

    fn widths(&self, indent: usize, width: usize) -> Vec<usize> {
        let mut widths: Vec<usize> = Vec::new();
        for (n, column) in self.columns.iter().enumerate() {
            let cells = self.rows.iter().filter_map(|row| row.cells.get(n));
            let widest = cells.map(|(text, _)| text.width()).max().unwrap_or(0);
            widths.push(widest.max(column.title.width()).min(column.most));
        }
        let between = 2 * widths.len().saturating_sub(1);
        if let Some((last, others)) = widths.split_last_mut() {
            let used: usize = others.iter().sum::<usize>() + between + indent;
            *last = (*last).min(width.saturating_sub(used).max(8));
        }
        widths
    }

    fn line(
        &self,
        out: &mut String,
        margin: &str,
        cells: &[(String, Tone)],
        widths: &[usize],
        paint: Paint,
    ) {
        let mut line = margin.to_owned();
        let last = widths.len().saturating_sub(1);
        for (n, ((text, tone), columns)) in cells.iter().zip(widths).enumerate() {
            let text = fit(text, *columns);
            let right = self.columns.get(n).is_some_and(|column| column.right);
            let text = if n == last && !right { text } else { pad(&text, *columns, right) };
            line.push_str(&paint.tone(*tone, &text));
            if n < last {
                line.push_str("  ");
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Paint = Paint { on: false };

    #[test]
    fn text_should_not_reach_the_terminal_with_control_characters() {
        let shown = safe("a\x1b[2Jb\nc\u{202e}d\u{9b}e\u{7f}");
        assert!(!shown.chars().any(|c| c.is_control() || c == '\u{202e}'), "{shown:?}");
        assert!(shown.contains("\\u{1b}[2J"), "{shown}");
        assert_eq!(safe_lines("a\tb\r\nc\x07\n"), "a\tb\nc\\u{7}\n");
        assert_eq!(safe("ä 日本 ✓"), "ä 日本 ✓");
        assert_eq!((first_line("a\r\nb").as_str(), first_line("a\n").as_str()), ("a …", "a"));
        assert_eq!(
            (one_line(" a\r\n b\n", 9).as_str(), one_line("äöü", 2).as_str()),
            ("a b", "äö…")
        );
    }

    #[test]
    fn text_should_be_cut_by_columns_not_bytes() {
        assert_eq!(fit("日本日本", 5), "日本…");
        assert_eq!(fit("abc", 3), "abc");
        assert_eq!(fit("abcd", 3), "ab…");
        assert_eq!(fit("abcd", 0), "");
    }

    #[test]
    fn command_should_not_be_broken() {
        let lines = wrap("see why with `orch explain task-001` and then", 24);
        assert_eq!(lines, ["see why with", "`orch explain task-001`", "and then"]);
        assert_eq!(wrap("a `b c", 80), ["a", "`b c"]);
        assert_eq!(wrap("  ", 80), Vec::<String>::new());
    }

    #[test]
    fn bar_should_be_full_only_when_all_is_done() {
        assert_eq!(bar(0, 0, 4), "[....]");
        assert_eq!(bar(1, 1000, 4), "[#...]");
        assert_eq!(bar(999, 1000, 4), "[###.]");
        assert_eq!(bar(5, 5, 4), "[####]");
        assert_eq!(bar(u64::MAX, 1, 4), "[####]");
    }

    #[test]
    fn span_should_use_the_unit_that_fits() {
        let shown: Vec<String> = [0.04, 9.94, 61.0, 600.0, 9_000.0, 400_000.0]
            .into_iter()
            .map(|seconds| span(Duration::from_secs_f64(seconds)))
            .collect();
        assert_eq!(shown, ["0.0 s", "9.9 s", "61 s", "10 min", "2 h", "5 d"]);
    }

    #[test]
    fn table_should_fit_its_width_and_align() {
        let mut table = Table::new(vec![
            Column::left("ID", 10),
            Column::right("N", 5),
            Column::left("TITLE", 99),
        ]);
        let cell = |text: &str| (text.to_owned(), Tone::Plain);
        table.row([cell("task-1"), cell("7"), cell("short")]);
        table.row([cell("a-much-longer-id"), cell("12345"), cell(&"long ".repeat(30))]);
        table.note("why: something happened", Tone::Bad);
        let text = table.render(2, 40, PLAIN);
        assert!(text.lines().all(|line| line.width() <= 40), "{text}");
        insta::assert_snapshot!(text, @r"
        ID              N  TITLE
        task-1          7  short
        a-much-lo…  12345  long long long lon…
          why: something happened
        ");
    }
}
