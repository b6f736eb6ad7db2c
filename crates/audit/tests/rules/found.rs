//! Each rule, kept and broken.

use audit::{EventId, Rule, TaskState};

use crate::history::{History, W1, W2, failed, running, task};

#[test]
fn history_should_be_clean_where_every_promise_is_kept() {
    let mut history = History::of(4);
    history.leader(5).claim("a", W1, 1).back("retry", "a", W1, 1).claim("a", W2, 2);
    history.back("lose", "a", W2, 2).died(W2).claim("a", W1, 3).complete("a", W1, 3);
    history.step("unblock", "b", "blocked", "ready");
    // A detour, and what was put in front.
    history.claim("b", W1, 4).back("detour", "b", W1, 4).step("block", "b", "ready", "blocked");
    history.say(
        "task-insert",
        &[("goal", "g"), ("task", "fix"), ("to", "ready"), ("generation", "1"), ("before", "b")],
    );
    history.run("fix", W1, 5).step("unblock", "b", "blocked", "ready").run("b", W1, 6);
    // One that failed for good, was reset by a person, and was handed back.
    history.claim("c", W1, 7).fail("c", W1, 7, "no").step("reset", "c", "failed", "ready");
    history.claim("c", W1, 8).back("release", "c", W1, 8).claim("c", W1, 9);
    let tasks = [
        task("a", "done", &[]),
        task("b", "done", &["a", "fix"]),
        running("c", W1, 9),
        task("d", "blocked", &["c"]),
        task("fix", "done", &[]),
    ];
    let report = history.is_clean(&tasks);
    assert_eq!(
        report.summary(),
        format!(
            "looked at {} events (complete) and 5 tasks of 1 goal: no violation",
            history.events.len()
        )
    );
    assert!(report.limits().is_empty(), "{:?}", report.limits());
}

#[test]
fn new_plan_should_undo_and_count_anew_without_alarm() {
    // `c` fails twice, then the plan changes while it runs: `a` is revised, `b` removed.
    let mut history = History::of(3);
    history.run("a", W1, 1).claim("b", W1, 2).claim("c", W2, 3).back("retry", "c", W2, 3);
    history.claim("c", W2, 4).back("retry", "c", W2, 4).claim("c", W2, 5);
    history.of_plan("revise", "a", ("done", "ready"), 2, &[]);
    history.of_plan("remove", "b", ("running", "removed"), 1, &[]);
    // It fails with what it ran for the plan before: that does not count.
    history.accept(2).back("retry", "c", W2, 5).run("a", W1, 6);
    history.claim("c", W2, 7).back("retry", "c", W2, 7);
    history.claim("c", W2, 8).back("retry", "c", W2, 8);
    let of_two = |task: TaskState| TaskState { generation: 2, ..task };
    let report =
        history.is_clean(&[of_two(task("a", "done", &[])), of_two(task("c", "ready", &[]))]);
    assert_eq!(report.unchecked_claims, 5, "those of the first plan");
    // `b` comes back with the next plan, under a higher epoch.
    history.accept(3).run("b", W1, 8);
    let of_both = [of_two(task("a", "done", &[])), of_two(task("c", "ready", &[]))];
    let back = TaskState { generation: 3, ..task("b", "done", &[]) };
    history.is_clean(&[&of_both[..], &[back]].concat());
    // Regression: one that came and went twice, and nothing happened to it between.
    history.of_plan("remove", "b", ("done", "removed"), 3, &[]).accept(2).accept(3);
    history.of_plan("remove", "b", ("ready", "removed"), 5, &[]).accept(2);
    history.is_clean(&of_both);
}

#[test]
fn s1_should_find_steps_that_do_not_follow_each_other() {
    let mut history = History::of(1);
    history.claim("a", W1, 1).step("block", "a", "ready", "blocked");
    history.breaks(Rule::S1, "left it running", &[task("a", "blocked", &[])]);
    let mut history = History::of(1);
    history.step("unblock", "a", "blocked", "running");
    history.breaks(Rule::S1, "no legal step", &[task("a", "running", &[])]);
    let mut history = History::of(1);
    history.complete("a", W1, 1);
    history.breaks(Rule::S1, "no event says that it was granted", &[task("a", "done", &[])]);
    let mut history = History::of(1);
    history.say("task-block", &[("goal", "g"), ("task", "a"), ("from", "ready")]);
    history.breaks(Rule::S1, "does not say", &[task("a", "ready", &[])]);
}

