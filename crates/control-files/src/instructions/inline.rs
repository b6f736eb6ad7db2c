//! The one line of a task: `id: title (options) -> artifacts`.
//!
//! A parenthesis holds options when it ends the line or stands right before the
//! arrow, and one of its `;`-separated parts begins with a known key and a colon.
//! Any other parenthesis belongs to the title. Within options, quotes and nested
//! parentheses protect `;` and `)`. The last arrow outside of parentheses and
//! back quotes begins the artifacts.

use std::ops::Range;

use super::Context;
use super::settings::{self, Setting, Spot};
use super::tasks::option_names;
use crate::suggest::nearest;

/// Parentheses beyond this many in one line belong to the title: each is looked
/// at to its end, and a line can be as long as the file.
const MAX_GROUPS: usize = 64;

/// The parts of a task's line.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) id: Spot,
    pub(super) title: String,
    pub(super) options: Vec<Setting>,
    pub(super) artifacts: Vec<Spot>,
}

/// What a task's line is made of, as places within its rest after the id.
#[derive(Debug, Default)]
struct Layout {
    /// Just inside the parentheses.
    options: Option<Range<usize>>,
    /// Options that are part of the title, for they stand in its middle.
    misplaced: Option<Range<usize>>,
    /// Where the title ends.
    title_end: usize,
    artifacts: Option<Range<usize>>,
}

/// Takes the line in `range` apart; reports what cannot be.
pub(super) fn head(context: &mut Context<'_>, range: &Range<usize>) -> Option<Head> {
    let text = context.source.text();
    let range = settings::trimmed(text, range, |slice| {
        let rest = slice.trim();
        ["[ ]", "[x]", "[X]"].iter().find_map(|mark| rest.strip_prefix(mark)).unwrap_or(rest).trim()
    });
    let slice = context.source.slice(&range);
    let colon = slice.find(':').filter(|at| !slice[..*at].trim().contains(char::is_whitespace));
    let Some(colon) = colon else {
        let help = "write `- <id>: <title> (after: <ids>) -> <artifacts>`".to_owned();
        context.error(
            &range,
            "this is no task: it does not begin with an id and a colon",
            Some(help),
        );
        return None;
    };
    let id = settings::clean_id(text, &(range.start..range.start + colon));
    let mut start = range.start + colon + 1;
    // `**id:** title`
    if context.source.slice(&(start..range.end)).starts_with("**") {
        start += 2;
    }
    let rest = context.source.slice(&(start..range.end));
    let layout = layout(rest);
    let place = |within: &Range<usize>| start + within.start..start + within.end;
    if let Some(misplaced) = &layout.misplaced {
        let help = "move them to the end, or right before the `->`".to_owned();
        context.warning(&place(misplaced), "these options are part of the title", Some(help));
    }
    let mut head = Head {
        id,
        title: settings::one_line(rest.get(..layout.title_end).unwrap_or_default()),
        options: Vec::new(),
        artifacts: Vec::new(),
    };
    if let Some(within) = &layout.options {
        head.options = options(context, &place(within));
    }
    if let Some(within) = &layout.artifacts {
        head.artifacts = list(context.source.text(), &place(within));
        if head.artifacts.is_empty() {
            let help = "name the files that must exist afterwards, or remove the `->`".to_owned();
            context.error(&place(within), "nothing follows the `->`", Some(help));
        }
    }
    Some(head)
}

fn layout(rest: &str) -> Layout {
    let mut found = Layout { title_end: rest.len(), ..Layout::default() };
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut arrow = None;
    let (mut at, mut looked_at) = (0, 0);
    while let Some(c) = rest.get(at..).and_then(|rest| rest.chars().next()) {
        let after = &rest[at..];
        let mut next = at + c.len_utf8();
        if c == '`' {
            next = after[1..].find('`').map_or(next, |end| at + end + 2);
        } else if c == '(' && looked_at < MAX_GROUPS {
            looked_at += 1;
            if let Some(end) = group_end(after).filter(|end| has_options(&after[1..*end])) {
                groups.push(at..at + end + 1);
                next = at + end + 1;
            } else if let Some(end) = plain_end(after) {
                next = at + end + 1;
                if has_options(&after[1..end]) {
                    groups.push(at..next);
                }
            }
        } else if is_arrow(rest, at) {
            arrow = Some(at);
            next = at + 2;
        }
        at = next;
    }
    let arrow_after = |end: usize| arrow.filter(|arrow| *arrow >= end);
    if let Some(group) = groups.pop() {
        let between = arrow_after(group.end).unwrap_or(rest.len());
        if rest[group.end..between].trim().is_empty() {
            found.title_end = group.start;
            found.options = Some(group.start + 1..group.end - 1);
        } else {
            found.misplaced = Some(group);
        }
    }
    if let Some(arrow) = arrow {
        let group_after = found.title_end > arrow;
        let end = if group_after { found.title_end } else { rest.len() };
        found.artifacts = Some(arrow + 2..end);
        found.title_end = found.title_end.min(arrow);
    }
    found
}

