//! What to do about one lease: a pure function of what was seen of it.

use std::fmt;
use std::time::Duration;

use model::TaskId;
use model::lease::Pulse;

/// What was seen of one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Whose lease.
    pub task: TaskId,
    /// `None` where nobody holds it.
    pub held: Option<Held>,
}

/// A lease that somebody holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// What is seen of it.
    pub pulse: Pulse,
    /// How long that has stood still on our monotonic clock.
    pub silent: Duration,
}

/// What to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Nobody holds it: nothing.
    Nothing {
        /// Whose lease.
        task: TaskId,
    },
    /// It may still beat: look again when its time would be over.
    Wait {
        /// Whose lease.
        task: TaskId,
        /// As seen.
        seen: Held,
        /// When that will be.
        look_again: Duration,
    },
    /// Take the task from its holder, unless the pulse has changed since.
    Reap {
        /// Whose lease.
        task: TaskId,
        /// As seen.
        seen: Held,
        /// Why, for people.
        reason: String,
    },
}

/// What follows from `snapshot` where a holder may be silent for less than `ttl`.
#[must_use]
pub fn decide(snapshot: &Snapshot, ttl: Duration) -> Plan {
    let task = snapshot.task.clone();
    let Some(seen) = snapshot.held else { return Plan::Nothing { task } };
    match ttl.checked_sub(seen.silent).filter(|left| !left.is_zero()) {
        Some(look_again) => Plan::Wait { task, seen, look_again },
        None => {
            let reason = format!("its agent gave no sign of life for {}", short(seen.silent));
            Plan::Reap { task, seen, reason }
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing { task } => write!(f, "{task}: not held"),
            Self::Wait { task, seen, look_again } => write!(
                f,
                "{task} {}: silent for {}, look again in {}",
                seen.pulse,
                short(seen.silent),
                short(*look_again)
            ),
            Self::Reap { task, seen, reason } => write!(f, "{task} {}: reap, {reason}", seen.pulse),
        }
    }
}

/// To the millisecond, as `1.5s`.
fn short(duration: Duration) -> String {
    format!("{:?}", Duration::new(duration.as_secs(), duration.subsec_millis() * 1_000_000))
}

#[cfg(test)]
mod tests {
    use model::lease::Epoch;

    use super::*;

    const TTL: Duration = Duration::from_secs(30);

    fn plan(silent: Option<Duration>) -> String {
        let pulse = Pulse { epoch: Epoch(7), beat: 2 };
        let held = silent.map(|silent| Held { pulse, silent });
        decide(&Snapshot { task: TaskId::new("task-001").unwrap(), held }, TTL).to_string()
    }

    #[test]
    fn lease_should_be_left_alone_until_one_ttl_of_silence() {
        let ms = Duration::from_millis;
        for (silent, expected) in [
            (None, "task-001: not held"),
            (Some(ms(0)), "task-001 7:2: silent for 0ns, look again in 30s"),
            (Some(ms(12_500)), "task-001 7:2: silent for 12.5s, look again in 17.5s"),
            (Some(ms(29_999)), "task-001 7:2: silent for 29.999s, look again in 1ms"),
            (Some(TTL), "task-001 7:2: reap, its agent gave no sign of life for 30s"),
            (Some(TTL * 3), "task-001 7:2: reap, its agent gave no sign of life for 90s"),
        ] {
            assert_eq!(plan(silent), expected);
        }
    }
}
