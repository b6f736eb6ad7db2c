use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn queue() -> (Queue<&'static str>, Instant) {
    (Queue::new(Policy::default()), Instant::now())
}

fn wake(queue: &mut Queue<&'static str>, key: &'static str, now: Instant) {
    queue.wake(key, Span::none(), now);
}

fn pick(queue: &mut Queue<&'static str>, now: Instant) -> Option<(&'static str, Trigger)> {
    queue.pick(now).map(|picked| (picked.key, picked.trigger))
}

fn assert_forgotten<K: Key>(queue: &Queue<K>) {
    assert_eq!(queue.entries.len(), 0);
    assert_eq!(queue.timers.len(), 0);
    assert_eq!(queue.lanes.len(), 0);
}

#[test]
fn equal_keys_should_merge_across_both_lanes() {
    let (mut queue, now) = queue();
    queue.resync(["a", "b"], now);
    wake(&mut queue, "a", now);
    wake(&mut queue, "a", now);
    queue.resync(["a", "b"], now);
    assert_eq!(queue.gauges(now).queued, 2);
    assert_eq!(pick(&mut queue, now), Some(("a", Trigger::Wake)));
    assert_eq!(pick(&mut queue, now), Some(("b", Trigger::Resync)));
    assert_eq!(pick(&mut queue, now), None);
}

#[test]
fn wakes_during_a_pass_should_cause_exactly_one_more() {
    let (mut queue, now) = queue();
    wake(&mut queue, "a", now);
    assert!(pick(&mut queue, now).is_some());
    for _ in 0..10 {
        queue.resync(["a"], now);
        wake(&mut queue, "a", now);
    }
    assert_eq!(pick(&mut queue, now), None, "it is running");
    queue.succeeded(&"a", None, now);
    assert_eq!(pick(&mut queue, now), Some(("a", Trigger::Wake)));
    queue.succeeded(&"a", None, now);
    assert_eq!(pick(&mut queue, now), None);
    assert_forgotten(&queue);
}

#[test]
fn nothing_should_shorten_the_backoff_of_a_failing_key() {
    let (mut queue, mut now) = queue();
    wake(&mut queue, "a", now);
    for failures in 1..20 {
        assert!(pick(&mut queue, now).is_some());
        // Also not what was asked for during the pass that fails.
        wake(&mut queue, "a", now);
        let setback = queue.failed(&"a", "no", now).unwrap();
        assert_eq!((setback.failures, setback.news), (failures, failures == 1));
        wake(&mut queue, "a", now);
        queue.resync(["a"], now);
        let due = now + setback.retry_in;
        assert_eq!(queue.gauges(now).backing_off, 1);
        assert_eq!(pick(&mut queue, due - Duration::from_nanos(1)), None);
        now = due;
    }
    assert_eq!(pick(&mut queue, now), Some(("a", Trigger::Retry)));
    assert_eq!(queue.succeeded(&"a", None, now), Some(19));
    assert_forgotten(&queue);
}

#[test]
fn backoff_should_start_over_after_a_success() {
    let (mut queue, now) = queue();
    wake(&mut queue, "a", now);
    for hour in 1..10 {
        let now = now + 3600 * hour * SECOND;
        assert!(pick(&mut queue, now).is_some());
        queue.failed(&"a", "no", now);
    }
    let now = now + 36_000 * SECOND;
    assert!(pick(&mut queue, now).is_some());
    wake(&mut queue, "a", now);
    queue.succeeded(&"a", None, now);
    assert!(pick(&mut queue, now).is_some());
    let setback = queue.failed(&"a", "no", now).unwrap();
    assert!(setback.news && setback.failures == 1 && setback.retry_in < SECOND, "{setback:?}");
}

#[test]
fn a_changed_text_should_be_news() {
    let (mut queue, mut now) = queue();
    wake(&mut queue, "a", now);
    let mut news = Vec::new();
    for text in ["x", "x", "y", "y", "x", ""] {
        assert!(pick(&mut queue, now).is_some());
        let setback = queue.failed(&"a", text, now).unwrap();
        news.push(setback.news);
        now += setback.retry_in;
    }
    assert_eq!(news, [true, false, true, false, true, true]);
}

#[test]
fn a_second_look_should_be_due_in_time_and_a_wake_should_supersede_it() {
    let (mut queue, now) = queue();
    wake(&mut queue, "a", now);
    pick(&mut queue, now).unwrap();
    queue.succeeded(&"a", Some(5 * SECOND), now);
    assert_eq!(queue.next_due(), Some(now + 5 * SECOND));
    assert_eq!(pick(&mut queue, now + 4 * SECOND), None);
    assert_eq!(queue.gauges(now + 7 * SECOND).oldest, Some(("a", 2 * SECOND)));
    assert_eq!(pick(&mut queue, now + 5 * SECOND), Some(("a", Trigger::Again)));

    queue.succeeded(&"a", Some(5 * SECOND), now);
    wake(&mut queue, "a", now + SECOND);
    assert_eq!(pick(&mut queue, now + SECOND), Some(("a", Trigger::Wake)));
    assert_eq!(queue.next_due(), None);
    queue.succeeded(&"a", None, now + SECOND);
    assert_eq!(pick(&mut queue, now + 100 * SECOND), None);
    assert_forgotten(&queue);
}

