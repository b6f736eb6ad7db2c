//! Redis' wall clock is set an hour forward or back: nothing waits for it, nothing is
//! lost by it.

use model::task::State;
use store::llm::{Begin, Begun};
use store::task::Settled;

use crate::holds::held;
use crate::llm::{CALL_TTL_MS, begin, end, granted as slot, limited};
use crate::world::{SECOND, T0, TTL_MS, World, goal, granted, plan};

const HOUR: u64 = 3600 * SECOND;

/// Regression: it waited until the clock stood again where it had been.
#[tokio::test]
async fn delayed_task_should_not_wait_for_a_clock_that_was_set_back() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    let back = world.store.at(T0 - HOUR);
    let grant = world.start(&worker, "a").await;
    assert_eq!(world.fail(&worker, &grant, false).await, Settled::Retry);
    // Parked: only a person brings it back, whatever the time.
    let parked = world.start(&worker, "b").await;
    world.store.park(worker.holding(&parked), "needs a person").await.unwrap();

    assert_eq!(back.promote(&goal("g")).await.unwrap(), None);
    assert_eq!((world.queue("dag:g:ready"), world.queue("dag:g:delayed")), {
        (vec!["a".to_owned()], vec!["b".to_owned()])
    });
    let again = granted(world.claim_at(&back, &worker).await);
    assert_eq!(again.task.as_str(), "a");
    assert!(again.epoch > grant.epoch, "an epoch does not grow");
    // What is delayed from now on is delayed by the clock as it is.
    let (settled, _) = back.fail(worker.holding(&again), "x", false, None).await.unwrap();
    assert_eq!(settled, Settled::Retry);
    let next = back.promote(&goal("g")).await.unwrap().unwrap();
    assert!(next.as_secs() <= 2, "{next:?}");
    assert_eq!(world.status("a").await, State::Ready);
    assert!(world.queue("dag:g:ready").is_empty());
    world.assert_sound(&["g"]);
}

/// Regression: the slots of all calls under way were given to who waited, and the calls
/// were ended.
#[tokio::test]
async fn slot_should_not_be_lost_to_a_clock_that_was_set_forward() {
    let world = World::new().await;
    let g = goal("g");
    let one = world.join_model("w1", "g", "claude").await;
    let two = world.join_model("w2", "g", "claude").await;
    let first = Begin { slots: 1, ..begin(one.caller(), &g, "1") };
    let second = Begin { slots: 1, ..begin(two.caller(), &g, "2") };
    slot(&world.begin(&first).await);
    let ahead = world.store.at(T0 + HOUR);
    let asked = ahead.begin_call(&second).await.unwrap();
    assert!(matches!(asked, Begun::Waiting { .. }), "{asked:?}");
    assert!(ahead.renew_call(&one.caller(), &g, "1", CALL_TTL_MS).await.unwrap());
    // As before, it is lost when its holder is silent for its time to live.
    let late = world.store.at(T0 + HOUR + 2 * CALL_TTL_MS * 1000);
    slot(&late.begin_call(&second).await.unwrap());
    assert!(!late.renew_call(&one.caller(), &g, "1", CALL_TTL_MS).await.unwrap());
}

/// Regression: both stood there for an hour longer, and nobody else got the slot.
#[tokio::test]
async fn dead_caller_should_not_be_kept_by_a_clock_that_was_set_back() {
    let world = World::new().await;
    let g = goal("g");
    let mut workers = Vec::new();
    for name in ["w1", "w2", "w3"] {
        workers.push(world.join_model(name, "g", "claude").await);
    }
    let one = |n: usize, call| Begin { slots: 1, ..begin(workers[n].caller(), &g, call) };
    slot(&world.begin(&one(0, "1")).await);
    assert!(matches!(world.begin(&one(1, "2")).await, Begun::Waiting { .. }));
    let back = T0 - HOUR;
    let asked = world.store.at(back).begin_call(&one(2, "3")).await.unwrap();
    let Begun::Waiting { reason } = asked else { panic!("{asked:?}") };
    assert!(reason.ends_with("1 waits before it"), "{reason}");
    // Neither of the first two says anything any more.
    let late = world.store.at(back + 2 * CALL_TTL_MS * 1000);
    slot(&late.begin_call(&one(2, "3")).await.unwrap());
}

/// Regression: a provider whose limit named no time was held for an hour longer.
#[tokio::test]
async fn hold_should_not_outlast_a_clock_that_was_set_back() {
    let world = World::new().await;
    let g = goal("g");
    let one = world.join_model("w1", "g", "claude").await;
    let call = begin(one.caller(), &g, "1");
    slot(&world.begin(&call).await);
    world.store.end_call(&limited(&call, None)).await.unwrap();
    let next = begin(one.caller(), &g, "2");
    held(&world.store.begin_call(&next).await.unwrap());
    assert_eq!(world.store.holds().await.unwrap().len(), 1);
    // A clock that is slewed by some milliseconds is no reason to ask.
    let slewed = world.store.at(T0 - 20_000);
    held(&slewed.begin_call(&next).await.unwrap());

    let back = world.store.at(T0 - HOUR);
    assert_eq!(back.holds().await.unwrap(), []);
    slot(&back.begin_call(&next).await.unwrap());
    // The provider says again what it thinks, and is believed.
    back.end_call(&limited(&next, None)).await.unwrap();
    let third = begin(one.caller(), &g, "3");
    held(&back.begin_call(&third).await.unwrap());
    // An hour ahead it is over, too early: one call finds out.
    let ahead = world.store.at(T0 + HOUR);
    slot(&ahead.begin_call(&third).await.unwrap());
    ahead.end_call(&end(&third)).await.unwrap();
}

/// What people look at expires by the wall clock; nothing is decided by it.
#[tokio::test]
async fn expired_keys_should_take_nothing_from_who_holds_a_task() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    let grant = world.start(&worker, "a").await;
    for key in ["agent:w:heartbeat", "task:a:lock"] {
        assert_eq!(world.raw::<u8>(&["PEXPIRE", key, "0"]), 1, "{key}");
    }
    let again = granted(world.claim_at(&world.store.at(T0 + HOUR), &worker).await);
    assert_eq!(again.epoch, grant.epoch);
    let holder = worker.holding(&grant);
    let ahead = world.store.at(T0 + HOUR);
    let (settled, _) = ahead.complete(holder, "[]", "", Some(TTL_MS)).await.unwrap();
    assert_eq!(settled, Settled::Done);
}
