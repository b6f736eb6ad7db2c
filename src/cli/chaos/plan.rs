//! What a run is going to do: the command line, and what follows from it.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use process::Signal;
use serde::Serialize;

use super::schedule::{self, Kind, Planned};
use super::targets::Found;
use crate::cli::Failure;
use crate::cli::args::{Output, interval};

/// How many faults there are where nothing says how many.
const COUNT: u32 = 5;
/// The most in one run.
const MOST: u32 = 100_000;

/// Kill agents, the orchestrator, Redis or sysg, and see that all comes back
///
/// Sends signals to processes of this project on this host, one after the other, and
/// shows what follows each: how soon it was noticed, its task released and run again, all
/// as it was before. Only what the project's Redis has registered here is ever hit. Work
/// that is lost is done again, as after any crash. It begins only where all is well, asks
/// before it begins, and exits 0 only if everything came back within 30 s each time and the audit
/// (`orch audit`) found nothing wrong since.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to hit
    #[arg(long, value_enum, default_value = "agents", value_name = "WHAT")]
    kill: What,

    /// With which signal; `stop` lets it go on after --pause
    #[arg(long, value_enum, default_value = "kill", value_name = "SIGNAL")]
    signal: Word,

    /// How long a stopped process stays stopped
    #[arg(long, value_name = "SECONDS", default_value = "5s", value_parser = interval)]
    pause: Duration,

    /// Time between two faults; longer where the last one has not been mended yet
    #[arg(long, value_name = "SECONDS", default_value = "5s", value_parser = interval)]
    every: Duration,

    /// For how long to begin new faults
    #[arg(long = "for", value_name = "SECONDS", value_parser = interval, conflicts_with = "count")]
    during: Option<Duration>,

    /// How many faults [default: 5]
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST)))]
    count: Option<u32>,

    /// Chooses the faults; the same seed chooses the same ones [default: from the clock]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Show the faults and whom they would hit now, and send nothing
    #[arg(long)]
    pub(super) dry_run: bool,

    /// Begin without asking
    #[arg(long, short)]
    pub(super) yes: bool,

    #[command(flatten)]
    pub(super) output: Output,
}

/// `--kill`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Agents
    Agents,
    /// Orchestrators that lead
    Orchestrator,
    /// Redis, where it runs on this host
    Redis,
    /// The orchestrator's sysg: last and once, since only you start it again
    Sysg,
    /// All of these
    All,
}

/// `--signal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Word {
    /// SIGKILL: it ends at once
    Kill,
    /// SIGTERM: it is asked to end
    Term,
    /// SIGSTOP, and SIGCONT after the pause
    Stop,
}

/// What is done to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "&'static str")]
pub(super) enum Blow {
    Kill,
    Term,
    Stop(Duration),
}

impl Blow {
    pub(super) const fn signal(self) -> Signal {
        match self {
            Self::Kill => Signal::KILL,
            Self::Term => Signal::TERM,
            Self::Stop(_) => Signal::STOP,
        }
    }

    pub(super) const fn stops(self) -> Option<Duration> {
        match self {
            Self::Stop(pause) => Some(pause),
            Self::Kill | Self::Term => None,
        }
    }

    pub(super) const fn ends(self) -> bool {
        self.stops().is_none()
    }

    pub(super) fn says(self) -> String {
        match self {
            Self::Kill => "SIGKILL".to_owned(),
            Self::Term => "SIGTERM".to_owned(),
            Self::Stop(pause) => format!("SIGSTOP, and SIGCONT {pause:?} later"),
        }
    }
}

impl From<Blow> for &'static str {
    fn from(blow: Blow) -> Self {
        match blow {
            Blow::Kill => "kill",
            Blow::Term => "term",
            Blow::Stop(_) => "stop",
        }
    }
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(<&str>::from(*self))
    }
}

/// What a run is going to do.
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) blow: Blow,
    pub(super) every: Duration,
    /// For how long faults may begin.
    pub(super) during: Option<Duration>,
    pub(super) faults: Vec<Planned>,
}

impl Plan {
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.faults.len()).unwrap_or(MOST)
    }
}

impl Args {
    /// Refuses what makes no sense, and what would hit processes unasked.
    pub(super) fn check(&self, terminal: bool) -> Result<(), Failure> {
        if self.kill == What::Sysg && self.signal == Word::Term {
            return Err(Failure::usage(
                "sysg stops the whole project on SIGTERM, as it should: that is no fault to recover \
                 from; use --signal kill or stop",
            ));
        }
        if self.yes || self.dry_run || terminal {
            return Ok(());
        }
        Err(Failure::usage(
            "there is no terminal to ask on before processes are hit: --yes begins without asking, \
             --dry-run shows what would be hit",
        ))
    }

    pub(super) fn kinds(&self) -> Vec<Kind> {
        match self.kill {
            What::Agents => vec![Kind::Agent],
            What::Orchestrator => vec![Kind::Orchestrator],
            What::Redis => vec![Kind::Redis],
            What::Sysg => vec![Kind::Sysg],
            // Asked to end, sysg ends everything: that is no fault.
            What::All if self.signal == Word::Term => {
                vec![Kind::Agent, Kind::Orchestrator, Kind::Redis]
            }
            What::All => Kind::ALL.to_vec(),
        }
    }

    fn blow(&self) -> Blow {
        match self.signal {
            Word::Kill => Blow::Kill,
            Word::Term => Blow::Term,
            Word::Stop => Blow::Stop(self.pause),
        }
    }

    fn faults(&self) -> u32 {
        let fitting = |during: Duration| {
            let count = during.as_micros().div_ceil(self.every.as_micros().max(1));
            u32::try_from(count).unwrap_or(MOST).clamp(1, MOST)
        };
        self.count.or(self.during.map(fitting)).unwrap_or(COUNT)
    }

    pub(super) fn plan(&self, found: &Found) -> Plan {
        let seed = self.seed.unwrap_or_else(|| {
            // Short enough to be typed again.
            Timestamp::now().as_microsecond().unsigned_abs() % 1_000_000_000
        });
        let kinds: Vec<Kind> =
            self.kinds().into_iter().filter(|kind| !found.of(*kind).is_empty()).collect();
        let blow = self.blow();
        let faults = schedule::schedule(seed, &kinds, blow.ends(), self.every, self.faults());
        Plan { seed, blow, every: self.every, during: self.during, faults }
    }
}
