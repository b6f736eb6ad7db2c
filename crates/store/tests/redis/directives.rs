//! Lines of heartbeat files: applied once each, with an answer.

use std::path::Path;

use model::task::State;
use store::directive::{Action, Outcome, Seen, Step};
use store::task::{Claim, Settled};

use crate::world::{World, agent, goal, granted, paused, plan, plan_with, task};

const PATH: &str = "/p/heartbeat/w.md";

/// Applies one line for agent `w` of goal `g`, as the controller does.
async fn say(world: &World, line: &str, action: &Action) -> Outcome {
    say_for(world, "w", "g", line, action).await
}

async fn say_for(world: &World, name: &str, of: &str, line: &str, action: &Action) -> Outcome {
    let consumed = world.store.consumed(&agent(name)).await.unwrap();
    let text = format!("{line}\n");
    let step = Step {
        agent: &agent(name),
        goal: &goal(of),
        path: Path::new(PATH),
        version: &consumed.version,
        seen: Seen::Append(&text),
        line: Some((line, action)),
    };
    world.store.apply(&world.lead(), &step).await.unwrap()
}

#[track_caller]
fn applied(outcome: Outcome) -> String {
    match outcome {
        Outcome::Applied(answer) => answer,
        other @ (Outcome::Refused(_) | Outcome::Noted | Outcome::Stale) => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(outcome: Outcome) -> String {
    match outcome {
        Outcome::Refused(answer) => answer,
        other @ (Outcome::Applied(_) | Outcome::Noted | Outcome::Stale) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn pause_and_resume_should_stop_and_start_claims() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &["a"])])).await;
    let worker = world.join("w", "any", "g").await;
    let runner = world.join("r", "any", "g").await;
    let grant = world.start(&runner, "a").await;
    assert_eq!(world.claim(&worker).await, Claim::Empty);
    world.raw::<()>(&["DEL", "agent:w:inbox"]);

    let answer = applied(say(&world, "PAUSE", &Action::Pause).await);
    assert_eq!(answer, "pauses after its present task, if any");
    assert_eq!(world.inbox("w"), ["control"]);
    assert!(world.store.agent(&worker.name).await.unwrap().paused);
    assert!(world.members("dag:g:idle").is_empty(), "nobody counts on it");
    assert_eq!(world.claim(&worker).await, paused());
    assert_eq!(applied(say(&world, "pause", &Action::Pause).await), "was paused already");
    world.complete(&runner, &grant).await;
    assert_eq!(world.claim(&worker).await, paused());
    assert_eq!(applied(say(&world, "RESUME", &Action::Resume).await), "works again");
    assert_eq!(applied(say(&world, "RESUME", &Action::Resume).await), "was not paused");
    world.start(&worker, "b").await;
}

#[tokio::test]
async fn reparse_and_flush_should_be_seen_by_whom_they_concern() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    world.store.save_memory(&worker.name, worker.incarnation, "", "[1]").await.unwrap();
    applied(say(&world, "REPARSE", &Action::Reparse).await);
    applied(say(&world, "REPARSE", &Action::Reparse).await);
    assert_eq!(applied(say(&world, "FLUSH-MEMORY", &Action::FlushMemory).await), "memory is empty");
    assert_eq!(world.store.goal(&goal("g")).await.unwrap().unwrap().reparses, 2);
    assert_eq!(world.store.memory(&worker.name).await.unwrap(), None);
    let control = world.hash("agent:w:control");
    assert_eq!((control["reparses"].as_str(), control["flushes"].as_str()), ("2", "1"));
}

/// Regression: REPARSE made half a goal, which nothing could read.
#[tokio::test]
async fn reparse_for_a_goal_that_does_not_exist_should_not_make_one() {
    let world = World::new().await;
    applied(say_for(&world, "w", "nowhere", "REPARSE", &Action::Reparse).await);
    assert_eq!(world.store.goal(&goal("nowhere")).await.unwrap(), None);
    assert_eq!(world.raw::<u8>(&["EXISTS", "goal:nowhere"]), 0);
}

#[tokio::test]
async fn drop_should_take_a_running_task_away() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let worker = world.join("runner", "any", "g").await;
    let grant = world.start(&worker, "a").await;
    world.raw::<()>(&["DEL", "agent:runner:inbox"]);
    let drop = Action::DropTask(task("a"));
    let answer = applied(say(&world, "DROP-TASK a", &drop).await);
    assert_eq!(answer, "a was taken from runner and is ready");
    let a = world.task("a").await;
    assert_eq!((a.status, a.failures, a.losses), (State::Ready, 0, 0));
    assert_eq!(world.inbox("runner"), ["fenced"]);
    assert!(world.leases().is_empty());
    assert_eq!(world.complete(&worker, &grant).await, Settled::Fenced);
    assert_eq!(world.events("task-drop").await.len(), 1);
    world.assert_sound(&["g"]);
    assert!(world.start(&worker, "a").await.epoch > grant.epoch);
}

