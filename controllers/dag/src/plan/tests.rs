use model::GoalId;
use model::goal::Status;
use store::goal::Planning;

use super::*;

/// Declared as `h1`.
fn declared() -> Snapshot {
    Snapshot { desired: Some(desired()), ..Snapshot::default() }
}

fn desired() -> Desired {
    Desired {
        spec_hash: "h1".into(),
        title: "Title".into(),
        means: "claude".into(),
        budget_micros: None,
        text: String::new(),
        review: false,
    }
}

/// In force: a plan for `h1` of which one task runs.
fn goal() -> Goal {
    let counts = Counts { running: 1, ..Counts::default() };
    Goal {
        id: GoalId::new("goal-001").unwrap(),
        status: Status::Active,
        title: "Title".into(),
        spec_hash: "h1".into(),
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
    }
}

fn draft() -> Goal {
    Goal {
        status: Status::Draft,
        generation: 0,
        spec_hash: String::new(),
        tasks: 0,
        counts: Counts::default(),
        ..goal()
    }
}

fn failed(hash: &str, reparses: u64, attempts: u32) -> Planning {
    Planning {
        spec_hash: hash.into(),
        reparses,
        attempts,
        error: Some("no model".into()),
        not_before_ms: 7,
        held: None,
        means: "claude".into(),
    }
}

fn held(hash: &str, reparses: u64, attempts: u32) -> Planning {
    let error = (attempts > 0).then(|| "no model".to_owned());
    Planning { error, held: Some("a limit".into()), ..failed(hash, reparses, attempts) }
}

fn given_up(hash: &str, reparses: u64, attempts: u32) -> Planning {
    Planning { not_before_ms: NEVER_MS, ..failed(hash, reparses, attempts) }
}

fn seen(goal: Goal) -> Snapshot {
    Snapshot { actual: Some(goal), ..declared() }
}

fn at_work(hash: &str, reparses: u64, progress: Progress) -> Option<Seen> {
    let target = Target { spec_hash: hash.into(), reparses, means: "claude".into() };
    Some(Seen { target, progress, age: Duration::ZERO })
}

#[track_caller]
fn check(cases: &[(&str, Snapshot, &str)]) {
    for (case, snapshot, expected) in cases {
        assert_eq!(decide(snapshot).to_string(), *expected, "{case}");
    }
}

#[test]
fn goals_should_follow_their_declaration() {
    let gone = || Snapshot { desired: None, ..seen(goal()) };
    let noted = Goal { declared: false, ..goal() };
    check(&[
        ("neither declared nor known", Snapshot::default(), "nothing"),
        ("new", declared(), "note title=\"Title\""),
        ("as declared", seen(goal()), "nothing"),
        ("no longer declared", gone(), "note declared=\"0\""),
        ("that was noted", Snapshot { actual: Some(noted.clone()), ..gone() }, "nothing"),
        ("declared again", seen(noted.clone()), "note declared=\"1\""),
        (
            "no longer declared while it is planned",
            Snapshot { actual: Some(noted), work: at_work("h1", 0, Progress::Running), ..gone() },
            "stop planning",
        ),
        (
            "another title before there is a plan",
            seen(Goal { title: "Old".into(), ..draft() }),
            "note title=\"Title\"; start planning h1#0",
        ),
        ("another title beside a plan", seen(Goal { title: "Old".into(), ..goal() }), "nothing"),
        (
            "a new problem",
            Snapshot { problem: Some("nobody".into()), ..seen(goal()) },
            "note problem=\"nobody\"",
        ),
        (
            "the same problem",
            Snapshot {
                problem: Some("nobody".into()),
                ..seen(Goal { problem: Some("nobody".into()), ..goal() })
            },
            "nothing",
        ),
        (
            "no problem any more",
            seen(Goal { problem: Some("nobody".into()), ..goal() }),
            "note problem=\"\"",
        ),
    ]);
}

