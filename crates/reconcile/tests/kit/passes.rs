//! How passes are run: merged, one at a time per key, contained, backed off.

use std::sync::Arc;
use std::time::Duration;

use crate::bench::{bench, fault, none, settings, takes};
use reconcile::{Error, Life, Outcome, Policy, Settings, supervise};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn equal_wakes_should_merge_into_one_pass() {
    let bench = bench(settings(), none, |_, _| takes(SECOND));
    for _ in 0..100 {
        bench.waker.wake("a");
        bench.waker.clone().wake("b");
    }
    assert_eq!(bench.stats.snapshot().queued, 2);
    let _running = bench.start();
    sleep(100 * SECOND).await;
    assert_eq!(bench.begun(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn wakes_during_a_pass_should_cause_exactly_one_more_after_it() {
    let bench = bench(Settings { workers: 8, ..settings() }, none, |_, _| takes(10 * SECOND));
    let start = Instant::now();
    let _running = bench.start();
    bench.waker.wake("a");
    for _ in 0..5 {
        sleep(SECOND).await;
        bench.waker.wake("a");
    }
    sleep(100 * SECOND).await;
    let times = bench.times("a", start);
    assert_eq!(times.len(), 2, "{times:?}");
    assert!(times[1] >= 10 * SECOND, "{times:?}");
    assert!(!bench.seen.lock().unwrap().overlapped);
}

#[tokio::test(start_paused = true)]
async fn different_keys_should_run_together_up_to_the_number_of_workers() {
    let bench = bench(Settings { workers: 3, ..settings() }, none, |_, _| takes(SECOND));
    for key in ["a", "b", "c", "d", "e", "f", "g"] {
        bench.waker.wake(key);
    }
    let _running = bench.start();
    bench.until(|now| now.in_flight == 3 && now.queued == 4).await;
    bench.until(|now| now.passes == 7).await;
    assert_eq!(bench.seen.lock().unwrap().most_at_a_time, 3);
}

#[tokio::test(start_paused = true)]
async fn no_workers_should_count_as_one() {
    let bench = bench(Settings { workers: 0, ..settings() }, none, |_, _| takes(SECOND));
    bench.waker.wake("a");
    let _running = bench.start();
    bench.until(|now| now.passes == 1).await;
}

#[tokio::test(start_paused = true)]
async fn wakes_should_not_bypass_the_backoff_of_a_failing_key() {
    let pass = |_, _| Box::pin(async { Err(fault("no")) }) as _;
    let bench = bench(settings(), none, pass);
    let start = Instant::now();
    let _running = bench.start();
    // 0.25 s doubling with a fifth of jitter: at most nine passes begin within 45 s.
    while start.elapsed() < 45 * SECOND {
        bench.waker.wake("a");
        sleep(Duration::from_millis(5)).await;
    }
    let times = bench.times("a", start);
    assert!((6..=9).contains(&times.len()), "{times:?}");
    let snapshot = bench.stats.snapshot();
    assert_eq!((snapshot.backing_off, snapshot.failures), (1, times.len() as u64));
    let oldest = snapshot.oldest.unwrap();
    assert!(oldest.key == "a" && oldest.age >= 44 * SECOND, "{oldest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_success_should_reset_the_backoff() {
    let pass = |_, before| {
        Box::pin(async move { if before == 8 { Ok(Outcome::acted()) } else { Err(fault("no")) } })
            as _
    };
    let bench = bench(settings(), none, pass);
    let _running = bench.start();
    bench.waker.wake("a");
    let healed = bench.until(|now| now.acted == 1).await;
    assert_eq!((healed.failures, healed.backing_off, healed.oldest), (8, 0, None));
    let start = Instant::now();
    bench.waker.wake("a");
    bench.until(|now| now.failures == 10).await;
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_failing_key_should_not_hinder_others() {
    let pass = |key, _| {
        Box::pin(
            async move { if key == "bad" { Err(fault("no")) } else { Ok(Outcome::unchanged()) } },
        ) as _
    };
    let bench = bench(settings(), none, pass);
    let _running = bench.start();
    bench.waker.wake("bad");
    bench.until(|now| now.backing_off == 1).await;
    let start = Instant::now();
    bench.waker.wake("good");
    bench.until(|now| now.passes > now.failures).await;
    assert!(start.elapsed() < SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_pass_should_be_able_to_ask_for_a_second_look() {
    let pass = |_, before| {
        Box::pin(async move {
            let outcome = Outcome::unchanged();
            Ok(if before < 3 { outcome.again_after(7 * SECOND) } else { outcome })
        }) as _
    };
    let bench = bench(settings(), none, pass);
    let start = Instant::now();
    let _running = bench.start();
    bench.waker.wake("a");
    sleep(10 * SECOND).await;
    // This wake takes the place of the look that is due at 14 s.
    bench.waker.wake("a");
    sleep(100 * SECOND).await;
    let times: Vec<u64> = bench.times("a", start).iter().map(Duration::as_secs).collect();
    assert_eq!(times, [0, 7, 10, 17]);
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_takes_too_long_should_be_dropped_and_count_as_failure() {
    let settings = Settings { pass_timeout: 3 * SECOND, ..settings() };
    let pass = |_, before| takes(if before == 0 { 1000 * SECOND } else { SECOND });
    let bench = bench(settings, none, pass);
    let _running = bench.start();
    bench.waker.wake("a");
    let snapshot = bench.until(|now| now.failures == 1).await;
    assert_eq!((snapshot.timeouts, snapshot.backing_off), (1, 1));
    assert!(snapshot.last_error.unwrap().text.contains("3s"));
    assert!(bench.seen.lock().unwrap().running.is_empty());
    bench.until(|now| now.passes == 2 && now.backing_off == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_should_be_a_failure_of_its_key_alone() {
    let pass = |key, before| {
        Box::pin(async move {
            sleep(SECOND).await;
            if key == "bad" && before == 0 {
                panic!("no {key} today");
            }
            Ok(Outcome::unchanged())
        }) as _
    };
    let bench = bench(Settings { workers: 2, ..settings() }, none, pass);
    let _running = bench.start();
    bench.waker.wake("bad");
    bench.waker.wake("good");
    let snapshot = bench.until(|now| now.passes == 2).await;
    assert_eq!((snapshot.panics, snapshot.failures), (1, 1));
    let last = snapshot.last_error.unwrap();
    assert_eq!(last.key.as_deref(), Some("bad"));
    assert_eq!(last.text, "it panicked: no bad today");
    let healed = bench.until(|now| now.passes == 3).await;
    assert_eq!((healed.failures, healed.backing_off), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_last_error_should_name_its_key_and_its_sources() {
    let pass = |_, _| {
        Box::pin(async {
            let source = Some(std::io::Error::other("disk full"));
            Err(crate::bench::Fault { text: "writing `x`".to_owned(), source })
        }) as _
    };
    let bench = bench(settings(), none, pass);
    let _running = bench.start();
    bench.waker.wake("a");
    let last = bench.until(|now| now.failures == 1).await.last_error.unwrap();
    assert_eq!((last.key.as_deref(), last.text.as_str()), (Some("a"), "writing `x`: disk full"));
}

#[tokio::test(start_paused = true)]
async fn cancel_should_let_passes_finish_and_start_no_more() {
    let bench = bench(Settings { workers: 2, ..settings() }, none, |_, _| takes(10 * SECOND));
    for key in ["a", "b", "c"] {
        bench.waker.wake(key);
    }
    let start = Instant::now();
    let running = bench.start();
    bench.until(|now| now.in_flight == 2).await;
    bench.cancel.cancel();
    running.await.unwrap();
    assert!((10 * SECOND..11 * SECOND).contains(&start.elapsed()));
    assert_eq!(bench.seen.lock().unwrap().ended, ["a", "b"]);
    let snapshot = bench.stats.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.queued), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn cancel_should_wait_no_longer_than_a_pass_may_take() {
    let settings = Settings { pass_timeout: 5 * SECOND, ..settings() };
    let bench = bench(settings, none, |_, _| takes(1000 * SECOND));
    bench.waker.wake("a");
    let running = bench.start();
    bench.until(|now| now.in_flight == 1).await;
    let start = Instant::now();
    bench.cancel.cancel();
    running.await.unwrap();
    assert!(start.elapsed() <= 5 * SECOND, "{:?}", start.elapsed());
}

/// Real threads and real time: its own timeout cannot drop a pass that never awaits.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cancel_should_not_wait_for_a_pass_that_blocks_its_thread() {
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Arc::new(std::sync::Mutex::new(blocked));
    let pass = move |_, _| {
        let blocked = Arc::clone(&blocked);
        Box::pin(async move {
            let _ = blocked.lock().unwrap().recv();
            Ok(Outcome::unchanged())
        }) as _
    };
    let settings = Settings { pass_timeout: Duration::from_millis(100), ..settings() };
    let bench = bench(settings, none, pass);
    bench.waker.wake("a");
    let running = bench.start();
    bench.until(|now| now.in_flight == 1).await;
    bench.cancel.cancel();
    let ended = tokio::time::timeout(60 * SECOND, running).await;
    drop(release);
    assert!(ended.is_ok(), "it waited for the pass");
}

#[tokio::test(start_paused = true)]
async fn a_controller_should_run_once_at_a_time_and_again_after_it_was_dropped() {
    let bench = bench(settings(), none, |_, before| {
        takes(if before == 0 { 1000 * SECOND } else { SECOND })
    });
    bench.waker.wake("a");
    let running = bench.start();
    bench.until(|now| now.in_flight == 1).await;
    let second = bench.controller.run(bench.cancel.clone()).await;
    assert!(matches!(second, Err(Error::AlreadyRunning { name: "scripted" })), "{second:?}");

    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    let _running = bench.start();
    bench.until(|now| now.passes == 1 && now.in_flight == 0).await;
    let seen = bench.seen.lock().unwrap();
    assert_eq!((seen.begun.len(), seen.ended.len(), seen.overlapped), (2, 1, false));
}

#[tokio::test(start_paused = true)]
async fn a_controller_should_run_under_supervision() {
    let bench = bench(settings(), none, |_, _| takes(SECOND));
    bench.waker.wake("a");
    let supervised = tokio::spawn({
        let (controller, stats) = (Arc::clone(&bench.controller), bench.stats.clone());
        let cancel = bench.cancel.clone();
        async move {
            let start = || controller.run(cancel.clone());
            supervise(&stats, Policy::default(), &cancel, start).await;
        }
    });
    bench.until(|now| now.passes == 1 && now.life == Life::Running).await;
    bench.cancel.cancel();
    supervised.await.unwrap();
    assert_eq!(bench.stats.snapshot().life, Life::Ended);
}

/// Real threads and real time: whatever the interleaving, no key overlaps and the
/// last wake of each key is followed by a pass that began after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_interleaving_should_overlap_a_key_or_lose_its_last_wake() {
    const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    let pass = |_, before| {
        Box::pin(async move {
            tokio::task::yield_now().await;
            match before % 50 {
                3 => Err(fault("now and then")),
                5 => Ok(Outcome::acted().again_after(Duration::ZERO)),
                _ => Ok(Outcome::unchanged()),
            }
        }) as _
    };
    let millisecond = Duration::from_millis(1);
    let backoff = Policy { first: millisecond, max: 4 * millisecond, ..Policy::default() };
    let settings = Settings { workers: 4, resync: 10 * millisecond, backoff, ..settings() };
    let bench = bench(settings, |_| Box::pin(async { Ok(KEYS.to_vec()) }), pass);
    let running = bench.start();
    let wakers = (0..4).map(|_| {
        let waker = bench.waker.clone();
        tokio::spawn(async move {
            for round in 0..3000 {
                waker.wake(KEYS[round % KEYS.len()]);
                tokio::task::yield_now().await;
            }
        })
    });
    futures::future::join_all(wakers).await;
    let last = Instant::now();
    KEYS.iter().for_each(|key| bench.waker.wake(key));
    let looked_at = || {
        let seen = bench.seen.lock().unwrap();
        KEYS.iter().all(|key| seen.begun.iter().rev().any(|(k, at)| k == key && *at >= last))
    };
    while !looked_at() {
        assert!(last.elapsed() < 60 * SECOND, "{:?}", bench.stats.snapshot());
        sleep(millisecond).await;
    }
    bench.cancel.cancel();
    running.await.unwrap();
    let seen = bench.seen.lock().unwrap();
    assert!(!seen.overlapped);
    assert_eq!(bench.stats.snapshot().passes, seen.begun.len() as u64);
}
