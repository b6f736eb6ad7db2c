//! What a scripted model says.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

/// What a reply claims to have used up, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Read, without those from a cache.
    pub input: u64,
    /// Written.
    pub output: u64,
    /// Read from a cache.
    pub cache_read: u64,
    /// Put into a cache; the Responses API has no such figure.
    pub cache_write: u64,
}

impl Default for Usage {
    fn default() -> Self {
        Self { input: 1_000, output: 100, cache_read: 200, cache_write: 0 }
    }
}

/// One reply of a scripted model, made by one of the constructors and changed by
/// the other methods: `Say::json(plan).slowly(Duration::from_millis(20))`.
#[derive(Debug, Clone)]
pub struct Say {
    pub(super) what: What,
    pub(super) usage: Usage,
    pub(super) delay: Duration,
    pub(super) pause: Duration,
    pub(super) breaks: Option<(usize, Break)>,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    Blocks(Vec<Block>),
    Error(Refusal),
    Raw { status: u16, headers: Vec<(String, String)>, body: String },
    Hang,
}

#[derive(Debug, Clone)]
pub(super) enum Block {
    Text(String),
    Json(Value),
    Tool { name: String, input: Value },
    Shell(String),
    Write { path: PathBuf, text: String },
}

#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) kind: String,
    pub(super) message: String,
    pub(super) headers: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
pub(super) enum Break {
    Cut,
    Hang,
    Error { kind: String, message: String },
}

impl Say {
    fn new(what: What) -> Self {
        let usage = Usage::default();
        Self { what, usage, delay: Duration::ZERO, pause: Duration::ZERO, breaks: None }
    }

    fn block(block: Block) -> Self {
        Self::new(What::Blocks(vec![block]))
    }

    /// A text, which ends the turn.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::block(Block::Text(text.into()))
    }

    /// A structured answer: a call of the tool `StructuredOutput` where `claude`
    /// offers it, else the JSON as text.
    #[must_use]
    pub fn json(value: Value) -> Self {
        Self::block(Block::Json(value))
    }

    /// A call of a tool, by the program's own name for it; `input` is an object,
    /// or a string for `codex`' tools that take free text.
    #[must_use]
    pub fn tool(name: impl Into<String>, input: Value) -> Self {
        Self::block(Block::Tool { name: name.into(), input })
    }

    /// A shell command, by the tool that the program has for it.
    #[must_use]
    pub fn shell(command: impl Into<String>) -> Self {
        Self::block(Block::Shell(command.into()))
    }

    /// A file is written: by `Write` with `claude`, by a shell command with
    /// `codex`. A relative path is meant from the program's working folder.
    #[must_use]
    pub fn write(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self::block(Block::Write { path: path.into(), text: text.into() })
    }

    /// This many bytes of text.
    #[must_use]
    pub fn huge(bytes: usize) -> Self {
        Self::text("All work and no play. ".repeat(bytes / 22 + 1).split_at(bytes).0)
    }

    /// Several texts and calls of tools in one reply. What was set on the parts by
    /// other methods, and errors among them, are ignored.
    #[must_use]
    pub fn several(parts: impl IntoIterator<Item = Self>) -> Self {
        let blocks = parts.into_iter().flat_map(|part| match part.what {
            What::Blocks(blocks) => blocks,
            What::Error(_) | What::Raw { .. } | What::Hang => Vec::new(),
        });
        Self::new(What::Blocks(blocks.collect()))
    }

    /// An HTTP error in the API's own form: 429 `rate_limit_error`, 529
    /// `overloaded_error`; for `codex` also 429 `usage_limit_reached`.
    #[must_use]
    pub fn error(status: u16, kind: impl Into<String>, message: impl Into<String>) -> Self {
        let (kind, message) = (kind.into(), message.into());
        Self::new(What::Error(Refusal { status, kind, message, headers: Vec::new() }))
    }

    /// Any HTTP answer.
    #[must_use]
    pub fn raw(status: u16, headers: &[(&str, &str)], body: impl Into<String>) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Self::new(What::Raw { status, headers: headers.collect(), body: body.into() })
    }

    /// Nothing, ever: the connection stays open.
    #[must_use]
    pub fn hang() -> Self {
        Self::new(What::Hang)
    }

    /// Adds a header to an error or a raw answer.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        match &mut self.what {
            What::Error(Refusal { headers, .. }) | What::Raw { headers, .. } => {
                headers.push((name.to_owned(), value.to_string()));
            }
            What::Blocks(_) | What::Hang => {}
        }
        self
    }

    /// Adds `retry-after` to an error, in seconds.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        self.header("retry-after", seconds)
    }

    /// Waits this long before anything is answered.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Waits this long before each event of the stream. A text comes in about
    /// eight of them.
    #[must_use]
    pub fn slowly(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Closes the connection in the middle, after this many events of the stream.
    #[must_use]
    pub fn cut_after(mut self, events: usize) -> Self {
        self.breaks = Some((events, Break::Cut));
        self
    }

    /// Sends no more after this many events of the stream, with the connection open.
    #[must_use]
    pub fn hang_after(mut self, events: usize) -> Self {
        self.breaks = Some((events, Break::Hang));
        self
    }

    /// Ends the stream with an error after this many events.
    #[must_use]
    pub fn fail_after(
        mut self,
        events: usize,
        kind: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        let (kind, message) = (kind.into(), message.into());
        self.breaks = Some((events, Break::Error { kind, message }));
        self
    }

    /// Claims to have used this up.
    #[must_use]
    pub fn using(mut self, usage: Usage) -> Self {
        self.usage = usage;
        self
    }
}
