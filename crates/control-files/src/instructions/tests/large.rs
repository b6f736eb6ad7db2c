//! Files as large as they may be. Were the time for one of them the square of its length,
//! its test would take minutes.

use super::*;

/// The largest file.
const MOST: usize = crate::read::MAX_BYTES as usize;

/// `head` and then `piece` again and again, `%` in it being the number of the time, up to
/// a length of `bytes`.
fn many(bytes: usize, head: &str, piece: &str) -> String {
    let mut text = head.to_owned();
    let mut count = 0;
    while text.len() < bytes {
        count += 1;
        text.push_str(&piece.replace('%', &count.to_string()));
    }
    text
}

/// Regression: each heading was compared with all sections before it.
#[test]
fn many_sections_should_be_read_in_linear_time() {
    let project = Project::new();
    for section in ["## Agents\n", "## Goals\n", "## Agents\n\n## Goals\n\n## Agent\n"] {
        let parsed = project.parse(&many(MOST, "", section));
        assert!(parsed.declared.agents.is_empty(), "{section}");
    }
}

/// Regression: each agent was compared with all goals, and each goal with all agents.
#[test]
fn many_agents_and_goals_should_be_read_in_linear_time() {
    let project = Project::new();
    let strangers = many(MOST / 4, "## Agents\n", "### a%\n- Goal: x%\n");
    let goals = many(MOST / 4, "\n## Goals\n", "### g%\nText.\n");
    let parsed = project.parse(&format!("{strangers}{goals}"));
    assert!(parsed.declared.goals.len() > 10_000, "{}", parsed.declared.goals.len());
    assert!(parsed.broken.agents.len() > 10_000, "{}", parsed.broken.agents.len());

    let agents = many(MOST / 4, "## Agents\n", "### a%\n- Goal: g%\n");
    let parsed = project.parse(&format!("{agents}{goals}"));
    assert!(parsed.declared.agents.len() > 10_000, "{}", parsed.declared.agents.len());
}

/// Regression: each setting was compared with all before it, where one may be repeated.
#[test]
fn many_options_of_a_task_should_be_read_in_linear_time() {
    let project = Project::new();
    let head = "## Agents\n### a\n- Goal: g\n## Goals\n### g\n#### Tasks\n- t: x\n";
    let verify = many(MOST / 2, head, "  - verify: x\n");
    let text = many(MOST / 2, "", "  - priority: 1\n");
    let parsed = project.parse(&format!("{verify}{text}"));
    assert!(!parsed.is_valid());
    assert!(project.parse(&verify).is_valid());
}
