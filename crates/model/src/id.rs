//! Identifiers: short, printable, and safe inside a Redis key, a file name and
//! a command line.
//!
//! The alphabet `[A-Za-z0-9._-]` holds no `:` (Redis keys), no `/` (paths) and
//! no white space (directives), and the names `.` and `..` are refused, so an id
//! that exists as one of these types cannot be used to reach another key or file.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest id a person may write, in bytes.
pub const MAX_ID_BYTES: usize = 64;

/// The longest stored task id, in bytes: `<goal>.<task>` where two goals use
/// the same task id.
pub const MAX_TASK_ID_BYTES: usize = 2 * MAX_ID_BYTES + 1;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing was given.
    #[error("an id must not be empty: use 1 to {MAX_ID_BYTES} of A-Z a-z 0-9 . _ -")]
    Empty,
    /// Longer than the limit.
    #[error("the id `{}…` has {bytes} bytes; at most {limit} are allowed", .start.escape_debug())]
    TooLong {
        /// Its first characters.
        start: String,
        /// Its length.
        bytes: usize,
        /// What is allowed here.
        limit: usize,
    },
    /// A character outside the alphabet.
    #[error("the id `{}` contains {character:?}: use only A-Z a-z 0-9 . _ -", .id.escape_debug())]
    Character {
        /// The id as given.
        id: String,
        /// The first offending character.
        character: char,
    },
    /// `.` or `..`, which name folders.
    #[error("the id `{0}` names a folder: use at least one letter or digit")]
    Folder(String),
}

fn check(text: &str, limit: usize) -> Result<(), Error> {
    if text.is_empty() {
        return Err(Error::Empty);
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(character) = text.chars().find(|c| !legal(*c)) {
        let id = text.chars().take(MAX_ID_BYTES).collect();
        return Err(Error::Character { id, character });
    }
    if text.len() > limit {
        let start = text.chars().take(16).collect();
        return Err(Error::TooLong { start, bytes: text.len(), limit });
    }
    if text == "." || text == ".." {
        return Err(Error::Folder(text.to_owned()));
    }
    Ok(())
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $limit:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text` and makes it an id.
            ///
            /// # Errors
            /// [`Error`] says which rule of the alphabet or the length it breaks.
            pub fn new(text: impl Into<String>) -> Result<Self, Error> {
                let text = text.into();
                check(&text, $limit)?;
                Ok(Self(text))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self, Error> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self, Error> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

id_type!(
    /// A goal, as `goal-001`.
    GoalId,
    MAX_ID_BYTES
);
id_type!(
    /// An agent's declared name, as `research_agent`.
    AgentName,
    MAX_ID_BYTES
);
id_type!(
    /// What kind of tasks an agent takes, as `analysis`.
    Role,
    MAX_ID_BYTES
);
id_type!(
    /// A task, as `task-001`, or `goal-002.task-001` where another goal had the
    /// short id first.
    TaskId,
    MAX_TASK_ID_BYTES
);

impl TaskId {
    /// Whether a person may have written this id: a stored id can be longer.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.0.len() <= MAX_ID_BYTES
    }

    /// The id under which a task is stored whose short id another goal owns.
    ///
    /// # Errors
    /// [`Error::TooLong`] where `self` is itself scoped already.
    pub fn scoped(&self, goal: &GoalId) -> Result<Self, Error> {
        Self::new(format!("{goal}.{self}"))
    }
}

impl AgentName {
    /// The role of an agent that declares none: its name without a trailing
    /// `_agent` or `-agent`.
    #[must_use]
    pub fn default_role(&self) -> Role {
        let stem = self.0.strip_suffix("_agent").or_else(|| self.0.strip_suffix("-agent"));
        match stem.map(Role::new) {
            Some(Ok(role)) => role,
            Some(Err(_)) | None => Role(self.0.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_should_refuse_what_could_reach_another_key_or_file() {
        for text in ["a:b", "a\nb", "../x", "a/b", "a b", "ä", "\0", "a*"] {
            assert!(matches!(TaskId::new(text), Err(Error::Character { .. })), "{text:?}");
        }
        assert_eq!(GoalId::new(""), Err(Error::Empty));
        assert_eq!(GoalId::new(".."), Err(Error::Folder("..".into())));
        assert!(matches!(GoalId::new("a".repeat(65)), Err(Error::TooLong { bytes: 65, .. })));
        assert!(GoalId::new("a".repeat(64)).is_ok());
    }

    #[test]
    fn id_errors_should_not_print_control_characters() {
        let error = TaskId::new("a\x1b[2Jb").unwrap_err().to_string();
        assert!(!error.contains('\x1b'), "{error:?}");
    }

    #[test]
    fn ids_should_be_checked_when_read_from_json() {
        assert!(serde_json::from_str::<TaskId>("\"a:b\"").is_err());
        assert_eq!(serde_json::from_str::<TaskId>("\"a.b\"").unwrap().as_str(), "a.b");
    }

    #[test]
    fn role_should_default_to_the_stem_of_the_name() {
        let role = |name: &str| AgentName::new(name).unwrap().default_role().to_string();
        assert_eq!(role("research_agent"), "research");
        assert_eq!(role("build-agent"), "build");
        assert_eq!(role("_agent"), "_agent");
        assert_eq!(role("worker"), "worker");
    }
}
