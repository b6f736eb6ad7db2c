//! A TCP proxy that fails on demand.
//!
//! It stands between a client and a server on the loopback. What a fault does to
//! a connection is what networks do: bytes are late, stop, or the connection is
//! gone; they never vanish from the middle of a stream that goes on. Works with
//! threads, so a test's runtime may be busy, paused or absent.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the proxy does with what passes, now and until told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Passes everything.
    Forward,
    /// Passes everything, each piece this much later.
    Delay(Duration),
    /// Accepts connections and passes nothing, in either direction. What was
    /// held back is passed when the mode ends.
    Blackhole,
    /// Passes what clients send and swallows what the server answers: the client
    /// sees a timeout after its command was executed. A connection that lost an
    /// answer is closed when the mode ends.
    DropReplies,
    /// As [`Mode::DropReplies`], but closes the connection at the first answer:
    /// the client knows at once that it does not know.
    CutOnReply,
    /// Closes new connections at once.
    Refuse,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

#[derive(Debug)]
struct Connection {
    client: TcpStream,
    server: TcpStream,
    lost_a_reply: bool,
}

impl Connection {
    fn close(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

#[derive(Debug)]
struct State {
    mode: Mode,
    closing: bool,
    connections: HashMap<u64, Connection>,
    accepted: u64,
    replies_lost: u64,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    upstream: SocketAddr,
}

/// A proxy in front of one server. Closes everything when dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl FaultProxy {
    /// Listens on a free port of the loopback and forwards to `port` there.
    ///
    /// # Panics
    /// Where no port is free.
    #[must_use]
    pub fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let connections = HashMap::new();
        let mode = Mode::Forward;
        let state = State { mode, closing: false, connections, accepted: 0, replies_lost: 0 };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            upstream: SocketAddr::from(([127, 0, 0, 1], port)),
        });
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Its address as a Redis without password.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// What it shall do from now on.
    pub fn set(&self, mode: Mode) {
        let mut state = self.shared.lock();
        state.mode = mode;
        for connection in state.connections.values().filter(|one| one.lost_a_reply) {
            connection.close();
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Closes all connections that are open now. New ones are treated as the
    /// mode says.
    pub fn cut(&self) {
        self.shared.lock().connections.values().for_each(Connection::close);
    }

    /// How many connections are open now.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.shared.lock().connections.len()
    }

    /// How many pieces of answers were swallowed or cut off until now.
    #[must_use]
    pub fn replies_lost(&self) -> u64 {
        self.shared.lock().replies_lost
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.cut();
        self.shared.changed.notify_all();
        // A last connection, so that the acceptor looks up.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming().flatten() {
        let mode = {
            let state = shared.lock();
            if state.closing {
                return;
            }
            state.mode
        };
        if mode != Mode::Refuse {
            // Where the server is away, the client sees its connection closed.
            let _ = connect(client, shared);
        }
    }
}

fn connect(client: TcpStream, shared: &Arc<Shared>) -> std::io::Result<()> {
    let server = TcpStream::connect(shared.upstream)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ways = [
        (Direction::ToServer, client.try_clone()?, server.try_clone()?),
        (Direction::ToClient, server.try_clone()?, client.try_clone()?),
    ];
    let mut state = shared.lock();
    state.accepted += 1;
    let id = state.accepted;
    state.connections.insert(id, Connection { client, server, lost_a_reply: false });
    drop(state);
    for (direction, from, to) in ways {
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            pump(id, direction, from, to, &shared);
            if let Some(connection) = shared.lock().connections.remove(&id) {
                connection.close();
            }
        });
    }
    Ok(())
}

/// Passes one direction of a connection until it ends.
fn pump(id: u64, direction: Direction, mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if !pass(id, direction, shared) {
            continue;
        }
        if to.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

/// Whether a piece is to be passed on; waits where the mode says so.
fn pass(id: u64, direction: Direction, shared: &Shared) -> bool {
    let held = |state: &mut State| state.mode == Mode::Blackhole && !state.closing;
    let state = shared.lock();
    let mut state = shared.changed.wait_while(state, held).unwrap_or_else(PoisonError::into_inner);
    let mode = state.mode;
    let losing = matches!(mode, Mode::DropReplies | Mode::CutOnReply);
    if losing && direction == Direction::ToClient {
        state.replies_lost += 1;
        if let Some(connection) = state.connections.get_mut(&id) {
            connection.lost_a_reply = true;
            if mode == Mode::CutOnReply {
                connection.close();
            }
        }
        return false;
    }
    drop(state);
    if let Mode::Delay(delay) = mode {
        std::thread::sleep(delay);
    }
    true
}
