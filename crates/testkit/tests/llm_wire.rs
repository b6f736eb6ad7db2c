//! The scripted model, asked by plain HTTP: what the real programs do not show.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is the report of a test, in its helpers too"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{LlmServer, Say};

struct Answer {
    status: u16,
    head: String,
    body: String,
    /// Whether the connection was closed as HTTP demands.
    whole: bool,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

fn connect(server: &LlmServer, method: &str, path: &str, body: &Value) -> TcpStream {
    connect_with("test-key", server, method, path, body)
}

fn connect_with(
    key: &str,
    server: &LlmServer,
    method: &str,
    path: &str,
    body: &Value,
) -> TcpStream {
    let address = server.url().replace("http://", "");
    let mut stream = TcpStream::connect(address).expect("the server");
    let body = body.to_string();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-api-key: {key}\r\n\
         authorization: Bearer {key}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).expect("a request");
    stream
}

fn ask(server: &LlmServer, method: &str, path: &str, body: &Value) -> Answer {
    let mut bytes = Vec::new();
    let ended = connect(server, method, path, body).read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.get(9..12).and_then(|code| code.parse().ok()).expect("a status");
    let chunked = head.contains("chunked");
    let whole = ended.is_ok() && (!chunked || body.ends_with("0\r\n\r\n"));
    Answer { status, head: head.to_owned(), body: body.to_owned(), whole }
}

fn message(stream: bool) -> Value {
    json!({
        "model": "some-model",
        "max_tokens": 100,
        "stream": stream,
        "system": "Primary working directory: /somewhere\n",
        "messages": [{ "role": "user", "content": "Hello." }],
    })
}

fn response(stream: bool) -> Value {
    json!({ "model": "some-model", "stream": stream, "input": [
        { "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "Hello." }] },
    ] })
}

#[test]
fn server_should_answer_without_a_stream_where_none_is_asked_for() {
    let server = LlmServer::start(|call| Say::text(format!("You said: {}", call.last)));
    let one = ask(&server, "POST", "/v1/messages?beta=true", &message(false)).json();
    assert_eq!(one["content"][0]["text"], "You said: Hello.");
    assert_eq!(
        (&one["stop_reason"], &one["usage"]["output_tokens"]),
        (&json!("end_turn"), &json!(100))
    );
    let other = ask(&server, "POST", "/v1/responses", &response(false)).json();
    assert_eq!(other["output"][0]["content"][0]["text"], "You said: Hello.");
    assert_eq!(other["status"], "completed");
    assert_eq!(server.calls().len(), 2);
}

#[test]
fn server_should_answer_what_is_no_question_without_the_script() {
    let server = LlmServer::start(|call| panic!("asked: {call:?}"));
    let none = Value::Null;
    assert_eq!(ask(&server, "HEAD", "/", &none).status, 200);
    assert_eq!(ask(&server, "GET", "/", &none).status, 200);
    let missing = ask(&server, "GET", "/v1/other", &none);
    assert_eq!(
        (missing.status, &missing.json()["error"]["type"]),
        (404, &json!("not_found_error"))
    );
    let count = ask(&server, "POST", "/v1/messages/count_tokens?beta=true", &message(false));
    assert!(count.json()["input_tokens"].as_u64() > Some(0));
    let mut probe = message(false);
    probe["max_tokens"] = json!(1);
    assert_eq!(ask(&server, "POST", "/v1/messages", &probe).status, 200);
    assert_eq!((server.calls().len(), server.side_calls().len()), (0, 1));
}

#[test]
fn server_should_refuse_a_key_that_is_not_the_tests() {
    let server = LlmServer::start(|call| panic!("asked: {call:?}"));
    for (path, body) in [("/v1/messages", message(true)), ("/v1/responses", response(true))] {
        let mut answer = String::new();
        let mut stream = connect_with("somebodys-key", &server, "POST", path, &body);
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        assert!(answer.contains("authentication_error"), "{answer}");
    }
    assert!(server.calls().is_empty());
}

#[test]
fn server_should_tell_that_the_script_panicked() {
    let server = LlmServer::start(|_| panic!("no idea"));
    let answer = ask(&server, "POST", "/v1/messages", &message(true));
    assert_eq!(answer.status, 400);
    let text = answer.json()["error"]["message"].to_string();
    assert!(text.contains("the test's script panicked: no idea"), "{text}");
}

#[test]
fn server_should_refuse_in_each_apis_own_form() {
    let server = LlmServer::start(|_| {
        Say::error(429, "rate_limit_error", "Too much").retry_after(60).header("x-more", "1")
    });
    for (path, body) in [("/v1/messages", message(true)), ("/v1/responses", response(true))] {
        let answer = ask(&server, "POST", path, &body);
        assert_eq!(answer.status, 429);
        assert!(answer.head.contains("retry-after: 60\r\nx-more: 1"), "{}", answer.head);
        let error = &answer.json()["error"];
        assert_eq!(
            (&error["type"], &error["message"]),
            (&json!("rate_limit_error"), &json!("Too much"))
        );
    }
}

#[test]
fn server_should_break_a_stream_where_the_script_says() {
    let text = "A text that is long enough to come in several pieces.";
    let events = |answer: &Answer| answer.body.matches("event: ").count();
    for (path, body) in [("/v1/messages", message(true)), ("/v1/responses", response(true))] {
        let server = LlmServer::start(move |_| Say::text(text));
        let whole = ask(&server, "POST", path, &body);
        assert!(whole.whole && events(&whole) > 5, "{}", whole.body);

        let server = LlmServer::start(move |_| Say::text(text).cut_after(3));
        let cut = ask(&server, "POST", path, &body);
        assert!(!cut.whole && events(&cut) == 3, "{}", cut.body);

        let server = LlmServer::start(move |_| {
            Say::text(text).fail_after(3, "overloaded_error", "Overloaded")
        });
        let failed = ask(&server, "POST", path, &body);
        assert!(failed.whole && events(&failed) == 4, "{}", failed.body);
        assert!(failed.body.contains("overloaded_error"), "{}", failed.body);
    }
}

#[test]
fn server_should_hold_a_connection_until_it_is_dropped() {
    for say in [Say::hang(), Say::text("some text").hang_after(1)] {
        let server = LlmServer::start(move |_| say.clone());
        let mut stream = connect(&server, "POST", "/v1/messages", &message(true));
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        let waited = stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
        assert_eq!(waited, Err(ErrorKind::WouldBlock));
        drop(server);
        stream.set_read_timeout(None).expect("no timeout");
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

#[test]
fn server_should_take_its_time_where_the_script_says() {
    let pause = Duration::from_millis(20);
    let server = LlmServer::start(move |_| Say::text("Short.").after(5 * pause).slowly(pause));
    let began = Instant::now();
    let answer = ask(&server, "POST", "/v1/messages", &message(true));
    assert!(answer.whole && began.elapsed() > 10 * pause, "{:?}", began.elapsed());
}

#[test]
fn server_should_say_as_much_as_it_is_told() {
    let server = LlmServer::start(|_| Say::huge(10_000_000));
    let answer = ask(&server, "POST", "/v1/messages", &message(false));
    assert_eq!(answer.json()["content"][0]["text"].as_str().map(str::len), Some(10_000_000));
    assert!(ask(&server, "POST", "/v1/messages", &message(true)).body.len() > 10_000_000);
}
