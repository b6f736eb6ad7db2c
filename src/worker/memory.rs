//! What an agent remembers across tasks and crashes: lines, bounded in number, in the
//! length of each and in all.

use model::TaskId;

use super::attempt::Finished;

/// How many lines are kept; the oldest go first.
const LINES_KEPT: usize = 50;
/// How long one line may be, in bytes; the rest is cut.
const LINE_BYTES: usize = 1024;
/// How long all lines together may be, in bytes; the oldest go first.
const BYTES_KEPT: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(super) struct Memory {
    lines: Vec<String>,
    flushes: String,
}

impl Memory {
    /// What was saved; a text that is not a JSON list of texts counts as nothing.
    /// `flushes` is what [`Memory::flushed`] compares with.
    pub(super) fn load(json: Option<&str>, flushes: &str) -> Self {
        let lines = json.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let mut memory = Self { lines, flushes: flushes.to_owned() };
        // Somebody else may have written more than we would.
        memory.bound();
        memory
    }

    /// The lines, oldest first.
    pub(super) fn lines(&self) -> &[String] {
        &self.lines
    }

    fn bound(&mut self) {
        for line in &mut self.lines {
            if line.len() > LINE_BYTES {
                let end = (0..=LINE_BYTES).rev().find(|end| line.is_char_boundary(*end));
                line.truncate(end.unwrap_or_default());
                line.push('…');
            }
        }
        let mut bytes = 0;
        let fit = self.lines.iter().rev().take(LINES_KEPT).take_while(|line| {
            bytes += line.len();
            bytes <= BYTES_KEPT
        });
        let excess = self.lines.len() - fit.count();
        self.lines.drain(..excess);
    }

    /// Adds a line about how an attempt ended. Whether there was anything to say.
    pub(super) fn push(&mut self, task: &TaskId, finished: &Finished) -> bool {
        let line = match finished {
            Finished::Done { summary, .. } if summary.is_empty() => return false,
            Finished::Done { summary, .. } => format!("{task}: {summary}"),
            Finished::Failed { error, .. } => format!("{task}: failed: {error}"),
            Finished::Detour(detour) => format!("{task}: sent back: {}", detour.error),
            // Nothing was learnt from waiting.
            Finished::Held { .. } | Finished::Parked { .. } => return false,
            Finished::Stopped => format!("{task}: handed back unfinished"),
            Finished::Lost => format!("{task}: lost to another agent"),
        };
        self.lines.push(line);
        self.bound();
        true
    }

    /// How often people had it flushed, as far as is known here.
    pub(super) fn flushes(&self) -> &str {
        &self.flushes
    }

    /// Forgets everything but the last line if a person asked for that since the last
    /// call. Whether one did.
    pub(super) fn flushed(&mut self, flushes: &str) -> bool {
        let before = std::mem::replace(&mut self.flushes, flushes.to_owned());
        let asked = before != flushes;
        if asked {
            let older = self.lines.len().saturating_sub(1);
            self.lines.drain(..older);
        }
        asked
    }

    pub(super) fn clear(&mut self) {
        self.lines.clear();
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::json!(self.lines).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_should_be_bounded_and_read_back() {
        let task = TaskId::new("t").unwrap();
        let mut memory = Memory::load(Some("not json"), "");
        for n in 0..LINES_KEPT + 5 {
            memory.push(&task, &Finished::failed(n.to_string()));
        }
        let again = Memory::load(Some(&memory.to_json()), "");
        assert_eq!(again.lines.len(), LINES_KEPT);
        assert_eq!(again.lines[0], "t: failed: 5");
    }

    #[test]
    fn memory_should_be_bounded_in_bytes_also_where_another_wrote_it() {
        let task = TaskId::new("t").unwrap();
        let mut memory = Memory::load(Some(&serde_json::json!(["ä".repeat(9999)]).to_string()), "");
        assert!(memory.lines[0].len() <= LINE_BYTES + '…'.len_utf8());
        for _ in 0..LINES_KEPT {
            memory.push(&task, &Finished::failed("x".repeat(LINE_BYTES)));
        }
        let bytes: usize = memory.lines.iter().map(String::len).sum();
        assert!(bytes <= BYTES_KEPT && memory.lines.len() > 10, "{bytes}");
    }

    #[test]
    fn flush_should_forget_what_was_before_it() {
        let task = TaskId::new("t").unwrap();
        let mut memory = Memory::default();
        assert!(!memory.flushed(""));
        memory.push(&task, &Finished::failed("old"));
        memory.push(&task, &Finished::failed("new"));
        assert!(memory.flushed("1"));
        assert_eq!(memory.lines, ["t: failed: new"]);
        assert!(!memory.flushed("1"));
    }
}
