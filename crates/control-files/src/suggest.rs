//! "Did you mean": the known word nearest to what was written.

/// The word of `known` that `written` most likely meant, if any is near enough:
/// at most a third of its characters differ (two swapped ones count once), or it
/// begins with what was written.
pub(crate) fn nearest<'k>(
    written: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> Option<&'k str> {
    /// Beyond this no known word is near, and comparing would cost too much.
    const LONGEST_CHARS: usize = 130;

    let written = written.to_lowercase();
    let length = written.chars().count();
    if length == 0 || length > LONGEST_CHARS {
        return None;
    }
    known
        .into_iter()
        .filter_map(|word| {
            let lower = word.to_lowercase();
            let distance = strsim::osa_distance(&written, &lower);
            let allowed = (lower.chars().count().max(length) / 3).min(3);
            let prefix = length >= 3 && lower.starts_with(&written);
            (distance <= allowed || prefix).then_some((distance, word))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_should_find_typos_and_beginnings_only() {
        let known = ["PAUSE", "RESUME", "DROP-TASK", "goal-001"];
        assert_eq!(nearest("PUASE", known), Some("PAUSE"));
        assert_eq!(nearest("drop", known), Some("DROP-TASK"));
        assert_eq!(nearest("drop_task", known), Some("DROP-TASK"));
        assert_eq!(nearest("goal-01", known), Some("goal-001"));
        assert_eq!(nearest("banana", known), None);
        assert_eq!(nearest("a", ["b"]), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest(&"x".repeat(100_000), known), None);
    }
}