fn is_arrow(rest: &str, at: usize) -> bool {
    let before = rest[..at].chars().next_back().is_none_or(char::is_whitespace);
    let after = rest[at..].strip_prefix("->");
    before && after.is_some_and(|after| after.chars().next().is_none_or(char::is_whitespace))
}

/// Where the parenthesis that opens `text` closes, quotes taken into account.
fn group_end(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    let mut quotes = Quotes::default();
    for (at, c) in text.char_indices() {
        if quotes.protect(c) {
            continue;
        }
        match c {
            '(' => depth += 1,
            ')' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Where the parenthesis that opens `text` closes, quotes being plain letters,
/// as apostrophes in prose are.
fn plain_end(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth <= 1 => return Some(at),
            ')' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Which quote the reader of a command is in.
#[derive(Debug, Default)]
struct Quotes {
    open: Option<char>,
    escaped: bool,
}

impl Quotes {
    /// Whether `c` is quoted or a quote, and thus means nothing to us.
    fn protect(&mut self, c: char) -> bool {
        if self.escaped {
            self.escaped = false;
            return true;
        }
        match (self.open, c) {
            // The shell, too, takes a backslash literally in single quotes.
            (Some('\''), '\'') => self.open = None,
            (Some('\''), _) => {}
            (_, '\\') => self.escaped = true,
            (Some(quote), _) if quote == c => self.open = None,
            (Some(_), _) => {}
            (None, '\'' | '"' | '`') => self.open = Some(c),
            (None, _) => return false,
        }
        true
    }
}

/// The parts of `text` between the `;` that nothing protects, as places in it.
fn split(text: &str) -> Vec<Range<usize>> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0usize);
    let mut quotes = Quotes::default();
    for (at, c) in text.char_indices() {
        if quotes.protect(c) {
            continue;
        }
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ';' if depth == 0 => {
                parts.push(start..at);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(start..text.len());
    parts
}

/// Whether the inside of a parenthesis holds options.
fn has_options(inside: &str) -> bool {
    let parts = split(inside);
    let key = |part: &Range<usize>| settings::read(inside, part).map(|setting| setting.key);
    let first = parts.first().and_then(key);
    let is_known = |key: &String| option_names().any(|name| name == key);
    let nearly = first.as_ref().is_some_and(|key| nearest(key, option_names()).is_some());
    first.is_some() && (nearly || parts.iter().filter_map(key).any(|key| is_known(&key)))
}

fn options(context: &mut Context<'_>, range: &Range<usize>) -> Vec<Setting> {
    let text = context.source.text();
    let inside = context.source.slice(range);
    let mut quotes = Quotes::default();
    inside.chars().for_each(|c| {
        quotes.protect(c);
    });
    if let Some(quote) = quotes.open {
        let help = "close it, or write the option as a nested item: `  - verify: <command>`";
        let message = format!("the quote {quote} is never closed in these options");
        context.error(range, message, Some(help.to_owned()));
        return Vec::new();
    }
    let mut found = Vec::new();
    for part in split(inside) {
        let place = range.start + part.start..range.start + part.end;
        let place = settings::trimmed(text, &place, str::trim);
        if place.is_empty() {
            continue;
        }
        match settings::read(text, &place) {
            Some(mut setting) => {
                if setting.key == "verify" {
                    setting.value = command(text, &place);
                }
                found.push(setting);
            }
            None => context.error(
                &place,
                "this part of the options has no key",
                Some(
                    "put a command with `;` into quotes, or write it as a nested item: \
                     `  - verify: <command>`"
                        .to_owned(),
                ),
            ),
        }
    }
    found
}

/// The command after `verify:` in `range`. It is taken as it stands, but for one
/// pair of quotes around all of it.
pub(super) fn command(text: &str, range: &Range<usize>) -> Spot {
    let colon = text.get(range.clone()).and_then(|slice| slice.find(':')).map_or(0, |at| at + 1);
    let place = range.start + colon..range.end;
    let place = settings::trimmed(text, &place, |slice| {
        let rest = slice.trim_start_matches("**").trim();
        for quote in ['`', '"', '\''] {
            let inner = rest.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
            if let Some(inner) = inner.filter(|inner| !inner.contains(quote)) {
                return inner.trim();
            }
        }
        rest
    });
    let lines = text.get(place.clone()).unwrap_or_default().lines().map(str::trim);
    Spot { text: lines.collect::<Vec<_>>().join(" "), range: place }
}

/// The parts of a list of names, each with its place.
pub(super) fn parts(context: &Context<'_>, spot: &Spot) -> Vec<Spot> {
    list(context.source.text(), &spot.range)
}

fn list(text: &str, range: &Range<usize>) -> Vec<Spot> {
    let slice = text.get(range.clone()).unwrap_or_default();
    let mut start = 0;
    let ends = slice.match_indices(',').map(|(at, _)| at).chain([slice.len()]);
    let pieces = ends.map(|end| {
        let piece = range.start + start..range.start + end;
        start = end + 1;
        settings::clean(text, &piece)
    });
    pieces.filter(|piece| !piece.text.is_empty()).collect()
}
