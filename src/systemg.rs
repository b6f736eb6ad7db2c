//! systemg as the orchestrator uses it: looked for again until it is there, so that
//! whoever installs it late need not restart anything.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use supervisor::{Error, Identity, SpawnRequest, Supervisor, Sysg};

/// How long a spawn may take. systemg starts ten children in a second and can be busy
/// for many seconds while it starts itself; whoever gives up early may get the child all
/// the same, and then two.
pub(crate) const SPAWN_LIMIT: Duration = Duration::from_secs(30);

/// Finds `sysg` when it is first needed.
pub(crate) struct Systemg {
    path: Option<PathBuf>,
    found: OnceLock<Sysg>,
}

impl Systemg {
    /// `path` names the program; without it, it is looked for in `PATH`.
    pub(crate) const fn new(path: Option<PathBuf>) -> Self {
        Self { path, found: OnceLock::new() }
    }

    /// The supervisor that started us has the PATH of the moment when it was itself
    /// started; where `sysg` is not in that, the supervisor's own program will do.
    fn find(&self) -> Result<Sysg, Error> {
        let missing = match (Sysg::find(self.path.as_deref()), &self.path) {
            (Err(error), None) => error,
            (found, _) => return found,
        };
        let parent = std::os::unix::process::parent_id();
        match std::fs::read_link(format!("/proc/{parent}/exe")) {
            Ok(program) if program.file_name().is_some_and(|name| name == "sysg") => {
                Sysg::find(Some(&program))
            }
            Ok(_) | Err(_) => Err(missing),
        }
    }
}

impl Supervisor for Systemg {
    async fn spawn(&self, request: &SpawnRequest) -> Result<Identity, Error> {
        let sysg = match self.found.get() {
            Some(sysg) => sysg,
            None => {
                let sysg = self.find()?.timeout(SPAWN_LIMIT);
                self.found.get_or_init(|| sysg)
            }
        };
        sysg.spawn(request).await
    }
}
