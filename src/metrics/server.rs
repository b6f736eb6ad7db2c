//! Answers scrapes over HTTP: few at a time, each within a bound.

use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use reconcile::CancellationToken;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::Metrics;
use super::catalog::{self, Whose};

/// The most connections at a time; others wait until one ends.
const CONNECTIONS: usize = 8;
/// How long asking may take.
const HEADER_LIMIT: Duration = Duration::from_secs(2);
/// How long a connection may last, from its first byte to its last.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);
/// Between two tries to have the port.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);
/// After a connection that could not be taken.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

const OPEN_METRICS: &str = "application/openmetrics-text";

/// Where metrics are told: `9464` is that port of the loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address(SocketAddr);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Address {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(port) = text.parse() {
            return Ok(Self(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)));
        }
        let text = text.replacen("localhost:", "127.0.0.1:", 1);
        text.parse().map(Self).map_err(|_| {
            "expected a port (9464, then on 127.0.0.1) or address:port (0.0.0.0:9464, [::1]:9464)"
        })
    }
}

/// Answers until `cancel`. Where the port is taken it says so, and tries again.
pub(crate) async fn serve(address: Address, metrics: Arc<Metrics>, cancel: CancellationToken) {
    tokio::select! {
        () = cancel.cancelled() => {}
        () = answer_all(address, metrics) => {}
    }
}

async fn answer_all(address: Address, metrics: Arc<Metrics>) {
    let listener = listen(address).await;
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Nobody closes it.
        let Ok(place) = Arc::clone(&free).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => _ = tokio::spawn(answer(stream, Arc::clone(&metrics), place)),
            Err(error) => {
                tracing::debug!(target: "orchestrator", %error, "A connection for metrics failed");
                sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn listen(address: Address) -> TcpListener {
    let mut is_told = false;
    loop {
        match TcpListener::bind(address.0).await {
            Ok(listener) => {
                let address = listener.local_addr().unwrap_or(address.0);
                tracing::info!(target: "orchestrator", code = "metrics", %address,
                    "Metrics at http://{address}/metrics");
                return listener;
            }
            Err(error) if !is_told => {
                is_told = true;
                tracing::warn!(target: "orchestrator", code = "metrics-unavailable", %address, %error,
                    "Cannot tell metrics at {address}; everything else goes on, and it is tried again: \
                     free the port, or choose another with --metrics-addr or ORCH_METRICS_ADDR");
            }
            Err(_) => {}
        }
        sleep(LISTEN_AGAIN).await;
    }
}

async fn answer(stream: TcpStream, metrics: Arc<Metrics>, _place: OwnedSemaphorePermit) {
    let service = service_fn(move |request| {
        let metrics = Arc::clone(&metrics);
        async move { Ok::<_, Infallible>(respond(&request, &metrics).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        // One place for each scrape, not one for each who once asked.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // Who does not listen to the end has lost the answer.
    _ = timeout(CONNECTION_LIMIT, connection).await;
}

async fn respond(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/metrics" => {
            let accepts = request.headers().get_all(ACCEPT);
            let open = accepts
                .iter()
                .any(|value| value.to_str().is_ok_and(|value| value.contains(OPEN_METRICS)));
            let samples = metrics.tell().await;
            if open {
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                text(StatusCode::OK, kind, samples.open_metrics())
            } else {
                text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", samples.classic())
            }
        }
        "/" => {
            let (fleet, process) = (catalog::table(Whose::Fleet), catalog::table(Whose::Process));
            let list = format!(
                "Metrics are at /metrics: of the fleet, of this process.\n\n{fleet}\n{process}"
            );
            plain(StatusCode::OK, &list)
        }
        _ => plain(StatusCode::NOT_FOUND, "nothing here: metrics are at /metrics\n"),
    }
}

fn plain(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    text(status, "text/plain; charset=utf-8", body.to_owned())
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_should_be_on_the_loopback_where_only_a_port_is_given() {
        for (text, address) in [
            ("9464", "127.0.0.1:9464"),
            ("0.0.0.0:9464", "0.0.0.0:9464"),
            ("[::1]:80", "[::1]:80"),
            ("localhost:80", "127.0.0.1:80"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), address);
        }
        for text in ["", "no", "1.2.3.4", "70000", ":9464", "example.org:80"] {
            assert!(text.parse::<Address>().unwrap_err().contains("9464"), "{text}");
        }
    }
}
