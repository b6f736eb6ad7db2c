//! One attempt at one task: its shell block or a model's work, then the evidence that
//! it worked.

use std::io;
use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::TaskSpec;
use model::review::Stage;
use process::{Command, Status};
use providers::answers::Execution;
use providers::offline;
use store::Store;
use store::agent::Incarnation;
use store::task::{DetourKind, Grant};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::evidence::{self, Artifact};
use super::mind::Mind;
use crate::llm::launch::GRACE;
use crate::settings::Agent;
use crate::{paths, secrets};

/// How much of an attempt's output is kept.
const LOG_BYTES: usize = 1024 * 1024;
/// How much of the output an error quotes.
const QUOTED_BYTES: usize = 600;

/// What was done, before anybody looked at what came of it.
pub(super) enum Work {
    Block { took: Duration },
    Thought(Box<Execution>),
}

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Finished {
    /// With all evidence.
    Done {
        /// What was made, as a JSON list of `{path, bytes, sha256}`.
        artifacts: String,
        /// One line for people; empty where there is nothing to tell.
        summary: String,
    },
    /// Without.
    Failed {
        /// What a person, or the next attempt, should know.
        error: String,
        /// Whether another attempt is pointless.
        permanent: bool,
    },
    /// Not before another task is done.
    Detour(Box<SentBack>),
    /// Nothing was wrong with it, but it could not go on now.
    Held {
        /// Why.
        reason: String,
        /// Where it is this agent that could not: what it lacks.
        lacks: Option<Lack>,
    },
    /// A budget is spent.
    Parked {
        /// Which.
        reason: String,
    },
    /// We were told to stop.
    Stopped,
    /// It is no longer ours.
    Lost,
}

/// What an agent lacks for any task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lack {
    /// Its model's program is missing, or nobody is logged in.
    Model,
    /// Its disk takes no files.
    Room,
}

/// A task that is to be done before the one that was attempted goes on.
#[derive(Debug)]
pub(super) struct SentBack {
    pub(super) spec: TaskSpec,
    /// Why the one that was attempted did not get through.
    pub(super) error: String,
    pub(super) kind: DetourKind,
}

impl Finished {
    pub(super) fn failed(error: impl Into<String>) -> Self {
        Self::Failed { error: error.into(), permanent: false }
    }

    pub(super) fn held(reason: impl Into<String>) -> Self {
        Self::Held { reason: reason.into(), lacks: None }
    }

    /// The end in a word, for traces.
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::Done { .. } => "done",
            Self::Failed { .. } => "failed",
            Self::Detour(_) => "detour",
            Self::Held { .. } => "held",
            Self::Parked { .. } => "parked",
            Self::Stopped => "stopped",
            Self::Lost => "lost",
        }
    }

    /// What went wrong, where something did.
    pub(super) fn error(&self) -> Option<&str> {
        match self {
            Self::Failed { error, .. } => Some(error),
            Self::Detour(back) => Some(&back.error),
            Self::Done { .. }
            | Self::Held { .. }
            | Self::Parked { .. }
            | Self::Stopped
            | Self::Lost => None,
        }
    }
}

/// Where and as what an attempt runs.
pub(super) struct Attempt<'a> {
    pub(super) store: &'a Store,
    pub(super) settings: &'a Agent,
    pub(super) incarnation: Incarnation,
    pub(super) grant: &'a Grant,
    /// The agent's model; none where it has none.
    pub(super) mind: Option<&'a Mind>,
    /// What the agent remembers.
    pub(super) memory: &'a [String],
    /// The task is to be handed back.
    pub(super) stopped: CancellationToken,
    pub(super) began: Instant,
}

