//! What the orchestrator tells `orch status` through Redis, as JSON that both sides read.
//!
//! Ages are taken when the report is made, and `at` says when that was: a process that
//! reports no more is seen by its old report, not believed. Unknown fields are ignored,
//! so that an older `orch status` reads a newer orchestrator.

use std::path::Path;
use std::time::Duration;

use control_files::{Diagnostic, read};
use jiff::Timestamp;
use reconcile::Snapshot;
use serde::{Deserialize, Serialize};
use store::lead::{Candidate, Controller};

/// How one controller stands: a value of the hash `orchestrator:controllers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ControllerReport {
    /// `agent`, `dag`, `lease` or `heartbeat`.
    pub(crate) controller: String,
    /// The process that leads for it.
    pub(crate) holder: String,
    pub(crate) pid: u32,
    pub(crate) host: String,
    /// When this was written.
    pub(crate) at: Timestamp,
    /// `new`, `running`, `restarting` or `ended`.
    pub(crate) life: String,
    /// Passes that ended, in whichever way, in this leadership term.
    pub(crate) passes: u64,
    /// Passes that failed, panics and timeouts included.
    pub(crate) failures: u64,
    pub(crate) panics: u64,
    pub(crate) timeouts: u64,
    /// How often the loop itself was restarted.
    #[serde(default)]
    pub(crate) restarts: u64,
    /// Keys that wait for a pass, have one, or back off.
    pub(crate) depth: u64,
    /// How long ago the last pass ended; absent before the first.
    pub(crate) last_pass_ms_ago: Option<u64>,
    /// What waits longest for a successful pass.
    pub(crate) oldest: Option<Oldest>,
    /// What failed last; it may have healed since.
    pub(crate) last_error: Option<LastError>,
}

/// The key that waits longest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Oldest {
    pub(crate) key: String,
    pub(crate) age_ms: u64,
}

/// A controller's last failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastError {
    /// Whose pass it was; absent for a resync or the loop itself.
    pub(crate) key: Option<String>,
    pub(crate) text: String,
    pub(crate) ms_ago: u64,
}

impl ControllerReport {
    /// What `snapshot` says of the controller that `who` leads for.
    pub(crate) fn new(controller: Controller, who: &Candidate, snapshot: &Snapshot) -> Self {
        let depth = snapshot.queued + snapshot.in_flight + snapshot.backing_off;
        Self {
            controller: controller.to_string(),
            holder: who.holder.clone(),
            pid: who.pid,
            host: who.host.clone(),
            at: Timestamp::now(),
            life: snapshot.life.to_string(),
            passes: snapshot.passes,
            failures: snapshot.failures,
            panics: snapshot.panics,
            timeouts: snapshot.timeouts,
            restarts: snapshot.restarts,
            depth: u64::try_from(depth).unwrap_or(u64::MAX),
            last_pass_ms_ago: snapshot.last_pass.map(millis),
            oldest: snapshot
                .oldest
                .as_ref()
                .map(|oldest| Oldest { key: oldest.key.clone(), age_ms: millis(oldest.age) }),
            last_error: snapshot.last_error.as_ref().map(|error| LastError {
                key: error.key.clone(),
                text: error.text.clone(),
                ms_ago: millis(error.elapsed),
            }),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A process that stands by, as [`store::Store::report_standby`] keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standby {
    pub(crate) holder: String,
    pub(crate) pid: u32,
    pub(crate) host: String,
    /// Since when it stands by.
    pub(crate) since: Timestamp,
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    Error,
    Warning,
}

/// Something that a person has to mend: one of the list `orchestrator:problems`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Problem {
    pub(crate) severity: Severity,
    /// The file, relative to the project; absent where the problem is in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    /// From 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<u32>,
    /// From 1, in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) column: Option<u32>,
    pub(crate) message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) help: Option<String>,
    /// The line itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source_line: Option<String>,
}

impl Problem {
    /// One that lies in no file.
    pub(crate) fn error(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            file: None,
            line: None,
            column: None,
            message: message.into(),
            help: None,
            source_line: None,
        }
    }

    /// A control file of the project that cannot be read.
    pub(crate) fn unreadable(project: &Path, file: &Path, error: &read::Error) -> Self {
        let file = file.strip_prefix(project).unwrap_or(file);
        let line = match error {
            read::Error::NotUtf8 { line, .. } | read::Error::Nul { line, .. } => {
                u32::try_from(*line).ok()
            }
            read::Error::NotFound(_)
            | read::Error::NotRegular { .. }
            | read::Error::TooLarge { .. }
            | read::Error::Outside { .. }
            | read::Error::NoPath { .. }
            | read::Error::Io { .. } => None,
        };
        let file = Some(file.display().to_string());
        Self { file, line, ..Self::error(reconcile::error_chain(error)) }
    }

    /// Where it lies, as editors understand it; '' where it lies nowhere.
    pub(crate) fn place(&self) -> String {
        let mut place = self.file.clone().unwrap_or_default();
        for number in [self.line, self.column].into_iter().flatten() {
            place.push_str(&format!(":{number}"));
        }
        place
    }
}

impl From<&Diagnostic> for Problem {
    fn from(found: &Diagnostic) -> Self {
        Self {
            severity: if found.is_error() { Severity::Error } else { Severity::Warning },
            file: Some(found.file.to_string_lossy().into_owned()),
            line: Some(found.line),
            column: Some(found.column),
            message: found.message.clone(),
            help: found.help.clone(),
            source_line: Some(found.source_line.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_should_read_back_and_ignore_what_it_does_not_know() {
        let stats = reconcile::Stats::new("dag");
        let who = Candidate { holder: "h".into(), pid: 7, start_time: 1, host: "box".into() };
        let report = ControllerReport::new(Controller::Dag, &who, &stats.snapshot());
        let mut json = serde_json::to_value(&report).unwrap();
        json["of_a_later_version"] = 1.into();
        assert_eq!(serde_json::from_value::<ControllerReport>(json).unwrap(), report);
    }

    #[test]
    fn diagnostic_as_stored_should_be_a_problem() {
        let stored = r#"{"severity":"warning","file":"a.md","line":3,"column":5,"length":2,
            "message":"m","help":null,"source_line":"x"}"#;
        let problem: Problem = serde_json::from_str(stored).unwrap();
        assert_eq!((problem.severity, problem.place().as_str()), (Severity::Warning, "a.md:3:5"));
        let elsewhere: Problem =
            serde_json::from_str(r#"{"severity":"error","message":"no sysg"}"#).unwrap();
        assert_eq!((elsewhere.place(), elsewhere), (String::new(), Problem::error("no sysg")));
    }
}
