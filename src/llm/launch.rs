//! Starting a model's program: as a child of ours, or as one that systemg knows.
//!
//! Either way it sees only the variables that it is meant to see, and nothing of it is
//! left when the call is over, however it ends. A child of systemg's has neither our
//! stdin nor our folder, and systemg tells nobody its exit code: so systemg starts
//! `orch launch`, which runs the program as we would and leaves the result in a file.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use process::{Captured, Command, Ended, Exit, Identity, Signal, Status};
use providers::{Failure, FailureKind, Invocation, Request, Runner};
use serde::{Deserialize, Serialize};
use supervisor::{SpawnRequest, Supervisor};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::secrets;
use crate::systemg::Systemg;

/// How much of a program's output is kept of each stream: many times what any answer
/// should be.
const OUTPUT_BYTES: usize = 256 * 1024;
/// Between SIGTERM and SIGKILL. Short, because the orchestrator itself has but a second
/// to end everything.
pub(crate) const GRACE: Duration = Duration::from_millis(300);
/// How long `orch launch` may take to end its program and say what came of it.
const LAUNCH_GRACE: Duration = Duration::from_secs(12);
const REQUEST_FILE: &str = "launch.json";
const RESULT_FILE: &str = "result.json";

/// On whose behalf programs are started.
pub(crate) struct Launcher {
    /// Variables that pass besides those of the provider; a `*` at the end stands for
    /// any rest.
    pub(crate) environment: Vec<String>,
    /// What everything that is started carries in its environment.
    pub(crate) marker: String,
    /// Ends the program.
    pub(crate) cancel: CancellationToken,
    /// systemg, where it is to start the program, and the name to give it.
    pub(crate) systemg: Option<(Systemg, String)>,
}

/// What `orch launch` is told, in a file that only its owner can read.
#[derive(Debug, Serialize, Deserialize)]
struct Launch {
    invocation: Invocation,
    env: Vec<(String, String)>,
    marker: String,
    folder: PathBuf,
    log: PathBuf,
    timeout: Duration,
    /// Pid and start time of who asked: without it nobody wants the result.
    owner: (u32, u64),
}

/// What it says.
#[derive(Debug, Serialize, Deserialize)]
enum Launched {
    Ended { status: Said, stdout: String, stderr: String, left_out: [u64; 2], took: Duration },
    NotStarted { refused: bool, message: String },
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Said {
    Exited(i32),
    Signalled(i32),
    TimedOut,
    Cancelled,
}

impl Runner for Launcher {
    async fn run(&self, invocation: Invocation, request: &Request) -> Result<Ended, Failure> {
        let env = visible(&invocation, &self.environment);
        let owner = Identity::this().map_err(|error| failed(format!("reading /proc: {error}")))?;
        let launch = Launch {
            invocation,
            env,
            marker: self.marker.clone(),
            folder: request.folder.clone(),
            log: request.log.clone(),
            timeout: request.timeout,
            owner: (owner.pid, owner.start_time),
        };
        let mut ended = match &self.systemg {
            None => launch.run(self.cancel.clone()).await?,
            Some((systemg, name)) => self.under(systemg, name, &launch, &request.scratch).await?,
        };
        // Before anybody cuts it: half a secret is not known as one.
        for captured in [&mut ended.stdout, &mut ended.stderr] {
            captured.text = secrets::masked(std::mem::take(&mut captured.text));
        }
        Ok(ended)
    }
}

/// What of our environment the program may see, and what is set for it.
fn visible(invocation: &Invocation, more: &[String]) -> Vec<(String, String)> {
    let passes = |name: &str| {
        invocation.pass_env.iter().chain(more).any(|allowed| match allowed.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == allowed,
        })
    };
    let ours = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| passes(name));
    // What a person set comes last, and counts.
    invocation.env.iter().cloned().chain(ours).collect()
}

impl Launch {
    async fn run(self, cancel: CancellationToken) -> Result<Ended, Failure> {
        let Self { invocation, env, marker, folder, log, timeout, .. } = self;
        for (path, text) in &invocation.files {
            write_private(path, text.as_bytes())
                .map_err(|error| failed(format!("writing {}: {error}", path.display())))?;
        }
        let mut command = Command::new(&invocation.program)
            .args(&invocation.args)
            .current_dir(folder)
            .env_clear()
            .marker(agent_controller::attempt::MARKER, marker)
            .stdin(invocation.stdin.into_bytes())
            .timeout(timeout)
            .cancel(cancel)
            .grace(GRACE)
            .max_bytes(OUTPUT_BYTES)
            .log(log);
        for (name, value) in env {
            command = command.env(name, value);
        }
        Ok(command.run().await?)
    }
}

fn failed(message: String) -> Failure {
    Failure::new(FailureKind::Failed, message)
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    // What was there may be readable by others, or lead elsewhere.
    _ = std::fs::remove_file(path);
    options.write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}

