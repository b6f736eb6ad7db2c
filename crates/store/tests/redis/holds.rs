//! What holds model calls back, usage limits and budgets, and what the calls cost.

use std::collections::BTreeSet;

use store::llm::{Begin, Begun, CostOf, Costs, End, Spent};
use store::task::{Candidates, Claim};

use crate::llm::{begin, end, granted, limited};
use crate::world::{SECOND, T0, Worker, World, goal, plan, plan_with, task};

const HOUR: u64 = 3_600 * SECOND;

pub(crate) fn held(begun: &Begun) -> (&str, Option<u64>) {
    let Begun::Held { reason, until_us } = begun else { panic!("expected a hold, got {begun:?}") };
    (reason, *until_us)
}

fn over(begun: &Begun) -> (bool, &str) {
    let Begun::OverBudget { of_task, reason } = begun else {
        panic!("expected a spent budget, got {begun:?}")
    };
    (*of_task, reason)
}

fn claim_held(claim: Claim) -> (String, Option<u64>) {
    let shown = format!("{claim:?}");
    let Claim::Held { reason, until_us } = claim else { panic!("expected a hold, got {shown}") };
    (reason, until_us)
}

/// One of the tasks has a shell block.
fn with_shell(tasks: &[(&str, &[&str])], shell: &str) -> model::Dag {
    plan_with(tasks, |spec| {
        if spec.id.as_str() == shell {
            spec.run = Some("true".into());
        }
    })
}

impl World {
    /// A call that hit a limit at `at`.
    async fn hit(&self, worker: &Worker, call: &str, at: u64, until_us: Option<u64>) {
        let g = goal("g");
        let call = begin(worker.caller(), &g, call);
        self.store.at(at).end_call(&limited(&call, until_us)).await.unwrap();
    }

    async fn set_budget(&self, micros: u64) {
        let fields = [("budget", micros.to_string())];
        self.store.note_goal(&self.lead(), &goal("g"), "", &fields).await.unwrap();
    }
}

#[tokio::test]
async fn end_of_a_call_should_be_counted_once_and_everywhere() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let g = goal("g");
    let worker = world.join_model("w", "g", "claude").await;
    let grant = world.start(&worker, "a").await;
    let first = begin(worker.caller_for(&grant), &g, "1");
    granted(&world.begin(&first).await);
    world.store.end_call(&end(&first)).await.unwrap();
    let before = world.dump();
    world.store.end_call(&end(&first)).await.unwrap();
    assert_eq!(world.dump(), before);
    let spent = Spent { cost_micros: None, ..end(&first).spent };
    let second = End { call: "2", spent, outcome: "malformed", ..end(&first) };
    world.store.end_call(&second).await.unwrap();

    let both = Costs {
        calls: 2,
        usd_micros: 120_000,
        unpriced_calls: 1,
        input_tokens: 20,
        output_tokens: 40,
        cache_read_tokens: 60,
        cache_write_tokens: 80,
        ms: 3_000,
    };
    for of in [CostOf::Goal(&g), CostOf::Agent(&worker.name), CostOf::Model("sonnet[1m]")] {
        assert_eq!(world.store.costs(of).await.unwrap(), both, "{of:?}");
    }
    assert_eq!(world.store.models().await.unwrap(), ["sonnet_1m_"]);
    let a = world.task("a").await;
    assert_eq!((a.cost_micros, a.llm_calls), (120_000, 2));
    assert_eq!(world.field("task:a", "llm_tokens_out").as_deref(), Some("40"));
    let goal = world.store.goal(&g).await.unwrap().unwrap();
    assert_eq!((goal.cost_micros, goal.budget_micros), (120_000, None));
    let events = world.events("llm-call").await;
    let shown = ["task", "agent", "step", "provider", "model", "outcome", "ms", "usd_micros"];
    let shown: Vec<&str> = shown.into_iter().map(|name| events[0].field(name)).collect();
    assert_eq!(shown, ["a", "w", "execute", "claude", "sonnet_1m_", "ok", "1500", "120000"]);
    assert_eq!((events.len(), events[0].field("prompt")), (2, "execute/1 3f2a9c"));
    world.assert_sound(&["g"]);
}

