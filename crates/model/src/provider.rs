//! Which kinds of model there are.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A kind of model: who answers what a planner or an agent asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The `claude` program.
    Claude,
    /// The `codex` program.
    Codex,
    /// Any program that reads a request and writes a reply, both as JSON.
    Command,
    /// No model: pinned plans and shell blocks alone.
    Offline,
}

impl Provider {
    /// All providers.
    pub const ALL: [Self; 4] = [Self::Claude, Self::Codex, Self::Command, Self::Offline];

    /// The word in control files, in Redis and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Codex => "codex",
            Self::Command => "command",
            Self::Offline => "offline",
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no provider.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no provider: expected claude, codex, command or offline", .0.escape_debug())]
pub struct UnknownProvider(pub String);

impl FromStr for Provider {
    type Err = UnknownProvider;
    /// In any case.
    fn from_str(word: &str) -> Result<Self, UnknownProvider> {
        Self::ALL
            .into_iter()
            .find(|provider| provider.as_str().eq_ignore_ascii_case(word))
            .ok_or_else(|| UnknownProvider(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_should_read_back_in_any_case() {
        for provider in Provider::ALL {
            assert_eq!(provider.as_str().parse(), Ok(provider));
            assert_eq!(provider.as_str().to_uppercase().parse(), Ok(provider));
            assert_eq!(serde_json::to_string(&provider).unwrap(), format!("\"{provider}\""));
        }
        let error = "claud".parse::<Provider>().unwrap_err().to_string();
        assert!(Provider::ALL.iter().all(|provider| error.contains(provider.as_str())), "{error}");
    }
}
