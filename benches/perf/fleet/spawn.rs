//! A hundred agents are declared at once: how long until all are registered, and how long
//! systemg takes alone for as many programs. It starts at most ten a second.

use std::time::{Duration, Instant};

use super::follow::Follow;
use super::support::Fleet;
use super::{idlers, names, resting, save, until_resting, usual};
use crate::report::{Report, Wanted};

const AGENTS: usize = 100;
const ROUNDS: usize = 3;
/// Until systemg is asked again when it has started enough for now.
const AGAIN: Duration = Duration::from_millis(10);

pub(crate) async fn measure() -> Report {
    let (mut ours, mut sysg) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let names = names(AGENTS + 1);
        // One is there before: what is measured is not how systemg starts.
        let fleet = resting(usual(idlers(&names[..1])), 1).await;
        ours.push(registered(&fleet, &names).await.as_secs_f64());
        until_resting(&fleet, AGENTS + 1).await;
        sysg.push(by_sysg_alone(&fleet).await.as_secs_f64());
    }
    let over: Vec<f64> = ours.iter().zip(&sysg).map(|(ours, sysg)| ours - sysg).collect();
    let mut report = Report::new("spawn");
    let name = format!("{AGENTS} agents declared at once -> all registered");
    report.want(name, "s", &ours, Wanted::AtMost(3.0));
    report.add(format!("the floor: {AGENTS} x sleep by sysg, 10 a second"), "s", &sysg);
    report.add("the difference of both", "s", &over);
    report
}

async fn registered(fleet: &Fleet, names: &[String]) -> Duration {
    let mut follow = Follow::from_now(fleet).await;
    let text = idlers(names);
    let began = Instant::now();
    save(fleet, &text);
    follow.until("registered", AGENTS, |event| event.kind == "agent-register").await - began
}

/// As many programs that do nothing, started for the same service, one after the other.
async fn by_sysg_alone(fleet: &Fleet) -> Duration {
    let [orchestrator] = fleet.orchestrators()[..] else { panic!("not one orchestrator") };
    let parent = orchestrator.pid.to_string();
    let began = Instant::now();
    for n in 0..AGENTS {
        let name = format!("sleep{n}");
        let args = ["start", "--parent-pid", &parent, "--name", &name, "--", "sleep", "1000"];
        loop {
            let ran = fleet.project.sysg(&args);
            if ran.code == Some(0) {
                break;
            }
            assert!(ran.stderr.contains("rate limit"), "{}", ran.stderr);
            tokio::time::sleep(AGAIN).await;
        }
    }
    began.elapsed()
}
