//! The connection: bounded retries, and one for waiting apart from the one for work.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, FromRedisValue, Pipeline, TlsCertificates, ToRedisArgs, cmd};
use tokio::time::Instant;

use crate::calls::Calls;
use crate::error::{Error, has_text, is_denied, is_transient};
use crate::script::{LIBRARY, Script};
use crate::url::RedisUrl;

/// Waits between the tries of one call: about two seconds in all. A script is
/// idempotent, so a call whose reply was lost is simply made again. None is long, because
/// a Redis that is back is not noticed in the middle of one.
const RETRY_DELAYS_MS: [u64; 12] = [10, 30, 100, 200, 200, 200, 200, 200, 200, 200, 200, 200];
/// How long one try may take. Generous: accepting or repairing a large DAG keeps
/// Redis busy for everybody.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// No try is started after this: the caller has to know in time that Redis is away,
/// also where it does not refuse but is silent.
const RETRY_LIMIT: Duration = Duration::from_secs(10);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Beyond this a reply of a blocking read is overdue.
const BLOCKING_SLACK: Duration = Duration::from_secs(3);

/// How to reach Redis.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it is.
    pub url: RedisUrl,
    /// Certificate authority (PEM) for `rediss://`, where the system's do not do.
    pub ca_file: Option<PathBuf>,
}

impl From<RedisUrl> for Options {
    fn from(url: RedisUrl) -> Self {
        Self { url, ca_file: None }
    }
}

/// A handle on the shared state. Clones share a connection.
#[derive(Clone)]
pub struct Store {
    work: Arc<Link>,
    now_micros: Option<u64>,
    /// What measures calls, once somebody has asked for that.
    pub(crate) calls: Arc<OnceLock<Calls>>,
}

/// A connection that can be replaced as a whole.
///
/// The manager connects again when a connection ends. It does not when one only
/// falls silent, as where the peer vanished without a word, nor when the server
/// refused the login: it would give that answer for ever.
struct Link {
    client: Client,
    reply_timeout: Option<Duration>,
    /// With how often it was replaced, so that of many that fail at once only
    /// the first replaces it.
    current: RwLock<(u64, ConnectionManager)>,
}

impl Link {
    fn new(client: Client, reply_timeout: Option<Duration>) -> Result<Self, Error> {
        let manager = Self::manager(&client, reply_timeout)
            .map_err(|source| Error::Failed { what: "set up the connection", source })?;
        Ok(Self { client, reply_timeout, current: RwLock::new((0, manager)) })
    }

    fn manager(client: &Client, reply: Option<Duration>) -> redis::RedisResult<ConnectionManager> {
        // The retries are ours, so that every call has one bound.
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(reply);
        ConnectionManager::new_lazy_with_config(client.clone(), config)
    }

    fn current(&self) -> (u64, ConnectionManager) {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the connection that was seen under `number`.
    fn replace(&self, number: u64) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.0 != number {
            return;
        }
        match Self::manager(&self.client, self.reply_timeout) {
            Ok(manager) => *current = (number + 1, manager),
            Err(error) => tracing::warn!(%error, "Redis connection is not replaced"),
        }
    }
}

impl Store {
    /// Makes a handle; the connection is made with the first call, and again
    /// whenever it breaks.
    ///
    /// # Errors
    /// [`Error::Failed`] where the certificate file cannot be used.
    pub async fn new(options: &Options) -> Result<Self, Error> {
        let what = "set up the connection";
        let url = options.url.expose();
        // redis-rs chooses no cryptography itself and panics where nobody has; an error
        // says that somebody has.
        _ = rustls::crypto::ring::default_provider().install_default();
        let client = match &options.ca_file {
            None => Client::open(url),
            Some(path) => match tokio::fs::read(path).await {
                Ok(pem) => Client::build_with_tls(
                    url,
                    TlsCertificates { client_tls: None, root_cert: Some(pem) },
                ),
                Err(error) => Err(error.into()),
            },
        };
        let client = client.map_err(|source| Error::Failed { what, source })?;
        Ok(Self {
            work: Arc::new(Link::new(client, Some(REPLY_TIMEOUT))?),
            now_micros: None,
            calls: Arc::default(),
        })
    }

