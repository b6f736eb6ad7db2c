//! The scripted model, asked by the real `claude` and `codex`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is the report of a test, in its helpers too"
)]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{
    Api, Call, DEADLINE, LlmServer, Say, Usage, claude_history, installed, wait_until_blocking,
};

const SCHEMA: &str = r#"{"type":"object","properties":{"answer":{"type":"integer"}},
    "required":["answer"],"additionalProperties":false}"#;

const QUESTION: &str = "What is the answer?";

/// One program with a home and a working folder of its own.
struct Cli {
    api: Api,
    path: PathBuf,
    home: TempDir,
    folder: TempDir,
    env: Vec<(String, String)>,
}

/// A program that runs. Killed on drop.
struct Running {
    child: Child,
    home: PathBuf,
}

struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Cli {
    fn new(api: Api, server: &LlmServer) -> Option<Self> {
        let folder = |name| tempfile::Builder::new().prefix(name).tempdir().expect("a folder");
        let (name, env) = match api {
            Api::Messages => ("claude", server.claude_env()),
            Api::Responses => ("codex", server.codex_env()),
        };
        let (home, folder) = (folder("home-"), folder("work-"));
        server.write_codex_home(home.path());
        Some(Self { api, path: installed(name)?, home, folder, env })
    }

    fn start(&self, args: &[&str], prompt: &str) -> Running {
        let home = self.home.path().to_owned();
        let file = |name| File::create(home.join(name)).expect("a file");
        let fixed: &[&str] = match self.api {
            Api::Messages => &["-p", "--output-format", "json"],
            Api::Responses => &["exec", "--json", "--skip-git-repo-check"],
        };
        let mut child = Command::new(&self.path)
            .args(fixed)
            .args(args)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &home)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .expect("the program");
        let mut stdin = child.stdin.take().expect("its stdin");
        stdin.write_all(prompt.as_bytes()).expect("the prompt");
        Running { child, home }
    }

    fn run(&self, args: &[&str], prompt: &str) -> Ended {
        self.start(args, prompt).end()
    }

    fn schema(&self) -> String {
        let file = self.home.path().join("schema.json");
        fs::write(&file, SCHEMA).expect("a file");
        file.to_str().expect("a path").to_owned()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }
}

impl Running {
    fn end(mut self) -> Ended {
        let read = |name: &str| fs::read_to_string(self.home.join(name)).unwrap_or_default();
        let status = wait_until_blocking("the program ends", 2 * DEADLINE, || {
            let tried = self.child.try_wait();
            tried.expect("a child").ok_or_else(|| read("stdout") + &read("stderr"))
        });
        Ended { code: status.code(), stdout: read("stdout"), stderr: read("stderr") }
    }

