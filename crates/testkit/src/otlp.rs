//! A collector for one test: what it is sent by OTLP over HTTP, decoded.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as Code;
use prost::Message;
use tokio::sync::oneshot;

/// A span as it arrived. Ids are lowercase hex; '' is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpSpan {
    /// `service.name` of who sent it.
    pub service: String,
    /// `service.instance.id` of who sent it.
    pub instance: String,
    /// The id of its trace.
    pub trace: String,
    /// Its own.
    pub id: String,
    /// Its parent's.
    pub parent: String,
    /// What is done.
    pub name: String,
    /// In nanoseconds since the epoch.
    pub start: u64,
    /// In nanoseconds since the epoch.
    pub end: u64,
    /// Name and value, as text.
    pub attributes: BTreeMap<String, String>,
    /// Ids of linked spans.
    pub links: Vec<String>,
    /// The text of its error, where it is one.
    pub error: Option<String>,
}

impl OtlpSpan {
    /// An attribute's text, '' where there is none.
    #[must_use]
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

#[derive(Default)]
struct Shared {
    spans: Mutex<Vec<OtlpSpan>>,
    hangs: AtomicBool,
}

impl Shared {
    fn spans(&self) -> MutexGuard<'_, Vec<OtlpSpan>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A collector. Closes all its connections when dropped.
pub struct OtlpSink {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl OtlpSink {
    /// Listens on a free port of the loopback, on a thread of its own.
    ///
    /// # Panics
    /// Where no port is free.
    #[must_use]
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        listener.set_nonblocking(true).expect("a socket");
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || serve(listener, shared, stopped)
        });
        Self { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` holds.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it takes requests and answers none.
    pub fn hang(&self) {
        self.shared.hangs.store(true, Ordering::Relaxed);
    }

    /// All spans that came until now.
    #[must_use]
    pub fn spans(&self) -> Vec<OtlpSpan> {
        self.shared.spans().clone()
    }
}

impl Drop for OtlpSink {
    fn drop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
        self.thread.take().map(JoinHandle::join);
    }
}

fn serve(listener: std::net::TcpListener, shared: Arc<Shared>, stopped: oneshot::Receiver<()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        let router = Router::new().fallback(take).with_state(shared);
        tokio::select! {
            _ = stopped => {}
            _ = axum::serve(listener, router) => {}
        }
    });
    runtime.shutdown_background();
}

async fn take(State(shared): State<Arc<Shared>>, uri: Uri, body: Bytes) -> StatusCode {
    if shared.hangs.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
    if uri.path() != "/v1/traces" {
        return StatusCode::NOT_FOUND;
    }
    let Ok(request) = ExportTraceServiceRequest::decode(body) else {
        return StatusCode::BAD_REQUEST;
    };
    shared.spans().extend(spans(request));
    StatusCode::OK
}

fn spans(request: ExportTraceServiceRequest) -> Vec<OtlpSpan> {
    let mut all = Vec::new();
    for resource in request.resource_spans {
        let of = attributes(resource.resource.unwrap_or_default().attributes);
        let named = |name: &str| of.get(name).cloned().unwrap_or_default();
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let status = span.status.unwrap_or_default();
            all.push(OtlpSpan {
                service: named("service.name"),
                instance: named("service.instance.id"),
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                name: span.name,
                start: span.start_time_unix_nano,
                end: span.end_time_unix_nano,
                attributes: attributes(span.attributes),
                links: span.links.iter().map(|link| hex(&link.span_id)).collect(),
                error: (status.code == Code::Error as i32).then_some(status.message),
            });
        }
    }
    all
}

fn attributes(list: Vec<KeyValue>) -> BTreeMap<String, String> {
    list.into_iter().map(|pair| (pair.key, text(pair.value))).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
