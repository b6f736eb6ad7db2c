//! Reading the whole stream.

use store::event::{Event, Position};

use crate::world::{World, goal, plan};

const CHAIN: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"]), ("c", &["b"])];

/// All pages of `count` events until `until`, and which of them had a gap before them.
async fn pages(world: &World, until: &Position, count: usize) -> (Vec<Event>, Vec<bool>) {
    let (mut all, mut gaps, mut after) = (Vec::new(), Vec::new(), Position("0".into()));
    loop {
        let page = world.store.events_between(&after, until, count).await.unwrap();
        let Some(last) = page.events.last() else { return (all, gaps) };
        assert!(page.events.len() <= count);
        after = Position(last.id.clone());
        gaps.push(page.has_gap);
        all.extend(page.events);
    }
}

#[tokio::test]
async fn stream_should_be_read_in_pages_up_to_a_place() {
    let world = World::new().await;
    let nothing = Position("0".into());
    world.accept("g", plan(CHAIN)).await;
    let worker = world.join("w", "any", "g").await;
    world.run(&worker, "a").await;
    let until = world.store.end_of_events().await.unwrap();
    let before = world.store.last_events(1_000).await.unwrap();
    world.run(&worker, "b").await;
    for count in [1, 3, 1_000] {
        let (all, gaps) = pages(&world, &until, count).await;
        assert_eq!(all, before, "{count}");
        assert!(gaps.iter().all(|gap| !gap), "{gaps:?}");
    }
    // The rest of it.
    let end = world.store.end_of_events().await.unwrap();
    let page = world.store.events_between(&until, &end, 1_000).await.unwrap();
    let kinds: Vec<&str> = page.events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["task-claim", "task-complete", "task-unblock"]);
    world.raw::<()>(&["FLUSHALL"]);
    let page = world.store.events_between(&nothing, &nothing, 9).await.unwrap();
    assert!(page.events.is_empty() && !page.has_gap, "{page:?}");
}

#[tokio::test]
async fn page_should_say_where_events_before_it_are_gone() {
    let world = World::new().await;
    world.accept("g", plan(CHAIN)).await;
    let worker = world.join("w", "any", "g").await;
    world.run(&worker, "a").await;
    let all = world.store.last_events(1_000).await.unwrap();
    let until = world.store.end_of_events().await.unwrap();
    let at = |n: usize| Position(all[n].id.clone());
    // All but the last three.
    world.raw::<()>(&["XTRIM", "events", "MAXLEN", "3"]);
    let first = all.len() - 3;
    for (after, gap) in [
        (Position("0".into()), true),
        (at(0), true),
        (at(first - 1), true),
        (at(first), false),
        (at(first + 1), false),
    ] {
        let page = world.store.events_between(&after, &until, 10).await.unwrap();
        assert_eq!(page.has_gap, gap, "after {after:?}");
    }
    let ids = [all[0].id.clone(), all[first].id.clone()];
    assert_eq!(world.store.events_at(&ids).await.unwrap(), [all[first].clone()]);
    assert!(world.store.events_at(&[]).await.unwrap().is_empty());
}

#[test]
fn place_should_order_events() {
    let place =
        |id: &str| Event { id: id.into(), kind: String::new(), fields: Default::default() }.place();
    assert!(place("9-1") < place("10-0") && place("10-0") < place("10-2"));
    assert_eq!((place("x"), place("7")), ((0, 0), (7, 0)));
}

#[tokio::test]
async fn raw_tasks_should_hold_what_has_no_record() {
    let world = World::new().await;
    world.accept("g", plan(CHAIN)).await;
    world.raw::<()>(&["DEL", "task:b"]);
    world.raw::<()>(&["HSET", "task:c", "status", "odd"]);
    let tasks = world.store.raw_tasks(&goal("g")).await.unwrap();
    let seen: Vec<(&str, &str, Option<&str>)> = tasks
        .iter()
        .map(|t| (t.id.as_str(), t.waits_for.as_str(), t.record.get("status").map(String::as_str)))
        .collect();
    let expected =
        [("a", "[]", Some("ready")), ("b", "[\"a\"]", None), ("c", "[\"b\"]", Some("odd"))];
    assert_eq!(seen, expected);
    assert!(tasks[0].spec.contains("do a"), "{tasks:?}");
}
