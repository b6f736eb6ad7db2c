//! A control file's text, and where in it a byte lies for a person.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, Severity};

/// The text of one file, indexed by line.
pub(crate) struct Source<'a> {
    /// As diagnostics name it.
    file: PathBuf,
    text: &'a str,
    line_starts: Vec<usize>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(file: &Path, text: &'a str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect();
        Self { file: file.to_owned(), text, line_starts }
    }

    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// The text of a range; empty where the range is none of this text's.
    pub(crate) fn slice(&self, range: &Range<usize>) -> &'a str {
        self.text.get(range.clone()).unwrap_or_default()
    }

    /// The line, from 1, that holds the byte at `at`.
    pub(crate) fn line_of(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at)
    }

    /// The line (from 1) without its end, and where it begins.
    fn line(&self, number: usize) -> (&'a str, usize) {
        let start = self.line_starts.get(number - 1).copied().unwrap_or(self.text.len());
        let end = self.line_starts.get(number).copied().unwrap_or(self.text.len());
        let line = self.slice(&(start..end));
        (line.trim_end_matches(['\n', '\r']), start)
    }

    /// A diagnostic at `range`; what lies beyond its first line is not marked.
    pub(crate) fn diagnostic(
        &self,
        severity: Severity,
        range: &Range<usize>,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Diagnostic {
        let at = self.floor(range.start.min(self.text.len()));
        let number = self.line_of(at);
        let (line, start) = self.line(number);
        let before = self.slice(&(start..at)).chars().count().min(line.chars().count());
        let end = self.floor(range.end.clamp(at, start + line.len().max(at - start)));
        let length = self.slice(&(at..end)).chars().count();
        Diagnostic::new(
            severity,
            self.file.clone(),
            number,
            (before, length),
            message.into(),
            help,
            line,
        )
    }

    fn floor(&self, mut at: usize) -> usize {
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }
}
