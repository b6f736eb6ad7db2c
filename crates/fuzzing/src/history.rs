//! The stream of events, where anybody may write, as `orch audit` judges it.

use std::collections::BTreeMap;

use audit::{State, check};
use store::event::Event;

use crate::check::text;

/// How many violations are kept.
const MOST_KEPT: usize = 1_000;

/// A history, an event a line: its kind and `field=value` each, with blanks between. It is
/// judged, whatever it says, the same each time; what a violation shows is in the history.
pub fn history(data: &[u8]) {
    let text = text(data);
    let events: Vec<Event> = text.lines().zip(1_u64..).map(event).collect();
    let report = check(&events, &State::default());
    assert_eq!(report.events, events.len() as u64);
    assert!(report.violations.len() <= MOST_KEPT);
    let last = events.last().map(audit::EventId::of).unwrap_or_default();
    for violation in &report.violations {
        assert!(!violation.text.is_empty());
        assert!(violation.events.iter().all(|id| *id <= last), "{violation:?}");
    }
    let again = check(&events, &State::default());
    assert_eq!(again, report);
}

fn event((line, number): (&str, u64)) -> Event {
    let mut words = line.split(' ');
    let kind = words.next().unwrap_or_default().to_owned();
    let fields: BTreeMap<String, String> = words
        .filter_map(|word| word.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    // In one order: what a Redis that was restored does to it is another matter.
    Event { id: format!("{number}-0"), kind, fields }
}
