//! Histories that are cut, restored, or read while the system is at work.

use audit::{Checker, Rule};
use store::event::Event;

use crate::history::{History, W1, W2, assert_only, running, task};

fn fed(checker: &mut Checker, events: &[Event]) {
    events.iter().for_each(|event| checker.event(event));
}

#[test]
fn cut_history_should_be_judged_from_where_it_begins() {
    let mut history = History::of(3);
    history.run("a", W1, 1).run("b", W1, 2).claim("c", W2, 3).complete("c", W2, 3);
    let tasks = [task("a", "done", &[]), task("b", "done", &["a"]), task("c", "done", &["a"])];
    // From any place on: registrations, plan, grants may be missing.
    for cut in 1..history.events.len() {
        let mut checker = Checker::new();
        checker.gap();
        fed(&mut checker, &history.events[cut..]);
        let report = checker.finish(&history.state(&tasks));
        assert!(report.is_clean() && !report.complete, "{cut}: {report:#?}");
        assert!(report.summary().contains("older ones are gone"), "{}", report.summary());
    }
    // What is left is still judged.
    history.complete("c", W2, 3);
    let mut checker = Checker::new();
    checker.gap();
    fed(&mut checker, &history.events[7..]);
    let report = checker.finish(&history.state(&tasks));
    assert_only(&report, Rule::S2, "second completion");
    assert_eq!(report.unseen_tasks, 2, "{report:#?}");
}

#[test]
fn cut_history_should_still_show_a_dependency_that_was_not_done() {
    let mut history = History::of(2);
    history.claim("b", W2, 1).run("a", W1, 2).complete("b", W2, 1);
    let tasks = [task("a", "done", &[]), task("b", "done", &["a"])];
    let mut checker = Checker::new();
    checker.gap();
    fed(&mut checker, &history.events[3..]);
    assert_only(&checker.finish(&history.state(&tasks)), Rule::S5, "a was not DONE");
}

#[test]
fn gap_in_the_middle_should_raise_no_alarm() {
    let mut history = History::of(2);
    history.claim("a", W1, 1);
    let before = history.events.len();
    history.complete("a", W1, 1).register(("w1", 11));
    let after = history.events.len();
    history.run("b", ("w1", 11), 2);
    let mut checker = Checker::new();
    fed(&mut checker, &history.events[..before]);
    checker.gap();
    fed(&mut checker, &history.events[after..]);
    let report =
        checker.finish(&history.state(&[task("a", "done", &[]), task("b", "done", &["a"])]));
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!((report.gaps, report.unchecked_claims), (1, 1));
}

/// `a` is done and `w1` replaced; then Redis is back from before both, where `w1` runs `a`.
fn restored() -> (History, usize) {
    let mut history = History::of(1);
    history.leader(100).claim("a", W1, 1).complete("a", W1, 1).register(("w1", 11));
    let at = history.events.len();
    history.leader(50).complete("a", W1, 1);
    (history, at)
}

#[test]
fn restored_redis_may_undo_what_was_accepted() {
    let (history, at) = restored();
    let tasks = [task("a", "done", &[])];
    // Told by whoever restored it, and seen from the leader's epoch.
    for told in [true, false] {
        let mut checker = Checker::new();
        fed(&mut checker, &history.events[..at]);
        if told {
            checker.restored();
        }
        fed(&mut checker, &history.events[at..]);
        let report = checker.finish(&history.state(&tasks));
        assert!(report.is_clean(), "{report:#?}");
        assert_eq!((report.restores, report.complete), (1, false));
    }
    // Seen from ids that go back.
    let (mut history, at) = restored();
    history.events.remove(at);
    history.events[at].id = "1800000000000-0".to_owned();
    let report = history.is_clean(&tasks);
    assert_eq!(report.restores, 1);
    // Without a restore it is a second completion.
    let mut history = History::of(1);
    history.leader(100).run("a", W1, 1).leader(150).complete("a", W1, 1);
    history.breaks(Rule::S2, "second", &tasks);
}

#[test]
fn epochs_should_grow_across_a_restore() {
    for (epoch, is_clean) in [(7, false), (6, false), (8, true)] {
        let mut history = History::of(1);
        history.leader(100).claim("a", W1, 7).leader(50).claim("a", W2, epoch);
        let report = history.check(&[running("a", W2, epoch)]);
        assert_eq!(report.restores, 1);
        if is_clean {
            assert!(report.is_clean(), "{report:#?}");
        } else {
            assert_only(&report, Rule::S4, "epoch 7");
        }
    }
    let mut history = History::of(1);
    history.leader(100).register(("w1", 11)).leader(50).register(("w1", 11));
    history.breaks(Rule::S7, "have to grow", &[task("a", "ready", &[])]);
}

#[test]
fn what_moves_while_the_state_is_read_should_not_be_compared() {
    let mut history = History::of(2);
    history.claim("a", W1, 1);
    let read = history.events.len();
    history.complete("a", W1, 1).step("unblock", "b", "blocked", "ready");
    let feed = |checker: &mut Checker| {
        fed(checker, &history.events[..read]);
        checker.state_is_read_from_here();
        fed(checker, &history.events[read..]);
    };
    // `a` was read before it was done, `b` after that.
    let seen = [running("a", W1, 1), task("b", "ready", &["a"])];
    let mut checker = Checker::new();
    feed(&mut checker);
    let report = checker.finish(&history.state(&seen));
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!(report.moved_tasks, 2);
    // What did not move is compared.
    let mut checker = Checker::new();
    fed(&mut checker, &history.events[..read]);
    checker.state_is_read_from_here();
    let report = checker.finish(&history.state(&[task("a", "done", &[]), task("b", "ready", &[])]));
    assert_only(&report, Rule::S1, "its last event left it running");
    // A plan that changed meanwhile: nothing of it is.
    history.accept(0);
    let mut checker = Checker::new();
    fed(&mut checker, &history.events[..read]);
    checker.state_is_read_from_here();
    fed(&mut checker, &history.events[read..]);
    assert!(checker.finish(&history.state(&seen)).is_clean());
}

#[test]
fn record_that_was_begun_anew_should_be_no_violation() {
    let mut history = History::of(2);
    history.run("a", W1, 1).run("b", W1, 2);
    history.of_plan("repair", "a", ("", "blocked"), 1, &[]);
    history.step("unblock", "a", "blocked", "ready").run("a", W1, 3);
    let report = history.is_clean(&[task("a", "done", &[]), task("b", "done", &["a"])]);
    assert_eq!(report.unchecked_claims, 2);
}

#[test]
fn violations_should_be_kept_up_to_a_limit_and_counted_beyond() {
    let mut history = History::of(1);
    history.claim("a", W1, 1);
    for _ in 0..1_005 {
        history.claim("a", W1, 1);
    }
    let report = history.check(&[running("a", W1, 1)]);
    assert_eq!(report.violations.len() as u64 + report.more_violations, 2 * 1_005);
    assert_eq!(report.violations.len(), 1_000);
    assert!(report.summary().ends_with("2010 violations"), "{}", report.summary());
}
