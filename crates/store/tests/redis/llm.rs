//! Slots of model calls: how many at once, who is next, and what frees one.

use model::GoalId;
use store::Lead;
use store::llm::{Begin, Begun, Caller, End, LimitHit, Recorded, Spent};
use store::task::{Grant, Settled};
use testkit::{DEADLINE, wait_until};

use crate::world::{SECOND, T0, TTL_MS, Worker, World, agent, goal, plan, task};

pub(crate) const CALL_TTL_MS: u64 = 30_000;

impl Worker {
    /// It calls for no task.
    pub(crate) fn caller(&self) -> Caller<'_> {
        Caller::Agent { agent: &self.name, incarnation: self.incarnation, task: None }
    }

    pub(crate) fn caller_for<'a>(&'a self, grant: &'a Grant) -> Caller<'a> {
        let task = Some((&grant.task, grant.epoch));
        Caller::Agent { agent: &self.name, incarnation: self.incarnation, task }
    }
}

pub(crate) fn begin<'a>(caller: Caller<'a>, goal: &'a GoalId, call: &'a str) -> Begin<'a> {
    Begin {
        call,
        caller,
        goal,
        provider: "claude",
        step: "execute",
        slots: 2,
        ttl_ms: CALL_TTL_MS,
        session: None,
    }
}

pub(crate) fn end<'a>(begun: &Begin<'a>) -> End<'a> {
    End {
        call: begun.call,
        caller: begun.caller,
        goal: begun.goal,
        provider: begun.provider,
        model: Some("sonnet[1m]"),
        step: begun.step,
        outcome: "ok",
        spent: Spent {
            cost_micros: Some(120_000),
            input_tokens: 10,
            output_tokens: 20,
            cache_read_tokens: 30,
            cache_write_tokens: 40,
        },
        duration_ms: 1_500,
        prompt: "execute/1 3f2a9c",
        limit: None,
    }
}

pub(crate) fn limited<'a>(begun: &Begin<'a>, until_us: Option<u64>) -> End<'a> {
    let limit = Some(LimitHit { until_us, message: "You've hit your | limit" });
    End { outcome: "limit", spent: Spent::default(), limit, ..end(begun) }
}

pub(crate) fn granted(begun: &Begun) -> Option<u64> {
    let Begun::Granted { budget_left_micros } = begun else {
        panic!("expected a slot, got {begun:?}")
    };
    *budget_left_micros
}

fn waits(begun: &Begun) -> &str {
    let Begun::Waiting { reason } = begun else { panic!("expected to wait, got {begun:?}") };
    reason
}

impl World {
    pub(crate) async fn begin(&self, begin: &Begin<'_>) -> Begun {
        self.store.begin_call(begin).await.unwrap()
    }

    fn holders(&self) -> Vec<String> {
        self.hash("llm:slots").into_keys().collect()
    }

    fn woken(&self, holder: &str) -> bool {
        self.raw::<usize>(&["LLEN", &format!("llm:wake:{holder}")]) > 0
    }
}

#[tokio::test]
async fn slots_should_bound_the_calls_of_all_processes() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &[]), ("c", &[]), ("d", &[])])).await;
    let g = goal("g");
    let mut workers = Vec::new();
    for name in ["w1", "w2", "w3", "w4"] {
        let worker = world.join_model(name, "g", "claude").await;
        let grant = crate::world::granted(world.claim(&worker).await);
        workers.push((worker, grant));
    }
    let calls: Vec<Begin<'_>> = workers
        .iter()
        .zip(["1", "2", "3", "4"])
        .map(|((worker, grant), call)| begin(worker.caller_for(grant), &g, call))
        .collect();
    assert_eq!(granted(&world.begin(&calls[0]).await), None);
    granted(&world.begin(&calls[1]).await);
    let third = world.begin(&calls[2]).await;
    assert_eq!(waits(&third), "waits for an LLM slot: 2 of 2 in use, 0 wait before it");
    let fourth = world.begin(&calls[3]).await;
    assert_eq!(waits(&fourth), "waits for an LLM slot: 2 of 2 in use, 1 waits before it");
    assert_eq!(world.task("d").await.reason.as_deref(), Some(waits(&fourth)));
    let slots = world.store.slots().await.unwrap();
    assert_eq!((slots.most, slots.in_use.len(), slots.waiting.len()), (2, 2, 2));
    assert_eq!((slots.in_use[0].holder.as_str(), slots.in_use[0].call.as_str()), ("agent:w1", "1"));

    assert_eq!(slots.in_use[0].step, "execute");

    // Asked again: the same answers, the same state.
    let before = world.dump();
    for call in &calls[..2] {
        granted(&world.begin(call).await);
    }
    assert_eq!(world.begin(&calls[3]).await, fourth);
    assert_eq!(world.dump(), before);

    world.store.end_call(&end(&calls[0])).await.unwrap();
    assert!(world.woken("agent:w3") && !world.woken("agent:w4"));
    let fourth = world.begin(&calls[3]).await;
    assert_eq!(waits(&fourth), "waits for an LLM slot: 1 of 2 in use, 1 waits before it");
    granted(&world.begin(&calls[2]).await);
    assert_eq!((world.task("c").await.reason, world.woken("agent:w3")), (None, false));
    assert_eq!(world.holders(), ["agent:w2", "agent:w3"]);
    world.store.end_call(&end(&calls[2])).await.unwrap();
    granted(&world.begin(&calls[3]).await);
    world.assert_sound(&["g"]);
}

