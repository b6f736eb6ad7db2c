//! `Key: value` in all its dress, and what the values may be.
//!
//! Keys are the same in any case and with a space, `-` or `_` between words.
//! Values lose what people put around them in Markdown: emphasis, back quotes,
//! quotes, a trailing comment.

use std::fmt;
use std::ops::Range;

use model::Provider;
use model::task::MAX_PRIORITY;

use super::Context;
use super::blocks::{Block, Kind};
use crate::suggest::nearest;

/// The longest time limit or cadence.
const MAX_SECONDS: u64 = 7 * 24 * 3600;
/// The most attempts a task may be given.
const MAX_ATTEMPTS: u32 = 100;
/// The longest name of a provider or model.
const MAX_NAME_CHARS: usize = 128;
/// The highest budget, in US dollars.
const MAX_DOLLARS: u64 = 1_000_000;
const MICROS_PER_DOLLAR: u64 = 1_000_000;
/// The longest key; what is longer before a colon is prose.
const MAX_KEY_CHARS: usize = 32;

/// A piece of text and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) text: String,
    pub(super) range: Range<usize>,
}

/// One `Key: value`.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    /// Lower case, one space between words.
    pub(super) key: String,
    pub(super) key_range: Range<usize>,
    pub(super) value: Spot,
    /// Its entries, where it was written as a list.
    pub(super) items: Vec<Spot>,
}

/// `Log-Level`, `log_level` and `LOG LEVEL` as `log level`.
pub(super) fn normal_key(written: &str) -> String {
    let words = written.split(|c: char| c.is_whitespace() || c == '-' || c == '_');
    let words: Vec<String> = words.filter(|word| !word.is_empty()).map(str::to_lowercase).collect();
    words.join(" ")
}

/// The part of `range` of `text` left when `trim` has shortened it.
pub(super) fn trimmed(
    text: &str,
    range: &Range<usize>,
    trim: impl Fn(&str) -> &str,
) -> Range<usize> {
    let Some(slice) = text.get(range.clone()) else { return range.start..range.start };
    let rest = trim(slice);
    // What is left lies within the slice, so its distance is its place.
    let start = range.start + (rest.as_ptr() as usize - slice.as_ptr() as usize);
    start..start + rest.len()
}

/// A value without what Markdown and habit put around it.
pub(super) fn clean(text: &str, range: &Range<usize>) -> Spot {
    let range = trimmed(text, range, |slice| {
        let mut rest = slice.trim();
        if let Some(start) = rest.find("<!--")
            && rest.ends_with("-->")
        {
            rest = rest[..start].trim_end();
        }
        rest = rest.trim_start_matches("**").trim_start();
        for quote in ["`", "\"", "'"] {
            let inner = rest.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
            if let Some(inner) = inner.filter(|inner| !inner.contains(quote)) {
                return inner.trim();
            }
        }
        rest
    });
    Spot { text: one_line(text.get(range.clone()).unwrap_or_default()), range }
}

/// An id as people write one in Markdown: without emphasis and escapes.
pub(super) fn clean_id(text: &str, range: &Range<usize>) -> Spot {
    let range = trimmed(text, range, |slice| slice.trim().trim_matches(['*', '`']).trim());
    let raw = text.get(range.clone()).unwrap_or_default();
    Spot { text: one_line(&raw.replace("\\_", "_").replace("\\-", "-")), range }
}

/// White space, line ends included, as single spaces.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The `Key: value` in `range`, if it looks like one.
pub(super) fn read(text: &str, range: &Range<usize>) -> Option<Setting> {
    let slice = text.get(range.clone())?;
    let colon = slice.find(':')?;
    let key_range = trimmed(text, &(range.start..range.start + colon), |key| {
        key.trim().trim_matches(['*', '`', '_']).trim()
    });
    let key = text.get(key_range.clone())?;
    let wordlike = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    if key.is_empty() || key.chars().count() > MAX_KEY_CHARS || !key.chars().all(wordlike) {
        return None;
    }
    let value = clean(text, &(range.start + colon + 1..range.end));
    Some(Setting { key: normal_key(key), key_range, value, items: Vec::new() })
}

/// The settings of a list: each item's own, or where the item stands.
pub(super) fn of_list(text: &str, list: &Block) -> Vec<Result<Setting, Range<usize>>> {
    let setting = |item: &Block| {
        let range = item.head().0.unwrap_or_else(|| item.range.clone());
        read(text, &range).ok_or(range)
    };
    list.children.iter().filter(|item| item.kind == Kind::Item).map(setting).collect()
}

