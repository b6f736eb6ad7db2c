use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use model::agent::Phase;
use model::goal::{Counts, Status};
use model::lease::Epoch;
use model::task::State;
use model::{AgentName, GoalId, Provider, Role, TaskId, TaskSpec};
use store::agent::{Agent, Incarnation, Registered, Status as AgentStatus};
use store::goal::{Goal, Planning};
use store::llm::Slots;
use store::task::{Detours, Task};
use unicode_width::UnicodeWidthStr;

use super::gather::{Attempt, Facts, Node, Queue, Worker};
use super::render::text;
use super::why::{Explanation, Verdict, explain};
use crate::cli::text::Paint;

pub(super) fn id(text: &str) -> TaskId {
    TaskId::new(text).unwrap()
}

pub(super) fn now() -> Timestamp {
    "2026-03-18T10:15:30Z".parse().unwrap()
}

pub(super) fn at(seconds: i64) -> Option<String> {
    Some((now() + jiff::SignedDuration::from_secs(seconds)).to_string())
}

/// A task in that state and nothing else said of it.
pub(crate) fn task(name: &str, status: State) -> Task {
    Task {
        id: id(name),
        goal: GoalId::new("goal-001").unwrap(),
        status,
        spec: Some(TaskSpec::new(id(name), format!("Title of {name}"))),
        priority: 0,
        role: None,
        owner: None,
        lease_expires: None,
        progress: None,
        artifacts: None,
        last_error: None,
        reason: None,
        not_before: None,
        epoch: Epoch(0),
        attempt: 0,
        failures: 0,
        losses: 0,
        max_attempts: 3,
        waiting: 0,
        generation: 1,
        started: None,
        finished: None,
        cost_micros: 0,
        llm_calls: 0,
        prompt: None,
        session: None,
        detours: Detours::default(),
    }
}

pub(super) fn goal(status: Status) -> Goal {
    Goal {
        id: GoalId::new("goal-001").unwrap(),
        status,
        title: String::new(),
        spec_hash: String::new(),
        generation: 1,
        created: None,
        finished: None,
        reason: None,
        tasks: 3,
        counts: Counts::default(),
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
    }
}

pub(super) fn worker(name: &str, phase: Phase, on: Option<&str>) -> Worker {
    let name = AgentName::new(name).unwrap();
    let role = name.default_role();
    let goal = GoalId::new("goal-001").unwrap();
    let alive = matches!(phase, Phase::Running | Phase::Draining);
    let registered = alive.then(|| Registered {
        pid: 7,
        host: "box".into(),
        start_time: 1,
        incarnation: Incarnation(1),
        timestamp: String::new(),
        role: Some(role.clone()),
        goal: Some(goal.clone()),
        spec_hash: String::new(),
        provider: String::new(),
        beat: 1,
        task: on.map(|task| (id(task), Epoch(1))),
    });
    let status = AgentStatus { phase: Some(phase), ..AgentStatus::default() };
    let agent = Agent {
        name,
        registered,
        heartbeat: None,
        status,
        paused: false,
        consumed_version: String::new(),
    };
    Worker {
        agent,
        goal: Some(goal),
        role: Some(role),
        declared: Some(true),
        provider: Provider::Claude,
    }
}

pub(super) fn facts(task: Task) -> Facts {
    Facts {
        now: now(),
        goal: Some(goal(Status::Active)),
        nodes: BTreeMap::new(),
        cut: false,
        workers: Vec::new(),
        queue: None,
        errors: Vec::new(),
        log: None,
        done_by: None,
        handed_back: None,
        holds: Vec::new(),
        slots: Slots { most: 2, ..Slots::default() },
        history: Vec::new(),
        trace: None,
        zone: TimeZone::UTC,
        task,
    }
}

/// A blocked `task-009` before which these stand, each with what it waits for.
pub(super) fn blocked(nodes: &[(Task, &[&str])]) -> Facts {
    let mut facts = facts(task("task-009", State::Blocked));
    for (task, open) in nodes {
        let open = open.iter().map(|name| id(name)).collect();
        facts.nodes.insert(task.id.clone(), Node { task: Some(task.clone()), open });
    }
    facts
}

pub(super) fn me(open: &'static [&'static str]) -> (Task, &'static [&'static str]) {
    (task("task-009", State::Blocked), open)
}

pub(super) fn ready(workers: Vec<Worker>) -> Facts {
    let mut it = task("task-002", State::Ready);
    it.role = Role::new("analysis").ok();
    let mut facts = facts(it);
    facts.workers = workers;
    facts.queue = Some(Queue { before: 0, same_priority: 0 });
    facts
}

pub(super) fn show(facts: &Facts) -> String {
    text(&explain(facts), 80, Paint { on: false })
}

pub(super) fn verdict(facts: &Facts) -> Verdict {
    explain(facts).verdict
}

