//! Replies in the form of OpenAI's Responses API.

use std::path::Path;

use serde_json::{Value, json};

use super::call::Call;
use super::events::{Both, Event, event, next_id, pieces};
use super::say::{Block, Usage};

/// An error, as an answer.
pub(super) fn error(kind: &str, message: &str) -> Value {
    json!({ "error": { "type": kind, "code": kind, "message": message, "param": null } })
}

/// An error, as the last event of a stream.
pub(super) fn failed(kind: &str, message: &str) -> Event {
    let mut response = empty("failed");
    response["error"] = json!({ "code": kind, "message": message });
    event("response.failed", json!({ "response": response }))
}

/// A reply of these blocks.
pub(super) fn reply(call: &Call, blocks: &[Block], usage: Usage) -> Both {
    let mut whole = empty("in_progress");
    whole["model"] = json!(call.model);
    let mut events = vec![event("response.created", json!({ "response": whole }))];
    let output: Vec<_> = blocks.iter().map(|block| item(call, block)).collect();
    for (index, item) in output.iter().enumerate() {
        events.extend(stream(index, item));
    }
    whole["status"] = json!("completed");
    whole["output"] = Value::from(output);
    let input = usage.input + usage.cache_read;
    whole["usage"] = json!({
        "input_tokens": input,
        "input_tokens_details": { "cached_tokens": usage.cache_read },
        "output_tokens": usage.output,
        "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": input + usage.output,
    });
    events.push(event("response.completed", json!({ "response": whole })));
    for (number, event) in events.iter_mut().enumerate() {
        event["sequence_number"] = json!(number);
    }
    (events, whole)
}

fn empty(status: &str) -> Value {
    json!({
        "id": format!("resp_{:020}", next_id()),
        "object": "response",
        "status": status,
        "output": [],
        "error": null,
    })
}

/// The events of one item.
fn stream(index: usize, item: &Value) -> Vec<Event> {
    let mut begun = item.clone();
    begun["status"] = json!("in_progress");
    let mut deltas = Vec::new();
    if let Some(text) = item["content"][0]["text"].as_str() {
        begun["content"] = json!([]);
        let delta = |piece| {
            let fields = json!({
                "item_id": item["id"],
                "output_index": index,
                "content_index": 0,
                "delta": piece,
            });
            event("response.output_text.delta", fields)
        };
        deltas = pieces(text).into_iter().map(delta).collect();
    }
    let around = |kind, item: &Value| event(kind, json!({ "output_index": index, "item": item }));
    let mut events = vec![around("response.output_item.added", &begun)];
    events.append(&mut deltas);
    events.push(around("response.output_item.done", item));
    events
}

fn item(call: &Call, block: &Block) -> Value {
    match block {
        Block::Text(text) => message(text),
        Block::Json(value) => message(&value.to_string()),
        Block::Tool { name, input } => tool(name, input),
        Block::Shell(command) => shell(call, command),
        Block::Write { path, text } => shell(call, &write_command(path, text)),
    }
}

fn message(text: &str) -> Value {
    json!({
        "type": "message",
        "id": format!("msg_{:020}", next_id()),
        "role": "assistant",
        "status": "completed",
        "content": [{ "type": "output_text", "text": text, "annotations": [] }],
    })
}

fn tool(name: &str, input: &Value) -> Value {
    let id = next_id();
    let call = format!("call_{id:020}");
    match input.as_str() {
        Some(input) => json!({
            "type": "custom_tool_call",
            "id": format!("ctc_{id:020}"),
            "call_id": call,
            "name": name,
            "input": input,
        }),
        None => json!({
            "type": "function_call",
            "id": format!("fc_{id:020}"),
            "call_id": call,
            "name": name,
            "arguments": input.to_string(),
        }),
    }
}

/// Which tool runs commands depends on the model: `codex` gives its own models a
/// tool that takes a program in JavaScript, and others a plain function.
fn shell(call: &Call, command: &str) -> Value {
    let has = |name: &str| call.tools.iter().any(|tool| tool == name);
    if has("exec_command") {
        return tool("exec_command", &json!({ "cmd": command }));
    }
    if has("exec") {
        let input = json!({ "cmd": command });
        let program = format!("const ran = await tools.exec_command({input});\ntext(ran);\n");
        return tool("exec", &json!(program));
    }
    tool("shell", &json!({ "command": ["sh", "-c", command] }))
}

fn write_command(path: &Path, text: &str) -> String {
    let quote = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    format!("printf %s {} > {}", quote(text), quote(&path.to_string_lossy()))
}
