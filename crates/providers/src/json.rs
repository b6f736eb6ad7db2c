//! Finding the JSON value in what a model said.
//!
//! Models put prose around their JSON, fence it, or stop in the middle of it. A value is
//! searched for in this order: the whole text; the fenced blocks; the prose. Within a
//! place the first value that the caller takes for the answer wins, else the first
//! object, else the first array. So a footnote mark `[1]` or an example before the answer
//! does no harm, and a fragment of a broken answer is never taken for the answer.
//!
//! Each byte is looked at a bounded number of times, whatever the text; nesting deeper
//! than serde_json's limit (128) is no value.

use serde::de::IgnoredAny;
use serde_json::Value;

/// Most values that are looked at in one text: more is no answer, and each one costs
/// memory.
const MAX_VALUES: usize = 1_000;

/// Most brackets of prose that are tried in one text.
const MAX_BRACKETS: usize = 100_000;

/// The JSON value in `text`, preferably one that `fits`.
///
/// `None` where there is no object, no array, and the whole text is no JSON either.
#[must_use]
pub fn find(text: &str, fits: impl Fn(&Value) -> bool) -> Option<Value> {
    let text = text.trim().trim_start_matches('\u{feff}');
    match serde_json::from_str::<Value>(text) {
        // JSON in a JSON string: once, not again and again.
        Ok(Value::String(inner)) => {
            return Some(best(&inner, &fits).unwrap_or(Value::String(inner)));
        }
        Ok(value) => return Some(value),
        Err(_) => {}
    }
    let fenced = fences(text).filter_map(|block| serde_json::from_str::<Value>(block.trim()).ok());
    choose(fenced, &fits).or_else(|| best(text, &fits))
}

fn best(text: &str, fits: &impl Fn(&Value) -> bool) -> Option<Value> {
    choose(
        Values { text, at: 0, left: MAX_BRACKETS }
            .filter_map(|found| serde_json::from_str(found).ok()),
        fits,
    )
}

/// The first that fits, else the first object, else the first array.
fn choose(values: impl Iterator<Item = Value>, fits: &impl Fn(&Value) -> bool) -> Option<Value> {
    let (mut object, mut array) = (None, None);
    for value in values.take(MAX_VALUES) {
        if value.is_object() && fits(&value) {
            return Some(value);
        }
        let place = if value.is_object() { &mut object } else { &mut array };
        if place.is_none() && (value.is_object() || value.is_array()) {
            *place = Some(value);
        }
    }
    object.or(array)
}

/// The contents of blocks between lines of three backticks. The first such line opens, so
/// one that is never closed is not taken.
fn fences(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let open = rest.find("```")?;
        let inside = &rest[open + 3..];
        // The rest of the opening line names the language.
        let start = inside.find('\n').map_or(inside.len(), |end| end + 1);
        let body = &inside[start..];
        let Some(close) = body.find("```") else {
            rest = "";
            return None;
        };
        rest = &body[close + 3..];
        Some(&body[..close])
    })
}

/// The objects and arrays that stand in a text side by side, outermost ones only.
struct Values<'a> {
    text: &'a str,
    at: usize,
    /// How many brackets may still turn out to be prose.
    left: usize,
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        while self.left > 0 {
            self.left -= 1;
            let start = self.at + self.text[self.at..].find(['{', '['])?;
            let rest = &self.text[start..];
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<IgnoredAny>();
            match values.next() {
                Some(Ok(_)) => {
                    let length = values.byte_offset();
                    self.at = start + length;
                    return Some(&rest[..length]);
                }
                Some(Err(error)) => {
                    let wrong = offset(rest, error.line(), error.column()).max(1);
                    let opening =
                        |byte: &u8| matches!(byte, b'[' | b'{') || byte.is_ascii_whitespace();
                    // A bracket of prose is passed over; of a value that is broken or cut
                    // off, all of it, or its parts would be taken for answers. Both go on
                    // behind the error, so the whole text is read but twice.
                    let length = if rest.as_bytes()[..wrong].iter().all(opening) {
                        wrong
                    } else {
                        balanced(rest.as_bytes())
                    };
                    self.at = self.text.ceil_char_boundary(start + length);
                }
                None => return None,
            }
        }
        None
    }
}

