//! Real servers on free ports, and waits with deadlines. For tests only.
//!
//! Tests here assert the state of the world on real parts: a real Redis, a real
//! systemg, real sockets that fail. Each part starts in milliseconds, belongs to
//! one test, and ends with it, also when the test fails. What cannot be done is
//! a panic with its reason: a test has no use for an error value.
//!
//! Nothing of this can run when the test process itself is killed by SIGKILL;
//! then what it started stays.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a tool of tests: the panic is the report"
)]

mod http;
mod llm;
mod llm_clis;
mod otlp;
mod proxy;
mod redis_server;
mod sysg;
mod tls;
mod wait;

pub use http::http_get;
pub use llm::{Api, Call, LlmServer, Say, Usage};
pub use llm_clis::{claude_history, in_path, installed};
pub use otlp::{OtlpSink, OtlpSpan};
pub use proxy::{FaultProxy, Mode};
pub use redis_server::{Options, RedisServer, free_port};
pub use sysg::{Ran, SysgProject, sysg_path};
pub use wait::{DEADLINE, wait_until, wait_until_blocking};
