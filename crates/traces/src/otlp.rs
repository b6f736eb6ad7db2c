//! Spans in OTLP's JSON form, as a collector takes them at `/v1/traces`.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::span::{Service, Span, Status, Value};

/// `STATUS_CODE_*` of `opentelemetry/proto/trace/v1/trace.proto`.
const OK: u8 = 1;
const ERROR: u8 = 2;
/// `SPAN_KIND_*` of the same file.
const INTERNAL: u8 = 1;
const CLIENT: u8 = 3;

/// An `ExportTraceServiceRequest`. A span that is not over ends `now_us`, and says so.
#[must_use]
pub fn request(spans: &[Span], version: &str, now_us: u64) -> Json {
    let mut by_service: BTreeMap<&Service, Vec<Json>> = BTreeMap::new();
    for one in spans {
        by_service.entry(&one.service).or_default().push(span(one, now_us));
    }
    let resources: Vec<Json> = by_service
        .into_iter()
        .map(|(service, spans)| {
            json!({
                "resource": { "attributes": resource(service, version) },
                "scopeSpans": [{ "scope": { "name": "orch", "version": version }, "spans": spans }],
            })
        })
        .collect();
    json!({ "resourceSpans": resources })
}

fn resource(service: &Service, version: &str) -> Vec<Json> {
    let mut list = vec![
        attribute("service.name", &Value::from(service.name())),
        attribute("service.version", &Value::from(version)),
    ];
    if let Service::Agent(name) = service {
        list.push(attribute("service.instance.id", &Value::from(name.as_str())));
    }
    list
}

fn span(span: &Span, now_us: u64) -> Json {
    let mut attributes: Vec<Json> =
        span.attributes.iter().map(|(name, value)| attribute(name, value)).collect();
    if span.end_us.is_none() {
        attributes.push(attribute("orch.open", &Value::from("true")));
    }
    let is_call = span.attributes.iter().any(|(name, _)| *name == "gen_ai.operation.name");
    let links: Vec<Json> = span
        .links
        .iter()
        .map(|link| {
            json!({
                "traceId": link.to.trace.to_string(),
                "spanId": link.to.span.to_string(),
                "attributes": [attribute("orch.link", &Value::from(link.kind))],
            })
        })
        .collect();
    let events: Vec<Json> = span
        .notes
        .iter()
        .map(|note| json!({ "timeUnixNano": nanos(note.at_us), "name": note.text }))
        .collect();
    let status = match &span.status {
        Status::Unset => json!({}),
        Status::Ok => json!({ "code": OK }),
        Status::Error(text) => json!({ "code": ERROR, "message": text }),
    };
    json!({
        "traceId": span.place.trace.to_string(),
        "spanId": span.place.span.to_string(),
        "parentSpanId": span.parent.map(|id| id.to_string()).unwrap_or_default(),
        "name": span.name,
        "kind": if is_call { CLIENT } else { INTERNAL },
        "startTimeUnixNano": nanos(span.start_us),
        "endTimeUnixNano": nanos(span.end_us.unwrap_or(now_us).max(span.start_us)),
        "attributes": attributes,
        "links": links,
        "events": events,
        "status": status,
    })
}

/// OTLP's JSON has 64-bit numbers as text.
fn nanos(micros: u64) -> String {
    (u128::from(micros) * 1_000).to_string()
}

fn attribute(name: &str, value: &Value) -> Json {
    let value = match value {
        Value::Text(text) => json!({ "stringValue": text }),
        Value::Int(number) => json!({ "intValue": number.to_string() }),
        Value::List(texts) => {
            let values: Vec<Json> =
                texts.iter().map(|text| json!({ "stringValue": text })).collect();
            json!({ "arrayValue": { "values": values } })
        }
    };
    json!({ "key": name, "value": value })
}