/// The byte that `line` and `column` of a serde_json error name: the one before which, or
/// at which, it stopped.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let mut lines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
    let start = match line.checked_sub(2) {
        Some(newlines) => lines.nth(newlines).map_or(text.len(), |(at, _)| at + 1),
        None => 0,
    };
    // The column counts from 1, and the byte it names may open the next value.
    (start + column.saturating_sub(1)).min(text.len())
}

/// Where the bracket with which `text` begins is closed again, brackets within strings
/// aside; the text's length where it is not.
fn balanced(text: &[u8]) -> usize {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.iter().enumerate() {
        match (byte, quoted) {
            _ if escaped => escaped = false,
            (b'\\', true) => escaped = true,
            (b'"', _) => quoted = !quoted,
            (b'[' | b'{', false) => depth += 1,
            (b']' | b'}', false) => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn found(text: &str) -> Option<Value> {
        find(text, |_| true)
    }

    #[test]
    fn find_should_take_the_whole_text_a_fence_or_what_stands_in_prose() {
        let value = json!({ "a": [1, { "b": "}" }] });
        for text in [
            format!("{value}"),
            format!("\u{feff} {value}\n"),
            format!("Here you are:\n```json\n{value}\n```\nAnything else?"),
            format!("```\n{value}\n```"),
            format!("Sure! {value} Done."),
            format!("As in [1], and {{this}}, the answer is {value}."),
            format!("{}", Value::String(value.to_string())),
            format!("```sh\nls {{a,b}}\n```\nand so\n```json\n{value}\n```"),
            format!("```json\n{value}"),
            format!("Line [one\nline {{two\nä [three] {value}"),
            format!("Say {{\"a\": 1, ...}}, so {value}"),
        ] {
            assert_eq!(found(&text), Some(value.clone()), "{text}");
        }
    }

    #[test]
    fn find_should_prefer_what_fits_over_what_comes_first() {
        let text = r#"An example: {"id": 1}. A list: [2]. The answer: {"id": 3, "ok": true}"#;
        assert_eq!(
            find(text, |value| value.get("ok").is_some()),
            Some(json!({"id": 3, "ok": true}))
        );
        assert_eq!(find(text, |value| value.get("no").is_some()), Some(json!({"id": 1})));
        assert_eq!(found("[1] and [2]"), Some(json!([1])));
    }

    #[test]
    fn find_should_not_take_a_part_of_a_broken_value() {
        for text in [
            r#"{"nodes": [{"id": "a"}, {"id": "b"}"#,
            r#"{"nodes": [{"id": "a"}, oops]"#,
            r#"{"nodes": [{"id": "a"} {"id": "b"}]}"#,
            r#"{"text": "cut in the mid"#,
            "no JSON at all",
            "{",
            "[[[",
            "",
            "```json\n{\"a\":\n```",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }

    #[test]
    fn find_should_come_to_an_end_with_ten_megabytes_of_anything() {
        const BYTES: usize = 10 << 20;
        for piece in ["{", "[1,", "{\"a\":", "```", "{x ", "[\"", "a"] {
            // Were it the square of that, this would not come to an end.
            assert_eq!(found(&piece.repeat(BYTES / piece.len())), None, "{piece}");
        }
    }

    #[test]
    fn find_should_refuse_deep_nesting() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(found(&deep), None);
        assert_eq!(found(&format!("so: {deep} and {{\"a\": 1}}")), Some(json!({"a": 1})));
    }

    proptest! {
        #[test]
        fn find_should_never_panic(text in r#"([{}\[\]",:\\`a1 \n]|ä|"a":|```json|null|\\u00){0,60}"#) {
            let _ = found(&text);
        }

        #[test]
        fn find_should_return_an_object_that_stands_in_plain_prose(
            before in "[a-zA-Z .!\n]{0,40}",
            number in any::<i64>(),
            text in ".{0,20}",
            after in "[a-zA-Z .!\n]{0,40}",
        ) {
            let value = json!({ "n": number, "t": text });
            let found = super::find(&format!("{before}{value}{after}"), |_| true);
            prop_assert_eq!(found, Some(value));
        }
    }
}