#[test]
fn s1_should_find_a_state_that_no_event_led_to() {
    let mut history = History::of(1);
    history.claim("a", W1, 1);
    history.breaks(Rule::S1, "its last event left it running", &[task("a", "ready", &[])]);
    let fresh = History::of(1);
    fresh.breaks(Rule::S1, "no event says how", &[task("a", "done", &[])]);
    fresh.breaks(Rule::S1, "in no state", &[task("a", "asleep", &[])]);
    fresh.breaks(Rule::S1, "no record", &[TaskState { status: None, ..task("a", "", &[]) }]);
    fresh.breaks(
        Rule::S1,
        "its events gave it 1",
        &[task("a", "ready", &[]), task("b", "ready", &[])],
    );
    let mut history = History::of(1);
    history.run("a", W1, 1);
    history.breaks(Rule::S1, "the plan is without it", &[]);
    let mut wrong = fresh.state(&[task("a", "ready", &[])]);
    wrong.goals[0].counts.done = 1;
    let report = audit::check(&fresh.events, &wrong);
    crate::history::assert_only(&report, Rule::S1, "do not add up");
    wrong.goals[0].generation = 2;
    let report = audit::check(&fresh.events, &wrong);
    crate::history::assert_only(&report, Rule::S1, "plan 2 is in force");
}

#[test]
fn s2_should_find_a_second_completion_and_a_way_out_of_done() {
    let mut history = History::of(1);
    history.run("a", W1, 1).complete("a", W1, 1);
    history.breaks(Rule::S2, "second completion", &[task("a", "done", &[])]);
    let mut history = History::of(1);
    history.run("a", W1, 1).run("a", W2, 2);
    history.breaks(Rule::S2, "granted again after it was DONE", &[task("a", "done", &[])]);
    let mut history = History::of(1);
    history.run("a", W1, 1).step("reset", "a", "done", "ready");
    history.breaks(Rule::S2, "no legal step", &[task("a", "ready", &[])]);
    let mut history = History::of(1);
    history.run("a", W1, 1).step("block", "a", "ready", "blocked");
    history.breaks(Rule::S2, "without a new plan", &[task("a", "blocked", &[])]);
}

#[test]
fn s3_should_find_writes_without_the_lease_in_force() {
    for cause in ["complete", "retry", "release", "fail", "lose", "drop", "detour"] {
        let write = |history: &mut History, who, epoch| {
            match cause {
                "complete" => history.complete("a", who, epoch),
                "fail" => history.fail("a", who, epoch, "why"),
                other => history.back(other, "a", who, epoch),
            };
        };
        let after = match cause {
            "complete" => task("a", "done", &[]),
            "fail" => failed("a", "why"),
            _ => task("a", "ready", &[]),
        };
        let mut history = History::of(1);
        history.claim("a", W1, 1).back("lose", "a", W1, 1).claim("a", W2, 2);
        write(&mut history, W1, 1);
        history.breaks(Rule::S3, "while w2 held it under epoch 2", std::slice::from_ref(&after));
        let mut history = History::of(1);
        history.claim("a", W1, 1).back("lose", "a", W1, 1);
        write(&mut history, W1, 1);
        history.breaks(Rule::S3, "its lease had ended", std::slice::from_ref(&after));
        let mut history = History::of(1);
        history.claim("a", W1, 1);
        write(&mut history, W2, 1);
        history.breaks(Rule::S3, "which was granted to w1", &[after]);
    }
    let mut history = History::of(1);
    history.claim("a", W1, 1).accept(1).complete("a", W1, 1);
    let done = TaskState { generation: 2, ..task("a", "done", &[]) };
    history.breaks(Rule::S3, "a plan that came after the grant", &[done]);
    let mut history = History::of(1);
    history.claim("a", W1, 1);
    history.breaks(Rule::S3, "w2 holds it under epoch 9", &[running("a", W2, 9)]);
}

#[test]
fn s4_should_find_epochs_that_do_not_grow() {
    for (epoch, part) in [(7, "twice under epoch 7"), (6, "under epoch 6 after epoch 7")] {
        let mut history = History::of(1);
        history.claim("a", W1, 7).back("release", "a", W1, 7).claim("a", W2, epoch);
        history.breaks(Rule::S4, part, &[running("a", W2, epoch)]);
        let found = &history.check(&[running("a", W2, epoch)]).violations[0];
        let ids: Vec<EventId> = [3, 5].iter().map(|n| EventId::of(&history.events[*n])).collect();
        assert_eq!(found.events, ids, "the two grants");
        assert_eq!((found.task.as_deref(), found.agent.as_deref()), (Some("a"), Some("w2")));
    }
    // Also where the task was removed meanwhile and is back.
    let mut history = History::of(1);
    history.run("a", W1, 7).of_plan("remove", "a", ("done", "removed"), 1, &[]);
    history.accept(0).accept(1).claim("a", W1, 7);
    let back = TaskState { generation: 3, ..running("a", W1, 7) };
    history.breaks(Rule::S4, "twice", &[back]);
}