#[tokio::test]
async fn cost_of_a_removed_task_should_stay_with_its_goal() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &[])])).await;
    let g = goal("g");
    let worker = world.join_model("w", "g", "claude").await;
    let grant = world.start(&worker, "a").await;
    let call = begin(worker.caller_for(&grant), &g, "1");
    granted(&world.begin(&call).await);
    world.accept("g", plan(&[("b", &[])])).await;
    let spent = Spent { cost_micros: Some(u64::MAX), input_tokens: u64::MAX, ..Spent::default() };
    world.store.end_call(&End { spent, ..end(&call) }).await.unwrap();
    assert_eq!(world.store.costs(CostOf::Goal(&g)).await.unwrap().usd_micros, 1_000_000_000_000);
    assert_eq!(world.raw::<u8>(&["EXISTS", "task:a"]), 0);
    assert!(world.hash("llm:slots").is_empty());
}

#[tokio::test]
async fn usage_limit_should_hold_its_provider_until_its_time() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let g = goal("g");
    let mut alerts = world.server.connection();
    let mut alerts = alerts.as_pubsub();
    alerts.subscribe("alerts").unwrap();
    alerts.set_read_timeout(Some(testkit::DEADLINE)).unwrap();
    let worker = world.join_model("w", "g", "claude").await;
    world.hit(&worker, "1", T0, Some(T0 + HOUR)).await;
    let alert: String = alerts.get_message().unwrap().get_payload().unwrap();
    assert!(alert.contains("llm-hold") && alert.contains("2027-01-15T09:00:00"), "{alert}");

    let holds = world.store.holds().await.unwrap();
    assert_eq!((holds.len(), holds[0].provider.as_str()), (1, "claude"));
    assert_eq!((holds[0].until_us, holds[0].since_us), (T0 + HOUR, T0));
    assert_eq!((holds[0].strikes, holds[0].message.as_str()), (0, "You've hit your | limit"));
    let call = begin(worker.caller(), &g, "2");
    let begun = world.begin(&call).await;
    let (reason, until) = held(&begun);
    assert_eq!(
        reason,
        "claude is at its usage limit until 2027-01-15T09:00:00.000000Z: You've hit your | limit"
    );
    let until = until.unwrap();
    let window = T0 + HOUR..T0 + HOUR + 2 * SECOND;
    assert!(window.contains(&until), "one agent: {until}");
    granted(&world.begin(&Begin { provider: "codex", call: "other", ..call }).await);

    // What others say meanwhile never makes it shorter, and says nothing new.
    let before = world.hash("llm:holds");
    world.hit(&worker, "3", T0 + SECOND, Some(T0 + HOUR / 2)).await;
    world.hit(&worker, "4", T0 + SECOND, None).await;
    assert_eq!(world.hash("llm:holds"), before);
    world.hit(&worker, "5", T0 + SECOND, Some(T0 + 2 * HOUR)).await;
    let holds = world.store.holds().await.unwrap();
    assert_eq!((holds[0].until_us, holds[0].since_us), (T0 + 2 * HOUR, T0));
    assert_eq!(world.events("llm-hold").await.len(), 2);

    let end_of_hold = T0 + 2 * HOUR;
    assert!(world.store.at(end_of_hold).holds().await.unwrap().is_empty());
    held(&world.store.at(end_of_hold - 1).begin_call(&call).await.unwrap());
    granted(&world.store.at(end_of_hold + 2 * SECOND).begin_call(&call).await.unwrap());
    let ok = End { call: "6", ..end(&call) };
    world.store.at(end_of_hold + 2 * SECOND).end_call(&ok).await.unwrap();
    assert!(world.hash("llm:holds").is_empty());
}

