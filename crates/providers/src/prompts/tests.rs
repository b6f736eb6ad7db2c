use std::collections::BTreeMap;
use std::path::Path;

use model::{AgentName, GoalId, GoalSpec, Role, TaskId, TaskSpec};
use proptest::prelude::*;

use super::*;

fn id(text: &str) -> TaskId {
    TaskId::new(text).unwrap()
}

fn goal(text: &str) -> GoalSpec {
    GoalSpec {
        id: GoalId::new("g-1").unwrap(),
        title: "A goal".into(),
        text: text.into(),
        priority: 4,
        max_attempts: Some(2),
        timeout_secs: Some(60),
        folder: Some("out".into()),
        provider: None,
        model: None,
        budget_micros: None,
        review: false,
        tasks: None,
        tasks_are_fallback: false,
        spec_hash: String::new(),
    }
}

fn task(name: &str) -> TaskSpec {
    let mut task = TaskSpec::new(id(name), format!("Title of {name}"));
    task.expected_artifacts = vec![format!("{name}.tsv")];
    task.verify = vec![format!("test -s {name}.tsv")];
    task.metadata = BTreeMap::from([
        ("description".to_owned(), format!("Description of {name}")),
        ("notes".to_owned(), "mind the gap".to_owned()),
    ]);
    task
}

/// Every prompt, with something in every place, or with as little as there can be.
fn all(text: &str, full: bool) -> Vec<Prompt> {
    let texts = if full { vec![text.to_owned(), "other".to_owned()] } else { Vec::new() };
    let text = if full { text } else { "" };
    let (agent, role) = (AgentName::new("a_agent").unwrap(), Role::new("a").unwrap());
    let (goal, spec, other) = (goal(text), task("t-1"), task("t-2"));
    let after = [id("t-2")];
    let some = usize::from(full);
    let agents = [Agent { name: &agent, role: &role }];
    let done = [DoneTask { spec: &spec, after: &after, summary: text }];
    let waited = [Dependency { spec: &other, summary: text, artifacts: &texts }];
    let original = Summarise { task: &spec, result: text }.render();
    let folder = Path::new("/project/work");
    let specs = [spec.clone(), other.clone()];
    vec![
        Decompose {
            goal: &goal,
            agents: &agents[..some],
            done: &done[..some],
            errors: &texts,
            max_tasks: 50,
        }
        .render(),
        Select { agent: &agent, goal: &goal, candidates: &specs, memory: &texts }.render(),
        Execute {
            agent: &agent,
            goal: &goal,
            task: &spec,
            folder,
            instructions: text,
            dependencies: &waited[..some],
            memory: &texts,
            errors: &texts,
            resumed: full.then_some("killed"),
        }
        .render(),
        Summarise { task: &spec, result: text }.render(),
        Review {
            agent: &agent,
            goal: &goal,
            task: &spec,
            folder,
            outputs: &texts,
            summary: text,
            instructions: text,
        }
        .render(),
        Recover { goal: &goal, task: &spec, errors: &texts }.render(),
        Repair { original: full.then_some(&original), came: text, error: "no" }.render(),
    ]
}

/// The fences of a prompt by name, each with what it holds.
fn fences(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        // The rule that explains fences names none.
        let Some(open) = line.strip_prefix("<<<") else { continue };
        let close = format!("{open}>>>");
        let held: Vec<&str> = lines.by_ref().take_while(|line| *line != close).collect();
        found.push((open.to_owned(), held.join("\n")));
    }
    found
}

#[test]
fn every_template_should_be_rendered_without_a_rest() {
    for full in [true, false] {
        for prompt in all("some text", full) {
            let text = &prompt.text;
            assert!(!text.contains("{{") && !text.contains("\n\n\n"), "{text}");
            assert!(!prompt.id.contains("/0 "), "{}: a `version: N` line is missing", prompt.id);
            assert!(text.ends_with('\n') && text.is_ascii(), "{text}");
            assert!(text.lines().all(|line| line.len() <= 160), "{text}");
        }
    }
}

#[test]
fn every_value_should_have_its_place() {
    let prompts = all("needle", true);
    let names = |prompt: &Prompt| {
        let name = |(open, _): (String, String)| open.split(' ').next().unwrap().to_owned();
        fences(&prompt.text).into_iter().map(name).collect::<Vec<_>>().join(" ")
    };
    let found: Vec<String> = prompts
        .iter()
        .map(|prompt| format!("{}: {}", prompt.id.split(' ').next().unwrap(), names(prompt)))
        .collect();
    assert_eq!(
        found,
        [
            "decompose/1: GOAL DONE ERRORS",
            "select/1: GOAL CANDIDATES MEMORY",
            "execute/1: TASK FOLDER ARTIFACTS VERIFY RESUMED ERRORS INSTRUCTIONS GOAL \
             DEPENDENCIES MEMORY",
            "summarise/1: TASK RESULT",
            "review/1: TASK GOAL SUMMARY OUTPUTS FOLDER INSTRUCTIONS",
            "recover/1: TASK GOAL ERRORS",
            "repair/1: TASK RESULT ERROR CAME",
        ]
    );
}