#[tokio::test]
async fn drop_should_refuse_what_does_not_run() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &["a"]), ("c", &["b"])])).await;
    let worker = world.join("r", "any", "g").await;
    world.run(&worker, "a").await;
    let tasks = ["a", "b", "c"].map(|id| world.hash(&format!("task:{id}")));
    for (id, why) in [
        ("a", "a is done, not running: there is nothing to drop"),
        ("b", "b is ready, not running: there is nothing to drop"),
        ("c", "c is blocked, not running: there is nothing to drop"),
        ("nope", "there is no task nope"),
    ] {
        let line = format!("DROP-TASK {id}");
        assert_eq!(refused(say(&world, &line, &Action::DropTask(task(id))).await), why);
    }
    assert_eq!(["a", "b", "c"].map(|id| world.hash(&format!("task:{id}"))), tasks);
    world.assert_sound(&["g"]);
}

#[tokio::test]
async fn elevate_should_change_the_order_and_nothing_else() {
    let world = World::new().await;
    let dag = plan_with(&[("a", &[]), ("b", &[]), ("c", &[]), ("late", &["a"])], |spec| {
        spec.priority = 3;
    });
    world.accept("g", dag).await;
    let (before, b) = (world.dump(), world.hash("task:b"));
    let elevate = Action::Elevate(task("b"), 10);
    let answer = applied(say(&world, "ELEVATE b 10", &elevate).await);
    assert_eq!(answer, "b has priority 10 instead of 3");
    assert_eq!(world.queue("dag:g:ready"), ["b", "a", "c"]);
    let mut changed: Vec<(String, String)> = world
        .hash("task:b")
        .into_iter()
        .filter(|(name, value)| b.get(name) != Some(value))
        .collect();
    assert_eq!(changed.pop(), Some(("priority".into(), "10".into())));
    assert!(changed.is_empty(), "{changed:?}");
    let after = world.dump();
    for (key, value) in before {
        let may = ["task:b", "dag:g:ready", "events"].contains(&key.as_str());
        assert!(may || after[&key] == value, "{key} changed");
    }

    // One that waits takes it along.
    applied(say(&world, "ELEVATE late 99", &Action::Elevate(task("late"), 99)).await);
    world.assert_sound(&["g"]);
    let worker = world.join("w", "any", "g").await;
    world.run(&worker, "b").await;
    world.run(&worker, "a").await;
    let grant = world.start(&worker, "late").await;
    // One that runs goes on, and has it if it comes back.
    applied(say(&world, "ELEVATE late 0", &Action::Elevate(task("late"), 0)).await);
    world.store.release(worker.holding(&grant), "x").await.unwrap();
    world.run(&worker, "c").await;
    world.run(&worker, "late").await;
    let answer = refused(say(&world, "ELEVATE late 5", &Action::Elevate(task("late"), 5)).await);
    assert_eq!(answer, "late is done: its priority has no effect any more");
    let unknown = Action::Elevate(task("nope"), 5);
    assert_eq!(refused(say(&world, "ELEVATE nope 5", &unknown).await), "there is no task nope");
}

/// Regression: beyond the bound the order of declaration was lost in rounding.
#[tokio::test]
async fn elevate_beyond_the_bound_should_be_refused() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &[])])).await;
    let highest = Action::Elevate(task("b"), model::task::MAX_PRIORITY);
    applied(say(&world, "ELEVATE b 1000000", &highest).await);
    let line = "ELEVATE a 1000001";
    let answer = refused(say(&world, line, &Action::Elevate(task("a"), 1_000_001)).await);
    assert_eq!(answer, "priority 1000001 is too high: 0 to 1000000 are allowed");
    assert_eq!(world.queue("dag:g:ready"), ["b", "a"]);
}

#[tokio::test]
async fn elevated_priority_should_outlast_an_unrelated_plan() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &[])])).await;
    applied(say(&world, "ELEVATE b 10", &Action::Elevate(task("b"), 10)).await);
    world.accept("g", plan(&[("a", &[]), ("b", &[]), ("c", &[])])).await;
    assert_eq!(world.queue("dag:g:ready"), ["b", "a", "c"]);
}

#[tokio::test]
async fn task_names_should_mean_ones_own_goal_first_and_never_guess() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("only-g", &[])])).await;
    world.accept("h", plan(&[("a", &[])])).await;
    for (of, name, expected) in [
        ("g", "a", Ok("a")),
        ("h", "a", Ok("h.a")),
        ("g", "h.a", Ok("h.a")),
        ("h", "g.a", Ok("a")),
        ("h", "only-g", Ok("only-g")),
        ("h", "g.only-g", Ok("only-g")),
        ("h", "h.only-g", Err("there is no task h.only-g")),
        ("third", "a", Err("several goals have a task a: say which, as <goal>.a")),
    ] {
        let line = format!("ELEVATE {name} 7");
        let outcome = say_for(&world, "w", of, &line, &Action::Elevate(task(name), 7)).await;
        match expected {
            Ok(id) => assert!(applied(outcome).starts_with(&format!("{id} has")), "{of} {name}"),
            Err(why) => assert_eq!(refused(outcome), why),
        }
    }
}

