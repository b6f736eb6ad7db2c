//! What the orchestrator's `/metrics` say of calls that the real `claude` made.

use std::time::Duration;

use model::goal::Status;
use store::llm::CostOf;
use testkit::{LlmServer, Usage, free_port};

use super::script::{Asked, Cli, asked, obey, prose, start, thinking};
use crate::metrics::{until_value, value};
use crate::support::goal_001;

const MODEL: &str = "claude-sonnet-4-5";
const TWO: &[(&str, &[&str])] = &[("t1", &[]), ("t2", &["t1"])];
/// What each reply takes at the least.
const DELAY: Duration = Duration::from_millis(200);

/// What a reply claims, different for each step.
fn claimed(asked: &Asked) -> Usage {
    match asked {
        Asked::Plan => Usage { input: 1_009, output: 101, cache_read: 210, cache_write: 4 },
        Asked::Do(_) => Usage { input: 2_003, output: 211, cache_read: 1_030, cache_write: 1_012 },
        Asked::SumUp => Usage { input: 307, output: 13, cache_read: 50, cache_write: 8 },
        other => panic!("asked for {other:?}"),
    }
}

/// Millionths of a dollar: 3 dollars for a million tokens of input, 15 of output, 0.30 from a
/// cache, 3.75 into one. The tokens above make whole numbers of them.
fn price(usage: Usage) -> u64 {
    3 * usage.input + 15 * usage.output + 3 * usage.cache_read / 10 + 15 * usage.cache_write / 4
}

/// Those of one kind, by its label.
fn tokens(usage: Usage, kind: &str) -> u64 {
    match kind {
        "input" => usage.input,
        "output" => usage.output,
        "cache_read" => usage.cache_read,
        "cache_write" => usage.cache_write,
        other => panic!("{other} tokens"),
    }
}

#[tokio::test]
async fn metrics_should_tell_the_tokens_and_the_cost_of_claude_exactly() {
    let cli = Cli::Claude;
    let server = LlmServer::start(|call| obey(call, TWO).using(claimed(&asked(call))).after(DELAY));
    let Some(builder) = thinking(cli, &server, prose(cli, &["an_agent"], "")) else { return };
    let port = free_port();
    let metrics = ["--metrics-addr", &port.to_string(), "--llm-model", MODEL];
    let fleet = start(cli, &server, builder.args(&metrics)).await;
    fleet.until_goal(Status::Complete).await;

    // The plan; each task's file and its answer; each task's summary.
    let requests = server.calls();
    assert_eq!((requests.len(), server.side_calls().len()), (7, 0));
    let of = format!("provider=\"claude\",model=\"{MODEL}\"");
    let calls = |step: &str| format!("orch_llm_calls_total{{{of},step=\"{step}\",outcome=\"ok\"}}");
    until_value(port, &calls("summarise"), 2.0).await;
    until_value(port, &calls("decompose"), 1.0).await;
    let scrape = until_value(port, &calls("execute"), 2.0).await;

    let usages: Vec<Usage> = requests.iter().map(|call| claimed(&asked(call))).collect();
    for kind in ["input", "output", "cache_read", "cache_write"] {
        let sum: u64 = usages.iter().map(|usage| tokens(*usage, kind)).sum();
        let told = value(&scrape, &format!("orch_llm_tokens_total{{{of},type=\"{kind}\"}}"));
        assert_eq!(told, Some(sum as f64), "{kind}: {scrape}");
    }
    let paid = usages.iter().map(|usage| price(*usage)).sum::<u64>();
    let dollars = |series: &str| value(&scrape, series).map(|usd| (usd * 1e6).round() as u64);
    assert_eq!(dollars(&format!("orch_llm_cost_usd_total{{{of}}}")), Some(paid), "{scrape}");
    assert_eq!(dollars("orch_goal_cost_usd_total{goal=\"goal-001\"}"), Some(paid), "{scrape}");
    assert_eq!(value(&scrape, &format!("orch_llm_unpriced_calls_total{{{of}}}")), Some(0.0));

    let took =
        |part: &str| value(&scrape, &format!("orch_llm_call_duration_seconds_{part}{{{of}}}"));
    assert_eq!(took("count"), Some(5.0), "{scrape}");
    let costs = fleet.store.costs(CostOf::Goal(&goal_001())).await.unwrap();
    assert_eq!(took("sum").map(|seconds| (seconds * 1e3).round() as u64), Some(costs.ms));
    assert!(took("sum") >= Some(7.0 * DELAY.as_secs_f64()), "{scrape}");
    // Nobody asks any more.
    assert_eq!(value(&scrape, "orch_llm_slots{use=\"used\"}"), Some(0.0), "{scrape}");
}
