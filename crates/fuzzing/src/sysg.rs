//! What `sysg` prints, and the manifest that it is configured by.

use std::time::Duration;

use process::{Captured, Ended, Status};
use supervisor::SpawnLimits;
use supervisor::answer::{Asked, child, version};

use crate::check::{assert_quotable, halves, text};

/// The longest error: what systemg said is quoted in it.
const ERROR_BYTES: usize = 4 * 1024;

/// Standard output of `sysg`, and behind the divider its standard error; and the whole as
/// a manifest. A pid is one that can be, and errors are bounded and printable.
pub fn sysg(data: &[u8]) {
    let text = text(data);
    let (stdout, stderr) = halves(&text);
    let stderr = stderr.unwrap_or_default();
    for status in [Status::Exited(0), Status::Exited(1), Status::Signalled(9)] {
        let ended = Ended {
            status,
            stdout: Captured { text: stdout.to_owned(), left_out_bytes: 0 },
            stderr: Captured { text: stderr.to_owned(), left_out_bytes: 0 },
            duration: Duration::from_secs(1),
        };
        match child(&ended, &Asked { name: "agent", parent: 7, action: "spawn" }) {
            Ok(pid) => {
                assert!(status.is_success() && i32::try_from(pid).is_ok_and(|pid| pid > 0));
                let line = stdout.lines().rfind(|line| !line.trim().is_empty());
                assert_eq!(line.and_then(|line| line.trim().parse().ok()), Some(pid));
            }
            Err(error) => assert_quotable(&error.to_string(), ERROR_BYTES, "an error"),
        }
        match version(&ended) {
            Ok(version) => assert_quotable(&version, ERROR_BYTES, "a version"),
            Err(error) => assert_quotable(&error.to_string(), ERROR_BYTES, "an error"),
        }
    }
    match SpawnLimits::parse(&text, "orchestrator") {
        Ok(limits) => {
            let most = limits.map_or(0, |limits| limits.most_children());
            assert!(limits.is_none_or(|limits| most <= limits.children));
        }
        Err(message) => assert_quotable(&message, ERROR_BYTES, "an error"),
    }
}
