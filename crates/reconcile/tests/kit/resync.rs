//! Resync and wakes: neither starves the other, and listing may fail in any way.

use std::future::pending;
use std::time::Duration;

use crate::bench::{Doing, Key, bench, fault, none, settings, takes};
use reconcile::Settings;
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

fn many() -> Vec<Key> {
    (0..10_000).map(|n| &*format!("key-{n:05}").leak()).collect()
}

#[tokio::test(start_paused = true)]
async fn all_keys_should_be_looked_at_on_start_and_at_each_interval() {
    let settings = Settings { resync: 5 * SECOND, ..settings() };
    let keys = |_| Box::pin(async { Ok(vec!["a", "b"]) }) as _;
    let bench = bench(settings, keys, |_, _| takes(Duration::ZERO));
    let start = Instant::now();
    let _running = bench.start();
    sleep(12 * SECOND).await;
    for key in ["a", "b"] {
        let times: Vec<u64> = bench.times(key, start).iter().map(Duration::as_secs).collect();
        assert_eq!(times, [0, 5, 10]);
    }
    let snapshot = bench.stats.snapshot();
    assert_eq!((snapshot.resyncs, snapshot.resync_failures), (3, 0));
    assert!(snapshot.last_resync.unwrap() < 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn an_event_should_be_able_to_ask_for_a_resync() {
    let keys = |_| Box::pin(async { Ok(vec!["a"]) }) as _;
    let bench = bench(settings(), keys, |_, _| takes(Duration::ZERO));
    let _running = bench.start();
    bench.until(|now| now.passes == 1).await;
    for _ in 0..10 {
        bench.waker.resync();
    }
    bench.until(|now| now.passes == 2).await;
    sleep(SECOND).await;
    assert_eq!(bench.stats.snapshot().resyncs, 2);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_wakes_should_not_starve_the_resync() {
    let keys = |_| Box::pin(async { Ok(vec!["quiet-1", "quiet-2", "quiet-3"]) }) as _;
    let bench = bench(settings(), keys, |_, _| takes(SECOND));
    let flood = ["loud-1", "loud-2", "loud-3", "loud-4", "loud-5", "loud-6", "loud-7", "loud-8"];
    flood.iter().for_each(|key| bench.waker.wake(key));
    let _running = bench.start();
    for _ in 0..200 {
        sleep(Duration::from_millis(100)).await;
        flood.iter().for_each(|key| bench.waker.wake(key));
    }
    let begun = bench.begun();
    let quiet = begun.iter().filter(|key| key.starts_with("quiet")).count();
    assert_eq!(quiet, 3, "{begun:?}");
    assert!(begun.len() >= 19, "{begun:?}");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_resync_keys_should_not_delay_a_wake() {
    let keys = |_| Box::pin(async { Ok(many()) }) as _;
    let bench = bench(settings(), keys, |_, _| takes(SECOND));
    let _running = bench.start();
    bench.until(|now| now.queued > 9_000).await;
    sleep(100 * SECOND).await;
    let start = Instant::now();
    bench.waker.wake("fresh-1");
    bench.waker.wake("fresh-2");
    bench.until(|_| bench.begun().contains(&"fresh-2")).await;
    // The pass that runs, at most one resync in between, and the wakes themselves.
    assert!(start.elapsed() <= 4 * SECOND, "{:?}", start.elapsed());
    assert!(bench.stats.snapshot().queued > 9_000);
}

#[tokio::test(start_paused = true)]
async fn no_memory_should_be_held_for_keys_that_are_healthy_and_idle() {
    let keys = |_| Box::pin(async { Ok(many()) }) as _;
    let settings = Settings { workers: 8, ..settings() };
    let bench = bench(settings, keys, |_, _| takes(Duration::ZERO));
    let _running = bench.start();
    let done = bench.until(|now| now.passes == 10_000).await;
    assert_eq!((done.queued, done.in_flight, done.backing_off), (0, 0, 0));
    assert_eq!(done.oldest, None);
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_hangs_should_hinder_no_wake_and_be_tried_again() {
    let settings = Settings { pass_timeout: 10 * SECOND, ..settings() };
    let keys = |before| -> Doing<Vec<Key>> {
        Box::pin(async move { if before < 2 { pending().await } else { Ok(vec!["a"]) } })
    };
    let bench = bench(settings, keys, |_, _| takes(SECOND));
    let start = Instant::now();
    let _running = bench.start();
    sleep(SECOND).await;
    bench.waker.wake("fresh");
    bench.until(|now| now.passes == 1).await;
    assert!(start.elapsed() < 3 * SECOND);
    let snapshot = bench.until(|now| now.resyncs == 1).await;
    assert_eq!(snapshot.resync_failures, 2);
    let last = snapshot.last_error.unwrap();
    assert!(last.key.is_none() && last.text.contains("10s"), "{last:?}");
    bench.until(|now| now.passes == 2).await;
    assert_eq!(bench.begun(), ["fresh", "a"]);
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_fails_or_panics_should_back_off() {
    let keys = |before| -> Doing<Vec<Key>> {
        Box::pin(async move {
            assert!(before % 2 == 0, "odd");
            Err(fault("even"))
        })
    };
    let bench = bench(Settings { resync: SECOND, ..settings() }, keys, |_, _| takes(SECOND));
    let _running = bench.start();
    sleep(45 * SECOND).await;
    let listings = bench.seen.lock().unwrap().listings.len();
    assert!((6..=9).contains(&listings), "{listings}");
    let snapshot = bench.stats.snapshot();
    assert_eq!((snapshot.resyncs, snapshot.resync_failures), (0, listings as u64));
    assert_eq!((snapshot.passes, snapshot.failures), (0, 0));
    // Asking for one does not bypass the backoff either.
    bench.waker.resync();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(bench.seen.lock().unwrap().listings.len(), listings);
}

#[tokio::test(start_paused = true)]
async fn wakes_from_before_the_start_should_be_kept() {
    let bench = bench(settings(), none, |_, _| takes(SECOND));
    bench.waker.wake("early");
    sleep(5 * SECOND).await;
    let oldest = bench.stats.snapshot().oldest.unwrap();
    assert_eq!((oldest.key.as_str(), oldest.age), ("early", 5 * SECOND));
    let _running = bench.start();
    bench.until(|now| now.passes == 1).await;
}
