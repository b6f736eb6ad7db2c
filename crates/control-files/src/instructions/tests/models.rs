//! What is declared of models: providers, permissions, budgets, reviews.

use super::*;

const TEXT: &str = "\
## Agents
### research_agent
- Goal: goal-001
- Provider: Codex
- Tools: Read, `Write`, Bash(git log, git diff:*), Read
- Permission mode: workspace-write
- Environment: GITHUB_TOKEN, AWS_*
## Goals
### goal-001
Do it.
- Budget: $5
- Review: on
- Provider: claude
- Model: opus
#### Tasks
- a: One (budget: $1; after: b)
- b: Two
  - budget: 0.25 USD
- c: Three
";

#[test]
fn settings_of_models_should_be_read_with_their_meaning() {
    let project = Project::new();
    let declared = project.good(TEXT);
    let agent = agent(&declared, "research_agent");
    assert_eq!(agent.provider, Some(Provider::Codex));
    assert_eq!(agent.tools, ["Read", "Write", "Bash(git log, git diff:*)"]);
    assert_eq!(agent.permission_mode.as_deref(), Some("workspace-write"));
    assert_eq!(agent.environment, ["GITHUB_TOKEN", "AWS_*"]);
    let goal = goal(&declared, "goal-001");
    assert_eq!((goal.budget_micros, goal.review), (Some(5_000_000), true));
    assert_eq!((goal.provider, goal.model.as_deref()), (Some(Provider::Claude), Some("opus")));
    let budgets: Vec<_> =
        goal.tasks.as_ref().unwrap().iter().map(|task| task.spec.budget_micros).collect();
    assert_eq!(budgets, [Some(1_000_000), Some(250_000), None]);
}

#[test]
fn yaml_should_take_lists_and_strings() {
    let project = Project::new();
    let of = |rest: &str| {
        let text = format!("```yaml\nagents:\n- name: research_agent\n  goal: g\n{rest}```\n");
        let declared = project.good(&text);
        assert_eq!(project.shown(&text), "");
        agent(&declared, "research_agent").clone()
    };
    let list = of(
        "  tools:\n  - Read\n  - Bash(a, b)\n  environment: [FOO, \"AWS_*\"]\n  permission-mode: acceptEdits\n",
    );
    let line = of(
        "  tools: \"Read, Bash(a, b)\"\n  environment: FOO, AWS_*\n  permission_mode: acceptEdits\n",
    );
    assert_eq!(list.tools, ["Read", "Bash(a, b)"]);
    assert_eq!(list.environment, ["FOO", "AWS_*"]);
    assert_eq!(list, line);
}

