//! Replies in the form of Anthropic's Messages API.

use serde_json::{Value, json};

use super::call::Call;
use super::events::{Both, event, next_id, pieces};
use super::say::{Block, Usage};

/// The tool by which `claude` takes a structured answer.
pub(super) const STRUCTURED_OUTPUT: &str = "StructuredOutput";

/// An error, as an answer and as an event.
pub(super) fn error(kind: &str, message: &str) -> Value {
    let request = format!("req_{:020}", next_id());
    json!({
        "type": "error",
        "error": { "type": kind, "message": message },
        "request_id": request,
    })
}

/// A reply of these blocks.
pub(super) fn reply(call: &Call, blocks: &[Block], usage: Usage) -> Both {
    let content: Vec<_> = blocks.iter().map(|block| content(call, block)).collect();
    let calls_tool = content.iter().any(|block| block["type"] == "tool_use");
    let stop = if calls_tool { "tool_use" } else { "end_turn" };
    let mut whole = json!({
        "id": format!("msg_{:020}", next_id()),
        "type": "message",
        "role": "assistant",
        "model": call.model,
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
        "usage": {
            "input_tokens": usage.input,
            "cache_creation_input_tokens": usage.cache_write,
            "cache_read_input_tokens": usage.cache_read,
            "output_tokens": 1,
            "service_tier": "standard",
        },
    });
    let mut events = vec![event("message_start", json!({ "message": whole }))];
    for (index, block) in content.iter().enumerate() {
        let (start, deltas) = deltas(block);
        let fields = json!({ "index": index, "content_block": start });
        events.push(event("content_block_start", fields));
        for delta in deltas {
            let fields = json!({ "index": index, "delta": delta });
            events.push(event("content_block_delta", fields));
        }
        events.push(event("content_block_stop", json!({ "index": index })));
    }
    let delta = json!({ "stop_reason": stop, "stop_sequence": null });
    let used = json!({ "output_tokens": usage.output });
    events.push(event("message_delta", json!({ "delta": delta, "usage": used })));
    events.push(event("message_stop", json!({})));
    whole["content"] = Value::from(content);
    whole["stop_reason"] = json!(stop);
    whole["usage"]["output_tokens"] = json!(usage.output);
    (events, whole)
}

fn content(call: &Call, block: &Block) -> Value {
    match block {
        Block::Text(text) => json!({ "type": "text", "text": text }),
        Block::Json(value) if call.has_schema() => tool(STRUCTURED_OUTPUT, value),
        Block::Json(value) => json!({ "type": "text", "text": value.to_string() }),
        Block::Tool { name, input } => tool(name, input),
        Block::Shell(command) => {
            tool("Bash", &json!({ "command": command, "description": "Run a command" }))
        }
        Block::Write { path, text } => {
            // The tool wants an absolute path.
            let path = call.folder.as_ref().map_or_else(|| path.clone(), |at| at.join(path));
            tool("Write", &json!({ "file_path": path, "content": text }))
        }
    }
}

fn tool(name: &str, input: &Value) -> Value {
    let id = format!("toolu_{:020}", next_id());
    json!({ "type": "tool_use", "id": id, "name": name, "input": input })
}

/// A block as it begins in a stream, and what then comes to it.
fn deltas(block: &Value) -> (Value, Vec<Value>) {
    let mut start = block.clone();
    if let Some(text) = block["text"].as_str() {
        start["text"] = json!("");
        let delta = |piece| json!({ "type": "text_delta", "text": piece });
        return (start, pieces(text).into_iter().map(delta).collect());
    }
    start["input"] = json!({});
    let input = block["input"].to_string();
    let delta = |piece| json!({ "type": "input_json_delta", "partial_json": piece });
    (start, pieces(&input).into_iter().map(delta).collect())
}
