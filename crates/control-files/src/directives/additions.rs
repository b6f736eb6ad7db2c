//! Which lines of a heartbeat file a person has added: the heart of "exactly once".
//!
//! The caller keeps one text per file, the lines it has seen. [`additions`]
//! compares it with the file and returns [`Step`]s. Each step names at most one
//! line to apply and the text seen after it; a caller that applies the line and
//! stores that text in one transaction applies every added line once, in the
//! order of the file, wherever it may crash: what is left is found again by
//! comparing the stored text with the file.
//!
//! Why that holds: only lines that say something are compared (blank lines and
//! comments can come and go). If the lines seen are a subsequence of the file's,
//! they are placed at their earliest possible positions, and the others are
//! added. Else some seen line is gone: the longest common subsequence is kept
//! and placed in the same way. After a step the seen text is the file without
//! the lines still to be applied, so it is a subsequence; and the step's line
//! is the first that was not placed, so the earliest placing of the rest stays
//! as it was. The remaining steps are therefore those that the first plan had.
//!
//! Two lines are the same when they say the same: white space, list markers and
//! comments do not count, so a reformatted file asks for nothing new.
//!
//! What goes wrong still: a program that empties a file and writes it again in
//! place can be caught between the two; its lines would be new. A caller should
//! look twice, [`REWRITE_SETTLE`](Additions::REWRITE_SETTLE) apart, before it
//! believes that lines are gone ([`Additions::removed`]).

use std::time::{Duration, Instant};

use similar::{Algorithm, DiffTag, capture_diff_slices_deadline};

use super::content;

/// How long the exact comparison of a rewritten file may take. Only a file of
/// tens of thousands of lines in a new order gets there; what is then found is
/// still a common subsequence, not always the longest.
const DIFF_DEADLINE: Duration = Duration::from_secs(2);

/// What to do with a last line that has no line end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastLine {
    /// It may still be being written: leave it.
    Wait,
    /// It has stayed as it is for long enough: take it.
    Take,
}

/// How the text seen changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// This is added at its end.
    Append(String),
    /// It becomes this.
    Replace(String),
}

impl Seen {
    /// The text seen after `before`.
    #[must_use]
    pub fn after(&self, before: &str) -> String {
        match self {
            Self::Append(more) => format!("{before}{more}"),
            Self::Replace(text) => text.clone(),
        }
    }
}

/// One thing to do, in one transaction: apply the line, store the text seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The added line, as written, without its line end; `None` where only the
    /// text seen changes.
    pub line: Option<String>,
    /// How the text seen changes.
    pub seen: Seen,
}

/// What a person has added to a heartbeat file.
#[derive(Debug, Clone)]
pub struct Additions<'a> {
    /// The file's complete lines.
    lines: Vec<Entry<'a>>,
    /// How many seen lines are gone.
    removed: usize,
    /// Whether the text seen is a beginning of the file's.
    extends: bool,
    /// Bytes of the text seen.
    seen_bytes: usize,
    pending: Option<&'a str>,
}

#[derive(Debug, Clone)]
struct Entry<'a> {
    /// With its line end, where it has one.
    raw: &'a str,
    /// What it says; empty where it says nothing.
    says: &'a str,
    added: bool,
}

/// Compares the lines already seen with the file as it is now.
///
/// `seen` is empty for a file never seen before, and otherwise what the last
/// [`Step`] left.
#[must_use]
pub fn additions<'a>(seen: &str, current: &'a str, last: LastLine) -> Additions<'a> {
    let mut lines: Vec<Entry<'_>> = entries(current);
    let before: Vec<&str> =
        seen.split_inclusive('\n').map(content).filter(|says| !says.is_empty()).collect();
    let now: Vec<usize> = (0..lines.len()).filter(|i| !lines[*i].says.is_empty()).collect();
    let says: Vec<&str> = now.iter().map(|i| lines[*i].says).collect();

    let (placed, kept) = match place(&before, &says) {
        Some(placed) => (placed, before.len()),
        None => {
            let common = common(&before, &says);
            let kept = common.len();
            (place(&common, &says).unwrap_or_default(), kept)
        }
    };
    for (i, placed) in now.iter().zip(&placed) {
        lines[*i].added = !placed;
    }
    let mut pending = None;
    if last == LastLine::Wait
        && let Some(entry) = lines.pop_if(|entry| entry.added && !entry.raw.ends_with('\n'))
    {
        pending = Some(entry.raw.trim_end_matches('\r'));
    }
    Additions {
        extends: terminated(current).starts_with(seen),
        lines,
        removed: before.len() - kept,
        seen_bytes: seen.len(),
        pending,
    }
}