    fn kill(mut self) {
        self.child.kill().expect("a signal");
        let _ = self.child.wait().expect("its end");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// The JSON that `claude` prints.
    #[track_caller]
    fn result(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", self.stdout, self.stderr))
    }

    /// The text that `codex` ended with.
    #[track_caller]
    fn message(&self) -> String {
        let of = |line: &str| {
            let line: Value = serde_json::from_str(line).ok()?;
            let is_message = line["item"]["type"] == "agent_message";
            is_message.then(|| line["item"]["text"].as_str().unwrap_or_default().to_owned())
        };
        let found = self.stdout.lines().rev().find_map(of);
        found.unwrap_or_else(|| panic!("no message: {}\n{}", self.stdout, self.stderr))
    }

    /// All events of one type that `codex` printed.
    fn events(&self, kind: &str) -> Vec<Value> {
        let lines = self.stdout.lines().filter_map(|line| serde_json::from_str(line).ok());
        lines.filter(|line: &Value| line["type"] == kind).collect()
    }
}

/// First does `work`, then answers.
fn work_then_answer(work: impl Fn() -> Say + Send + Sync + 'static) -> LlmServer {
    LlmServer::start(move |call| match call.round {
        0 => work(),
        _ => Say::json(json!({ "answer": 42 })),
    })
}

fn same_folder(call: &Call, folder: &Path) -> bool {
    call.folder.as_ref().and_then(|at| at.canonicalize().ok()) == folder.canonicalize().ok()
}

#[test]
fn claude_should_take_a_structured_answer() {
    let server = LlmServer::start(|_| Say::json(json!({ "answer": 42 })));
    let Some(cli) = Cli::new(Api::Messages, &server) else { return };
    let ended = cli.run(&["--json-schema", SCHEMA], QUESTION);
    let result = ended.result();
    assert_eq!(result["structured_output"]["answer"], 42, "{result}");
    assert_eq!(result["is_error"], false);
    assert!(result["total_cost_usd"].as_f64() > Some(0.0), "{result}");
    let calls = server.calls();
    assert_eq!(calls.len(), 1, "{calls:#?}");
    assert_eq!((calls[0].last.as_str(), calls[0].text.trim()), (QUESTION, QUESTION));
    assert_eq!(calls[0].schema.as_ref().map(|schema| &schema["type"]), Some(&json!("object")));
    assert_eq!(calls[0].session.as_deref(), result["session_id"].as_str());
    assert!(same_folder(&calls[0], cli.folder.path()), "{:?}", calls[0].folder);
    assert_eq!((calls[0].turn, calls[0].round), (0, 0));
}

#[test]
fn codex_should_take_a_structured_answer() {
    let server = LlmServer::start(|_| Say::json(json!({ "answer": 42 })));
    let Some(cli) = Cli::new(Api::Responses, &server) else { return };
    let ended = cli.run(&["--output-schema", &cli.schema(), "-"], QUESTION);
    assert_eq!(ended.message(), r#"{"answer":42}"#);
    assert_eq!(ended.events("turn.completed")[0]["usage"]["output_tokens"], 100);
    let calls = server.calls();
    assert_eq!(calls.len(), 1, "{calls:#?}");
    assert_eq!((calls[0].last.as_str(), calls[0].text.trim()), (QUESTION, QUESTION));
    assert_eq!(calls[0].schema.as_ref().map(|schema| &schema["type"]), Some(&json!("object")));
    let thread = ended.events("thread.started")[0]["thread_id"].clone();
    assert_eq!(calls[0].session.as_deref(), thread.as_str());
    assert!(same_folder(&calls[0], cli.folder.path()), "{:?}", calls[0].folder);
    assert_eq!((calls[0].turn, calls[0].round), (0, 0));
}

#[test]
fn claude_should_write_a_file_and_run_a_command() {
    let server = work_then_answer(|| {
        Say::several([
            Say::text("I write."),
            Say::write("made.txt", "it's made\n"),
            Say::shell("echo ran > ran.txt; echo seen"),
        ])
    });
    let Some(cli) = Cli::new(Api::Messages, &server) else { return };
    let args = ["--json-schema", SCHEMA, "--allowed-tools", "Write,Bash"];
    let result = cli.run(&args, "Make it.").result();
    assert_eq!(result["structured_output"]["answer"], 42, "{result}");
    assert_eq!(result["permission_denials"], json!([]));
    assert_eq!(
        (cli.read("made.txt").as_str(), cli.read("ran.txt").as_str()),
        ("it's made\n", "ran\n")
    );
    let calls = server.calls();
    assert_eq!(calls.iter().map(|call| call.round).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(calls[1].tool_results.len(), 2, "{:?}", calls[1].tool_results);
    assert!(calls[1].tool_results[1].contains("seen"), "{:?}", calls[1].tool_results);
}

#[test]
fn claude_should_be_denied_a_tool_that_it_was_not_allowed() {
    let server = work_then_answer(|| Say::shell("echo ran > ran.txt"));
    let Some(cli) = Cli::new(Api::Messages, &server) else { return };
    let result = cli.run(&["--json-schema", SCHEMA], "Make it.").result();
    assert_eq!(result["permission_denials"][0]["tool_name"], "Bash", "{result}");
    assert_eq!(cli.read("ran.txt"), "");
}

/// Needs a kernel that lets this user make namespaces: without them, `codex` can run
/// no command in its sandbox, root or not.
#[test]
fn codex_should_run_a_command_in_its_sandbox() {
    for model in ["gpt-6.1-sol", "some-other"] {
        let server = work_then_answer(|| {
            Say::several([Say::text("I write."), Say::write("made.txt", "it's made\n")])
        });
        let Some(cli) = Cli::new(Api::Responses, &server) else { return };
        let args = ["-m", model, "-s", "workspace-write", "-"];
        let ended = cli.run(&args, "Make it.");
        let calls = server.calls();
        assert_eq!(cli.read("made.txt"), "it's made\n", "{:?}", calls[1].tool_results);
        assert_eq!(ended.message(), r#"{"answer":42}"#);
        assert_eq!(calls.iter().map(|call| call.round).collect::<Vec<_>>(), [0, 1]);
    }
}

#[test]
fn codex_should_not_write_outside_of_its_folder() {
    // Its sandbox leaves the system's temporary folder writable.
    let outside = TempDir::new_in("/var/tmp").expect("a folder");
    let file = outside.path().join("escaped.txt");
    let server = work_then_answer({
        let file = file.clone();
        move || Say::write(&file, "out")
    });
    let Some(cli) = Cli::new(Api::Responses, &server) else { return };
    let ended = cli.run(&["-s", "workspace-write", "-"], "Make it.");
    assert_eq!(ended.message(), r#"{"answer":42}"#);
    assert!(!file.exists());
    let results = &server.calls()[1].tool_results;
    assert!(results[0].contains("Read-only file system"), "{results:?}");
}

#[test]
fn claude_should_end_at_a_usage_limit_at_once() {
    let server = LlmServer::start(|_| {
        Say::error(429, "rate_limit_error", "You've hit your usage limit").retry_after(7200)
    });
    let Some(cli) = Cli::new(Api::Messages, &server) else { return };
    let ended = cli.run(&[], "Hello.");
    let result = ended.result();
    assert_eq!((ended.code, &result["api_error_status"]), (Some(1), &json!(429)), "{result}");
    assert!(result["result"].as_str().is_some_and(|text| text.contains("usage limit")), "{result}");
    assert_eq!(server.calls().len(), 1);
}

#[test]
fn codex_should_end_at_a_usage_limit() {
    let server = LlmServer::start(|_| {
        Say::error(429, "usage_limit_reached", "The usage limit has been reached").retry_after(7200)
    });
    let Some(cli) = Cli::new(Api::Responses, &server) else { return };
    let ended = cli.run(&["-"], "Hello.");
    assert_eq!(ended.code, Some(1), "{}\n{}", ended.stdout, ended.stderr);
    let failed = ended.events("turn.failed");
    let text = failed[0]["error"]["message"].as_str().unwrap_or_default().to_lowercase();
    assert!(text.contains("limit"), "{text}");
}

#[test]
fn both_should_ask_again_after_a_cut_in_the_middle() {
    for api in [Api::Messages, Api::Responses] {
        let asked = std::sync::atomic::AtomicUsize::new(0);
        let server = LlmServer::start(move |_| {
            let first = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
            let say = Say::text("A text that is long enough to come in several pieces.");
            if first { say.cut_after(4) } else { say }
        });
        let Some(cli) = Cli::new(api, &server) else { continue };
        let ended = cli.run(if api == Api::Responses { &["-"] } else { &[] }, "Hello.");
        assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
        assert!(ended.stdout.contains("several pieces."), "{}", ended.stdout);
        assert!(server.calls().len() >= 2, "{api:?}: {}", server.calls().len());
    }
}

#[test]
fn both_should_wait_for_a_model_that_hangs() {
    for api in [Api::Messages, Api::Responses] {
        let server = LlmServer::start(|_| Say::hang());
        let Some(cli) = Cli::new(api, &server) else { continue };
        let mut running = cli.start(if api == Api::Responses { &["-"] } else { &[] }, "Hello.");
        let _ = server.wait_for_calls(1, DEADLINE);
        let waited = Instant::now();
        while waited.elapsed() < Duration::from_millis(300) {
            assert!(running.child.try_wait().expect("a child").is_none(), "{api:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        running.kill();
    }
}

#[test]
fn claude_should_resume_after_it_was_killed() {
    let server = LlmServer::start(|call| match (call.text.contains("Go on."), call.round) {
        (false, 0) => Say::shell("echo first >> did.txt"),
        (false, _) => Say::hang(),
        (true, _) => Say::json(json!({ "answer": 7 })),
    });
    let Some(cli) = Cli::new(Api::Messages, &server) else { return };
    let id = "0d9e3f3e-2f0c-4c0e-9a43-5f0f6b5f2a11";
    let common = ["--json-schema", SCHEMA, "--allowed-tools", "Bash"];
    let running = cli.start(&[&common[..], &["--session-id", id]].concat(), "Do the first.");
    let _ = server.wait_for_calls(2, DEADLINE);
    wait_until_blocking("the tool's result is stored", DEADLINE, || {
        let stored = claude_history(cli.home.path(), id);
        if stored.contains("tool_result") { Ok(()) } else { Err(stored) }
    });
    running.kill();
    let result = cli.run(&[&common[..], &["--resume", id]].concat(), "Go on.").result();
    assert_eq!(result["structured_output"]["answer"], 7, "{result}");
    assert_eq!(cli.read("did.txt"), "first\n");
    let calls = server.calls();
    let last = calls.last().expect("a call");
    assert_eq!(last.session.as_deref(), Some(id));
    assert!(last.text.contains("Do the first.") && last.last.contains("Go on."), "{}", last.text);
    assert!(last.turn >= 1 && last.round == 0, "{} {}", last.turn, last.round);
    assert_eq!(last.tool_results.len(), 1, "{:#}", last.body["messages"]);
}

#[test]
fn codex_should_resume_after_it_was_killed() {
    let server = LlmServer::start(|call| match (call.text.contains("Go on."), call.round) {
        (false, 0) => Say::shell("echo first >> did.txt"),
        (false, _) => Say::hang(),
        (true, 0) => Say::shell("echo second >> did.txt"),
        (true, _) => Say::json(json!({ "answer": 7 })),
    });
    let Some(cli) = Cli::new(Api::Responses, &server) else { return };
    let running = cli.start(&["-s", "workspace-write", "-"], "Do the first.");
    let id = server.wait_for_calls(2, DEADLINE)[0].session.clone().expect("a thread");
    running.kill();
    let ended = cli.run(&["-s", "workspace-write", "resume", &id, "-"], "Go on.");
    assert_eq!(ended.message(), r#"{"answer":7}"#);
    assert_eq!(cli.read("did.txt"), "first\nsecond\n");
    let calls = server.calls();
    let last = calls.last().expect("a call");
    assert_eq!(last.session.as_deref(), Some(id.as_str()));
    assert!(last.text.contains("Do the first.") && last.last.contains("Go on."), "{}", last.text);
    assert_eq!(last.tool_results.len(), 2);
}

#[test]
fn claude_should_charge_for_the_usage_that_the_model_claims() {
    let cost = |output| {
        let usage = Usage { output, ..Usage::default() };
        let server = LlmServer::start(move |_| Say::text("Done.").using(usage));
        let cli = Cli::new(Api::Messages, &server)?;
        cli.run(&[], "Hello.").result()["total_cost_usd"].as_f64()
    };
    let (Some(little), Some(much)) = (cost(100), cost(100_000)) else { return };
    assert!(much > 10.0 * little, "{little} {much}");
}
