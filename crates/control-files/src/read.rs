//! Reading control files from disk without trusting what lies there.
//!
//! [`read`] opens once and decides on what was opened, not on a name: a link
//! that is changed between a check and an opening changes nothing. It never
//! waits: a FIFO, a device or a socket is refused before it is opened for
//! reading. [`resolve`] turns a path that a person wrote into an absolute one
//! within the project; [`read`] checks again, because links may appear later.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

/// The largest control file.
pub const MAX_BYTES: u64 = 1024 * 1024;

/// Why a control file was not read, or a path in one not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing there.
    #[error("`{}` does not exist: create it, or correct the path", .0.display())]
    NotFound(PathBuf),
    /// Something else than a file.
    #[error("`{}` is {kind}, not a regular file: put a plain file in its place", .path.display())]
    NotRegular {
        /// Which path.
        path: PathBuf,
        /// What is there, with its article.
        kind: &'static str,
    },
    /// Beyond [`MAX_BYTES`].
    #[error(
        "`{}` has {bytes} bytes; a control file may have at most {MAX_BYTES}: shorten it",
        .path.display()
    )]
    TooLarge {
        /// Which path.
        path: PathBuf,
        /// Its size, as far as it is known.
        bytes: u64,
    },
    /// Not beneath the project's folder.
    #[error(
        "`{}` lies outside the project `{}`: move it inside, or correct the path",
        .path.display(),
        .root.display()
    )]
    Outside {
        /// Where it really lies.
        path: PathBuf,
        /// The project's folder.
        root: PathBuf,
    },
    /// Bytes that are no text.
    #[error("`{}` is not UTF-8 text at line {line}, byte {offset}: save it as UTF-8", .path.display())]
    NotUtf8 {
        /// Which path.
        path: PathBuf,
        /// The line of the first such byte, from 1.
        line: usize,
        /// Its place in the file, from 0.
        offset: usize,
    },
    /// A byte that no text has.
    #[error(
        "`{}` has a NUL byte at line {line}, byte {offset}: it is no text file; save it as UTF-8",
        .path.display()
    )]
    Nul {
        /// Which path.
        path: PathBuf,
        /// The line of the first such byte, from 1.
        line: usize,
        /// Its place in the file, from 0.
        offset: usize,
    },
    /// A written path that names no file.
    #[error("`{}` is no path: {reason}", .written.escape_debug())]
    NoPath {
        /// As written.
        written: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The system refused.
    #[error("cannot {action} `{}`: check its permissions", .path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Reads the control file at `path`, which must really lie beneath
/// `project_root`, links followed.
///
/// # Errors
/// [`Error`]: each says what is wrong with which file and what to do.
pub fn read(project_root: &Path, path: &Path) -> Result<String, Error> {
    Root::of(project_root)?.read(path)
}

/// The project's folder where it really is now, to read several files without looking for it
/// each time.
#[derive(Debug)]
pub struct Root(PathBuf);

impl Root {
    /// Looks where `project_root` is.
    ///
    /// # Errors
    /// [`Error::Io`] where it is not there.
    pub fn of(project_root: &Path) -> Result<Self, Error> {
        canonical_root(project_root).map(Self)
    }

    /// As [`read`].
    ///
    /// # Errors
    /// [`Error`]: each says what is wrong with which file and what to do.
    pub fn read(&self, path: &Path) -> Result<String, Error> {
        let io_error = |action| {
            move |source: io::Error| {
                if is_missing(&source) {
                    return Error::NotFound(path.to_owned());
                }
                Error::Io { action, path: path.to_owned(), source }
            }
        };
        // O_PATH opens the place, not the thing: it cannot block or have effects.
        let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| io_error("open")(errno.into()))?;
        let stat = rustix::fs::fstat(&place).map_err(|errno| io_error("examine")(errno.into()))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::RegularFile {
            return Err(Error::NotRegular { path: path.to_owned(), kind: name_of(kind) });
        }
        let real = std::fs::read_link(proc_path(&place)).map_err(io_error("locate"))?;
        if !real.starts_with(&self.0) {
            return Err(Error::Outside { path: real, root: self.0.clone() });
        }
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        if size > MAX_BYTES {
            return Err(Error::TooLarge { path: path.to_owned(), bytes: size });
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = rustix::fs::open(proc_path(&place), flags, Mode::empty())
            .map_err(|errno| io_error("open")(errno.into()))?;
        let mut bytes = Vec::new();
        // It may have grown since: the limit holds for what is read, too.
        File::from(file).take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io_error("read"))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(Error::TooLarge { path: path.to_owned(), bytes: bytes.len() as u64 });
        }
        text(path, bytes)
    }
}

