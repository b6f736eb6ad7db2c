//! JSON schemas as OpenAI's strict mode takes them.
//!
//! Strict mode refuses a schema in which a property may be absent or others than the
//! listed ones may be there, and most keywords that only narrow a value. So all properties
//! become required, those that may be absent become nullable, and what it does not know is
//! left out: the caller validates the answer anyway. A map with free keys cannot be said in
//! it at all and becomes an object without properties.

use serde_json::{Map, Value, json};

/// Keywords that mean the same in strict mode. Others are left out.
const KNOWN: &[&str] = &[
    "type",
    "description",
    "enum",
    "const",
    "pattern",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minItems",
    "maxItems",
    "title",
];

/// The formats that it knows.
const FORMATS: &[&str] =
    &["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"];

/// `schema` in the form of strict mode.
pub(super) fn strict(schema: &Value) -> Value {
    match schema {
        Value::Object(schema) => strict_object(schema),
        // `true` is any value; that has to be said as a list of types.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            json!({ "type": ["string", "number", "boolean", "null"] })
        }
    }
}

fn strict_object(schema: &Map<String, Value>) -> Value {
    if let Some(reference) = schema.get("$ref")
        && !schema.contains_key("$defs")
    {
        // Nothing may stand beside a reference.
        return json!({ "$ref": reference });
    }
    let mut strict_one = Map::new();
    for (key, value) in schema {
        match (key.as_str(), value) {
            ("properties" | "required" | "additionalProperties", _) => {}
            ("$defs" | "definitions", Value::Object(defs)) => {
                let defs = defs.iter().map(|(name, def)| (name.clone(), strict(def)));
                strict_one.insert(key.clone(), defs.collect::<Map<_, _>>().into());
            }
            ("anyOf" | "oneOf", Value::Array(choices)) => {
                strict_one.insert("anyOf".into(), choices.iter().map(strict).collect());
            }
            // Written where one type stands with a description of its own.
            ("allOf", Value::Array(all)) => {
                if let [Value::Object(only)] = all.as_slice()
                    && let Value::Object(only) = strict_object(only)
                {
                    strict_one.extend(only);
                }
            }
            ("items", value) => {
                strict_one.insert(key.clone(), strict(value));
            }
            ("$ref", value) => {
                strict_one.insert(key.clone(), value.clone());
            }
            ("format", Value::String(format)) if FORMATS.contains(&format.as_str()) => {
                strict_one.insert(key.clone(), value.clone());
            }
            (name, value) if KNOWN.contains(&name) => {
                strict_one.insert(key.clone(), value.clone());
            }
            _ => {}
        }
    }
    let is_object = has_type(schema, "object") || schema.contains_key("properties");
    if is_object {
        close(&mut strict_one, schema);
    }
    let says_what = ["type", "$ref", "anyOf", "enum", "const"];
    if !says_what.iter().any(|key| strict_one.contains_key(*key)) {
        return strict(&Value::Bool(true));
    }
    strict_one.into()
}

/// Lists all properties as required, and allows no others.
fn close(strict_one: &mut Map<String, Value>, schema: &Map<String, Value>) {
    let empty = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let required = schema.get("required").and_then(Value::as_array);
    let is_required =
        |name: &str| required.is_some_and(|names| names.iter().any(|required| required == name));
    let all: Map<String, Value> = properties
        .iter()
        .map(|(name, property)| {
            let property = strict(property);
            (name.clone(), if is_required(name) { property } else { nullable(property) })
        })
        .collect();
    strict_one.insert("required".into(), all.keys().cloned().collect());
    strict_one.insert("properties".into(), all.into());
    strict_one.insert("additionalProperties".into(), false.into());
}

fn has_type(schema: &Map<String, Value>, name: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(one)) => one == name,
        Some(Value::Array(several)) => several.iter().any(|one| one == name),
        _ => false,
    }
}

/// The same, or null.
fn nullable(schema: Value) -> Value {
    let null = json!({ "type": "null" });
    let Value::Object(mut object) = schema else {
        return schema;
    };
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        if !choices.contains(&null) {
            choices.push(null);
        }
        return object.into();
    }
    let is_plain = !["$ref", "enum", "const"].iter().any(|key| object.contains_key(*key));
    match object.get_mut("type") {
        Some(Value::Array(types)) if is_plain => {
            if !types.iter().any(|one| one == "null") {
                types.push("null".into());
            }
            object.into()
        }
        Some(Value::String(one)) if is_plain => {
            let types = json!([one, "null"]);
            object.insert("type".into(), types);
            object.into()
        }
        _ => json!({ "anyOf": [object, null] }),
    }
}

/// `value` without the members that are null: that is how strict mode says that an
/// optional property is absent.
pub(super) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .filter(|(_, member)| !member.is_null())
            .map(|(name, member)| (name, without_nulls(member)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => other,
    }
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;

    use super::*;

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema counts")]
    struct Plan {
        /// What it is called.
        title: String,
        nodes: Vec<Node>,
        #[serde(default)]
        tags: Vec<String>,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema counts")]
    struct Node {
        id: String,
        priority: Option<u32>,
        status: Status,
        last: Option<Status>,
        anything: Option<Value>,
    }

    #[derive(JsonSchema)]
    #[serde(rename_all = "lowercase")]
    #[allow(dead_code, reason = "only its schema counts")]
    enum Status {
        /// It is.
        Done,
        /// It is not.
        Failed,
    }

    /// What strict mode demands, as its documentation states it.
    fn check(schema: &Value, place: &str) {
        let Some(object) = schema.as_object() else {
            panic!("{place}: no object: {schema}");
        };
        for key in object.keys() {
            let others = [
                "$ref",
                "$defs",
                "anyOf",
                "items",
                "properties",
                "required",
                "additionalProperties",
                "format",
            ];
            assert!(
                KNOWN.contains(&key.as_str()) || others.contains(&key.as_str()),
                "{place}: {key}"
            );
        }
        if let Some(properties) = object.get("properties").and_then(Value::as_object) {
            assert_eq!(object["additionalProperties"], false, "{place}");
            let required: Vec<_> = object["required"]
                .as_array()
                .unwrap()
                .iter()
                .map(|name| name.as_str().unwrap())
                .collect();
            assert_eq!(required, properties.keys().collect::<Vec<_>>(), "{place}");
            properties
                .iter()
                .for_each(|(name, property)| check(property, &format!("{place}.{name}")));
        }
        if object.contains_key("$ref") {
            assert_eq!(object.len(), 1 + usize::from(object.contains_key("$defs")), "{place}");
        }
        for (name, def) in object.get("$defs").and_then(Value::as_object).into_iter().flatten() {
            check(def, name);
        }
        for choice in object.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
            check(choice, place);
        }
        if let Some(items) = object.get("items") {
            check(items, place);
        }
    }

    #[test]
    fn strict_should_make_any_derived_schema_acceptable() {
        let schema = schemars::schema_for!(Plan);
        let strict = strict(schema.as_value());
        check(&strict, "plan");
        assert_eq!(strict["type"], "object");
        assert_eq!(strict["properties"]["tags"]["type"], json!(["array", "null"]));
        assert_eq!(
            strict["$defs"]["Node"]["properties"]["priority"]["type"],
            json!(["integer", "null"])
        );
        assert_eq!(strict["properties"]["title"]["description"], "What it is called.");
    }

    #[test]
    fn nulls_should_be_absent_again() {
        let value = json!({ "a": null, "b": [{ "c": null, "d": 0 }, null], "e": {} });
        assert_eq!(without_nulls(value), json!({ "b": [{ "d": 0 }, null], "e": {} }));
    }
}
