use model::goal::Status;
use model::task::State;
use model::{GoalId, Provider};
use store::llm::{Hold, Slot, Waiter};
use store::task::{Detours, SessionRecord};

use super::gather::{Facts, HandedBack, Worker};
use super::llm::detour;
use super::tests::{at, blocked, facts, goal, me, now, ready, show, task, verdict, worker};
use super::why::{Verdict, explain};
use model::agent::Phase;

/// A ready task that only a model can do, and a free agent for it.
fn waiting() -> Facts {
    ready(vec![worker("analysis_agent", Phase::Running, None)])
}

fn micros(seconds: i64) -> u64 {
    let at = now() + jiff::SignedDuration::from_secs(seconds);
    u64::try_from(at.as_microsecond()).unwrap()
}

fn limit(provider: &str, seconds: i64) -> Hold {
    Hold {
        provider: provider.into(),
        until_us: micros(seconds),
        since_us: micros(-60),
        strikes: 0,
        message: "You've hit your session limit".into(),
    }
}

fn other(provider: Provider) -> Worker {
    Worker { provider, ..worker("other_analysis", Phase::Running, None) }
}

fn goal_id() -> GoalId {
    GoalId::new("goal-001").unwrap()
}

fn queued(agent: &str) -> Waiter {
    Waiter { holder: format!("agent:{agent}"), goal: goal_id(), since_us: micros(-3) }
}

fn asking(agent: &str) -> Slot {
    Slot {
        holder: format!("agent:{agent}"),
        goal: goal_id(),
        step: "select".into(),
        call: "5f0c".into(),
    }
}

