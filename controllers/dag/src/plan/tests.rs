use model::GoalId;
use model::goal::Status;
use store::goal::Planning;

use super::*;

/// Declared as `h1`.
fn declared() -> Snapshot {
    let desired = Desired { spec_hash: "h1".into(), title: "Title".into() };
    Snapshot { desired: Some(desired), ..Snapshot::default() }
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
    }
}

fn given_up(hash: &str, reparses: u64, attempts: u32) -> Planning {
    Planning { not_before_ms: NEVER_MS, ..failed(hash, reparses, attempts) }
}

fn seen(goal: Goal) -> Snapshot {
    Snapshot { actual: Some(goal), ..declared() }
}

fn at_work(hash: &str, reparses: u64, progress: Progress) -> Option<Seen> {
    Some(Seen { target: Target { spec_hash: hash.into(), reparses }, progress })
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
fn plan_in_force_should_be_kept_right() {
    let with = |counts: Counts, nodes, queued| Snapshot {
        figures: Some(Figures { counts, nodes, queued }),
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
                figures: Some(Figures { counts: ready, nodes: 2, queued: 2 }),
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
                figures: Some(Figures { counts: done, nodes: 2, queued: 0 }),
                ..seen(Goal { spec_hash: "h0".into(), counts: done, ..goal() })
            },
            "set generation 1 complete",
        ),
    ]);
}