fn entries(text: &str) -> Vec<Entry<'_>> {
    let entry = |raw| Entry { raw, says: content(raw), added: false };
    text.split_inclusive('\n').map(entry).collect()
}

/// `text` with the line end that its last line lacks: so is it stored.
fn terminated(text: &str) -> std::borrow::Cow<'_, str> {
    if text.is_empty() || text.ends_with('\n') { text.into() } else { format!("{text}\n").into() }
}

/// For each of `lines` whether one of `wanted` is placed there, each as early as
/// can be; `None` where they do not all find a place in order.
fn place(wanted: &[&str], lines: &[&str]) -> Option<Vec<bool>> {
    let mut wanted = wanted.iter().peekable();
    let placed = lines.iter().map(|line| wanted.next_if(|next| *next == line).is_some()).collect();
    wanted.peek().is_none().then_some(placed)
}

fn common<'l>(before: &[&'l str], now: &[&str]) -> Vec<&'l str> {
    let deadline = Some(Instant::now() + DIFF_DEADLINE);
    capture_diff_slices_deadline(Algorithm::Myers, before, now, deadline)
        .iter()
        .filter(|op| op.tag() == DiffTag::Equal)
        .flat_map(|op| before[op.old_range()].iter().copied())
        .collect()
}

impl Additions<'_> {
    /// How long a file whose seen lines are gone should stay as it is before
    /// they count as gone: a program that rewrites in place needs a moment.
    pub const REWRITE_SETTLE: Duration = Duration::from_millis(100);

    /// How long a last line without line end should stay as it is before it is
    /// taken ([`LastLine::Take`]).
    pub const PENDING_SETTLE: Duration = Duration::from_secs(2);

    /// How many lines were added, a pending one not counted.
    #[must_use]
    pub fn added(&self) -> usize {
        self.lines.iter().filter(|entry| entry.added).count()
    }

    /// How many lines that were seen are gone.
    #[must_use]
    pub fn removed(&self) -> usize {
        self.removed
    }

    /// The added last line, where it has no line end and is to be left.
    #[must_use]
    pub fn pending(&self) -> Option<&str> {
        self.pending
    }

    /// What to do, in this order. Each step is made when it is asked for, so a
    /// file of many lines does not cost their number times its size at once.
    ///
    /// The last step leaves the file's complete lines as the text seen. There is
    /// none where nothing changed.
    pub fn steps(&self) -> impl Iterator<Item = Step> + '_ {
        let added: Vec<usize> = self.positions();
        let count =
            added.len().max(usize::from(self.lines_bytes() != self.seen_bytes || !self.extends));
        (0..count).map(move |n| self.step(&added, n))
    }

    fn positions(&self) -> Vec<usize> {
        (0..self.lines.len()).filter(|i| self.lines[*i].added).collect()
    }

    /// Bytes of the complete lines, as they are stored.
    fn lines_bytes(&self) -> usize {
        self.lines.iter().map(|entry| stored(entry).map(str::len).sum::<usize>()).sum()
    }

    fn step(&self, added: &[usize], n: usize) -> Step {
        let line = added.get(n).map(|i| self.lines[*i].raw.trim_end_matches(['\n', '\r']));
        // What lies beyond the last retained line can be appended step by step.
        let last_retained =
            self.lines.iter().rposition(|entry| !entry.added && !entry.says.is_empty());
        let end = |n: usize| match added.get(n + 1) {
            Some(next) => *next,
            None => self.lines.len(),
        };
        let previous = n.checked_sub(1).map(|previous| added[previous]);
        let tail = |at: usize| last_retained.is_none_or(|retained| at > retained);
        let seen = if n == 0 && self.extends {
            let text: String = self.lines[..end(n)].iter().flat_map(stored).collect();
            Seen::Append(text.get(self.seen_bytes..).unwrap_or_default().to_owned())
        } else if previous.is_some() && added.get(n).is_some_and(|at| tail(*at)) {
            Seen::Append(self.lines[added[n]..end(n)].iter().flat_map(stored).collect())
        } else {
            // Blank lines and comments among the waiting ones come with these, so
            // that what is stored here is a beginning of what follows.
            let first_waiting = added.get(n + 1).copied().unwrap_or(self.lines.len());
            let retained = |entry: &Entry<'_>| !entry.added && !entry.says.is_empty();
            let kept = self.lines.iter().enumerate();
            let kept = kept.filter(|(i, entry)| *i < first_waiting || retained(entry));
            Seen::Replace(kept.flat_map(|(_, entry)| stored(entry)).collect())
        };
        Step { line: line.map(str::to_owned), seen }
    }
}

