//! Running a program that ends when we say, and leaves nothing behind.
//!
//! The child leads its own process group and is killed by the kernel when the
//! thread that started it ends. Its output is read all the time and kept within
//! a bound, so it neither blocks nor fills memory or disk. However the run ends
//! (by itself, timeout, cancellation, or the future is dropped), the whole group
//! is ended, and so is whoever left it but still carries the marker.
//!
//! The leader is not waited for until its group is empty: an unwaited pid
//! cannot be given to another process, so a signal to the group cannot hit
//! strangers.
//!
//! Two limits are the caller's to know. The parent-death signal belongs to the
//! *thread* that started the child: call [`Command::run`] on one that lives as
//! long as the process, such as the main thread with a `current_thread`
//! runtime. And when we are killed by SIGKILL, only the leader dies with us;
//! [`crate::end_marked`] finds the rest.

use std::ffi::{OsStr, OsString};
use std::io::{self, PipeWriter};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, ChildStdin};
use tokio_util::sync::CancellationToken;

use crate::capture::{Capture, Captured, Log};
use crate::group::Group;
use crate::identity::{Stat, to_pid};
use crate::unsafe_calls::die_with_parent;
use crate::watch::Exit;

/// How much of the output may be on its way. Programs that write without blocking and
/// end by exit(2), as those of Node.js do, lose what does not fit.
const PIPE_BYTES: usize = 1024 * 1024;
/// Default of [`Command::grace`].
const GRACE: Duration = Duration::from_secs(2);
/// Default of [`Command::max_bytes`].
const MAX_BYTES: usize = 256 * 1024;
/// How long the rest of the output may take once nobody of the group lives:
/// only one who escaped the group *and* the marker can still hold the pipe.
const DRAIN_WAIT: Duration = Duration::from_secs(1);
/// Pause between two looks at a group that is ending.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Bytes per read: a pipe's capacity.
const READ_BYTES: usize = 64 * 1024;

/// Why a program could not be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It did not start.
    #[error(
        "starting `{program}`{}: check that the program is installed and executable and the \
         folder exists", in_folder(.folder.as_ref())
    )]
    Start {
        /// As given.
        program: String,
        /// Where it should have run; none is our own folder.
        folder: Option<PathBuf>,
        /// What the system said.
        source: io::Error,
    },
    /// Its output has nowhere to go.
    #[error("opening the output log {}: check the folder and its permissions", .path.display())]
    Log {
        /// The log.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its end could not be observed.
    #[error("watching `{program}`: it was ended; check the limit of open files and /proc")]
    Watch {
        /// As given.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// Something of it is still there.
    #[error("ending what `{program}` left behind")]
    End {
        /// As given.
        program: String,
        /// What the system said.
        source: io::Error,
    },
}

fn in_folder(folder: Option<&PathBuf>) -> String {
    folder.map(|folder| format!(" in {}", folder.display())).unwrap_or_default()
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// By itself, with this exit code.
    Exited(i32),
    /// By a signal that was not ours.
    Signalled(i32),
    /// We ended it: it ran longer than its timeout.
    TimedOut,
    /// We ended it: the token was cancelled.
    Cancelled,
}

impl Status {
    /// Exit code 0.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Exited(0))
    }
}

/// A run that is over; nothing of it lives.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: Status,
    /// Its standard output.
    pub stdout: Captured,
    /// Its standard error.
    pub stderr: Captured,
    /// From the start until nothing of it was left.
    pub duration: Duration,
}

/// A program to run. By default: our environment and folder, no input, no
/// timeout, no log.
#[derive(Debug, Clone)]
pub struct Command {
    program: OsString,
    args: Vec<OsString>,
    folder: Option<PathBuf>,
    clear_env: bool,
    env: Vec<(OsString, OsString)>,
    marker: Option<(String, String)>,
    stdin: Option<Vec<u8>>,
    timeout: Option<Duration>,
    cancel: CancellationToken,
    grace: Duration,
    max_bytes: usize,
    log: Option<PathBuf>,
}

