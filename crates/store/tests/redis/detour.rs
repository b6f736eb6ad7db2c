//! Putting a task in front of the one that is held, and parking one.

use model::TaskSpec;
use model::goal::Status;
use model::task::State;
use store::Error;
use store::task::{Claim, Detour, DetourKind, Detoured, Grant, Settled};

use crate::llm::{begin, end};
use crate::world::{SECOND, T0, Worker, World, goal, granted, plan, plan_with, spec, task};

pub(crate) fn review<'a>(spec: &'a TaskSpec, error: &'a str) -> Detour<'a> {
    Detour { spec, error, limit: 3, kind: DetourKind::Review }
}

fn inserted(round: u32, id: &str) -> Detoured {
    Detoured::Inserted { round, task: task(id) }
}

impl World {
    async fn detour(&self, worker: &Worker, grant: &Grant, detour: &Detour<'_>) -> Detoured {
        self.store.detour(worker.holding(grant), detour).await.unwrap()
    }

    /// The goal's figures show nothing to mend, and there is nothing.
    async fn assert_nothing_to_repair(&self) {
        self.assert_sound(&["g"]);
        let figures = self.store.figures(&goal("g")).await.unwrap();
        assert_eq!(figures.contradiction(), None, "{figures:?}");
        assert_eq!(self.store.repair(&self.lead(), &goal("g")).await.unwrap(), 0);
        let tasks = self.store.goal(&goal("g")).await.unwrap().unwrap().tasks;
        assert_eq!(tasks, figures.nodes);
    }
}

/// `a` is built, `qa` looks at it, `end` waits for that.
const REVIEWED: &[(&str, &[&str])] = &[("a", &[]), ("qa", &["a"]), ("z", &[]), ("end", &["qa"])];

#[tokio::test]
async fn review_should_send_its_findings_back_until_it_is_content() {
    let world = World::new().await;
    let dag = plan_with(REVIEWED, |spec| {
        let reviewer = spec.id.as_str() == "qa";
        spec.role = reviewer.then(|| "reviewer".parse().unwrap());
        spec.priority = if reviewer { 5 } else { 0 };
    });
    world.accept("g", dag).await;
    let builder = world.join("b", "builder", "g").await;
    let reviewer = world.join("r", "reviewer", "g").await;
    world.run(&builder, "a").await;
    for round in 1..=2 {
        let qa = world.start(&reviewer, "qa").await;
        assert_eq!((qa.detours.review, qa.detours.recovery), (round - 1, 0));
        let id = format!("qa__fix{round}");
        let mut fix = spec(&id);
        fix.role = Some("builder".parse().unwrap());
        let idle = world.asleep("idle", "builder", "g").await;
        let detoured = world.detour(&reviewer, &qa, &review(&fix, "the sum is wrong")).await;
        assert_eq!(detoured, inserted(round, &id));
        world.assert_nothing_to_repair().await;
        assert_eq!(world.inbox("idle"), ["work"]);
        world.store.deregister(&idle.name, idle.incarnation, "x").await.unwrap();

        let held = world.task("qa").await;
        assert_eq!((held.status, held.waiting, held.owner), (State::Blocked, 1, None));
        assert_eq!(held.reason, Some(format!("waits for {id} (review {round} of 3)")));
        assert_eq!((held.failures, held.last_error.as_deref()), (0, Some("the sum is wrong")));
        let fix = world.task(&id).await;
        assert_eq!((fix.status, fix.priority, fix.attempt), (State::Ready, 5, 0));
        let deps = world.store.dependencies(&goal("g"), &task("qa")).await.unwrap();
        assert_eq!(deps.len() as u32, 1 + round);

        // It comes before `z`, which was declared before it.
        let grant = world.start(&builder, &id).await;
        assert_eq!(world.complete(&builder, &grant).await, Settled::Done);
        assert_eq!(world.task("qa").await.reason, None);
    }
    let qa = world.start(&reviewer, "qa").await;
    assert_eq!(qa.errors, ["the sum is wrong"; 2]);
    assert_eq!(world.complete(&reviewer, &qa).await, Settled::Done);
    world.run(&builder, "z").await;
    world.run(&builder, "end").await;
    world.assert_nothing_to_repair().await;
    let counts = world.store.goal(&goal("g")).await.unwrap().unwrap().counts;
    assert_eq!((counts.done, counts.status()), (6, Status::Complete));
    assert_eq!(world.events("task-insert").await.len(), 2);
    assert_eq!(world.events("task-detour").await.len(), 2);
}

