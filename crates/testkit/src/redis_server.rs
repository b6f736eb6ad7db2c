//! A real redis-server for one test.
//!
//! It listens on a free port of the loopback, keeps its data in a folder of its
//! own, and is killed and reaped when dropped. A port that somebody takes
//! between the choice and the bind is answered with another port; on a restart,
//! where it has to be the same, with another try.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use process::{Identity, Signal};
use tempfile::TempDir;

use crate::tls;
use crate::wait::{DEADLINE, wait_until_blocking};

/// How often another port is tried.
const PORT_TRIES: usize = 20;
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// How a server shall run. By default: TCP only, no password, nothing on disk.
#[derive(Debug, Clone, Default)]
pub struct Options {
    append_only: bool,
    password: Option<String>,
    user: Option<(String, String)>,
    unix_socket: bool,
    tls: bool,
    lines: Vec<String>,
}

impl Options {
    /// Keeps an append-only file that is synced at each write.
    #[must_use]
    pub fn append_only(mut self) -> Self {
        self.append_only = true;
        self
    }

    /// Demands this password of the default user.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Adds an ACL user who may do everything and switches the default user off.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.user = Some((name.to_owned(), password.to_owned()));
        self
    }

    /// Listens on a unix socket too, which [`RedisServer::url`] then names.
    #[must_use]
    pub fn unix_socket(mut self) -> Self {
        self.unix_socket = true;
        self
    }

    /// Speaks TLS only, with a certificate of [`RedisServer::ca_file`]. Needs
    /// the openssl program.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Adds a line of redis.conf.
    #[must_use]
    pub fn config(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// Where redis-server is not installed or refuses the options.
    #[must_use]
    #[track_caller]
    pub fn start(self) -> RedisServer {
        let folder = tempfile::Builder::new().prefix("redis-").tempdir().expect("a folder");
        if self.tls {
            tls::make_certificates(folder.path());
        }
        let mut server = RedisServer { options: self, folder, port: 0, child: None };
        for _ in 0..PORT_TRIES {
            server.port = free_port();
            if server.launch() {
                return server;
            }
        }
        panic!("redis-server found no free port in {PORT_TRIES} tries: {}", server.log());
    }

    fn text(&self, port: u16, folder: &Path) -> String {
        let folder = folder.display();
        let mut text = format!("bind 127.0.0.1\ndir {folder}\nsave \"\"\nlogfile {folder}/log\n");
        if self.tls {
            let _ = writeln!(
                text,
                "port 0\ntls-port {port}\ntls-cert-file {folder}/server.pem\n\
                 tls-key-file {folder}/server.key\ntls-ca-cert-file {folder}/ca.pem\n\
                 tls-auth-clients no"
            );
        } else {
            let _ = writeln!(text, "port {port}");
        }
        if self.unix_socket {
            let _ = writeln!(text, "unixsocket {folder}/socket");
        }
        if self.append_only {
            text.push_str("appendonly yes\nappendfsync always\n");
        }
        if let Some(password) = &self.password {
            let _ = writeln!(text, "requirepass \"{password}\"");
        }
        if let Some((name, password)) = &self.user {
            let _ = writeln!(text, "user {name} on \">{password}\" ~* &* +@all\nuser default off");
        }
        self.lines.iter().for_each(|line| {
            let _ = writeln!(text, "{line}");
        });
        text
    }
}

/// A server of one's own. Killed when dropped.
#[derive(Debug)]
pub struct RedisServer {
    options: Options,
    folder: TempDir,
    port: u16,
    /// None while it is stopped.
    child: Option<Child>,
}

