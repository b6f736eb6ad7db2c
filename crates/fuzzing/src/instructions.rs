//! `INSTRUCTIONS.md`.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use control_files::Diagnostic;
use control_files::instructions::{MAX_DIAGNOSTICS, Parsed, merge, parse};
use model::task::MAX_PRIORITY;
use model::{Dag, Declared, GoalSpec};
use tempfile::TempDir;

use crate::check::{assert_inside, assert_quotable, text};

/// The longest line of a diagnostic, with what marks that it was cut.
const SOURCE_LINE_CHARS: usize = 162;
/// The longest message or help. It names ids and quotes values: of a kilobyte each.
const MESSAGE_BYTES: usize = 8 * 1024;
/// Texts up to this length are read in other spellings, too.
const RESPELLED_BYTES: usize = 16 * 1024;

/// A project with instructions for an agent called `a`, and no other files.
fn project() -> &'static Path {
    static PROJECT: OnceLock<Option<TempDir>> = OnceLock::new();
    let folder = PROJECT.get_or_init(|| {
        let folder = TempDir::with_prefix("orch-fuzz-").ok()?;
        std::fs::create_dir(folder.path().join("instructions")).ok()?;
        std::fs::write(folder.path().join("instructions/a.md"), "Count all.\n").ok()?;
        Some(folder)
    });
    folder.as_ref().map_or(Path::new("/nowhere"), TempDir::path)
}

fn read(text: &str) -> Parsed {
    parse(project(), &PathBuf::from("INSTRUCTIONS.md"), text)
}

/// Errors have a place within the file, are bounded and printable; what is declared is
/// within its limits; what means the same has the same fingerprint; and merging takes away
/// nothing that the file does not.
pub fn instructions(data: &[u8]) {
    let text = &*text(data);
    let parsed = read(text);
    assert!(parsed.diagnostics.len() <= 2 * (MAX_DIAGNOSTICS + 1));
    let lines: Vec<&str> = text.split('\n').collect();
    for diagnostic in &parsed.diagnostics {
        check_diagnostic(diagnostic, &lines);
    }
    check_declared(&parsed);
    check_merge(&parsed);
    if text.len() <= RESPELLED_BYTES {
        check_spellings(text, &parsed);
    }
}

fn check_diagnostic(found: &Diagnostic, lines: &[&str]) {
    let line = lines.get(found.line as usize - 1);
    let line = line.unwrap_or_else(|| panic_at(found, "lies behind the file"));
    let chars = line.trim_end_matches('\r').chars().count() as u32;
    assert!(found.column >= 1 && found.column - 1 <= chars, "{found} lies behind its line");
    assert!(found.column - 1 + found.length <= chars, "{found} marks more than its line");
    assert!(found.source_line.chars().count() <= SOURCE_LINE_CHARS, "{found}");
    assert_quotable(&found.to_string(), 2 * MESSAGE_BYTES, "a shown diagnostic");
    assert!(found.message.len() <= MESSAGE_BYTES, "{found}");
    assert!(found.help.as_ref().is_none_or(|help| help.len() <= MESSAGE_BYTES), "{found}");
}

#[allow(clippy::panic, reason = "a panic is what a fuzzer looks for")]
fn panic_at<T>(found: &Diagnostic, what: &str) -> T {
    panic!("{found} {what}")
}

fn check_declared(parsed: &Parsed) {
    let Declared { agents, goals, .. } = &parsed.declared;
    for (name, agent) in agents {
        assert_eq!(*name, agent.name);
        assert!(!parsed.broken.agents.contains(name), "{name} is declared and broken");
        assert!(!agent.spec_hash.is_empty());
    }
    for (id, goal) in goals {
        assert_eq!(*id, goal.id);
        assert!(!parsed.broken.goals.contains(id), "{id} is declared and broken");
        check_goal(goal);
    }
}

fn check_goal(goal: &GoalSpec) {
    assert!(!goal.spec_hash.is_empty() && !goal.title.is_empty(), "{goal:?}");
    assert!(goal.priority <= MAX_PRIORITY && goal.max_attempts != Some(0), "{goal:?}");
    let Some(tasks) = &goal.tasks else { return };
    let specs = tasks.iter().map(|task| task.spec.clone()).collect();
    let edges: Vec<_> = tasks
        .iter()
        .flat_map(|task| task.after.iter().map(|after| (task.spec.id.clone(), after.clone())))
        .collect();
    let dag = Dag::new(specs, &edges);
    assert!(dag.is_ok(), "a pinned plan that is no DAG: {:?}", dag.err());
    for task in tasks {
        let spec = &task.spec;
        assert!(spec.id.is_plain() && !spec.title.is_empty(), "{spec:?}");
        spec.expected_artifacts.iter().for_each(|path| assert_inside(path));
    }
}

/// What is in force never has less than the file reliably takes away, and merging again
/// changes nothing.
fn check_merge(parsed: &Parsed) {
    let before = Declared::default();
    let first = merge(&before, parsed);
    assert_eq!(merge(&first, parsed), first);
    let settled = merge(&before, &parsed.clone().settled());
    if parsed.broken.whole_file {
        assert_eq!(settled, before);
    } else {
        assert_eq!(settled, parsed.declared);
    }
}

/// Other line ends and a byte order mark mean nothing.
fn check_spellings(text: &str, parsed: &Parsed) {
    assert_eq!(read(text), *parsed, "read twice");
    if !text.contains(['\r', '\u{feff}']) {
        let windows = read(&text.replace('\n', "\r\n"));
        assert_eq!(windows.declared, parsed.declared, "with other line ends");
        assert_eq!(windows.broken, parsed.broken, "with other line ends");
        let marked = read(&format!("\u{feff}{text}"));
        assert_eq!(marked.declared, parsed.declared, "behind a byte order mark");
        assert_eq!(marked.broken, parsed.broken, "behind a byte order mark");
    }
}
