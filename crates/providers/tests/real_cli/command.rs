//! The example of the provider `command`, against a server of one answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::thread::JoinHandle;

use providers::command::Program;
use providers::{FailureKind, Limit, Step};
use serde_json::{Value, json};
use testkit::LlmServer;

use crate::world::{World, plan, schema};

/// Answers one request; returns its address and what was asked: headers and body.
fn serve(status: u16, header: &str, body: &Value) -> (String, JoinHandle<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let body = body.to_string();
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n{header}\r\n{body}"
    );
    let asked = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let mut headers = String::new();
        while !headers.ends_with("\r\n\r\n") {
            reader.read_line(&mut headers).unwrap();
        }
        let length = headers.to_lowercase().lines().find_map(|line| {
            line.strip_prefix("content-length: ").map(|length| length.parse::<usize>().unwrap())
        });
        let mut body = vec![0; length.unwrap()];
        reader.read_exact(&mut body).unwrap();
        reader.get_mut().write_all(answer.as_bytes()).unwrap();
        (headers, serde_json::from_slice(&body).unwrap())
    });
    (url, asked)
}

fn start(url: &str) -> Option<(Program, World)> {
    let has = |tool: &str| {
        let path = std::env::var_os("PATH").unwrap();
        std::env::split_paths(&path).any(|folder| folder.join(tool).is_file())
    };
    if !has("curl") || !has("jq") {
        println!("skipped: curl or jq is not installed");
        return None;
    }
    let example =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples/command-provider.sh");
    let program = example.canonicalize().unwrap().display().to_string();
    let env = [("LLM_URL", url), ("LLM_API_KEY", "a-key")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    // The scripted model is asked by nobody here.
    let world = World::new(LlmServer::start(|_| panic!("not asked")), env);
    Some((Program { program, args: Vec::new() }, world))
}

#[tokio::test]
async fn example_should_ask_a_server_and_return_its_answer() {
    let answer = json!({
        "model": "local-1",
        "choices": [{ "message": { "role": "assistant", "content": plan().to_string() } }],
        "usage": { "prompt_tokens": 12, "completion_tokens": 34 },
    });
    let (url, asked) = serve(200, "", &answer);
    let Some((program, world)) = start(&url) else { return };
    let mut request = world.request(Step::Decompose, "Plan \"it\" $(now)\n- ünd dies");
    request.schema = Some(schema());
    request.model = Some("local".into());
    let reply = world.call(&program, &request).await.unwrap();
    assert_eq!(reply.value, Some(plan()));
    assert_eq!(reply.model.as_deref(), Some("local-1"));
    assert_eq!((reply.usage.input_tokens, reply.usage.output_tokens), (12, 34));
    let (headers, body) = asked.join().unwrap();
    assert!(headers.to_lowercase().contains("authorization: bearer a-key"), "{headers}");
    assert_eq!(body["messages"][0]["content"], request.prompt);
    assert_eq!(body["response_format"]["json_schema"]["schema"], schema());
    assert_eq!(body["model"], "local");
}

#[tokio::test]
async fn example_should_tell_limits_and_refusals() {
    let (url, _asked) = serve(429, "Retry-After: 7200\r\n", &json!({ "error": "slow down" }));
    let Some((program, world)) = start(&url) else { return };
    let mut request = world.request(Step::Prompt, "x");
    let failure = world.call(&program, &request).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    request.model = Some("local".into());
    let failure = world.call(&program, &request).await.unwrap_err();
    let FailureKind::Limit(Limit { until: Some(until) }) = failure.kind else {
        panic!("{failure:?}")
    };
    let hours = until.duration_since(jiff::Timestamp::now()).as_secs_f64() / 3600.0;
    assert!((1.9..2.1).contains(&hours), "{hours}");
    // Nobody listens any more.
    let failure = world.call(&program, &request).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Failed, "{failure}");
}