#[tokio::test]
async fn limits_without_a_time_should_hold_longer_and_longer_until_a_call_is_fine() {
    let world = World::new().await;
    let worker = world.join_model("w", "g", "claude").await;
    let mut clock = T0;
    for (n, seconds) in [15, 30, 60, 120, 240, 480, 900, 900].into_iter().enumerate() {
        // Also a time that is over is none.
        let said = (n % 2 == 1).then_some(clock - 1);
        world.hit(&worker, &format!("{n}"), clock, said).await;
        let until = world.store.at(clock).holds().await.unwrap()[0].until_us;
        assert_eq!(until, clock + seconds * SECOND, "strike {n}");
        // Of those that were under way at the same time only the first counts.
        world.hit(&worker, &format!("{n} too"), clock + 1, None).await;
        assert_eq!(world.store.at(clock + 1).holds().await.unwrap()[0].until_us, until);
        clock = until + 1;
    }
    let g = goal("g");
    let fine = end(&begin(worker.caller(), &g, "fine"));
    world.store.at(clock).end_call(&fine).await.unwrap();
    world.hit(&worker, "again", clock + 1, None).await;
    let until = world.store.at(clock + 1).holds().await.unwrap()[0].until_us;
    assert_eq!(until, clock + 1 + 15 * SECOND);
    world.hit(&worker, "far", clock + 2, Some(u64::MAX)).await;
    let until = world.store.at(clock + 2).holds().await.unwrap()[0].until_us;
    assert_eq!(until, clock + 2 + 35 * 24 * HOUR);
}

#[tokio::test]
async fn agents_should_begin_again_one_after_the_other() {
    let world = World::new().await;
    let g = goal("g");
    let mut workers = Vec::new();
    for n in 0..40 {
        workers.push(world.join_model(&format!("w{n}"), "g", "claude").await);
    }
    world.hit(&workers[0], "1", T0, Some(T0 + HOUR)).await;
    let mut starts = BTreeSet::new();
    for worker in &workers {
        let call = begin(worker.caller(), &g, "x");
        let (_, until) = held_owned(&world.begin(&call).await);
        let wait = until.unwrap() - (T0 + HOUR);
        assert!(wait < 60 * SECOND, "{wait}");
        starts.insert(wait / SECOND);
        let again = held_owned(&world.later(5).begin_call(&call).await.unwrap());
        assert_eq!(again.1, until, "it does not move");
        let store = world.store.at(until.unwrap() - 1);
        held(&store.begin_call(&call).await.unwrap());
    }
    assert!(starts.len() > 15, "spread over the minute: {starts:?}");
}

fn held_owned(begun: &Begun) -> (String, Option<u64>) {
    let (reason, until) = held(begun);
    (reason.to_owned(), until)
}

#[tokio::test]
async fn limit_should_show_in_the_goals_spending_cap_and_spare_what_a_person_wrote() {
    let world = World::new().await;
    let cap = "goal:g:spending_cap_until";
    let worker = world.join_model("w", "g", "claude").await;
    // No half record of a goal that is unknown.
    world.hit(&worker, "0", T0, Some(T0 + 1)).await;
    assert_eq!(world.raw::<u8>(&["EXISTS", cap]), 0);
    assert_eq!(world.raw::<u8>(&["EXISTS", "goal:g"]), 0);

    world.accept("g", plan(&[("a", &[])])).await;
    world.hit(&worker, "1", T0 + 2, Some(T0 + HOUR)).await;
    assert_eq!(world.raw::<String>(&["GET", cap]), "2027-01-15T09:00:00.000000Z");
    let ttl: i64 = world.raw(&["PTTL", cap]);
    assert!(ttl > 3_590_000 && ttl <= 3_600_000, "{ttl}");
    // It holds only whom the provider holds.
    let g = goal("g");
    let codex = Begin { provider: "codex", ..begin(worker.caller(), &g, "2") };
    granted(&world.begin(&codex).await);
    let goal = world.store.goal(&g).await.unwrap().unwrap();
    assert_eq!(goal.spending_cap_until.as_deref(), Some("2027-01-15T09:00:00.000000Z"));

    world.raw::<()>(&["SET", cap, "2027-01-15T08:30:00+00:00"]);
    world.hit(&worker, "3", T0 + 3, Some(T0 + 2 * HOUR)).await;
    assert_eq!(world.raw::<String>(&["GET", cap]), "2027-01-15T08:30:00+00:00");
}

