//! What `sysg` says, read: pure functions of how its call ended.
//!
//! Its exit code is 1 for every failure, so its words are all there is to go by. They
//! reach logs, Redis and terminals: what is quoted of them is bounded and printable.

use process::Ended;

use crate::Error;

/// How much of a complaint is quoted, in characters.
const QUOTE_CHARS: usize = 400;

/// A request for a child, as far as errors name it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// How the child is called.
    pub name: &'a str,
    /// Whose child it shall be.
    pub parent: u32,
    /// The words after `sysg`.
    pub action: &'a str,
}

/// The pid of the child that was asked for: the last line of standard output.
///
/// # Errors
/// Why there is none, as far as systemg's words are known; [`Error::Other`] quotes others.
pub fn child(ended: &Ended, asked: &Asked<'_>) -> Result<u32, Error> {
    let name = || asked.name.to_owned();
    let other = |said| Error::Other { action: asked.action.to_owned(), said };
    if ended.status.is_success() {
        let line = ended.stdout.text.lines().rfind(|line| !line.trim().is_empty());
        // The kernel's pids are positive and signed.
        let pid = line.and_then(|line| line.trim().parse::<i32>().ok()).filter(|pid| *pid > 0);
        return pid.map(i32::unsigned_abs).ok_or_else(|| other("it printed no pid".into()));
    }
    let said = &ended.stderr.text;
    let after = |mark: &str| {
        let rest = said.split_once(mark)?.1;
        Some(quoted(rest.lines().next().unwrap_or_default()))
    };
    if let Some(limit) = after("Spawn limit exceeded:") {
        let is_rate = limit.contains("rate limit");
        let rate = Error::SpawnRate { name: name() };
        return Err(if is_rate { rate } else { Error::SpawnLimit { name: name(), limit } });
    }
    if let Some(reason) = after("Spawn authorization failed:") {
        return Err(Error::NotAllowed { name: name(), parent: asked.parent, reason });
    }
    if said.contains("control socket not available") || said.contains("Connection refused") {
        return Err(Error::NoSupervisor { name: name() });
    }
    Err(other(essence(ended)))
}

/// The version that `sysg --version` prints, such as `0.69.2`.
///
/// # Errors
/// [`Error::Other`] quotes what it said instead.
pub fn version(ended: &Ended) -> Result<String, Error> {
    let version = ended.stdout.text.split_whitespace().nth(1).filter(|version| {
        ended.status.is_success() && version.starts_with(|first: char| first.is_ascii_digit())
    });
    version
        .map(quoted)
        .ok_or_else(|| Error::Other { action: "--version".into(), said: essence(ended) })
}

/// The error of a failed call without the warnings around it, on one line.
fn essence(ended: &Ended) -> String {
    let said = &ended.stderr.text;
    let error = said.find("error").map_or(said.as_str(), |start| &said[start..]);
    let quote = quoted(error.split("help:").next().unwrap_or_default());
    if quote.is_empty() { format!("it said nothing ({:?})", ended.status) } else { quote }
}

/// The beginning of `text` on one line, without what a terminal would obey.
fn quoted(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let mut quote = String::new();
    for word in words.filter(|word| !word.is_empty()) {
        if !quote.is_empty() {
            quote.push(' ');
        }
        quote.push_str(word);
        // Nobody reads the rest, which can be long.
        if let Some((end, _)) = quote.char_indices().nth(QUOTE_CHARS) {
            quote.truncate(end);
            break;
        }
    }
    quote
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use process::{Captured, Status};

    use super::*;

    const ASKED: Asked<'_> = Asked { name: "a", parent: 7, action: "spawn" };

    fn ended(code: i32, stdout: &str, stderr: &str) -> Ended {
        let captured = |text: &str| Captured { text: text.into(), left_out_bytes: 0 };
        Ended {
            status: Status::Exited(code),
            stdout: captured(stdout),
            stderr: captured(stderr),
            duration: Duration::ZERO,
        }
    }

    #[test]
    fn pid_should_be_the_last_line_and_one_that_can_be() {
        assert_eq!(child(&ended(0, "a warning\n 4711 \n\n", ""), &ASKED).unwrap(), 4711);
        for stdout in ["", "\n", "x", "4711 x", "-1", "0", "2147483648", "99999999999999999999"] {
            let error = child(&ended(0, stdout, ""), &ASKED).unwrap_err();
            assert!(error.to_string().contains("no pid"), "{stdout:?}: {error}");
        }
    }

    #[test]
    fn words_should_tell_what_is_wrong() {
        let of = |stderr: &str| child(&ended(1, "", stderr), &ASKED).unwrap_err();
        assert!(matches!(of("Spawn limit exceeded: rate limit\n"), Error::SpawnRate { .. }));
        let error = of("warning: x\nerror: Spawn limit exceeded: 100 children \nhelp: y");
        assert!(matches!(error, Error::SpawnLimit { limit, .. } if limit == "100 children"));
        let error = of("Spawn authorization failed: no service");
        assert!(
            matches!(error, Error::NotAllowed { parent: 7, reason, .. } if reason == "no service")
        );
        assert!(matches!(of("x: Connection refused"), Error::NoSupervisor { .. }));
        let error = of("warning: old\nerror: it is\n  broken\nhelp: repair it");
        assert!(matches!(error, Error::Other { said, .. } if said == "error: it is broken"));
        assert!(of("").to_string().contains("said nothing"));
    }

    /// Regression: a line of any length and control characters reached the error.
    #[test]
    fn quotes_should_be_bounded_and_printable() {
        let hostile = format!("\u{1b}[2J{}", "ä".repeat(100_000));
        for mark in ["Spawn limit exceeded:", "Spawn authorization failed:", "error: "] {
            let said = child(&ended(1, "", &format!("{mark}{hostile}")), &ASKED).unwrap_err();
            let said = said.to_string();
            assert!(said.chars().count() < 1_000 && !said.contains('\u{1b}'), "{said}");
        }
        let long = version(&ended(0, &format!("sysg 1{hostile}"), "")).unwrap();
        assert!(long.chars().count() <= QUOTE_CHARS && !long.contains('\u{1b}'), "{long}");
    }
}