#[tokio::test]
async fn free_slot_should_go_to_the_goal_that_holds_the_fewest() {
    let world = World::new().await;
    let (big, small) = (goal("big"), goal("small"));
    let mut workers = Vec::new();
    for (name, of) in [("b1", "big"), ("b2", "big"), ("b3", "big"), ("b4", "big"), ("s1", "small")]
    {
        workers.push(world.join_model(name, of, "claude").await);
    }
    let call = |n: usize| {
        let of = if n == 4 { &small } else { &big };
        begin(workers[n].caller(), of, ["0", "1", "2", "3", "4"][n])
    };
    for n in [0, 1] {
        granted(&world.begin(&call(n)).await);
    }
    // Those of the big goal wait longer.
    for (n, seconds) in [(2, 1), (3, 2), (4, 3)] {
        waits(&world.later(seconds).begin_call(&call(n)).await.unwrap());
    }
    let later = world.later(4);
    later.end_call(&end(&call(0))).await.unwrap();
    assert!(world.woken("agent:s1") && !world.woken("agent:b3"));
    waits(&later.begin_call(&call(2)).await.unwrap());
    granted(&later.begin_call(&call(4)).await.unwrap());
    // Both goals hold one now: who waits longest.
    later.end_call(&end(&call(1))).await.unwrap();
    later.end_call(&end(&call(4))).await.unwrap();
    assert!(world.woken("agent:b3") && world.woken("agent:b4"), "two are free");
    granted(&later.begin_call(&call(3)).await.unwrap());
    granted(&later.begin_call(&call(2)).await.unwrap());
}

#[tokio::test]
async fn waiter_that_does_not_ask_again_should_lose_its_place() {
    let world = World::new().await;
    let g = goal("g");
    let mut workers = Vec::new();
    for name in ["w1", "w2", "w3"] {
        workers.push(world.join_model(name, "g", "claude").await);
    }
    let call = |n: usize| Begin { slots: 1, ..begin(workers[n].caller(), &g, ["0", "1", "2"][n]) };
    granted(&world.begin(&call(0)).await);
    waits(&world.begin(&call(1)).await);
    waits(&world.later(1).begin_call(&call(2)).await.unwrap());
    let reason = world.later(9).begin_call(&call(2)).await.unwrap();
    assert_eq!(waits(&reason), "waits for an LLM slot: 1 of 1 in use, 1 waits before it");
    world.later(10).end_call(&end(&call(0))).await.unwrap();
    granted(&world.later(10).begin_call(&call(2)).await.unwrap());
    assert!(world.store.slots().await.unwrap().waiting.is_empty());
}

#[tokio::test]
async fn waiter_that_leaves_should_make_room_for_the_next() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let g = goal("g");
    let mut workers = Vec::new();
    for name in ["w1", "w2", "w3"] {
        workers.push(world.join_model(name, "g", "claude").await);
    }
    let grant = world.start(&workers[1], "a").await;
    let one = |caller, call| Begin { slots: 1, ..begin(caller, &g, call) };
    let first = one(workers[0].caller(), "1");
    granted(&world.begin(&first).await);
    let second = one(workers[1].caller_for(&grant), "2");
    waits(&world.begin(&second).await);
    let third = one(workers[2].caller(), "3");
    waits(&world.begin(&third).await);
    world.store.end_call(&end(&first)).await.unwrap();
    assert!(world.woken("agent:w2"));
    world.store.give_up_call(&second.caller, &g, second.call).await.unwrap();
    assert_eq!((world.woken("agent:w2"), world.woken("agent:w3")), (false, true));
    assert_eq!(world.task("a").await.reason, None);
    let before = world.dump();
    world.store.give_up_call(&second.caller, &g, second.call).await.unwrap();
    assert_eq!(world.dump(), before);

    // Regression: a slot whose caller did not hear of it was kept for its time to live.
    granted(&world.begin(&third).await);
    world.store.give_up_call(&third.caller, &g, "the one before").await.unwrap();
    assert_eq!(world.holders(), ["agent:w3"], "another call's");
    waits(&world.begin(&second).await);
    world.store.give_up_call(&third.caller, &g, third.call).await.unwrap();
    assert_eq!((world.holders().len(), world.woken("agent:w2")), (0, true));
}

