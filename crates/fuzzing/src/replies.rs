//! What models answer, whatever program they speak through.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use model::task::MAX_PRIORITY;
use model::{GoalSpec, Role, TaskId, TaskSpec};
use providers::answers::{
    Answer, DEFAULT_MAX_TASKS, Execution, MAX_SUMMARY_CHARS, Plan, PlanLimits, Recovery, Review,
    Selection, Summary, Verdict, parse, schema,
};
use providers::{json, limits, recovery};
use serde_json::Value;

use crate::check::{assert_inside, assert_quotable, text};

/// The longest error about an answer: it goes back to the model.
const PROBLEM_BYTES: usize = 8 * 1024;
/// The longest line of an answer, with what marks that it was cut.
const LINE_BYTES: usize = 2 * 1024 + 3;
/// The longest notes, before what marks that they were cut.
const NOTES_BYTES: usize = 16 * 1024;
/// The longest usage limit.
const LONGEST_LIMIT: SignedDuration = SignedDuration::from_hours(366 * 24);

/// The answers to all steps: bounded, within what was offered, and read as the same where
/// they are written again. Also, as the words of an error: its limit and its remedy.
pub fn replies(data: &[u8]) {
    let text = &*text(data);
    if let Some(plan) = answer::<Plan>(text) {
        check_plan(plan);
    }
    if let Some(selection) = answer::<Selection>(text) {
        check_selection(&selection);
    }
    if let Some(execution) = answer::<Execution>(text) {
        check_execution(&execution);
    }
    if let Some(Summary { summary }) = answer::<Summary>(text) {
        assert!((1..=MAX_SUMMARY_CHARS).contains(&summary.chars().count()), "{summary}");
        assert_quotable(&summary, 4 * MAX_SUMMARY_CHARS, "a summary");
    }
    if let Some(review) = answer::<Review>(text) {
        assert!(review.findings.len() <= 50);
        assert!(review.verdict == Verdict::Pass || !review.findings.is_empty());
        review.findings.iter().for_each(|line| assert_quotable(line, LINE_BYTES, "a finding"));
        let again = serde_json::to_value(&review).map_err(|error| error.to_string());
        assert_eq!(again.and_then(|value| parse::<Review>(&value)).as_ref(), Ok(&review));
    }
    if let Some(rescue) = answer::<Recovery>(text) {
        assert!((0.0..=1.0).contains(&rescue.confidence), "{rescue:?}");
        assert!(rescue.remediation_steps.len() <= 20);
        assert!(!rescue.recoverable || !rescue.remediation_title.is_empty());
    }
    check_error(text);
}

/// The answer of a step somewhere in `text`, found as for programs that print text.
fn answer<T: Answer>(text: &str) -> Option<T> {
    let schema = schema::<T>();
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let value = json::find(text, |value| required.iter().all(|name| value.get(name).is_some()))?;
    match parse(&value) {
        Ok(answer) => Some(answer),
        Err(problem) => {
            assert_quotable(&problem, PROBLEM_BYTES, "a problem");
            None
        }
    }
}

fn check_plan(plan: Plan) {
    let mut goal = GoalSpec::new(id("goal-001"));
    goal.priority = 7;
    let roles: [Role; 2] = [id("builder"), id("manager")];
    let limits = PlanLimits { max_tasks: DEFAULT_MAX_TASKS, roles: &roles };
    let checked = plan.check(&goal, &limits);
    // Without roles and for whatever goal it names: what a plan can be at all.
    let anyhow = PlanLimits { max_tasks: DEFAULT_MAX_TASKS, roles: &[] };
    let free = Plan { goal_id: None, ..plan.clone() }.into_dag(&goal, &anyhow);
    assert!(free.is_ok() || checked.is_err());
    for problem in [checked.err(), free.as_ref().err().cloned()].into_iter().flatten() {
        assert_quotable(&problem, PROBLEM_BYTES, "what is wrong with a plan");
    }
    let Ok(dag) = free else { return };
    assert!((1..=DEFAULT_MAX_TASKS).contains(&dag.tasks().len()));
    for (position, task) in dag.tasks().iter().enumerate() {
        check_task(task);
        assert!(dag.dependencies(position).iter().all(|one| (*one as usize) < dag.tasks().len()));
    }
}

fn check_task(task: &TaskSpec) {
    assert!(task.id.is_plain() && task.priority <= MAX_PRIORITY, "{task:?}");
    assert!((1..=200).contains(&task.title.chars().count()), "{:?}", task.title);
    assert_quotable(&task.title, 800, "a title");
    assert!(task.expected_artifacts.len() <= 100);
    task.expected_artifacts.iter().for_each(|path| assert_inside(path));
    assert!(task.run.is_none() && task.verify.is_empty(), "a model's words got to a shell");
    assert!(task.metadata.values().all(|text| text.len() <= 9 * 1024));
}

fn check_selection(selection: &Selection) {
    assert!((0.0..=1.0).contains(&selection.confidence), "{selection:?}");
    assert_quotable(&selection.justification, LINE_BYTES, "a justification");
    let offered = [TaskSpec::new(id::<TaskId>("task-001"), "x")];
    let chosen = selection.check(&offered);
    assert_eq!(chosen.is_ok(), selection.selected_task_id == offered[0].id);
    chosen.err().iter().for_each(|problem| assert_quotable(problem, PROBLEM_BYTES, "a problem"));
}

fn check_execution(execution: &Execution) {
    assert!(execution.outputs.len() <= 500 && execution.follow_ups.len() <= 20);
    assert!(execution.notes.len() <= NOTES_BYTES + 100);
    for output in &execution.outputs {
        assert!(!output.path.is_empty());
        assert_quotable(&output.path, LINE_BYTES, "a path");
        assert_quotable(&output.description, LINE_BYTES, "a description");
    }
    execution.follow_ups.iter().for_each(|line| assert_quotable(line, LINE_BYTES, "a follow-up"));
    if execution.notes.len() > NOTES_BYTES {
        // They end with how much was cut away, which would be cut again.
        return;
    }
    let again = serde_json::to_value(execution).map_err(|error| error.to_string());
    assert_eq!(again.and_then(|value| parse::<Execution>(&value)).as_ref(), Ok(execution));
}

/// The words of an error: a limit ends within a year, and what is hopeless has no remedy.
fn check_error(text: &str) {
    let now = Timestamp::constant(1_790_000_000, 0);
    for (status, zone) in [(None, TimeZone::UTC), (Some(429), TimeZone::fixed(jiff::tz::offset(2)))]
    {
        let limit = limits::classify(text, status, now, &zone);
        if let Some(until) = limit.and_then(|limit| limit.until) {
            assert!(until > now && until.duration_since(now) <= LONGEST_LIMIT, "{until}");
        }
    }
    assert!(recovery::hopeless(text).is_none() || recovery::known(text).is_none());
}

/// An id that is one.
#[allow(clippy::expect_used, reason = "an id of ours")]
fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("an id")
}
