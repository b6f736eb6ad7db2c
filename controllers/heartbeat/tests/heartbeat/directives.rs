//! What each directive does, and what is answered to those that are none.

use model::task::State;
use store::agent::Snapshot;
use store::directive::Answer;
use store::task::{Claim, Holder};

use crate::world::{AGENT_TTL_MS, LONG_TTL, World, agent, goal, identity, task};

#[tokio::test]
async fn every_directive_should_take_effect_once_and_be_answered() {
    let world = World::new(&["task-001", "task-002", "task-003"]).await;
    let (a, b) = (agent("a"), agent("b"));
    let incarnation = world.register(&a, 1).await;
    let claim = world.store.claim(&b, world.register(&b, 2).await, AGENT_TTL_MS, None).await;
    assert!(matches!(claim.unwrap(), Claim::Granted(grant) if grant.task == task("task-001")));
    let saved = world.store.save_memory(&a, incarnation, "", "[\"old\"]").await.unwrap();
    assert_eq!(saved, Snapshot::Saved);

    world.sh(
        "printf '# Heartbeat of a\\n\\n- pause # for now\\nResume\\nREPARSE\\nDROP-TASK task-001\\n\
         ELEVATE task-003 7\\nFLUSH-MEMORY\\n' > heartbeat/a.md",
    );
    let file = identity(&world.path("heartbeat/a.md"));
    let _running = world.start(LONG_TTL).await;
    world.wait_for("a", 6, 0).await;

    assert!(!world.store.agent(&a).await.unwrap().paused);
    assert_eq!(world.store.goal(&goal()).await.unwrap().unwrap().reparses, 1);
    let dropped = world.store.task(&task("task-001")).await.unwrap().unwrap();
    assert_eq!((dropped.status, dropped.owner), (State::Ready, None));
    assert_eq!(world.store.task(&task("task-003")).await.unwrap().unwrap().priority, 7);
    assert_eq!(world.store.memory(&a).await.unwrap(), None);
    assert_eq!(
        world.answers("a").await,
        [
            "applied - pause # for now: pauses after its present task, if any",
            "applied Resume: works again",
            "applied REPARSE: instructions are read again",
            "applied DROP-TASK task-001: task-001 was taken from b and is ready",
            "applied ELEVATE task-003 7: task-003 has priority 7 instead of 0",
            "applied FLUSH-MEMORY: memory is empty",
        ]
    );
    let ack = world.wait_for_text("heartbeat/a.ack.md", &["6 lines applied, 0 refused"]).await;
    for part in ["# Answers to `a.md`", "| `- pause # for now` ", "| task-001 was taken from b and"]
    {
        assert!(ack.contains(part), "{part:?} in\n{ack}");
    }
    assert_eq!(identity(&world.path("heartbeat/a.md")), file, "the file is the human's");
    assert!(!world.path("heartbeat/b.ack.md").exists());
    let events = world.store.last_events(1_000).await.unwrap();
    assert_eq!(events.iter().filter(|event| event.kind == "directive").count(), 6);
}

#[tokio::test]
async fn paused_agent_should_claim_nothing_until_it_is_resumed() {
    let world = World::new(&["task-001"]).await;
    let a = agent("a");
    let incarnation = world.register(&a, 1).await;
    let _running = world.start(LONG_TTL).await;
    world.sh("echo PAUSE >> heartbeat/a.md");
    world.wait_for("a", 1, 0).await;
    let claim = world.store.claim(&a, incarnation, AGENT_TTL_MS, None).await.unwrap();
    assert_eq!(claim, Claim::Held { reason: "paused".to_owned(), until_us: None });
    world.wait_for_text("heartbeat/a.ack.md", &["It is **paused**: write `RESUME`"]).await;

    world.sh("echo RESUME >> heartbeat/a.md");
    world.wait_for("a", 2, 0).await;
    let claim = world.store.claim(&a, incarnation, AGENT_TTL_MS, None).await.unwrap();
    assert!(matches!(claim, Claim::Granted(_)), "{claim:?}");
    let ack = world.wait_for_text("heartbeat/a.ack.md", &["2 lines applied"]).await;
    assert!(!ack.contains("paused**"), "{ack}");
}

#[tokio::test]
async fn line_that_cannot_be_carried_out_should_be_answered_with_the_reason() {
    let world = World::new(&["task-001", "task-002"]).await;
    let b = agent("b");
    let incarnation = world.register(&b, 2).await;
    let claim = world.store.claim(&b, incarnation, AGENT_TTL_MS, None).await.unwrap();
    let Claim::Granted(grant) = claim else { panic!("{claim:?}") };
    let holder = Holder { agent: &b, incarnation, task: &grant.task, epoch: grant.epoch };
    world.store.complete(holder, "[]", "", None).await.unwrap();

    let lines = [
        ("PUASE", "did you mean PAUSE?"),
        ("PAUSE now", "`PAUSE` stands alone"),
        ("DROP-TASK", "needs one task"),
        ("DROP-TASK ../task-001", "use only A-Z"),
        ("DROP-TASK no-such", "no task no-such"),
        ("DROP-TASK task-001", "task-001 is done, not running"),
        ("DROP-TASK task-002", "task-002 is ready, not running"),
        ("ELEVATE task-002", "needs a task and a priority"),
        ("ELEVATE task-002 -1", "is no priority"),
        ("ELEVATE task-002 1000001", "is no priority"),
        ("ELEVATE no-such 1", "no task no-such"),
        ("ELEVATE task-001 1", "task-001 is done"),
        ("<b>|`x`", "unknown directive"),
    ];
    let text: String = lines.iter().flat_map(|(line, _)| [*line, "\n"]).collect();
    std::fs::write(world.path("heartbeat/a.md"), text).unwrap();
    let _running = world.start(LONG_TTL).await;
    world.wait_for("a", 0, lines.len() as u64).await;

    let answers: Vec<Answer> = world.store.answers(&agent("a")).await.unwrap();
    for (answer, (line, why)) in answers.iter().zip(lines) {
        assert_eq!((answer.line.as_str(), answer.outcome.as_str()), (line, "refused"));
        assert!(answer.answer.contains(why), "{answer:?}");
    }
    let done = world.store.task(&task("task-001")).await.unwrap().unwrap();
    let ready = world.store.task(&task("task-002")).await.unwrap().unwrap();
    assert_eq!((done.status, ready.status, ready.priority), (State::Done, State::Ready, 0));
    assert!(!world.store.agent(&agent("a")).await.unwrap().paused);
    let ack = world.wait_for_text("heartbeat/a.ack.md", &["0 lines applied, 13 refused"]).await;
    assert_eq!(ack.matches("| **refused** |").count(), 13, "{ack}");
    assert!(ack.contains("&#60;b&#62;&#124;&#96;x&#96;") && !ack.contains("<b>"), "{ack}");
}
