//! What an idle fleet costs.

use std::collections::BTreeMap;

use model::agent::Phase;

use crate::common::{World, settings};

const AGENTS: usize = 100;

fn calls(info: &str) -> BTreeMap<&str, u64> {
    info.lines()
        .filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(":calls="))
        .map(|(command, rest)| (command, rest.split(',').next().unwrap().parse().unwrap()))
        .filter(|(command, _)| !["config|resetstat", "info", "quit"].contains(command))
        .collect()
}

#[tokio::test]
async fn idle_fleet_should_cost_one_round_of_reads_per_look_and_no_pass_and_no_write() {
    let world = World::new().await;
    let names: Vec<String> = (0..AGENTS).map(|n| format!("agent-{n}")).collect();
    let declared: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    world.declare(&declared);
    // One process is enough for all: it is alive, and nothing is to be done to it.
    let process = world.start_bystander();
    for name in &names {
        world.register(name, process, "1").await;
    }
    let control = world.control(settings()).await;
    for name in &names {
        world.phase(name, Phase::Running).await;
    }
    control.looked(1).await;
    let before = control.stats.snapshot();
    world.redis_says("CONFIG RESETSTAT");
    control.looked(3).await;
    let after = control.stats.snapshot();
    let looks = after.resyncs - before.resyncs;
    let n = AGENTS as u64;
    // One call reads all; the others are within its script.
    let expected = BTreeMap::from([
        ("fcall", looks),
        ("get", n * looks),
        ("hget", n * looks),
        ("hgetall", 3 * n * looks),
        ("smembers", looks),
    ]);
    assert_eq!(calls(&world.redis_says("INFO commandstats")), expected);
    assert_eq!((after.passes, after.failures), (before.passes, 0));
}
