//! `INSTRUCTIONS.md`: what people want, as declarations.
//!
//! [`parse`] reads one text and returns what it declares together with all that
//! is wrong in it. [`merge`] turns that and the last good declarations into what
//! is in force. Together they guarantee that a file which is missing, cut short,
//! half typed or wrong in places takes nothing away:
//!
//! - A declaration in error is not used; its last good version stays in force.
//! - While a file has any error, nothing that is absent from it is removed: the
//!   error may be what is left of it, or its misspelt name.
//! - A file that cannot be trusted as a whole ([`Broken::whole_file`]) changes
//!   nothing.
//! - A file that looks half written ([`Parsed::unsettled`]) changes nothing until
//!   it has stayed as it is for [`SETTLE`]; then the caller says so
//!   ([`Parsed::settled`]).
//!
//! What remains: a text that was cut at the end of a line between two sections
//! cannot be told from one whose second section was removed.
//!
//! A parse reads the instruction files that give goals their text
//! ([`Parsed::reads`]), follows links in paths, and does no other IO.

mod agents;
mod blocks;
mod fingerprint;
mod goals;
mod inline;
mod link;
mod permissions;
mod plan;
mod sections;
mod settings;
mod tasks;
#[cfg(test)]
mod tests;
mod yaml;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{AgentName, Declared, GoalId};

use crate::diagnostic::{Diagnostic, Severity};
use crate::source::Source;

/// How long a file that looks half written must stay as it is to be believed.
pub const SETTLE: Duration = Duration::from_secs(2);

/// How many errors, and how many warnings, of one file are kept.
pub const MAX_DIAGNOSTICS: usize = 100;

/// What stays in force of the last good declarations because the file, as it is,
/// does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Broken {
    /// Agents that the file declares, but not without error.
    pub agents: BTreeSet<AgentName>,
    /// Goals that the file declares, but not without error.
    pub goals: BTreeSet<GoalId>,
    /// The file as a whole cannot be trusted: everything stays.
    pub whole_file: bool,
}

/// What one text declares, and what is wrong in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The declarations without error.
    pub declared: Declared,
    /// Errors and warnings, by line; of each at most [`MAX_DIAGNOSTICS`].
    pub diagnostics: Vec<Diagnostic>,
    /// The declarations with errors.
    pub broken: Broken,
    /// The file looks half written: its last line has no end, or it declares no
    /// agent at all.
    pub unsettled: bool,
    /// The other files whose content counts: a change of one calls for another parse.
    pub reads: BTreeSet<PathBuf>,
}

impl Parsed {
    /// Whether the file has no error; it may have warnings.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        !self.diagnostics.iter().any(Diagnostic::is_error)
    }

    /// The same, for a file that has stayed as it is for [`SETTLE`]: that it
    /// looks half written no longer counts.
    #[must_use]
    pub fn settled(mut self) -> Self {
        self.unsettled = false;
        self.diagnostics.retain(|diagnostic| diagnostic.message != UNTERMINATED);
        self
    }
}

const UNTERMINATED: &str = "the last line has no line end: is it still being written?";

/// What is in force: the good declarations of `parsed`, and of `last_good` what
/// the file does not reliably take away.
#[must_use]
pub fn merge(last_good: &Declared, parsed: &Parsed) -> Declared {
    if parsed.broken.whole_file || parsed.unsettled {
        return last_good.clone();
    }
    let mut merged = parsed.declared.clone();
    if !parsed.is_valid() {
        for (name, agent) in &last_good.agents {
            merged.agents.entry(name.clone()).or_insert_with(|| agent.clone());
        }
        for (id, goal) in &last_good.goals {
            merged.goals.entry(id.clone()).or_insert_with(|| goal.clone());
        }
    }
    merged
}

/// Reads the text of the control file `file`, absolute or relative to
/// `project_root`. Never fails: what is wrong is in the result.
#[must_use]
pub fn parse(project_root: &Path, file: &Path, text: &str) -> Parsed {
    let mut context = Context::new(project_root, file, text);
    let written = sections::read(&mut context);
    let mut parsed = Parsed { unsettled: written.agents.is_empty(), ..Parsed::default() };
    if !text.is_empty() && !text.ends_with('\n') {
        let help = "end it with a line break; else it counts once it has not changed for 2 s";
        let end = text.len();
        context.warning(&(end..end), UNTERMINATED, Some(help.to_owned()));
        parsed.unsettled = true;
    }
    parsed.broken.whole_file = written.untrusted;
    let no_agents = written.agents.is_empty();
    link::declare(&mut context, written, &mut parsed);
    if no_agents && context.errors() == 0 {
        let help = "if that is meant, nothing need be done: it counts after 2 s";
        let message = "no agents are declared: the running ones will be ended";
        context.warning(&(0..0), message, Some(help.to_owned()));
    }
    parsed.diagnostics = context.diagnostics();
    parsed
}

/// What every part of the parser needs: the text, where it lies, what was found.
struct Context<'a> {
    source: Source<'a>,
    root: PathBuf,
    /// The file's own absolute path, and its folder.
    file: PathBuf,
    base: PathBuf,
    found: [Vec<Diagnostic>; 2],
    counts: [usize; 2],
}

impl<'a> Context<'a> {
    fn new(project_root: &Path, file: &Path, text: &'a str) -> Self {
        let real = |path: &Path| std::fs::canonicalize(path);
        let root = real(project_root).unwrap_or_else(|_| project_root.to_owned());
        let given = project_root.join(file);
        let file = real(&given).unwrap_or_else(|_| given.clone());
        let shown = file.strip_prefix(&root).or_else(|_| given.strip_prefix(project_root));
        let source = Source::new(shown.unwrap_or(&given), text);
        // Paths in the file count from where it was found, not from where a link leads.
        let base = given.parent().map_or_else(|| root.clone(), Path::to_owned);
        Self { source, root, file, base, found: [Vec::new(), Vec::new()], counts: [0, 0] }
    }

    fn error(&mut self, at: &Range<usize>, message: impl Into<String>, help: Option<String>) {
        self.report(Severity::Error, at, message.into(), help);
    }

    fn warning(&mut self, at: &Range<usize>, message: impl Into<String>, help: Option<String>) {
        self.report(Severity::Warning, at, message.into(), help);
    }

    fn report(
        &mut self,
        severity: Severity,
        at: &Range<usize>,
        message: String,
        help: Option<String>,
    ) {
        let slot = usize::from(severity == Severity::Warning);
        self.counts[slot] += 1;
        if self.found[slot].len() < MAX_DIAGNOSTICS {
            self.found[slot].push(self.source.diagnostic(severity, at, message, help));
        }
    }

    /// How many errors were reported so far.
    fn errors(&self) -> usize {
        self.counts[0]
    }

    /// Whether further errors are only counted.
    fn is_full(&self) -> bool {
        self.counts[0] >= MAX_DIAGNOSTICS
    }

    fn diagnostics(&mut self) -> Vec<Diagnostic> {
        let mut all = Vec::new();
        for (slot, severity) in [Severity::Error, Severity::Warning].into_iter().enumerate() {
            let more = self.counts[slot] - self.found[slot].len();
            all.append(&mut self.found[slot]);
            if more > 0 {
                let end = self.source.text().len();
                let message = format!("{more} more {}s are not shown", severity.as_str());
                all.push(self.source.diagnostic(severity, &(end..end), message, None));
            }
        }
        all.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        all
    }
}