#[tokio::test]
async fn process_that_is_gone_should_free_its_slot_at_once() {
    let world = World::new().await;
    let g = goal("g");
    for how in ["buried", "replaced", "deregistered"] {
        let dead = world.join_model("dead", "g", "claude").await;
        let next = world.join_model("next", "g", "claude").await;
        let one = |caller, call| Begin { slots: 1, ..begin(caller, &g, call) };
        granted(&world.begin(&one(dead.caller(), how)).await);
        waits(&world.begin(&one(next.caller(), "next")).await);
        match how {
            "buried" => {
                world.store.bury(&world.lead(), &dead.name, dead.incarnation, "x").await.unwrap();
            }
            "replaced" => drop(world.join_model("dead", "g", "claude").await),
            _ => {
                world.store.deregister(&dead.name, dead.incarnation, "x").await.unwrap();
            }
        }
        assert!(world.holders().is_empty(), "{how}");
        assert!(world.woken("agent:next"), "{how}");
        granted(&world.begin(&one(next.caller(), "next")).await);
        // What the dead one still says changes nothing but the costs.
        assert!(!world.store.renew_call(&dead.caller(), &g, how, CALL_TTL_MS).await.unwrap());
        world.store.end_call(&end(&one(dead.caller(), how))).await.unwrap();
        assert_eq!(world.holders(), ["agent:next"], "{how}");
        world.store.end_call(&end(&one(next.caller(), how))).await.unwrap();
        world.store.deregister(&next.name, next.incarnation, "x").await.unwrap();
    }
}

#[tokio::test]
async fn slot_should_live_as_long_as_it_is_renewed() {
    let world = World::new().await;
    let g = goal("g");
    let one = world.join_model("w1", "g", "claude").await;
    let two = world.join_model("w2", "g", "claude").await;
    let first = Begin { slots: 1, ..begin(one.caller(), &g, "1") };
    let second = Begin { slots: 1, ..begin(two.caller(), &g, "2") };
    granted(&world.begin(&first).await);
    let renew = async |seconds: u64| {
        world.later(seconds).renew_call(&one.caller(), &g, "1", CALL_TTL_MS).await.unwrap()
    };
    for seconds in [20, 40, 60] {
        assert!(renew(seconds).await);
        waits(&world.later(seconds + 9).begin_call(&second).await.unwrap());
    }
    // Expired, and nobody waits any more: it is given again.
    assert!(renew(100).await);
    assert_eq!(world.holders(), ["agent:w1"]);
    // Expired, and somebody waits: it is lost.
    waits(&world.later(129).begin_call(&second).await.unwrap());
    assert!(!renew(131).await);
    granted(&world.later(131).begin_call(&second).await.unwrap());
    assert!(!renew(132).await, "there is no room");
    world.later(133).end_call(&end(&second)).await.unwrap();
    assert!(renew(133).await);
    world.later(134).end_call(&end(&first)).await.unwrap();
    assert!(!renew(135).await, "the call ended");
    assert!(world.holders().is_empty());
}

#[tokio::test]
async fn next_call_of_a_holder_should_replace_the_one_before() {
    let world = World::new().await;
    let g = goal("g");
    let worker = world.join_model("w", "g", "claude").await;
    granted(&world.begin(&begin(worker.caller(), &g, "1")).await);
    granted(&world.begin(&begin(worker.caller(), &g, "2")).await);
    assert_eq!(world.holders(), ["agent:w"]);
    assert!(!world.store.renew_call(&worker.caller(), &g, "1", 1).await.unwrap());
    assert!(world.store.renew_call(&worker.caller(), &g, "2", 1).await.unwrap());
    world.store.end_call(&end(&begin(worker.caller(), &g, "1"))).await.unwrap();
    assert_eq!(world.holders(), ["agent:w"], "only the present call frees the slot");
}

