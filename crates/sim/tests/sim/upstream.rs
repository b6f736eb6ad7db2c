//! The one Redis of a worker, spoken to by one blocking connection: what all links
//! send arrives there one after the other, in the order that the seed chose.
//!
//! What Redis would take from outside comes from the simulation: the scripts' time, which
//! stands in a key, the order of a set's members, and which of them `SPOP` takes. They are
//! replaced in the library's text as it is loaded.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use testkit::RedisServer;

use crate::resp::{Reply, Words, encode, reply_length};

/// Where the scripts' time stands, in microseconds since the epoch.
const NOW: &str = "sim:now";
/// How often a random member was taken of a set.
const PICKS: &str = "sim:picks";

/// Up to which size hashes are kept in the order in which they were written. Beyond it, and
/// that of sets, follows from a number that each server draws when it starts.
const ORDERED: [&str; 2] = ["hash-max-listpack-entries", "hash-max-listpack-value"];

/// What is replaced in all scripts, by what.
const REPLACED: [(&str, &str); 3] = [
    ("call('SMEMBERS', ", "smembers("),
    (
        "local function clock(given)",
        "local function clock(given)\n  do return tonumber(call('GET', 'sim:now')) end",
    ),
    ("call('SPOP', ", "spop("),
];
/// What stands before what is replaced.
const ADDED: &str = "\
local function smembers(key)
  local all = redis.call('SMEMBERS', key)
  table.sort(all)
  return all
end
local function spop(key)
  local all = smembers(key)
  if #all == 0 then return false end
  local one = all[redis.call('INCR', 'sim:picks') % #all + 1]
  redis.call('SREM', key, one)
  return one
end
";

struct Connection {
    stream: UnixStream,
    /// What a planted bug replaces in scripts, by what.
    planted: Vec<(String, String)>,
    /// Whether it has the product's library of scripts.
    is_loaded: bool,
    /// What Redis answered with an error, and nobody looked at yet.
    errors: Vec<String>,
    /// The scripts' clock, which is set together with whatever is asked next.
    time: Option<Vec<u8>>,
    /// How often it was set.
    times: u64,
}

/// A handle on the connection. Clones share it.
#[derive(Clone)]
pub(crate) struct Upstream(Arc<Mutex<Connection>>);

impl Upstream {
    pub(crate) fn new(server: &RedisServer) -> Self {
        let url = server.url();
        let path = url.strip_prefix("unix://").expect("a server with a unix socket");
        let stream = UnixStream::connect(path).expect("a Redis that answers");
        let this = Self(Arc::new(Mutex::new(Connection {
            stream,
            planted: planted(),
            is_loaded: false,
            errors: Vec::new(),
            time: None,
            times: 0,
        })));
        for setting in ORDERED {
            this.ask(&["CONFIG", "SET", setting, "1000000"]);
        }
        this
    }

    /// Sends requests in one piece and gives their replies.
    pub(crate) fn exchange(&self, requests: &[Words]) -> Vec<Vec<u8>> {
        if requests.iter().any(|words| words[0] == b"TIME") {
            return self.time(requests.len());
        }
        let mut this = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = Vec::new();
        for words in requests {
            bytes.extend(encode(words));
        }
        let replies = this.send(&bytes, requests.len());
        let errors = replies.iter().filter(|reply| reply.starts_with(b"-"));
        let errors: Vec<String> =
            errors.map(|reply| String::from_utf8_lossy(reply).trim().to_owned()).collect();
        this.errors.extend(errors);
        requests.iter().zip(replies).map(|(words, reply)| in_order(words, reply)).collect()
    }

    /// What Redis answered with an error since this was asked last.
    pub(crate) fn errors(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).errors)
    }

    /// The answer to TIME, which nobody asks for together with something else.
    fn time(&self, requests: usize) -> Vec<Vec<u8>> {
        assert_eq!(requests, 1, "TIME in a pipeline: mend the simulator");
        let micros: u64 = self.ask(&["GET", NOW]).text().parse().expect("a time");
        let words = [(micros / 1_000_000).to_string(), (micros % 1_000_000).to_string()];
        vec![encode(&words)]
    }

    /// Loads the product's library of scripts. Its functions keep their names, whatever is
    /// replaced in them.
    pub(crate) fn load(&self, text: &[u8]) -> Vec<u8> {
        let mut text = String::from_utf8(text.to_vec()).expect("a library");
        let mut this = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (from, to) in &this.planted {
            text = text.replace(from, to);
        }
        for (from, to) in REPLACED {
            text = text.replace(from, to);
        }
        let head = text.find('\n').expect("a line that names the library");
        text.insert_str(head + 1, ADDED);
        let reply = this.send(&encode(&["FUNCTION", "LOAD", "REPLACE", &text]), 1).remove(0);
        assert!(!reply.starts_with(b"-"), "{}", String::from_utf8_lossy(&reply));
        this.is_loaded = true;
        reply
    }

    /// Whether clients may call scripts.
    pub(crate) fn is_loaded(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_loaded
    }

    /// One command of the simulator's own.
    pub(crate) fn ask<W: AsRef<[u8]>>(&self, words: &[W]) -> Reply {
        let words = words.iter().map(|word| word.as_ref().to_vec()).collect();
        Reply::read(&self.exchange(&[words]).remove(0))
    }

    /// Several at once.
    pub(crate) fn ask_all(&self, requests: &[Words]) -> Vec<Reply> {
        self.exchange(requests).iter().map(|reply| Reply::read(reply)).collect()
    }

    /// Loads a script of the simulator's own, as it is, and gives its name.
    pub(crate) fn load_own(&self, text: &str) -> Vec<u8> {
        self.ask(&["SCRIPT", "LOAD", text]).bytes()
    }

    /// Sets the scripts' clock.
    pub(crate) fn set_time(&self, micros: u64) {
        let mut this = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        this.time = Some(encode(&["SET", NOW, &micros.to_string()]));
    }

    /// How many of the changes that Redis counts are the clock's.
    pub(crate) fn own_changes(&self) -> u64 {
        let this = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        this.times + u64::from(this.time.is_some())
    }

    /// Everything that is stored but the simulator's own keys, to be put back.
    pub(crate) fn snapshot(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let own = [NOW.as_bytes(), PICKS.as_bytes()];
        let mut keys: Vec<Vec<u8>> =
            self.ask(&["KEYS", "*"]).list().into_iter().map(Reply::bytes).collect();
        keys.retain(|key| !own.contains(&key.as_slice()));
        keys.sort();
        let dumps: Vec<Words> =
            keys.iter().map(|key| vec![b"DUMP".to_vec(), key.clone()]).collect();
        keys.into_iter().zip(self.ask_all(&dumps).into_iter().map(Reply::bytes)).collect()
    }

    pub(crate) fn restore(&self, snapshot: &[(Vec<u8>, Vec<u8>)]) {
        let time = self.ask(&["GET", NOW]).text();
        let picks = self.ask(&["GET", PICKS]).text();
        self.ask(&["FLUSHALL"]);
        self.ask(&["SET", NOW, &time]);
        self.ask(&["SET", PICKS, if picks.is_empty() { "0" } else { &picks }]);
        let restores: Vec<Words> = snapshot
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| {
                vec![b"RESTORE".to_vec(), key.clone(), b"0".to_vec(), value.clone()]
            })
            .collect();
        self.ask_all(&restores);
    }
}

