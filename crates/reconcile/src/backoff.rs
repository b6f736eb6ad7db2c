//! How long to wait after a failure: doubling, with jitter, forgiven by health.
//!
//! The crate `backoff` is used in this file only, behind [`Policy`] and [`Backoff`],
//! so that changing it is a change to one file. Nothing here reads a clock: who
//! asks says how long things had been well.

use std::time::Duration;

use ::backoff::backoff::Backoff as _;
use ::backoff::{ExponentialBackoff, ExponentialBackoffBuilder};

/// A delay is up to this share shorter or longer than its step, so that things
/// which failed together do not all come back together.
const JITTER: f64 = 0.2;

/// No step is shorter, whatever a policy says: a failure must not become a busy loop.
const SHORTEST_STEP: Duration = Duration::from_millis(1);

/// How delays grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The first failure is retried without any delay; the steps begin with the second.
    pub at_once: bool,
    /// The first step; each further one is twice as long.
    pub first: Duration,
    /// No delay is longer, jitter included.
    pub max: Duration,
    /// Who had been well for so long before it failed starts over with the first step.
    pub reset_after: Duration,
}

impl Policy {
    /// The same, but the first failure is retried without any delay.
    #[must_use]
    pub const fn at_once(self) -> Self {
        Self { at_once: true, ..self }
    }
}

impl Default for Policy {
    /// 0.25 s doubling to 60 s, reset after 60 s of health.
    fn default() -> Self {
        Self {
            at_once: false,
            first: Duration::from_millis(250),
            max: Duration::from_secs(60),
            reset_after: Duration::from_secs(60),
        }
    }
}

/// The failures of one thing, and the delay that they earn it.
#[derive(Debug, Clone)]
pub struct Backoff {
    policy: Policy,
    failures: u32,
    delays: ExponentialBackoff,
}

impl Backoff {
    /// No failures so far.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        // The last step is below `max`, so that its jitter reaches up to it: cutting
        // off at `max` would put half of all delays onto the same point.
        let last = policy.max.div_f64(1.0 + JITTER).max(SHORTEST_STEP);
        let delays = ExponentialBackoffBuilder::new()
            .with_initial_interval(policy.first.clamp(SHORTEST_STEP, last))
            .with_max_interval(last)
            .with_multiplier(2.0)
            // Ours is added below: theirs cannot be seeded.
            .with_randomization_factor(0.0)
            .with_max_elapsed_time(None)
            .build();
        Self { policy, failures: 0, delays }
    }

    /// It failed after it had been well for `healthy_for` (zero where it never was
    /// or nobody knows): how long to wait before the next attempt.
    pub fn failed(&mut self, healthy_for: Duration) -> Duration {
        self.healthy(healthy_for);
        self.failures = self.failures.saturating_add(1);
        if self.policy.at_once && self.failures == 1 {
            return Duration::ZERO;
        }
        let longest = self.policy.max.max(SHORTEST_STEP);
        let share = 1.0 + JITTER * (2.0 * fastrand::f64() - 1.0);
        let shifted = self.delays.next_backoff().map(|delay| delay.as_secs_f64() * share);
        let shifted = shifted.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        shifted.map_or(longest, |delay| delay.min(longest))
    }

    /// It has been well for `healthy_for` by now: forgives its failures if that is long enough.
    pub fn healthy(&mut self, healthy_for: Duration) {
        if !healthy_for.is_zero() && healthy_for >= self.policy.reset_after {
            self.reset();
        }
    }

    /// Forgives all failures.
    pub fn reset(&mut self) {
        self.failures = 0;
        self.delays.reset();
    }

    /// How often it failed since it was last forgiven.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER_WELL: Duration = Duration::ZERO;

    fn assert_step(delay: Duration, step_ms: f64) {
        let ms = delay.as_secs_f64() * 1000.0;
        assert!(ms >= step_ms * 0.8 - 0.001 && ms <= step_ms * 1.2 + 0.001, "{ms} for {step_ms}");
    }

    #[test]
    fn delays_should_double_up_to_the_longest() {
        let mut backoff = Backoff::new(Policy::default());
        for step in [250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 16000.0, 32000.0] {
            assert_step(backoff.failed(NEVER_WELL), step);
        }
        for _ in 0..1000 {
            let delay = backoff.failed(NEVER_WELL);
            assert_step(delay, 50_000.0);
            assert!(delay <= Duration::from_secs(60));
        }
        assert_eq!(backoff.failures(), 1008);
    }

    #[test]
    fn delays_should_differ_from_each_other() {
        let first = |_| Backoff::new(Policy::default()).failed(NEVER_WELL);
        let delays: std::collections::BTreeSet<_> = (0..100).map(first).collect();
        assert!(delays.len() > 50, "{delays:?}");
    }

    #[test]
    fn first_failure_should_be_retried_at_once_where_the_policy_says_so() {
        let mut backoff = Backoff::new(Policy::default().at_once());
        for _ in 0..2 {
            assert_eq!(backoff.failed(NEVER_WELL), Duration::ZERO);
            assert_step(backoff.failed(NEVER_WELL), 250.0);
            assert_step(backoff.failed(NEVER_WELL), 500.0);
            backoff.reset();
        }
    }

    #[test]
    fn failures_should_be_forgiven_after_long_health_only() {
        let mut backoff = Backoff::new(Policy::default());
        backoff.failed(NEVER_WELL);
        backoff.failed(NEVER_WELL);
        assert_step(backoff.failed(Duration::from_secs(59)), 1000.0);
        assert_step(backoff.failed(Duration::from_secs(60)), 250.0);
        assert_eq!(backoff.failures(), 1);
        backoff.healthy(Duration::from_secs(59));
        assert_eq!(backoff.failures(), 1);
        backoff.healthy(Duration::from_secs(60));
        assert_eq!(backoff.failures(), 0);
    }

    #[test]
    fn senseless_policies_should_neither_spin_nor_overflow() {
        let (zero, max) = (Duration::ZERO, Duration::MAX);
        for (first, longest) in [(zero, zero), (zero, max), (max, zero), (max, max)] {
            let policy = Policy { at_once: false, first, max: longest, reset_after: zero };
            let mut backoff = Backoff::new(policy);
            for _ in 0..200 {
                let delay = backoff.failed(NEVER_WELL);
                assert!(delay >= SHORTEST_STEP.mul_f64(0.8), "{delay:?} under {policy:?}");
            }
        }
    }
}
