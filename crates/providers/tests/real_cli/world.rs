//! A home, a folder to work in, a scripted model, and what runs the programs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use process::{Command, Ended, find_by_env};
use providers::{
    Failure, Invocation, Permissions, Provider, Reply, Request, Runner, Session, Step, call,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{DEADLINE, LlmServer, wait_until};

/// Enough for a call on a busy machine; a hang is ended much earlier by those who test it.
const TIMEOUT: Duration = Duration::from_secs(60);
/// What a caller keeps of a program's output.
const KEPT_BYTES: usize = 1 << 20;
/// Set for all that is run here, to one value a test.
const MARKER: &str = "ORCH_TEST_REAL_CLI";

pub(crate) struct World {
    pub(crate) server: LlmServer,
    root: TempDir,
    env: Vec<(String, String)>,
}

impl World {
    /// For `claude`.
    pub(crate) fn claude(server: LlmServer) -> Self {
        let env = server.claude_env();
        Self::new(server, env)
    }

    /// For `codex`.
    pub(crate) fn codex(server: LlmServer) -> Self {
        let env = server.codex_env();
        let world = Self::new(server, env);
        world.server.write_codex_home(&world.home());
        world
    }

    /// For any program, with these variables.
    pub(crate) fn new(server: LlmServer, mut env: Vec<(String, String)>) -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["home", "work", "scratch"] {
            std::fs::create_dir(root.path().join(folder)).unwrap();
        }
        let home = root.path().join("home").display().to_string();
        env.push(("HOME".into(), home));
        env.push(("PATH".into(), std::env::var("PATH").unwrap()));
        env.push(("ORCH_TEST_SECRET".into(), "not for programs".into()));
        Self { server, root, env }
    }

    /// The same without this variable.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.root.path().join("work")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.root.path().join("scratch/log")).unwrap_or_default()
    }

    pub(crate) fn request(&self, step: Step, prompt: &str) -> Request {
        Request {
            step,
            prompt: prompt.to_owned(),
            schema: None,
            model: None,
            session: Session::Ephemeral,
            permissions: Permissions::default(),
            budget_micros: None,
            folder: self.folder(),
            scratch: self.root.path().join("scratch"),
            log: self.root.path().join("scratch/log"),
            timeout: TIMEOUT,
        }
    }

    pub(crate) async fn call(
        &self,
        provider: &dyn Provider,
        request: &Request,
    ) -> Result<Reply, Failure> {
        let answer = call(provider, self, request).await;
        assert_eq!(self.processes(), Vec::new(), "something was left running");
        answer
    }

    /// What was run here and still lives.
    pub(crate) fn processes(&self) -> Vec<process::Identity> {
        let mine = self.root.path().display().to_string();
        find_by_env(MARKER, |value| value == mine).unwrap()
    }

    /// Starts `request`, waits until `is_there`, and kills the program as `kill -9` does.
    pub(crate) async fn kill_when(
        &self,
        provider: &dyn Provider,
        request: &Request,
        what: &str,
        is_there: impl Fn() -> bool,
    ) -> Failure {
        let kill = async {
            wait_until(what, DEADLINE, || async {
                if is_there() { Ok(()) } else { Err(self.log()) }
            })
            .await;
            for process in self.processes() {
                process::signal(&process, process::Signal::KILL).unwrap();
            }
        };
        tokio::join!(self.call(provider, request), kill).0.unwrap_err()
    }
}

impl Runner for World {
    async fn run(&self, invocation: Invocation, request: &Request) -> Result<Ended, Failure> {
        let passes = |name: &str| {
            invocation.pass_env.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => name == pattern,
            })
        };
        for (path, text) in &invocation.files {
            std::fs::write(path, text).unwrap();
        }
        let mut command = Command::new(&invocation.program)
            .args(&invocation.args)
            .current_dir(&request.folder)
            .env_clear()
            .marker(MARKER, self.root.path().display().to_string())
            .stdin(invocation.stdin)
            .timeout(request.timeout)
            .log(&request.log)
            .max_bytes(KEPT_BYTES);
        for (name, value) in self.env.iter().filter(|(name, _)| passes(name)) {
            command = command.env(name, value);
        }
        for (name, value) in &invocation.env {
            command = command.env(name, value);
        }
        Ok(command.run().await?)
    }
}

/// What a plan looks like here.
pub(crate) fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "title": { "type": "string" },
            "nodes": { "type": "array", "items": { "type": "string" } },
            "note": { "type": ["string", "null"] },
        },
        "required": ["title", "nodes"],
        "additionalProperties": false,
    })
}

pub(crate) fn plan() -> Value {
    json!({ "title": "A plan", "nodes": ["a", "b"] })
}

pub(crate) fn uuid() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap().trim().to_owned()
}

pub(crate) fn exists(path: impl AsRef<Path>) -> bool {
    path.as_ref().exists()
}
