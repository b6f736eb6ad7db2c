//! What reading ten megabytes costs in memory. Alone in its process: the peak is the
//! process's.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test, in its helpers too")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use process::{Captured, Ended, Status};
use providers::claude::Claude;
use providers::codex::Codex;
use providers::command::Program;
use providers::{Permissions, Provider, Request, Session, Step};
use serde_json::json;

const BYTES: usize = 10 << 20;

/// The most memory that was ever in use, in bytes.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

fn ended(text: String) -> Ended {
    let stdout = Captured { text, left_out_bytes: 0 };
    let (stderr, status) = (Captured::default(), Status::Exited(0));
    Ended { status, stdout, stderr, duration: Duration::ZERO }
}

#[test]
fn reading_ten_megabytes_should_take_no_more_than_a_few_copies() {
    let request = Request {
        step: Step::Execute,
        prompt: String::new(),
        schema: Some(json!({ "required": ["summary"] })),
        model: None,
        session: Session::Ephemeral,
        permissions: Permissions::default(),
        budget_micros: None,
        folder: PathBuf::from("/"),
        scratch: PathBuf::from("/"),
        log: PathBuf::from("/log"),
        timeout: Duration::ZERO,
    };
    let answer = json!({ "summary": "line\n".repeat(BYTES / 6) }).to_string();
    let claude = json!({ "type": "result", "result": answer }).to_string();
    let item = json!({ "type": "agent_message", "text": answer });
    let codex = json!({ "type": "item.completed", "item": item });
    let codex = format!("{codex}\n{}\n", json!({ "type": "turn.completed" }));
    let program = Program { program: "x".into(), args: Vec::new() };
    let (claude, codex, command) = (ended(claude), ended(codex), ended(answer));
    let cases: [(&dyn Provider, &Ended); 3] =
        [(&Claude::default(), &claude), (&Codex::default(), &codex), (&program, &command)];
    for (provider, ended) in cases {
        // Sets the peak back to what is in use now.
        fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = peak();
        let reply = provider.read(&request, ended).unwrap();
        assert!(reply.value.is_some());
        let copies = (peak() - before) as f64 / BYTES as f64;
        assert!(copies < 5.0, "{}: {copies} copies", provider.name());
    }
}