#[test]
fn review_that_cannot_be_should_point_at_what_is_in_its_way() {
    let text = "\
## Agents
### research_agent
- Goal: goal-001
### boss
- Goal: goal-002
- Role: manager
## Goals
### goal-001
- Review: on
#### Tasks
- a: One
- a__qa: Two
### goal-002
- Review: on
#### Tasks
- b: One
";
    insta::assert_snapshot!(Project::new().shown(text), @r"
    INSTRUCTIONS.md:12:3: error: the qa stage of `a` would have the id `a__qa`, which another task of this goal has: give that one another id
     12 | - a__qa: Two
        |   ^^^^^
        = help: rename this task, or write `Review: off`
    INSTRUCTIONS.md:13:5: warning: `goal-002` is reviewed, but no agent of it has the role `reviewer`: builders' tasks will wait
     13 | ### goal-002
        |     ^^^^^^^^
        = help: its agents have: manager
    ");
}

#[test]
fn who_plans_and_for_how_much_should_not_have_the_work_done_again() {
    let project = Project::new();
    let hash = |text: &str| goal(&project.good(text), "goal-001").spec_hash.clone();
    for same in [
        TEXT.replace("- Budget: $5\n", ""),
        TEXT.replace("$5", "$50"),
        TEXT.replace("- Provider: claude\n", ""),
        TEXT.replace("- Model: opus\n", ""),
    ] {
        assert!(same != TEXT);
        assert_eq!(hash(&same), hash(TEXT), "{same}");
    }
    for other in
        [TEXT.replace("Review: on", "Review: off"), TEXT.replace("budget: $1", "budget: $2")]
    {
        assert_ne!(hash(&other), hash(TEXT), "{other}");
    }
    let off = TEXT.replace("Review: on", "Review: off");
    assert_eq!(hash(&off), hash(&TEXT.replace("- Review: on\n", "")));
}

#[test]
fn agent_should_be_replaced_when_what_it_may_do_changes() {
    let project = Project::new();
    let hash = |text: &str| agent(&project.good(text), "research_agent").spec_hash.clone();
    for (written, other) in [
        ("- Provider: Codex\n", "- Provider: claude\n"),
        ("`Write`, ", ""),
        ("workspace-write", "read-only"),
        ("AWS_*", "AWS_KEY"),
    ] {
        assert_ne!(hash(&TEXT.replace(written, other)), hash(TEXT), "{written}");
    }
}

#[test]
fn wrong_settings_of_models_should_point_at_the_word_and_suggest_another() {
    let text = "\
## Agents
### research_agent
- Goal: goal-001
- Provider: claud
- Tools: Read, --dangerous, Bash(git
- Permission mode: two words
- Environment: GITHUB_TOKEN, *, A=b
### research_two
- Goal: goal-001
- Tools: ,
## Goals
### goal-001
Do it.
- Budget: 5,50
- Review: onn
- Provider: gemini
#### Tasks
- a: One (budget: free)
";
    insta::assert_snapshot!(Project::new().shown(text), @r"
    INSTRUCTIONS.md:4:13: error: `claud` is not a valid provider
     4 | - Provider: claud
       |             ^^^^^
       = help: did you mean `claude`? There are: claude, codex, command, offline
    INSTRUCTIONS.md:5:16: error: `--dangerous` is not a valid tool
     5 | - Tools: Read, --dangerous, Bash(git
       |                ^^^^^^^^^^^
       = help: a tool does not begin with -, which would make it an option
    INSTRUCTIONS.md:5:29: error: `Bash(git` is not a valid tool
     5 | - Tools: Read, --dangerous, Bash(git
       |                             ^^^^^^^^
       = help: its parentheses do not match: write for example Bash(git:*)
    INSTRUCTIONS.md:6:20: error: `two words` is not a valid permission mode
     6 | - Permission mode: two words
       |                    ^^^^^^^^^
       = help: write one word of at most 128 characters that does not begin with -
    INSTRUCTIONS.md:7:30: error: `*` is not a valid variable
     7 | - Environment: GITHUB_TOKEN, *, A=b
       |                              ^
       = help: everything would reach the model's program, orch's own secrets included: name the variables, as GITHUB_TOKEN, or how they begin, as AWS_*
    INSTRUCTIONS.md:7:33: error: `A=b` is not a valid variable
     7 | - Environment: GITHUB_TOKEN, *, A=b
       |                                 ^^^
       = help: write the name alone: the value comes from the environment
    INSTRUCTIONS.md:10:10: error: `tools` has no value
     10 | - Tools: ,
        |          ^
        = help: write what it should be after `tools:`, or remove the line
    INSTRUCTIONS.md:14:11: error: `5,50` is not a valid budget
     14 | - Budget: 5,50
        |           ^^^^
        = help: write US dollars: $5, 5.50, $0.25 or 5 USD
    INSTRUCTIONS.md:15:11: error: `onn` is not a valid review
     15 | - Review: onn
        |           ^^^
        = help: write on or off
    INSTRUCTIONS.md:16:13: error: `gemini` is not a valid provider
     16 | - Provider: gemini
        |             ^^^^^^
        = help: there are: claude, codex, command, offline
    INSTRUCTIONS.md:18:19: error: `free` is not a valid budget
     18 | - a: One (budget: free)
        |                   ^^^^
        = help: write US dollars: $5, 5.50, $0.25 or 5 USD
    ");
}

#[test]
fn risky_and_unknown_permission_modes_should_be_warned_of_plainly() {
    let text = "\
## Agents
### research_agent
- Goal: goal-001
- Permission mode: bypassPermissions
### analysis_agent
- Goal: goal-001
- Provider: codex
- Permission mode: danger-full-access
### three
- Goal: goal-001
- Permission mode: acceptEdit
### four
- Goal: goal-001
- Provider: codex
- Permission mode: acceptEdits
## Goals
### goal-001
Do it.
";
    let project = Project::new();
    let declared = project.good(text);
    let mode = |name| agent(&declared, name).permission_mode.clone().unwrap();
    assert_eq!(mode("research_agent"), "bypassPermissions");
    assert_eq!(mode("three"), "acceptEdit");
    insta::assert_snapshot!(project.shown(text), @r"
    INSTRUCTIONS.md:4:20: warning: `bypassPermissions` lets the model run any command and write any file that your user may, without asking, also outside of the goal's folder
     4 | - Permission mode: bypassPermissions
       |                    ^^^^^^^^^^^^^^^^^
       = help: write `acceptEdits`, and `Tools:` for the commands that it needs; use this mode only in a container or virtual machine
    INSTRUCTIONS.md:8:20: warning: `danger-full-access` lets the model run any command, write any file that your user may and reach the network, without a sandbox
     8 | - Permission mode: danger-full-access
       |                    ^^^^^^^^^^^^^^^^^^
       = help: write `workspace-write`; use this mode only in a container or virtual machine
    INSTRUCTIONS.md:11:20: warning: orch does not know the permission mode `acceptEdit`: it is passed on as it is
     11 | - Permission mode: acceptEdit
        |                    ^^^^^^^^^^
        = help: did you mean `acceptEdits`?
    INSTRUCTIONS.md:15:20: warning: `acceptEdits` is a mode of claude, and this agent uses codex
     15 | - Permission mode: acceptEdits
        |                    ^^^^^^^^^^^
        = help: codex has: read-only, workspace-write, danger-full-access
    ");
}

#[test]
fn lists_in_yaml_should_be_checked_at_each_entry() {
    let project = Project::new();
    let text = "```yaml\nagents:\n- name: research_agent\n  goal: [g]\n  tools: [Read, [x]]\n- name: b\n  goal: g\n  tools:\n  - Read\n  - \"-x\"\n  environment: [A, \"*\"]\n- name: c\n  goal: g\n  tools: []\n  environment: {a: b}\n```\n";
    insta::assert_snapshot!(project.shown(text), @r#"
    INSTRUCTIONS.md:3:9: error: the agent `research_agent` names no goal
     3 | - name: research_agent
       |         ^^^^^^^^^^^^^^
       = help: add `- Goal: <goal id>` under its heading; in YAML, `goal: <goal id>`
    INSTRUCTIONS.md:4:3: error: `goal` must be a single value
     4 |   goal: [g]
       |   ^^^^
       = help: write it as `key: value`
    INSTRUCTIONS.md:5:3: error: `tools` must be a list of single values
     5 |   tools: [Read, [x]]
       |   ^^^^^
       = help: write it as `tools: [a, b]`
    INSTRUCTIONS.md:10:5: error: `-x` is not a valid tool
     10 |   - "-x"
        |     ^^^^
        = help: a tool does not begin with -, which would make it an option
    INSTRUCTIONS.md:11:20: error: `*` is not a valid variable
     11 |   environment: [A, "*"]
        |                    ^^^
        = help: everything would reach the model's program, orch's own secrets included: name the variables, as GITHUB_TOKEN, or how they begin, as AWS_*
    INSTRUCTIONS.md:14:10: error: `tools` has no value
     14 |   tools: []
        |          ^
        = help: write what it should be after `tools:`, or remove the line
    INSTRUCTIONS.md:15:3: error: `environment` must be a list of single values
     15 |   environment: {a: b}
        |   ^^^^^^^^^^^
        = help: write it as `environment: [a, b]`
    "#);
}

#[test]
fn tasks_without_a_model_should_be_a_plan_for_that_case_alone() {
    let project = Project::new();
    let text = |heading: &str| {
        format!("{SEED}## Goals\n### goal-001\nDo it.\n{heading}\n- a: One\n- b: Two (after: a)\n")
    };
    let of = |heading: &str| {
        let text = text(heading);
        assert_eq!(project.shown(&text), "");
        goal(&project.good(&text), "goal-001").clone()
    };
    let always = of("#### Tasks");
    let fallback = of("#### Tasks without a model");
    assert!(!always.tasks_are_fallback && fallback.tasks_are_fallback);
    assert_eq!((&fallback.text, &fallback.tasks), (&always.text, &always.tasks));
    assert_ne!(fallback.spec_hash, always.spec_hash);
    for same in ["#### TASKS  without a Model:", "#### tasks-without_a-model ####"] {
        assert_eq!(of(same), fallback, "{same}");
    }
    let near = project.parse(&text("#### Tasks without model"));
    assert_eq!(goal(&near.declared, "goal-001").tasks, None);
    insta::assert_snapshot!(project.shown(&text("#### Tasks without model")), @r"
    INSTRUCTIONS.md:15:6: warning: this part is taken for prose
     15 | #### Tasks without model
        |      ^^^^^^^^^^^^^^^^^^^
        = help: to pin a plan for runs without a model, write `#### Tasks without a model`
    ");
}

#[test]
fn tasks_without_a_model_should_need_prose_and_be_alone() {
    let project = Project::new();
    let text = "\
## Agents
### boss
- Goal: goal-001
## Goals
### goal-001
#### Tasks without a model
- a: One (after: b)
### goal-002
#### Tasks
- a: One
#### Tasks without a model
- b: Two
### goal-003
#### Tasks without a model
#### Tasks without a model
- b: Two
### goal-004
#### Tasks without a model
- b: Two
";
    insta::assert_snapshot!(project.shown(text), @r"
    INSTRUCTIONS.md:7:18: error: `a` waits for `b`, which is no task of this goal
     7 | - a: One (after: b)
       |                  ^
       = help: add the task `b`, or remove it here
    INSTRUCTIONS.md:11:6: error: this goal has a second list of tasks
     11 | #### Tasks without a model
        |      ^^^^^^^^^^^^^^^^^^^^^
        = help: `#### Tasks` is the plan always, `#### Tasks without a model` only where no model can be asked: keep one of the two
    INSTRUCTIONS.md:15:6: error: this goal has a second list of tasks
     15 | #### Tasks without a model
        |      ^^^^^^^^^^^^^^^^^^^^^
        = help: put all tasks of the goal under one heading
    INSTRUCTIONS.md:17:5: warning: the goal `goal-004` has no text
     17 | ### goal-004
        |     ^^^^^^^^
        = help: say below its heading what is wanted, or pin `#### Tasks`
    INSTRUCTIONS.md:17:5: warning: no agent takes the goal `goal-004`: its tasks will wait
     17 | ### goal-004
        |     ^^^^^^^^
        = help: give an agent `- Goal: goal-004`
    ");
}
