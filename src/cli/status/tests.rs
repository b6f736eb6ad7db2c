use jiff::tz::TimeZone;
use model::lease::{Epoch, Pulse};
use model::{AgentName, GoalId, Role, TaskId};
use store::agent::{Incarnation, Registered, Status as AgentStatus};
use store::event::Event;
use store::goal::{Goal, Planning};
use store::lead::{Candidate, Controller};
use store::llm::Slot;
use unicode_width::UnicodeWidthStr;

use super::super::llm::{GoalCost, HoldView, LlmView, Waiting};
use super::*;
use crate::report::{LastError, Oldest, Standby};

const PLAIN: Paint = Paint { on: false };

fn now() -> Timestamp {
    "2026-03-18T10:15:30Z".parse().unwrap()
}

fn candidate(pid: u32) -> Candidate {
    Candidate { holder: format!("h{pid}"), pid, start_time: 1, host: "box".into() }
}

fn goal(id: &str, status: Status, counts: Counts) -> GoalView {
    let goal = Goal {
        id: GoalId::new(id).unwrap(),
        status,
        title: "A health report".into(),
        spec_hash: String::new(),
        generation: 1,
        created: None,
        finished: None,
        reason: None,
        tasks: counts.total(),
        counts,
        reparses: 0,
        planning: Planning::default(),
        difference: None,
        problem: None,
        declared: true,
        text: String::new(),
        review: false,
        budget_micros: None,
        cost_micros: 0,
        spending_cap_until: None,
    };
    GoalView { goal, cost: GoalCost::default() }
}

/// What that goal's calls cost.
fn spend(of: &mut GoalView, calls: u64, unpriced_calls: u64, micros: u64) {
    of.goal.cost_micros = micros;
    of.cost = GoalCost { calls, unpriced_calls, ..GoalCost::default() };
}

fn at(seconds: i64) -> Option<Timestamp> {
    Some(now() + jiff::SignedDuration::from_secs(seconds))
}

fn limit(provider: &str, seconds: i64, message: &str) -> HoldView {
    HoldView {
        provider: provider.into(),
        until: at(seconds),
        since: at(-60),
        strikes: 0,
        message: message.into(),
    }
}

/// A look at a fleet that uses models, and the text of it.
fn thinking() -> View {
    let counts = Counts { ready: 2, done: 4, ..Counts::default() };
    let mut over = goal("goal-001", Status::Active, counts);
    over.goal.budget_micros = Some(5_000_000);
    spend(&mut over, 40, 0, 5_120_000);
    let mut capped = goal("goal-002", Status::Active, counts);
    capped.goal.spending_cap_until = at(86_400).map(|at| at.to_string());
    spend(&mut capped, 12, 5, 420_000);
    let mut unknown = goal("goal-003", Status::Complete, counts);
    unknown.goal.budget_micros = Some(1_000_000);
    // What the store writes there of a limit is told once.
    unknown.goal.spending_cap_until = at(7_800).map(|at| at.to_string());
    spend(&mut unknown, 3, 3, 0);
    let slot = |agent: &str| Slot {
        holder: format!("agent:{agent}"),
        goal: GoalId::new("goal-001").unwrap(),
        step: "execute".into(),
        call: "5f0c".into(),
    };
    let waiting =
        |holder: &str| Waiting { holder: holder.into(), goal: "goal-001".into(), since: at(-3) };
    let llm = LlmView {
        slots: 2,
        in_use: vec![slot("research_agent")],
        waiting: ["agent:review_agent", "planner:goal-002"].map(waiting).to_vec(),
        holds: vec![limit("claude", 7_800, "You've hit your session limit\nresets at 12:25")],
    };
    let agents = vec![
        agent("research_agent", Some(Phase::Running), Some(4300), Some("task-003")),
        agent("review_agent", Some(Phase::Running), Some(44), None),
    ];
    View { goals: vec![over, capped, unknown], agents, llm, ..empty() }
}

fn agent(name: &str, phase: Option<Phase>, pid: Option<u32>, task: Option<&str>) -> Agent {
    Agent {
        name: AgentName::new(name).unwrap(),
        registered: pid.map(|pid| Registered {
            pid,
            host: "box".into(),
            start_time: 1,
            incarnation: Incarnation(1_700_000_000_000_000),
            timestamp: "2026-03-18T10:00:00Z".into(),
            role: Role::new("research").ok(),
            goal: GoalId::new("goal-001").ok(),
            spec_hash: String::new(),
            provider: String::new(),
            beat: 1,
            task: task.map(|task| (TaskId::new(task).unwrap(), Epoch(1))),
        }),
        heartbeat: None,
        status: AgentStatus { phase, ..AgentStatus::default() },
        paused: false,
        consumed_version: String::new(),
    }
}