#[tokio::test]
async fn spending_cap_of_a_person_should_hold_the_goal_while_it_is_in_force() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let g = goal("g");
    let cap = "goal:g:spending_cap_until";
    let worker = world.join_model("w", "g", "claude").await;
    let call = begin(worker.caller(), &g, "1");
    // T0 is 2027-01-15T08:00:00Z.
    let minute = 60 * SECOND;
    for (text, until) in [
        ("2027-01-15T08:01:00Z", Some(T0 + minute)),
        ("2027-01-15T08:01:00.5", Some(T0 + minute + SECOND / 2)),
        ("2027-01-15 10:01:00+02:00", Some(T0 + minute)),
        ("2027-01-15T00:01:00-0800", Some(T0 + minute)),
        ("2028-02-29T08:00:00Z", Some(T0 + 410 * 24 * HOUR)),
        ("until I am back", None),
        ("", None),
    ] {
        world.raw::<()>(&["SET", cap, text]);
        let begun = world.begin(&call).await;
        assert_eq!(held(&begun).1, until, "{text}");
        let (reason, until_us) = claim_held(world.claim(&worker).await);
        assert_eq!(until_us, until, "{text}");
        assert!(reason.starts_with(&format!("g may ask no model until {text}")), "{reason}");
    }
    for text in ["2027-01-15T08:00:00Z", "2027-01-15T09:59:00+02:00", "2026-12-31T23:59:59.9Z"] {
        world.raw::<()>(&["SET", cap, text]);
        granted(&world.begin(&call).await);
        world.store.end_call(&End { call: text, ..end(&call) }).await.unwrap();
        world.raw::<()>(&["HDEL", "llm:slots", "agent:w"]);
    }
    world.raw::<()>(&["SET", cap, "forever"]);
    assert_eq!(world.begin(&Begin { call: "2", ..call }).await, {
        let reason = "g may ask no model until forever (goal:g:spending_cap_until)".into();
        Begun::Held { reason, until_us: None }
    });
    world.raw::<()>(&["DEL", cap]);
    world.start(&worker, "a").await;
}

#[tokio::test]
async fn budget_of_a_goal_should_stop_calls_and_claims_when_it_is_spent() {
    let world = World::new().await;
    world.accept("g", with_shell(&[("a", &[]), ("b", &[]), ("s", &[])], "s")).await;
    world.set_budget(240_000).await;
    let g = goal("g");
    let worker = world.join_model("w", "g", "claude").await;
    let call = |id| begin(worker.caller(), &g, id);
    assert_eq!(granted(&world.begin(&call("1")).await), Some(240_000));
    world.store.end_call(&end(&call("1"))).await.unwrap();
    assert_eq!(granted(&world.begin(&call("2")).await), Some(120_000));
    world.store.end_call(&end(&call("2"))).await.unwrap();
    let spent = "g has spent $0.24 of its budget of $0.24";
    assert_eq!(over(&world.begin(&call("3")).await), (false, spent));
    assert_eq!(world.start(&worker, "s").await.task, task("s"), "it needs no model");
    let other = world.join_model("w2", "g", "codex").await;
    assert_eq!(claim_held(world.claim(&other).await), (spent.to_owned(), None));
    // A person raises it.
    world.set_budget(240_001).await;
    assert_eq!(granted(&world.begin(&call("3")).await), Some(1));
    world.start(&other, "a").await;
    world.set_budget(0).await;
    assert!(!over(&world.begin(&call("4")).await).0);
    assert!(world.hash("llm:slots").is_empty(), "the slot of 3 is given up");
    world.assert_sound(&["g"]);
}

#[tokio::test]
async fn budget_of_a_task_should_stop_its_calls_and_no_others() {
    let world = World::new().await;
    let dag = plan_with(&[("a", &[]), ("b", &[])], |spec| {
        if spec.id.as_str() == "a" {
            spec.budget_micros = Some(120_000);
        }
    });
    world.accept("g", dag).await;
    world.set_budget(1_000_000).await;
    let g = goal("g");
    let worker = world.join_model("w", "g", "claude").await;
    let grant = world.start(&worker, "a").await;
    let call = |id| begin(worker.caller_for(&grant), &g, id);
    assert_eq!(granted(&world.begin(&call("1")).await), Some(120_000));
    world.store.end_call(&end(&call("1"))).await.unwrap();
    let begun = world.begin(&call("2")).await;
    assert_eq!(over(&begun), (true, "a has spent $0.12 of its budget of $0.12"));
    assert_eq!(granted(&world.begin(&begin(worker.caller(), &g, "3")).await), Some(880_000));
}

