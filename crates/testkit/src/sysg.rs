//! A real systemg for one test: its own project folder, home and supervisor.
//!
//! systemg keeps all its state beneath HOME, so a temporary HOME makes a
//! supervisor of one's own, and marks everything that it ever starts: services
//! and spawned children inherit the variable, also those that a killed
//! supervisor has lost. What wipes its environment, as redis-server does, is
//! known by its working folder, which is the project's. That is how
//! [`SysgProject`] finds and kills them all when it is dropped, whatever became
//! of the test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use process::{Identity, Signal};
use tempfile::TempDir;

use crate::wait::{DEADLINE, wait_until_blocking};

const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Where systemg is: `ORCH_TEST_SYSG`, else the project's `.tools/bin`, else
/// `PATH`.
#[must_use]
pub fn sysg_path() -> PathBuf {
    if let Some(path) = std::env::var_os("ORCH_TEST_SYSG") {
        return path.into();
    }
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/bin/sysg");
    tools.canonicalize().unwrap_or_else(|_| "sysg".into())
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Ran {
    /// Its standard output.
    ///
    /// # Panics
    /// Where it failed.
    #[must_use]
    #[track_caller]
    pub fn unwrap(self) -> String {
        assert_eq!(self.code, Some(0), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }
}

/// A project folder under systemg. All of its processes are killed on drop.
#[derive(Debug)]
pub struct SysgProject {
    folder: TempDir,
    home: TempDir,
    env: Vec<(String, String)>,
}

impl SysgProject {
    /// Makes the folder and writes `systemg.yaml` into it. Starts nothing.
    ///
    /// # Panics
    /// Where no folder can be made.
    #[must_use]
    pub fn new(manifest: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("project-").tempdir().expect("a folder");
        let home = tempfile::Builder::new().prefix("home-").tempdir().expect("a folder");
        let project = Self { folder, home, env: Vec::new() };
        project.write("systemg.yaml", manifest);
        project
    }

    /// Sets a variable for systemg and, through it, for all that it starts.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The project's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The temporary HOME.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Writes a file of the project and returns its path.
    ///
    /// # Panics
    /// Where it cannot be written.
    #[track_caller]
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, text).expect("a file of the project");
        path
    }

    /// A command that runs in the project's folder, with its HOME.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder()).env("HOME", self.home()).env("SYSTEMG_AGENT", "1");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command
    }

    /// Runs `sysg` with these arguments in the project's folder.
    ///
    /// # Panics
    /// Where it cannot be run or does not end.
    #[track_caller]
    pub fn sysg(&self, args: &[&str]) -> Ran {
        // Files, not pipes: the supervisor that it starts may keep them open.
        let said = tempfile::tempdir().expect("a folder");
        let file = |name: &str| File::create(said.path().join(name)).expect("a file");
        let mut command = self.command(sysg_path());
        let mut child = command
            .args(args)
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .expect("sysg, from cargo install systemg");
        let what = format!("sysg {} ends", args.join(" "));
        let read = |name: &str| fs::read_to_string(said.path().join(name)).unwrap_or_default();
        let status = wait_until_blocking(&what, 2 * DEADLINE, || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}, {}{}", read("stdout"), read("stderr"))),
        });
        Ran { code: status.code(), stdout: read("stdout"), stderr: read("stderr") }
    }

    /// Starts the project in the background and returns when its services run.
    ///
    /// # Panics
    /// Where systemg says that it failed.
    #[track_caller]
    pub fn start(&self) {
        let _ = self.sysg(&["start", "--daemonize"]).unwrap();
    }

    /// Stops the project's services; the supervisor stays.
    ///
    /// # Panics
    /// Where systemg says that it failed.
    #[track_caller]
    pub fn stop(&self) {
        self.stop_with(&["stop"]);
    }

    /// Stops services and supervisor.
    ///
    /// # Panics
    /// Where systemg says that it failed.
    #[track_caller]
    pub fn stop_supervisor(&self) {
        self.stop_with(&["stop", "--supervisor"]);
    }

    /// systemg 0.69 gives up a stop halfway when a process, any one on the
    /// machine, ends between its opening and its reading of that process' stat
    /// file; asked again, it goes on.
    #[track_caller]
    fn stop_with(&self, args: &[&str]) {
        let what = format!("sysg {} succeeds", args.join(" "));
        wait_until_blocking(&what, DEADLINE, || {
            let ran = self.sysg(args);
            if ran.stderr.contains("Could not read the process table") {
                return Err(ran.stderr);
            }
            let _ = ran.unwrap();
            Ok(())
        });
    }

    /// The supervisor, where one lives.
    #[must_use]
    pub fn supervisor(&self) -> Option<Identity> {
        let text = fs::read_to_string(self.home().join(".local/share/systemg/sysg.pid")).ok()?;
        let pid = text.trim().parse().ok()?;
        let identity = Identity::of(pid).expect("/proc")?;
        // The file of a supervisor that was killed stays, and its pid may be reused.
        self.processes().contains(&identity).then_some(identity)
    }

    /// What `sysg status` says, measured now.
    ///
    /// # Panics
    /// Where that is no JSON.
    #[must_use]
    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        // Its exit code tells the services' health; the output is what counts.
        let ran = self.sysg(&["status", "--live", "--format", "json"]);
        serde_json::from_str(&ran.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", ran.stdout, ran.stderr))
    }

    /// The process of a running service, by systemg's own account.
    #[must_use]
    #[track_caller]
    pub fn service(&self, name: &str) -> Option<Identity> {
        let status = self.status();
        let units = status["units"].as_array()?;
        let unit = units.iter().find(|unit| unit["name"] == name)?;
        let pid = u32::try_from(unit["process"]["pid"].as_u64()?).ok()?;
        Identity::of(pid).expect("/proc")
    }

    /// All living processes that came from this project: the supervisor,
    /// services, spawned children, and their descendants.
    ///
    /// # Panics
    /// Where `/proc` cannot be read.
    #[must_use]
    pub fn processes(&self) -> Vec<Identity> {
        let by_home = process::find_by_env("HOME", |home| Path::new(home) == self.home());
        let by_folder = process::find(|_| true).expect("/proc").into_iter().filter(|process| {
            let folder = fs::read_link(format!("/proc/{}/cwd", process.identity.pid));
            folder.is_ok_and(|at| at.starts_with(self.folder()) || at.starts_with(self.home()))
        });
        let mut found = by_home.expect("/proc");
        found.extend(by_folder.map(|process| process.identity));
        found.sort_unstable();
        found.dedup();
        found
    }
}

impl Drop for SysgProject {
    fn drop(&mut self) {
        let end = Instant::now() + DEADLINE;
        // Again and again: a supervisor may start another one before it is killed.
        loop {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            for identity in &left {
                let _ = process::signal(identity, Signal::KILL);
            }
            if Instant::now() > end {
                eprintln!("processes of {} are left: {left:?}", self.home().display());
                return;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}