impl Attempt<'_> {
    pub(super) async fn run(&self) -> Finished {
        let ended = self.attempt().await;
        if let Finished::Failed { error, permanent: false } = ended {
            return self.rescue(error).await;
        }
        ended
    }

    async fn attempt(&self) -> Finished {
        if is_milestone(&self.grant.spec) {
            // Nothing to tell either.
            return Finished::Done { artifacts: evidence::to_json(&[]), summary: String::new() };
        }
        let folder = match self.prepare() {
            Ok(folder) => folder,
            Err(end) => return end,
        };
        let done = match (&self.grant.spec.run, self.mind) {
            (Some(block), _) => self.run_block(&folder, block).instrument(part("block")).await,
            (None, Some(mind)) => match Stage::of(&self.grant.spec) {
                Some(Stage::Qa) => return self.review(mind, &folder).await,
                Some(Stage::Integrate) | None => self.think(mind, &folder).await,
            },
            (None, None) => match offline::block(&self.grant.spec) {
                Ok(block) => self.run_block(&folder, block).instrument(part("block")).await,
                Err(refused) => {
                    return Finished::Failed { error: refused.to_string(), permanent: true };
                }
            },
        };
        let work = match done {
            Ok(work) => work,
            Err(end) => return end,
        };
        match self.evidence(&folder).instrument(part("verify")).await {
            Ok(artifacts) => self.conclude(work, &artifacts, &folder).await,
            Err(end) => end,
        }
    }

    async fn run_block(&self, folder: &Path, block: &str) -> Result<Work, Finished> {
        let began = Instant::now();
        let script = self.log().with_extension("sh");
        // From a file and not from the command line, whose length is bounded.
        if let Err(error) = std::fs::write(&script, block) {
            return Err(unusable(&format!("writing {}", script.display()), &error));
        }
        self.shell(folder, &["-eu".as_ref(), script.as_ref()], "the block").await?;
        Ok(Work::Block { took: began.elapsed() })
    }

    /// The evidence gate: what was to be made, by whoever made it.
    async fn evidence(&self, folder: &Path) -> Result<Vec<Artifact>, Finished> {
        let (place, expected) = (folder.to_owned(), self.grant.spec.expected_artifacts.clone());
        // Beside the signs of life: an artifact may be large.
        let collected = tokio::task::spawn_blocking(move || evidence::collect(&place, &expected));
        let artifacts = match collected.await {
            Ok(collected) => collected.map_err(|missing| Finished::failed(missing.to_string()))?,
            Err(error) => return Err(Finished::failed(format!("reading the artifacts: {error}"))),
        };
        for check in &self.grant.spec.verify {
            let what = format!("the check `{check}`");
            let args: [&std::ffi::OsStr; 3] = ["-eu".as_ref(), "-c".as_ref(), check.as_ref()];
            self.shell(folder, &args, &what).await?;
        }
        Ok(artifacts)
    }

    async fn conclude(&self, work: Work, artifacts: &[Artifact], folder: &Path) -> Finished {
        let names: Vec<&str> = artifacts.iter().map(|artifact| artifact.path.as_str()).collect();
        let summary = match (work, self.mind) {
            (Work::Block { took }, _) => {
                let made = if names.is_empty() {
                    String::new()
                } else {
                    format!(": {}", names.join(", "))
                };
                format!("done in {:.1} s{made}", took.as_secs_f64())
            }
            (Work::Thought(answer), Some(mind)) => {
                let summary = self.summarise(mind, &answer, &names, folder);
                match summary.instrument(part("summarise")).await {
                    Ok(summary) => summary,
                    Err(end) => return end,
                }
            }
            (Work::Thought(answer), None) => answer.notes,
        };
        Finished::Done { summary, artifacts: evidence::to_json(artifacts) }
    }

    /// The output of this attempt.
    pub(super) fn log(&self) -> PathBuf {
        let project = &self.settings.common.project;
        paths::attempt_log(project, &self.grant.task, self.grant.attempt)
    }

    /// How long a command may still take. A model's calls have a limit of their own and
    /// may wait for a slot: what they took does not count.
    fn time_left(&self) -> Duration {
        let limit = self.grant.spec.timeout();
        match self.grant.spec.run {
            Some(_) => limit.saturating_sub(self.began.elapsed()),
            None => limit,
        }
    }

    /// What everything that runs for this attempt carries in its environment.
    fn marker(&self) -> String {
        let Self { settings, incarnation, grant, .. } = self;
        let (fleet, name) = (&settings.fleet, &settings.name);
        agent_controller::attempt::value(fleet, name, *incarnation, grant.epoch)
    }

    fn prepare(&self) -> Result<PathBuf, Finished> {
        let project = &self.settings.common.project;
        let folder = self.grant.spec.folder.as_deref();
        let folder = paths::working_folder(project, &self.grant.goal, folder);
        let make = |folder: &Path| {
            std::fs::create_dir_all(folder).and_then(|()| folder.canonicalize()).map_err(|error| {
                unusable(&format!("making the folder {}", folder.display()), &error)
            })
        };
        let log = self.log();
        if let Some(logs) = log.parent() {
            make(logs)?;
        }
        // The one of an earlier life of this number goes, as after Redis lost its data.
        // A byte tells whether there is room: a folder may need none. The file stays:
        // ext4 looks long for a place where many were removed a minute ago.
        std::fs::write(&log, "\n")
            .and_then(|()| std::fs::OpenOptions::new().write(true).truncate(true).open(&log))
            .map_err(|error| unusable(&format!("writing {}", log.display()), &error))?;
        let folder = make(&folder)?;
        if !folder.starts_with(project) {
            let outside = folder.display();
            let why = format!("the working folder {outside} lies outside the project");
            return Err(Finished::failed(why));
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
            .marker(agent_controller::attempt::MARKER, self.marker())
            .timeout(self.time_left())
            .cancel(self.stopped.clone())
            .grace(GRACE)
            .max_bytes(LOG_BYTES)
            .log(self.log());
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
        let last = if ended.stderr.text.trim().is_empty() { ended.stdout } else { ended.stderr };
        // Before it is cut: half a secret is not known as one.
        let last = secrets::masked(last.text);
        Err(Finished::failed(match quote(&last) {
            "" => how,
            last => format!("{how}: {last}"),
        }))
    }
}

