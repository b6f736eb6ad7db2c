//! How long, how much, and by which seed; the defaults are those of CI.

use std::str::FromStr;
use std::time::Duration;

use crate::kind::Kind;

/// A run as it was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Chooses the plan, the faults and how Redis keeps its data.
    pub(crate) seed: u64,
    /// For how long to begin new faults, with one plan.
    pub(crate) during: Duration,
    /// Not fewer than so many, however long that takes.
    pub(crate) faults: usize,
    /// For how long to begin new plans; one in any case.
    pub(crate) whole: Duration,
    pub(crate) tasks: usize,
    pub(crate) agents: usize,
    /// `always` or `everysec`.
    pub(crate) fsync: &'static str,
    /// Only these kinds of faults; all where empty.
    pub(crate) only: Vec<Kind>,
}

impl Settings {
    /// From `ORCH_CHAOS_SEED`, `_SECONDS`, `_FAULTS`, `_HOURS`, `_TASKS`, `_AGENTS` and `_ONLY` (kinds of
    /// faults, separated by commas).
    pub(crate) fn from_env() -> Self {
        let seed = number("ORCH_CHAOS_SEED", 1);
        Self {
            seed,
            during: Duration::from_secs(number("ORCH_CHAOS_SECONDS", 60)),
            faults: number("ORCH_CHAOS_FAULTS", 0),
            whole: Duration::from_secs_f64(3_600.0 * number("ORCH_CHAOS_HOURS", 0.0)),
            tasks: number("ORCH_CHAOS_TASKS", 250),
            agents: number("ORCH_CHAOS_AGENTS", 8),
            fsync: if seed.is_multiple_of(2) { "everysec" } else { "always" },
            only: kinds(&text("ORCH_CHAOS_ONLY")),
        }
    }
}

fn text(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn number<T: FromStr>(name: &str, default: T) -> T {
    match text(name).trim() {
        "" => default,
        given => given.parse().unwrap_or_else(|_| panic!("{name} is `{given}`: not a number")),
    }
}

fn kinds(list: &str) -> Vec<Kind> {
    let words = list.split(',').map(str::trim).filter(|word| !word.is_empty());
    words
        .map(|word| {
            let found = Kind::ALL.iter().find(|kind| kind.as_str() == word);
            *found.unwrap_or_else(|| panic!("ORCH_CHAOS_ONLY: `{word}` is no kind of fault"))
        })
        .collect()
}
