//! What is promised, by the names of the design's section 8.

use std::fmt;

use serde::Serialize;

/// A promise that a history can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Rule {
    /// Every task is in exactly one state; none is lost, the counts add up.
    S1,
    /// At most one completion is accepted per task and generation; DONE is final.
    S2,
    /// A write without the epoch of the lease in force is refused.
    S3,
    /// Epochs only grow.
    S4,
    /// A task is granted only when all its dependencies are DONE.
    S5,
    /// Attempts are bounded; then FAILED, with the reason.
    S6,
    /// Only the newest process of an agent's name can write.
    S7,
    /// One holder at a time: what the lease is for.
    #[serde(rename = "overlap")]
    Overlap,
    /// DONE only with every expected artifact on record.
    #[serde(rename = "evidence")]
    Evidence,
}

impl Rule {
    /// All rules.
    pub const ALL: [Self; 9] = [
        Self::S1,
        Self::S2,
        Self::S3,
        Self::S4,
        Self::S5,
        Self::S6,
        Self::S7,
        Self::Overlap,
        Self::Evidence,
    ];

    /// Its name, as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::S1 => "S1",
            Self::S2 => "S2",
            Self::S3 => "S3",
            Self::S4 => "S4",
            Self::S5 => "S5",
            Self::S6 => "S6",
            Self::S7 => "S7",
            Self::Overlap => "overlap",
            Self::Evidence => "evidence",
        }
    }

    /// The promise in words.
    #[must_use]
    pub const fn promise(self) -> &'static str {
        match self {
            Self::S1 => "every task is in exactly one state; none is lost, the counts add up",
            Self::S2 => "one completion is accepted per task and plan; DONE is final",
            Self::S3 => "a write without the epoch of the lease in force is refused",
            Self::S4 => "epochs only grow",
            Self::S5 => "a task is granted only when all its dependencies are DONE",
            Self::S6 => "attempts are bounded; then FAILED, with the reason",
            Self::S7 => "only the newest process of an agent's name can write",
            Self::Overlap => "a task has one holder at a time",
            Self::Evidence => "DONE only with every expected artifact on record",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
