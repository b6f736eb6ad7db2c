//! What is said about what is wrong.

use super::*;

#[test]
fn errors_in_agents_should_point_at_the_place_and_say_what_to_write() {
    let project = Project::new();
    let text = "\
## Agents
### a:b
- Goal: goal-001
### two
- Goal: goal-01
- Heartbeat: ../two.md
- Log Level: LOUD
- Cadence: 5
- Colour: red
- Loglevel: INFO
### three
- Heartbeat: x.ack.md
###
### research_agent
- Goal: goal-001
- Goal id: goal-002
### research_agent
- Goal: goal-001
### four
- Goal: gaol-001
## Goals
### goal-001
Do it.
";
    insta::assert_snapshot!(project.shown(text), @r"
    INSTRUCTIONS.md:2:5: error: `a:b` is not a valid agent name
     2 | ### a:b
       |     ^^^
       = help: the id `a:b` contains ':': use only A-Z a-z 0-9 . _ -
    INSTRUCTIONS.md:6:14: error: `../two.md` is not a valid heartbeat
     6 | - Heartbeat: ../two.md
       |              ^^^^^^^^^
       = help: `/two.md` lies outside the project `/project`: move it inside, or correct the path
    INSTRUCTIONS.md:7:14: error: `LOUD` is not a valid log level
     7 | - Log Level: LOUD
       |              ^^^^
       = help: `LOUD` is no log level: expected ERROR, WARN, INFO, DEBUG or TRACE
    INSTRUCTIONS.md:8:12: error: `5` is not a valid cadence
     8 | - Cadence: 5
       |            ^
       = help: write a whole number and a unit: 500ms, 5s, 10m, 2h or 1d
    INSTRUCTIONS.md:9:3: warning: unknown key `Colour`: it has no effect
     9 | - Colour: red
       |   ^^^^^^
       = help: known here: goal, goal id, heartbeat, log level, role, instructions, cadence, provider, model, tools, permission mode, environment
    INSTRUCTIONS.md:10:3: warning: unknown key `Loglevel`: it has no effect
     10 | - Loglevel: INFO
        |   ^^^^^^^^
        = help: did you mean `log level`?
    INSTRUCTIONS.md:11:5: error: the agent `three` names no goal
     11 | ### three
        |     ^^^^^
        = help: add `- Goal: <goal id>` under its heading; in YAML, `goal: <goal id>`
    INSTRUCTIONS.md:12:14: error: `x.ack.md` is the name of a file of answers, which orch overwrites
     12 | - Heartbeat: x.ack.md
        |              ^^^^^^^^
        = help: give the heartbeat a file of its own, as `./heartbeat/<agent>.md`
    INSTRUCTIONS.md:13:4: error: this heading names no agent
     13 | ###
        |    ^
        = help: write the agent's name after the ###, or remove the heading
    INSTRUCTIONS.md:16:3: error: `goal id` is given twice; the first is at line 15
     16 | - Goal id: goal-002
        |   ^^^^^^^
        = help: remove one of the two `goal id` lines
    INSTRUCTIONS.md:17:5: error: the agent `research_agent` is declared twice; the first is at line 14
     17 | ### research_agent
        |     ^^^^^^^^^^^^^^
        = help: rename or remove one of the two; neither counts until then
    INSTRUCTIONS.md:20:9: error: there is no goal `gaol-001`
     20 | - Goal: gaol-001
        |         ^^^^^^^^
        = help: did you mean `goal-001`?
    ");
}

#[test]
fn errors_in_goals_and_tasks_should_point_at_the_place_and_say_what_to_write() {
    let text = "\
## Agents
### research_agent
- Goal: goal-001
## Goals
### goal-001
- Priority: -1
- Folder: /etc
- Colour: red
- Timeout: 1500ms
### goal-002
#### Tasks
- task-001: One (after: task-003) -> ../x, /y
- No task at all
- task-001: Again (prioritie: 5; verify: a; b; timeout: 1) -> z
### goal-003
#### Tasks
- a: One (after: c)
- b: Two (after: a, d)
- a: Three
### goal-004
#### Tasks
- a: One (after: c)
- b: Two (after: a)
- c: Three (after: b)
### goal-005
#### Tasks
### goal-006
#### Tasks
- a: It isn't (after: b; verify: don't)
- b: Misplaced (priority: 5) in the middle
  ```python
  ```
```sh
true
```
### goal-007
#### Tasks
- a: One (role: writer)
### goal-007
### goal-008
#### Taks
";
    insta::assert_snapshot!(Project::new().shown(text), @r"
    INSTRUCTIONS.md:6:13: error: `-1` is not a valid priority
     6 | - Priority: -1
       |             ^^
       = help: write a whole number from 0 to 1000000; higher runs first
    INSTRUCTIONS.md:7:11: error: `/etc` is not a valid folder
     7 | - Folder: /etc
       |           ^^^^
       = help: `/etc` lies outside the project `/project`: move it inside, or correct the path
    INSTRUCTIONS.md:8:3: warning: unknown key `Colour`: it has no effect
     8 | - Colour: red
       |   ^^^^^^
       = help: known here: priority, max attempts, timeout, folder, provider, model, budget, review
    INSTRUCTIONS.md:9:12: error: `1500ms` is not a valid timeout
     9 | - Timeout: 1500ms
       |            ^^^^^^
       = help: a time limit is counted in whole seconds: write 1s or more
    INSTRUCTIONS.md:12:38: error: `../x` is not a valid artifact
     12 | - task-001: One (after: task-003) -> ../x, /y
        |                                      ^^^^
        = help: an artifact may not leave the goal's working folder: write a path without ..
    INSTRUCTIONS.md:12:44: error: `/y` is not a valid artifact
     12 | - task-001: One (after: task-003) -> ../x, /y
        |                                            ^^
        = help: an artifact lies in the goal's working folder: write a relative path
    INSTRUCTIONS.md:13:3: error: this is no task: it does not begin with an id and a colon
     13 | - No task at all
        |   ^^^^^^^^^^^^^^
        = help: write `- <id>: <title> (after: <ids>) -> <artifacts>`
    INSTRUCTIONS.md:14:20: warning: unknown key `prioritie`: it has no effect
     14 | - task-001: Again (prioritie: 5; verify: a; b; timeout: 1) -> z
        |                    ^^^^^^^^^
        = help: did you mean `priority`?
    INSTRUCTIONS.md:14:45: error: this part of the options has no key
     14 | - task-001: Again (prioritie: 5; verify: a; b; timeout: 1) -> z
        |                                             ^
        = help: put a command with `;` into quotes, or write it as a nested item: `  - verify: <command>`
    INSTRUCTIONS.md:14:57: error: `1` is not a valid timeout
     14 | - task-001: Again (prioritie: 5; verify: a; b; timeout: 1) -> z
        |                                                         ^
        = help: write a whole number and a unit: 500ms, 5s, 10m, 2h or 1d
    INSTRUCTIONS.md:17:18: error: `a` waits for `c`, which is no task of this goal
     17 | - a: One (after: c)
        |                  ^
        = help: add the task `c`, or remove it here
    INSTRUCTIONS.md:18:21: error: `b` waits for `d`, which is no task of this goal
     18 | - b: Two (after: a, d)
        |                     ^
        = help: add the task `d`, or remove it here
    INSTRUCTIONS.md:19:3: error: two tasks have the id `a`; the first is at line 17
     19 | - a: Three
        |   ^
        = help: give one of them another id
    INSTRUCTIONS.md:22:3: error: the tasks wait for each other in a circle: a -> c -> b -> a
     22 | - a: One (after: c)
        |   ^
        = help: remove one of these tasks from the `after` of the one before it
    INSTRUCTIONS.md:26:6: error: the plan has no tasks: declare at least one
     26 | #### Tasks
        |      ^^^^^
        = help: add `- <id>: <title>` below, or remove the heading to have it planned
    INSTRUCTIONS.md:29:16: error: the quote ' is never closed in these options
     29 | - a: It isn't (after: b; verify: don't)
        |                ^^^^^^^^^^^^^^^^^^^^^^^
        = help: close it, or write the option as a nested item: `  - verify: <command>`
    INSTRUCTIONS.md:30:16: warning: these options are part of the title
     30 | - b: Misplaced (priority: 5) in the middle
        |                ^^^^^^^^^^^^^
        = help: move them to the end, or right before the `->`
    INSTRUCTIONS.md:31:3: warning: a block of `python` is not run
     31 |   ```python
        |   ^^^^^^^^^
        = help: write `sh` after the fence, and call the program in it
    INSTRUCTIONS.md:33:1: error: this block belongs to no task
     33 | ```sh
        | ^^^^^
        = help: indent it, fences included, to where its task's text begins
    INSTRUCTIONS.md:39:5: error: the goal `goal-007` is declared twice; the first is at line 36
     39 | ### goal-007
        |     ^^^^^^^^
        = help: rename or remove one of the two; neither counts until then
    INSTRUCTIONS.md:40:5: warning: no agent takes the goal `goal-008`: its tasks will wait
     40 | ### goal-008
        |     ^^^^^^^^
        = help: give an agent `- Goal: goal-008`
    INSTRUCTIONS.md:41:6: warning: this part is taken for prose
     41 | #### Taks
        |      ^^^^
        = help: to pin the plan, write `#### Tasks`
    ");
}