/// A parent that is a file counts, too: there is nothing of that name.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn proc_path(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn text(path: &Path, bytes: Vec<u8>) -> Result<String, Error> {
    let line = |offset: usize, bytes: &[u8]| {
        1 + bytes.iter().take(offset).filter(|byte| **byte == b'\n').count()
    };
    let text = String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let line = line(offset, error.as_bytes());
        Error::NotUtf8 { path: path.to_owned(), line, offset }
    })?;
    match text.bytes().position(|byte| byte == 0) {
        None => Ok(text),
        Some(offset) => {
            let line = line(offset, text.as_bytes());
            Err(Error::Nul { path: path.to_owned(), line, offset })
        }
    }
}

fn name_of(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a folder",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Unknown => "of an unknown kind",
    }
}

fn canonical_root(project_root: &Path) -> Result<PathBuf, Error> {
    std::fs::canonicalize(project_root).map_err(|source| Error::Io {
        action: "find the project folder",
        path: project_root.to_owned(),
        source,
    })
}

/// The absolute path, within the project, that `written` means in a control file
/// which lies in `base_folder`.
///
/// `..` is taken lexically, so what is refused does not depend on what exists;
/// folders that exist and are links are followed, and must lead into the project.
/// The file itself need not exist.
///
/// # Errors
/// [`Error::NoPath`], [`Error::Outside`], or [`Error::Io`] where a folder cannot
/// be examined.
pub fn resolve(project_root: &Path, base_folder: &Path, written: &str) -> Result<PathBuf, Error> {
    let no_path = |reason| Error::NoPath { written: written.to_owned(), reason };
    if written.trim().is_empty() {
        return Err(no_path("it is empty"));
    }
    if written.chars().any(char::is_control) {
        return Err(no_path("it has a control character"));
    }
    let root = canonical_root(project_root)?;
    // The folder as given may be reached by links; its real place counts.
    let base = follow(&root.join(base_folder))?;
    let target = lexical(&base.join(written));
    let outside = |path: PathBuf| Error::Outside { path, root: root.clone() };
    let beneath = if target.starts_with(&root) {
        target
    } else {
        // An absolute path may name the project by another way to it.
        let given = lexical(project_root);
        match target.strip_prefix(&given) {
            Ok(rest) if Path::new(written).is_absolute() => root.join(rest),
            _ => return Err(outside(target)),
        }
    };
    let real = follow(&beneath)?;
    if real.starts_with(&root) { Ok(real) } else { Err(outside(real)) }
}

/// The same path without `.` and `..`.
fn lexical(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => out.push(part),
        }
    }
    out
}

