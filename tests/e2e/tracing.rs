//! What a collector is sent by a whole fleet, and what the fleet bears of it.

use std::collections::{BTreeSet, HashMap};

use model::goal::Status;
use model::task::State;
use testkit::{OtlpSink, OtlpSpan, wait_until};

use crate::support::{Builder, DEADLINE, agents, fleet, goal, task};

/// Waits for the file `go`.
const WAITING: &str = "until test -e \"$ORCH_PROJECT/go\"; do sleep 0.05; done; echo x > out.md";

fn traced(sink: &OtlpSink) -> Builder {
    with_tasks()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &sink.url())
        .env("OTEL_BSP_SCHEDULE_DELAY", "200")
}

fn with_tasks() -> Builder {
    let tasks = task("task-001: Wait (artifacts: out.md)", WAITING)
        + &task("task-002: Join (after: task-001)", "true");
    fleet(agents(&["worker_agent"]) + &goal(&tasks))
}

/// The spans, once `is_there` says that what is waited for is among them.
async fn until(
    sink: &OtlpSink,
    what: &str,
    is_there: impl Fn(&[OtlpSpan]) -> bool,
) -> Vec<OtlpSpan> {
    wait_until(what, DEADLINE, async || {
        let spans = sink.spans();
        if is_there(&spans) { Ok(spans) } else { Err(format!("{:#?}", names(&spans))) }
    })
    .await
}

fn names(spans: &[OtlpSpan]) -> Vec<String> {
    spans
        .iter()
        .map(|span| format!("{}/{} {:?}", span.service, span.name, span.attributes))
        .collect()
}

fn named<'a>(spans: &'a [OtlpSpan], name: &str) -> Vec<&'a OtlpSpan> {
    spans.iter().filter(|span| span.name == name).collect()
}

/// A pass that planned it.
fn planned<'a>(spans: &'a [OtlpSpan], action: &str) -> Option<&'a OtlpSpan> {
    named(spans, "reconcile").into_iter().find(|pass| pass.attribute("plan").contains(action))
}

fn parts<'a>(spans: &'a [OtlpSpan], whole: &OtlpSpan) -> BTreeSet<&'a str> {
    spans.iter().filter(|span| span.parent == whole.id).map(|span| span.name.as_str()).collect()
}

#[tokio::test]
async fn kill_and_recovery_should_be_told_as_whole_traces() {
    let sink = OtlpSink::start();
    let fleet = traced(&sink).start().await;
    fleet.until_task("task-001", State::Running).await;
    fleet.finish_after_a_kill().await;
    let spans = until(&sink, "all is told", |spans| {
        let count = |name: &str| named(spans, name).len();
        count("goal") == 1
            && count("recovery") == 1
            && count("attempt") == 3
            && count("execute") == 3
            // systemg may answer a spawn after its child is through with its tasks.
            && ["bury", "spawn"].iter().all(|action| planned(spans, action).is_some())
    })
    .await;

    // Attempts, over the border of the process.
    let of = |task: &str, attempt: &str| {
        let mut all = named(&spans, "attempt").into_iter();
        all.find(|s| s.attribute("orch.task") == task && s.attribute("orch.attempt") == attempt)
            .unwrap()
    };
    let (lost, second, join) = (of("task-001", "1"), of("task-001", "2"), of("task-002", "1"));
    assert_eq!((lost.service.as_str(), lost.parent.as_str()), ("orchestrator", ""));
    assert!(lost.error.is_some() && second.error.is_none(), "{lost:#?} {second:#?}");
    for attempt in [lost, second, join] {
        assert_eq!(parts(&spans, attempt), ["execute", "wait"].into(), "{attempt:#?}");
    }
    let execute = named(&spans, "execute").into_iter().find(|s| s.parent == second.id).unwrap();
    assert_eq!((execute.service.as_str(), execute.instance.as_str()), ("agent", "worker_agent"));
    assert_eq!((&execute.trace, execute.attribute("outcome")), (&second.trace, "done"));
    assert_eq!(parts(&spans, execute), ["block", "verify"].into());

    // One picture of the recovery, and what it has to do with the attempts.
    let [recovery] = named(&spans, "recovery")[..] else { panic!("{:?}", names(&spans)) };
    assert_eq!(parts(&spans, recovery), ["respawn", "run again"].into());
    let wait = |attempt: &OtlpSpan| {
        let mut all = named(&spans, "wait").into_iter();
        all.find(|span| span.parent == attempt.id).unwrap()
    };
    assert!(wait(second).links.contains(&recovery.id), "{second:#?}");
    let again = named(&spans, "run again")[0];
    assert!(again.links.contains(&second.id), "{again:#?}");
    let [goal] = named(&spans, "goal")[..] else { panic!("{:?}", names(&spans)) };
    assert_eq!(parts(&spans, goal), ["plan", "run"].into());
    let links = &wait(join).links;
    assert!(links.contains(&goal.id) && links.contains(&second.id), "{links:#?}");

    // Passes that did something, and only those.
    let passes = named(&spans, "reconcile");
    assert!(
        passes.iter().any(|pass| pass.attribute("controller") == "agent"),
        "{:?}",
        names(&spans)
    );
    assert!(passes.iter().all(|pass| pass.attribute("outcome") != "unchanged"));
    for action in ["bury", "spawn"] {
        let planned = planned(&spans, action).unwrap();
        assert!(parts(&spans, planned).contains(action), "{planned:#?}");
    }

    // No orphan, none twice.
    let ids: HashMap<&str, &OtlpSpan> = spans.iter().map(|span| (span.id.as_str(), span)).collect();
    assert_eq!(ids.len(), spans.len(), "{:?}", names(&spans));
    for span in spans.iter().filter(|span| !span.parent.is_empty()) {
        let whole = ids.get(span.parent.as_str());
        assert!(whole.is_some_and(|whole| whole.trace == span.trace), "an orphan: {span:#?}");
    }
}