impl Launcher {
    async fn under(
        &self,
        systemg: &Systemg,
        name: &str,
        launch: &Launch,
        scratch: &Path,
    ) -> Result<Ended, Failure> {
        let request = scratch.join(REQUEST_FILE);
        let result = scratch.join(RESULT_FILE);
        let text = serde_json::to_vec(launch).map_err(|error| failed(error.to_string()))?;
        write_private(&request, &text)
            .map_err(|error| failed(format!("writing {}: {error}", request.display())))?;
        let program = std::env::current_exe()
            .map_err(|error| failed(format!("finding our own program: {error}")))?;
        let mut guard = Guard { marker: &self.marker, request: &request, launcher: None };
        let args = ["launch".to_owned(), scratch.display().to_string()].to_vec();
        let spawned = systemg.spawn(&SpawnRequest { name: name.to_owned(), program, args }).await;
        let launcher = match spawned {
            Ok(launcher) => launcher,
            // It was quick.
            Err(supervisor::Error::DiedAtOnce { .. }) if result.exists() => return read(&result),
            Err(error) => return Err(failed(reconcile::error_chain(&error))),
        };
        guard.launcher = Some(launcher);
        let exit =
            Exit::watch(launcher).map_err(|error| failed(format!("watching it: {error}")))?;
        let mut exit = std::pin::pin!(exit.wait());
        tokio::select! {
            _ = &mut exit => {}
            () = self.cancel.cancelled() => end(&launcher, &mut exit, GRACE * 2).await,
            () = tokio::time::sleep(launch.timeout + LAUNCH_GRACE) => {
                end(&launcher, &mut exit, GRACE).await;
            }
        }
        if result.exists() {
            return read(&result);
        }
        let cancelled = self.cancel.is_cancelled();
        let status = if cancelled { Status::Cancelled } else { Status::Signalled(9) };
        let nothing = || Captured { text: String::new(), left_out_bytes: 0 };
        Ok(Ended { status, stdout: nothing(), stderr: nothing(), duration: launch.timeout })
    }
}

async fn end(
    launcher: &Identity,
    exit: impl Future<Output = std::io::Result<()>>,
    grace: Duration,
) {
    _ = process::signal(launcher, Signal::TERM);
    if timeout(grace, exit).await.is_err() {
        _ = process::signal(launcher, Signal::KILL);
    }
}

/// Leaves nothing of a call behind, also where it is dropped in the middle.
struct Guard<'a> {
    marker: &'a str,
    request: &'a Path,
    launcher: Option<Identity>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // One that has not read it yet ends at once.
        _ = std::fs::remove_file(self.request);
        if let Some(launcher) = &self.launcher {
            _ = process::signal(launcher, Signal::KILL);
        }
        let ours = |value: &str| value == self.marker;
        if let Err(error) = process::end_marked(agent_controller::attempt::MARKER, ours) {
            tracing::warn!(target: "runtime", %error, "A model's program may be left");
        }
    }
}

fn read(result: &Path) -> Result<Ended, Failure> {
    let failed = |message: String| Failure::new(FailureKind::Failed, message);
    let text = std::fs::read(result).map_err(|error| failed(error.to_string()))?;
    let launched = serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
    match launched {
        Launched::Ended { status, stdout, stderr, left_out, took } => Ok(Ended {
            status: match status {
                Said::Exited(code) => Status::Exited(code),
                Said::Signalled(signal) => Status::Signalled(signal),
                Said::TimedOut => Status::TimedOut,
                Said::Cancelled => Status::Cancelled,
            },
            stdout: Captured { text: stdout, left_out_bytes: left_out[0] },
            stderr: Captured { text: stderr, left_out_bytes: left_out[1] },
            duration: took,
        }),
        Launched::NotStarted { refused, message } => {
            let kind = if refused { FailureKind::Refused } else { FailureKind::Failed };
            Err(Failure::new(kind, message))
        }
    }
}

/// `orch launch`: runs what the file in `scratch` says and leaves the result beside it.
pub(crate) async fn launch(scratch: &Path) -> anyhow::Result<()> {
    let cancel = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let request = scratch.join(REQUEST_FILE);
    let text = std::fs::read(&request)?;
    // It holds secrets.
    std::fs::remove_file(&request)?;
    let launch: Launch = serde_json::from_slice(&text)?;
    let (pid, start_time) = launch.owner;
    let owner = Exit::watch(Identity { pid, start_time })?;
    let token = cancel.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = owner.wait() => {}
        }
        token.cancel();
    });
    let launched = match launch.run(cancel).await {
        Ok(ended) => Launched::from(ended),
        Err(failure) => Launched::NotStarted {
            refused: failure.kind == FailureKind::Refused,
            message: failure.message,
        },
    };
    let draft = scratch.join("result.tmp");
    write_private(&draft, &serde_json::to_vec(&launched)?)?;
    std::fs::rename(&draft, scratch.join(RESULT_FILE))?;
    Ok(())
}

impl From<Ended> for Launched {
    fn from(ended: Ended) -> Self {
        Self::Ended {
            status: match ended.status {
                Status::Exited(code) => Said::Exited(code),
                Status::Signalled(signal) => Said::Signalled(signal),
                Status::TimedOut => Said::TimedOut,
                Status::Cancelled => Said::Cancelled,
            },
            left_out: [ended.stdout.left_out_bytes, ended.stderr.left_out_bytes],
            stdout: ended.stdout.text,
            stderr: ended.stderr.text,
            took: ended.duration,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_should_see_only_what_it_may_and_what_is_set_for_it() {
        let invocation = Invocation {
            program: "model".to_owned(),
            args: Vec::new(),
            env: vec![("SET".to_owned(), "1".to_owned()), ("PATH".to_owned(), "/".to_owned())],
            pass_env: vec!["PATH".to_owned()],
            stdin: String::new(),
            files: Vec::new(),
        };
        // cargo sets these for tests.
        let env = visible(&invocation, &["CARGO_PKG_*".to_owned()]);
        let last = |name: &str| env.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        assert_eq!((last("SET"), last("CARGO_PKG_NAME")), (Some("1"), Some("sysg-orchestrator")));
        assert!(last("PATH").is_some_and(|path| path != "/"), "what a person set counts");
        assert_eq!((last("CARGO_MANIFEST_DIR"), last("HOME")), (None, None));
    }
}
