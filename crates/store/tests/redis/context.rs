//! What an agent is given besides the task: candidates, sessions, errors, inputs, and the
//! versions of its instructions.

use model::{Role, TaskSpec};
use store::llm::{Begin, Recorded};
use store::task::{Candidates, Claim, SessionRecord, Settled};

use crate::llm::{begin, end, granted as slot};
use crate::world::{TTL_MS, Worker, World, goal, granted, plan, plan_with, task};

impl World {
    async fn candidates(&self, worker: &Worker, most: usize) -> Candidates {
        self.store.candidates(&worker.name, worker.incarnation, most).await.unwrap()
    }

    async fn candidate_ids(&self, worker: &Worker, most: usize) -> Vec<String> {
        let found = self.candidates(worker, most).await;
        let Candidates::Tasks(tasks) = found else { panic!("expected tasks, got {found:?}") };
        assert!(tasks.iter().all(|(id, spec)| spec.id == *id), "{tasks:?}");
        tasks.into_iter().map(|(id, _)| id.to_string()).collect()
    }
}

#[tokio::test]
async fn candidates_should_be_the_best_that_this_agent_may_take() {
    let world = World::new().await;
    let tasks: &[(&str, &[&str])] =
        &[("low", &[]), ("a", &[]), ("red", &[]), ("blue", &[]), ("b", &[]), ("later", &["a"])];
    let dag = plan_with(tasks, |spec: &mut TaskSpec| {
        spec.priority = if spec.id.as_str() == "low" { 0 } else { 7 };
        if let "red" | "blue" = spec.id.as_str() {
            spec.role = Some(Role::new(spec.id.as_str()).unwrap());
        }
    });
    world.accept("g", dag).await;
    let red = world.asleep("r", "red", "g").await;
    let before = world.hash("task:a");
    assert_eq!(world.candidate_ids(&red, 9).await, ["a", "red", "b"]);
    assert_eq!(world.candidate_ids(&red, 2).await, ["a", "red"]);
    assert_eq!((world.hash("task:a"), world.leases().len()), (before, 0), "nothing is granted");
    assert!(world.members("dag:g:idle").is_empty(), "it is busy choosing");

    let grant = granted(world.want(&red, "red").await);
    assert_eq!(world.candidates(&red, 9).await, Candidates::Holding);
    let before = world.dump();
    let old = Worker { incarnation: store::agent::Incarnation(1), ..red.clone() };
    assert_eq!(world.candidates(&old, 9).await, Candidates::Fenced);
    assert_eq!(world.dump(), before);
    world.complete(&red, &grant).await;
    for id in ["a", "b", "later"] {
        world.run(&red, id).await;
    }
    assert_eq!(world.candidate_ids(&red, 9).await, ["low"]);
    world.run(&red, "low").await;
    assert_eq!(world.candidates(&red, 9).await, Candidates::Empty);
    assert_eq!(world.members("dag:g:idle"), ["r|red"]);
    world.raw::<()>(&["HSET", "agent:r:control", "paused", "1"]);
    let paused = Candidates::Held { reason: "paused".into(), until_us: None };
    assert_eq!(world.candidates(&red, 9).await, paused);
}

#[tokio::test]
async fn session_should_outlive_its_agent_and_end_with_its_attempt() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let g = goal("g");
    let record = Recorded { session: "s-1", provider: "claude", host: "box", log: "/tmp/a.log" };
    let kept = Some(SessionRecord {
        session: "s-1".into(),
        provider: "claude".into(),
        host: "box".into(),
        log: "/tmp/a.log".into(),
    });
    let call = async |worker: &Worker, grant| {
        let call = Begin { session: Some(record), ..begin(worker.caller_for(grant), &g, "1") };
        slot(&world.begin(&call).await);
    };
    let first = world.join_model("w", "g", "claude").await;
    let grant = world.start(&first, "a").await;
    assert_eq!(grant.session, None);
    call(&first, &grant).await;
    // The same grant again, and another after the agent was lost, released, dropped.
    assert_eq!(granted(world.claim(&first).await).session, kept);
    let second = world.join_model("w", "g", "claude").await;
    let grant = world.start(&second, "a").await;
    assert_eq!((grant.session.as_ref(), grant.attempt), (kept.as_ref(), 2));
    world.store.release(second.holding(&grant), "stop").await.unwrap();
    let grant = world.start(&second, "a").await;
    assert_eq!(grant.session, kept);
    // An attempt that failed is over: the next one begins anew, and knows why.
    assert_eq!(world.fail(&second, &grant, false).await, Settled::Retry);
    let grant = granted(world.claim_at(&world.later(10), &second).await);
    assert_eq!((grant.session.as_ref(), &grant.errors[..]), (None, &["it broke".to_owned()][..]));
    call(&second, &grant).await;
    // Another task under the same id has nothing to do with it.
    world.accept("g", plan_with(&[("a", &[])], |spec| spec.title.push('!'))).await;
    assert_eq!(world.task("a").await.session, None);
    call(&second, &grant).await;
    assert_eq!(world.complete(&second, &grant).await, Settled::Superseded);
    assert_eq!(world.start(&second, "a").await.session, None);
}