fn report(controller: &str, age_seconds: i64) -> ControllerReport {
    ControllerReport {
        controller: controller.into(),
        holder: "h4242".into(),
        pid: 4242,
        host: "box".into(),
        at: now() - jiff::SignedDuration::from_secs(age_seconds),
        life: "running".into(),
        passes: 120,
        failures: 0,
        panics: 0,
        timeouts: 0,
        restarts: 0,
        depth: 0,
        last_pass_ms_ago: Some(200),
        oldest: None,
        last_error: None,
    }
}

fn directive(line: &str, outcome: &str, answer: &str) -> Event {
    let fields =
        [("agent", "research_agent"), ("line", line), ("outcome", outcome), ("answer", answer)];
    let millis = now().as_millisecond() - 7_000;
    Event {
        id: format!("{millis}-0"),
        kind: "directive".into(),
        fields: fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
    }
}

fn full() -> View {
    let mut failed =
        goal("goal-002", Status::Failed, Counts { done: 1, failed: 1, ..Counts::default() });
    failed.goal.reason = Some("task-007 failed for good and 1 task waits for it".into());
    failed.goal.planning.error = Some("no tasks pinned".into());
    failed.goal.planning.attempts = 2;
    let mut crashing = agent("analysis_agent", Some(Phase::CrashLoop), None, None);
    crashing.status.restarts = 9;
    crashing.status.last_exit = Some("signal 9".into());
    crashing.status.next_start = Some("2026-03-18T10:15:42Z".into());
    let mut paused = agent("review_agent", Some(Phase::Running), Some(44), None);
    paused.paused = true;
    let mut dag = report("dag", 0);
    dag.failures = 2;
    dag.panics = 1;
    dag.oldest = Some(Oldest { key: "goal-002".into(), age_ms: 4_000 });
    dag.last_error =
        Some(LastError { key: Some("goal-002".into()), text: "panicked: x".into(), ms_ago: 900 });
    let counts = Counts { blocked: 3, ready: 2, running: 1, done: 4, failed: 0 };
    View {
        at: now(),
        redis: "redis://127.0.0.1:6379".into(),
        zone: TimeZone::UTC,
        llm: LlmView::default(),
        goals: vec![goal("goal-001", Status::Active, counts), failed],
        agents: vec![
            agent("research_agent", Some(Phase::Running), Some(4300), Some("task-003")),
            crashing,
            paused,
        ],
        controllers: vec![report("agent", 1), dag, report("lease", 40)],
        leaders: Controller::ALL
            .map(|controller| Leader {
                controller,
                pulse: Pulse { epoch: Epoch(1), beat: 1 },
                who: candidate(4242),
            })
            .to_vec(),
        standbys: vec![Standby {
            holder: "h5".into(),
            pid: 5,
            host: "box".into(),
            since: now() - jiff::SignedDuration::from_secs(65),
        }],
        directives: vec![directive("PAUSE", "applied", "pauses after its present task, if any")],
        problems: vec![Problem {
            severity: Severity::Error,
            file: Some("INSTRUCTIONS.md".into()),
            line: Some(12),
            column: Some(3),
            message: "`Gaol` is no key of an agent".into(),
            help: Some("did you mean `Goal`?".into()),
            source_line: Some("- Gaol: goal-001".into()),
        }],
    }
}

fn empty() -> View {
    View {
        at: now(),
        redis: "redis://127.0.0.1:6379".into(),
        zone: TimeZone::UTC,
        llm: LlmView::default(),
        goals: vec![],
        agents: vec![],
        controllers: vec![],
        leaders: vec![],
        standbys: vec![],
        problems: vec![],
        directives: vec![],
    }
}