#[test]
fn planning_should_be_asked_for_exactly_when_the_plan_in_force_is_not_the_wanted_one() {
    let planned = |planning| seen(Goal { planning, ..goal() });
    let reparse = |reparses, planning| seen(Goal { reparses, planning, ..goal() });
    let settled = |reparses| Planning { reparses, ..Planning::default() };
    let old = || Goal { spec_hash: "h0".into(), ..goal() };
    check(&[
        ("no plan yet", seen(draft()), "start planning h1#0"),
        ("another declaration", seen(old()), "start planning h1#0"),
        ("a REPARSE", reparse(2, settled(1)), "start planning h1#2"),
        ("a REPARSE that was served", reparse(2, settled(2)), "nothing"),
        ("a REPARSE whose planning failed", reparse(2, failed("h1", 2, 1)), "start planning h1#2"),
        ("a change taken back", planned(failed("h2", 0, 2)), "settle h1#0"),
        (
            "a change after failures",
            seen(Goal { planning: given_up("h0", 0, 3), ..old() }),
            "start planning h1#0",
        ),
        (
            "a REPARSE after failures",
            seen(Goal { planning: given_up("h1", 0, 3), reparses: 1, ..old() }),
            "start planning h1#1",
        ),
        (
            "too early after a failure",
            Snapshot {
                hold: Duration::from_secs(5),
                ..seen(Goal { planning: failed("h1", 0, 1), ..old() })
            },
            "nothing (again in 5s)",
        ),
        (
            "given up beside a plan",
            seen(Goal { planning: given_up("h1", 0, 3), ..old() }),
            "nothing",
        ),
    ]);
}

#[test]
fn planner_should_be_followed_as_long_as_its_plan_is_wanted() {
    let work = |goal, progress| Snapshot { work: at_work("h1", 0, progress), ..seen(goal) };
    let stale = |progress| Snapshot { work: at_work("h0", 0, progress), ..seen(draft()) };
    let after = |attempts| Goal { planning: failed("h1", 0, attempts), ..draft() };
    let no = || "no".to_owned();
    check(&[
        ("at work", work(draft(), Progress::Running), "nothing"),
        ("done", work(draft(), Progress::Planned), "accept the plan for h1#0"),
        ("done after failures", work(after(2), Progress::Planned), "accept and settle h1#0"),
        (
            "done for a REPARSE",
            Snapshot {
                work: at_work("h1", 1, Progress::Planned),
                ..seen(Goal { reparses: 1, ..goal() })
            },
            "accept and settle h1#1",
        ),
        ("failed", work(draft(), Progress::Failed(no())), "record failure 1 for h1#0: no"),
        ("failed again", work(after(1), Progress::Failed(no())), "record failure 2 for h1#0: no"),
        (
            "failed for the last time",
            work(after(2), Progress::Failed(no())),
            "give up h1#0 after 3: no",
        ),
        ("refused", work(draft(), Progress::Refused(no())), "give up h1#0 after 1: no"),
        ("at work for something old", stale(Progress::Running), "stop planning"),
        ("being stopped", stale(Progress::Stopping), "nothing"),
        ("stopped", stale(Progress::Stopped), "discard what the planner left; start planning h1#0"),
        (
            "done for something old",
            stale(Progress::Planned),
            "discard what the planner left; start planning h1#0",
        ),
        (
            "stopped for what is wanted again",
            work(draft(), Progress::Stopped),
            "discard what the planner left; start planning h1#0",
        ),
        ("at work though the plan is in force", work(goal(), Progress::Running), "stop planning"),
        (
            "done though the plan is in force",
            work(goal(), Progress::Planned),
            "discard what the planner left",
        ),
    ]);
}

#[test]
fn draft_should_say_why_it_has_no_plan_as_long_as_that_holds() {
    let why = "there is no plan: no model; change the goal, or write REPARSE to try again";
    let note = format!("note reason={why:?}");
    let up = Goal { planning: given_up("h1", 0, 3), ..draft() };
    let said = Goal { reason: Some(why.into()), ..up.clone() };
    let changed = Goal { planning: given_up("h0", 0, 3), ..said.clone() };
    let between = Goal { planning: failed("h1", 0, 1), ..draft() };
    let hold = Duration::from_secs(1);
    let plan_in_force = Goal { spec_hash: "h0".into(), planning: given_up("h1", 0, 3), ..goal() };
    check(&[
        ("given up", seen(up), &note),
        ("said so", seen(said), "nothing"),
        ("changed since", seen(changed), "note reason=\"\"; start planning h1#0"),
        ("between attempts", Snapshot { hold, ..seen(between) }, "nothing (again in 1s)"),
        ("a plan is in force", seen(plan_in_force), "nothing"),
    ]);
}

