//! The stream of events during a run, also while Redis is away.

use std::time::Duration;

use store::Waiting;
use store::event::{Event, Position};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

/// How long one read waits for the first event.
const WAIT: Duration = Duration::from_secs(1);
/// Between two tries while Redis is away.
const AGAIN: Duration = Duration::from_millis(20);
/// So many reads may wait to be taken; then none is made.
const READS_KEPT: usize = 64;

type Read = Result<(Vec<Event>, Position), store::Error>;

/// Everything that happens after a position, in its order.
pub(super) struct Watch {
    reads: mpsc::Receiver<Read>,
    /// Up to where events were taken.
    position: Position,
    /// Reads on a task of its own: a read that is given up halfway would hold up the
    /// next one on the same connection. It ends with this.
    _reader: JoinSet<()>,
}

impl Watch {
    pub(super) fn from(waiting: Waiting, position: Position) -> Self {
        let (to, reads) = mpsc::channel(READS_KEPT);
        let mut reader = JoinSet::new();
        reader.spawn(read(waiting, position.clone(), to));
        Self { reads, position, _reader: reader }
    }

    /// The next events. May be given up and asked again.
    ///
    /// # Errors
    /// Where they cannot be read, for another reason than that Redis is away.
    pub(super) async fn next(&mut self) -> anyhow::Result<Vec<Event>> {
        let read = self.reads.recv().await;
        let (events, position) =
            read.ok_or_else(|| anyhow::anyhow!("nobody reads events any more"))??;
        self.position = position;
        Ok(events)
    }

    /// The next events up to `end` and perhaps some more; `None` once `end` was reached
    /// or `deadline` has passed.
    pub(super) async fn next_until(
        &mut self,
        end: &Position,
        deadline: Instant,
    ) -> anyhow::Result<Option<Vec<Event>>> {
        if place(&self.position) >= place(end) {
            return Ok(None);
        }
        timeout_at(deadline, self.next()).await.ok().transpose()
    }
}

async fn read(mut waiting: Waiting, mut position: Position, to: mpsc::Sender<Read>) {
    loop {
        let read = match waiting.events(&mut position, WAIT).await {
            Ok(events) if events.is_empty() => continue,
            Ok(events) => Ok((events, position.clone())),
            Err(error) if error.is_transient() => {
                sleep(AGAIN).await;
                continue;
            }
            Err(error) => Err(error),
        };
        let is_last = read.is_err();
        if to.send(read).await.is_err() || is_last {
            return;
        }
    }
}

/// A position as numbers, which compare as places in the stream do.
fn place(position: &Position) -> (u64, u64) {
    let (millis, number) = position.0.split_once('-').unwrap_or((&position.0, "0"));
    (millis.parse().unwrap_or(0), number.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_should_compare_as_numbers() {
        let of = |text: &str| place(&Position(text.to_owned()));
        assert!(of("99-5") < of("100-1") && of("100-2") < of("100-10"));
        assert_eq!(of("0"), (0, 0));
    }
}
