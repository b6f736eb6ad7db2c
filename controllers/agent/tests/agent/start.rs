//! Starts that fail: by the supervisor, or because the process never takes its name.

use std::time::Duration;

use agent_controller::Settings;
use agent_controller::plan::Limits;
use model::agent::Phase;
use store::agent::Status;
use supervisor::Error;
use testkit::{DEADLINE, wait_until};

use crate::common::{FORKING, LONG, SHORT_LIVED, STUBBORN, World, dead, settings};

fn not_installed() -> Error {
    Error::NotInstalled { looked_for: "nowhere".into() }
}

fn spawn_limit() -> Error {
    Error::SpawnLimit { name: "a".into(), limit: "Maximum direct children reached".into() }
}

async fn status(world: &World, what: &str, is_so: impl Fn(&Status) -> bool) -> Status {
    wait_until(what, DEADLINE, async || {
        let status = world.agent("a").await.status;
        if is_so(&status) { Ok(status) } else { Err(format!("{status:?}")) }
    })
    .await
}

#[tokio::test]
async fn agent_that_cannot_be_started_should_say_why_and_hinder_no_other() {
    let world = World::new().await;
    world.declare(&[("a", "1"), ("b", "1")]);
    world.refuse("a", not_installed);
    let control = world.control(settings()).await;
    world.run(&control, "b", "1", 1).await;
    let says = |status: &Status, text| status.error.as_ref().is_some_and(|e| e.contains(text));
    let shown = status(&world, "a crash loop", |status| {
        status.phase == Some(Phase::CrashLoop) && says(status, "sysg is not installed")
    });
    let first = shown.await.next_start.unwrap();
    status(&world, "the next try", |status| status.next_start.as_ref() > Some(&first)).await;
    world.refuse("a", spawn_limit);
    status(&world, "another reason", |status| says(status, "raise `spawn.limits`")).await;

    world.allow("a");
    world.run(&control, "a", "1", 1).await;
    let status = world.agent("a").await.status;
    assert_eq!((status.error, status.next_start, status.restarts), (None, None, 0));
    // Each once, however often it was tried.
    assert_eq!(world.phases("a").await, ["restarting", "crash-loop", "starting", "running"]);
    assert_eq!(control.stats.snapshot().failures, 0, "that is no failure of a pass");
}

#[tokio::test]
async fn error_of_an_earlier_term_should_stay_while_it_holds_and_go_with_the_start() {
    let world = World::new().await;
    world.declare(&[("a", "1")]);
    world.refuse("a", not_installed);
    let control = world.control(settings()).await;
    status(&world, "an error", |status| status.error.is_some()).await;
    drop(control);
    let control = world.control(settings()).await;
    wait_until("a try of the new term", DEADLINE, async || {
        let now = control.stats.snapshot();
        if now.passes > 2 { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    assert!(world.agent("a").await.status.error.is_some());
    drop(control);
    world.allow("a");
    let control = world.control(settings()).await;
    world.run(&control, "a", "1", 1).await;
    assert_eq!(world.agent("a").await.status.error, None);
}

#[tokio::test]
async fn error_of_an_agent_that_is_declared_no_more_should_go() {
    let world = World::new().await;
    world.declare(&[("a", "1")]);
    world.refuse("a", not_installed);
    let control = world.control(settings()).await;
    status(&world, "an error", |status| status.error.is_some()).await;
    world.declare(&[]);
    control.waker.resync();
    let status = status(&world, "gone", |status| status.phase == Some(Phase::Gone)).await;
    assert_eq!((status.error, status.next_start), (None, None));
}

#[tokio::test]
async fn start_without_an_answer_should_not_be_repeated_where_it_succeeded() {
    let world = World::new().await;
    world.declare(&[("a", "1")]);
    world.time_out("a");
    let control = world.control(settings()).await;
    world.run(&control, "a", "1", 1).await;
    control.looked(2).await;
    assert_eq!(world.spawns("a").len(), 1);
    assert_eq!(world.agent("a").await.status.error, None);
}

#[tokio::test]
async fn process_that_dies_before_it_registers_should_be_slowed_down() {
    let world = World::new().await;
    world.behave("a", SHORT_LIVED);
    world.declare(&[("a", "1")]);
    let _control = world.control(settings()).await;
    world.spawned("a", 6).await;
    let spawns = world.spawns("a");
    let apart: Vec<Duration> = spawns.windows(2).map(|two| two[1].1 - two[0].1).collect();
    // Each lives for 0.1 s; the first death is free, the steps are 0.2 s and 0.4 s.
    for (nth, least) in [(1, 260), (2, 366), (3, 366), (4, 366)] {
        assert!(apart[nth] >= Duration::from_millis(least), "{nth}: {apart:?}");
    }
    let shown = status(&world, "deaths", |status| status.restarts >= 5).await;
    assert!(shown.last_exit.unwrap().ends_with("ended before it registered"));
    assert!(world.phases("a").await.contains(&"crash-loop".to_owned()));
}

#[tokio::test]
async fn process_that_never_registers_should_be_ended_and_count_as_dead() {
    let world = World::new().await;
    world.behave("a", STUBBORN);
    world.declare(&[("a", "1")]);
    let ms = Duration::from_millis;
    let limits = Limits { register: ms(800), grace: ms(400), ttl: LONG };
    let _control = world.control(Settings { limits, ..settings() }).await;
    let first = world.spawned("a", 1).await;
    dead(&first).await;
    assert_eq!(world.signals("a")[0], "term", "it was not asked first");
    world.spawned("a", 3).await;
    let shown = status(&world, "deaths", |status| status.restarts >= 2).await;
    assert!(shown.last_exit.unwrap().ends_with("ended before it registered"));
    let spawns = world.spawns("a");
    let alive = spawns.iter().filter(|(process, _)| process.is_alive()).count();
    assert!(alive <= 1, "two processes of one name: {spawns:?}");
}

#[tokio::test]
async fn child_that_still_shows_the_agents_arguments_should_not_be_taken_for_an_agent() {
    let world = World::new().await;
    world.behave("a", FORKING);
    world.declare(&[("a", "1")]);
    let limits = Limits { register: Duration::from_millis(300), grace: LONG, ttl: LONG };
    let control = world.control(Settings { limits, ..settings() }).await;
    let process = world.spawned("a", 1).await;
    world.register("a", process, "1").await;
    let child = wait_until("the child", DEADLINE, async || {
        let ours = |args: &[&str]| args.contains(&world.fleet.as_str());
        let found = process::find(ours).unwrap().into_iter().map(|process| process.identity);
        found.into_iter().find(|found| *found != process).ok_or("none".to_owned())
    })
    .await;
    control.looked(1).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    control.looked(2).await;
    assert!(child.is_alive() && process.is_alive());
    assert_eq!(world.agent("a").await.status.phase, Some(Phase::Running));
}