#[tokio::test]
async fn grant_should_tell_the_last_errors_newest_first() {
    let world = World::new().await;
    world.accept("g", plan_with(&[("a", &[])], |spec| spec.max_attempts = Some(99))).await;
    let worker = world.join("w", "any", "g").await;
    for n in 0..8 {
        let store = world.later(n * 100);
        let grant = granted(world.claim_at(&store, &worker).await);
        assert_eq!(grant.errors.len() as u64, n.min(5));
        let error = format!("error {n}: \"é\"");
        store.fail(worker.holding(&grant), &error, false, None).await.unwrap();
    }
    let grant = granted(world.claim_at(&world.later(800), &worker).await);
    assert_eq!((grant.errors[0].as_str(), grant.errors[4].as_str()), {
        ("error 7: \"é\"", "error 3: \"é\"")
    });
}

#[tokio::test]
async fn inputs_should_be_what_the_dependencies_left() {
    let world = World::new().await;
    world.accept("g", plan(&[("b", &[]), ("a", &[]), ("c", &["a", "b"]), ("d", &["c"])])).await;
    let worker = world.join("w", "any", "g").await;
    let grant = world.start(&worker, "b").await;
    let made = r#"[{"path":"out.json","bytes":3}]"#;
    world.store.complete(worker.holding(&grant), made, "made it", None).await.unwrap();
    let inputs = world.store.inputs(&goal("g"), &task("c")).await.unwrap();
    assert_eq!(inputs.len(), 2);
    assert_eq!((inputs[0].id.as_str(), inputs[0].title.as_str()), ("a", "do a"));
    assert_eq!((&inputs[0].progress, &inputs[0].artifacts), (&None, &None));
    assert_eq!(inputs[1].progress.as_deref(), Some("made it"));
    assert_eq!(inputs[1].artifacts.as_ref().unwrap()[0]["path"], "out.json");
    assert!(world.store.inputs(&goal("g"), &task("a")).await.unwrap().is_empty());
    assert!(world.store.inputs(&goal("none"), &task("c")).await.unwrap().is_empty());

    let many: Vec<String> = (0..60).map(|n| format!("t{n:02}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut tasks: Vec<(&str, &[&str])> = many.iter().map(|id| (*id, &[][..])).collect();
    tasks.push(("last", &many));
    world.accept("many", plan(&tasks)).await;
    let inputs = world.store.inputs(&goal("many"), &task("last")).await.unwrap();
    assert_eq!((inputs.len(), inputs[49].id.as_str()), (50, "t49"));
}

#[tokio::test]
async fn instructions_should_be_kept_in_versions() {
    let world = World::new().await;
    let g = goal("g");
    let worker = world.join("w", "any", "g").await;
    let note = async |worker: &Worker, hash: &str, text: &str| {
        let (name, incarnation) = (&worker.name, worker.incarnation);
        world.store.note_instructions(name, incarnation, &g, hash, text).await.unwrap()
    };
    assert!(world.store.instructions(&worker.name, &g).await.unwrap().is_empty());
    assert_eq!(note(&worker, "h1", "be kind\n\"é\"").await, Some(1));
    let before = world.dump();
    assert_eq!(note(&worker, "h1", "be kind\n\"é\"").await, Some(1));
    assert_eq!(world.dump(), before);
    // Back to an older text is a version of its own.
    assert_eq!(note(&worker, "h2", "be quick").await, Some(2));
    assert_eq!(note(&worker, "h1", "be kind\n\"é\"").await, Some(3));
    let long = "é".repeat(40_000);
    assert_eq!(note(&worker, "h3", &long).await, Some(4));
    let versions = world.store.instructions(&worker.name, &g).await.unwrap();
    assert_eq!(versions.iter().map(|v| v.version).collect::<Vec<_>>(), [4, 3, 2, 1]);
    assert_eq!((versions[0].bytes, versions[0].text.len()), (80_000, 65_536));
    assert_eq!((versions[3].text.as_str(), versions[3].hash.as_str()), ("be kind\n\"é\"", "h1"));
    assert_eq!(versions[3].time, "2027-01-15T08:00:00.000000Z");
    for n in 5..=30 {
        assert_eq!(note(&worker, &format!("h{n}"), "x").await, Some(n));
    }
    let versions = world.store.instructions(&worker.name, &g).await.unwrap();
    assert_eq!((versions.len(), versions[0].version, versions[19].version), (20, 30, 11));

    let newer = world.join("w", "any", "g").await;
    let before = world.dump();
    assert_eq!(note(&worker, "late", "x").await, None);
    assert_eq!(world.dump(), before);
    assert_eq!(note(&newer, "h30", "x").await, Some(30));
}

#[tokio::test]
async fn completion_should_be_told_what_is_held_next() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &[])])).await;
    let g = goal("g");
    let worker = world.join_model("w", "g", "claude").await;
    let grant = world.start(&worker, "a").await;
    let call = begin(worker.caller_for(&grant), &g, "1");
    world.store.note_goal(&world.lead(), &g, "", &[("budget", "1".into())]).await.unwrap();
    world.store.end_call(&end(&call)).await.unwrap();
    let holder = worker.holding(&grant);
    let (settled, next) = world.store.complete(holder, "[]", "", Some(TTL_MS)).await.unwrap();
    assert_eq!(settled, Settled::Done);
    let reason = "g has spent $0.12 of its budget of $0.000001".to_owned();
    assert_eq!(next, Some(Claim::Held { reason, until_us: None }));
}
