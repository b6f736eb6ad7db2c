//! Real messages about usage limits, and what is read from them.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is the report of a test, in its helpers too"
)]

use jiff::Timestamp;
use jiff::tz::TimeZone;
use providers::{Limit, limits};

const CORPUS: &str = include_str!("limits.tsv");

fn seen(message: &str, status: Option<u16>, now: Timestamp, zone: &TimeZone) -> String {
    match limits::classify(message, status, now, zone) {
        Some(Limit { until: Some(until) }) => until.to_string(),
        Some(Limit { until: None }) => "none".to_owned(),
        None => "not-a-limit".to_owned(),
    }
}

/// One wrong line does not hide the others.
fn wrong(change: impl Fn(&str) -> String) -> Vec<String> {
    let lines = CORPUS.lines().filter(|line| !line.starts_with('#'));
    let check = |line: &str| {
        let [message, status, now, zone, until] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("not five fields: {line}");
        };
        let zone = TimeZone::get(zone).unwrap();
        let seen = seen(&change(message), status.parse().ok(), now.parse().unwrap(), &zone);
        (seen != until).then(|| format!("{message}\n  expected {until}, seen {seen}"))
    };
    lines.filter_map(check).collect()
}

#[test]
fn corpus_should_be_read_as_it_says() {
    let wrong = wrong(str::to_owned);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(CORPUS.lines().count() > 80);
}

#[test]
fn corpus_should_be_read_the_same_where_lines_are_wrapped() {
    let wrong = wrong(|message| message.replace(' ', "\n  "));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn corpus_should_be_read_the_same_within_a_longer_message() {
    let wrong =
        wrong(|message| format!("claude failed: {message}\n    at generate (cli.js:11:54)"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
