//! `orch audit`: a history that is clean, one that is not, and no Redis.

use crate::support::{CHAIN, World, orch};

async fn one_done(world: &World) {
    world.plan("goal-001", CHAIN).await;
    let agent = world.register("research_agent", "goal-001").await;
    let grant = agent.claim().await;
    agent.complete(&grant).await;
}

#[tokio::test]
async fn audit_should_say_over_what_it_looked() {
    let world = World::new().await;
    one_done(&world).await;
    let text = world.orch(&["audit"]).ok();
    let count = world.redis(&["XLEN", "events"]);
    let expected = format!(
        "looked at {} events (complete) and 3 tasks of 1 goal: no violation\n",
        count.trim()
    );
    assert_eq!(text, expected);
    let json = world.orch(&["audit", "goal-001", "--format", "json"]).json();
    assert_eq!((&json["clean"], &json["complete"]), (&true.into(), &true.into()), "{json:#}");
    assert_eq!((&json["tasks"], &json["goals"]), (&3.into(), &1.into()), "{json:#}");
    world.redis(&["XTRIM", "events", "MAXLEN", "2"]);
    let text = world.orch(&["audit"]).ok();
    assert!(text.contains("looked at 2 events (since 2"), "{text}");
    assert!(text.contains("? of 1 task no event is left"), "{text}");
}

#[tokio::test]
async fn audit_should_show_a_violation_with_its_events() {
    let world = World::new().await;
    one_done(&world).await;
    let claim = world.orch(&["events", "--task", "task-001", "--format", "json"]).ok();
    let claim: serde_json::Value = serde_json::from_str(claim.lines().next().unwrap()).unwrap();
    let field = |name: &str| claim[name].as_str().unwrap().to_owned();
    // Somebody's completion that the lease does not allow.
    let event = ["XADD", "events", "*", "kind", "task-complete", "goal", "goal-001", "task"];
    let rest =
        ["task-001", "from", "running", "to", "done", "generation", "1", "agent", "evil\x1b"];
    let (epoch, incarnation) = (field("epoch"), field("incarnation"));
    let fenced = ["epoch", &epoch, "incarnation", &incarnation];
    let id = world.redis(&[&event[..], &rest, &fenced].concat());
    let said = world.orch(&["audit"]);
    assert_eq!((said.code, said.err.as_str()), (1, ""), "{said:?}");
    for part in ["S2 (one completion", "task-001: `complete` of evil", id.trim(), ": 1 violation\n"]
    {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    assert!(!said.out.contains('\x1b') && said.out.contains(&format!("epoch={epoch}")), "{said:?}");

    let said = world.orch(&["audit", "--format", "json"]);
    assert_eq!(said.code, 1, "{said:?}");
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let found = &json["violations"][0];
    assert_eq!((&found["rule"], &found["task"]), (&"S2".into(), &"task-001".into()), "{json:#}");
    assert_eq!(found["events"][1]["id"], id.trim(), "{json:#}");
    assert_eq!(found["events"][0]["kind"], "task-complete", "{json:#}");
}

#[tokio::test]
async fn audit_should_find_a_state_that_was_written_by_hand() {
    let world = World::new().await;
    one_done(&world).await;
    world.redis(&["HSET", "task:task-003", "status", "done"]);
    let said = world.orch(&["audit"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.contains("task-003: it is done, and no event says how"), "{}", said.out);
    let error = world.orch(&["audit", "goal-01"]).failed(4);
    assert!(error.contains("did you mean goal-001?"), "{error}");
}

#[test]
fn audit_should_say_that_there_is_no_redis() {
    let folder = tempfile::tempdir().unwrap();
    let error = orch(folder.path(), &["--redis-url", "redis://127.0.0.1:1", "audit"]).failed(3);
    assert!(error.contains("cannot use Redis at redis://127.0.0.1:1"), "{error}");
}
