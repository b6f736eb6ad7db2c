//! Asking a server on this host.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};

use crate::wait::DEADLINE;

/// The body of what the server on 127.0.0.1 at `port` answers to GET `path`, which may
/// have a query, where its status is 200; what came instead else. By HTTP/1.0, so that
/// the body comes as it is.
///
/// # Errors
/// Nobody listens, the answer does not come in time or is no text, or has another status.
pub fn http_get(port: u16, path: &str, accept: &str) -> Result<String, String> {
    let fail = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(fail)?;
    stream.set_read_timeout(Some(DEADLINE)).map_err(fail)?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nAccept: {accept}\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(fail)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(fail)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    if head.contains(" 200 ") { Ok(body.to_owned()) } else { Err(answer) }
}