#[test]
fn sections_without_content_should_be_left_out() {
    let [decompose, _, execute, ..] = &all("", false)[..] else { panic!() };
    for heading in ["## What is done already", "## Earlier attempts"] {
        assert!(!decompose.text.contains(heading), "{}", decompose.text);
    }
    assert!(decompose.text.contains("- one agent, without a role"));
    for heading in ["interrupted", "Earlier attempts", "How you work", "What was done", "remember"]
    {
        assert!(!execute.text.contains(&format!("## {heading}")), "{heading}");
    }
}

#[test]
fn execute_should_tell_all_that_is_known() {
    let prompt = &all("needle", true)[2].text;
    for part in [
        "Title of t-1\n\nDescription of t-1\n\nnotes: mind the gap",
        "/project/work",
        "t-1.tsv",
        "test -s t-1.tsv",
        "killed",
        "Attempt 1:\nneedle\n\nAttempt 2:\nother",
        "- t-2: Title of t-2\n  summary: needle\n  files:\n    needle\n    other",
        "- needle\n- other",
    ] {
        assert!(prompt.contains(part), "{part}\nin\n{prompt}");
    }
}

#[test]
fn done_tasks_should_be_repeatable_as_they_stand() {
    let mut spec = task("t-1");
    spec.metadata.insert("description".into(), "x".repeat(5000));
    let done = [DoneTask { spec: &spec, after: &[], summary: "fine\nreally" }];
    let goal = goal("text");
    let prompt =
        Decompose { goal: &goal, agents: &[], done: &done, errors: &[], max_tasks: 9 }.render();
    let held = fences(&prompt.text);
    let (_, line) = held.iter().find(|(open, _)| open.starts_with("DONE")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["summary"], "fine really");
    let node: crate::answers::Node = serde_json::from_value(line).unwrap();
    assert_eq!((node.id, node.description.map(|text| text.len())), (spec.id, Some(5000)));
    assert_eq!(node.expected_artifacts, spec.expected_artifacts);
}

#[test]
fn repair_should_keep_the_task_in_whole_or_leave_it_to_the_session() {
    let original = all("needle", true).swap_remove(2);
    let came = "x".repeat(5_000);
    let whole = Repair { original: Some(&original), came: &came, error: "bad" }.render().text;
    assert!(whole.starts_with(original.text.trim_end()));
    assert!(whole.contains("[cut here: 3000 more bytes]") && !whole.contains("do not do it again"));
    let short = Repair { original: None, came: &came, error: "bad" }.render().text;
    assert!(short.starts_with("You answered this before") && short.contains("do not do it again"));
}

#[test]
fn prompts_should_stay_bounded_however_much_there_is() {
    let text = "needle ä\n".repeat(1_000_000);
    let many: Vec<String> = (0..2_000).map(|n| format!("{n} {}", &text[..20_000])).collect();
    let (agent, goal) = (AgentName::new("a").unwrap(), goal(&text));
    let mut spec = task("t-1");
    spec.metadata.insert("description".into(), text.clone());
    spec.expected_artifacts.clone_from(&many);
    spec.verify.clone_from(&many);
    let waited: Vec<Dependency<'_>> =
        (0..60).map(|_| Dependency { spec: &spec, summary: &text, artifacts: &many }).collect();
    let prompt = Execute {
        agent: &agent,
        goal: &goal,
        task: &spec,
        folder: Path::new("/w"),
        instructions: &text,
        dependencies: &waited,
        memory: &many,
        errors: &many,
        resumed: Some(&text),
    }
    .render();
    let limit = MAX_GOAL_BYTES
        + MAX_INSTRUCTIONS_BYTES
        + 3 * MAX_LIST_BYTES
        + 2 * MAX_TASK_BYTES
        + MAX_MEMORY_BYTES
        + (MAX_ERRORS + 1) * (MAX_ERROR_BYTES + 256)
        + 16 * 1024;
    assert!(prompt.text.len() < limit, "{} of {limit}", prompt.text.len());
    assert!(prompt.text.matches("[cut here: ").count() >= 5);
    let done: Vec<DoneTask<'_>> =
        (0..500).map(|_| DoneTask { spec: &spec, after: &[], summary: &text }).collect();
    let prompt =
        Decompose { goal: &goal, agents: &[], done: &done, errors: &many, max_tasks: 50 }.render();
    assert!(prompt.text.len() < limit && prompt.text.contains("more are left out]"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_should_close_a_fence_or_open_another(text in "(.|\n|<<<|>>>|GOAL|\\{\\{[a-z]+\\}\\}){0,80}") {
        let plain = all("needle", true);
        for (prompt, plain) in all(&text, true).iter().zip(&plain) {
            let (found, expected) = (fences(&prompt.text), fences(&plain.text));
            let shown = |fences: &[(String, String)]| {
                fences.iter().map(|(open, _)| open.split(' ').next().map(str::to_owned))
                    .collect::<Vec<_>>()
            };
            // A text of nothing but white space takes its section away.
            if !text.trim().is_empty() {
                prop_assert_eq!(shown(&found), shown(&expected));
            }
            for (open, _) in &found {
                let close = format!("{open}>>>");
                prop_assert_eq!(prompt.text.matches(&close).count(), 1);
            }
        }
    }
}
