//! systemg as the orchestrator uses it: looked for again until it is there, so that
//! whoever installs it late need not restart anything.

use std::path::PathBuf;
use std::sync::OnceLock;

use supervisor::{Error, Identity, SpawnRequest, Supervisor, Sysg};

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
}

impl Supervisor for Systemg {
    async fn spawn(&self, request: &SpawnRequest) -> Result<Identity, Error> {
        let sysg = match self.found.get() {
            Some(sysg) => sysg,
            None => {
                let sysg = Sysg::find(self.path.as_deref())?;
                self.found.get_or_init(|| sysg)
            }
        };
        sysg.spawn(request).await
    }
}
