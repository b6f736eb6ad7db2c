//! INSTRUCTIONS.md is saved with one agent more: how long until that one is registered.

use std::time::{Duration, Instant};

use super::follow::Follow;
use super::{idlers, millis, names, resting, save, usual};
use crate::report::Report;

const EDITS: usize = 30;
/// Between two edits: systemg starts at most ten children a second.
const PAUSE: Duration = Duration::from_millis(500);

pub(crate) async fn measure() -> Report {
    let names = names(EDITS + 1);
    let fleet = resting(usual(idlers(&names[..1])), 1).await;
    let mut follow = Follow::from_now(&fleet).await;
    let mut times = Vec::new();
    for (added, name) in names.iter().enumerate().skip(1) {
        let text = idlers(&names[..=added]);
        let began = Instant::now();
        save(&fleet, &text);
        let registered = follow
            .until(name, 1, |event| event.kind == "agent-register" && event.field("agent") == name);
        times.push(millis(registered.await - began));
        tokio::time::sleep(PAUSE).await;
    }
    let mut report = Report::new("edit");
    report.percentiles("saved -> the new agent is registered", "ms", &times, [None, Some(150.0)]);
    report
}