#[tokio::test]
async fn detour_should_be_made_once_and_refused_to_who_is_fenced() {
    let world = World::new().await;
    world.accept("g", plan(REVIEWED)).await;
    let worker = world.join("w", "any", "g").await;
    let a = world.start(&worker, "a").await;
    let (fix, second) = (spec("a__fix1"), spec("a__fix2"));
    let fenced = store::task::Holder { epoch: model::lease::Epoch(1), ..worker.holding(&a) };
    let before = world.dump();
    let late = world.store.detour(fenced, &review(&fix, "x")).await.unwrap();
    assert_eq!((late, world.dump()), (Detoured::Fenced, before));

    assert_eq!(world.detour(&worker, &a, &review(&fix, "x")).await, inserted(1, "a__fix1"));
    let before = world.dump();
    assert_eq!(world.detour(&worker, &a, &review(&fix, "x")).await, Detoured::Already);
    assert_eq!(world.detour(&worker, &a, &review(&second, "x")).await, Detoured::Already);
    assert_eq!(world.complete(&worker, &a).await, Settled::Already);
    assert_eq!(world.dump(), before);
    let newer = world.join("w", "any", "g").await;
    let before = world.dump();
    assert_eq!(world.detour(&worker, &a, &review(&second, "x")).await, Detoured::Fenced);
    assert_eq!(world.dump(), before);
    world.run(&newer, "a__fix1").await;
    world.run(&newer, "a").await;
}

#[tokio::test]
async fn detours_should_end_at_their_limit_and_be_counted_by_kind() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let mut alerts = world.server.connection();
    let mut alerts = alerts.as_pubsub();
    alerts.subscribe("alerts").unwrap();
    alerts.set_read_timeout(Some(testkit::DEADLINE)).unwrap();
    let worker = world.join("w", "any", "g").await;
    let ids: Vec<TaskSpec> = (0..6).map(|n| spec(&format!("fix{n}"))).collect();
    let detour = |n: usize, limit, kind| Detour { spec: &ids[n], error: "no", limit, kind };
    for n in 0..2 {
        let a = world.start(&worker, "a").await;
        let asked = detour(n, 2, DetourKind::Recovery);
        assert_eq!(
            world.detour(&worker, &a, &asked).await,
            inserted(n as u32 + 1, &format!("fix{n}"))
        );
        world.run(&worker, &format!("fix{n}")).await;
    }
    let a = world.start(&worker, "a").await;
    let before = world.dump();
    let asked = detour(2, 2, DetourKind::Recovery);
    assert_eq!(world.detour(&worker, &a, &asked).await, Detoured::Exhausted);
    assert_eq!(world.dump(), before);
    let alert: String = alerts.get_message().unwrap().get_payload().unwrap();
    assert!(alert.contains("task-exhausted"), "{alert}");
    // The other kind has its own count.
    let asked = detour(2, 2, DetourKind::Review);
    assert_eq!(world.detour(&worker, &a, &asked).await, inserted(1, "fix2"));
    world.run(&worker, "fix2").await;
    let a = world.start(&worker, "a").await;
    assert_eq!((a.detours.review, a.detours.recovery), (1, 2));
    assert_eq!(world.fail(&worker, &a, true).await, Settled::Failed);
    assert_eq!(world.task("a").await.detours, a.detours, "they are kept");
    // A person's retry lets it try again.
    world.store.retry(&task("a")).await.unwrap();
    assert_eq!(world.start(&worker, "a").await.detours, store::task::Detours::default());
    world.assert_nothing_to_repair().await;
}

