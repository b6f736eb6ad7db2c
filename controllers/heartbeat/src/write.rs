//! Writing a file of answers: whole or not at all, beneath the project, and only
//! when it differs.
//!
//! The folder is opened once and everything happens relative to it, so that a link
//! that is changed between the check and the write changes nothing. The new file is
//! made beside the old one and takes its name in one step: who reads sees the one or
//! the other. A link under that name is replaced, never followed. Nothing is synced
//! to the disk: what a power cut takes is written again from Redis.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use control_files::read;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

/// Why answers were not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The path leads out of the project.
    #[error(
        "the answers `{}` would lie outside the project, in `{}`: move the heartbeat file inside",
        .path.display(),
        .folder.display()
    )]
    Outside {
        /// Which file.
        path: PathBuf,
        /// Where its folder really is.
        folder: PathBuf,
    },
    /// The system refused.
    #[error("cannot {action} the answers `{}`: check the folder and its permissions", .path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Makes `text` the content of the file at `path`. Whether that took a write.
///
/// # Errors
/// [`Error`]; the file is then as it was.
pub(crate) fn replace(root: &Path, path: &Path, text: &str) -> Result<bool, Error> {
    // Whatever else is in the way of reading it is in the way of it being right.
    if read::read(root, path).is_ok_and(|present| present == text) {
        return Ok(false);
    }
    let failed =
        |action| move |source: io::Error| Error::Io { action, path: path.to_owned(), source };
    let folder = open_folder(root, path, failed("find the folder of"))?;
    let name = path.file_name().unwrap_or_default();
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(".new");

    // What a crash may have left; another writer notices and its next pass repairs.
    match rustix::fs::unlinkat(&folder, &temporary, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(failed("clear the way for")(errno.into())),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&folder, &temporary, flags, Mode::from_raw_mode(0o644))
        .map_err(|errno| failed("create")(errno.into()))?;
    let written = File::from(file)
        .write_all(text.as_bytes())
        .and_then(|()| Ok(rustix::fs::renameat(&folder, &temporary, &folder, name)?));
    written.map(|()| true).map_err(|source| {
        // Best effort: the next try clears it away too.
        _ = rustix::fs::unlinkat(&folder, &temporary, AtFlags::empty());
        failed("write")(source)
    })
}

fn open_folder(
    root: &Path,
    path: &Path,
    failed: impl Fn(io::Error) -> Error,
) -> Result<OwnedFd, Error> {
    let root = root.canonicalize().map_err(&failed)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path.parent().unwrap_or(path), flags, Mode::empty())
        .map_err(|errno| failed(errno.into()))?;
    let real =
        std::fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd())).map_err(&failed)?;
    if real.starts_with(&root) {
        Ok(folder)
    } else {
        Err(Error::Outside { path: path.to_owned(), folder: real })
    }
}

/// Runs `work`, which may wait for a disk, where it holds up nothing else.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that shuts down cancels it, and this future with it.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Project(tempfile::TempDir);

    impl Project {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(folder.path().join("project/h")).unwrap();
            std::fs::create_dir(folder.path().join("outside")).unwrap();
            Self(folder)
        }
        fn root(&self) -> PathBuf {
            self.0.path().join("project")
        }
        fn ack(&self) -> PathBuf {
            self.root().join("h/a.ack.md")
        }
        fn names(&self, folder: &str) -> Vec<OsString> {
            let entries = std::fs::read_dir(self.0.path().join(folder)).unwrap();
            entries.map(|entry| entry.unwrap().file_name()).collect()
        }
    }

    #[test]
    fn answers_should_be_written_only_when_they_differ() {
        let (project, modified) = (Project::new(), |path: &Path| {
            std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap())
        });
        let (root, ack) = (project.root(), project.ack());
        assert!(replace(&root, &ack, "one").unwrap());
        let first = modified(&ack);
        assert!(!replace(&root, &ack, "one").unwrap());
        assert_eq!(modified(&ack), first, "it was written again");
        assert!(replace(&root, &ack, "two").unwrap());
        assert_eq!(std::fs::read_to_string(&ack).unwrap(), "two");
        assert_eq!(project.names("project/h"), ["a.ack.md"]);
    }

    #[test]
    fn link_under_the_name_should_be_replaced_and_not_followed() {
        let project = Project::new();
        let target = project.0.path().join("outside/precious");
        std::fs::write(&target, "precious").unwrap();
        symlink(&target, project.ack()).unwrap();
        symlink(&target, project.root().join("h/.a.ack.md.new")).unwrap();
        assert!(replace(&project.root(), &project.ack(), "text").unwrap());
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
        assert_eq!(std::fs::read_to_string(project.ack()).unwrap(), "text");
        assert!(!project.ack().is_symlink());
    }

    #[test]
    fn folder_outside_the_project_should_be_refused() {
        let project = Project::new();
        symlink("../outside", project.root().join("link")).unwrap();
        let path = project.root().join("link/a.ack.md");
        let error = replace(&project.root(), &path, "text").unwrap_err();
        assert!(matches!(error, Error::Outside { .. }), "{error}");
        assert!(project.names("outside").is_empty());
    }

    #[test]
    fn what_is_in_the_way_should_be_an_error_and_leave_no_litter() {
        let project = Project::new();
        std::fs::create_dir_all(project.ack().join("sub")).unwrap();
        let error = replace(&project.root(), &project.ack(), "text").unwrap_err();
        assert!(matches!(error, Error::Io { action: "write", .. }), "{error}");
        assert_eq!(project.names("project/h"), ["a.ack.md"]);
        let missing = project.root().join("no-folder/a.ack.md");
        let error = replace(&project.root(), &missing, "text").unwrap_err();
        assert!(error.to_string().starts_with("cannot find the folder of the answers"), "{error}");
    }
}
