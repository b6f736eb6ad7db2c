//! What a faulty file cannot take away, and what no file can do.

use proptest::prelude::*;

use super::*;

#[test]
fn file_that_cannot_be_trusted_should_change_nothing() {
    let project = Project::new();
    let last_good = project.good(FULL);
    for text in [
        "",
        " \n\n",
        "## Age\n",
        "## A\n",
        "full of nonsense\n\u{0}\u{1b}[2J\n- {{{\n",
        "# Agents\n### x\n- Goal: goal-001\n",
        "```\n## Agents\n### x\n- Goal: goal-001\n",
        "<!--\n## Agents\n",
    ] {
        let parsed = project.parse(text).settled();
        assert!(parsed.broken.whole_file && !parsed.is_valid(), "{text:?}");
        assert_eq!(merge(&last_good, &parsed), last_good, "{text:?}");
    }
}

#[test]
fn half_written_file_should_count_only_once_it_has_settled() {
    let project = Project::new();
    let last_good = project.good(FULL);
    let parsed = project.parse(SEED.trim_end());
    assert!(parsed.unsettled && parsed.is_valid());
    assert_eq!(merge(&last_good, &parsed), last_good);
    let settled = parsed.settled();
    assert_eq!(settled.diagnostics, []);
    assert_eq!(merge(&last_good, &settled), project.good(SEED));
    // Removing the last agent is legal, but looks the same as being cut short.
    let parsed = project.parse("# Project\n\n## Agents\n");
    assert!(parsed.unsettled && parsed.is_valid(), "{parsed:?}");
    assert_eq!(merge(&last_good, &parsed), last_good);
    assert!(merge(&last_good, &parsed.settled()).agents.is_empty());
}

#[test]
fn declaration_in_error_should_keep_its_last_good_version_and_the_rest_work() {
    let project = Project::new();
    let last_good = project.good(FULL);
    let text = FULL
        .replace("Log Level: INFO", "Log Level: LOUD")
        .replace("Cadence: 5s", "Cadence: 6s")
        .replace("after: task-001;", "after: task-002;");
    let parsed = project.parse(&text);
    let broken: Vec<_> = parsed.broken.agents.iter().map(AgentName::as_str).collect();
    assert_eq!(broken, ["research_agent"]);
    assert_eq!(parsed.broken.goals.len(), 1);
    let merged = merge(&last_good, &parsed);
    assert_eq!(agent(&merged, "research_agent"), agent(&last_good, "research_agent"));
    assert_eq!(goal(&merged, "goal-001"), goal(&last_good, "goal-001"));
    assert_eq!(agent(&merged, "analysis_agent").cadence, Some(Duration::from_secs(6)));
}

#[test]
fn nothing_should_be_removed_while_the_file_has_an_error() {
    let project = Project::new();
    let last_good = project.good(SEED);
    for text in [
        SEED.replace("### research_agent", "### resea"),
        SEED.replace("### analysis_agent", "### analysis agent"),
        SEED.replace("### analysis_agent", "###"),
        SEED.replace("### analysis_agent", "#### analysis_agent"),
        SEED.replace("### research_agent\n", ""),
        SEED.replace("## Agents", "## Agnts\n## Goals\n### goal-001\nText"),
    ] {
        let merged = merge(&last_good, &project.parse(&text).settled());
        for name in names(&last_good) {
            assert!(names(&merged).contains(&name), "{name} is lost: {text}");
        }
    }
    // Without an error, what is gone is gone.
    let (only_research, _) = SEED.split_once("### analysis_agent").unwrap();
    assert_eq!(names(&merge(&last_good, &project.parse(only_research))), ["research_agent"]);
}

#[test]
fn heartbeat_should_not_leave_the_project_through_a_link() {
    let project = Project::new();
    std::os::unix::fs::symlink("/tmp", project.root().join("heartbeat")).unwrap();
    let parsed = project.parse(SEED);
    assert_eq!(parsed.broken.agents.len(), 2, "{:?}", parsed.diagnostics);
}