#[test]
fn a_second_look_should_not_wait_behind_a_resync_and_should_not_run_twice() {
    let (mut queue, now) = queue();
    wake(&mut queue, "z", now);
    pick(&mut queue, now).unwrap();
    queue.succeeded(&"z", Some(SECOND), now);
    queue.resync(["a", "b", "z"], now);
    let due = now + SECOND;
    assert_eq!(pick(&mut queue, due), Some(("z", Trigger::Again)));
    queue.succeeded(&"z", None, due);

    // Where the resync comes first, it takes the second look's place.
    for key in ["a", "b"] {
        assert_eq!(pick(&mut queue, due), Some((key, Trigger::Resync)));
        queue.succeeded(&key, Some(SECOND), due);
    }
    queue.resync(["a", "b"], due);
    for key in ["a", "b"] {
        assert_eq!(pick(&mut queue, due), Some((key, Trigger::Resync)));
        queue.succeeded(&key, None, due);
    }
    assert_forgotten(&queue);
    assert_eq!(pick(&mut queue, due + 100 * SECOND), None);
    assert_forgotten(&queue);
}

#[test]
fn lanes_should_share_while_both_wait_and_be_first_in_first_out() {
    let (mut queue, now) = (Queue::new(Policy::default()), Instant::now());
    queue.resync(0..100, now);
    for key in 1000..1100 {
        queue.wake(key, Span::none(), now);
    }
    let order: Vec<u32> = std::iter::from_fn(|| queue.pick(now).map(|p| p.key)).collect();
    assert_eq!(order[..9], [1000, 1001, 1002, 0, 1003, 1004, 1005, 1, 1006]);
    assert_eq!(order.len(), 200);
    assert!(order.iter().filter(|key| **key >= 1000).is_sorted());
    assert!(order.iter().filter(|key| **key < 1000).is_sorted());
}

#[test]
fn oldest_should_be_the_key_that_waits_longest_for_a_success() {
    let (mut queue, start) = queue();
    let at = |seconds: u32| start + seconds * SECOND;
    assert_eq!(queue.gauges(start).oldest, None);
    wake(&mut queue, "a", start);
    wake(&mut queue, "b", at(1));
    assert_eq!(queue.gauges(at(2)).oldest, Some(("a", 2 * SECOND)));
    // Picked, woken again, failed: it still waits for its first success.
    pick(&mut queue, at(2)).unwrap();
    wake(&mut queue, "a", at(3));
    queue.failed(&"a", "no", at(4));
    assert_eq!(queue.gauges(at(5)).oldest, Some(("a", 5 * SECOND)));
    // After a success only what was asked for since its pass began counts.
    assert_eq!(pick(&mut queue, at(6)).unwrap().0, "b");
    wake(&mut queue, "b", at(7));
    assert_eq!(pick(&mut queue, at(7)).unwrap().0, "a");
    queue.succeeded(&"a", None, at(8));
    queue.succeeded(&"b", None, at(9));
    assert_eq!(queue.gauges(at(10)).oldest, Some(("b", 3 * SECOND)));
}

#[test]
fn idle_and_healthy_keys_should_cost_nothing() {
    let (mut queue, now) = (Queue::new(Policy::default()), Instant::now());
    queue.resync(0..10_000, now);
    for key in 5_000..15_000 {
        queue.wake(key, Span::none(), now);
    }
    let mut passes = 0;
    while let Some(picked) = queue.pick(now + 100 * SECOND) {
        passes += 1;
        match picked.trigger {
            Trigger::Again | Trigger::Retry => {
                queue.succeeded(&picked.key, None, now);
            }
            Trigger::Wake | Trigger::Resync if picked.key % 3 == 0 => {
                queue.failed(&picked.key, "no", now);
            }
            Trigger::Wake | Trigger::Resync if picked.key % 3 == 1 => {
                queue.succeeded(&picked.key, Some(SECOND), now);
            }
            Trigger::Wake | Trigger::Resync => {
                queue.succeeded(&picked.key, None, now);
            }
        }
    }
    assert_eq!(passes, 25_000);
    assert_forgotten(&queue);
}

#[test]
fn senseless_delays_should_not_overflow_the_clock() {
    let (mut queue, now) = queue();
    wake(&mut queue, "a", now);
    pick(&mut queue, now).unwrap();
    queue.succeeded(&"a", Some(Duration::MAX), now);
    assert_eq!(pick(&mut queue, now + 3600 * SECOND), None);
    wake(&mut queue, "a", now);
    assert!(pick(&mut queue, now).is_some());
}
