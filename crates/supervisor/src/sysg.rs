//! systemg's client: the `sysg` program.
//!
//! Each request is one call of the program, with a timeout, in a process group
//! that is ended when it hangs. Its answer is a pid on standard output; warnings
//! (it has some for every call) go to standard error and are ignored unless it
//! fails. The present form of the request (`sysg start --parent-pid`) is used
//! where the installed one knows it, else the former one (`sysg spawn`).

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use process::{Command, Ended, Identity, Status};
use tokio::sync::OnceCell;

use crate::answer::{self, Asked};
use crate::{Error, SpawnRequest, Supervisor};

/// How long one request may take, waits for systemg's rate limit included.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait when systemg starts no more children within this second.
const RATE_PAUSE: Duration = Duration::from_millis(150);

/// How the installed program wants to be asked for a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `sysg start --parent-pid P --name N -- CMD..`
    Start,
    /// `sysg spawn --name N --parent-pid P -- CMD..`
    Spawn,
}

/// systemg, as seen by one of its services.
#[derive(Debug)]
pub struct Sysg {
    program: PathBuf,
    parent: u32,
    env: Vec<(String, String)>,
    timeout: Duration,
    form: OnceCell<Form>,
}

impl Sysg {
    /// Finds the program: the given path, or `sysg` in `PATH`. Children will be
    /// those of the calling process, which must be a service of systemg.
    ///
    /// # Errors
    /// [`Error::NotInstalled`].
    pub fn find(path: Option<&Path>) -> Result<Self, Error> {
        Self::find_in(path, env::var_os("PATH"))
    }

    fn find_in(path: Option<&Path>, folders: Option<std::ffi::OsString>) -> Result<Self, Error> {
        let folders = folders.unwrap_or_default();
        let (found, looked_for) = match path {
            Some(path) => {
                let found = is_program(path).then(|| path.to_owned());
                (found, path.display().to_string())
            }
            None => {
                let mut tried = env::split_paths(&folders).map(|folder| folder.join("sysg"));
                let looked_for = format!("`sysg` in PATH={}", folders.to_string_lossy());
                (tried.find(|path| is_program(path)), looked_for)
            }
        };
        let program = found.ok_or(Error::NotInstalled { looked_for })?;
        let parent = std::process::id();
        Ok(Self { program, parent, env: Vec::new(), timeout: TIMEOUT, form: OnceCell::new() })
    }

    /// Asks for children of another process, which must be a service or come
    /// from one.
    #[must_use]
    pub fn for_parent(mut self, pid: u32) -> Self {
        self.parent = pid;
        self
    }

    /// Sets a variable for `sysg` itself: by `HOME` it finds its supervisor.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Waits at most this long for an answer; 10 s by default.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The program that was found.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Its version, such as `0.69.2`.
    ///
    /// # Errors
    /// [`Error`], where it cannot be run or says something else.
    pub async fn version(&self) -> Result<String, Error> {
        let ended = self.run(&["--version"], "--version", self.timeout).await?;
        answer::version(&ended)
    }

    async fn form(&self) -> Result<Form, Error> {
        let probe = || async {
            let ended = self.run(&["start", "--help"], "start --help", self.timeout).await?;
            let knows = ended.stdout.text.contains("--parent-pid");
            Ok(if knows { Form::Start } else { Form::Spawn })
        };
        self.form.get_or_try_init(probe).await.copied()
    }

    async fn request(&self, request: &SpawnRequest) -> Result<Identity, Error> {
        let deadline = Instant::now() + self.timeout;
        let form = self.form().await?;
        let (parent, program) = (self.parent.to_string(), request.program.to_string_lossy());
        let mut args = match form {
            Form::Start => vec!["start", "--parent-pid", &parent, "--name", &request.name],
            Form::Spawn => vec!["spawn", "--name", &request.name, "--parent-pid", &parent],
        };
        args.extend(["--", &program]);
        args.extend(request.args.iter().map(String::as_str));
        let action = match form {
            Form::Start => "start --parent-pid",
            Form::Spawn => "spawn",
        };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let ended = self.run(&args, action, left).await?;
            match self.judge(&ended, request, action) {
                Err(Error::SpawnRate { .. }) if Instant::now() + RATE_PAUSE < deadline => {
                    tokio::time::sleep(RATE_PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    fn judge(
        &self,
        ended: &Ended,
        request: &SpawnRequest,
        action: &str,
    ) -> Result<Identity, Error> {
        let name = request.name.as_str();
        let pid = answer::child(ended, &Asked { name, parent: self.parent, action })?;
        // sysg may take seconds to tell, and we to listen: what has the pid by then may
        // be anybody's, and would be ended for not being what was started.
        let wanted: Vec<&str> = request.args.iter().map(String::as_str).collect();
        let child = process::with_pid(pid, |args| args.ends_with(&wanted));
        child
            .map(|child| child.identity)
            .ok_or_else(|| Error::DiedAtOnce { name: name.to_owned(), pid })
    }

    async fn run(&self, args: &[&str], action: &str, timeout: Duration) -> Result<Ended, Error> {
        let command = Command::new(&self.program).args(args).env("SYSTEMG_AGENT", "1");
        let command =
            self.env.iter().fold(command, |command, (name, value)| command.env(name, value));
        let ended = command.timeout(timeout).run().await;
        let ended = ended.map_err(|source| Error::Run { program: self.program.clone(), source })?;
        match ended.status {
            Status::TimedOut => {
                Err(Error::TimedOut { action: action.to_owned(), after: self.timeout })
            }
            Status::Exited(_) | Status::Signalled(_) | Status::Cancelled => Ok(ended),
        }
    }
}

impl Supervisor for Sysg {
    async fn spawn(&self, request: &SpawnRequest) -> Result<Identity, Error> {
        let began = Instant::now();
        let outcome = self.request(request).await;
        let took_ms = began.elapsed().as_millis();
        match &outcome {
            Ok(process) => tracing::debug!(name = request.name, %process, took_ms, "child started"),
            Err(error) => tracing::debug!(name = request.name, %error, took_ms, "no child started"),
        }
        outcome
    }
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysg_should_say_where_it_was_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let folders = Some(folder.path().as_os_str().to_owned());
        let error = Sysg::find_in(None, folders.clone()).unwrap_err().to_string();
        assert!(error.contains(&folder.path().display().to_string()), "{error}");
        assert!(error.contains("cargo install systemg"), "{error}");
        let path = folder.path().join("sysg");
        std::fs::write(&path, "no program: not executable").unwrap();
        assert!(matches!(Sysg::find(Some(&path)), Err(Error::NotInstalled { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(Sysg::find_in(None, folders).unwrap().program(), path);
    }
}