#[test]
fn status_should_show_everything_in_80_columns() {
    let shown = text(&full(), 80, PLAIN);
    insta::assert_snapshot!(shown, @r"
    Redis         redis://127.0.0.1:6379
    Orchestrator  pid 4242 on box leads: agent, dag, lease, heartbeat
    Standby       pid 5 on box stands by for 65 s

    GOALS
      goal-001      active    [########............]         4/10   40%
        A health report
        1 running, 2 ready, 3 blocked, 4 done
      goal-002      failed    [##########..........]          1/2   50%
        A health report
        1 done, 1 failed
        reason: task-007 failed for good and 1 task waits for it
        planning failed after 2 attempts: no tasks pinned

    AGENTS
      NAME            STATE             PID  RESTARTS  TASK
      research_agent  running          4300         0  task-003
      analysis_agent  crash-loop          -         9  -
        last end: signal 9
        is started again in 12 s
      review_agent    running, paused    44         0  -

    CONTROLLERS
      NAME   STATE      LAST PASS  PASSES  FAILED  WAITS LONGEST
      agent  running    1.2 s ago     120       0  -
      dag    running    0.2 s ago     120       2  goal-002 for 4.0 s
        1 panicked, 0 took too long
        last error, 0.9 s ago: goal-002: panicked: x
      lease  no report   40 s ago     120       0  -
        no report for 40 s (pid 4242 on box)

    DIRECTIVES
      7.0 s ago, research_agent: PAUSE applied: pauses after its present task, if
                                 any

    PROBLEMS
      error: INSTRUCTIONS.md:12:3: `Gaol` is no key of an agent
        | - Gaol: goal-001
        help: did you mean `Goal`?
    ");
}

#[test]
fn status_of_nothing_should_say_what_to_do() {
    insta::assert_snapshot!(text(&empty(), 80, PLAIN), @r"
    Redis         redis://127.0.0.1:6379
    Orchestrator  none leads: start one with `sysg start --daemonize`

    GOALS
      none yet: declare one under `## Goals` in INSTRUCTIONS.md

    AGENTS
      none yet: declare one under `## Agents` in INSTRUCTIONS.md

    CONTROLLERS
      no report yet
    ");
}

#[test]
fn status_should_show_what_models_cost_and_what_holds_them() {
    let text = text(&thinking(), 80, PLAIN);
    insta::assert_snapshot!(text, @r"
    Redis         redis://127.0.0.1:6379
    Orchestrator  none leads: start one with `sysg start --daemonize`

    GOALS
      goal-001      active    [#############.......]          4/6   66%
        A health report
        2 ready, 4 done
        cost: $5.12 of $5.00, 40 calls
        budget of $5.00 is spent ($5.12): raise `Budget:` in INSTRUCTIONS.md
      goal-002      active    [#############.......]          4/6   66%
        A health report
        2 ready, 4 done
        cost: $0.42 + ?, 12 calls (5 without a price)
        asks no model until Thu 19 Mar 10:15 (in 24 h), says
        goal:goal-002:spending_cap_until
      goal-003      complete  [#############.......]          4/6   66%
        A health report
        2 ready, 4 done
        cost: ? of $1.00, 3 calls (3 without a price)

    AGENTS
      NAME            STATE     PID  RESTARTS  TASK
      research_agent  running  4300         0  task-003
      review_agent    running    44         0  -
        waits for an LLM slot

    LLM
      1 of 2 slots in use, 2 wait
      claude: usage limit until 12:25 (in 2 h 10 min): You've hit your session limit
              resets at 12:25

    CONTROLLERS
      no report yet
    ");
}

#[test]
fn status_should_show_a_cap_that_is_no_time() {
    let mut view = thinking();
    view.goals[1].goal.spending_cap_until = Some("tomorrow\x1b".into());
    let shown = text(&view, 80, PLAIN);
    assert!(shown.contains("asks no model until `tomorrow\\u{1b}`, says"), "{shown}");
    view.goals[1].goal.spending_cap_until = at(-1).map(|at| at.to_string());
    assert!(!text(&view, 80, PLAIN).contains("spending_cap_until"));
}

#[test]
fn status_should_never_be_wider_than_asked() {
    let mut view = View { llm: thinking().llm, ..full() };
    view.goals.extend(thinking().goals);
    view.llm.holds[0].message = "word ".repeat(60);
    let long = "x".repeat(64);
    view.goals[0].goal.id = GoalId::new(long.as_str()).unwrap();
    view.goals[0].goal.title = "日本 ".repeat(60);
    view.goals[0].goal.counts.done = 1_000_000;
    view.agents.push(agent(&long, Some(Phase::Running), Some(4_194_304), Some(&long)));
    view.agents[0].status.error = Some("word ".repeat(60));
    view.directives.push(directive(&"line ".repeat(30), "refused", &"word ".repeat(30)));
    view.controllers[1].last_error.as_mut().unwrap().text = "word ".repeat(60);
    view.problems[0].source_line = Some("y".repeat(300));
    for width in [80, 120] {
        for line in text(&view, width, PLAIN).lines() {
            assert!(line.width() <= width, "{} of {width}: {line}", line.width());
        }
    }
}

#[test]
fn status_should_escape_what_agents_and_files_say() {
    let mut view = View { llm: thinking().llm, ..full() };
    view.llm.holds[0].message = "\x1b[2J".into();
    view.llm.holds[0].provider = "\x07".into();
    view.goals[0].goal.title = "a\x1b[2Jb\nc".into();
    view.goals[1].goal.reason = Some("\x1b]0;t\x07".into());
    view.agents[1].status.last_exit = Some("\x1b[1m".into());
    view.problems[0].message = "\u{202e}\x1b".into();
    view.standbys[0].host = "\x1b".into();
    view.directives.push(directive("\x1b[2J", "refused", "\x07"));
    let shown = text(&view, 80, PLAIN);
    assert!(!shown.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{shown:?}");
}

#[test]
fn colours_should_change_nothing_but_colours() {
    let view = View { goals: thinking().goals, llm: thinking().llm, ..full() };
    let plain = text(&view, 80, PLAIN);
    let mut coloured = text(&view, 80, Paint { on: true });
    assert!(coloured.contains("\x1b[31m"));
    for code in ["0", "1", "2", "31", "32", "33", "36"] {
        coloured = coloured.replace(&format!("\x1b[{code}m"), "");
    }
    let lines = |text: &str| text.lines().map(|l| l.trim_end().to_owned()).collect::<Vec<_>>();
    assert_eq!(lines(&coloured), lines(&plain));
}
