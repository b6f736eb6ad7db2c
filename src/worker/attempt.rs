//! One attempt at one task: its shell block, then the evidence that it worked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use process::{Command, Status};
use providers::offline;
use store::agent::Incarnation;
use store::task::Grant;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::evidence;
use crate::paths;
use crate::settings::Agent;

/// How much of an attempt's output is kept.
const LOG_BYTES: usize = 1024 * 1024;
/// How much of the output an error quotes.
const QUOTED_BYTES: usize = 600;
/// Between SIGTERM and SIGKILL when an attempt is stopped or takes too long. Short,
/// because the orchestrator itself has but a second to end everything.
const GRACE: Duration = Duration::from_millis(300);

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Finished {
    /// With all evidence.
    Done {
        /// What was made, as a JSON list of `{path, bytes}`.
        artifacts: String,
        /// One line for people.
        summary: String,
    },
    /// Without.
    Failed {
        /// What a person, or the next attempt, should know.
        error: String,
        /// Whether another attempt is pointless.
        permanent: bool,
    },
    /// We were told to stop.
    Stopped,
    /// It is no longer ours.
    Lost,
}

impl Finished {
    pub(super) fn failed(error: impl Into<String>) -> Self {
        Self::Failed { error: error.into(), permanent: false }
    }
}

/// Where and as what an attempt runs.
pub(super) struct Attempt<'a> {
    settings: &'a Agent,
    grant: &'a Grant,
    marker: String,
    stopped: CancellationToken,
    deadline: Instant,
    log: PathBuf,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(
        settings: &'a Agent,
        incarnation: Incarnation,
        grant: &'a Grant,
        stopped: CancellationToken,
    ) -> Self {
        let name = &settings.name;
        Self {
            settings,
            grant,
            marker: agent_controller::attempt::value(
                &settings.fleet,
                name,
                incarnation,
                grant.epoch,
            ),
            stopped,
            deadline: Instant::now() + grant.spec.timeout(),
            log: paths::attempt_log(&settings.common.project, &grant.task, grant.attempt),
        }
    }

    pub(super) async fn run(&self) -> Finished {
        let block = match offline::block(&self.grant.spec) {
            Ok(block) => block,
            Err(refused) => {
                return Finished::Failed { error: refused.to_string(), permanent: true };
            }
        };
        let folder = match self.prepare() {
            Ok(folder) => folder,
            Err(error) => return Finished::failed(error),
        };
        let began = Instant::now();
        let script = self.log.with_extension("sh");
        // From a file and not from the command line, whose length is bounded.
        if let Err(error) = std::fs::write(&script, block) {
            return Finished::failed(format!("writing {}: {error}", script.display()));
        }
        if let Err(end) = self.shell(&folder, &["-eu".as_ref(), script.as_ref()], "the block").await
        {
            return end;
        }
        let artifacts = match evidence::collect(&folder, &self.grant.spec.expected_artifacts) {
            Ok(artifacts) => artifacts,
            Err(missing) => return Finished::failed(missing.to_string()),
        };
        for check in &self.grant.spec.verify {
            let what = format!("the check `{check}`");
            let args: [&std::ffi::OsStr; 3] = ["-eu".as_ref(), "-c".as_ref(), check.as_ref()];
            if let Err(end) = self.shell(&folder, &args, &what).await {
                return end;
            }
        }
        let names: Vec<&str> = artifacts.iter().map(|artifact| artifact.path.as_str()).collect();
        let made = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
        Finished::Done {
            summary: format!("done in {:.1} s{made}", began.elapsed().as_secs_f64()),
            artifacts: evidence::to_json(&artifacts),
        }
    }

    fn prepare(&self) -> Result<PathBuf, String> {
        let project = &self.settings.common.project;
        let folder = self.grant.spec.folder.as_deref();
        let folder = paths::working_folder(project, &self.grant.goal, folder);
        let make = |folder: &Path| {
            std::fs::create_dir_all(folder)
                .and_then(|()| folder.canonicalize())
                .map_err(|error| format!("making the folder {}: {error}", folder.display()))
        };
        if let Some(logs) = self.log.parent() {
            make(logs)?;
        }
        // Of an earlier life of this number, as after Redis lost its data.
        _ = std::fs::remove_file(&self.log);
        let folder = make(&folder)?;
        if !folder.starts_with(project) {
            let outside = folder.display();
            return Err(format!("the working folder {outside} lies outside the project"));
        }
        Ok(folder)
    }

    /// Runs `sh` with these arguments. `Err` is how the attempt ended with it.
    async fn shell(
        &self,
        folder: &Path,
        args: &[&std::ffi::OsStr],
        what: &str,
    ) -> Result<(), Finished> {
        let grant = self.grant;
        let command = Command::new("sh")
            .args(args)
            .current_dir(folder)
            .env("ORCH_PROJECT", &self.settings.common.project)
            .env("ORCH_WORKDIR", folder)
            .env("ORCH_GOAL", grant.goal.as_str())
            .env("ORCH_TASK", grant.task.as_str())
            .env("ORCH_ATTEMPT", grant.attempt.to_string())
            .env("ORCH_EPOCH", grant.epoch.to_string())
            .env("ORCH_AGENT", self.settings.name.as_str())
            .env("ORCH_INSTRUCTIONS", &self.settings.instructions)
            .env("ORCH_HEARTBEAT", &self.settings.heartbeat)
            .marker(agent_controller::attempt::MARKER, self.marker.as_str())
            .timeout(self.deadline.saturating_duration_since(Instant::now()))
            .cancel(self.stopped.clone())
            .grace(GRACE)
            .max_bytes(LOG_BYTES)
            .log(&self.log);
        let ended = match command.run().await {
            Ok(ended) => ended,
            Err(error) => return Err(Finished::failed(reconcile::error_chain(&error))),
        };
        let limit = grant.spec.timeout().as_secs();
        let how = match ended.status {
            Status::Exited(0) => return Ok(()),
            Status::Cancelled => return Err(Finished::Stopped),
            Status::Exited(code) => format!("{what} exited with {code}"),
            Status::Signalled(signal) => format!("{what} was ended by signal {signal}"),
            Status::TimedOut => format!("{what} was ended after its time limit of {limit} s"),
        };
        let last = if ended.stderr.text.trim().is_empty() { &ended.stdout } else { &ended.stderr };
        Err(Finished::failed(match quote(&last.text) {
            "" => how,
            last => format!("{how}: {last}"),
        }))
    }
}

/// The end of an output, at a character's border.
fn quote(text: &str) -> &str {
    let text = text.trim();
    let mut start = text.len().saturating_sub(QUOTED_BYTES);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quote_should_be_the_end_and_bounded() {
        assert_eq!(quote("  x \n"), "x");
        let long = "ä".repeat(QUOTED_BYTES);
        assert!(quote(&long).len() <= QUOTED_BYTES && quote(&long).ends_with('ä'));
    }
}
