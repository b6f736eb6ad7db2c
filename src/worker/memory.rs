//! What an agent remembers across tasks and crashes: a bounded list of lines.

use model::TaskId;

use super::attempt::Finished;

/// How many lines are kept; the oldest go first.
const LINES_KEPT: usize = 50;

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
        Self { lines, flushes: flushes.to_owned() }
    }

    pub(super) fn push(&mut self, task: &TaskId, finished: &Finished) {
        let line = match finished {
            Finished::Done { summary, .. } => format!("{task}: {summary}"),
            Finished::Failed { error, .. } => format!("{task}: failed: {error}"),
            Finished::Stopped => format!("{task}: handed back unfinished"),
            Finished::Lost => format!("{task}: lost to another agent"),
        };
        self.lines.push(line);
        let excess = self.lines.len().saturating_sub(LINES_KEPT);
        self.lines.drain(..excess);
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