#[test]
fn blocked_task_should_be_explained_down_to_the_failure() {
    let mut failed = task("task-001", State::Failed);
    failed.reason = Some("exit code 1".into());
    let mut running = task("task-003", State::Running);
    running.owner = AgentName::new("research_agent").ok();
    running.started = at(-12);
    let facts = blocked(&[
        me(&["task-002", "task-003"]),
        (task("task-002", State::Blocked), &["task-001"]),
        (failed, &[]),
        (running, &[]),
    ]);
    assert_eq!(verdict(&facts), Verdict::Stuck);
    insta::assert_snapshot!(show(&facts), @r"
    task-009  BLOCKED
      of goal-001: Title of task-009

      It waits for 2 dependencies that are not done yet.
      The root cause: task-001 failed for good.
        task-002  blocked  waits for 1 task
          task-001  failed  failed for good: exit code 1
        task-003  running  runs by research_agent, started 12 s ago

    Next: nothing by itself. See why with `orch explain task-001` and
          `orch logs task-001`, mend it, then run `orch retry task-001`
    ");
}

#[test]
fn blocked_task_should_name_what_runs_or_waits_before_it() {
    let running = task("task-001", State::Running);
    let facts = blocked(&[me(&["task-001"]), (running, &[])]);
    assert_eq!(verdict(&facts), Verdict::WaitsForDependencies);
    assert!(show(&facts).contains("Being worked on: task-001"), "{}", show(&facts));
    let facts = blocked(&[me(&["task-001"]), (task("task-001", State::Ready), &[])]);
    assert!(show(&facts).contains("Next: see `orch explain task-001`"), "{}", show(&facts));
}

#[test]
fn blocked_task_without_open_dependencies_should_be_said_to_become_ready() {
    assert_eq!(verdict(&blocked(&[me(&[])])), Verdict::BecomesReady);
}

#[test]
fn blocked_task_should_show_a_shared_dependency_once() {
    let facts = blocked(&[
        me(&["task-001", "task-002"]),
        (task("task-001", State::Blocked), &["task-003"]),
        (task("task-002", State::Blocked), &["task-003"]),
        (task("task-003", State::Ready), &[]),
    ]);
    let shown = show(&facts);
    assert_eq!(shown.matches("see above").count(), 1, "{shown}");
    let Explanation { blockers, .. } = explain(&facts);
    assert_eq!(blockers.iter().filter(|b| b.root).count(), 1);
}

#[test]
fn blocked_task_should_name_what_is_missing() {
    let mut facts = blocked(&[me(&["task-001"])]);
    facts.nodes.insert(id("task-001"), Node { task: None, open: Vec::new() });
    assert_eq!(verdict(&facts), Verdict::Stuck);
    assert!(show(&facts).contains("cannot be found in Redis"), "{}", show(&facts));
}

#[test]
fn ready_task_should_say_that_no_agent_has_its_role() {
    let facts = ready(vec![worker("research_agent", Phase::Running, None)]);
    assert_eq!(verdict(&facts), Verdict::NoAgent);
    insta::assert_snapshot!(show(&facts), @r"
    task-002  READY
      of goal-001: Title of task-002

      No agent of role analysis works for goal goal-001.
        research_agent  research  takes other roles

    Next: declare an agent with `- Role: analysis` and `- Goal: goal-001` under
          `## Agents` in INSTRUCTIONS.md
    ");
}

#[test]
fn ready_task_should_say_who_is_busy_and_what_comes_first() {
    let mut facts = ready(vec![
        worker("research_agent", Phase::Running, None),
        worker("analysis_agent", Phase::Running, Some("task-004")),
    ]);
    facts.queue = Some(Queue { before: 2, same_priority: 1 });
    assert_eq!(verdict(&facts), Verdict::AgentsBusy);
    insta::assert_snapshot!(show(&facts), @r"
    task-002  READY
      of goal-001: Title of task-002

      Every agent of role analysis that could take it works on another task.
        analysis_agent  analysis  works on task-004
        research_agent  research  takes other roles
      In the queue: 2 before it by priority, 1 of the same.

    Next: it is taken after 2 tasks of higher priority;
          `ELEVATE task-002 <priority>` in a heartbeat file puts it further ahead
    ");
}

#[test]
fn ready_task_should_tell_paused_from_dead_agents() {
    let mut paused = worker("analysis_agent", Phase::Running, None);
    paused.agent.paused = true;
    let facts = ready(vec![paused]);
    assert_eq!(verdict(&facts), Verdict::AgentsPaused);
    assert!(show(&facts).contains("write RESUME into the heartbeat file of analysis_agent"));
    let mut crashing = worker("analysis_agent", Phase::CrashLoop, None);
    crashing.agent.status.last_exit = Some("signal 9".into());
    crashing.agent.status.next_start = at(12);
    let facts = ready(vec![crashing]);
    assert_eq!(verdict(&facts), Verdict::AgentsAway);
    let shown = show(&facts);
    assert!(shown.contains("crashes again and again after signal 9; next start"), "{shown}");
}

#[test]
fn ready_task_should_say_when_it_is_tried_again() {
    let mut facts = ready(vec![worker("analysis_agent", Phase::Running, None)]);
    facts.task.not_before = at(4);
    facts.task.attempt = 1;
    facts.task.failures = 1;
    facts.task.last_error = Some("exit code 1".into());
    assert_eq!(verdict(&facts), Verdict::WaitsForRetry);
    let shown = show(&facts);
    assert!(shown.contains("Next: it is tried again in 4.0 s; 2 attempts are left"), "{shown}");
    facts.task.not_before = at(-4);
    assert_eq!(verdict(&facts), Verdict::AboutToStart);
}

#[test]
fn ready_task_should_say_that_its_goal_holds_it() {
    let mut facts = ready(vec![worker("analysis_agent", Phase::Running, None)]);
    for status in [Status::Draft, Status::Failed, Status::Complete] {
        facts.goal = Some(goal(status));
        assert_eq!(verdict(&facts), Verdict::GoalNotActive, "{status}");
    }
    facts.goal = None;
    assert_eq!(verdict(&facts), Verdict::GoalNotActive);
}

#[test]
fn running_task_should_say_who_runs_it_and_until_when() {
    let mut it = task("task-001", State::Running);
    it.owner = AgentName::new("research_agent").ok();
    it.started = at(-12);
    it.lease_expires = at(25);
    it.attempt = 3;
    it.failures = 1;
    it.losses = 1;
    it.progress = Some("half of it".into());
    let mut facts = facts(it);
    facts.log = Some(".orch/logs/task-001/3.log".into());
    assert_eq!(verdict(&facts), Verdict::Runs);
    insta::assert_snapshot!(show(&facts), @r"
    task-001  RUNNING
      of goal-001: Title of task-001

      research_agent runs it: attempt 3, after 1 of 3 allowed failures, after losing
      its agent 1 time, started 12 s ago.
      It says: half of it
      Its lease is renewed; without that it would end in 25 s.
      Held by: research_agent (no process of it is registered), under grant 0
      Log: .orch/logs/task-001/3.log

    Next: what waits for it goes on when it is done. Look on with
          `orch logs task-001 --follow`; `DROP-TASK task-001` in a heartbeat file
          takes it away
    ");
    facts.task.lease_expires = at(-3);
    assert_eq!(verdict(&facts), Verdict::HolderSilent);
}

#[test]
fn done_task_should_say_what_was_made_and_by_whom() {
    let mut it = task("task-001", State::Done);
    it.attempt = 1;
    it.finished = at(-90);
    it.artifacts = Some(serde_json::json!([{"path": "lines.json", "bytes": 7}, "a.svg"]));
    let mut facts = facts(it);
    facts.done_by = Some("research_agent".into());
    insta::assert_snapshot!(show(&facts), @r"
    task-001  DONE
      of goal-001: Title of task-001

      It was completed by research_agent 90 s ago, in attempt 1.
      Made: lines.json, a.svg

    Next: nothing: it is final, until INSTRUCTIONS.md changes what it is
    ");
}

#[test]
fn failed_task_should_tell_every_attempt_and_how_to_retry() {
    let mut it = task("task-001", State::Failed);
    it.attempt = 2;
    it.failures = 2;
    it.max_attempts = 2;
    it.reason = Some("exit code 1".into());
    let mut facts = facts(it);
    facts.errors = vec![
        Attempt {
            attempt: 2,
            agent: "b".into(),
            time: "2026-03-18T10:14:00.000000Z".into(),
            error: "exit code 1\nsh: nope\x1b[2J".into(),
        },
        Attempt { attempt: 1, ..Attempt::default() },
    ];
    insta::assert_snapshot!(show(&facts), @r"
    task-001  FAILED
      of goal-001: Title of task-001

      It failed for good: exit code 1
      Last: attempt 2, after 2 of 2 allowed failures.
      Failed attempts, newest first:
        2. 2026-03-18 10:14:00 by b
           exit code 1
           sh: nope\u{1b}[2J
        1.  by 

    Next: nothing by itself, and what waits for it stays blocked. Mend the cause,
          then run `orch retry task-001`
    ");
}

#[test]
fn explanation_should_fit_and_be_printable() {
    let long = "y".repeat(64);
    let mut it = task(&long, State::Failed);
    it.reason = Some("\x1b[2J word ".repeat(30));
    it.spec.as_mut().unwrap().title = "日本 \x07".repeat(40);
    let shown = show(&facts(it));
    assert!(shown.lines().all(|line| line.width() <= 80 || line.contains(&long)), "{shown}");
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    assert!(shown.lines().last().unwrap().contains("orch retry") || shown.contains("Next:"));
}