#[test]
fn s5_should_find_a_grant_before_its_dependencies_were_done() {
    let mut history = History::of(2);
    history.claim("b", W2, 1).run("a", W1, 2);
    let tasks =
        [task("a", "done", &[]), TaskState { waits_for: vec!["a".into()], ..running("b", W2, 1) }];
    history.breaks(Rule::S5, "granted though a was not DONE", &tasks);
    // What a detour put in front of it later it did not wait for then.
    let mut history = History::of(1);
    history.claim("b", W1, 1).back("detour", "b", W1, 1).step("block", "b", "ready", "blocked");
    history.say(
        "task-insert",
        &[("goal", "g"), ("task", "fix"), ("to", "ready"), ("generation", "1"), ("before", "b")],
    );
    history.is_clean(&[task("b", "blocked", &["fix"]), task("fix", "ready", &[])]);
    let ready = [task("a", "ready", &[]), task("b", "ready", &["a"])];
    History::of(2).breaks(Rule::S5, "READY though a is not DONE", &ready);
}

#[test]
fn s6_should_find_attempts_beyond_the_limit() {
    let mut history = History::of(1);
    for epoch in 1..=3 {
        history.claim("a", W1, epoch).back("retry", "a", W1, epoch);
    }
    history.breaks(Rule::S6, "failed 3 times of 3", &[task("a", "ready", &[])]);
    let mut history = History::of(1);
    for epoch in 1..=10 {
        history.claim("a", W1, epoch).back("lose", "a", W1, epoch);
    }
    history.breaks(Rule::S6, "lost its agent 10 times", &[task("a", "ready", &[])]);
    let fresh = History::of(1);
    let counted = TaskState { failures: 3, ..task("a", "ready", &[]) };
    fresh.breaks(Rule::S6, "counts 3 failures", &[counted]);
    let counted = TaskState { losses: 10, ..task("a", "ready", &[]) };
    fresh.breaks(Rule::S6, "counts 10 losses", &[counted]);
}

#[test]
fn s6_should_demand_a_reason_of_what_failed() {
    let mut history = History::of(1);
    history.claim("a", W1, 1).fail("a", W1, 1, "");
    history.breaks(Rule::S6, "no reason is given", &[failed("a", "it broke")]);
    let mut history = History::of(1);
    history.claim("a", W1, 1).fail("a", W1, 1, "it broke");
    history.is_clean(&[failed("a", "it broke")]);
    history.breaks(Rule::S6, "its record gives no reason", &[failed("a", "")]);
}

#[test]
fn s7_should_find_writes_of_a_process_that_was_replaced() {
    let newer = ("w1", 11);
    let mut history = History::of(1);
    history.claim("a", W1, 1).register(newer).complete("a", W1, 1);
    history.breaks(Rule::S7, "after 11 had registered", &[task("a", "done", &[])]);
    let mut history = History::of(1);
    history.register(newer).claim("a", W1, 1);
    history.breaks(Rule::S7, "incarnation 10 was accepted after 11", &[running("a", W1, 1)]);
    let mut history = History::of(1);
    history.died(W1).claim("a", W1, 1);
    history.breaks(Rule::S7, "had left or died", &[running("a", W1, 1)]);
    let mut history = History::of(1);
    history.claim("a", ("w3", 1), 1);
    history.breaks(Rule::S7, "never registered", &[running("a", ("w3", 1), 1)]);
    let mut history = History::of(1);
    history.register(("w1", 9));
    history.breaks(Rule::S7, "incarnations have to grow", &[task("a", "ready", &[])]);
    // What is done in the place of a lost holder is no write of his.
    let mut history = History::of(1);
    history.claim("a", W1, 1).register(newer).fail("a", W1, 1, "lost its agent 10 times; last: x");
    history.is_clean(&[failed("a", "lost its agent 10 times; last: x")]);
}

#[test]
fn overlap_should_be_found_where_a_second_holder_begins() {
    let mut history = History::of(1);
    history.claim("a", W1, 1).claim("a", W2, 2);
    history.breaks(Rule::Overlap, "w2 under epoch 2 while w1 held it", &[running("a", W2, 2)]);
}

#[test]
fn evidence_should_be_on_record_where_a_task_is_done() {
    let mut history = History::of(1);
    history.run("a", W1, 1);
    let expects = TaskState {
        expected_artifacts: vec!["a.txt".into(), "b.txt".into()],
        artifacts: vec!["a.txt".into()],
        ..task("a", "done", &[])
    };
    history.breaks(Rule::Evidence, "DONE without b.txt", std::slice::from_ref(&expects));
    let artifacts = expects.expected_artifacts.clone();
    history.is_clean(&[TaskState { artifacts, ..expects }]);
}

/// Regression, found by fuzzing: the number of tasks that a forged acceptance told
/// overflowed with the first detour into its plan.
#[test]
fn plan_of_any_size_should_be_judged_without_overflow() {
    let mut history = History::of(u64::MAX);
    let fields = [("goal", "g"), ("task", "fix"), ("to", "ready"), ("before", "a")];
    history.say("task-insert", &fields);
    let report = history.check(&[task("fix", "ready", &[])]);
    assert!(!report.is_clean(), "{report:?}");
}
