//! The way from one simulated process to Redis. Everything that it asks passes here, one
//! request at a time, and here is where it goes wrong: at a request that the seed chose.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use store::{Options, RedisUrl, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::resp::{Words, request};
use crate::upstream::Upstream;

/// What happens at a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The process dies before the request leaves it.
    CrashBefore,
    /// The process dies when Redis has done it.
    CrashAfter,
    /// Redis does it, and the connection breaks instead of a reply.
    CutReply,
    /// Redis does it, and nobody answers.
    SwallowReply,
    /// It arrives only after others went on.
    Hold,
}

impl Fault {
    pub(crate) const ALL: [Self; 5] =
        [Self::CrashBefore, Self::CrashAfter, Self::CutReply, Self::SwallowReply, Self::Hold];
}

/// What was sent in one piece.
type Burst = Vec<Words>;

/// The last calls of each script that arrived, whoever sent them: each may arrive again.
#[derive(Clone, Default)]
pub(crate) struct Sent(Arc<Mutex<BTreeMap<Vec<u8>, VecDeque<Burst>>>>);

impl Sent {
    /// How many are kept of each script.
    const KEPT: usize = 40;

    fn add(&self, burst: Burst) {
        let script = burst.iter().find(|words| words[0] == b"FCALL");
        let Some(script) = script.and_then(|words| words.get(1)).cloned() else { return };
        let mut sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_script = sent.entry(script).or_default();
        if of_script.len() == Self::KEPT {
            of_script.pop_front();
        }
        of_script.push_back(burst);
    }

    /// One of them, where there is any; each script is as likely. One of three times any, else
    /// one that is late, and as often one that is nearly right, where `lateness` is 1 or 2.
    pub(crate) fn any(
        &self,
        random: &mut fastrand::Rng,
        lateness: impl Fn(&[Words]) -> u8,
    ) -> Option<Burst> {
        let sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for least in (0..=random.u8(0..3)).rev() {
            let of_scripts = sent.values().map(|of_script| {
                of_script.iter().filter(|burst| least == 0 || lateness(burst) >= least).collect()
            });
            let of_scripts: Vec<Vec<&Burst>> =
                of_scripts.filter(|of_script: &Vec<_>| !of_script.is_empty()).collect();
            if let Some(of_script) = random.choice(of_scripts) {
                return random.choice(of_script).cloned();
            }
        }
        None
    }
}

#[derive(Default)]
struct State {
    /// At how many requests from now which fault happens.
    armed: Option<(u32, Fault)>,
    /// What has happened and nobody looked at yet.
    happened: Option<Fault>,
    /// Requests that are held back.
    held: bool,
    /// Nothing passes.
    cut: bool,
    crashed: bool,
    /// How often something passed here: a connection, a request, a reply, an end.
    passed: u64,
}

struct Shared {
    state: Mutex<State>,
    upstream: Upstream,
    sent: Sent,
    released: Notify,
    severed: Notify,
}

/// One process's link. Ends with it.
pub(crate) struct Link {
    shared: Arc<Shared>,
    path: PathBuf,
    number: u64,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.severed.notify_waiters();
        _ = std::fs::remove_file(&self.path);
    }
}

impl Link {
    pub(crate) fn new(upstream: &Upstream, sent: &Sent, folder: &Path, number: u64) -> Self {
        let path = folder.join(format!("link-{number}"));
        let listener = UnixListener::bind(&path).expect("a socket");
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            upstream: upstream.clone(),
            sent: sent.clone(),
            released: Notify::new(),
            severed: Notify::new(),
        });
        let task = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    shared.change(|_| {});
                    tokio::spawn(serve(Arc::clone(&shared), stream));
                }
            }
        });
        Self { shared, path, number, task }
    }

    /// A store that speaks through it.
    pub(crate) async fn store(&self) -> Store {
        let url: RedisUrl = format!("unix://{}", self.path.display()).parse().expect("a URL");
        Store::new(&Options::from(url)).await.expect("a store")
    }

    /// Different for each.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    /// Lets a fault happen after so many more requests.
    pub(crate) fn arm(&self, after: u32, fault: Fault) {
        self.state().armed = Some((after, fault));
    }

    pub(crate) fn disarm(&self) {
        self.state().armed = None;
    }

    /// What happened since this was asked last.
    pub(crate) fn happened(&self) -> Option<Fault> {
        self.state().happened.take()
    }

    pub(crate) fn crashed(&self) -> bool {
        self.state().crashed
    }

    /// Something else than before where something passed meanwhile.
    pub(crate) fn passed(&self) -> u64 {
        self.state().passed
    }

    pub(crate) fn is_held(&self) -> bool {
        self.state().held
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.state().cut
    }

    /// What is held back arrives now.
    pub(crate) fn release(&self) {
        self.state().held = false;
        self.shared.released.notify_waiters();
    }

    /// Nothing passes until it is mended.
    pub(crate) fn cut(&self, cut: bool) {
        self.state().cut = cut;
        if cut {
            self.shared.severed.notify_waiters();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something passes.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        state.passed += 1;
        change(&mut state);
    }

    /// The fault that happens at this request, if one does.
    fn next_fault(&self) -> Option<Fault> {
        let mut state = self.state();
        let (after, fault) = state.armed?;
        state.armed = after.checked_sub(1).map(|after| (after, fault));
        if state.armed.is_some() {
            return None;
        }
        state.happened = Some(fault);
        Some(fault)
    }
}

