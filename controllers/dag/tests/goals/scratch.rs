use crate::bench::*;
use model::goal::Status;
use std::time::{Duration, Instant};
fn cpu() -> u64 { let s = std::fs::read_to_string("/proc/self/stat").unwrap(); let f: Vec<&str> = s.rsplit(')').next().unwrap().split_whitespace().collect(); f[11].parse::<u64>().unwrap()+f[12].parse::<u64>().unwrap() }
#[tokio::test]
async fn scratch_big() {
    let bench = Bench::new().await;
    let names: Vec<String> = (0..100_000).map(|n| if n>0 {format!("t{n}: t{}", n-1)} else {"t0".into()}).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let spec = pinned("big","Big",&names);
    let _r = bench.run_with(dag_controller::Settings::default(), bench.lead);
    let t = Instant::now();
    bench.declare(spec); _r.waker.resync();
    bench.until_status("big", Status::Active).await;
    eprintln!("100k accepted in {:?}", t.elapsed());
    let w = bench.worker("x_agent","big").await; let g = w.claim_some().await; w.fail(&g,"no",true).await;
    let t = Instant::now(); _r.waker.wake(goal_id("big"));
    bench.until_status("big", Status::Failed).await;
    eprintln!("failed roll-up {:?} {:?}", t.elapsed(), bench.goal("big").await.reason);
}
#[tokio::test]
async fn scratch_idle() {
    let bench = Bench::new().await;
    let _r = bench.run_with(dag_controller::Settings::default(), bench.lead);
    for n in 0..100 { bench.declare(pinned(&format!("g{n}"), "x", &[&format!("t{n}")])); }
    _r.waker.resync();
    for n in 0..100 { bench.until_status(&format!("g{n}"), Status::Active).await; }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let c = cpu(); let p = _r.stats.snapshot().passes;
    tokio::time::sleep(Duration::from_secs(20)).await;
    eprintln!("idle 100 ready goals: {} cpu ticks (10ms) in 20 s, {} passes", cpu()-c, _r.stats.snapshot().passes-p);
}