#[tokio::test]
async fn planner_should_have_a_slot_of_its_own_as_long_as_it_leads() {
    let world = World::new().await;
    let g = goal("g");
    let lead = world.lead();
    let call = Begin { slots: 1, ..begin(Caller::Planner { lead: &lead }, &g, "1") };
    granted(&world.begin(&call).await);
    assert_eq!(world.holders(), ["planner:g"]);
    assert!(world.store.renew_call(&call.caller, &g, "1", CALL_TTL_MS).await.unwrap());
    world.lose_lead().await;
    let before = world.dump();
    assert_eq!(world.begin(&call).await, Begun::Fenced);
    assert!(!world.store.renew_call(&call.caller, &g, "1", CALL_TTL_MS).await.unwrap());
    assert_eq!(world.dump(), before);
    // The money is spent all the same, and the slot is its own.
    world.store.end_call(&end(&call)).await.unwrap();
    assert_eq!(world.field("goal:g:cost", "calls").as_deref(), Some("1"));
    assert!(world.holders().is_empty());
    let epoch = crate::world::take_lead(&world.store, "them").await;
    let lead = Lead::new(store::lead::Controller::Dag, epoch);
    granted(&world.begin(&Begin { caller: Caller::Planner { lead: &lead }, ..call }).await);
}

#[tokio::test]
async fn fenced_caller_should_change_nothing() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &[])])).await;
    let g = goal("g");
    let old = world.join_model("w", "g", "claude").await;
    let first = world.start(&old, "a").await;
    let new = world.join_model("w", "g", "claude").await;
    let second = world.start(&new, "a").await;
    granted(&world.begin(&begin(new.caller_for(&second), &g, "new")).await);
    let before = world.dump();
    let other = task("b");
    let wrong_task = Caller::Agent {
        agent: &new.name,
        incarnation: new.incarnation,
        task: Some((&other, second.epoch)),
    };
    let nobody = agent("nobody");
    let unknown =
        Caller::Agent { agent: &nobody, incarnation: store::agent::Incarnation(0), task: None };
    for caller in
        [old.caller(), old.caller_for(&first), new.caller_for(&first), wrong_task, unknown]
    {
        let session = Some(Recorded { session: "s", provider: "p", host: "h", log: "l" });
        let call = Begin { session, ..begin(caller, &g, "late") };
        assert_eq!(world.begin(&call).await, Begun::Fenced, "{caller:?}");
        assert!(!world.store.renew_call(&caller, &g, "new", 1).await.unwrap(), "{caller:?}");
        world.store.give_up_call(&caller, &g, call.call).await.unwrap();
    }
    assert_eq!(world.dump(), before);
    // One whose task was settled is fenced too.
    assert_eq!(world.complete(&new, &second).await, Settled::Done);
    let call = begin(new.caller_for(&second), &g, "late");
    assert_eq!(world.begin(&call).await, Begun::Fenced);
}

#[tokio::test]
async fn waiter_should_be_woken_when_a_slot_is_free() {
    let world = World::new().await;
    let g = goal("g");
    let one = world.join_model("w1", "g", "claude").await;
    let two = world.join_model("w2", "g", "claude").await;
    let first = Begin { slots: 1, ..begin(one.caller(), &g, "1") };
    let second = Begin { slots: 1, ..begin(two.caller(), &g, "2") };
    granted(&world.begin(&first).await);
    waits(&world.begin(&second).await);
    let mut waiting = world.store.waiting().unwrap();
    let sleeper = {
        let (two, g) = (two.clone(), g.clone());
        tokio::spawn(async move { waiting.slot(&two.caller(), &g, DEADLINE).await })
    };
    wait_until("the waiter sleeps", DEADLINE, || async {
        let info: String = world.raw(&["INFO", "clients"]);
        if info.contains("blocked_clients:1") { Ok(()) } else { Err(info) }
    })
    .await;
    world.store.end_call(&end(&first)).await.unwrap();
    assert!(sleeper.await.unwrap().unwrap());
    granted(&world.begin(&second).await);
    let mut waiting = world.store.waiting().unwrap();
    let short = std::time::Duration::from_millis(20);
    assert!(!waiting.slot(&two.caller(), &g, short).await.unwrap());
}

#[tokio::test]
async fn calls_of_a_task_should_leave_its_rules_alone() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let g = goal("g");
    let worker = world.join_model("w", "g", "claude").await;
    let grant = world.start(&worker, "a").await;
    let session = Some(Recorded { session: "s-1", provider: "claude", host: "box", log: "/l" });
    let call = Begin { session, ..begin(worker.caller_for(&grant), &g, "1") };
    granted(&world.begin(&call).await);
    let a = world.task("a").await;
    let session = a.session.unwrap();
    assert_eq!((session.session.as_str(), session.log.as_str()), ("s-1", "/l"));
    let held = Some((&grant.task, grant.epoch));
    world.store.beat(&worker.name, worker.incarnation, TTL_MS, held, "").await.unwrap();
    world.store.at(T0 + SECOND).end_call(&end(&call)).await.unwrap();
    world.assert_sound(&["g"]);
    assert_eq!(world.complete(&worker, &grant).await, Settled::Done);
    assert_eq!(world.task("a").await.session, None);
}