#[tokio::test]
async fn traces_should_go_on_where_a_killed_orchestrator_stopped() {
    let sink = OtlpSink::start();
    // As people name it: in the project's file, which agents read as well.
    let fleet = with_tasks().write().await;
    fleet.project.write(".env", &format!("OTEL_EXPORTER_OTLP_ENDPOINT={}\n", sink.url()));
    fleet.project.start();
    fleet.until_task("task-001", State::Running).await;
    fleet.kill_orchestrator().await;
    fleet.project.write("go", "");
    fleet.until_goal(Status::Complete).await;
    let spans = until(&sink, "the goal is told", |spans| {
        !named(spans, "goal").is_empty() && named(spans, "execute").len() == 2
    })
    .await;
    let attempts: BTreeSet<&str> =
        named(&spans, "attempt").iter().map(|span| span.attribute("orch.task")).collect();
    assert_eq!(attempts, ["task-001", "task-002"].into());
}

/// A model's program that takes the last task of two, and says that it is done.
const MODEL: &str = r#"#!/bin/sh
case $(cat) in
*'"step":"select"'*) echo '{"value": {"selected_task_id": "task-002", "justification": "it is the last", "confidence": 1}}' ;;
*'"step":"summarise"'*) echo '{"value": {"summary": "did it"}}' ;;
*) echo '{"value": {"status": "done", "notes": "", "outputs": [], "follow_ups": []}}' ;;
esac
"#;

#[tokio::test]
async fn choice_of_a_model_should_be_part_of_the_attempt_that_it_led_to() {
    let sink = OtlpSink::start();
    let tasks = "- task-001: Think\n- task-002: Think as well\n";
    let fleet = fleet(agents(&["worker_agent"]) + &goal(tasks))
        .provider("command")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &sink.url())
        .env("OTEL_BSP_SCHEDULE_DELAY", "200")
        .write()
        .await;
    fleet.think_by(MODEL, "");
    fleet.project.start();
    fleet.until_goal(Status::Complete).await;
    let spans = until(&sink, "both attempts are told", |spans| {
        named(spans, "attempt").len() == 2 && named(spans, "execute").len() == 2
    })
    .await;
    let of = |task: &str| {
        let mut all = named(&spans, "attempt").into_iter();
        all.find(|span| span.attribute("orch.task") == task).unwrap()
    };
    let (second, first) = (of("task-001"), of("task-002"));
    assert_eq!(parts(&spans, first), ["execute", "select", "wait"].into(), "{:?}", names(&spans));
    assert_eq!(parts(&spans, second), ["execute", "wait"].into());
    let [select] = named(&spans, "select")[..] else { panic!("{:?}", names(&spans)) };
    assert_eq!(parts(&spans, select), ["chat"].into());
    let chats = named(&spans, "chat");
    let steps: BTreeSet<&str> = chats.iter().map(|c| c.attribute("orch.llm.step")).collect();
    assert_eq!((chats.len(), steps), (5, ["execute", "select", "summarise"].into()));
    for chat in chats {
        let whole = spans.iter().find(|span| span.id == chat.parent);
        assert!(whole.is_some_and(|whole| whole.trace == chat.trace), "an orphan: {chat:#?}");
    }
    let shown = String::from_utf8(fleet.orch(&["trace", "task-002"]).stdout).unwrap();
    assert!(shown.contains("select"), "{shown}");
}

#[tokio::test]
async fn collector_that_hangs_or_is_gone_should_be_told_once_and_hinder_nobody() {
    let sink = OtlpSink::start();
    sink.hang();
    let fleet = traced(&sink).env("OTEL_EXPORTER_OTLP_TIMEOUT", "300").start().await;
    fleet.until_task("task-001", State::Running).await;
    fleet.project.write("go", "");
    fleet.until_goal(Status::Complete).await;
    wait_until("the trouble is told", DEADLINE, async || {
        let log = fleet.log();
        if log.contains("Spans do not reach their collector") { Ok(()) } else { Err(log) }
    })
    .await;
    drop(sink);
    let stopped = fleet.project.sysg(&["stop"]);
    let log = fleet.log();
    let told = log.lines().filter(|line| line.contains("Spans do not reach"));
    let who: Vec<&str> = told.filter_map(|line| line.split("Spans").next()?.get(20..)).collect();
    let once: BTreeSet<&str> = who.iter().copied().collect();
    assert_eq!(once.len(), who.len(), "told twice: {who:?}, {stopped:?}");
    assert!(fleet.all_agent_processes().is_empty() && fleet.orchestrators().is_empty());
}