fn stored<'e>(entry: &Entry<'e>) -> impl Iterator<Item = &'e str> + use<'e> {
    let end = if entry.raw.ends_with('\n') { "" } else { "\n" };
    [entry.raw, end].into_iter()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(seen: &str, current: &str, last: LastLine) -> Vec<String> {
        additions(seen, current, last).steps().filter_map(|step| step.line).collect()
    }

    /// Carries everything out; the applied lines and the text seen in the end.
    fn carry_out(seen: &str, current: &str, last: LastLine) -> (Vec<String>, String) {
        let mut seen = seen.to_owned();
        let mut applied = Vec::new();
        for step in additions(&seen.clone(), current, last).steps() {
            seen = step.seen.after(&seen);
            applied.extend(step.line);
        }
        (applied, seen)
    }

    #[test]
    fn appended_lines_should_be_added_in_order_and_appended_to_what_was_seen() {
        let found = additions("PAUSE\n", "PAUSE\n\nDROP-TASK a\n# why\nRESUME\n", LastLine::Wait);
        let steps: Vec<Step> = found.steps().collect();
        let append = |text: &str| Seen::Append(text.to_owned());
        assert_eq!(
            steps,
            [
                Step { line: Some("DROP-TASK a".into()), seen: append("\nDROP-TASK a\n# why\n") },
                Step { line: Some("RESUME".into()), seen: append("RESUME\n") },
            ]
        );
        assert_eq!((found.removed(), found.pending()), (0, None));
    }

    #[test]
    fn unchanged_file_should_need_no_step() {
        for text in ["", "PAUSE\n", "# a\r\nPAUSE\r\n\n"] {
            assert_eq!(additions(text, text, LastLine::Wait).steps().count(), 0, "{text:?}");
        }
    }

    #[test]
    fn line_without_end_should_wait_and_be_applied_once() {
        let found = additions("", "RESUME\nPAUSE", LastLine::Wait);
        assert_eq!((found.added(), found.pending()), (1, Some("PAUSE")));
        let (applied, seen) = carry_out("", "RESUME\nPAUSE", LastLine::Take);
        assert_eq!((applied.len(), seen.as_str()), (2, "RESUME\nPAUSE\n"));
        // Nothing comes again, neither as it is nor once more is written after it.
        for last in [LastLine::Wait, LastLine::Take] {
            let found = additions(&seen, "RESUME\nPAUSE", last);
            assert_eq!((found.steps().count(), found.pending()), (0, None));
        }
        assert_eq!(lines(&seen, "RESUME\nPAUSE\nREPARSE\n", LastLine::Wait), ["REPARSE"]);
    }

    #[test]
    fn retained_lines_should_not_come_again_however_the_file_is_rewritten() {
        let seen = "PAUSE\nDROP-TASK a\nRESUME\n";
        for (current, added) in [
            ("PAUSE\nRESUME\n", &[][..]),
            ("", &[]),
            ("DROP-TASK a\nPAUSE\nRESUME\n", &["PAUSE"]),
            ("PAUSE\nREPARSE\nDROP-TASK a\nRESUME\n", &["REPARSE"]),
            ("# new\n\n  PAUSE\r\n- DROP-TASK a # why\r\nRESUME\r\n", &[]),
            ("PAUSE\nPAUSE\nDROP-TASK a\nRESUME\n", &["PAUSE"]),
            ("FLUSH-MEMORY\n", &["FLUSH-MEMORY"]),
        ] {
            let found = lines(seen, current, LastLine::Wait);
            assert_eq!(found.len(), added.len(), "{current:?}: {found:?}");
            let (applied, after) = carry_out(seen, current, LastLine::Wait);
            assert_eq!((applied, after.as_str()), (found, current));
        }
    }

    #[test]
    fn blank_lines_should_not_outweigh_a_retained_directive() {
        assert!(lines("PAUSE\n\n\n\n", "\n\n\nPAUSE\n", LastLine::Wait).is_empty());
    }

    #[test]
    fn removed_lines_should_be_counted_and_count_as_new_when_they_return() {
        let found = additions("PAUSE\nRESUME\n", "PAUSE\n", LastLine::Wait);
        assert_eq!((found.removed(), found.added()), (1, 0));
        let (_, seen) = carry_out("PAUSE\nRESUME\n", "PAUSE\n", LastLine::Wait);
        assert_eq!(lines(&seen, "PAUSE\nRESUME\n", LastLine::Wait), ["RESUME"]);
    }

    #[test]
    fn large_appended_file_should_be_taken_line_by_line() {
        let seen = "DROP-TASK task-000\n".repeat(20_000);
        let current = format!("{seen}{}", "PAUSE\n".repeat(20_000));
        let found = additions(&seen, &current, LastLine::Wait);
        let mut text = seen.clone();
        for step in found.steps().take(100) {
            assert_eq!(step.seen, Seen::Append("PAUSE\n".into()));
            text = step.seen.after(&text);
        }
        assert_eq!(additions(&text, &current, LastLine::Wait).added(), 19_900);
    }

    fn longest_common(a: &[&str], b: &[&str]) -> usize {
        let mut row = vec![0; b.len() + 1];
        for x in a {
            let mut diagonal = 0;
            for (j, y) in b.iter().enumerate() {
                let next = if x == y { diagonal + 1 } else { row[j].max(row[j + 1]) };
                diagonal = std::mem::replace(&mut row[j + 1], next);
            }
        }
        row[b.len()]
    }

    fn file() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            8 => proptest::sample::select(vec!["PAUSE", "RESUME", "DROP-TASK a", "nonsense"]),
            2 => proptest::sample::select(vec!["", "# note", "  ", "-"]),
        ];
        let end = prop_oneof![9 => Just("\n"), 1 => Just("\r\n")];
        (proptest::collection::vec((line, end), 0..14), any::<bool>()).prop_map(|(lines, cut)| {
            let text: String = lines.iter().flat_map(|(line, end)| [*line, *end]).collect();
            if cut { text.trim_end_matches(['\r', '\n']).to_owned() } else { text }
        })
    }

    fn says(text: &str) -> Vec<&str> {
        text.split_inclusive('\n').map(content).filter(|says| !says.is_empty()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn every_added_line_should_be_applied_once_across_a_crash_after_any_step(
            old in file(), current in file(), take in any::<bool>()
        ) {
            let old = terminated(&old).into_owned();
            let last = if take { LastLine::Take } else { LastLine::Wait };
            let first = additions(&old, &current, last);
            let planned: Vec<Step> = first.steps().collect();
            let planned_lines: Vec<&String> = planned.iter().filter_map(|s| s.line.as_ref()).collect();

            // Added are all but the longest common subsequence, and a pending last line.
            let longest = longest_common(&says(&old), &says(&current));
            let pending = usize::from(first.pending().is_some());
            prop_assert_eq!(planned_lines.len(), says(&current).len() - longest - pending);
            prop_assert_eq!(first.removed(), says(&old).len() - longest);
            prop_assert!(first.pending().is_none() || !take);

            let mut seen = old;
            for (n, step) in planned.iter().enumerate() {
                prop_assert!(step.line.is_some() || planned.len() == 1);
                seen = step.seen.after(&seen);
                // A crash here: what a new process finds is exactly what is left.
                let left = additions(&seen, &current, last);
                let left: Vec<String> = left.steps().filter_map(|s| s.line).collect();
                prop_assert_eq!(left.iter().collect::<Vec<_>>(), &planned_lines[(n + 1).min(planned_lines.len())..]);
            }
            let complete = match first.pending() {
                Some(line) => current.strip_suffix(line).unwrap_or(&current),
                None => &current,
            };
            prop_assert_eq!(&seen, &terminated(complete));
            prop_assert_eq!(additions(&seen, &current, last).steps().count(), 0);
        }
    }
}
