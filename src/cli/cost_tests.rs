use super::*;

const PLAIN: Paint = Paint { on: false };

fn costs(calls: u64, micros: u64, unpriced: u64) -> Costs {
    Costs {
        calls,
        usd_micros: micros,
        unpriced_calls: unpriced,
        input_tokens: calls * 1_234,
        output_tokens: calls * 321,
        cache_read_tokens: calls * 40_000,
        cache_write_tokens: calls * 500,
        ms: calls * 12_000,
    }
}

fn row(name: &str, costs: Costs, budget_micros: Option<u64>) -> Row {
    Row { name: name.into(), costs, budget_micros }
}

fn all() -> All {
    All {
        goals: vec![
            row("goal-001", costs(10, 5_120_000, 0), Some(5_000_000)),
            row("goal-002", costs(4, 42_300, 2), None),
        ],
        agents: vec![
            row("research_agent", costs(9, 5_000_000, 0), None),
            row("codex_agent", costs(2, 0, 2), None),
        ],
        models: vec![row("claude-sonnet", costs(12, 5_162_300, 0), None)],
    }
}

fn one() -> One {
    let part = |name: &str, calls, micros, budget_micros| Part {
        task: TaskId::new(name).unwrap(),
        title: format!("Title of {name}"),
        state: State::Done,
        calls,
        micros,
        budget_micros,
    };
    One {
        goal: GoalId::new("goal-001").unwrap(),
        total: costs(10, 420_000, 1),
        budget_micros: Some(5_000_000),
        tasks: vec![
            part("task-002", 6, 310_000, Some(300_000)),
            part("task-001", 2, 50_000, None),
            part("task-003", 1, 0, None),
        ],
    }
}

#[test]
fn cost_should_be_told_per_goal_agent_and_model() {
    insta::assert_snapshot!(all().text(80, PLAIN), @r"
    GOAL      CALLS         COST  BUDGET     IN  CACHED   OUT   TIME
    goal-001     10        $5.12   $5.00  12.3k  400.0k  3.2k  2 min
    goal-002      4  $0.0423 + ?       -   4.9k  160.0k  1.3k   48 s
    total        14  $5.1623 + ?       -  17.3k  560.0k  4.5k  3 min

    AGENT           CALLS     COST     IN  CACHED   OUT   TIME
    research_agent      9    $5.00  11.1k  360.0k  2.9k  108 s
    codex_agent         2        ?   2.5k   80.0k   642   24 s
    (planning)          3  $0.1623   3.7k  120.0k   963   36 s

    MODEL          CALLS     COST     IN  CACHED   OUT   TIME
    claude-sonnet     12  $5.1623  14.8k  480.0k  3.9k  2 min
    (not said)         2        ?   2.5k   80.0k   642   24 s

    ? what 2 calls cost is not known: the provider does not tell it, or the call
      ended before it could. No budget counts them
    ");
}

#[test]
fn cost_of_a_goal_should_be_told_per_task() {
    insta::assert_snapshot!(one().text(80, PLAIN), @r"
    $4.58 of the budget of $5.00 is left

    TASK      STATE  CALLS   COST  BUDGET  TITLE
    task-002  done       6  $0.31   $0.30  Title of task-002
    task-001  done       2  $0.05       -  Title of task-001
    task-003  done       1      ?       -  Title of task-003

    GOAL      CALLS       COST  BUDGET     IN  CACHED   OUT   TIME
    goal-001     10  $0.42 + ?   $5.00  12.3k  400.0k  3.2k  2 min

    $0.06 of it was for planning, for choosing among tasks, and for tasks before
    they were planned or retried anew

    ? what 1 call cost is not known: the provider does not tell it, or the call
      ended before it could. No budget counts them
    ");
}

#[test]
fn cost_of_nothing_should_be_said_calmly() {
    let none = All { goals: vec![], agents: vec![], models: vec![] };
    assert_eq!(none.text(80, PLAIN), "no model was asked yet\n");
    let none = One { total: Costs::default(), budget_micros: None, tasks: vec![], ..one() };
    assert_eq!(none.text(80, PLAIN), "no model was asked for goal-001 yet\n");
}

#[test]
fn spent_budget_should_be_said_with_what_to_do() {
    let spent = One { budget_micros: Some(400_000), ..one() };
    let text = spent.text(80, PLAIN);
    let expected = "budget of $0.40 is spent ($0.42): raise `Budget:` in INSTRUCTIONS.md\n";
    assert!(text.starts_with(expected), "{text}");
    assert_eq!(spent.json()["left_usd"], 0.0);
}

#[test]
fn json_should_add_up() {
    let json = all().json();
    assert_eq!(json["total"]["calls"], 14);
    assert_eq!(json["total"]["usd"], 5.1623);
    assert_eq!(json["total"]["unpriced_calls"], 2);
    assert_eq!(json["goals"][0]["goal"], "goal-001");
    assert_eq!(
        (&json["goals"][0]["budget_usd"], &json["goals"][0]["left_usd"]),
        (&5.0.into(), &0.0.into())
    );
    assert!(json["goals"][1]["budget_usd"].is_null(), "{json:#}");
    assert_eq!(json["planning"]["calls"], 3);
    assert_eq!(json["model_unknown"]["unpriced_calls"], 2);
    let json = one().json();
    assert_eq!((&json["left_usd"], &json["outside_usd"]), (&4.58.into(), &0.06.into()));
    assert_eq!(json["tasks"][0]["budget_usd"], 0.3);
}

#[test]
fn cost_should_fit_its_width() {
    let mut wide = all();
    wide.goals[0].name = "x".repeat(64);
    wide.goals[0].costs = costs(99_999, 99_999_999_999, 1);
    for line in wide.text(80, PLAIN).lines() {
        assert!(unicode_width::UnicodeWidthStr::width(line) <= 80, "{line}");
    }
}
