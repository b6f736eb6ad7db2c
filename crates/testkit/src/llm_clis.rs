//! The real programs that tests run, where they are installed.

use std::path::{Path, PathBuf};

/// Where `program` (`claude` or `codex`) is: `ORCH_TEST_CLAUDE` and
/// `ORCH_TEST_CODEX`, else what `make llm-clis` put into the project's `.tools`.
/// Where it is not installed, says so and returns nothing: the test is skipped.
///
/// # Panics
/// Where it is not installed and `ORCH_TEST_REQUIRE_ALL` is `1`, as in CI; where
/// the variable names a file that is not there.
#[must_use]
#[track_caller]
pub fn installed(program: &str) -> Option<PathBuf> {
    if let Some(path) = named(program) {
        return Some(path);
    }
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/llm/bin").join(program);
    if let Ok(path) = tools.canonicalize() {
        return Some(path);
    }
    skip(program, "make llm-clis")
}

/// Where `program` of a package of Debian's is: `ORCH_TEST_<PROGRAM>`, else in `PATH`.
/// Where it is not installed, says so, with `how` it would be, and returns nothing.
///
/// # Panics
/// As [`installed`].
#[must_use]
#[track_caller]
pub fn in_path(program: &str, how: &str) -> Option<PathBuf> {
    if let Some(path) = named(program) {
        return Some(path);
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).map(|at| at.join(program)).find(|at| at.is_file());
    found.or_else(|| skip(program, how))
}

/// Where a variable says that `program` is.
#[track_caller]
fn named(program: &str) -> Option<PathBuf> {
    let variable = format!("ORCH_TEST_{}", program.to_uppercase());
    let path = std::env::var_os(&variable).filter(|path| !path.is_empty()).map(PathBuf::from)?;
    assert!(path.is_file(), "{variable} is {}, which is no file", path.display());
    Some(path)
}

#[track_caller]
fn skip(program: &str, how: &str) -> Option<PathBuf> {
    let skipped = format!("skipped: {program} is not installed ({how})");
    assert!(std::env::var_os("ORCH_TEST_REQUIRE_ALL").is_none_or(|all| all != "1"), "{skipped}");
    println!("{skipped}");
    None
}

/// What `claude` has stored of the conversation `session`, as lines of JSON, with
/// `HOME` being `home`; empty where there is nothing yet.
///
/// It stores what happened a moment later: a test that kills it has to wait until
/// that stands here, or a resumed conversation lacks it.
#[must_use]
pub fn claude_history(home: &Path, session: &str) -> String {
    let Ok(projects) = std::fs::read_dir(home.join(".claude/projects")) else {
        return String::new();
    };
    let files = projects.flatten().map(|at| at.path().join(format!("{session}.jsonl")));
    files.filter_map(|file| std::fs::read_to_string(file).ok()).collect()
}
