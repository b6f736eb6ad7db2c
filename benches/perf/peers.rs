//! The same plans by ours and by others, in turn and on the same Redis: `make bench-peers`.
//! What the others are told to do is in `benches/peers`.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use testkit::RedisServer;

use crate::drain::{self, tasks_of};
use crate::report::{RATE, Report, Wanted};

const ROUNDS: usize = 5;
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// One of the others, and how it is at its best with one shape of plan.
struct Peer {
    name: &'static str,
    shape: &'static str,
    /// From our folder.
    program: [&'static str; 2],
    tasks: usize,
    concurrency: usize,
}

const NODE: [&str; 2] = ["node", "benches/peers/bullmq.mjs"];
const CELERY: [&str; 2] = [".tools/peers/venv/bin/python", "benches/peers/celery_bench.py"];
const PORKI: [&str; 2] = [".tools/peers/venv/bin/python", "benches/peers/porki_bench.py"];

const fn peer(
    name: &'static str,
    shape: &'static str,
    program: [&'static str; 2],
    tasks: usize,
    concurrency: usize,
) -> Peer {
    Peer { name, shape, program, tasks, concurrency }
}

/// Celery and porki take too long for as many tasks.
const PEERS: [Peer; 11] = [
    peer("BullMQ", "drain", NODE, 10_000, 16),
    peer("BullMQ", "drain", NODE, 10_000, 50),
    peer("BullMQ", "drain", NODE, 10_000, 200),
    peer("Celery", "drain", CELERY, 2_000, 2),
    peer("porki", "drain", PORKI, 50, 1),
    peer("BullMQ", "fan", NODE, 10_000, 50),
    peer("Celery", "fan", CELERY, 2_000, 2),
    peer("porki", "fan", PORKI, 50, 1),
    peer("BullMQ", "chain", NODE, 1_000, 1),
    peer("Celery", "chain", CELERY, 1_000, 1),
    peer("porki", "chain", PORKI, 50, 1),
];

/// Measures in alternating rounds.
pub(crate) async fn measure() -> Report {
    assert!(Path::new(ROOT).join(CELERY[0]).exists(), "the peers are missing: run `make peers`");
    let mut report = Report::new(crate::PEERS);
    for (shape, loops) in [("drain", 16), ("fan", 16), ("chain", 1)] {
        let peers: Vec<&Peer> = PEERS.iter().filter(|peer| peer.shape == shape).collect();
        let mut ours = Vec::new();
        let mut theirs = vec![Vec::new(); peers.len()];
        let (mut our_cpu, mut their_cpu) = (Vec::new(), theirs.clone());
        for _ in 0..ROUNDS {
            let (rate, server) = drain::rate_and_server(shape, loops).await;
            ours.push(rate);
            our_cpu.push(cpu_us(&server) / tasks_of(shape) as f64);
            for ((peer, rates), cpu) in peers.iter().zip(&mut theirs).zip(&mut their_cpu) {
                let before = cpu_us(&server);
                rates.push(peer.rate(&server));
                cpu.push((cpu_us(&server) - before) / peer.tasks as f64);
            }
        }
        report.add(format!("{shape}: orch, {loops} agents"), RATE, &ours);
        for (peer, rates) in peers.iter().zip(&theirs) {
            let name = format!("{shape}: {}, {} at once", peer.name, peer.concurrency);
            report.add(name, RATE, rates);
        }
        for (peer, rates) in peers.iter().zip(&theirs) {
            let ratios: Vec<f64> = ours.iter().zip(rates).map(|(us, them)| us / them).collect();
            let name = format!("{shape}: ours to {}, {} at once", peer.name, peer.concurrency);
            // As fast a hop in 0.4 of the time is 2.5 hops in the same.
            let wanted = Wanted::AtLeast(if shape == "chain" { 2.5 } else { 2.0 });
            report.want(name, "x", &ratios, wanted);
        }
        report.add(format!("{shape}: orch"), "us of Redis per task, all in", &our_cpu);
        for (peer, cpu) in peers.iter().zip(&their_cpu) {
            let name = format!("{shape}: {}, {} at once", peer.name, peer.concurrency);
            report.add(name, "us of Redis per task, all in", cpu);
        }
    }
    report
}

/// The processor time that Redis took since it was started, in microseconds.
fn cpu_us(server: &RedisServer) -> f64 {
    let info: String =
        redis::cmd("INFO").arg("cpu").query(&mut server.connection()).expect("a reply");
    let of = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|text| text.trim().parse::<f64>().ok()).expect("seconds")
    };
    (of("used_cpu_user:") + of("used_cpu_sys:")) * 1e6
}

impl Peer {
    /// Tasks per second, on a Redis that is emptied for it.
    fn rate(&self, server: &RedisServer) -> f64 {
        redis::cmd("FLUSHALL").exec(&mut server.connection()).unwrap();
        let [program, script] = self.program;
        let output = Command::new(program)
            .args([script, self.shape])
            .args([self.tasks.to_string(), self.concurrency.to_string()])
            .arg(format!("{}/1", server.url().trim_end_matches('/')))
            .current_dir(ROOT)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}: run `make peers`"));
        assert!(output.status.success(), "{script} {}: {}", self.shape, output.status);
        let told: Value = serde_json::from_slice(&output.stdout).expect("a line of JSON");
        told["rate"].as_f64().expect("a rate")
    }
}
