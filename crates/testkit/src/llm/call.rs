//! What a program asks a model, read from either API.

use std::path::PathBuf;
use std::time::Instant;

use axum::http::HeaderMap;
use serde_json::Value;

/// Which API a request came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// Anthropic's: it was `claude`.
    Messages,
    /// OpenAI's: it was `codex`.
    Responses,
}

/// One request of a program.
#[derive(Debug, Clone)]
pub struct Call {
    /// By which API.
    pub api: Api,
    /// The model that is asked for.
    pub model: String,
    /// All that the user said in this conversation, one text a line or more, oldest
    /// first; without what the program itself put between (reminders, the
    /// environment).
    pub text: String,
    /// The last thing that the user said: the prompt.
    pub last: String,
    /// The instructions: the system prompt, and for `codex` the developer's messages.
    pub system: String,
    /// How many replies of the model stand in the conversation.
    pub turn: usize,
    /// How many replies came since the last prompt: 0 is the first answer to it, 1
    /// the one after the first round of tool calls.
    pub round: usize,
    /// Names of the tools that are offered.
    pub tools: Vec<String>,
    /// Results of all tool calls in the conversation, oldest first.
    pub tool_results: Vec<String>,
    /// The JSON schema that the answer has to follow.
    pub schema: Option<Value>,
    /// The program's id of the conversation.
    pub session: Option<String>,
    /// The program's working folder, where it tells the model.
    pub folder: Option<PathBuf>,
    /// Whether the program asked on the side, of its own accord.
    pub side: bool,
    /// The whole request.
    pub body: Value,
    /// When it came in.
    pub at: Instant,
}

enum Said {
    User(String),
    System(String),
    Result(String),
    Model,
}

impl Call {
    pub(super) fn read(api: Api, headers: &HeaderMap, body: Value) -> Self {
        let said = match api {
            Api::Messages => of_messages(&body),
            Api::Responses => of_responses(&body),
        };
        let mut call = Self {
            api,
            model: string(&body["model"]),
            text: String::new(),
            last: String::new(),
            system: String::new(),
            turn: 0,
            round: 0,
            tools: tools(api, &body),
            tool_results: Vec::new(),
            schema: schema(api, &body),
            session: session(api, headers),
            folder: None,
            side: false,
            body,
            at: Instant::now(),
        };
        call.follow(said);
        call.side = call.is_side(headers);
        call
    }

    /// Whether the answer has to follow a schema.
    #[must_use]
    pub fn has_schema(&self) -> bool {
        self.schema.is_some()
    }

    fn follow(&mut self, said: Vec<Said>) {
        let mut model_spoke = false;
        for one in said {
            let of_model = matches!(one, Said::Model);
            match one {
                Said::User(text) if is_programs_own(&text) => self.look_for_folder(&text),
                Said::User(text) => {
                    self.text.push_str(&text);
                    self.text.push('\n');
                    self.last = text;
                    self.round = 0;
                }
                Said::System(text) => {
                    self.look_for_folder(&text);
                    self.system.push_str(&text);
                    self.system.push('\n');
                }
                Said::Result(text) => self.tool_results.push(text),
                // One reply may consist of several items.
                Said::Model if model_spoke => {}
                Said::Model => {
                    self.turn += 1;
                    self.round += 1;
                }
            }
            model_spoke = of_model;
        }
    }

    fn look_for_folder(&mut self, text: &str) {
        let found = between(text, "<cwd>", "</cwd>")
            .or_else(|| between(text, "Primary working directory: ", "\n"));
        if let Some(folder) = found {
            self.folder = Some(folder.into());
        }
    }

    fn is_side(&self, headers: &HeaderMap) -> bool {
        match self.api {
            // A probe of the quota, or a question about the conversation rather than in it.
            Api::Messages => {
                self.body["max_tokens"].as_u64().is_some_and(|most| most <= 1)
                    || (self.tools.is_empty() && self.folder.is_none())
            }
            Api::Responses => {
                let about = header(headers, "x-codex-turn-metadata");
                let about = about.and_then(|text| serde_json::from_str::<Value>(&text).ok());
                about.is_some_and(|about| {
                    about["request_kind"].as_str().is_some_and(|kind| kind != "turn")
                })
            }
        }
    }
}

fn is_programs_own(text: &str) -> bool {
    let text = text.trim_start();
    ["<system-reminder>", "<environment_context>", "# AGENTS.md instructions"]
        .iter()
        .any(|mark| text.starts_with(mark))
}

fn of_messages(body: &Value) -> Vec<Said> {
    let mut said: Vec<_> = texts(&body["system"]).into_iter().map(Said::System).collect();
    for message in items(&body["messages"]) {
        match message["role"].as_str() {
            Some("assistant") => said.push(Said::Model),
            Some("user") => {
                for block in items(&message["content"]) {
                    if block["type"] == "tool_result" {
                        said.push(Said::Result(texts(&block["content"]).join("\n")));
                    }
                }
                said.extend(texts(&message["content"]).into_iter().map(Said::User));
            }
            _ => said.extend(texts(&message["content"]).into_iter().map(Said::System)),
        }
    }
    said
}

fn of_responses(body: &Value) -> Vec<Said> {
    let mut said = vec![Said::System(string(&body["instructions"]))];
    for item in items(&body["input"]) {
        let content = || texts(&item["content"]).into_iter();
        match (item["type"].as_str(), item["role"].as_str()) {
            (Some("message") | None, Some("user")) => said.extend(content().map(Said::User)),
            (Some("message") | None, Some("assistant")) => said.push(Said::Model),
            (Some("message") | None, _) => said.extend(content().map(Said::System)),
            (Some("function_call" | "custom_tool_call" | "reasoning"), _) => {
                said.push(Said::Model);
            }
            (Some("function_call_output" | "custom_tool_call_output"), _) => {
                said.push(Said::Result(texts(&item["output"]).join("\n")));
            }
            _ => {}
        }
    }
    said
}

fn tools(api: Api, body: &Value) -> Vec<String> {
    let mut names = Vec::new();
    collect(&body["tools"], &mut names);
    if api == Api::Responses {
        for item in items(&body["input"]) {
            collect(&item["tools"], &mut names);
        }
    }
    names
}

fn collect(tools: &Value, names: &mut Vec<String>) {
    for tool in items(tools) {
        if tool["type"] == "namespace" {
            collect(&tool["tools"], names);
        } else if let Some(name) = tool["name"].as_str() {
            names.push(name.to_owned());
        }
    }
}

fn schema(api: Api, body: &Value) -> Option<Value> {
    match api {
        Api::Messages => items(&body["tools"])
            .iter()
            .find(|tool| tool["name"] == super::messages::STRUCTURED_OUTPUT)
            .map(|tool| tool["input_schema"].clone()),
        Api::Responses => body["text"]["format"].get("schema").cloned(),
    }
}

fn session(api: Api, headers: &HeaderMap) -> Option<String> {
    match api {
        Api::Messages => header(headers, "x-claude-code-session-id"),
        Api::Responses => header(headers, "thread-id"),
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(begin)?;
    rest.split_once(end).map(|(found, _)| found)
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The texts of a content, which is a string or a list of blocks.
fn texts(content: &Value) -> Vec<String> {
    match content.as_str() {
        Some(text) => vec![text.to_owned()],
        None => items(content)
            .iter()
            .filter_map(|block| block["text"].as_str())
            .map(str::to_owned)
            .collect(),
    }
}