#[test]
fn hold_should_cost_no_attempt_and_be_over_in_time() {
    let limit = |until_ms| Progress::Held { message: "a limit".into(), until_ms };
    let work = |goal, progress| Snapshot { work: at_work("h1", 0, progress), ..seen(goal) };
    let plan = |planning, goal: Goal| Goal { planning, ..goal };
    let waiting = |seconds, goal| Snapshot { hold: Duration::from_secs(seconds), ..seen(goal) };
    let why = Some("planning waits: a limit".to_owned());
    let said = |planning| Goal { reason: why.clone(), ..plan(planning, draft()) };
    let long_at_work = |goal| {
        let mut seen = work(goal, Progress::Running);
        seen.work.as_mut().unwrap().age = Duration::from_secs(5);
        seen
    };
    let reparse = Goal { reparses: 1, planning: held("h1", 1, 0), ..goal() };
    check(&[
        ("held", work(draft(), limit(Some(9))), "hold h1#0 after 0 until 9: a limit"),
        (
            "held after failures",
            work(plan(failed("h1", 0, 2), draft()), limit(None)),
            "hold h1#0 after 2: a limit",
        ),
        (
            "waits",
            waiting(5, plan(held("h1", 0, 0), draft())),
            "note reason=\"planning waits: a limit\" (again in 5s)",
        ),
        ("waits, and says so", waiting(5, said(held("h1", 0, 0))), "nothing (again in 5s)"),
        ("waits for long", waiting(900, said(held("h1", 0, 2))), "nothing (again in 60s)"),
        ("is over", seen(said(held("h1", 0, 2))), "start planning h1#0"),
        ("may go on", work(said(held("h1", 0, 0)), Progress::Running), "nothing"),
        ("is over for sure", long_at_work(said(held("h1", 0, 0))), "note reason=\"\""),
        ("planned after it", work(said(held("h1", 0, 0)), Progress::Planned), {
            "accept and settle h1#0"
        }),
        (
            "failed after it",
            work(said(held("h1", 0, 1)), Progress::Failed("no".into())),
            "record failure 2 for h1#0: no",
        ),
        ("of a REPARSE", waiting(5, reparse.clone()), "nothing (again in 5s)"),
        ("of a REPARSE is over", seen(reparse), "start planning h1#1"),
        ("of what was taken back", seen(plan(held("h2", 0, 0), goal())), "settle h1#0"),
        ("of another declaration", seen(said(held("h0", 0, 0))), {
            "note reason=\"\"; start planning h1#0"
        }),
    ]);
}

#[test]
fn other_means_should_end_a_hold_and_a_refusal_but_plan_nothing_again() {
    let other = |goal| {
        let desired = Desired { means: "codex".into(), ..desired() };
        Snapshot { desired: Some(desired), ..seen(goal) }
    };
    let plan = |planning| Goal { planning, ..draft() };
    let reparse = |planning| Goal { reparses: 1, planning, ..goal() };
    let at_work = |progress| Snapshot { work: at_work("h1", 0, progress), ..other(draft()) };
    check(&[
        ("a plan is in force", other(goal()), "nothing"),
        ("held", other(plan(held("h1", 0, 0))), "start planning h1#0"),
        ("given up", other(plan(given_up("h1", 0, 3))), "start planning h1#0"),
        ("a REPARSE that failed", other(reparse(given_up("h1", 1, 1))), "start planning h1#1"),
        ("at work with the old ones", at_work(Progress::Running), "nothing"),
        ("planned with the old ones", at_work(Progress::Planned), "accept the plan for h1#0"),
    ]);
    let mut late = at_work(Progress::Failed("no".into()));
    late.actual = Some(plan(failed("h1", 0, 1)));
    let plan = decide(&late);
    let [Step::Record { target, attempts: 2, .. }] = &plan.steps[..] else { panic!("{plan}") };
    assert_eq!(target.means, "claude");
}

