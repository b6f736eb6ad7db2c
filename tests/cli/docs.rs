//! docs/cli.md holds what the program says of itself.

use std::path::Path;

use crate::support::orch;

const VERBS: [&str; 18] = [
    "",
    "run",
    "status",
    "tasks",
    "explain",
    "retry",
    "events",
    "cost",
    "audit",
    "chaos",
    "logs",
    "validate",
    "init",
    "instructions create",
    "instructions history",
    "doctor",
    "completions",
    "man",
];
const BEGIN: &str =
    "<!-- generated: from here on `ORCH_UPDATE_DOCS=1 cargo test --test cli docs` writes -->\n";

#[test]
fn docs_should_hold_the_help_of_every_verb() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (written, found) = text.split_once(BEGIN).expect("the marker of the generated part");
    let folder = tempfile::tempdir().unwrap();
    let mut expected = String::new();
    for verb in VERBS {
        let words: Vec<&str> = verb.split_whitespace().chain(["--help"]).collect();
        let help = orch(folder.path(), &words).ok();
        // The same for every verb: shown once.
        let own = help.split("\nGlobal options:").next().unwrap();
        let help = if verb.is_empty() { help.as_str() } else { own };
        let help: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
        let title = format!("orch {verb}");
        let block = format!("\n### {}\n\n```text\n{}\n```\n", title.trim_end(), help.join("\n"));
        expected.push_str(&block);
    }
    if std::env::var_os("ORCH_UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{written}{BEGIN}{expected}")).unwrap();
        return;
    }
    assert!(
        found == expected,
        "docs/cli.md is out of date: ORCH_UPDATE_DOCS=1 cargo test --test cli docs"
    );
}
