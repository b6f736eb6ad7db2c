//! What a run says: a line for each fault, a table at the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::settings::Settings;

/// A fault, or two at once, that was mended.
#[derive(Debug, Clone)]
pub(crate) struct Mended {
    /// The kinds, joined by `+`.
    pub(crate) kinds: String,
    /// From the end of the fault until all was as before.
    pub(crate) took: Duration,
    /// How much of it systemg took to start a service again.
    pub(crate) sysg: Option<Duration>,
}

/// What was counted at the end.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) done: usize,
    pub(crate) attempts: u64,
    pub(crate) completions: u64,
    pub(crate) losses: u64,
    pub(crate) failures: u64,
    pub(crate) begun: usize,
    pub(crate) ended: usize,
    pub(crate) repeated: usize,
    pub(crate) audit: String,
    pub(crate) memory: String,
}

/// How many there were; two at once are two.
pub(crate) fn faults(mended: &[Mended]) -> usize {
    mended.iter().map(|one| one.kinds.split('+').count()).sum()
}

/// The smallest time that so many in a hundred of these do not exceed; zero of none.
pub(crate) fn percentile(sorted: &[Duration], share: usize) -> Duration {
    let rank = (sorted.len() * share).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

/// The whole report.
pub(crate) fn text(
    settings: &Settings,
    took: Duration,
    mended: &[Mended],
    tally: &Tally,
) -> String {
    let mut out = String::new();
    let faults = faults(mended);
    _ = writeln!(
        out,
        "\nseed {}, appendfsync {}: {faults} faults in {:.0} s; all of them mended\n",
        settings.seed,
        settings.fsync,
        took.as_secs_f64()
    );
    let mut by_kind: BTreeMap<&str, Vec<&Mended>> = BTreeMap::new();
    for one in mended {
        let kinds = if one.kinds.contains('+') { "two at once" } else { &one.kinds };
        by_kind.entry(kinds).or_default().push(one);
    }
    let all: Vec<&Mended> = mended.iter().collect();
    _ = writeln!(
        out,
        "{:20} {:>5} {:>8} {:>8} {:>8} {:>16}",
        "ms until converged", "", "p50", "p90", "max", "systemg needed"
    );
    for (kind, of_kind) in by_kind.iter().map(|(kind, of)| (*kind, of)).chain([("all", &all)]) {
        let mut times: Vec<Duration> = of_kind.iter().map(|one| one.took).collect();
        let sysg = of_kind.iter().filter_map(|one| one.sysg).max();
        let sysg =
            sysg.map_or_else(String::new, |longest| format!("up to {}", longest.as_millis()));
        times.sort_unstable();
        let at = |share| percentile(&times, share).as_millis();
        _ = writeln!(
            out,
            "{kind:20} {:>5} {:>8} {:>8} {:>8} {sysg:>16}",
            times.len(),
            at(50),
            at(90),
            at(100)
        );
    }
    let t = tally;
    _ = writeln!(
        out,
        "\ntasks: {} of {} done; {} grants, {} completions accepted ({} undone with Redis' data), \
         {} losses, {} failures\nside effects: {} begun, {} ended, of {} tasks more than once\naudit: {}\n{}",
        t.done,
        settings.tasks,
        t.attempts,
        t.completions,
        t.completions.saturating_sub(t.done as u64),
        t.losses,
        t.failures,
        t.begun,
        t.ended,
        t.repeated,
        t.audit,
        t.memory
    );
    out
}
