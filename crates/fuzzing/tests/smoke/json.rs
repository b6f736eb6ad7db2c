//! Seeds that hold JSON, with each of their values made hostile in each of many ways: random
//! bytes hardly ever make a long string or list that is still JSON.

use serde_json::{Value, json};

/// How long a string is made, in characters, and a list, in items.
const MANY: usize = 3_000;

/// Each with what was done to it.
pub(crate) fn hostile<'a>(
    seeds: impl Iterator<Item = &'a Vec<u8>>,
) -> impl Iterator<Item = (String, Vec<u8>)> {
    let texts = seeds.filter_map(|seed| std::str::from_utf8(seed).ok());
    texts.flat_map(|text| {
        let lines = text.split_inclusive('\n');
        let wholes = std::iter::once(text).chain(lines).filter(|part| part.contains('{'));
        let parts = wholes.filter_map(|part| Some((part, serde_json::from_str(part.trim()).ok()?)));
        parts.flat_map(move |(part, value): (&str, Value)| {
            let variants = variants(&value).into_iter();
            variants.map(move |(what, value)| {
                let data = text.replacen(part.trim(), &value.to_string(), 1);
                (what, data.into_bytes())
            })
        })
    })
}

/// `value` with one of the values in it replaced, for each of them and each replacement.
fn variants(value: &Value) -> Vec<(String, Value)> {
    let mut pointers = Vec::new();
    collect(value, &mut String::new(), &mut pointers);
    let mut found = Vec::new();
    for pointer in pointers {
        for replacement in replacements(value.pointer(&pointer).unwrap()) {
            let mut whole = value.clone();
            let what = format!("{pointer} = {:.40}", replacement.to_string());
            *whole.pointer_mut(&pointer).unwrap() = replacement;
            found.push((what, whole));
        }
    }
    found
}

/// Pointers to `value` and all values in it.
fn collect(value: &Value, at: &mut String, pointers: &mut Vec<String>) {
    pointers.push(at.clone());
    let length = at.len();
    let mut inside = |key: &str, value: &Value| {
        at.push('/');
        at.push_str(&key.replace('~', "~0").replace('/', "~1"));
        collect(value, at, pointers);
        at.truncate(length);
    };
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, item)| inside(&n.to_string(), item));
        }
        Value::Object(fields) => fields.iter().for_each(|(key, value)| inside(key, value)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn replacements(value: &Value) -> Vec<Value> {
    let deep = (0..100).fold(json!("x"), |inner, _| json!([inner]));
    let mut found = vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(0.5),
        json!(1e308),
        json!(u64::MAX),
        json!(""),
        json!("é".repeat(MANY)),
        json!("x y".repeat(MANY)),
        json!("a\u{0}\u{1b}[2J\u{202e}\r\nb"),
        json!("../../x"),
        json!("/x"),
        json!("-x"),
        json!([]),
        json!({}),
        deep,
    ];
    match value {
        Value::Array(items) if !items.is_empty() => {
            found.push(items.iter().cycle().take(MANY).cloned().collect());
        }
        Value::String(text) => {
            // Many that differ, where one text would do.
            found.push((0..MANY).map(|n| json!(format!("{text}{n}"))).collect());
            found.push(json!(format!("{text}{}", "é".repeat(MANY))));
        }
        Value::Object(fields) => {
            let more = (0..MANY).filter_map(|n| {
                let (key, value) = fields.iter().nth(n % fields.len().max(1))?;
                Some((format!("{key}{n}"), value.clone()))
            });
            found.push(Value::Object(fields.clone().into_iter().chain(more).collect()));
        }
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    found
}
