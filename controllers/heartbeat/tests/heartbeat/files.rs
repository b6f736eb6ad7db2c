//! Files in every state that people and programs leave them in.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use crate::world::{LONG_TTL, World, agent, identity};

#[tokio::test]
async fn only_added_lines_should_count_however_the_file_is_saved() {
    let world = World::new(&["task-001"]).await;
    let running = world.start(LONG_TTL).await;
    let mut applied = 0;
    for (script, more) in [
        ("echo PAUSE > heartbeat/a.md", 1),
        // As vim saves: a new file takes the name.
        ("{ cat heartbeat/a.md; echo RESUME; } > heartbeat/t; mv heartbeat/t heartbeat/a.md", 1),
        // The same content again, by rename and in place.
        ("cp heartbeat/a.md heartbeat/t; mv heartbeat/t heartbeat/a.md", 0),
        ("printf 'PAUSE\\nRESUME\\n' > heartbeat/a.md", 0),
        // A line in front, a comment behind.
        ("printf '# mine\\nREPARSE\\nPAUSE\\nRESUME\\n# end\\n' > heartbeat/a.md", 1),
        // Other line ends and list markers say the same.
        ("printf '* REPARSE\\r\\n- PAUSE\\r\\nresume # x\\r\\n' > heartbeat/a.md", 1),
        // Taken out, then put in again.
        (": > heartbeat/a.md", 0),
        ("echo PAUSE >> heartbeat/a.md", 1),
        ("rm heartbeat/a.md", 0),
        // It comes back as it was.
        ("echo PAUSE > heartbeat/a.md", 0),
        ("echo RESUME > heartbeat/a.md", 1),
    ] {
        world.sh(script);
        applied += more;
        world.wait_for("a", applied, 0).await;
        // Nothing more comes, and what is gone has settled.
        wait_until_settled(&world, &running).await;
        assert_eq!(world.consumed("a").await.applied, applied, "{script}");
    }
}

async fn wait_until_settled(world: &World, running: &crate::world::Running) {
    testkit::wait_until("the file is consumed as it is", testkit::DEADLINE, async || {
        running.wait_for_looks(1).await;
        let Ok(text) = fs::read_to_string(world.path("heartbeat/a.md")) else { return Ok(()) };
        let seen = world.consumed("a").await.seen;
        if seen == text { Ok(()) } else { Err(format!("{seen:?} of {text:?}")) }
    })
    .await;
}

#[tokio::test]
async fn last_line_without_end_should_count_once_when_it_stays() {
    let world = World::new(&["task-001"]).await;
    let running = world.start(LONG_TTL).await;
    world.sh("printf 'RESUME\\nPAUSE' > heartbeat/a.md");
    world.wait_for("a", 2, 0).await;
    assert!(world.store.agent(&agent("a")).await.unwrap().paused);
    running.wait_for_looks(2).await;
    world.sh("printf '\\nREPARSE\\n' >> heartbeat/a.md");
    world.wait_for("a", 3, 0).await;
    running.wait_for_looks(2).await;
    assert_eq!(world.answers("a").await.len(), 3);
}

#[tokio::test]
async fn missing_file_should_be_no_problem_and_nothing_be_created() {
    let world = World::new(&["task-001"]).await;
    world.declare(&[("a", "heartbeat/a.md"), ("b", "no-folder/b.md")]);
    let running = world.start(LONG_TTL).await;
    running.wait_for_looks(3).await;
    assert!(world.problems.current().is_empty());
    assert_eq!(fs::read_dir(world.root()).unwrap().count(), 1);
    assert_eq!(fs::read_dir(world.path("heartbeat")).unwrap().count(), 0);
    let now = running.stats.snapshot();
    assert_eq!((now.acted, now.failures), (0, 0), "{now:?}");
}