#[test]
fn ready_task_should_say_until_when_a_usage_limit_holds_it() {
    let mut facts = waiting();
    facts.holds = vec![limit("claude", 7_800), limit("codex", 60)];
    assert_eq!(verdict(&facts), Verdict::UsageLimit);
    insta::assert_snapshot!(show(&facts), @r"
    task-002  READY
      of goal-001: Title of task-002

      claude is at its usage limit until 12:25 (in 2 h 10 min): You've hit your
      session limit.
        analysis_agent  analysis  is free, but claude is at its usage limit until
                                  12:25 (in 2 h 10 min)

    Next: it goes on by itself then, and no attempt is used up. An agent with
          another `Provider:` could take it now
    ");
    facts.holds = vec![limit("claude", -1)];
    assert_eq!(verdict(&facts), Verdict::AboutToStart);
}

#[test]
fn usage_limit_should_hold_only_who_asks_that_provider() {
    let mut facts = waiting();
    facts.holds = vec![limit("claude", 7_800)];
    let mut second = other(Provider::Codex);
    second.role = facts.task.role.clone();
    facts.workers.push(second);
    assert_eq!(verdict(&facts), Verdict::AboutToStart);
    facts.holds.push(limit("codex", 60));
    assert_eq!(verdict(&facts), Verdict::UsageLimit);
    assert!(show(&facts).contains("codex is at its usage limit until"), "{}", show(&facts));
    facts.task.spec.as_mut().unwrap().run = Some("true".into());
    assert_eq!(verdict(&facts), Verdict::AboutToStart);
}

#[test]
fn ready_task_should_say_that_its_goal_has_spent_its_budget() {
    let mut facts = waiting();
    let held = facts.goal.as_mut().unwrap();
    held.budget_micros = Some(5_000_000);
    held.cost_micros = 5_120_000;
    assert_eq!(verdict(&facts), Verdict::GoalBudgetSpent);
    let shown = show(&facts);
    assert!(shown.contains("goal-001 has spent $5.12 of its budget of $5.00."), "{shown}");
    assert!(shown.contains("raise `Budget:` of goal-001 in INSTRUCTIONS.md"), "{shown}");
    facts.workers[0].provider = Provider::Offline;
    assert_eq!(verdict(&facts), Verdict::AboutToStart);
    facts.workers.clear();
    assert_eq!(verdict(&facts), Verdict::NoAgent);
}

#[test]
fn ready_task_should_say_that_somebody_capped_its_goal() {
    let mut facts = waiting();
    facts.goal.as_mut().unwrap().spending_cap_until = at(7_800);
    assert_eq!(verdict(&facts), Verdict::SpendingCap);
    let shown = show(&facts);
    assert!(shown.contains("may ask no model until 12:25 (in 2 h 10 min)"), "{shown}");
    let next = explain(&facts).next;
    assert!(next.contains("delete goal:goal-001:spending_cap_until in Redis"), "{next}");
    // The store's mirror of a limit, which is no cap of its own.
    facts.holds = vec![limit("codex", 7_800)];
    assert_eq!(verdict(&facts), Verdict::AboutToStart);
    facts.holds.clear();
    facts.goal.as_mut().unwrap().spending_cap_until = at(-1);
    assert_eq!(verdict(&facts), Verdict::AboutToStart);
}

#[test]
fn parked_task_should_say_how_it_goes_on() {
    let mut facts = waiting();
    facts.task.not_before = Some("9999-01-01T01:00:00.000000Z".into());
    facts.task.reason = Some("task-002 has spent $1.02 of its budget of $1.00".into());
    facts.task.spec.as_mut().unwrap().budget_micros = Some(1_000_000);
    facts.task.cost_micros = 1_020_000;
    facts.task.llm_calls = 7;
    assert_eq!(verdict(&facts), Verdict::TaskBudgetSpent);
    insta::assert_snapshot!(show(&facts), @r"
    task-002  READY
      of goal-001: Title of task-002

      It is parked: task-002 has spent $1.02 of its budget of $1.00.
        analysis_agent  analysis  is free
      Cost: $1.02 of $1.00, 7 calls of models

    Next: nothing by itself. Raise its `budget` in INSTRUCTIONS.md, where it is
          pinned there, or run `orch retry task-002`: its cost is then counted anew
    ");
    let behind = blocked(&[me(&["task-002"]), (facts.task, &[])]);
    assert_eq!(verdict(&behind), Verdict::Stuck);
    assert!(show(&behind).contains("The root cause: the budget of task-002 is spent."));
}

#[test]
fn task_should_say_that_it_waits_for_a_slot() {
    let mut it = task("task-001", State::Running);
    it.owner = model::AgentName::new("research_agent").ok();
    it.lease_expires = at(25);
    it.reason = Some("waits for an LLM slot: 2 of 2 in use, 1 waits before it".into());
    let mut facts = facts(it);
    assert_eq!(verdict(&facts), Verdict::Runs);
    facts.slots.waiting = vec![queued("research_agent")];
    assert_eq!(verdict(&facts), Verdict::WaitsForSlot);
    let shown = show(&facts);
    assert!(shown.contains("It waits for an LLM slot: 2 of 2 in use, 1 waits before"), "{shown}");
    assert!(shown.contains("ORCH_LLM_MAX_CONCURRENCY"), "{shown}");

    let mut facts = waiting();
    facts.slots.waiting = vec![queued("analysis_agent")];
    assert_eq!(verdict(&facts), Verdict::WaitsForSlot);
    facts.slots.waiting.clear();
    facts.slots.in_use = vec![asking("analysis_agent")];
    assert_eq!(verdict(&facts), Verdict::AboutToStart);
    assert!(show(&facts).contains("asks its model which task to take"), "{}", show(&facts));
}

#[test]
fn blocked_task_should_say_which_detour_it_waits_for() {
    let mut it = task("task-009", State::Blocked);
    it.reason = Some("waits for task-009__fix2 (review 2 of 3)".into());
    it.detours = Detours { review: 2, recovery: 0 };
    let open = ["task-009__fix2"];
    let mut facts = blocked(&[(it.clone(), &open), (task(open[0], State::Running), &[])]);
    // Its own reason is that of the record asked about.
    facts.task = it;
    assert_eq!(verdict(&facts), Verdict::WaitsForDetour);
    let shown = show(&facts);
    assert!(shown.contains("by task-009__fix2: round 2 of 3"), "{shown}");
    assert_eq!(explain(&facts).detours.review, 2);
    facts.task.reason = Some("waits for task-009__fix1 (review 1 of 3)".into());
    assert_eq!(verdict(&facts), Verdict::WaitsForDependencies);
}

#[test]
fn reason_that_is_no_detour_should_not_be_read_as_one() {
    let mut it = task("task-009", State::Blocked);
    for reason in
        ["waits for task-001, which failed", "waits for x (y)", "waits for x (review a of b)"]
    {
        it.reason = Some(reason.into());
        assert_eq!(detour(&it), None, "{reason}");
    }
    it.reason = Some("waits for x__recover1 (recovery 1 of 3)".into());
    assert!(detour(&it).unwrap().sentence().contains("x__recover1 is to mend the cause first"));
}

#[test]
fn ready_task_should_say_who_gave_it_back_and_why() {
    let mut facts = waiting();
    facts.task.reason = Some("claude says: Please run /login".into());
    facts.handed_back = Some(HandedBack {
        agent: "analysis_agent".into(),
        reason: "claude says: Please run /login".into(),
    });
    assert_eq!(verdict(&facts), Verdict::HandedBack);
    let shown = show(&facts);
    assert!(shown.contains("analysis_agent handed it back: claude says: Please run"), "{shown}");
    assert!(shown.contains("`orch doctor`"), "{shown}");
    facts.goal = Some(goal(Status::Failed));
    assert_eq!(verdict(&facts), Verdict::GoalNotActive);
}

#[test]
fn ready_task_should_say_which_conversation_goes_on() {
    let mut facts = waiting();
    facts.task.llm_calls = 2;
    facts.task.session = Some(SessionRecord {
        session: "0f3c".into(),
        provider: "claude".into(),
        host: "box".into(),
        log: "/x/1.log".into(),
    });
    let shown = show(&facts);
    assert!(shown.contains("Conversation: 0f3c, with claude: an attempt on box"), "{shown}");
    assert!(shown.contains("Cost: ?, 2 calls of models"), "{shown}");
    let json = serde_json::to_value(explain(&facts)).unwrap();
    assert_eq!((&json["session"]["host"], &json["cost"]["calls"]), (&"box".into(), &2.into()));
}
