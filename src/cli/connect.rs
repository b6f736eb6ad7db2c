//! From options, environment and `.env` to a Redis and a project folder.
//!
//! The URL may hold a password, so it is never printed: messages name where it came
//! from and show it without its secret.

use std::fmt;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use store::{RedisUrl, Store};

use super::args::Globals;
use super::{Failure, output};

const DEFAULT_URL: &str = "redis://127.0.0.1:6379";
/// Far more than any URL needs.
const URL_FILE_BYTES: u64 = 16 * 1024;
const ENV_FILE_BYTES: u64 = 1024 * 1024;

/// Where the URL came from, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag,
    File(PathBuf),
    Variable,
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("--redis-url"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable => f.write_str("REDIS_URL, in the environment or .env"),
            Self::Default => f.write_str("the default; set REDIS_URL or --redis-url"),
        }
    }
}

/// How Redis is reached.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) options: store::Options,
    pub(crate) origin: Origin,
}

impl Target {
    /// The file that the URL was read from.
    pub(crate) fn file(&self) -> Option<&Path> {
        match &self.origin {
            Origin::File(path) => Some(path),
            Origin::Flag | Origin::Variable | Origin::Default => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (from {})", self.options.url, self.origin)
    }
}

/// An environment: the process's own, or one of a test.
pub(crate) type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's environment; an empty variable counts as unset.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where Redis is: an option, then the environment, then the default.
pub(crate) fn target(globals: &Globals, variables: Variables<'_>) -> Result<Target, Failure> {
    let read = |text: &str, origin: &Origin| {
        text.trim().parse::<RedisUrl>().map_err(|error| {
            Failure::usage(format!("cannot use the Redis URL of {origin}: {error}"))
        })
    };
    let from_file = |path: &Path| {
        let path = absolute(path)?;
        let text = read_url_file(&path)?;
        let origin = Origin::File(path);
        Ok((read(&text, &origin)?, origin))
    };
    let (url, origin) = if let Some(url) = &globals.redis_url {
        (read(url, &Origin::Flag)?, Origin::Flag)
    } else if let Some(path) = &globals.redis_url_file {
        from_file(path)?
    } else if let Some(url) = variables("REDIS_URL") {
        (read(&url, &Origin::Variable)?, Origin::Variable)
    } else if let Some(path) = variables("ORCH_REDIS_URL_FILE") {
        from_file(Path::new(&path))?
    } else {
        (read(DEFAULT_URL, &Origin::Default)?, Origin::Default)
    };
    let ca_file = match &globals.redis_ca {
        None => None,
        Some(path) => {
            let path = absolute(path)?;
            std::fs::File::open(&path).map_err(|error| {
                Failure::usage(format!("cannot read --redis-ca {}: {error}", path.display()))
            })?;
            Some(path)
        }
    };
    Ok(Target { options: store::Options { url, ca_file }, origin })
}

fn read_url_file(path: &Path) -> Result<String, Failure> {
    let fail = |why: String| {
        Failure::usage(format!("cannot use --redis-url-file {}: {why}", path.display()))
    };
    // Not blocking, so that a FIFO does not hold us up.
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(|error| fail(error.to_string()))?;
    let about = file.metadata().map_err(|error| fail(error.to_string()))?;
    if !about.is_file() {
        return Err(fail("it is no regular file".to_owned()));
    }
    let mut text = String::new();
    file.take(URL_FILE_BYTES).read_to_string(&mut text).map_err(|error| fail(error.to_string()))?;
    let secret = text.trim().parse::<RedisUrl>().is_ok_and(|url| url.has_secret());
    if secret && about.mode() & 0o077 != 0 {
        let path = path.display();
        return Err(fail(format!("others may read the password in it: run `chmod 600 {path}`")));
    }
    Ok(text)
}

/// `path` as seen from the current folder.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::usage(format!("cannot use the path {}: {error}", path.display())))
}

/// The project's folder, absolute and canonical.
pub(crate) fn project(folder: Option<&Path>) -> Result<PathBuf, Failure> {
    let folder = folder.unwrap_or(Path::new("."));
    let fail = |why: String| {
        Failure::usage(format!("cannot use the project folder {}: {why}", folder.display()))
    };
    let found = folder.canonicalize().map_err(|error| fail(error.to_string()))?;
    if !found.is_dir() {
        return Err(fail("it is no folder".to_owned()));
    }
    Ok(found)
}