/// Sorts `settings` by the keys in `known`, reporting unknown and repeated ones.
/// `repeated` may come more than once.
///
/// The second part is whether any was given twice: which one is meant is unclear.
pub(super) fn sort<K: Copy + PartialEq>(
    context: &mut Context<'_>,
    settings: Vec<Setting>,
    known: &[(&'static str, K)],
    repeated: Option<K>,
) -> (Vec<(K, Setting)>, bool) {
    let mut sorted: Vec<(K, Setting)> = Vec::new();
    // Where each key came first: at most one entry for each that is known.
    let mut firsts: Vec<(K, Range<usize>)> = Vec::new();
    let mut twice = false;
    for setting in settings {
        let Some((name, key)) = known.iter().find(|(name, _)| *name == setting.key) else {
            unknown_key(context, &setting, known.iter().map(|(name, _)| *name));
            continue;
        };
        let first = firsts.iter().find(|(have, _)| have == key);
        if let Some((_, first)) = first.filter(|_| Some(*key) != repeated) {
            let line = context.source.line_of(first.start);
            let message = format!("`{name}` is given twice; the first is at line {line}");
            let help = format!("remove one of the two `{name}` lines");
            context.error(&setting.key_range, message, Some(help));
            twice = true;
            continue;
        }
        if first.is_none() {
            firsts.push((*key, setting.key_range.clone()));
        }
        sorted.push((*key, setting));
    }
    (sorted, twice)
}

fn unknown_key(
    context: &mut Context<'_>,
    setting: &Setting,
    known: impl Iterator<Item = &'static str> + Clone,
) {
    let written = context.source.slice(&setting.key_range).to_owned();
    let help = match nearest(&setting.key, known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known here: {}", known.collect::<Vec<_>>().join(", ")),
    };
    let message = format!("unknown key `{}`: it has no effect", written.escape_debug());
    context.warning(&setting.key_range, message, Some(help));
}

/// A time as people write it: `500ms`, `5s`, `10m`, `2h`, `1d`.
pub(super) fn duration(written: &str) -> Result<std::time::Duration, String> {
    let expected = "write a whole number and a unit: 500ms, 5s, 10m, 2h or 1d".to_owned();
    let split = written.find(|c: char| !c.is_ascii_digit()).ok_or_else(|| expected.clone())?;
    let (digits, unit) = written.split_at(split);
    let number: u64 = digits.parse().map_err(|_| expected.clone())?;
    let millis_per_unit = match unit.trim().to_lowercase().as_str() {
        "ms" => 1,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
        "h" | "hour" | "hours" => 3_600_000,
        "d" | "day" | "days" => 86_400_000,
        _ => return Err(expected),
    };
    let millis = number.saturating_mul(millis_per_unit);
    if millis == 0 || millis > MAX_SECONDS * 1_000 {
        return Err("more than 0 and at most 7d is allowed".to_owned());
    }
    Ok(std::time::Duration::from_millis(millis))
}

/// Reads `value` with `parse`; what is wrong is reported at its place.
pub(super) fn value<T, E: fmt::Display>(
    context: &mut Context<'_>,
    name: &str,
    value: &Spot,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Option<T> {
    if value.text.is_empty() {
        let help = format!("write what it should be after `{name}:`, or remove the line");
        context.error(&value.range, format!("`{name}` has no value"), Some(help));
        return None;
    }
    match parse(&value.text) {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            let shown = value.text.escape_debug();
            let message = format!("`{shown}` is not a valid {name}");
            context.error(&value.range, message, Some(error.to_string()));
            None
        }
    }
}

/// Whole seconds of a time limit.
pub(super) fn timeout_secs(written: &str) -> Result<u64, String> {
    let time = duration(written)?;
    if time.subsec_millis() != 0 {
        return Err("a time limit is counted in whole seconds: write 1s or more".to_owned());
    }
    Ok(time.as_secs())
}

/// 0 to the highest priority.
pub(super) fn priority(written: &str) -> Result<u32, String> {
    let allowed = format!("write a whole number from 0 to {MAX_PRIORITY}; higher runs first");
    written.parse().ok().filter(|priority| *priority <= MAX_PRIORITY).ok_or(allowed)
}

/// 1 to the most attempts.
pub(super) fn max_attempts(written: &str) -> Result<u32, String> {
    let allowed = format!("write a whole number from 1 to {MAX_ATTEMPTS}");
    written.parse().ok().filter(|n| (1..=MAX_ATTEMPTS).contains(n)).ok_or(allowed)
}

/// A sum in US dollars, in millionths: `$5`, `5.50`, `$0.25`, `5 USD`.
pub(super) fn budget(written: &str) -> Result<u64, String> {
    let expected = || "write US dollars: $5, 5.50, $0.25 or 5 USD".to_owned();
    let mut amount = written.trim();
    let marked = amount.strip_prefix('$');
    amount = marked.unwrap_or(amount).trim_start();
    let unit = amount.len().checked_sub(3).and_then(|at| amount.split_at_checked(at));
    if let Some((number, unit)) = unit
        && unit.eq_ignore_ascii_case("usd")
    {
        amount = number.trim_end();
    }
    let (dollars, fraction) = amount.split_once('.').unwrap_or((amount, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(dollars) || !digits(fraction) || fraction.len() > 6 {
        return Err(expected());
    }
    let dollars: u64 = dollars.parse().map_err(|_| expected())?;
    let micros: u64 = format!("{fraction:0<6}").parse().map_err(|_| expected())?;
    if dollars > MAX_DOLLARS {
        return Err(format!("at most ${MAX_DOLLARS} is allowed"));
    }
    match dollars * MICROS_PER_DOLLAR + micros {
        0 => Err("write more than 0; without this line there is no limit".to_owned()),
        micros => Ok(micros),
    }
}

/// `on` or `off`.
pub(super) fn switch(written: &str) -> Result<bool, String> {
    match written.to_ascii_lowercase().as_str() {
        "on" | "yes" | "true" => Ok(true),
        "off" | "no" | "false" => Ok(false),
        _ => Err("write on or off".to_owned()),
    }
}

/// One of the providers that there are.
pub(super) fn provider(written: &str) -> Result<Provider, String> {
    written.parse().map_err(|_| {
        let words = || Provider::ALL.into_iter().map(Provider::as_str);
        let known = words().collect::<Vec<_>>().join(", ");
        match nearest(written, words()) {
            Some(near) => format!("did you mean `{near}`? There are: {known}"),
            None => format!("there are: {known}"),
        }
    })
}

/// The name of a model, or a permission mode. It reaches command lines, so it must be one
/// word that is no flag.
pub(super) fn name(written: &str) -> Result<String, String> {
    let word = !written.contains(|c: char| c.is_whitespace() || c.is_control());
    if word && !written.starts_with('-') && written.chars().count() <= MAX_NAME_CHARS {
        return Ok(written.to_owned());
    }
    Err(format!("write one word of at most {MAX_NAME_CHARS} characters that does not begin with -"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn setting_should_be_read_in_any_dress() {
        for text in [
            "Log Level: INFO",
            "log-level:INFO",
            "LOG_LEVEL :  INFO  ",
            "**Log level:** INFO",
            "**Log level**: `INFO`",
            "`log level`: \"INFO\" <!-- quiet -->",
        ] {
            let setting = read(text, &(0..text.len())).unwrap();
            assert_eq!((setting.key.as_str(), setting.value.text.as_str()), ("log level", "INFO"));
            assert_eq!(&text[setting.value.range], "INFO", "{text}");
        }
        for text in ["no colon", "https://x", "a, b: c", ": x", "see (here): x"] {
            let key = read(text, &(0..text.len())).map(|setting| setting.key);
            assert!(key.is_none() || key.as_deref() == Some("https"), "{text}: {key:?}");
        }
    }

    #[test]
    fn durations_should_be_read_with_their_unit_only() {
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("10 m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2H"), Ok(Duration::from_secs(7200)));
        for text in ["5", "s", "-5s", "1.5h", "0s", "8d", "99999999999999999999s", "5 parsecs"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(timeout_secs("1m"), Ok(60));
        assert!(timeout_secs("500ms").is_err());
    }

    #[test]
    fn budgets_should_be_read_as_dollars_to_the_micro() {
        for (text, micros) in [
            ("$5", 5_000_000),
            ("5", 5_000_000),
            ("5.50", 5_500_000),
            ("$0.25", 250_000),
            ("$ 5", 5_000_000),
            ("5 USD", 5_000_000),
            ("$5usd", 5_000_000),
            ("0.000001", 1),
            ("1000000", 1_000_000_000_000),
        ] {
            assert_eq!(budget(text), Ok(micros), "{text}");
        }
        for text in [
            "",
            "$",
            "USD",
            "0",
            "$0.00",
            "-5",
            "+5",
            "5,50",
            "5.",
            ".5",
            "1e3",
            "€5",
            "5 EUR",
            "5$",
            "1.0000001",
            "1000001",
            "99999999999999999999",
            "ä USD",
            "äää",
        ] {
            assert!(budget(text).is_err(), "{text}");
        }
    }

    #[test]
    fn providers_should_be_known_or_suggested() {
        assert_eq!(provider("Claude"), Ok(Provider::Claude));
        assert!(provider("claud").unwrap_err().starts_with("did you mean `claude`?"));
        assert!(provider("gemini").unwrap_err().starts_with("there are: claude"));
    }

    #[test]
    fn names_should_not_become_flags() {
        assert!(name("claude-sonnet").is_ok());
        for text in ["--model", "a b", "-x"] {
            assert!(name(text).is_err(), "{text}");
        }
    }
}