/// Regression: a task that was written and never accepted could be named.
#[tokio::test]
async fn staged_task_should_not_be_known() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    world.raw::<()>(&["HSET", "task:b", "goal", "g", "status", "ready", "priority", "0"]);
    world.raw::<()>(&["HSET", "task:g.a", "goal", "g"]);
    let answer = refused(say(&world, "DROP-TASK b", &Action::DropTask(task("b"))).await);
    assert_eq!(answer, "there is no task b");
    assert!(world.store.find_tasks("b").await.unwrap().is_empty());
    let answer = refused(say(&world, "DROP-TASK a", &Action::DropTask(task("a"))).await);
    assert_eq!(answer, "a is ready, not running: there is nothing to drop");
}

#[tokio::test]
async fn each_line_should_count_once() {
    let world = World::new().await;
    let (w, g) = (agent("w"), goal("g"));
    let elevate = Action::Pause;
    let step = |version: &'static str, seen: Seen<'static>| Step {
        agent: &w,
        goal: &g,
        path: Path::new(PATH),
        version,
        seen,
        line: Some(("PAUSE", &elevate)),
    };
    let lead = world.lead();
    let first = step("", Seen::Append("PAUSE\n"));
    applied(world.store.apply(&lead, &first).await.unwrap());
    let before = world.dump();
    assert_eq!(world.store.apply(&lead, &first).await.unwrap(), Outcome::Stale);
    assert_eq!(world.dump(), before, "a lost reply's repetition");
    let consumed = world.store.consumed(&w).await.unwrap();
    assert_eq!((consumed.version.as_str(), consumed.seen.as_str()), ("1", "PAUSE\n"));
    applied(world.store.apply(&lead, &step("1", Seen::Append("PAUSE\n"))).await.unwrap());
    assert_eq!(world.store.apply(&lead, &first).await.unwrap(), Outcome::Stale);
    let consumed = world.store.consumed(&w).await.unwrap();
    assert_eq!((consumed.applied, consumed.refused), (2, 0));
    assert_eq!(world.events("directive").await.len(), 2);
}

#[tokio::test]
async fn consumed_text_should_follow_the_file() {
    let world = World::new().await;
    let (w, g) = (agent("w"), goal("g"));
    let why = Action::Refused("`HELLO` is no directive".into());
    for (n, (path, seen, line, consumed)) in [
        ("one", Seen::Append("# hi\n"), None, "# hi\n"),
        ("one", Seen::Append("HELLO\n"), Some(("HELLO", &why)), "# hi\nHELLO\n"),
        ("one", Seen::Replace("HELLO\n"), None, "HELLO\n"),
        ("two", Seen::Append("x\n"), None, "x\n"),
        ("two", Seen::Replace(""), None, ""),
    ]
    .into_iter()
    .enumerate()
    {
        let before = world.store.consumed(&w).await.unwrap();
        let path = Path::new(path);
        let version = &before.version;
        let step = Step { agent: &w, goal: &g, path, version, seen, line };
        let outcome = world.store.apply(&world.lead(), &step).await.unwrap();
        match line {
            None => assert_eq!(outcome, Outcome::Noted),
            Some(_) => assert_eq!(refused(outcome), "`HELLO` is no directive"),
        }
        let after = world.store.consumed(&w).await.unwrap();
        assert_eq!((after.seen.as_str(), after.path.as_str()), (consumed, path.to_str().unwrap()));
        assert_eq!(after.version, (n + 1).to_string());
    }
    let consumed = world.store.consumed(&w).await.unwrap();
    assert_eq!((consumed.applied, consumed.refused), (0, 1));
}

#[tokio::test]
async fn answers_should_be_kept_in_order_and_bounded() {
    let world = World::new().await;
    for n in 0..210 {
        let line = format!("LINE {n} \"quoted\" ü");
        if n % 2 == 0 {
            applied(say(&world, &line, &Action::Resume).await);
        } else {
            refused(say(&world, &line, &Action::Refused("no".into())).await);
        }
    }
    let answers = world.store.answers(&agent("w")).await.unwrap();
    assert_eq!(answers.len(), 200);
    assert_eq!(answers[0].line, "LINE 10 \"quoted\" ü");
    let last = &answers[199];
    assert_eq!((last.line.as_str(), last.outcome.as_str()), ("LINE 209 \"quoted\" ü", "refused"));
    assert_eq!((last.answer.as_str(), last.time.as_str()), ("no", "2027-01-15T08:00:00.000000Z"));
    let consumed = world.store.consumed(&agent("w")).await.unwrap();
    assert_eq!((consumed.applied, consumed.refused), (105, 105));
    let events = world.events("directive").await;
    assert_eq!((events.len(), events[209].field("number")), (210, "105"));
    assert!(consumed.seen.lines().count() == 210);
}

#[tokio::test]
async fn dropped_task_should_go_to_another_agent_that_waits() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    let worker = world.join("w", "any", "g").await;
    world.start(&worker, "a").await;
    let idle = world.idle("i", "any", "g").await;
    applied(say(&world, "DROP-TASK a", &Action::DropTask(task("a"))).await);
    assert_eq!(world.inbox("i"), ["work"]);
    assert_eq!(granted(world.claim(&idle).await).task, task("a"));
    world.assert_sound(&["g"]);
}