#[tokio::test]
async fn detour_to_an_id_that_is_taken_should_change_nothing() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &[])])).await;
    world.accept("other", plan(&[("o", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    let a = world.start(&worker, "a").await;
    let before = world.dump();
    for id in ["a", "b", "o"] {
        let error = world.store.detour(worker.holding(&a), &review(&spec(id), "x")).await;
        assert!(matches!(error, Err(Error::IdTaken { .. })), "{id}: {error:?}");
    }
    assert_eq!(world.dump(), before);
}

#[tokio::test]
async fn failed_detour_should_leave_its_task_blocked_with_the_reason() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    let a = world.start(&worker, "a").await;
    let mut fix = spec("fix");
    fix.max_attempts = Some(1);
    world.detour(&worker, &a, &review(&fix, "x")).await;
    let grant = world.start(&worker, "fix").await;
    assert_eq!(world.fail(&worker, &grant, false).await, Settled::Failed);
    assert_eq!(world.task("a").await.reason.as_deref(), Some("waits for fix, which failed"));
    world.assert_nothing_to_repair().await;
    world.store.retry(&task("fix")).await.unwrap();
    world.run(&worker, "fix").await;
    world.run(&worker, "a").await;
}

#[tokio::test]
async fn plan_after_a_detour_should_remove_what_was_inserted() {
    // However far the inserted task came.
    for how in ["ready", "running", "done"] {
        let world = World::new().await;
        world.accept("g", plan(REVIEWED)).await;
        let worker = world.join("w", "any", "g").await;
        let other = world.join("o", "any", "g").await;
        world.run(&worker, "a").await;
        let qa = world.start(&worker, "qa").await;
        world.detour(&worker, &qa, &review(&spec("qa__fix1"), "x")).await;
        let fix = match how {
            "ready" => None,
            _ => Some(world.start(&other, "qa__fix1").await),
        };
        if let Some(fix) = fix.as_ref().filter(|_| how == "done") {
            world.complete(&other, fix).await;
        }
        let difference = world.accept("g", plan(REVIEWED)).await.unwrap();
        assert_eq!(difference.removed, [task("qa__fix1")], "{how}");
        assert_eq!(difference.relinked, [task("qa")], "{how}");
        world.assert_nothing_to_repair().await;
        assert_eq!(world.status("qa").await, State::Ready, "{how}");
        assert_eq!(world.store.task(&task("qa__fix1")).await.unwrap(), None);
        assert_eq!(world.raw::<u8>(&["HEXISTS", "dag:g:dependents", "qa__fix1"]), 0);
        if let Some(fix) = fix.filter(|_| how == "running") {
            assert_eq!(world.complete(&other, &fix).await, Settled::Fenced);
        }
        // The counter survives a plan that leaves the task as it is.
        let qa = world.start(&worker, "qa").await;
        assert_eq!(qa.detours.review, 1);
        assert_eq!(world.accept("g", plan(REVIEWED)).await, None, "nothing differs any more");
        world.assert_nothing_to_repair().await;
    }
}

#[tokio::test]
async fn plan_that_was_compared_before_a_detour_should_be_refused() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    let a = world.start(&worker, "a").await;
    // Accepting and the detour at once: whatever came first, nothing is left over.
    let (lead, g) = (world.lead(), goal("g"));
    for n in 0..20 {
        let fresh = format!("new{n}");
        let fix = spec(&format!("fix{n}"));
        let detour = review(&fix, "x");
        let dag = plan(&[("a", &[]), (&fresh, &[])]);
        let detour = Detour { limit: 100, ..detour };
        let grant = if n == 0 { a.clone() } else { granted(world.want(&worker, "a").await) };
        let (accepted, detoured) = tokio::join!(
            world.store.accept(&lead, &g, dag.clone(), "h", "t"),
            world.store.detour(worker.holding(&grant), &detour),
        );
        assert!(matches!(detoured, Ok(Detoured::Inserted { .. })), "{detoured:?}");
        let fine = matches!(accepted, Ok(Some(_)) | Err(Error::PlanMoved { .. }));
        assert!(fine, "{accepted:?}");
        world.assert_nothing_to_repair().await;
        world.accept("g", dag).await;
        world.assert_nothing_to_repair().await;
        assert_eq!(world.store.tasks(&g).await.unwrap().len(), 2);
    }
}

#[tokio::test]
async fn detour_of_a_task_that_changed_should_insert_nothing() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    let a = world.start(&worker, "a").await;
    let changed = plan_with(&[("a", &[])], |spec| spec.title.push_str(", differently"));
    world.accept("g", changed).await;
    assert_eq!(world.detour(&worker, &a, &review(&spec("fix"), "x")).await, Detoured::Superseded);
    assert_eq!(world.status("a").await, State::Ready);
    world.assert_nothing_to_repair().await;
    world.run(&worker, "a").await;
}

