//! A person writes a line into a heartbeat file: how long until it is in force. It is so
//! from its event on, which the script makes that changes the agent's control state;
//! every script that grants a task asks that state.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::follow::Follow;
use super::{idlers, millis, names, resting, usual};
use crate::report::Report;

const LINES: usize = 100;
/// Between two lines, so that each is a change of its own.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) async fn measure() -> Report {
    let names = names(1);
    let path = format!("heartbeat/{}.md", names[0]);
    let fleet = resting(usual(idlers(&names)), 1).await;
    let mut follow = Follow::from_now(&fleet).await;
    let mut times = Vec::new();
    for line in ["PAUSE", "RESUME"].into_iter().cycle().take(LINES) {
        times.push(millis(applied(&fleet.path(&path), &mut follow, line).await));
        tokio::time::sleep(PAUSE).await;
    }
    let mut report = Report::new("directive");
    report.percentiles("a line is appended -> in force", "ms", &times, [None, Some(50.0)]);
    report
}

async fn applied(path: &Path, follow: &mut Follow, line: &str) -> Duration {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    let began = Instant::now();
    writeln!(file, "{line}").unwrap();
    let applied = follow.until(line, 1, |event| {
        event.kind == "directive"
            && (event.field("line"), event.field("outcome")) == (line, "applied")
    });
    applied.await - began
}