#[tokio::test]
async fn held_agent_should_still_take_tasks_that_need_no_model() {
    let world = World::new().await;
    let tasks: &[(&str, &[&str])] = &[("a", &[]), ("b", &["s"]), ("s", &[]), ("t", &["s"])];
    let dag = plan_with(tasks, |spec| {
        if ["s", "t"].contains(&spec.id.as_str()) {
            spec.run = Some("true".into());
        }
    });
    world.accept("g", dag).await;
    let worker = world.join_model("w", "g", "claude").await;
    world.hit(&worker, "1", T0, Some(T0 + HOUR)).await;
    let offline = world.join_model("off", "g", "offline").await;
    assert_eq!(world.want(&offline, "a").await, {
        let grant = crate::world::granted(world.want(&offline, "a").await);
        Claim::Granted(Box::new(grant))
    });
    world.store.deregister(&offline.name, offline.incarnation, "x").await.unwrap();

    // `a` comes first, but needs a model.
    let (reason, _) = claim_held(world.want(&worker, "a").await);
    assert!(reason.starts_with("claude is at its usage limit"), "{reason}");
    let s = world.start(&worker, "s").await;
    let held = world.join_model("held", "g", "claude").await;
    let (_, until) = claim_held(world.claim(&held).await);
    assert!(until.unwrap() >= T0 + HOUR);
    let candidates = world.store.candidates(&held.name, held.incarnation, 9).await.unwrap();
    assert!(matches!(candidates, Candidates::Held { .. }), "{candidates:?}");
    assert_eq!(world.members("dag:g:idle-shell"), ["held|any"]);
    world.raw::<()>(&["DEL", "agent:held:inbox"]);
    // `b` and `t` become ready: it is woken for the one that it may take.
    world.complete(&worker, &s).await;
    assert_eq!(world.inbox("held"), ["work"]);
    world.start(&held, "t").await;
    claim_held(world.claim(&worker).await);
    // The hold ends.
    let later = world.store.at(T0 + HOUR + 60 * SECOND);
    assert_eq!(crate::world::granted(world.claim_at(&later, &worker).await).task, task("a"));
    assert!(world.members("dag:g:idle-shell").is_empty());
    world.assert_sound(&["g"]);
}

#[tokio::test]
async fn wake_for_a_model_should_pass_by_agents_that_are_held() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &["a"])])).await;
    let codex = world.join_model("codex", "g", "codex").await;
    let grant = world.start(&codex, "a").await;
    let mut claudes = Vec::new();
    for name in ["c1", "c2"] {
        let worker = world.join_model(name, "g", "claude").await;
        assert_eq!(world.claim(&worker).await, Claim::Empty);
        world.raw::<()>(&["DEL", &format!("agent:{name}:inbox")]);
        claudes.push(worker);
    }
    world.hit(&claudes[0], "1", T0, Some(T0 + HOUR)).await;
    let other = world.join_model("other", "g", "codex").await;
    assert_eq!(world.claim(&other).await, Claim::Empty);
    world.raw::<()>(&["DEL", "agent:other:inbox"]);
    world.complete(&codex, &grant).await;
    // Whoever was woken first, the wake ends at one that may take it.
    for _ in 0..3 {
        for worker in &claudes {
            if !world.inbox(worker.name.as_str()).is_empty() {
                world.raw::<()>(&["DEL", &format!("agent:{}:inbox", worker.name)]);
                claim_held(world.claim(worker).await);
            }
        }
    }
    assert_eq!(world.inbox("other"), ["work"]);
    assert!(world.inbox("c1").is_empty() && world.inbox("c2").is_empty(), "it goes in no circle");
    world.start(&other, "b").await;
}

#[tokio::test]
async fn revised_task_that_needs_no_model_any_more_should_be_claimable_while_held() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let worker = world.join_model("w", "g", "claude").await;
    world.hit(&worker, "1", T0, Some(T0 + HOUR)).await;
    claim_held(world.claim(&worker).await);
    world.raw::<()>(&["DEL", "agent:w:inbox"]);
    world.accept("g", with_shell(&[("a", &[])], "a")).await;
    assert_eq!(world.inbox("w"), ["work"]);
    let grant = world.start(&worker, "a").await;
    world.store.release(worker.holding(&grant), "x").await.unwrap();
    world.accept("g", plan(&[("a", &[])])).await;
    claim_held(world.claim(&worker).await);
}
