//! Foreign code, contained: whatever it does, what comes back is a value.

use std::any::Any;
use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;

use crate::chain::error_chain;

/// An error's text is cut off beyond this: it is kept per failing key.
const LONGEST_TEXT_BYTES: usize = 4096;

/// How contained code failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Failed(Box<dyn Error + Send + Sync>),
    #[error("it panicked: {0}")]
    Panicked(String),
    #[error("it took longer than its limit of {0:?} and was dropped")]
    TimedOut(Duration),
}

impl Failure {
    /// The error and its sources, outermost first, in one bounded line of text.
    pub(crate) fn text(&self) -> String {
        let mut text = error_chain(self);
        text.truncate(text.floor_char_boundary(LONGEST_TEXT_BYTES));
        text
    }
}

/// Runs what `start` returns, for `limit` at most where there is one.
pub(crate) async fn contain<T, E, Fut>(
    limit: Option<Duration>,
    start: impl FnOnce() -> Fut,
) -> Result<T, Failure>
where
    E: Into<Box<dyn Error + Send + Sync>>,
    Fut: Future<Output = Result<T, E>>,
{
    // A block of its own: the call that makes the future, and the drop of one that
    // timed out, are foreign code too.
    let contained = async {
        match limit {
            Some(limit) => tokio::time::timeout(limit, start()).await.map_err(|_| limit),
            None => Ok(start().await),
        }
    };
    match AssertUnwindSafe(contained).catch_unwind().await {
        Ok(Ok(result)) => result.map_err(|error| Failure::Failed(error.into())),
        Ok(Err(limit)) => Err(Failure::TimedOut(limit)),
        Err(payload) => Err(Failure::Panicked(message(payload.as_ref()))),
    }
}

fn message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "with a payload that is no text".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::pending;
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("reading `x`")]
    struct Outer(#[source] io::Error);

    #[tokio::test]
    async fn text_should_name_the_whole_chain_once() {
        let start = || async { Err::<(), _>(Outer(io::Error::other("disk full"))) };
        let failure = contain(None, start).await.unwrap_err();
        assert_eq!(failure.text(), "reading `x`: disk full");
    }

    #[tokio::test]
    async fn text_should_be_bounded_within_a_character() {
        let start = || async { Err::<(), _>("x".to_owned() + &"ä".repeat(10_000)) };
        let text = contain(None, start).await.unwrap_err().text();
        assert_eq!(text.len(), LONGEST_TEXT_BYTES - 1);
    }

    #[tokio::test]
    async fn panics_should_be_contained_wherever_they_happen() {
        async fn late() -> Result<(), Infallible> {
            tokio::task::yield_now().await;
            panic!("late, with {}", 1 + 1)
        }
        assert_eq!(contain(None, late).await.unwrap_err().text(), "it panicked: late, with 2");

        fn early() -> std::future::Ready<Result<(), Infallible>> {
            panic!("early")
        }
        assert_eq!(contain(None, early).await.unwrap_err().text(), "it panicked: early");

        let odd = || async { std::panic::panic_any(7_u8) as Result<(), Infallible> };
        assert!(contain(None, odd).await.unwrap_err().text().contains("no text"));
    }

    #[tokio::test(start_paused = true)]
    async fn panic_while_a_timed_out_future_is_dropped_should_be_contained() {
        struct Mine;
        impl Drop for Mine {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        let start = || async {
            let _mine = Mine;
            pending::<Result<(), Infallible>>().await
        };
        let failure = contain(Some(Duration::from_secs(1)), start).await.unwrap_err();
        assert_eq!(failure.text(), "it panicked: dropped");
    }

    #[tokio::test(start_paused = true)]
    async fn what_hangs_should_time_out() {
        let start = || pending::<Result<(), Infallible>>();
        let failure = contain(Some(Duration::from_secs(3)), start).await.unwrap_err();
        assert!(matches!(failure, Failure::TimedOut(_)), "{failure:?}");
    }
}