async fn serve(shared: Arc<Shared>, mut stream: UnixStream) {
    let mut buffer = Vec::new();
    loop {
        if shared.state().cut {
            break;
        }
        while let Some(burst) = take_burst(&mut buffer) {
            if shared.state().held {
                hold(&shared).await;
            }
            let Some(reply) = handle(&shared, burst).await else { return };
            shared.change(|_| {});
            if stream.write_all(&reply).await.is_err() {
                return;
            }
        }
        let severed = shared.severed.notified();
        tokio::select! {
            biased;
            () = severed => break,
            read = stream.read_buf(&mut buffer) => {
                shared.change(|_| {});
                if !read.is_ok_and(|read| read > 0) {
                    return;
                }
            }
        }
    }
    shared.change(|_| {});
}

/// All requests that are there: a pipeline is one piece.
fn take_burst(buffer: &mut Vec<u8>) -> Option<Burst> {
    let mut burst = Vec::new();
    let mut at = 0;
    while let Some((words, length)) = request(&buffer[at..]).filter(|_| at < buffer.len()) {
        burst.push(words);
        at += length;
    }
    // Half of a transaction waits for the rest.
    let opened = burst.iter().filter(|words| words[0] == b"MULTI").count();
    let closed = burst.iter().filter(|words| words[0] == b"EXEC").count();
    if burst.is_empty() || opened > closed {
        return None;
    }
    buffer.drain(..at);
    Some(burst)
}

async fn hold(shared: &Shared) {
    loop {
        let released = shared.released.notified();
        if !shared.state().held {
            return;
        }
        released.await;
    }
}

/// Does what is asked; `None` where the connection ends instead of a reply.
async fn handle(shared: &Shared, burst: Burst) -> Option<Vec<u8>> {
    if let Some(reply) = aside(shared, &burst) {
        return Some(reply);
    }
    let fault = shared.next_fault();
    match fault {
        Some(Fault::CrashBefore) => {
            shared.change(|state| state.crashed = true);
            return None;
        }
        Some(Fault::Hold) => {
            shared.change(|state| state.held = true);
            hold(shared).await;
        }
        Some(Fault::CrashAfter | Fault::CutReply | Fault::SwallowReply) | None => {}
    }
    let reply = shared.upstream.exchange(&burst).concat();
    shared.sent.add(burst);
    match fault {
        Some(Fault::CrashAfter) => {
            shared.change(|state| state.crashed = true);
            None
        }
        Some(Fault::CutReply) => None,
        Some(Fault::SwallowReply) => std::future::pending().await,
        Some(Fault::CrashBefore | Fault::Hold) | None => Some(reply),
    }
}

/// The answer to what is no matter of the simulation: the client's greeting, and the
/// loading of scripts, which happens once per worker and not once per seed.
fn aside(shared: &Shared, burst: &[Words]) -> Option<Vec<u8>> {
    let mut reply = Vec::new();
    for words in burst {
        match words.as_slice() {
            [verb, ..] if verb == b"CLIENT" => reply.extend_from_slice(b"+OK\r\n"),
            [verb, ..] if verb == b"FCALL" && !shared.upstream.is_loaded() => {
                reply.extend_from_slice(b"-ERR Function not found\r\n");
            }
            [verb, load, text] if verb == b"FUNCTION" && load == b"LOAD" => {
                reply.extend(shared.upstream.load(text));
            }
            _ => return None,
        }
    }
    Some(reply)
}