#[test]
fn roles_and_goals_without_agents_should_be_warned_of() {
    let goals = "## Goals\n### goal-001\n#### Tasks\n- a: x (role: writer)\n- b: y (role: research)\n### g2\nText\n### g3\n";
    insta::assert_snapshot!(Project::new().shown(&format!("{SEED}{goals}")), @r"
    INSTRUCTIONS.md:15:15: warning: no agent of the goal `goal-001` has the role `writer`: this task will wait
     15 | - a: x (role: writer)
        |               ^^^^^^
        = help: its agents have: analysis, research
    INSTRUCTIONS.md:17:5: warning: no agent takes the goal `g2`: its tasks will wait
     17 | ### g2
        |     ^^
        = help: give an agent `- Goal: g2`
    INSTRUCTIONS.md:19:5: warning: the goal `g3` has no text
     19 | ### g3
        |     ^^
        = help: say below its heading what is wanted, or pin `#### Tasks`
    INSTRUCTIONS.md:19:5: warning: no agent takes the goal `g3`: its tasks will wait
     19 | ### g3
        |     ^^
        = help: give an agent `- Goal: g3`
    ");
}

#[test]
fn vanished_instructions_should_not_take_the_goal_away() {
    let project = Project::new();
    let last_good = project.good(SEED);
    std::fs::remove_file(project.root().join("instructions/research_agent.md")).unwrap();
    let parsed = project.parse(SEED);
    assert!(!parsed.is_valid());
    assert_eq!(merge(&last_good, &parsed), last_good);
    insta::assert_snapshot!(project.shown(SEED), @r"
    INSTRUCTIONS.md:4:9: error: there is no goal `goal-001`
     4 | - Goal: goal-001
       |         ^^^^^^^^
       = help: write `### goal-001` under `## Goals`, or what is wanted into `instructions/research_agent.md`
    INSTRUCTIONS.md:9:9: error: there is no goal `goal-001`
     9 | - Goal: goal-001
       |         ^^^^^^^^
       = help: write `### goal-001` under `## Goals`, or what is wanted into `instructions/research_agent.md`
    ");
}

#[test]
fn diagnostics_should_be_bounded_and_errors_not_drowned_by_warnings() {
    let noise = "- Colour: red\n".repeat(1_000);
    let text = format!("## Agents\n### other\n{noise}- Goal: none\n");
    let parsed = Project::new().parse(&text);
    assert_eq!(parsed.diagnostics.len(), MAX_DIAGNOSTICS + 2);
    assert!(!parsed.is_valid());
}

#[test]
fn errors_in_yaml_should_point_at_the_place_in_the_file() {
    let project = Project::new();
    let shown = |yaml: &str| project.shown(&format!("# Prose\n\n  ```yaml\n{yaml}  ```\n"));
    insta::assert_snapshot!(shown("agents:\n  - name: [a\n"), @r"
    INSTRUCTIONS.md:5:11: error: these agents cannot be read: unclosed bracket '['
     5 |   - name: [a
       |           ^
       = help: write `agents:` and under it a list of `- name: ..`, `  goal: ..`
    ");
    insta::assert_snapshot!(
        shown("  agents:\n  - goal: x\n  - just text\n  - name: b\n    goal: [x]\n  - name: c\n    goal: nowhere\n    cadence: 5\n    colour: red\n"),
        @r"
        INSTRUCTIONS.md:5:5: error: this agent has no name
         5 |   - goal: x
           |     ^
           = help: begin each entry with `- name: <agent>`
        INSTRUCTIONS.md:6:5: error: this agent has no name
         6 |   - just text
           |     ^
           = help: begin each entry with `- name: <agent>`
        INSTRUCTIONS.md:7:11: error: the agent `b` names no goal
         7 |   - name: b
           |           ^
           = help: add `- Goal: <goal id>` under its heading; in YAML, `goal: <goal id>`
        INSTRUCTIONS.md:8:5: error: `goal` must be a single value
         8 |     goal: [x]
           |     ^^^^
           = help: write it as `key: value`
        INSTRUCTIONS.md:11:14: error: `5` is not a valid cadence
         11 |     cadence: 5
            |              ^
            = help: write a whole number and a unit: 500ms, 5s, 10m, 2h or 1d
        INSTRUCTIONS.md:12:5: warning: unknown key `colour`: it has no effect
         12 |     colour: red
            |     ^^^^^^
            = help: known here: goal, goal id, heartbeat, log level, role, instructions, cadence, provider, model, tools, permission mode, environment
        "
    );
    insta::assert_snapshot!(shown("  agents: 5\n"), @r"
    INSTRUCTIONS.md:4:11: error: these agents cannot be read: expected sequence start
     4 |   agents: 5
       |           ^
       = help: write `agents:` and under it a list of `- name: ..`, `  goal: ..`
    ");
}
