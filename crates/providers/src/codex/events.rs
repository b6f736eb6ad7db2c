//! The lines of JSON in which `codex exec` tells what happens.

use std::borrow::Cow;

use serde::Deserialize;

use crate::call::Usage;
use crate::common::head;

/// How much of a denied command is shown, in bytes.
const SHOWN_BYTES: usize = 80;

/// What `codex` prints, through its helper, where it cannot make its sandbox.
const SANDBOX_ERRORS: &[&str] = &["bwrap: ", "Sandbox(", "LandlockRestrict", "landlock"];

/// One line, as far as it is read. Text is borrowed where it holds no escapes.
#[derive(Debug, Deserialize)]
struct Line<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default, borrow)]
    thread_id: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    item: Option<Item<'a>>,
    #[serde(default)]
    usage: Option<Tokens>,
    #[serde(default, borrow)]
    message: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    error: Option<Reason<'a>>,
}

#[derive(Debug, Deserialize)]
struct Item<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default, borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    command: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    aggregated_output: Option<Cow<'a, str>>,
    #[serde(default)]
    exit_code: Option<i32>,
    #[serde(default, borrow)]
    status: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
struct Reason<'a> {
    #[serde(default, borrow)]
    message: Option<Cow<'a, str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tokens {
    /// With those from a cache.
    input_tokens: u64,
    cached_input_tokens: u64,
    cache_write_input_tokens: u64,
    output_tokens: u64,
}

/// What a run came to.
#[derive(Debug, Default)]
pub(super) struct Events<'a> {
    /// The session's id.
    pub(super) thread: Option<Cow<'a, str>>,
    /// What the agent said last.
    pub(super) message: Option<Cow<'a, str>>,
    /// Whether the turn was completed.
    pub(super) is_complete: bool,
    pub(super) usage: Usage,
    /// The last error of the turn; where it did complete, one that it got over.
    pub(super) error: Option<Cow<'a, str>>,
    /// What was not allowed, for a person.
    pub(super) declined: Vec<String>,
    /// The words of the sandbox, where it never came up.
    pub(super) sandbox_error: Option<String>,
}

impl<'a> Events<'a> {
    /// Lines that are not understood are passed over: there may be a gap, and logs hold
    /// standard error too.
    pub(super) fn read(text: &'a str) -> Self {
        let mut events = Self::default();
        let mut any_command_ran = false;
        for line in text.lines().map(str::trim).filter(|line| line.starts_with('{')) {
            let Ok(line) = serde_json::from_str::<Line<'_>>(line) else {
                continue;
            };
            match line.kind.as_ref() {
                "thread.started" => events.thread = line.thread_id,
                "turn.started" => events.is_complete = false,
                "turn.completed" => {
                    events.is_complete = true;
                    events.usage = line.usage.unwrap_or_default().usage();
                }
                "turn.failed" => events.error = line.error.and_then(|error| error.message),
                "error" => events.error = line.message,
                "item.completed" => {
                    if let Some(item) = line.item {
                        any_command_ran |= events.item(item);
                    }
                }
                _ => {}
            }
        }
        if any_command_ran {
            events.sandbox_error = None;
        }
        events
    }

    /// Takes note of an item; whether it is a command that ran within the sandbox.
    fn item(&mut self, item: Item<'a>) -> bool {
        match item.kind.as_ref() {
            "agent_message" => {
                self.message = item.text;
                return false;
            }
            "command_execution" | "file_change" => {}
            _ => return false,
        }
        if item.status.as_deref() == Some("declined") {
            let command = item.command.as_deref().unwrap_or("a change of files");
            self.declined.push(format!("`{}`", head(command, SHOWN_BYTES)));
            return false;
        }
        let output = item.aggregated_output.as_deref().unwrap_or_default().trim_start();
        let failed = item.exit_code.is_some_and(|code| code != 0);
        if failed && SANDBOX_ERRORS.iter().any(|words| output.starts_with(words)) {
            self.sandbox_error = Some(output.lines().next().unwrap_or_default().to_owned());
            return false;
        }
        item.kind == "command_execution" && item.exit_code.is_some()
    }
}

impl Tokens {
    const fn usage(&self) -> Usage {
        Usage {
            cost_micros: None,
            input_tokens: self.input_tokens.saturating_sub(self.cached_input_tokens),
            output_tokens: self.output_tokens,
            cache_read_tokens: self.cached_input_tokens,
            cache_write_tokens: self.cache_write_input_tokens,
        }
    }
}