#[test]
fn budget_should_be_noted_wherever_it_differs_and_plan_nothing() {
    let with = |budget_micros, seen: Snapshot| {
        let desired = Desired { budget_micros, ..desired() };
        Snapshot { desired: Some(desired), ..seen }
    };
    let has = |budget_micros| Goal { budget_micros, ..goal() };
    check(&[
        ("new", with(Some(5), declared()), "note title=\"Title\" budget=\"5\""),
        ("set", with(Some(5), seen(has(None))), "note budget=\"5\""),
        ("changed", with(Some(6), seen(has(Some(5)))), "note budget=\"6\""),
        ("removed", with(None, seen(has(Some(5)))), "note budget=\"\""),
        ("the same", with(Some(5), seen(has(Some(5)))), "nothing"),
        (
            "of a draft",
            with(Some(5), seen(Goal { budget_micros: None, ..draft() })),
            "note budget=\"5\"; start planning h1#0",
        ),
    ]);
}

#[test]
fn text_and_review_should_be_noted_wherever_they_differ() {
    let with = |text: &str, review, seen: Snapshot| {
        let desired = Desired { text: text.to_owned(), review, ..desired() };
        Snapshot { desired: Some(desired), ..seen }
    };
    let has = |text: &str, review| seen(Goal { text: text.to_owned(), review, ..goal() });
    check(&[
        ("new", with("Do", true, declared()), { "note title=\"Title\" text=\"Do\" review=\"1\"" }),
        ("changed", with("Do", false, has("Did", true)), "note text=\"Do\" review=\"\""),
        ("the same", with("Do", true, has("Do", true)), "nothing"),
    ]);
}

#[test]
fn plan_in_force_should_be_kept_right() {
    let with = |counts: Counts, nodes, queued| Snapshot {
        figures: Some(Figures { counts, nodes, queued, ..Figures::default() }),
        ..seen(Goal { counts, ..goal() })
    };
    let none = Counts::default();
    let done = Counts { done: 2, ..none };
    let stuck = Counts { failed: 1, blocked: 3, ..none };
    let ready = Counts { ready: 2, ..none };
    let adds_up = "the counts do not add up to the number of tasks";
    check(&[
        ("right", with(goal().counts, 1, 0), "nothing"),
        ("something is ready, or delayed", with(ready, 2, 2), "promote"),
        ("all done", with(done, 2, 0), "set generation 1 complete"),
        ("nothing can run", with(stuck, 4, 0), "set generation 1 failed"),
        (
            "failed, and tried again",
            Snapshot {
                figures: Some(Figures { counts: ready, nodes: 2, queued: 2, ..Figures::default() }),
                ..seen(Goal { status: Status::Failed, counts: ready, ..goal() })
            },
            "set generation 1 active; promote",
        ),
        ("all done as it seems", with(done, 3, 0), &format!("repair: {adds_up}")),
        (
            "all done, and what contradicts it cannot be repaired",
            Snapshot { vain_repair: true, ..with(done, 3, 0) },
            "set generation 1 complete",
        ),
        (
            "a queue lost a task",
            with(ready, 2, 1),
            "repair: not every ready task is in a queue; promote",
        ),
        (
            "a draft has nothing to keep",
            Snapshot { work: at_work("h1", 0, Progress::Running), ..seen(draft()) },
            "nothing",
        ),
        (
            "a change that is planned holds up nothing",
            Snapshot {
                work: at_work("h1", 0, Progress::Running),
                figures: Some(Figures { counts: done, nodes: 2, queued: 0, ..Figures::default() }),
                ..seen(Goal { spec_hash: "h0".into(), counts: done, ..goal() })
            },
            "set generation 1 complete",
        ),
    ]);
}
