//! The evidence gate: what a task was to make must be there, whatever its block says.

use std::fs::File;
use std::io;
use std::path::Path;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// A file that an attempt made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Artifact {
    /// Relative to the working folder.
    pub(super) path: String,
    /// Its size; 0 for a folder.
    pub(super) bytes: u64,
    /// Its SHA-256 in hexadecimal; absent for a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<String>,
}

/// Why the evidence does not do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Missing {
    #[error("the artifact {path} was not made: it does not exist in {folder}")]
    Absent { path: String, folder: String },
    #[error("the artifact {path} does not count: it leads outside the working folder")]
    Outside { path: String },
    #[error("the artifact {path} does not count: it is neither a file nor a folder")]
    Special { path: String },
    #[error("the artifact {path} cannot be read: {error}")]
    Unreadable { path: String, error: String },
}

/// Looks for every expected artifact beneath `folder`, which is canonical.
pub(super) fn collect(folder: &Path, expected: &[String]) -> Result<Vec<Artifact>, Missing> {
    expected
        .iter()
        .map(|path| {
            let absent =
                || Missing::Absent { path: path.clone(), folder: folder.display().to_string() };
            let real = folder.join(path).canonicalize().map_err(|_| absent())?;
            if !real.starts_with(folder) {
                return Err(Missing::Outside { path: path.clone() });
            }
            let metadata = real.metadata().map_err(|_| absent())?;
            if metadata.is_dir() {
                return Ok(Artifact { path: path.clone(), bytes: 0, sha256: None });
            }
            // Reading a pipe or a device would never end.
            if !metadata.is_file() {
                return Err(Missing::Special { path: path.clone() });
            }
            let (bytes, sha256) = digest(&real).map_err(|error| Missing::Unreadable {
                path: path.clone(),
                error: error.to_string(),
            })?;
            Ok(Artifact { path: path.clone(), bytes, sha256: Some(sha256) })
        })
        .collect()
}

/// How long a file is, and its digest: both of the same bytes.
fn digest(file: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(file)?;
    let mut digest = Sha256::new();
    let mut bytes = 0;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = io::Read::read(&mut file, &mut buffer)?;
        if read == 0 {
            let text = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            return Ok((bytes, text));
        }
        digest.update(&buffer[..read]);
        bytes += read as u64;
    }
}

/// As Redis keeps them.
pub(super) fn to_json(artifacts: &[Artifact]) -> String {
    serde_json::json!(artifacts).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifact_should_exist_inside_the_folder() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().canonicalize().unwrap().join("work");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("here"), "abc").unwrap();
        std::fs::write(root.path().join("outside"), "abc").unwrap();
        std::os::unix::fs::symlink("../outside", folder.join("link")).unwrap();
        let look = |path: &str| collect(&folder, &[path.to_owned()]);
        // Of `abc`, from FIPS 180-2, appendix B.1.
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let here = Artifact { path: "here".into(), bytes: 3, sha256: Some(sha256.into()) };
        assert_eq!(look("here").unwrap(), [here]);
        rustix::fs::mkfifoat(rustix::fs::CWD, folder.join("pipe"), 0o600.into()).unwrap();
        assert!(matches!(look("pipe"), Err(Missing::Special { .. })));
        assert!(matches!(look("gone"), Err(Missing::Absent { .. })));
        assert!(matches!(look("link"), Err(Missing::Outside { .. })));
        assert!(matches!(look("../outside"), Err(Missing::Outside { .. })));
    }
}