    /// The same store with the scripts' clock standing at `micros` since the
    /// epoch: for tests and simulation.
    #[must_use]
    pub fn at(&self, micros: u64) -> Self {
        Self { now_micros: Some(micros), ..self.clone() }
    }

    /// A connection of its own for reads that wait, so that they hold up no others.
    ///
    /// # Errors
    /// As [`Store::new`].
    pub fn waiting(&self) -> Result<Waiting, Error> {
        Ok(Waiting {
            link: Link::new(self.work.client.clone(), None)?,
            calls: Arc::clone(&self.calls),
        })
    }

    /// The scripts' first argument: the time of a test, or nothing.
    pub(crate) fn now(&self) -> String {
        self.now_micros.map_or_else(String::new, |micros| micros.to_string())
    }

    /// The same time as a number: what a reader compares times with that scripts wrote.
    pub(crate) async fn redis_time(&self) -> Result<u64, Error> {
        if let Some(micros) = self.now_micros {
            return Ok(micros);
        }
        let (seconds, micros): (u64, u64) =
            self.ask("ask the server for its time", &redis::cmd("TIME")).await?;
        Ok(seconds * 1_000_000 + micros)
    }

    /// Runs a script, repeated while Redis is away, and gives its reply.
    pub(crate) async fn call<A: ToRedisArgs>(
        &self,
        what: &'static str,
        script: &Script,
        args: A,
    ) -> Result<Reply, Error> {
        let words: Vec<String> = self.read_by(what, script, args).await?;
        let reply = Reply { what, words };
        if reply.verdict() == "fenced"
            && let Some(calls) = self.calls.get()
        {
            calls.fenced(what);
        }
        Ok(reply)
    }

    /// Runs a script whose reply is not a list of words.
    pub(crate) async fn read_by<T: FromRedisValue, A: ToRedisArgs>(
        &self,
        what: &'static str,
        script: &Script,
        args: A,
    ) -> Result<T, Error> {
        let mut command = cmd("FCALL");
        // No keys: scripts compute their names.
        command.arg(&script.name).arg(0).arg(args);
        self.retried(what, Request::Script(&command)).await
    }

    /// Runs one reading or idempotent command, repeated while Redis is away.
    pub(crate) async fn ask<T: FromRedisValue>(
        &self,
        what: &'static str,
        command: &Cmd,
    ) -> Result<T, Error> {
        self.retried(what, Request::Command(command)).await
    }

    /// The same for several commands in one round trip.
    pub(crate) async fn ask_all<T: FromRedisValue>(
        &self,
        what: &'static str,
        pipeline: &Pipeline,
    ) -> Result<T, Error> {
        self.retried(what, Request::Pipeline(pipeline)).await
    }

    async fn retried<T: FromRedisValue>(
        &self,
        what: &'static str,
        request: Request<'_>,
    ) -> Result<T, Error> {
        let started = Instant::now();
        let mut delays = RETRY_DELAYS_MS.into_iter();
        let answer = self.tried(what, request, started, &mut delays).await;
        if let Some(calls) = self.calls.get() {
            let tries = RETRY_DELAYS_MS.len() - delays.len();
            calls.ended(what, started.elapsed(), u64::try_from(tries).unwrap_or(0));
            if let Err(error) = &answer {
                calls.failed(what, error);
            }
        }
        answer
    }

    async fn tried<T: FromRedisValue>(
        &self,
        what: &'static str,
        request: Request<'_>,
        started: Instant,
        delays: &mut impl Iterator<Item = u64>,
    ) -> Result<T, Error> {
        loop {
            let (number, mut connection) = self.work.current();
            let error = match request.send(&mut connection).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if error.is_timeout() || is_denied(&error) {
                self.work.replace(number);
            }
            match delays.next() {
                Some(delay) if is_transient(&error) && started.elapsed() < RETRY_LIMIT => {
                    tracing::debug!(what, %error, delay_ms = delay, "Redis call is repeated");
                    tokio::time::sleep(Duration::from_millis(delay)).await;
                }
                Some(_) | None => return Err(Error::of(what, error)),
            }
        }
    }
}

