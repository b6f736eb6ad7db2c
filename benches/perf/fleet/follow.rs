//! When something happens, by the bench's own clock: a connection waits for the next
//! event. A time is too long by one answer of Redis over loopback and one wake-up of this
//! process, a tenth of a millisecond, and never too short.

use std::time::{Duration, Instant};

use store::Waiting;
use store::event::{Event, Position};

use super::support::{DEADLINE, Fleet};

pub(super) struct Follow {
    waiting: Waiting,
    position: Position,
}

impl Follow {
    /// What happens from now on.
    pub(super) async fn from_now(fleet: &Fleet) -> Self {
        let waiting = fleet.store.waiting().unwrap();
        let position = fleet.store.end_of_events().await.unwrap();
        let mut follow = Self { waiting, position };
        // The connection is made by its first use.
        follow.read(Duration::from_millis(1)).await;
        follow
    }

    /// When the next `count` such events are there.
    pub(super) async fn until(
        &mut self,
        what: &str,
        count: usize,
        is_it: impl Fn(&Event) -> bool,
    ) -> Instant {
        let end = Instant::now() + 2 * DEADLINE;
        let mut seen = 0;
        while seen < count {
            assert!(Instant::now() < end, "{what}: {seen} of {count}");
            let events = self.read(Duration::from_secs(1)).await;
            seen += events.iter().filter(|event| is_it(event)).count();
        }
        Instant::now()
    }

    async fn read(&mut self, limit: Duration) -> Vec<Event> {
        self.waiting.events(&mut self.position, limit).await.unwrap()
    }
}