/// `path` with the folders that exist replaced by their real places; its last
/// part stays as it is, so that a file that is a link keeps its name.
fn follow(path: &Path) -> Result<PathBuf, Error> {
    let Some(name) = path.file_name() else {
        return Ok(path.to_owned());
    };
    let mut missing: Vec<OsString> = vec![name.to_owned()];
    let mut folder = path.parent();
    while let Some(existing) = folder {
        match std::fs::canonicalize(existing) {
            Ok(mut real) => {
                real.extend(missing.iter().rev());
                return Ok(real);
            }
            Err(error) if is_missing(&error) => {
                missing.extend(existing.file_name().map(ToOwned::to_owned));
                folder = existing.parent();
            }
            Err(source) => {
                let path = existing.to_owned();
                return Err(Error::Io { action: "examine the folder", path, source });
            }
        }
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    struct Project {
        folder: tempfile::TempDir,
    }

    impl Project {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(folder.path().join("project/sub")).unwrap();
            Self { folder }
        }
        fn root(&self) -> PathBuf {
            self.folder.path().canonicalize().unwrap().join("project")
        }
        fn read(&self, path: &str) -> Result<String, Error> {
            read(&self.root(), &self.root().join(path))
        }
        fn resolve(&self, base: &str, written: &str) -> Result<PathBuf, Error> {
            resolve(&self.root(), &self.root().join(base), written)
        }
    }

    #[test]
    fn file_should_be_read_through_links_inside_the_project_only() {
        let project = Project::new();
        let root = project.root();
        std::fs::write(root.join("sub/a.md"), "hä\n").unwrap();
        std::fs::write(root.join("../outside.md"), "secret").unwrap();
        symlink("sub/a.md", root.join("in.md")).unwrap();
        symlink("../outside.md", root.join("out.md")).unwrap();
        symlink("..", root.join("up")).unwrap();
        assert_eq!(project.read("sub/a.md").unwrap(), "hä\n");
        assert_eq!(project.read("in.md").unwrap(), "hä\n");
        assert!(matches!(project.read("out.md"), Err(Error::Outside { .. })));
        assert!(matches!(project.read("up/outside.md"), Err(Error::Outside { .. })));
        assert!(matches!(project.read("../outside.md"), Err(Error::Outside { .. })));
        assert!(matches!(project.read("nothing.md"), Err(Error::NotFound(_))));
        assert!(matches!(project.read("in.md/x"), Err(Error::NotFound(_))));
    }

    #[test]
    fn only_regular_files_should_be_read_and_none_waited_for() {
        let project = Project::new();
        let fifo = project.root().join("fifo.md");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        let _socket = UnixListener::bind(project.root().join("socket.md")).unwrap();
        let kind = |path| match project.read(path) {
            Err(Error::NotRegular { kind, .. }) => kind,
            other => panic!("{other:?}"),
        };
        assert_eq!(kind("fifo.md"), "a FIFO");
        assert_eq!(kind("socket.md"), "a socket");
        assert_eq!(kind("sub"), "a folder");
        let device = read(Path::new("/"), Path::new("/dev/null"));
        assert!(matches!(device, Err(Error::NotRegular { kind: "a character device", .. })));
    }

    #[test]
    fn size_should_be_limited_to_the_byte() {
        let project = Project::new();
        let path = project.root().join("a.md");
        let bytes = usize::try_from(MAX_BYTES).unwrap();
        std::fs::write(&path, vec![b'a'; bytes]).unwrap();
        assert_eq!(project.read("a.md").unwrap().len(), bytes);
        std::fs::write(&path, vec![b'a'; bytes + 1]).unwrap();
        assert!(matches!(project.read("a.md"), Err(Error::TooLarge { .. })));
        // 1 GiB, sparse: refused by its size, not read.
        File::create(&path).unwrap().set_len(1 << 30).unwrap();
        let error = project.read("a.md").unwrap_err().to_string();
        assert!(error.contains("1073741824 bytes"), "{error}");
    }

    #[test]
    fn bytes_that_are_no_text_should_be_refused_with_their_place() {
        let project = Project::new();
        let path = project.root().join("a.md");
        std::fs::write(&path, b"ok\nb\xffd").unwrap();
        let error = project.read("a.md").unwrap_err();
        assert!(matches!(error, Error::NotUtf8 { line: 2, offset: 4, .. }), "{error:?}");
        std::fs::write(&path, b"ok\n\0").unwrap();
        let error = project.read("a.md").unwrap_err();
        assert!(matches!(error, Error::Nul { line: 2, offset: 3, .. }), "{error:?}");
    }

    #[test]
    fn written_path_should_stay_within_the_project() {
        let project = Project::new();
        let root = project.root();
        assert_eq!(project.resolve("", "./a/../b.md").unwrap(), root.join("b.md"));
        assert_eq!(project.resolve("sub", "../b.md").unwrap(), root.join("b.md"));
        assert_eq!(project.resolve("sub", "new/b.md").unwrap(), root.join("sub/new/b.md"));
        let absolute = root.join("x/y.md");
        assert_eq!(project.resolve("", absolute.to_str().unwrap()).unwrap(), absolute);
        for written in ["../b.md", "sub/../../b.md", "/etc/passwd", "a/../../project2/x"] {
            let error = project.resolve("", written);
            assert!(matches!(error, Err(Error::Outside { .. })), "{written}: {error:?}");
        }
        for written in ["", "  ", "a\nb", "a\0b"] {
            assert!(matches!(project.resolve("", written), Err(Error::NoPath { .. })));
        }
    }

    #[test]
    fn written_path_should_follow_linked_folders() {
        let project = Project::new();
        let root = project.root();
        symlink("sub", root.join("link")).unwrap();
        symlink("..", root.join("up")).unwrap();
        assert_eq!(project.resolve("", "link/a.md").unwrap(), root.join("sub/a.md"));
        assert_eq!(project.resolve("link", "a.md").unwrap(), root.join("sub/a.md"));
        let error = project.resolve("", "up/a.md");
        assert!(matches!(error, Err(Error::Outside { .. })), "{error:?}");
        // The project itself may be reached by a link, also in absolute paths.
        let alias = project.folder.path().join("alias");
        symlink("project", &alias).unwrap();
        let written = alias.join("a.md");
        let found = resolve(&alias, &alias, written.to_str().unwrap()).unwrap();
        assert_eq!(found, root.join("a.md"));
    }
}