/// Reads the project's `.env`, if there is one; variables that are set already win.
///
/// It changes the process's environment, so it must run while there is one thread.
pub(crate) fn load_env(project: &Path) -> Result<(), Failure> {
    let path = project.join(".env");
    let fail = |why: &str| Failure::usage(format!("cannot read {}: {why}", path.display()));
    match std::fs::metadata(&path) {
        Err(_) => return Ok(()),
        Ok(about) if !about.is_file() => return Err(fail("it is no regular file")),
        Ok(about) if about.len() > ENV_FILE_BYTES => return Err(fail("it is larger than 1 MiB")),
        Ok(_) => {}
    }
    // The error would quote the line, and with it perhaps a secret.
    match dotenvy::from_path(&path) {
        Ok(()) => Ok(()),
        Err(dotenvy::Error::Io(error)) => Err(fail(&error.to_string())),
        Err(_) => Err(fail("one of its lines is not NAME=value")),
    }
}

/// What a verb that looks into Redis works with.
pub(crate) struct Session {
    pub(crate) store: Store,
    pub(crate) target: Target,
    pub(crate) project: PathBuf,
}

impl Session {
    /// Connects with the first question, not here.
    pub(crate) async fn open(globals: &Globals) -> anyhow::Result<Self> {
        let project = project(globals.project.as_deref())?;
        let target = target(globals, &variable)?;
        let store = Store::new(&target.options).await?;
        Ok(Self { store, target, project })
    }

    /// The same with where Redis is in the message, where it is about Redis.
    pub(crate) fn known<T>(
        &self,
        result: Result<T, impl Into<anyhow::Error>>,
    ) -> anyhow::Result<T> {
        result.map_err(|error| {
            let error: anyhow::Error = error.into();
            let about_redis = error
                .chain()
                .filter_map(|cause| cause.downcast_ref::<store::Error>())
                .any(output::is_about_redis);
            if about_redis {
                error.context(format!("cannot use Redis at {}", self.target))
            } else {
                error
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn message(result: Result<Target, Failure>) -> String {
        result.unwrap_err().to_string()
    }

    fn variables(
        pairs: &'static [(&'static str, &'static str)],
    ) -> impl Fn(&str) -> Option<String> {
        move |name| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn url_should_come_from_the_option_then_the_environment_then_the_default() {
        let set = variables(&[("REDIS_URL", "redis://variable/")]);
        let flag = Globals { redis_url: Some("redis://flag/".into()), ..Globals::default() };
        assert_eq!(target(&flag, &set).unwrap().to_string(), "redis://flag/ (from --redis-url)");
        let found = target(&Globals::default(), &set).unwrap();
        assert_eq!(
            found.to_string(),
            "redis://variable/ (from REDIS_URL, in the environment or .env)"
        );
        let found = target(&Globals::default(), &variables(&[])).unwrap();
        assert!(found.to_string().starts_with("redis://127.0.0.1:6379 "), "{found}");
    }

    #[test]
    fn url_file_with_a_password_should_be_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("url");
        std::fs::write(&path, "redis://bob:s3cret@127.0.0.1:1/\n").unwrap();
        let globals = Globals { redis_url_file: Some(path.clone()), ..Globals::default() };
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        let refused = message(target(&globals, &variables(&[])));
        assert!(refused.contains("chmod 600") && !refused.contains("s3cret"), "{refused}");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        let found = target(&globals, &variables(&[])).unwrap();
        assert_eq!(found.options.url.expose(), "redis://bob:s3cret@127.0.0.1:1/");
        assert_eq!(found.file(), Some(path.as_path()));
        assert!(!found.to_string().contains("s3cret"), "{found}");
    }

    #[test]
    fn malformed_url_should_be_refused_without_being_quoted() {
        let flag = Globals { redis_url: Some("http://u:s3cret@h".into()), ..Globals::default() };
        let refused = message(target(&flag, &variables(&[])));
        assert!(refused.contains("--redis-url") && !refused.contains("s3cret"), "{refused}");
    }
}
