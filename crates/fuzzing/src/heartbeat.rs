//! Heartbeat files.

use control_files::directives::{LastLine, Line, Step, additions, parse_line};
use model::task::MAX_PRIORITY;

use crate::check::{assert_quotable, halves, text};

/// The longest reason why a line is refused.
const REASON_BYTES: usize = 1024;
/// Files up to this length are carried out line by line, with a crash after each.
const CARRIED_OUT_BYTES: usize = 4 * 1024;

/// A file, seen (before the divider) and now (behind it): each line reads back, and each
/// added one is applied exactly once, wherever a crash falls.
pub fn heartbeat(data: &[u8]) {
    let text = text(data);
    // What was seen always ends with a line end, as what stands before a divider does.
    let (seen, current) = match halves(&text) {
        (seen, Some(current)) => (seen, current),
        (current, None) => ("", current),
    };
    current.lines().for_each(check_line);
    for last in [LastLine::Wait, LastLine::Take] {
        if text.len() <= CARRIED_OUT_BYTES {
            carry_out(seen, current, last);
        } else {
            let found = additions(seen, current, last);
            assert!(found.added() <= current.lines().count());
            found.steps().take(3).for_each(drop);
        }
    }
}

fn check_line(line: &str) {
    match parse_line(line) {
        Line::Blank | Line::Comment => {}
        Line::Refused(reason) => assert_quotable(&reason, REASON_BYTES, "a refusal"),
        Line::Directive(directive) => {
            if let control_files::directives::Directive::Elevate(_, priority) = &directive {
                assert!(*priority <= MAX_PRIORITY);
            }
            assert_eq!(parse_line(&directive.to_string()), Line::Directive(directive));
        }
    }
}

fn carry_out(before: &str, current: &str, last: LastLine) {
    let first = additions(before, current, last);
    let planned: Vec<Step> = first.steps().collect();
    let lines: Vec<&String> = planned.iter().filter_map(|step| step.line.as_ref()).collect();
    assert_eq!(lines.len(), first.added());
    assert!(first.pending().is_none() || last == LastLine::Wait);

    // Each line that says something was seen and is kept, or is added, or waits.
    let says = |text: &str| additions("", text, LastLine::Take).added();
    let kept = says(before) - first.removed();
    let waits = usize::from(first.pending().is_some());
    assert_eq!(kept + first.added() + waits, says(current), "a line was lost or invented");

    let mut seen = before.to_owned();
    for (done, step) in planned.iter().enumerate() {
        seen = step.seen.after(&seen);
        let left = additions(&seen, current, last);
        let left: Vec<String> = left.steps().filter_map(|step| step.line).collect();
        let wanted = lines.get(done + 1..).unwrap_or_default();
        assert_eq!(left.iter().collect::<Vec<_>>(), wanted, "after a crash behind {done} steps");
    }
    // What was seen in the end are the complete lines of the file, byte for byte.
    let complete = match first.pending() {
        Some(_) => current.rfind('\n').map_or("", |end| &current[..=end]),
        None => current,
    };
    let end = if complete.is_empty() || complete.ends_with('\n') { "" } else { "\n" };
    assert_eq!(seen, format!("{complete}{end}"));
    assert_eq!(additions(&seen, current, last).steps().count(), 0, "nothing is applied twice");
}
