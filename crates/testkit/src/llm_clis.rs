//! The real command-line programs that tests run.

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
    let variable = format!("ORCH_TEST_{}", program.to_uppercase());
    if let Some(path) = std::env::var_os(&variable).filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "{variable} is {}, which is no file", path.display());
        return Some(path);
    }
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/llm/bin").join(program);
    if let Ok(path) = tools.canonicalize() {
        return Some(path);
    }
    let skipped = format!("skipped: {program} is not installed (make llm-clis)");
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
