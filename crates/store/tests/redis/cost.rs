//! What each step costs, in calls and in commands that Redis runs: exact numbers, so that
//! one more shows where no clock would.

use std::collections::BTreeMap;

use store::agent::Doing;

use crate::world::{TTL_MS, World, granted, plan};

/// How often each command ran while `step` was done; `fcall` are the calls.
async fn commands(world: &World, step: impl Future<Output = ()>) -> BTreeMap<String, u32> {
    world.raw::<()>(&["CONFIG", "RESETSTAT"]);
    step.await;
    let text: String = world.raw(&["INFO", "commandstats"]);
    let ran = text.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let calls = rest.split(',').next()?.parse().ok()?;
        (!name.starts_with("config")).then(|| (name.to_owned(), calls))
    });
    ran.collect()
}

/// The calls, and the commands within them.
fn sum(ran: &BTreeMap<String, u32>) -> (u32, u32) {
    let calls = ran.get("fcall").copied().unwrap_or(0);
    (calls, ran.values().sum::<u32>() - calls)
}

#[tokio::test]
async fn steps_of_an_agent_should_take_so_many_commands_and_no_more() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &[]), ("c", &["a"])])).await;
    let worker = world.join("w_agent", "w", "g").await;
    // Scripts are loaded with their first call.
    let first = world.start(&worker, "a").await;
    world.store.release(worker.holding(&first), "again").await.unwrap();
    world.store.beat(&worker.name, worker.incarnation, TTL_MS, None, "").await.unwrap();
    let first = world.start(&worker, "a").await;
    world.complete(&worker, &first).await;
    let second = granted(world.claim(&worker).await);

    let beat = commands(&world, async {
        let holds = Some((&second.task, second.epoch));
        world.store.beat(&worker.name, worker.incarnation, TTL_MS, holds, "").await.unwrap();
    })
    .await;
    let report = commands(&world, async {
        // Time goes on between two grants.
        let (store, next) = (world.later(1), Some(TTL_MS));
        store.complete(worker.holding(&second), "[]", "", next).await.unwrap();
    })
    .await;
    let third = granted(world.claim(&worker).await);
    let last = commands(&world, async { _ = world.complete(&worker, &third).await }).await;
    let idle = commands(&world, async { _ = world.claim(&worker).await }).await;
    // What an idle agent does every 5 s.
    let sign = commands(&world, async {
        let waits = Doing::Waits;
        world.store.beat(&worker.name, worker.incarnation, TTL_MS, waits, "").await.unwrap();
    })
    .await;

    // Besides one TIME, which the clock of a test stands in for.
    let all = [&beat, &report, &last, &idle, &sign].map(sum);
    let expected = [(1, 8), (1, 22), (1, 10), (1, 10), (1, 7)];
    assert_eq!(all, expected, "{beat:?} {report:?} {last:?} {idle:?} {sign:?}");
}

#[tokio::test]
async fn reading_all_agents_should_be_one_call_for_a_hundred() {
    let world = World::new().await;
    for n in 0..101 {
        world.join(&format!("w{n}_agent"), "w", "g").await;
    }
    assert_eq!(world.store.agents().await.unwrap().len(), 101);
    let ran = commands(&world, async { _ = world.store.agents().await.unwrap() }).await;
    assert_eq!((ran["fcall"], ran["smembers"], ran["hgetall"]), (2, 1, 303), "{ran:?}");
}

/// Regression: ids that the goal had already were looked for in their long form too, and
/// reserved again.
#[tokio::test]
async fn plan_in_force_should_cost_one_look_for_each_of_its_ids() {
    let world = World::new().await;
    let tasks = || plan(&[("a", &[]), ("b", &[])]);
    world.accept("g", tasks()).await;
    let again = commands(&world, async { _ = world.accept("g", tasks()).await }).await;
    // And one for who leads.
    assert_eq!((again.get("hget"), again.get("hset")), (Some(&3), None), "{again:?}");
}