#[tokio::test]
async fn file_that_cannot_be_read_should_be_shown_and_stop_nothing_else() {
    let world = World::new(&["task-001"]).await;
    let running = world.start(LONG_TTL).await;
    let a = world.path("heartbeat/a.md");
    for (n, (make, problem)) in (1..).zip([
        ("mkfifo heartbeat/a.md", "is a FIFO, not a regular file"),
        ("mkdir heartbeat/a.md", "is a folder, not a regular file"),
        ("truncate -s 1G heartbeat/a.md", "has 1073741824 bytes"),
        ("echo PAUSE > ../outside.md; ln -s ../../outside.md heartbeat/a.md", "lies outside"),
        ("printf 'PAUSE\\n\\377\\n' > heartbeat/a.md", "is not UTF-8 text at line 2"),
        ("printf 'PAUSE\\n\\0\\n' > heartbeat/a.md", "has a NUL byte at line 2"),
    ]) {
        world.sh(make);
        world.wait_for_problem("a", problem).await;
        world.sh("echo REPARSE >> heartbeat/b.md");
        world.wait_for("b", n, 0).await;
        world.sh("rm -r heartbeat/a.md");
        world.wait_for_problem("a", "").await;
    }
    assert_eq!(world.consumed("a").await.applied, 0);
    assert_eq!(running.stats.snapshot().failures, 0);
    fs::write(&a, "PAUSE\n").unwrap();
    world.wait_for("a", 1, 0).await;
}

#[tokio::test]
async fn directive_should_count_though_its_answer_cannot_be_written() {
    let world = World::new(&["task-001"]).await;
    // Permissions do not stop root; a folder in the way stops everybody.
    let ack = world.path("heartbeat/a.ack.md");
    fs::create_dir_all(ack.join("sub")).unwrap();
    world.sh("echo PAUSE >> heartbeat/a.md");
    let running = world.start(LONG_TTL).await;
    world.wait_for("a", 1, 0).await;
    world.wait_for_problem("a", "cannot write the answers").await;
    assert!(world.store.agent(&agent("a")).await.unwrap().paused);
    running.wait_for_looks(2).await;
    assert_eq!(world.consumed("a").await.applied, 1);

    fs::remove_dir_all(&ack).unwrap();
    world.wait_for_text("heartbeat/a.ack.md", &["1 line applied"]).await;
    world.wait_for_problem("a", "").await;
}

#[tokio::test]
async fn answers_should_be_restored_when_changed_and_left_alone_when_right() {
    let world = World::new(&["task-001"]).await;
    world.sh("echo PAUSE > heartbeat/a.md");
    let running = world.start(LONG_TTL).await;
    let text = world.wait_for_text("heartbeat/a.ack.md", &["1 line applied"]).await;
    running.wait_for_looks(1).await;
    let (ack, acted) = (world.path("heartbeat/a.ack.md"), running.stats.snapshot().acted);
    let written = identity(&ack);
    running.wait_for_looks(5).await;
    assert_eq!(identity(&ack), written, "it was written again");
    assert_eq!(running.stats.snapshot().acted, acted);

    fs::write(&ack, "x").unwrap();
    world.wait_for_text("heartbeat/a.ack.md", &[&text]).await;
    fs::remove_file(&ack).unwrap();
    world.wait_for_text("heartbeat/a.ack.md", &[&text]).await;
    // A link is replaced, and what it names stays as it is.
    fs::write(world.path("precious"), "x").unwrap();
    fs::remove_file(&ack).unwrap();
    symlink(world.path("precious"), &ack).unwrap();
    testkit::wait_until("the link is replaced", testkit::DEADLINE, async || {
        if ack.is_symlink() { Err("a link".to_owned()) } else { Ok(()) }
    })
    .await;
    assert_eq!(fs::read_to_string(world.path("precious")).unwrap(), "x");
}

