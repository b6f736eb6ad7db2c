//! What a hundred agents cost that have nothing to do.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use process::Identity;

use super::process::{Memory, cpu, memory};
use super::support::Fleet;
use super::{idlers, names, resting, usual};
use crate::report::{Report, Wanted};

const AGENTS: usize = 100;
/// Over how long each is measured: processors, then commands.
const WHILE: Duration = Duration::from_secs(60);

pub(crate) async fn measure() -> Report {
    let fleet = resting(usual(idlers(&names(AGENTS))), AGENTS).await;
    let agents = fleet.all_agent_processes();
    let [orchestrator] = fleet.orchestrators()[..] else { panic!("not one orchestrator") };
    let supervisor = fleet.project.supervisor().unwrap();
    let groups =
        [agents.clone(), vec![orchestrator], vec![fleet.redis_process()], vec![supervisor]];
    let (processors, commands) = idle(&fleet, &groups).await;
    let [of_agents, of_orchestrator, of_redis, of_sysg] = processors[..] else { panic!("4") };

    let mut report = Report::new("idle");
    let percent = "% of a core";
    let both = of_agents + of_orchestrator;
    let name = format!("{AGENTS} agents and the orchestrator");
    report.want(name, percent, &[both], Wanted::AtMost(1.0));
    report.add("of this the agents", percent, &[of_agents]);
    report.add("of this the orchestrator", percent, &[of_orchestrator]);
    report.add("besides: Redis", percent, &[of_redis]);
    report.add("besides: sysg", percent, &[of_sysg]);

    let sent = sent(&fleet);
    let name = "commands that are sent to Redis, per agent";
    report.want(name, "commands/s", &[sent], Wanted::AtMost(1.0));
    report.add("with those within scripts", "commands/s", &[commands]);

    let of: Vec<Memory> = agents.iter().map(|agent| memory(*agent)).collect();
    let resident: Vec<f64> = of.iter().map(|memory| memory.resident).collect();
    let share: Vec<f64> = of.iter().map(|memory| memory.share).collect();
    report.want("an agent, resident", "MB", &resident, Wanted::AtMost(8.0));
    report.add("an agent, its share of shared pages", "MB", &share);
    let own = memory(orchestrator).resident;
    report.want("the orchestrator, resident", "MB", &[own], Wanted::AtMost(30.0));
    assert_eq!(fleet.all_agent_processes(), agents, "one was replaced\n{}", fleet.log());
    report
}

/// Percents of one core that each group takes, and commands per agent and second as Redis
/// counts them, also those that a script calls. Ours are two.
async fn idle(fleet: &Fleet, groups: &[Vec<Identity>]) -> (Vec<f64>, f64) {
    let spent = || -> Vec<Duration> {
        groups.iter().map(|group| group.iter().map(|process| cpu(*process)).sum()).collect()
    };
    let (counted, before, began) = (processed(fleet), spent(), Instant::now());
    // Measuring, not waiting for anything.
    tokio::time::sleep(WHILE).await;
    let (after, took) = (spent(), began.elapsed().as_secs_f64());
    let counted = processed(fleet) - counted - 2.0;
    let percent = |(after, before): (&Duration, &Duration)| {
        100.0 * after.saturating_sub(*before).as_secs_f64() / took
    };
    (after.iter().zip(&before).map(percent).collect(), counted / took / AGENTS as f64)
}

fn processed(fleet: &Fleet) -> f64 {
    let info = fleet.redis("INFO stats");
    let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
    line.unwrap().trim().parse().unwrap()
}

/// Commands that clients send, per agent and second: Redis tells each, and which of them
/// a script called. Nobody else is connected but agents and the orchestrator.
fn sent(fleet: &Fleet) -> f64 {
    let mut monitor = TcpStream::connect(("127.0.0.1", fleet.redis_port)).unwrap();
    monitor.write_all(b"MONITOR\r\n").unwrap();
    monitor.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut lines = BufReader::new(monitor);
    let began = Instant::now();
    let (mut sent, mut line) = (0_u32, Vec::new());
    while began.elapsed() < WHILE {
        match lines.read_until(b'\n', &mut line) {
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                // `+1700000000.123456 [0 127.0.0.1:50000] "GET" ..`, and `[0 lua]`.
                let is_told = text.contains(" [") && !text.contains(" [0 lua] ");
                sent += u32::from(is_told);
                line.clear();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("MONITOR: {error}"),
        }
    }
    f64::from(sent) / began.elapsed().as_secs_f64() / AGENTS as f64
}
