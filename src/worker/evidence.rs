//! The evidence gate: what a task was to make must be there, whatever its block says.

use std::path::Path;

use serde::Serialize;

/// A file that an attempt made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Artifact {
    /// Relative to the working folder.
    pub(super) path: String,
    /// Its size; 0 for a folder.
    pub(super) bytes: u64,
}

/// Why the evidence does not do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Missing {
    #[error("the artifact {path} was not made: it does not exist in {folder}")]
    Absent { path: String, folder: String },
    #[error("the artifact {path} does not count: it leads outside the working folder")]
    Outside { path: String },
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
            let bytes = if metadata.is_file() { metadata.len() } else { 0 };
            Ok(Artifact { path: path.clone(), bytes })
        })
        .collect()
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
        assert_eq!(look("here").unwrap(), [Artifact { path: "here".into(), bytes: 3 }]);
        assert!(matches!(look("gone"), Err(Missing::Absent { .. })));
        assert!(matches!(look("link"), Err(Missing::Outside { .. })));
        assert!(matches!(look("../outside"), Err(Missing::Outside { .. })));
    }
}
