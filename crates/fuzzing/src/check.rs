//! What the targets have in common.

use std::borrow::Cow;

use crate::DIVIDER;

/// The text before the [`DIVIDER`] and the one after it; all of it where there is none.
pub(crate) fn halves(text: &str) -> (&str, Option<&str>) {
    let mark = format!("\n{DIVIDER}\n");
    match text.split_once(&mark) {
        // Both halves end as they were written.
        Some((first, _)) => (&text[..=first.len()], Some(&text[first.len() + mark.len()..])),
        None => (text, None),
    }
}

/// What stands in a file or comes from a program: bytes that are no UTF-8 are replaced, as
/// by whoever captures a program's output.
pub(crate) fn text(data: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(data)
}

/// Panics where `said`, an error or a part of one, is longer than `most_bytes` or holds
/// characters that a terminal would obey.
pub(crate) fn assert_quotable(said: &str, most_bytes: usize, what: &str) {
    assert!(said.len() <= most_bytes, "{what} has {} bytes: {said:.200}", said.len());
    let hostile = said.chars().find(|c| c.is_control() && *c != '\n');
    assert!(hostile.is_none(), "{what} holds {hostile:?}: {said:.200?}");
}

/// Panics where `path` could lead out of the folder that it counts from.
pub(crate) fn assert_inside(path: &str) {
    let parts = || path.split('/');
    assert!(
        !path.is_empty() && parts().all(|part| !matches!(part, "" | "." | "..")),
        "{path:?} may lead out of its folder"
    );
    assert!(!path.chars().any(char::is_control), "{path:?} has control characters");
}
