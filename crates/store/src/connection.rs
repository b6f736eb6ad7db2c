//! The connection: bounded retries, and one for waiting apart from the one for work.

use std::path::PathBuf;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, FromRedisValue, Pipeline, Script, TlsCertificates, ToRedisArgs};

use crate::error::{Error, is_transient};
use crate::url::RedisUrl;

/// Waits between the tries of one call. A script is idempotent, so a call whose
/// reply was lost is simply made again.
const RETRY_DELAYS_MS: [u64; 6] = [10, 30, 100, 300, 600, 1_000];
/// How long one try may take. Generous: accepting or repairing a large DAG keeps
/// Redis busy for everybody.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
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
    work: ConnectionManager,
    client: Client,
    now_micros: Option<u64>,
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
        let work = Self::manager(&client, Some(REPLY_TIMEOUT))?;
        Ok(Self { work, client, now_micros: None })
    }

    fn manager(client: &Client, reply: Option<Duration>) -> Result<ConnectionManager, Error> {
        // The retries are ours, so that every call has one bound.
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(reply);
        ConnectionManager::new_lazy_with_config(client.clone(), config)
            .map_err(|source| Error::Failed { what: "set up the connection", source })
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
        Ok(Waiting { connection: Self::manager(&self.client, None)? })
    }

    /// The scripts' first argument: the time of a test, or nothing.
    pub(crate) fn now(&self) -> String {
        self.now_micros.map_or_else(String::new, |micros| micros.to_string())
    }

    /// Runs a script, repeated while Redis is away, and gives its reply.
    pub(crate) async fn call<A: ToRedisArgs>(
        &self,
        what: &'static str,
        script: &Script,
        args: A,
    ) -> Result<Reply, Error> {
        let mut invocation = script.prepare_invoke();
        invocation.arg(args);
        let words: Vec<String> = self
            .retried(what, async |connection| invocation.invoke_async(connection).await)
            .await?;
        Ok(Reply { what, words })
    }

    /// Runs one reading or idempotent command, repeated while Redis is away.
    pub(crate) async fn ask<T: FromRedisValue>(
        &self,
        what: &'static str,
        command: &Cmd,
    ) -> Result<T, Error> {
        self.retried(what, async |connection| command.query_async(connection).await).await
    }

    /// The same for several commands in one round trip.
    pub(crate) async fn ask_all<T: FromRedisValue>(
        &self,
        what: &'static str,
        pipeline: &Pipeline,
    ) -> Result<T, Error> {
        self.retried(what, async |connection| pipeline.query_async(connection).await).await
    }

    async fn retried<T>(
        &self,
        what: &'static str,
        call: impl AsyncFn(&mut ConnectionManager) -> redis::RedisResult<T>,
    ) -> Result<T, Error> {
        let mut connection = self.work.clone();
        let mut delays = RETRY_DELAYS_MS.into_iter();
        loop {
            let error = match call(&mut connection).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            match delays.next() {
                Some(delay) if is_transient(&error) => {
                    tracing::debug!(what, %error, delay_ms = delay, "Redis call is repeated");
                    tokio::time::sleep(Duration::from_millis(delay)).await;
                }
                Some(_) | None => return Err(Error::of(what, error)),
            }
        }
    }
}

/// A connection for reads that wait.
pub struct Waiting {
    connection: ConnectionManager,
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
        let reply = command.query_async::<Option<T>>(&mut self.connection);
        match tokio::time::timeout(limit + BLOCKING_SLACK, reply).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Error::of(what, error)),
            Err(_) => Err(Error::Unavailable {
                what,
                source: std::io::Error::from(std::io::ErrorKind::TimedOut).into(),
            }),
        }
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
