//! What it takes to get a large plan into force, from the text of `INSTRUCTIONS.md` on:
//! time, and the memory of a process that does only this.
//!
//! A control file has at most 1 MiB, into which 100,000 tasks do not fit: their text is
//! given to the parser past that limit. The other text is the largest that a file may have.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use control_files::{instructions, read};
use model::GoalId;
use providers::offline;
use store::lead::Controller;
use store::{Lead, Options, Store};
use testkit::RedisServer;

use crate::child::{self, Told};
use crate::report::{Report, Wanted};
use crate::world::{GOAL, lead};

const TASKS: usize = 100_000;
const ROUNDS: usize = 3;
const HEAD: &str =
    "## Agents\n### worker_agent\n- Goal: goal-001\n\n## Goals\n### goal-001\nAll.\n\n#### Tasks\n";

pub(crate) async fn measure() -> Report {
    let mut report = Report::new("accept");
    for most in [TASKS, fitting()] {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            // Calls of a millisecond and more.
            let server = RedisServer::options()
                .config("slowlog-log-slower-than 1000")
                .config("slowlog-max-len 10000")
                .start();
            let mut told = child::run("accept", &[&server.url(), &most.to_string()]);
            told.insert("longest".to_owned(), longest(&server).as_secs_f64() * 1_000.0);
            rounds.push(told);
        }
        let all = |name: &str| rounds.iter().map(|told| told[name]).collect::<Vec<f64>>();
        let edges = all("edges")[0];
        let what = format!("{most} tasks, {edges} edges");
        report.add(format!("{what}: parsing {:.1} MB", all("bytes")[0] / 1e6), "s", &all("parse"));
        report.add(format!("{what}: validating"), "s", &all("validate"));
        report.add(format!("{what}: accepting"), "s", &all("accept"));
        let total: Vec<f64> =
            all("validate").iter().zip(all("accept")).map(|(one, two)| one + two).collect();
        let time = format!("{what}: both");
        let memory = format!("{what}: most memory");
        if most == TASKS {
            report.want(time, "s", &total, Wanted::AtMost(2.0));
            report.want(&memory, "MB", &all("memory"), Wanted::AtMost(150.0));
        } else {
            report.add(time, "s", &total);
            report.add(&memory, "MB", &all("memory"));
        }
        for part in ["parsing", "validating", "accepting"] {
            let peaks = all(&format!("memory of {part}"));
            report.add(format!("{memory} while {part}"), "MB", &peaks);
        }
        report.add(format!("{what}: the longest call of Redis"), "ms", &all("longest"));
    }
    report
}

/// How many tasks fit into a control file.
fn fitting() -> usize {
    let most = usize::try_from(read::MAX_BYTES).unwrap();
    let is_short = |tasks: &usize| text(*tasks).0.len() <= most;
    // Their length grows with their number.
    (0..TASKS / 1_000).map(|n| n * 1_000).take_while(is_short).last().unwrap()
}

/// So many tasks, most of which wait for three others; and how many edges that makes.
fn text(tasks: usize) -> (String, usize) {
    let (mut text, mut edges) = (HEAD.to_owned(), 0);
    for n in 0..tasks {
        let _ = write!(text, "- t{n}: Do it");
        // Three different ones from here on.
        if n >= 6 {
            let _ = write!(text, " (after: t{}, t{}, t{})", n / 2, n / 3, n / 5);
            edges += 3;
        }
        text.push('\n');
    }
    (text, edges)
}

/// Does it once, as the orchestrator does for a file that somebody edited: the
/// declarations stay in memory while the plan is made of them.
pub(crate) async fn child(args: &[&str]) -> Told {
    let [url, tasks] = args else { panic!("a Redis and a number of tasks") };
    let (text, edges) = text(tasks.parse().unwrap());
    let url: store::RedisUrl = url.parse().unwrap();
    let store = Store::new(&Options::from(url)).await.unwrap();
    let lead = Lead::new(Controller::Dag, lead(&store).await);
    let project = tempfile::tempdir().unwrap();
    let goal = GoalId::new(GOAL).unwrap();
    let mut told = Told::new();
    let mut tell = |name: &str, value: f64| told.insert(name.to_owned(), value);
    #[allow(clippy::cast_precision_loss, reason = "some millions")]
    let as_number = |count: usize| count as f64;
    // The most since it was asked for before.
    let memory = || {
        let most = child::memory_kib("VmHWM") * 1024.0 / 1e6;
        child::forget_peak();
        most
    };

    let began = Instant::now();
    let parsed = instructions::parse(project.path(), Path::new("INSTRUCTIONS.md"), &text);
    tell("parse", began.elapsed().as_secs_f64());
    assert!(parsed.is_valid(), "{:?}", parsed.diagnostics.first());
    let parsing = memory();
    tell("memory of parsing", parsing);

    let began = Instant::now();
    let dag = offline::plan(&parsed.declared.goals[&goal]).unwrap();
    tell("validate", began.elapsed().as_secs_f64());
    assert_eq!(dag.edge_count(), edges);
    let validating = memory();
    tell("memory of validating", validating);

    let began = Instant::now();
    store.accept(&lead, &goal, dag, "hash", "title").await.unwrap().unwrap();
    tell("accept", began.elapsed().as_secs_f64());
    let accepting = memory();
    tell("memory of accepting", accepting);
    tell("memory", parsing.max(validating).max(accepting));
    tell("edges", as_number(edges));
    tell("bytes", as_number(text.len()));
    told
}

/// The longest call; none takes as long as a reply is waited for.
fn longest(server: &RedisServer) -> Duration {
    let mut ask = redis::cmd("SLOWLOG");
    ask.arg("GET").arg("-1");
    let calls: Vec<Vec<redis::Value>> = ask.query(&mut server.connection()).unwrap();
    let micros = calls.iter().map(|call| match call.get(2) {
        Some(redis::Value::Int(micros)) => u64::try_from(*micros).unwrap(),
        other => panic!("{other:?} in Redis' slow log"),
    });
    Duration::from_micros(micros.max().unwrap_or(0))
}