/// Whether a task has a block that does nothing, and nothing to show: it stands for those
/// before it, and takes neither a process nor a folder.
fn is_milestone(spec: &TaskSpec) -> bool {
    let does_nothing = |block: &String| {
        block.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#'))
    };
    spec.run.as_ref().is_some_and(does_nothing)
        && spec.expected_artifacts.is_empty()
        && spec.verify.is_empty()
}

/// How an attempt ends for which nothing could be written, and nothing was begun. Where
/// the disk takes no files that is no fault of the task, whose attempts would be used up
/// in seconds.
fn unusable(what: &str, error: &io::Error) -> Finished {
    let reason = format!("{what}: {error}");
    if [StorageFull, QuotaExceeded, ReadOnlyFilesystem].contains(&error.kind()) {
        return Finished::Held { reason, lacks: Some(Lack::Room) };
    }
    Finished::failed(reason)
}

/// The span of one step of the attempt.
fn part(name: &'static str) -> tracing::Span {
    tracing::info_span!(target: "trace", "step", otel.name = name)
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

    #[test]
    fn milestone_should_have_nothing_to_run_to_make_or_to_check() {
        let mut spec = TaskSpec::new(model::TaskId::new("all").unwrap(), "all");
        assert!(!is_milestone(&spec), "it has no block: a model's work");
        spec.run = Some("# all is there\n\n  # really\n".into());
        assert!(is_milestone(&spec));
        spec.verify = vec!["test -f x".into()];
        assert!(!is_milestone(&spec));
        spec.verify.clear();
        spec.run = Some("true # not a comment".into());
        assert!(!is_milestone(&spec));
    }
}