impl Command {
    /// Runs `program`, looked up in `PATH` where it holds no `/`.
    #[must_use]
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            folder: None,
            clear_env: false,
            env: Vec::new(),
            marker: None,
            stdin: None,
            timeout: None,
            cancel: CancellationToken::new(),
            grace: GRACE,
            max_bytes: MAX_BYTES,
            log: None,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Runs in this folder.
    #[must_use]
    pub fn current_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Starts from an empty environment instead of ours.
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.clear_env = true;
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable that only this run has: whoever still
    /// carries it at the end is killed, also outside the process group.
    #[must_use]
    pub fn marker(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.marker = Some((name.into(), value.into()));
        self
    }

    /// Writes this to its standard input and closes it; otherwise it is empty.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Ends the run after this time.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Ends the run when `token` is cancelled.
    #[must_use]
    pub fn cancel(mut self, token: CancellationToken) -> Self {
        self.cancel = token;
        self
    }

    /// Time between SIGTERM and SIGKILL when we end it; 2 s by default.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How much is kept of each of standard output, standard error and the log;
    /// 256 KiB by default. A log that lost something is longer by one line.
    #[must_use]
    pub fn max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Appends both streams, in the order of their arrival, to this file as
    /// they come. Past the limit the file is cut back to its first half and the
    /// most recent output, again and again, so a reader who follows it must be
    /// prepared to see it shrink.
    #[must_use]
    pub fn log(mut self, path: impl Into<PathBuf>) -> Self {
        self.log = Some(path.into());
        self
    }

    /// Starts the program, waits for its end and ends what is left of it. When
    /// the future is dropped, all of it is killed at once.
    ///
    /// # Errors
    /// [`Error`]; a program that starts and fails is no error.
    pub async fn run(self) -> Result<Ended, Error> {
        let began = Instant::now();
        let program = self.program.to_string_lossy().into_owned();
        let mut output = Output::open(&self)?;
        let (mut child, stdout, stderr) = self.start()?;
        let watch_error = |source| Error::Watch { program: program.clone(), source };
        let leader = child
            .id()
            .and_then(to_pid)
            .ok_or_else(|| watch_error(io::Error::other("the child has no process id")))?;
        // Declared after `child`, hence dropped before it: see the module's text.
        let mut guard = Guard(Some(Group { leader, since: 0, marker: self.marker.clone() }));
        // Not waited for, so that it is there, at least as a zombie.
        let stat = child.id().map(Stat::read).transpose().map_err(watch_error)?.flatten();
        if let (Some(group), Some(stat)) = (&mut guard.0, stat) {
            group.since = stat.start_time;
        }
        let exit = Exit::of_pid(leader).map_err(watch_error)?;

        let cause = {
            let input = feed(child.stdin.take(), self.stdin.as_deref());
            let output = output.drain(Some(stdout), Some(stderr));
            let mut pump = std::pin::pin!(async { tokio::join!(input, output) });
            let mut end = std::pin::pin!(self.end(&exit, &guard));
            let mut pumped = false;
            let cause = loop {
                tokio::select! {
                    cause = &mut end => break cause.map_err(watch_error)?,
                    _ = &mut pump, if !pumped => pumped = true,
                }
            };
            guard.end().await.map_err(|source| Error::End { program: program.clone(), source })?;
            if !pumped && tokio::time::timeout(DRAIN_WAIT, pump).await.is_err() {
                tracing::warn!(program, "output still held open by an escaped process");
            }
            cause
        };
        guard.0 = None;
        let exit_status = child.wait().await.map_err(watch_error)?;
        let status = cause.unwrap_or_else(|| status_of(exit_status));
        let (stdout, stderr) = output.finish();
        Ok(Ended { status, stdout, stderr, duration: began.elapsed() })
    }

