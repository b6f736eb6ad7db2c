//! Tasks that stand for others: done by an agent, and with nothing left of them on disk.

use model::goal::Status;
use model::task::State;

use crate::support::{agents, fleet, goal, id, task};

#[tokio::test]
async fn milestone_should_be_done_after_its_dependencies_and_take_no_process() {
    let tasks = task("task-001: Make (after: task-002)", "echo made > made")
        + &task("task-002: All is prepared", "# nothing\n")
        + &task("task-003: All is made (after: task-001)", "\n# nothing either");
    let fleet = fleet(agents(&["one_agent"]) + &goal(&tasks)).start().await;
    fleet.until_goal(Status::Complete).await;
    for name in ["task-001", "task-002", "task-003"] {
        let done = fleet.store.task(&id(name)).await.unwrap().unwrap();
        assert_eq!((done.status, done.attempt), (State::Done, 1), "{name}");
        let has_log = fleet.project.folder().join(".orch/logs").join(name).exists();
        assert_eq!(has_log, name == "task-001", "{name}");
    }
    let order: Vec<String> = fleet
        .events("task-complete")
        .await
        .iter()
        .map(|event| event.field("task").to_owned())
        .collect();
    assert_eq!(order, ["task-002", "task-001", "task-003"]);
}