impl RedisServer {
    /// Starts one with the default [`Options`].
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        Options::default().start()
    }

    /// Begins to say how it shall run.
    #[must_use]
    pub fn options() -> Options {
        Options::default()
    }

    /// Its address, with user and password; a unix socket where it has one.
    #[must_use]
    pub fn url(&self) -> String {
        let (name, password) = match (&self.options.user, &self.options.password) {
            (Some((name, password)), _) => (encode(name), encode(password)),
            (None, Some(password)) => (String::new(), encode(password)),
            (None, None) => (String::new(), String::new()),
        };
        if self.options.unix_socket {
            let path = self.socket();
            return match (name.as_str(), password.as_str()) {
                ("", "") => format!("unix://{}", path.display()),
                ("", _) => format!("unix://{}?pass={password}", path.display()),
                _ => format!("unix://{}?user={name}&pass={password}", path.display()),
            };
        }
        let scheme = if self.options.tls { "rediss" } else { "redis" };
        let login = if password.is_empty() { String::new() } else { format!("{name}:{password}@") };
        format!("{scheme}://{login}127.0.0.1:{}", self.port)
    }

    /// Its TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its folder: configuration, log, append-only file.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The certificate authority to trust, where it speaks TLS.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.folder().join("ca.pem")
    }

    fn socket(&self) -> PathBuf {
        self.folder().join("socket")
    }

    /// Its pid.
    ///
    /// # Panics
    /// Where it is stopped.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running server").id()
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder().join("log")).unwrap_or_default()
    }

    /// A client for it.
    ///
    /// # Panics
    /// Where the address or the certificate is wrong.
    #[must_use]
    pub fn client(&self) -> redis::Client {
        if !self.options.tls {
            return redis::Client::open(self.url()).expect("a Redis address");
        }
        let root_cert = Some(fs::read(self.ca_file()).expect("a certificate"));
        let certificates = redis::TlsCertificates { client_tls: None, root_cert };
        redis::Client::build_with_tls(self.url(), certificates).expect("a Redis address")
    }

    /// A blocking connection.
    ///
    /// # Panics
    /// Where it does not answer.
    #[must_use]
    #[track_caller]
    pub fn connection(&self) -> redis::Connection {
        self.client().get_connection().expect("a Redis that answers")
    }

    /// An asynchronous connection.
    ///
    /// # Panics
    /// Where it does not answer.
    pub async fn async_connection(&self) -> redis::aio::MultiplexedConnection {
        self.client().get_multiplexed_async_connection().await.expect("a Redis that answers")
    }

    /// Kills it with SIGKILL: nothing is saved.
    ///
    /// # Panics
    /// Where it does not end.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            child.wait().expect("the end of redis-server");
        }
    }

    /// Lets it end in order.
    ///
    /// # Panics
    /// Where it does not end.
    #[track_caller]
    pub fn stop(&mut self) {
        if self.child.is_none() {
            return;
        }
        self.signal(Signal::TERM);
        let mut child = self.child.take().expect("a running server");
        wait_until_blocking("redis-server ends", DEADLINE, || match child.try_wait() {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    /// Starts it again, on the same port and with the same data; stops it first
    /// where it runs.
    ///
    /// # Panics
    /// Where it does not start.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        wait_until_blocking("redis-server starts again", DEADLINE, || {
            if self.launch() { Ok(()) } else { Err(self.log()) }
        });
    }

    /// Stops it in its tracks (SIGSTOP): connections stay, nothing is answered.
    ///
    /// # Panics
    /// Where it is stopped.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Ends [`RedisServer::pause`].
    ///
    /// # Panics
    /// Where it is stopped.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let identity = Identity::of(self.pid()).expect("/proc").expect("a living redis-server");
        process::signal(&identity, signal).expect("a signal to redis-server");
    }

    /// Whether it came up; `false` where somebody else has the port.
    #[track_caller]
    fn launch(&mut self) -> bool {
        let config = self.folder().join("redis.conf");
        fs::write(&config, self.options.text(self.port, self.folder())).expect("redis.conf");
        let _ = fs::remove_file(self.folder().join("log"));
        let said = File::create(self.folder().join("said")).expect("a file");
        let mut child = Command::new("redis-server")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(said.try_clone().expect("a file"))
            .stderr(said)
            .spawn()
            .expect("redis-server, from Debian's package of this name");
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end {
            if child.try_wait().expect("the state of redis-server").is_some() {
                let log = self.log();
                assert!(
                    log.contains("already in use"),
                    "redis-server refuses: {log}{}",
                    self.said()
                );
                return false;
            }
            if self.answers(child.id()) {
                self.child = Some(child);
                return true;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        let _ = child.kill();
        let _ = child.wait();
        panic!("redis-server does not answer: {}", self.log());
    }

    /// What it printed instead of logging: complaints about its configuration.
    fn said(&self) -> String {
        fs::read_to_string(self.folder().join("said")).unwrap_or_default()
    }

    /// Whether it is *our* server that answers, with its data loaded.
    fn answers(&self, pid: u32) -> bool {
        let Ok(mut connection) = self.client().get_connection() else {
            return false;
        };
        let info: redis::RedisResult<String> =
            redis::cmd("INFO").arg("server").arg("persistence").query(&mut connection);
        info.is_ok_and(|info| {
            info.lines().any(|line| line == format!("process_id:{pid}"))
                && info.lines().any(|line| line == "loading:0")
        })
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A port that nobody listens on, below those that the kernel gives to outgoing
/// connections: one of these could take it while a server restarts.
///
/// # Panics
/// Never: the numbers fit.
#[must_use]
pub fn free_port() -> u16 {
    use std::hash::{BuildHasher, Hasher};
    loop {
        // The hasher's random keys are all the randomness that is needed.
        let random = std::hash::RandomState::new().build_hasher().finish();
        let port = 10_000 + u16::try_from(random % 22_000).expect("a port");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// For the part of an address that is not plain.
fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}