    fn start(&self) -> Result<(Child, Receiver, Receiver), Error> {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(&self.args).process_group(0).kill_on_drop(true);
        command.stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        if self.clear_env {
            command.env_clear();
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some((name, value)) = &self.marker {
            command.env(name, value);
        }
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        die_with_parent(&mut command);
        let start = || {
            let ((stdout, out), (stderr, err)) = (pipe()?, pipe()?);
            // Our ends of what it writes to are closed with the command.
            let child = command.stdout(out).stderr(err).spawn()?;
            drop(command);
            Ok((child, stdout, stderr))
        };
        start().map_err(|source| Error::Start {
            program: self.program.to_string_lossy().into_owned(),
            folder: self.folder.clone(),
            source,
        })
    }

    /// Waits until the leader has ended. Where that was our doing, says why.
    async fn end(&self, exit: &Exit, guard: &Guard) -> io::Result<Option<Status>> {
        let timeout = async {
            match self.timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        let cause = tokio::select! {
            biased;
            ended = exit.ended() => return ended.map(|()| None),
            () = self.cancel.cancelled() => Status::Cancelled,
            () = timeout => Status::TimedOut,
        };
        if let Some(group) = &guard.0 {
            group.signal(Signal::TERM);
            let polite = async {
                exit.ended().await?;
                while !group.members()?.is_empty() {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Ok::<(), io::Error>(())
            };
            if let Ok(ended) = tokio::time::timeout(self.grace, polite).await {
                ended?;
            }
        }
        Ok(Some(cause))
    }
}

fn status_of(status: ExitStatus) -> Status {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => Status::Exited(code),
        (None, Some(signal)) => Status::Signalled(signal),
        // wait(2) reports an end as one of the two; 0 is no signal.
        (None, None) => Status::Signalled(0),
    }
}

/// A pipe for a child to write to, as wide as the system lets it be: for an ordinary
/// user there is a sum of all pipes, and beyond it each stays as it was.
fn pipe() -> io::Result<(Receiver, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    _ = rustix::pipe::fcntl_setpipe_size(&writer, PIPE_BYTES);
    Ok((Receiver::from_owned_fd(reader.into())?, writer))
}

/// Kills the group when the run is given up halfway.
struct Guard(Option<Group>);

impl Guard {
    /// Ends the group and what left it, beside the runtime's thread: the scan
    /// may take some milliseconds in which leases have to be renewed.
    async fn end(&self) -> io::Result<usize> {
        let Some(group) = self.0.clone() else {
            return Ok(0);
        };
        tokio::task::spawn_blocking(move || group.end()).await.map_err(io::Error::other)?
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(group) = &self.0 {
            group.end_now();
        }
    }
}

/// Where the two streams go.
struct Output {
    stdout: Capture,
    stderr: Capture,
    log: Option<Log>,
}

impl Output {
    fn open(command: &Command) -> Result<Self, Error> {
        let open = |path: &PathBuf| {
            Log::open(path, command.max_bytes)
                .map_err(|source| Error::Log { path: path.clone(), source })
        };
        Ok(Self {
            stdout: Capture::new(command.max_bytes),
            stderr: Capture::new(command.max_bytes),
            log: command.log.as_ref().map(open).transpose()?,
        })
    }

    async fn drain(
        &mut self,
        mut stdout: Option<impl AsyncRead + Unpin>,
        mut stderr: Option<impl AsyncRead + Unpin>,
    ) {
        let (mut out_bytes, mut err_bytes) = (vec![0; READ_BYTES], vec![0; READ_BYTES]);
        while stdout.is_some() || stderr.is_some() {
            let (bytes, capture) = tokio::select! {
                count = read(&mut stdout, &mut out_bytes) => (&out_bytes[..count], &mut self.stdout),
                count = read(&mut stderr, &mut err_bytes) => (&err_bytes[..count], &mut self.stderr),
            };
            capture.push(bytes);
            if let Some(log) = &mut self.log {
                log.push(bytes);
            }
        }
    }

    fn finish(self) -> (Captured, Captured) {
        if let Some(log) = self.log {
            log.finish();
        }
        (self.stdout.into_captured(), self.stderr.into_captured())
    }
}

/// A program may end without reading its input: a broken pipe is no failure.
async fn feed(stdin: Option<ChildStdin>, input: Option<&[u8]>) {
    if let (Some(mut stdin), Some(input)) = (stdin, input) {
        let _ = stdin.write_all(input).await;
    }
}

/// Reads once; at the end of the stream, forgets it. Never completes without one.
async fn read(stream: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> usize {
    let Some(open) = stream else {
        return std::future::pending().await;
    };
    // An error (there is none for pipes but EINTR, which tokio repeats) ends it too.
    let count = open.read(buffer).await.unwrap_or(0);
    if count == 0 {
        *stream = None;
    }
    count
}
