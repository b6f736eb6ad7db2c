//! Which errors mean that a usage limit is reached, and when it is reset.
//!
//! Programs tell this only in words, each in its own and new ones with every version. So
//! an error is read leniently: it is a limit where it says so in any known way, and has a
//! reset time where one can be read from it. A limit without a time is still a limit: the
//! caller holds for a while of its own choice. What a model answers is never read here,
//! only errors, so that a text *about* limits holds nobody up.
//!
//! The messages that are known to be real stand in `tests/limits.tsv`.

mod when;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::call::Limit;
use crate::common::head;

/// How much of a message is read, in bytes.
const READ_BYTES: usize = 4 * 1024;

/// Nothing is held longer.
const LONGEST: SignedDuration = SignedDuration::from_hours(366 * 24);

/// HTTP: a payment is due, too many requests, and Anthropic's "overloaded".
const STATUSES: &[u16] = &[402, 429, 529];

/// What a limit is called; lowercase, blanks merged, straight apostrophes.
const LIMITS: &[&str] = &[
    "usage limit",
    "usage_limit",
    "limit reached",
    "limit has been reached",
    "rate limit",
    "rate-limit",
    "rate_limit",
    "ratelimit",
    "too many requests",
    "request rejected (429)",
    "overloaded",
    "529",
    "at capacity",
    "experiencing high load",
    "insufficient_quota",
    "quota exceeded",
    "quota_exceeded",
    "exceeded your current quota",
    "resource has been exhausted",
    "resource_exhausted",
    "credit balance is too low",
    "out of credits",
    "out of usage",
    "out of extra usage",
    "spending cap",
    "spend cap",
    "spend limit",
    "spending limit",
    "limits will reset",
    "limit will reset",
    "limiting requests",
    "usage credit cap is reached",
];

/// `hit your weekly limit`, `reached your Opus limit`: these, and "limit" soon after.
const HITS: &[&str] = &["hit your ", "reached your ", "hit the ", "reached the "];
/// How soon after, in bytes.
const HIT_BYTES: usize = 48;

/// Limits that no waiting resets, and warnings before one is reached.
const OTHERS: &[&str] = &[
    "context window",
    "context limit",
    "context length",
    "long context",
    "maximum context",
    "for 1m context",
    "prompt is too long",
    "request too large",
    "request_too_large",
    "output token",
    "max turns",
    "max_turns",
    "turn limit",
    "turns limit",
    "number of turns",
    "maximum budget",
    "max_budget",
    "approaching",
    "close to your",
    "file size limit",
];

/// The usage limit that an error tells of, with the time of its reset where it says one.
///
/// `status` is the HTTP status of the service, where known. `now` and `zone` are those of
/// the machine: a time of day without a zone is meant there. A time of day or a date
/// without a year means its next occurrence. A time that has passed already tells
/// nothing, nor does one more than a year away.
#[must_use]
pub fn classify(
    message: &str,
    status: Option<u16>,
    now: Timestamp,
    zone: &TimeZone,
) -> Option<Limit> {
    let text = plain(head(message, READ_BYTES));
    let has = |phrases: &[&str]| phrases.iter().any(|phrase| text.contains(phrase));
    if has(OTHERS) {
        return None;
    }
    let by_status = status.is_some_and(|status| STATUSES.contains(&status));
    if !by_status && !has(LIMITS) && !is_hit(&text) {
        return None;
    }
    Some(Limit { until: when::reset(&text, now, zone) })
}

/// Whether a limit can be reset at `until`: a time that has passed already tells nothing,
/// nor does one more than a year away.
pub(crate) fn is_ahead(until: Timestamp, now: Timestamp) -> bool {
    until > now && until.duration_since(now) <= LONGEST
}

/// Lowercase, with blanks of all kinds merged into one and apostrophes made straight.
fn plain(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for char in message.chars() {
        match char {
            '\u{2018}' | '\u{2019}' => text.push('\''),
            _ if char.is_whitespace() => {
                if !text.ends_with(' ') {
                    text.push(' ');
                }
            }
            _ => text.extend(char.to_lowercase()),
        }
    }
    text
}

fn is_hit(text: &str) -> bool {
    HITS.iter().any(|hit| {
        text.match_indices(hit)
            .any(|(at, _)| head(&text[at + hit.len()..], HIT_BYTES).contains("limit"))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn limit_should_be_known_by_status_alone() {
        let of = |status| classify("no words", status, Timestamp::UNIX_EPOCH, &TimeZone::UTC);
        assert_eq!(of(Some(429)), Some(Limit { until: None }));
        assert_eq!(of(Some(500)), None);
        assert_eq!(of(None), None);
    }

    proptest! {
        #[test]
        fn classify_should_never_panic(
            text in "((usage limit|resets|try again|retry-after|in|at|:|[0-9]{1,30}|oct|mon|pm|am|\\(|\\)|Europe/Berlin|T|Z|-|,|\\.|s|h|days|\\|) ?){0,20}",
            now in -377_705_000_000_i64..253_402_207_000,
        ) {
            let now = Timestamp::from_second(now).unwrap();
            let zone = TimeZone::get("Europe/Berlin").unwrap();
            let limit = classify(&format!("rate limit {text}"), None, now, &zone).unwrap();
            prop_assert!(limit.until.is_none_or(|until| until > now));
        }

        #[test]
        fn classify_should_take_any_text(text in ".{0,200}") {
            let _ = classify(&text, Some(429), Timestamp::UNIX_EPOCH, &TimeZone::UTC);
        }
    }
}
