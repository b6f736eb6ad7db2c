//! What can go wrong between a caller and its state.

use redis::RedisError;

/// Why a call to the store did not give an answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Redis did not answer within the bounded retries.
    #[error("Redis did not answer when asked to {what}: is it running and reachable?")]
    Unavailable {
        /// What was attempted.
        what: &'static str,
        /// The last refusal.
        #[source]
        source: RedisError,
    },
    /// Redis answered, and does not let us in.
    #[error("Redis refused to {what}: check user, password and ACL in the Redis URL")]
    Denied {
        /// What was attempted.
        what: &'static str,
        /// Its words.
        #[source]
        source: RedisError,
    },
    /// Redis answered with an error that a retry does not mend.
    #[error("Redis could not {what}")]
    Failed {
        /// What was attempted.
        what: &'static str,
        /// Its words.
        #[source]
        source: RedisError,
    },
    /// The caller does not lead any more; nothing was changed.
    #[error("another process leads now: refused to {what}")]
    NotLeader {
        /// What was attempted.
        what: &'static str,
    },
    /// What Redis holds under a key is not what this version writes.
    #[error("{key} in Redis holds {found:?} where {expected} is expected")]
    Malformed {
        /// The key, and the field where there is one.
        key: String,
        /// What is there, shortened.
        found: String,
        /// What should be.
        expected: &'static str,
    },
    /// A task id is used by other goals in both its forms.
    #[error("the task id {id} is taken in both its forms: give the task another id")]
    IdTaken {
        /// As declared.
        id: String,
    },
    /// The plan in force changed while another was written.
    #[error("the plan of {goal} changed meanwhile: it is looked at again")]
    PlanMoved {
        /// Whose plan.
        goal: model::GoalId,
    },
    /// The server is older than the scripts need.
    #[error("Redis {found} is too old: 7.0 or newer is needed")]
    TooOld {
        /// Its version.
        found: String,
    },
    /// The server is part of a cluster.
    #[error(
        "Redis runs as a cluster, whose scripts may not compute key names: use a single server"
    )]
    Cluster,
}

impl Error {
    pub(crate) fn of(what: &'static str, source: RedisError) -> Self {
        if is_transient(&source) {
            Self::Unavailable { what, source }
        } else if is_denied(&source) {
            Self::Denied { what, source }
        } else {
            Self::Failed { what, source }
        }
    }

    pub(crate) fn malformed(key: impl Into<String>, found: &str, expected: &'static str) -> Self {
        let found = found.chars().take(80).collect();
        Self::Malformed { key: key.into(), found, expected }
    }

    /// Whether the same call may succeed later without anybody doing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::PlanMoved { .. })
    }
}

pub(crate) fn is_denied(error: &RedisError) -> bool {
    has_code(error, &["NOAUTH", "WRONGPASS", "NOPERM"])
        || error.kind() == redis::ErrorKind::AuthenticationFailed
}

/// Whether Redis said one of these words, to the command or to one of a pipeline.
fn has_code(error: &RedisError, codes: &[&str]) -> bool {
    error.code().is_some_and(|code| codes.contains(&code))
        || error
            .clone()
            .into_server_errors()
            .is_some_and(|errors| errors.iter().any(|(_, one)| codes.contains(&one.code())))
}

/// Redis gives these errors no code of their own.
pub(crate) fn has_text(error: &RedisError, text: &str) -> bool {
    error.code() == Some("ERR") && error.detail().is_some_and(|detail| detail.contains(text))
}

/// Connection lost, refused or late; or a server that is starting, failing over, or
/// without room on its disk.
pub(crate) fn is_transient(error: &RedisError) -> bool {
    if is_denied(error) {
        return false;
    }
    error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || error.is_connection_refusal()
        || has_code(
            error,
            &["LOADING", "BUSY", "TRYAGAIN", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "MISCONF"],
        )
}
