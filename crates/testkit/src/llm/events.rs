//! A reply on its way: server-sent events with pauses and faults, or one JSON.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use super::call::{Api, Call};
use super::say::{Break, Refusal, Say, What};
use super::{messages, responses};

/// One event of a stream: its JSON, which names its type.
pub(super) type Event = Value;

const PIECES: usize = 8;
const SMALLEST_PIECE_BYTES: usize = 16;
const LARGEST_PIECE_BYTES: usize = 16 << 10;

/// A number that no other id has.
pub(super) fn next_id() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// A text as a model sends it, in a few pieces.
pub(super) fn pieces(text: &str) -> Vec<&str> {
    let size = (text.len() / PIECES).clamp(SMALLEST_PIECE_BYTES, LARGEST_PIECE_BYTES);
    let mut rest = text;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let end = (size..rest.len()).find(|at| rest.is_char_boundary(*at)).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// Answers `call` with `say`.
pub(super) async fn respond(call: &Call, say: Say) -> Response {
    tokio::time::sleep(say.delay).await;
    match &say.what {
        What::Hang => std::future::pending().await,
        What::Raw { status, headers, body } => with_headers(raw(*status, body.clone()), headers),
        What::Error(Refusal { status, kind, message, headers }) => {
            with_headers(error(call.api, *status, kind, message), headers)
        }
        What::Blocks(blocks) => {
            let (events, whole) = match call.api {
                Api::Messages => messages::reply(call, blocks, say.usage),
                Api::Responses => responses::reply(call, blocks, say.usage),
            };
            if call.body["stream"] == true {
                stream(call.api, events, say)
            } else {
                json(StatusCode::OK, &whole)
            }
        }
    }
}

/// An answer of one JSON.
pub(super) fn json(status: StatusCode, value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    set(&mut response, "content-type", "application/json");
    response
}

/// An error in an API's own form.
pub(super) fn error(api: Api, status: u16, kind: &str, message: &str) -> Response {
    let error = match api {
        Api::Messages => messages::error(kind, message),
        Api::Responses => responses::error(kind, message),
    };
    json(code(status), &error)
}

fn raw(status: u16, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = code(status);
    response
}

fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).expect("an HTTP status")
}

fn with_headers(mut response: Response, headers: &[(String, String)]) -> Response {
    for (name, value) in headers {
        set(&mut response, name, value);
    }
    response
}

fn set(response: &mut Response, name: &str, value: &str) {
    let name: HeaderName = name.parse().expect("a header's name");
    response.headers_mut().insert(name, HeaderValue::from_str(value).expect("a header's value"));
}

enum Step {
    Send(Event),
    Cut,
    Hang,
}

fn stream(api: Api, mut events: Vec<Event>, say: Say) -> Response {
    let mut ending = None;
    if let Some((after, fault)) = say.breaks {
        events.truncate(after);
        ending = Some(match fault {
            Break::Cut => Step::Cut,
            Break::Hang => Step::Hang,
            Break::Error { kind, message } => Step::Send(match api {
                Api::Messages => messages::error(&kind, &message),
                Api::Responses => responses::failed(&kind, &message),
            }),
        });
    }
    let steps = events.into_iter().map(Step::Send).chain(ending);
    let pause = say.pause;
    let body = futures::stream::unfold(steps, move |mut steps| async move {
        let sent = match steps.next()? {
            Step::Send(event) => {
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
                Ok(encode(&event))
            }
            // What was sent before must leave before the connection is closed.
            Step::Cut => {
                tokio::task::yield_now().await;
                Err(std::io::Error::other("cut by the test"))
            }
            Step::Hang => std::future::pending().await,
        };
        Some((sent, steps))
    });
    let mut response = Response::new(Body::from_stream(body));
    set(&mut response, "content-type", "text/event-stream");
    set(&mut response, "cache-control", "no-cache");
    response
}

fn encode(event: &Event) -> Bytes {
    let name = event["type"].as_str().unwrap_or("message");
    Bytes::from(format!("event: {name}\ndata: {event}\n\n"))
}

/// A stream's events and the same reply as one JSON.
pub(super) type Both = (Vec<Event>, Value);

/// Fields of an event, with its type first.
pub(super) fn event(kind: &str, mut fields: Value) -> Event {
    if let Some(fields) = fields.as_object_mut() {
        fields.insert("type".into(), json!(kind));
    }
    fields
}
