//! JSON schemas in the form that OpenAI's strict mode takes, which is the narrowest.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

/// What is kept of a schema. Rules beyond types are ours to check, and strict mode
/// refuses some of them.
const KEPT: [&str; 6] = ["type", "description", "properties", "items", "enum", "anyOf"];

pub(super) fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.meta_schema = None;
        settings.inline_subschemas = true;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    tighten(&mut schema);
    schema
}

fn tighten(schema: &mut Value) {
    let Value::Object(object) = schema else { return };
    words(object);
    object.retain(|key, _| KEPT.contains(&key.as_str()));
    if let Some(Value::String(text)) = object.get_mut("description") {
        *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.values_mut().for_each(tighten);
        let names = properties.keys().cloned().map(Value::String).collect();
        object.insert("required".to_owned(), Value::Array(names));
        object.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    if let Some(items) = object.get_mut("items") {
        tighten(items);
    }
    if let Some(Value::Array(variants)) = object.get_mut("anyOf") {
        variants.iter_mut().for_each(tighten);
    }
}

/// An enum of words, which is a `oneOf` where its words are described.
fn words(object: &mut Map<String, Value>) {
    let Some(Value::Array(variants)) = object.remove("oneOf") else { return };
    let mut said = Vec::new();
    let mut words = Vec::new();
    for variant in &variants {
        if let Some(word) = variant.get("const") {
            words.push(word.clone());
            let text = variant.get("description").and_then(Value::as_str).unwrap_or_default();
            said.push(format!("{word}: {text}"));
        }
        for word in variant.get("enum").and_then(Value::as_array).into_iter().flatten() {
            words.push(word.clone());
        }
    }
    object.insert("type".to_owned(), Value::String("string".to_owned()));
    object.insert("enum".to_owned(), Value::Array(words));
    if !said.is_empty() {
        let before = object.get("description").and_then(Value::as_str).unwrap_or_default();
        let text = format!("{before} {}", said.join(" "));
        object.insert("description".to_owned(), Value::String(text));
    }
}