#[tokio::test]
async fn file_under_a_new_path_should_be_read_from_its_beginning() {
    let world = World::new(&["task-001"]).await;
    world.sh("printf 'PAUSE\\nRESUME\\n' > heartbeat/a.md; cp heartbeat/a.md heartbeat/new.md");
    let _running = world.start(LONG_TTL).await;
    world.wait_for("a", 2, 0).await;
    world.declare(&[("a", "heartbeat/new.md")]);
    world.wait_for("a", 4, 0).await;
    world.wait_for_text("heartbeat/new.ack.md", &["# Answers to `new.md`", "4 lines"]).await;
    assert_eq!(world.consumed("a").await.path, world.path("heartbeat/new.md").to_string_lossy());
}

#[tokio::test]
async fn file_of_an_agent_that_is_not_declared_should_not_be_read() {
    let world = World::new(&["task-001"]).await;
    world.declare(&[("b", "heartbeat/b.md")]);
    world.register(&agent("a"), 1).await;
    let running = world.start(LONG_TTL).await;
    world.sh("echo PAUSE | tee heartbeat/a.md > heartbeat/b.md");
    world.wait_for("b", 1, 0).await;
    running.wait_for_looks(2).await;
    assert_eq!(world.consumed("a").await.applied, 0);
}

#[tokio::test]
async fn file_of_two_agents_should_be_read_for_the_first_and_shown_for_the_other() {
    let world = World::new(&["task-001"]).await;
    world.declare(&[("a", "heartbeat/a.md"), ("b", "heartbeat/a.md")]);
    let running = world.start(LONG_TTL).await;
    world.sh("echo PAUSE > heartbeat/a.md");
    world.wait_for("a", 1, 0).await;
    world.wait_for_problem("b", "is the heartbeat file of a too").await;
    running.wait_for_looks(2).await;
    assert_eq!(world.consumed("b").await.applied, 0);
    world.declare(&[("a", "heartbeat/a.md")]);
    world.wait_for_problem("b", "").await;
}

#[tokio::test]
async fn line_of_a_megabyte_should_be_refused_and_kept_short() {
    let world = World::new(&["task-001"]).await;
    let mut text = "x".repeat(1_000_000);
    text.push('\n');
    fs::write(world.path("heartbeat/a.md"), text).unwrap();
    let _running = world.start(LONG_TTL).await;
    world.wait_for("a", 0, 1).await;
    let kept = world.answers("a").await.remove(0);
    assert!(kept.len() < 1_000, "{} bytes", kept.len());
    world.wait_for_text("heartbeat/a.ack.md", &["1 refused"]).await;
    assert!(
        File::open(world.path("heartbeat/a.ack.md")).unwrap().metadata().unwrap().len() < 3_000
    );
}

#[tokio::test]
async fn agent_with_nothing_new_should_cost_no_pass_until_something_changes() {
    let world = World::new(&["task-001"]).await;
    world.register(&agent("a"), 1).await;
    world.register(&agent("b"), 2).await;
    let running = world.start(LONG_TTL).await;
    world.sh("echo PAUSE > heartbeat/a.md; cp heartbeat/a.md heartbeat/new.md");
    world.wait_for("a", 1, 0).await;
    // Another pass may still be on its way to find that nothing is left.
    running.wait_for_looks(3).await;

    let passes = running.stats.snapshot().passes;
    running.wait_for_looks(5).await;
    assert_eq!(running.stats.snapshot().passes, passes);

    let ack = world.path("heartbeat/a.ack.md");
    fs::remove_file(&ack).unwrap();
    world.wait_for_text("heartbeat/a.ack.md", &["1 line applied"]).await;
    running.wait_for_looks(3).await;
    // Redis has lost what was consumed.
    let port = world.redis.port();
    world.sh(&format!("redis-cli -p {port} DEL agent:a:directives"));
    world.wait_for("a", 1, 0).await;
    running.wait_for_looks(3).await;
    world.sh("echo RESUME >> heartbeat/a.md");
    world.wait_for("a", 2, 0).await;
    running.wait_for_looks(3).await;
    // The text of before, under another name.
    world.sh("cp heartbeat/a.md heartbeat/new.md");
    world.declare(&[("a", "heartbeat/new.md")]);
    world.wait_for("a", 4, 0).await;
}