/// The reply to a request, with the members of a set in order.
fn in_order(request: &Words, reply: Vec<u8>) -> Vec<u8> {
    // In a transaction it is only queued, and whoever asked has no order of the whole reply.
    if request[0] != b"SMEMBERS" || reply.starts_with(b"+") {
        return reply;
    }
    let mut members: Vec<Vec<u8>> =
        Reply::read(&reply).list().into_iter().map(Reply::bytes).collect();
    members.sort();
    encode(&members)
}

/// What `PLANT=<name>` asks for: the parts of `tests/planted/<name>.patch` that change
/// scripts, so that these need no other build.
fn planted() -> Vec<(String, String)> {
    let Ok(name) = std::env::var("PLANT") else { return Vec::new() };
    if name.is_empty() {
        return Vec::new();
    }
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let patch =
        std::fs::read_to_string(format!("{root}/tests/planted/{name}.patch")).expect("a patch");
    let mut hunks: Vec<(String, String)> = Vec::new();
    let mut script: Option<String> = None;
    for line in patch.lines() {
        if line.starts_with("diff ") {
            script = None;
        } else if let Some(file) = line.strip_prefix("+++ b/").filter(|file| file.ends_with(".lua"))
        {
            let path = format!("{root}/{file}");
            script = Some(std::fs::read_to_string(path).expect("a script"));
        } else if line.starts_with("@@") && script.is_some() {
            hunks.push(Default::default());
        } else if let Some(script) = &script
            && let Some((from, to)) = hunks.last_mut()
        {
            let (kind, text) = line.split_at(line.len().min(1));
            if matches!(kind, " " | "-") {
                from.push_str(text);
                from.push('\n');
            }
            if matches!(kind, " " | "+") {
                to.push_str(text);
                to.push('\n');
            }
            // Lines are added one by one: what is not there now never will be.
            assert!(script.contains(from.as_str()), "{name}.patch does not fit at `{line}`");
        }
    }
    hunks
}

impl Connection {
    fn send(&mut self, bytes: &[u8], replies: usize) -> Vec<Vec<u8>> {
        let Some(mut time) = self.time.take() else { return self.exchange(bytes, replies) };
        self.times += 1;
        time.extend_from_slice(bytes);
        self.exchange(&time, replies + 1).split_off(1)
    }

    fn exchange(&mut self, bytes: &[u8], replies: usize) -> Vec<Vec<u8>> {
        self.stream.write_all(bytes).expect("a Redis that reads");
        let mut buffer = Vec::new();
        let mut chunk = [0; 65_536];
        let mut found = Vec::new();
        let mut from = 0;
        while found.len() < replies {
            if let Some(length) =
                (from < buffer.len()).then(|| reply_length(&buffer[from..])).flatten()
            {
                found.push(buffer[from..from + length].to_vec());
                from += length;
                continue;
            }
            let read = self.stream.read(&mut chunk).expect("a Redis that answers");
            assert!(read > 0, "Redis closed the connection");
            buffer.extend_from_slice(&chunk[..read]);
        }
        found
    }
}

#[test]
fn what_is_replaced_should_stand_in_the_scripts() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../store/src/lua");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let all: String = files.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    for (from, _) in REPLACED {
        assert!(all.contains(from), "no script has `{from}` any more: mend the simulator");
    }
}
