//! A model for one test: a server on the loopback that answers by a script.
//!
//! It speaks as much of the Anthropic Messages API and of the OpenAI Responses
//! API as the real `claude` and `codex` programs need, streaming included, so
//! that a test runs them as a user does and decides only what the model says.
//! The script sees each request as a [`Call`] and returns what to [`Say`].
//!
//! Requests that a program makes on the side (a title, a probe of the quota) are
//! answered without asking the script, and kept apart.

mod call;
mod events;
mod messages;
mod responses;
mod say;

pub use call::{Api, Call};
pub use say::{Say, Usage};

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::Response;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::wait::wait_until_blocking;

/// The key that both programs must present; any other is refused with 401.
const KEY: &str = "test-key";
/// A conversation with a long history is a few megabytes.
const MAX_BODY_BYTES: usize = 64 << 20;

type Script = dyn Fn(&Call) -> Say + Send + Sync;

struct Shared {
    script: Box<Script>,
    calls: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    scripted: Vec<Call>,
    side: Vec<Call>,
}

impl Shared {
    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A scripted model. Closes all its connections when dropped.
pub struct LlmServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for LlmServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LlmServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl LlmServer {
    /// Listens on a free port of the loopback, on a thread of its own.
    ///
    /// `script` is asked once for each request, in the order in which they come
    /// in, possibly several at once; it may block. Where it panics, the program
    /// gets error 400 with the panic's text.
    ///
    /// # Panics
    /// Where no port is free.
    #[must_use]
    pub fn start(script: impl Fn(&Call) -> Say + Send + Sync + 'static) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        listener.set_nonblocking(true).expect("a socket");
        let shared = Arc::new(Shared { script: Box::new(script), calls: Mutex::default() });
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || serve(listener, shared, stopped)
        });
        Self { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Its address, without a slash at the end: what `ANTHROPIC_BASE_URL` holds.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests that the script was asked about until now, oldest first.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls().scripted.clone()
    }

    /// All requests that a program made on the side until now, oldest first.
    #[must_use]
    pub fn side_calls(&self) -> Vec<Call> {
        self.shared.calls().side.clone()
    }

    /// Waits until the script was asked `count` times, and returns all calls.
    ///
    /// # Panics
    /// Where that is not so within `deadline`.
    #[must_use]
    #[track_caller]
    pub fn wait_for_calls(&self, count: usize, deadline: Duration) -> Vec<Call> {
        wait_until_blocking(&format!("{count} calls of the model"), deadline, || {
            let calls = self.calls();
            if calls.len() >= count { Ok(calls) } else { Err(format!("{} calls", calls.len())) }
        })
    }

    /// The variables with which `claude` asks this server, and nobody else.
    /// Besides them it needs `PATH` and `HOME`, a folder of its own.
    #[must_use]
    pub fn claude_env(&self) -> Vec<(String, String)> {
        [
            ("ANTHROPIC_BASE_URL", self.url().as_str()),
            ("ANTHROPIC_API_KEY", KEY),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
            ("DISABLE_AUTOUPDATER", "1"),
            ("DISABLE_TELEMETRY", "1"),
            // Without it, claude refuses some permission modes to root.
            ("IS_SANDBOX", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// The variables with which `codex` asks this server; its address stands in
    /// the file that [`LlmServer::write_codex_home`] writes. Besides them it
    /// needs `PATH` and `HOME`.
    #[must_use]
    pub fn codex_env(&self) -> Vec<(String, String)> {
        vec![("OPENAI_API_KEY".to_owned(), KEY.to_owned())]
    }

    /// Writes `.codex/config.toml` into `home`, so that `codex` asks this server
    /// where `HOME` is that folder.
    ///
    /// # Panics
    /// Where it cannot be written.
    #[track_caller]
    pub fn write_codex_home(&self, home: &Path) {
        let folder = home.join(".codex");
        std::fs::create_dir_all(&folder).expect("a folder for codex");
        std::fs::write(folder.join("config.toml"), self.codex_config()).expect("codex' settings");
    }

    /// The text of a `config.toml` that makes `codex` ask this server.
    #[must_use]
    pub fn codex_config(&self) -> String {
        format!(
            "model_provider = \"scripted\"\n\
             check_for_update_on_startup = false\n\
             [analytics]\n\
             enabled = false\n\
             [model_providers.scripted]\n\
             name = \"scripted\"\n\
             base_url = \"{}/v1\"\n\
             wire_api = \"responses\"\n\
             env_key = \"OPENAI_API_KEY\"\n",
            self.url()
        )
    }
}

impl Drop for LlmServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: std::net::TcpListener, shared: Arc<Shared>, stopped: oneshot::Receiver<()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        let limit = axum::extract::DefaultBodyLimit::max(MAX_BODY_BYTES);
        let router = Router::new().fallback(answer).layer(limit).with_state(shared);
        tokio::select! {
            _ = stopped => {}
            _ = axum::serve(listener, router) => {}
        }
    });
    // Drops all connections, and does not wait for a script that blocks.
    runtime.shutdown_background();
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let api = match (&method, uri.path()) {
        (&Method::HEAD | &Method::GET, "/") => return events::json(StatusCode::OK, &json!({})),
        (&Method::POST, "/v1/messages/count_tokens") => {
            let tokens = json!({ "input_tokens": body.len() / 4 });
            return events::json(StatusCode::OK, &tokens);
        }
        (&Method::POST, "/v1/messages") => Api::Messages,
        (&Method::POST, "/v1/responses") => Api::Responses,
        _ => {
            let what = format!("there is no {method} {}", uri.path());
            return events::error(Api::Messages, 404, "not_found_error", &what);
        }
    };
    if !has_key(api, &headers) {
        return events::error(api, 401, "authentication_error", "this is not the test's key");
    }
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return events::error(api, 400, "invalid_request_error", "the body is no JSON");
    };
    let call = Call::read(api, &headers, body);
    if call.side {
        shared.calls().side.push(call.clone());
        return events::respond(&call, Say::text("ok")).await;
    }
    shared.calls().scripted.push(call.clone());
    match ask(shared, call.clone()).await {
        Ok(say) => events::respond(&call, say).await,
        Err(panic) => events::error(api, 400, "invalid_request_error", &panic),
    }
}

fn has_key(api: Api, headers: &HeaderMap) -> bool {
    let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match api {
        Api::Messages => value("x-api-key") == Some(KEY),
        Api::Responses => {
            value("authorization").and_then(|value| value.strip_prefix("Bearer ")) == Some(KEY)
        }
    }
}

/// The script's decision, made where it may block.
async fn ask(shared: Arc<Shared>, call: Call) -> Result<Say, String> {
    let asked = tokio::task::spawn_blocking(move || (shared.script)(&call)).await;
    asked.map_err(|error| match error.try_into_panic() {
        Ok(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            format!("the test's script panicked: {}", text.unwrap_or("without a text"))
        }
        Err(error) => format!("the test's script did not run: {error}"),
    })
}