/// What a call sends.
enum Request<'a> {
    Script(&'a Cmd),
    Command(&'a Cmd),
    Pipeline(&'a Pipeline),
}

impl Request<'_> {
    async fn send<T: FromRedisValue>(
        &self,
        connection: &mut ConnectionManager,
    ) -> redis::RedisResult<T> {
        match self {
            Self::Script(command) => match command.query_async(connection).await {
                Err(error) if is_unknown_script(&error) => {
                    load_scripts(connection).await?;
                    command.query_async(connection).await
                }
                answer => answer,
            },
            Self::Command(command) => command.query_async(connection).await,
            Self::Pipeline(pipeline) => pipeline.query_async(connection).await,
        }
    }
}

/// Gives Redis all scripts. It does not have them when this is a new version's first call, nor
/// after it came back without its data or with older data.
async fn load_scripts(connection: &mut ConnectionManager) -> redis::RedisResult<()> {
    let mut load = cmd("FUNCTION");
    load.arg("LOAD").arg(&LIBRARY.text);
    match load.query_async::<()>(connection).await {
        // Somebody was faster.
        Err(error) if has_text(&error, "already exists") => Ok(()),
        answer => answer,
    }
}

fn is_unknown_script(error: &redis::RedisError) -> bool {
    has_text(error, "Function not found")
}

/// A connection for reads that wait.
pub struct Waiting {
    link: Link,
    calls: Arc<OnceLock<Calls>>,
}

impl Waiting {
    /// Runs a blocking command that Redis itself ends after `limit`. `None` where
    /// that passed.
    pub(crate) async fn ask<T: FromRedisValue>(
        &mut self,
        what: &'static str,
        command: &Cmd,
        limit: Duration,
    ) -> Result<Option<T>, Error> {
        let (number, mut connection) = self.link.current();
        let reply = command.query_async::<Option<T>>(&mut connection);
        let error = match tokio::time::timeout(limit + BLOCKING_SLACK, reply).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(_) => std::io::Error::from(std::io::ErrorKind::TimedOut).into(),
        };
        if error.is_timeout() || is_denied(&error) {
            self.link.replace(number);
        }
        let error = Error::of(what, error);
        if let Some(calls) = self.calls.get() {
            calls.failed(what, &error);
        }
        Err(error)
    }
}

/// What a script said.
#[derive(Debug)]
pub(crate) struct Reply {
    what: &'static str,
    words: Vec<String>,
}

impl Reply {
    /// The word that says what came of it.
    pub(crate) fn verdict(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The words after the verdict.
    pub(crate) fn rest(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }

    /// The word at `position` after the verdict, or ''.
    pub(crate) fn word(&self, position: usize) -> &str {
        self.words.get(position + 1).map_or("", String::as_str)
    }

    /// A number among the words.
    pub(crate) fn number(&self, position: usize) -> Result<u64, Error> {
        self.word(position).parse().map_err(|_| self.surprise())
    }

    /// The reply as one of its possible parts, without the verdict.
    pub(crate) fn into_next(mut self) -> Self {
        if !self.words.is_empty() {
            self.words.remove(0);
        }
        self
    }

    /// A controller's call: refused where it does not lead.
    pub(crate) fn led(self) -> Result<Self, Error> {
        if self.verdict() == "fenced" {
            return Err(Error::NotLeader { what: self.what });
        }
        Ok(self)
    }

    /// The error for a verdict that the script's header does not name.
    pub(crate) fn surprise(&self) -> Error {
        Error::malformed(
            format!("the reply to `{}`", self.what),
            &self.words.join(" "),
            "what the script's header says",
        )
    }
}