#[test]
fn largest_files_should_be_read_in_bounded_time_and_stack() {
    let project = Project::new();
    // All of it is linear, so a quarter shows what the whole would; only the
    // stack wants the deepest nesting that there can be.
    let limit = usize::try_from(crate::read::MAX_BYTES).unwrap();
    let _ = project.parse(&"- ".repeat(limit / 2));
    let _ = project.parse(&"> ".repeat(limit / 2));
    let limit = limit / 4;
    let fill = |head: &str, unit: &str| {
        format!("{head}{}\n", unit.repeat((limit - head.len()) / unit.len()))
    };
    let tasks = format!("{SEED}## Goals\n### goal-001\n#### Tasks\n");
    for text in [
        fill("", "# x\n"),
        fill("## Agents\n", "### a\n"),
        fill(SEED, "- Goal: x\n"),
        fill(&tasks, "- a: x (after: b)\n"),
        fill(&format!("{tasks}- a: x "), "("),
        fill(&format!("{tasks}- a: x "), "(after: "),
        fill(&format!("{tasks}- a: x "), "'"),
        fill(&format!("{tasks}- a: x (after: "), "b,"),
        fill(&format!("{tasks}- a: x -> "), "b,"),
        fill(&format!("{tasks}- a: x\n"), "  - verify: y\n"),
        fill("```yaml\nagents:\n", "- name: a\n"),
        fill("```yaml\nagents: ", "["),
    ] {
        let _ = project.parse(&text);
    }
    let many: String = (0..10_000).map(|n| format!("- t{n}: x (after: u{n})\n")).collect();
    assert!(!project.parse(&format!("{tasks}{many}")).is_valid());
    let chain: String = (1..10_000).map(|n| format!("- t{n}: x (after: t{})\n", n - 1)).collect();
    let declared = project.good(&format!("{tasks}- t0: x\n{chain}"));
    assert_eq!(goal(&declared, "goal-001").tasks.as_ref().map(Vec::len), Some(10_000));
}

fn mutated() -> impl Strategy<Value = String> {
    let edit = (any::<prop::sample::Index>(), 0usize..12, "(?s:.{0,6})|[-#:>`()\n ]{0,8}");
    proptest::collection::vec(edit, 0..6).prop_map(|edits| {
        let mut chars: Vec<char> = FULL.chars().collect();
        for (at, cut, insert) in edits {
            let at = at.index(chars.len() + 1);
            let end = (at + cut).min(chars.len());
            chars.splice(at..end, insert.chars());
        }
        chars.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_text_should_be_read_without_panic(text in "(?s:.{0,200})|[-#:>`()\n a-c]{0,200}") {
        let project = Project::new();
        let parsed = project.parse(&text);
        let _ = project.shown(&text);
        prop_assert!(parsed.is_valid() || !parsed.diagnostics.is_empty());
    }

    #[test]
    fn mutated_file_should_be_read_without_panic_and_lose_nothing_by_an_error(text in mutated()) {
        let project = Project::new();
        let last_good = project.good(FULL);
        let _ = project.shown(&text);
        let parsed = project.parse(&text).settled();
        if !parsed.is_valid() {
            let merged = merge(&last_good, &parsed);
            prop_assert!(last_good.agents.keys().all(|name| merged.agents.contains_key(name)));
            prop_assert!(last_good.goals.keys().all(|id| merged.goals.contains_key(id)));
        }
    }
}

#[test]
fn truncated_file_should_lose_no_agent_unless_it_is_a_whole_file_itself() {
    let project = Project::new();
    for text in [FULL, SEED] {
        let last_good = project.good(text);
        for cut in (0..text.len()).filter(|cut| text.is_char_boundary(*cut)) {
            let parsed = project.parse(&text[..cut]);
            let merged = merge(&last_good, &parsed);
            let whole = parsed.is_valid() && text[..cut].ends_with('\n');
            if !whole {
                assert_eq!(merged.agents.len(), last_good.agents.len(), "{:?}", &text[..cut]);
                assert_eq!(merged.goals.len(), last_good.goals.len(), "{:?}", &text[..cut]);
            }
        }
    }
}
