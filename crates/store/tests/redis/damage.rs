//! Records that somebody damaged by hand: what can be read of them, and what errors name.

use store::Error;

use crate::world::{World, goal, plan, task};

/// Writes bytes that need not be text.
fn set(world: &World, key: &str, field: &str, value: &[u8]) {
    let mut connection = world.server.connection();
    let () = redis::cmd("HSET").arg(key).arg(field).arg(value).query(&mut connection).unwrap();
}

fn malformed<T: std::fmt::Debug>(found: Result<T, Error>) -> String {
    let error = found.unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
    error.to_string()
}

/// Regression: one byte that is no UTF-8 in any field made the record, and with it all
/// tasks of the goal, unreadable, and the error did not say which record.
#[tokio::test]
async fn byte_that_is_no_text_should_spoil_its_own_field_only() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[]), ("b", &[])])).await;
    set(&world, "task:a", "last_error", b"cut \xff off");
    set(&world, "goal:g", "title", b"\xc3");
    set(&world, "agent:x:status", "error", b"\xff");
    set(&world, "agent:x:directives", "seen", b"PAUSE\n\xff\n");

    let found = world.store.tasks(&goal("g")).await.unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].last_error.as_deref(), Some("cut \u{fffd} off"));
    assert_eq!(world.store.task(&task("a")).await.unwrap().as_ref(), Some(&found[0]));
    assert_eq!(world.store.goal(&goal("g")).await.unwrap().unwrap().title, "\u{fffd}");
    let agent = world.store.agent(&crate::world::agent("x")).await.unwrap();
    assert_eq!(agent.status.error.as_deref(), Some("\u{fffd}"));
    let consumed = world.store.consumed(&crate::world::agent("x")).await.unwrap();
    assert_eq!(consumed.seen, "PAUSE\n\u{fffd}\n");
}

#[tokio::test]
async fn damaged_field_should_be_named_with_its_key() {
    let world = World::new().await;
    world.accept("g", plan(&[("a", &[])])).await;
    set(&world, "task:a", "epoch", b"\xff");
    let error = malformed(world.store.task(&task("a")).await);
    assert!(error.starts_with("task:a epoch in Redis holds"), "{error}");

    set(&world, "task:a", "epoch", b"0");
    set(&world, "dag:g:nodes", "a", b"{}");
    let error = malformed(world.store.task(&task("a")).await);
    assert!(error.starts_with("dag:g:nodes a in Redis holds"), "{error}");

    set(&world, "llm:holds", "claude\u{1b}[2J", b"soon");
    let error = malformed(world.store.holds().await);
    assert!(error.starts_with("llm:holds claude\\u{1b}[2J in Redis holds \"soon\""), "{error}");
}
