//! A lease: the right to run one task for a while.
//!
//! Its epoch grows with every grant, and each write of the holder names it; a
//! write with an old epoch is fenced. Its beat grows with every renewal. Who
//! watches leases compares `(epoch, beat)` over its own monotonic clock, so that
//! no wall clock decides whether a holder is alive.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which grant of a lease: `max(old + 1, Redis TIME in microseconds)`, so that
/// a Redis restored from an older file does not grant one twice.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is seen of a lease: it is alive as long as this keeps changing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pulse {
    /// The grant.
    pub epoch: Epoch,
    /// How often it was renewed.
    pub beat: u64,
}

impl fmt::Display for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.beat)
    }
}

/// A text that is not `epoch:beat`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not epoch:beat", .0.escape_debug())]
pub struct MalformedPulse(pub String);

impl FromStr for Pulse {
    type Err = MalformedPulse;
    fn from_str(text: &str) -> Result<Self, MalformedPulse> {
        let malformed = || MalformedPulse(text.to_owned());
        let (epoch, beat) = text.split_once(':').ok_or_else(malformed)?;
        let epoch = Epoch(epoch.parse().map_err(|_| malformed())?);
        let beat = beat.parse().map_err(|_| malformed())?;
        Ok(Self { epoch, beat })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulse_should_read_back() {
        let pulse = Pulse { epoch: Epoch(1_700_000_000_000_000), beat: 7 };
        assert_eq!(pulse.to_string().parse(), Ok(pulse));
        for text in ["", "1", "1:", ":1", "a:1", "1:-1", "1:2:3"] {
            assert!(text.parse::<Pulse>().is_err(), "{text:?}");
        }
    }
}
