//! Virtual time: the monotonic clock of all processes, and the wall clock of Redis, which
//! may jump.

use std::time::Duration;

use tokio::time::Instant;

use crate::upstream::Upstream;

/// The wall clock when a simulation begins: in January 2027.
const BEGAN_MICROS: u64 = 1_800_000_000_000_000;
/// Time moves in steps of this; no two points of time that matter lie closer.
pub(crate) const GRAIN: Duration = Duration::from_millis(10);

pub(crate) struct Clock {
    began: Instant,
    skew_micros: i64,
    upstream: Upstream,
}

impl Clock {
    pub(crate) fn new(upstream: &Upstream) -> Self {
        let clock = Self { began: Instant::now(), skew_micros: 0, upstream: upstream.clone() };
        clock.publish();
        clock
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn publish(&self) {
        let elapsed = u64::try_from(self.elapsed().as_micros()).expect("a short simulation");
        let micros = (BEGAN_MICROS + elapsed).saturating_add_signed(self.skew_micros);
        self.upstream.set_time(micros);
    }

    /// The wall clock jumps by so many seconds.
    pub(crate) fn jump(&mut self, seconds: i64) {
        self.skew_micros += seconds * 1_000_000;
        self.publish();
    }

    /// Lets time pass, rounded up to whole grains.
    pub(crate) async fn pass(&self, time: Duration) {
        let grains = time.as_micros().div_ceil(GRAIN.as_micros()).max(1);
        tokio::time::advance(GRAIN * u32::try_from(grains).expect("a short time")).await;
        self.publish();
    }
}
