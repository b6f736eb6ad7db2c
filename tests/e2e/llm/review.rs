//! Reviews, rescues, and plans that are made again.

use model::goal::Status;
use model::task::State;
use serde_json::json;
use testkit::wait_until;
use testkit::{LlmServer, Say};

use super::script::{Asked, Cli, Tally, asked, calls_for, obey, plan, prose, start, thinking};
use crate::support::{DEADLINE, goal_001, id};

const ONE: &[(&str, &[&str])] = &[("t1", &[])];

fn reviewed(cli: Cli) -> String {
    prose(cli, &["builder_agent", "reviewer_agent", "manager_agent"], "- Review: on")
}

#[tokio::test]
async fn failed_review_should_be_mended_and_looked_at_again() {
    let reviews = Tally::default();
    let server = LlmServer::start(move |call| match asked(call) {
        Asked::Review if reviews.count("") == 0 => {
            Say::json(json!({ "verdict": "fail", "findings": ["the second line is missing"] }))
        }
        Asked::Do(task) if task.ends_with("__fix1") && call.round == 0 => {
            Say::shell("echo second >> t1.txt")
        }
        _ => obey(call, &[("t1", &[]), ("t2", &["t1"])]),
    });
    let cli = Cli::Claude;
    let Some(builder) = thinking(cli, &server, reviewed(cli)) else { return };
    let fleet = start(cli, &server, builder).await;
    fleet.until_goal(Status::Complete).await;

    assert_eq!(fleet.read(fleet.work("t1.txt")), "this is t1\nsecond\n");
    let fix = fleet.until_task("t1__fix1", State::Done).await;
    assert_eq!(fix.owner, None);
    let told = calls_for(&server, &Asked::Do("t1__fix1".to_owned()));
    assert!(told[0].text.contains("the second line is missing"), "{}", told[0].text);
    let qa = fleet.until_task("t1__qa", State::Done).await;
    assert_eq!((qa.failures, qa.detours.review), (0, 1));
    fleet.until_task("t1__integrate", State::Done).await;
    // What waits for a task waits for its last stage.
    let waits = fleet.store.dependencies(&goal_001(), &id("t2")).await.unwrap();
    assert_eq!(waits, [id("t1__integrate")]);
    let figures = fleet.store.figures(&goal_001()).await.unwrap();
    assert_eq!(figures.contradiction(), None, "{figures:?}");
}

#[tokio::test]
async fn review_that_never_passes_should_end_with_a_person() {
    let server = LlmServer::start(move |call| match asked(call) {
        Asked::Review => Say::json(json!({ "verdict": "fail", "findings": ["never good enough"] })),
        Asked::Do(_) if call.round == 0 => Say::write("t1.txt", "try"),
        _ => obey(call, ONE),
    });
    let cli = Cli::Claude;
    let Some(builder) = thinking(cli, &server, reviewed(cli)) else { return };
    let fleet = start(cli, &server, builder).await;
    let qa = fleet.until_task("t1__qa", State::Failed).await;
    assert_eq!(qa.detours.review, 3);
    let why = qa.last_error.unwrap();
    assert!(why.contains("never good enough"), "{why}");
    fleet.until_goal(Status::Failed).await;
    assert_eq!(calls_for(&server, &Asked::Review).len(), 4);
}

#[tokio::test]
async fn failure_that_can_be_mended_should_be_by_a_task_of_its_own() {
    let server = LlmServer::start(move |call| match asked(call) {
        Asked::Do(task) if task == "t1" && !call.text.contains("t1__recover1") => {
            Say::json(json!({
            "status": "failed", "outputs": [], "follow_ups": [], "notes": "the weights are not calibrated" }))
        }
        Asked::Do(task) if task.ends_with("__recover1") => Say::json(json!({
            "status": "done", "outputs": [], "follow_ups": [], "notes": "calibrated" })),
        Asked::Rescue => {
            Say::json(json!({ "recoverable": true, "reason": "they can be calibrated",
            "remediation_title": "Calibrate the weights", "remediation_steps": ["calibrate"],
            "confidence": 0.8 }))
        }
        _ => obey(call, ONE),
    });
    let cli = Cli::Claude;
    let Some(builder) = thinking(cli, &server, reviewed(cli)) else { return };
    let fleet = start(cli, &server, builder).await;
    fleet.until_goal(Status::Complete).await;
    let rescue = fleet.until_task("t1__recover1", State::Done).await;
    assert_eq!(rescue.spec.unwrap().title, "Calibrate the weights");
    let told = calls_for(&server, &Asked::Do("t1__recover1".to_owned()));
    assert!(told[0].text.contains("the weights are not calibrated"), "{}", told[0].text);
}

#[tokio::test]
async fn role_that_nobody_has_should_be_explained() {
    let server = LlmServer::start(|call| obey(call, ONE));
    let cli = Cli::Claude;
    let instructions = prose(cli, &["builder_agent"], "- Review: on");
    let Some(builder) = thinking(cli, &server, instructions) else { return };
    let fleet = start(cli, &server, builder).await;
    wait_until("the goal says which roles nobody has", DEADLINE, || async {
        let goal = fleet.store.goal(&goal_001()).await.unwrap();
        match goal.and_then(|goal| goal.problem) {
            Some(problem) if problem.contains("reviewer") && problem.contains("manager") => Ok(()),
            other => Err(format!("{other:?}\n{}", fleet.log())),
        }
    })
    .await;
}

#[tokio::test]
async fn changed_goal_should_be_planned_again_and_keep_what_is_done() {
    let server = LlmServer::start(|call| match asked(call) {
        Asked::Plan if call.text.contains("And one more") => {
            assert!(call.text.contains("Wrote what was asked for."), "{}", call.text);
            Say::json(plan(&[("t1", &[]), ("t2", &["t1"])]))
        }
        _ => obey(call, ONE),
    });
    let cli = Cli::Claude;
    let instructions = prose(cli, &["an_agent"], "");
    let Some(builder) = thinking(cli, &server, instructions.clone()) else { return };
    let fleet = start(cli, &server, builder).await;
    fleet.until_goal(Status::Complete).await;
    let more = instructions.replace("name in it.", "name in it. And one more.");
    fleet.project.write("INSTRUCTIONS.md", &more);
    fleet.until_task("t2", State::Done).await;
    let first = fleet.until_task("t1", State::Done).await;
    assert_eq!(first.attempt, 1, "it was done, and nothing of it changed");
}

#[tokio::test]
async fn instructions_should_reach_the_model_and_their_versions_be_kept() {
    let server = LlmServer::start(|call| obey(call, ONE));
    let cli = Cli::Claude;
    let Some(builder) = thinking(cli, &server, prose(cli, &["an_agent"], "")) else { return };
    let fleet = builder.write().await;
    fleet.project.write("instructions/an_agent.md", "Write in a friendly tone.\n");
    fleet.project.start();
    fleet.until_goal(Status::Complete).await;
    let told = calls_for(&server, &Asked::Do("t1".to_owned()));
    assert!(told[0].text.contains("Write in a friendly tone."), "{}", told[0].text);
    let history = fleet.orch(&["instructions", "history", "an_agent"]);
    assert!(history.status.success(), "{history:?}");
    let kept = fleet.store.instructions(&crate::support::name("an_agent"), &goal_001()).await;
    assert_eq!(kept.unwrap()[0].text, "Write in a friendly tone.\n");
}
