//! What a systemg manifest lets a service spawn.
//!
//! systemg reports these limits nowhere, so they are read where a person wrote
//! them. A supervisor that was running when they were last changed still has the
//! old ones.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What systemg 0.69 takes where the manifest says nothing.
const DEFAULT_CHILDREN: u64 = 100;
const DEFAULT_DEPTH: u64 = 3;
const DEFAULT_DESCENDANTS: u64 = 500;

/// What a service may spawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpawnLimits {
    /// Whether it may at all (`mode: dynamic`).
    pub dynamic: bool,
    /// How many direct children.
    pub children: u64,
    /// How many generations.
    pub depth: u64,
    /// How many processes in all generations together.
    pub descendants: u64,
}

impl SpawnLimits {
    /// How many direct children it may really have.
    #[must_use]
    pub fn most_children(&self) -> u64 {
        if self.dynamic && self.depth > 0 { self.children.min(self.descendants) } else { 0 }
    }
}

/// Why the limits are not known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such file, or it may not be read.
    #[error("reading the systemg manifest {}", .path.display())]
    Read {
        /// The manifest.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no manifest.
    #[error("reading the spawn limits of {}: {message}", .path.display())]
    Parse {
        /// The manifest.
        path: PathBuf,
        /// Where and what, on one line.
        message: String,
    },
    /// It declares no such service.
    #[error("{} declares no service `{service}`", .path.display())]
    NoService {
        /// The manifest.
        path: PathBuf,
        /// The service.
        service: String,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Manifest {
    services: BTreeMap<String, Service>,
    projects: BTreeMap<String, Project>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Project {
    services: BTreeMap<String, Service>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Service {
    spawn: Spawn,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spawn {
    mode: Mode,
    limits: Limits,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Static,
    Dynamic,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Limits {
    children: Option<u64>,
    depth: Option<u64>,
    descendants: Option<u64>,
}

/// Reads what `manifest` lets `service` spawn, with systemg's defaults for what
/// it leaves out. A service of the top level comes before those of projects.
///
/// # Errors
/// [`Error`]; a manifest that is put together by `!include` is not understood.
pub fn spawn_limits(manifest: &Path, service: &str) -> Result<SpawnLimits, Error> {
    let path = || manifest.to_owned();
    let text =
        fs::read_to_string(manifest).map_err(|source| Error::Read { path: path(), source })?;
    match SpawnLimits::parse(&text, service) {
        Ok(Some(limits)) => Ok(limits),
        Ok(None) => Err(Error::NoService { path: path(), service: service.to_owned() }),
        Err(message) => Err(Error::Parse { path: path(), message }),
    }
}

impl SpawnLimits {
    /// The same from the manifest's text; `None` where it declares no such service.
    ///
    /// # Errors
    /// Where it is no manifest: where and what, on one line.
    pub fn parse(text: &str, service: &str) -> Result<Option<Self>, String> {
        let parsed: Manifest = serde_saphyr::from_str(text)
            .map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())?;
        let of_projects = parsed.projects.values().map(|project| &project.services);
        let found = std::iter::once(&parsed.services)
            .chain(of_projects)
            .find_map(|services| services.get(service));
        Ok(found.map(|found| {
            let limits = &found.spawn.limits;
            Self {
                dynamic: found.spawn.mode == Mode::Dynamic,
                children: limits.children.unwrap_or(DEFAULT_CHILDREN),
                depth: limits.depth.unwrap_or(DEFAULT_DEPTH),
                descendants: limits.descendants.unwrap_or(DEFAULT_DESCENDANTS),
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(text: &str) -> Result<SpawnLimits, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("systemg.yaml");
        fs::write(&path, text).unwrap();
        spawn_limits(&path, "orchestrator")
    }

    #[test]
    fn limits_should_be_the_declared_ones_and_defaults() {
        let found = limits(
            "version: \"2\"\nservices:\n  redis: {exec: [redis-server]}\n  orchestrator:\n    \
             exec: [./orch]\n    spawn:\n      mode: dynamic\n      limits: {children: 7}\n",
        );
        let expected = SpawnLimits { dynamic: true, children: 7, depth: 3, descendants: 500 };
        assert_eq!(found.unwrap(), expected);
        assert_eq!(expected.most_children(), 7);
        assert_eq!(SpawnLimits { descendants: 5, ..expected }.most_children(), 5);
        assert_eq!(SpawnLimits { depth: 0, ..expected }.most_children(), 0);
        let fixed = limits("services: {orchestrator: {command: ./orch}}").unwrap();
        assert_eq!((fixed.dynamic, fixed.most_children()), (false, 0));
    }

    #[test]
    fn limits_should_be_found_in_a_project() {
        let text = "projects: {p: {services: {orchestrator: {spawn: {mode: dynamic}}}}}";
        assert_eq!(limits(text).unwrap().most_children(), 100);
    }

    #[test]
    fn limits_should_say_what_is_wrong() {
        assert!(matches!(limits("services: {redis: {}}"), Err(Error::NoService { .. })));
        let error = limits("services: {orchestrator: {spawn: {mode: often}}}").unwrap_err();
        assert!(error.to_string().contains("systemg.yaml: "), "{error}");
        assert_eq!(error.to_string().lines().count(), 1);
        let missing = spawn_limits(Path::new("/no/such/systemg.yaml"), "orchestrator");
        assert!(matches!(missing, Err(Error::Read { .. })));
    }
}
