//! Waiting for a condition instead of for a while.
//!
//! A test that sleeps is slow where the machine is fast and red where it is
//! slow. These look again and again, return as soon as it is so, and say at the
//! deadline what they saw last.

use std::panic::Location;
use std::time::{Duration, Instant};

/// A deadline that a loaded two-core machine meets: it is reached only by what
/// does not happen at all.
pub const DEADLINE: Duration = Duration::from_secs(30);

const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LAST_PAUSE: Duration = Duration::from_millis(50);

/// Calls `look` until it returns `Ok`, and returns that. Its error is what it
/// saw instead.
///
/// # Panics
/// At the deadline, with `what`, the place of the call and the last state seen.
#[track_caller]
pub fn wait_until<T, F>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> F,
) -> impl Future<Output = T>
where
    F: Future<Output = Result<T, String>>,
{
    let place = Location::caller();
    async move {
        // The system's clock, not tokio's: a test may have paused the latter.
        let end = Instant::now() + deadline;
        let mut seen = String::from("nothing: the first look did not return");
        let mut pause = FIRST_PAUSE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, look()).await {
                Ok(Ok(value)) => return value,
                Ok(Err(state)) => seen = state,
                Err(_) => give_up(what, deadline, place, &seen),
            }
            if Instant::now() >= end {
                give_up(what, deadline, place, &seen);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }
}

/// As [`wait_until`], for tests without a runtime.
///
/// # Panics
/// At the deadline, with `what`, the place of the call and the last state seen.
#[track_caller]
pub fn wait_until_blocking<T>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> T {
    let place = Location::caller();
    let end = Instant::now() + deadline;
    let mut pause = FIRST_PAUSE;
    loop {
        match look() {
            Ok(value) => return value,
            Err(seen) if Instant::now() >= end => give_up(what, deadline, place, &seen),
            Err(_) => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

fn give_up(what: &str, deadline: Duration, place: &Location<'_>, seen: &str) -> ! {
    panic!("{place}: not within {deadline:?}: {what}; last seen: {seen}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn wait_should_return_what_the_look_found() {
        let mut looks = 0;
        let found = wait_until("third look", DEADLINE, || {
            looks += 1;
            let now = looks;
            async move { if now == 3 { Ok(now) } else { Err(format!("look {now}")) } }
        });
        assert_eq!(found.await, 3);
    }

    #[test]
    #[should_panic(expected = "not within 20ms: never so; last seen: still not")]
    fn wait_should_tell_the_last_state_at_the_deadline() {
        let never = || Err::<(), _>("still not".to_owned());
        wait_until_blocking("never so", Duration::from_millis(20), never);
    }

    #[tokio::test]
    #[should_panic(expected = "last seen: nothing")]
    async fn wait_should_end_a_look_that_hangs() {
        let hang = || std::future::pending::<Result<(), String>>();
        wait_until("a hanging look", Duration::from_millis(20), hang).await;
    }
}