#[tokio::test]
async fn parked_task_should_wait_for_a_person() {
    let world = World::new().await;
    world.accept("g", plan_with(&[("a", &[])], |spec| spec.budget_micros = Some(1))).await;
    let g = goal("g");
    let worker = world.join_model("w", "g", "claude").await;
    let grant = world.start(&worker, "a").await;
    let call = begin(worker.caller_for(&grant), &g, "1");
    world.store.end_call(&end(&call)).await.unwrap();
    let holder = worker.holding(&grant);
    assert_eq!(world.store.park(holder, "its budget is spent").await.unwrap(), Settled::Parked);
    let before = world.dump();
    assert_eq!(world.store.park(holder, "again").await.unwrap(), Settled::Already);
    assert_eq!(world.dump(), before);
    let a = world.task("a").await;
    assert_eq!((a.status, a.failures, a.losses), (State::Ready, 0, 0));
    assert_eq!(a.reason.as_deref(), Some("its budget is spent"));
    assert!(a.not_before.unwrap().starts_with("9999-"));
    world.assert_nothing_to_repair().await;
    let century = world.store.at(T0 + 100 * 365 * 86_400 * SECOND);
    assert_eq!(century.promote(&g).await.unwrap(), None, "nothing is due");
    assert_eq!(world.claim_at(&century, &worker).await, Claim::Empty);

    world.raw::<()>(&["DEL", "agent:w:inbox"]);
    assert_eq!(world.store.retry(&task("a")).await.unwrap(), Some(Ok(State::Ready)));
    assert_eq!(world.store.retry(&task("a")).await.unwrap(), Some(Err(State::Ready)));
    let a = world.task("a").await;
    assert_eq!((a.reason, a.not_before, a.cost_micros, a.llm_calls), (None, None, 0, 1));
    assert_eq!(world.inbox("w"), ["work"]);
    let grant = world.start(&worker, "a").await;

    // Another plan brings it back as well.
    world.store.park(worker.holding(&grant), "again").await.unwrap();
    world.accept("g", plan_with(&[("a", &[])], |spec| spec.budget_micros = Some(2))).await;
    assert_eq!(world.task("a").await.not_before, None);
    let grant = world.start(&worker, "a").await;
    // One that changed while it ran is not parked: the new plan may say something else.
    world.accept("g", plan(&[("a", &[])])).await;
    let parked = world.store.park(worker.holding(&grant), "again").await.unwrap();
    assert_eq!(parked, Settled::Superseded);
    world.run(&worker, "a").await;
    world.assert_nothing_to_repair().await;
    let fenced = world.store.park(worker.holding(&grant), "late").await.unwrap();
    assert_eq!(fenced, Settled::Fenced);
}
