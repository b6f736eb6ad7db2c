//! Editing INSTRUCTIONS.md while the fleet runs.

use std::fs;
use std::time::Instant;

use model::GoalId;
use model::agent::Phase;
use model::goal::Status;
use model::task::State;
use process::{Identity, Signal};
use serde_json::Value;
use store::agent::Agent;
use store::goal::Goal;
use testkit::wait_until;

use crate::support::{
    DEADLINE, Fleet, agents, fleet, goal, goal_001, id, identity, name, signal, task,
};

/// Tells that it runs, and waits for the file `go-<task>`.
const GATED: &str = "echo \"$ORCH_TASK $ORCH_ATTEMPT $$\" >> started\n\
    until test -e \"$ORCH_PROJECT/go-$ORCH_TASK\"; do sleep 0.05; done\n\
    echo \"$ORCH_TASK $ORCH_ATTEMPT\" >> finished";

/// Lets a gated task end.
fn open(fleet: &Fleet, task: &str) {
    fleet.project.write(&format!("go-{task}"), "");
}

/// The agents last, so that one can be appended.
fn project(tasks: &str, names: &[&str]) -> String {
    goal(tasks) + "\n" + &agents(names)
}

/// Runs a line of shell that must succeed.
fn edit(fleet: &Fleet, line: &str) {
    let output = fleet.sh(line);
    assert!(output.status.success(), "{line}: {output:?}");
}

/// The shell of the nth gated attempt, from 1.
async fn shell(fleet: &Fleet, nth: usize) -> Identity {
    wait_until(&format!("gated attempt {nth} has begun"), DEADLINE, || async {
        let started = fleet.read(fleet.work("started"));
        let pid = started.lines().nth(nth - 1).and_then(|line| line.split(' ').nth(2));
        let shell = pid.and_then(|pid| Identity::of(pid.parse().ok()?).ok()?);
        shell.ok_or_else(|| format!("{started}\n{}", fleet.log()))
    })
    .await
}

async fn until_goal_is(fleet: &Fleet, what: &str, is_so: impl Fn(&Goal) -> bool) -> Goal {
    let goal = goal_001();
    wait_until(&format!("goal-001 {what}"), DEADLINE, || async {
        match fleet.store.goal(&goal).await {
            Ok(Some(goal)) if is_so(&goal) => Ok(goal),
            other => Err(format!("{other:?}\n{}", fleet.log())),
        }
    })
    .await
}

/// The problems that `orch status` shows, once they are as wanted.
async fn until_problems(
    fleet: &Fleet,
    what: &str,
    are_so: impl Fn(&[Value]) -> bool,
) -> Vec<Value> {
    wait_until(what, DEADLINE, || async {
        let problems = fleet.status()["problems"].as_array().cloned().unwrap_or_default();
        if are_so(&problems) { Ok(problems) } else { Err(format!("{problems:?}\n{}", fleet.log())) }
    })
    .await
}

fn has_vim(fleet: &Fleet) -> bool {
    let found = fleet.sh("command -v vim").status.success();
    if !found {
        println!("vim is not installed: saving by it is not tested");
    }
    found
}

const VIM: &str = "vim -es -N -u NONE -i NONE";

#[tokio::test]
async fn added_agent_should_run_however_the_file_is_saved() {
    let tasks = task("task-001: Wait", GATED);
    let fleet = fleet(project(&tasks, &["first_agent"])).start().await;
    let first = fleet.until_registered("first_agent").await;
    shell(&fleet, 1).await;
    // systemg answers slowly while it starts.
    let runs = |agent: &Agent| agent.status.phase == Some(Phase::Running);
    fleet.until_agent("first_agent", "is known to run", runs).await;

    let vim = |how: &str| format!("{VIM} -c 'set {how}' -c '$r added' -c wq INSTRUCTIONS.md");
    let mut saves = vec![
        ("append_agent", "cat added >> INSTRUCTIONS.md".to_owned()),
        ("rename_agent", "cat INSTRUCTIONS.md added > d && mv d INSTRUCTIONS.md".to_owned()),
        ("rewrite_agent", "cat INSTRUCTIONS.md added > d && cat d > INSTRUCTIONS.md".to_owned()),
    ];
    if has_vim(&fleet) {
        saves.push(("vim_rename_agent", vim("writebackup backupcopy=no")));
        saves.push(("vim_in_place_agent", vim("nowritebackup backupcopy=yes")));
    }
    let count = saves.len();
    for (agent, save) in saves {
        let section = agents(&[agent]).replace("## Agents\n", "");
        fleet.project.write("added", &section);
        let began = Instant::now();
        edit(&fleet, &save);
        fleet.until_registered(agent).await;
        println!("{agent} runs {:?} after the file was saved", began.elapsed());
    }

    let now = fleet.until_registered("first_agent").await;
    assert_eq!((now.pid, now.incarnation), (first.pid, first.incarnation));
    let running = fleet.until_task("task-001", State::Running).await;
    assert_eq!((running.attempt, running.losses), (1, 0));
    assert_eq!(fleet.events("agent-register").await.len(), count + 1);
    assert_eq!(fleet.events("agent-deregister").await.len(), 0);
}

#[tokio::test]
async fn removed_agent_should_hand_its_task_back_and_be_gone() {
    let tasks = task("task-001: Wait", GATED);
    let fleet = fleet(project(&tasks, &["first_agent"])).start().await;
    let first = fleet.until_registered("first_agent").await;
    let block = shell(&fleet, 1).await;
    fleet.project.write("added", &agents(&["second_agent"]).replace("## Agents\n", ""));
    edit(&fleet, "cat added >> INSTRUCTIONS.md");
    fleet.until_registered("second_agent").await;

    let remove = if has_vim(&fleet) {
        format!("{VIM} -c 'g/^### first_agent/,+2d' -c wq INSTRUCTIONS.md")
    } else {
        "sed -i '/^### first_agent/,+2d' INSTRUCTIONS.md".to_owned()
    };
    edit(&fleet, &remove);
    fleet
        .until_agent("first_agent", "is gone", |agent| {
            agent.registered.is_none() && agent.status.phase == Some(Phase::Gone)
        })
        .await;
    wait_until("its process is gone", DEADLINE, || async {
        let left = fleet.agent_processes("first_agent");
        if left.is_empty() { Ok(()) } else { Err(fleet.describe(&left)) }
    })
    .await;
    assert!(!identity(&first).is_alive());
    assert!(!block.is_alive(), "its block still runs");

    shell(&fleet, 2).await;
    let running = fleet.until_task("task-001", State::Running).await;
    assert_eq!(running.owner, Some(name("second_agent")));
    assert_eq!((running.attempt, running.failures, running.losses), (2, 0, 0));
    let released = fleet.events("task-release").await;
    assert_eq!(released.len(), 1, "{released:?}");
    assert_eq!(released[0].field("agent"), "first_agent");
    open(&fleet, "task-001");
    fleet.until_goal(Status::Complete).await;
    assert_eq!(fleet.events("task-complete").await.len(), 1);
}

/// One agent, declared as given, and two goals.
fn changing(goal_id: &str, level: &str, heartbeat: &str) -> String {
    let tasks: String = (1..=3).map(|n| task(&format!("task-00{n}: Wait"), GATED)).collect();
    let other = task("task-101: Quick", "true");
    format!(
        "{}\n### goal-002\nAnother goal.\n\n#### Tasks\n{other}\n## Agents\n\n### worker_agent\n\
         - Goal: {goal_id}\n- Heartbeat: ./heartbeat/{heartbeat}.md\n- Log Level: {level}\n",
        goal(&tasks)
    )
}

#[tokio::test]
async fn changed_agent_should_be_replaced_after_its_task() {
    let fleet = fleet(changing("goal-001", "INFO", "worker")).start().await;
    let mut before = fleet.until_registered("worker_agent").await;
    let steps = [
        ("task-001", ("goal-001", "ERROR", "worker"), ["--log-level", "ERROR"]),
        ("task-002", ("goal-001", "ERROR", "other"), ["--heartbeat", "other.md"]),
        ("task-003", ("goal-002", "ERROR", "other"), ["--goal-id", "goal-002"]),
    ];
    for (nth, (task, (goal, level, heartbeat), [flag, value])) in (1..).zip(steps) {
        let block = shell(&fleet, nth).await;
        let held = fleet.until_task(task, State::Running).await;
        let in_phase = async |wanted: Phase| {
            let is_so = |agent: &Agent| agent.status.phase == Some(wanted);
            fleet.until_agent("worker_agent", wanted.as_str(), is_so).await
        };
        // What its predecessor left there says nothing of this one.
        in_phase(Phase::Running).await;
        fleet.project.write("INSTRUCTIONS.md", &changing(goal, level, heartbeat));
        in_phase(Phase::Draining).await;
        let now = fleet.until_task(task, State::Running).await;
        assert_eq!((now.attempt, now.epoch), (1, held.epoch), "{task} was interrupted");
        assert!(block.is_alive() && identity(&before).is_alive(), "{task} was interrupted");

        open(&fleet, task);
        let after = fleet.until_replaced("worker_agent", &before).await;
        let done = fleet.until_task(task, State::Done).await;
        assert_eq!((done.attempt, done.losses), (1, 0));
        assert_ne!(after.spec_hash, before.spec_hash);
        let args = fs::read(format!("/proc/{}/cmdline", after.pid)).unwrap();
        let args: Vec<String> = args
            .split(|byte| *byte == 0)
            .map(|arg| String::from_utf8_lossy(arg).into_owned())
            .collect();
        let given = args.windows(2).find(|pair| pair[0] == flag).map(|pair| pair[1].as_str());
        assert!(given.is_some_and(|given| given.ends_with(value)), "{flag}: {given:?}");
        before = after;
    }
    assert_eq!(before.goal, GoalId::new("goal-002").ok());
    fleet.until_task("task-101", State::Done).await;
    fleet.until_goal(Status::Complete).await;
    let order: String = (1..=3).map(|n| format!("task-00{n} 1\n")).collect();
    assert_eq!(fleet.read(fleet.work("finished")), order);

    // The new heartbeat file counts; and one without a task leaves at once.
    edit(&fleet, "echo PAUSE >> heartbeat/other.md");
    fleet.until_agent("worker_agent", "is paused", |agent| agent.paused).await;
    fleet.project.write("INSTRUCTIONS.md", &changing("goal-002", "DEBUG", "other"));
    fleet.until_replaced("worker_agent", &before).await;
    assert_eq!(fleet.agent_processes("worker_agent").len(), 1);
    assert_eq!(fleet.events("task-lose").await.len() + fleet.events("task-release").await.len(), 0);
}

/// How a file is broken, what is said of it, and where.
struct Break {
    how: &'static str,
    says: &'static str,
    line: Option<u64>,
    column: Option<u64>,
}

const fn broken(
    how: &'static str,
    says: &'static str,
    line: Option<u64>,
    column: Option<u64>,
) -> Break {
    Break { how, says, line, column }
}

/// `$F` is the file.
const BREAKS: &[Break] = &[
    broken("rm $F", "does not exist", None, None),
    broken(": > $F", "the file is empty", Some(1), Some(1)),
    broken("printf '## Age' > $F", "declares", Some(1), Some(1)),
    broken("printf '## Agents\\n\\n### wor' > $F", "`wor`", Some(3), Some(5)),
    broken("printf '## Agents\\n\\n### first_agent\\n- Go' > $F", "first_agent", Some(3), Some(5)),
    broken("head -c 100 $F > d && mv d $F", "never closed", Some(9), Some(3)),
    broken(
        "printf 'Dear fleet,\\n\\nplease work.\\n' > $F",
        "declares no agents",
        Some(1),
        Some(1),
    ),
    broken("printf '## Agents\\n\\nab\\377\\376\\n' > $F", "not UTF-8", Some(3), None),
    broken("printf '## Agents\\n\\000\\n' > $F", "NUL", Some(2), None),
    broken("head -c 1048577 /dev/zero | tr '\\000' a > $F", "1048577 bytes", None, None),
    broken("rm $F && mkfifo $F", "a FIFO", None, None),
    broken("rm $F && mkdir $F", "a folder", None, None),
    broken("mv $F $HOME/x.md && ln -s $HOME/x.md $F", "outside the project", None, None),
    broken(
        "sed -i 's/Join (after: task-001)/Join (after: task-002)/' $F",
        "circle",
        Some(14),
        Some(3),
    ),
    broken("sed -i 's/- Goal: goal-001/- Gaol: goal-001/' $F", "goal", Some(22), Some(5)),
];

/// The first error that says this, where one does.
fn saying<'a>(problems: &'a [Value], says: &str) -> Option<&'a Value> {
    problems.iter().find(|problem| {
        let text = |key: &str| problem[key].as_str().is_some_and(|text| text.contains(says));
        problem["severity"] == "error" && (text("message") || text("help"))
    })
}

#[tokio::test]
async fn file_that_cannot_be_read_or_understood_should_stop_nothing() {
    let tasks = task("task-001: Wait", GATED) + &task("task-002: Join (after: task-001)", "true");
    let fleet = fleet(project(&tasks, &["first_agent", "second_agent"])).start().await;
    let agents = ["first_agent", "second_agent"];
    let before = [fleet.until_registered(agents[0]).await, fleet.until_registered(agents[1]).await];
    let block = shell(&fleet, 1).await;
    until_problems(&fleet, "nothing is wrong", <[Value]>::is_empty).await;
    edit(&fleet, "cp INSTRUCTIONS.md good.md");

    for Break { how, says, line, column } in BREAKS {
        edit(&fleet, &format!("F=INSTRUCTIONS.md; {how}"));
        // One that looks half-written is taken at its word only after a while.
        let settled = |problem: &Value| !problem["message"].to_string().contains("no line end");
        let problems = until_problems(&fleet, how, |problems| {
            saying(problems, says).is_some() && problems.iter().all(settled)
        })
        .await;
        let problem = saying(&problems, says).unwrap();
        assert_eq!(problem["file"], "INSTRUCTIONS.md", "{how}: {problem}");
        for (key, wanted) in [("line", line), ("column", column)] {
            if let Some(wanted) = wanted {
                assert_eq!(problem[key], *wanted, "{how}: {key} of {problem}");
            }
        }
        let checked = fleet.orch(&["validate"]);
        assert!(!checked.status.success(), "{how}: {checked:?}");
        let shown = String::from_utf8_lossy(&checked.stdout).into_owned()
            + &String::from_utf8_lossy(&checked.stderr);
        assert!(shown.contains(says), "{how}: {shown}");
        if let (Some(line), Some(column)) = (line, column) {
            assert!(shown.contains(&format!("{line}:{column}")), "{how}: {shown}");
        }
        let restore = "rm -rf d INSTRUCTIONS.md $HOME/x.md && cp good.md INSTRUCTIONS.md";
        edit(&fleet, restore);
        until_problems(&fleet, &format!("healed after {how}"), <[Value]>::is_empty).await;
        assert!(fleet.orch(&["validate"]).status.success(), "{how}");
    }

    for (agent, old) in agents.iter().zip(&before) {
        let now = fleet.store.agent(&name(agent)).await.unwrap().registered.unwrap();
        assert_eq!((now.pid, now.incarnation), (old.pid, old.incarnation), "{agent}");
        assert_eq!(fleet.agent_processes(agent), [identity(old)]);
    }
    assert!(block.is_alive());
    assert_eq!(fleet.until_task("task-001", State::Running).await.attempt, 1);
    assert_eq!(fleet.events("goal-accept").await.len(), 1, "it was planned again");
    let phases = fleet.events("agent-phase").await;
    assert!(phases.iter().all(|event| event.field("phase") != "draining"), "{phases:?}");
    // It is still followed.
    edit(
        &fleet,
        "sed 's/second_agent/third_agent/g' good.md >> INSTRUCTIONS.md; sed 's/second/third/g' good.md > INSTRUCTIONS.md",
    );
    fleet.until_registered("third_agent").await;
    open(&fleet, "task-001");
    fleet.until_goal(Status::Complete).await;
}

#[tokio::test]
async fn last_good_declaration_should_survive_restarts_over_a_broken_file() {
    let tasks = task("task-001: Wait", GATED);
    let fleet = fleet(project(&tasks, &["first_agent", "second_agent"])).start().await;
    for agent in ["first_agent", "second_agent"] {
        fleet.until_registered(agent).await;
    }
    shell(&fleet, 1).await;
    let held = fleet.until_task("task-001", State::Running).await;
    let (busy_name, idle_name) = match &held.owner {
        Some(owner) if owner.as_str() == "first_agent" => ("first_agent", "second_agent"),
        _ => ("second_agent", "first_agent"),
    };
    let busy = fleet.until_registered(busy_name).await;
    let mut idle = fleet.until_registered(idle_name).await;

    for (how, says) in [("printf '## Age' >", "declares"), ("rm", "does not exist")] {
        edit(&fleet, &format!("{how} INSTRUCTIONS.md"));
        until_problems(&fleet, how, |problems| saying(problems, says).is_some()).await;
        fleet.kill_orchestrator().await;
        until_problems(&fleet, how, |problems| saying(problems, says).is_some()).await;
        // What is declared is restored, not only left alone.
        signal(identity(&idle), Signal::KILL);
        idle = fleet.until_replaced(idle_name, &idle).await;
    }
    let now = fleet.until_registered(busy_name).await;
    assert_eq!((now.pid, now.incarnation), (busy.pid, busy.incarnation));
    assert_eq!(fleet.until_task("task-001", State::Running).await.epoch, held.epoch);

    fleet.project.stop();
    fleet.project.start();
    fleet.until_replaced(idle_name, &idle).await;
    fleet.until_replaced(busy_name, &busy).await;
    open(&fleet, "task-001");
    fleet.until_goal(Status::Complete).await;
}

#[tokio::test]
async fn changed_goal_should_keep_what_is_done_and_run_what_changed() {
    let text = |prose: &str, tasks: &str| {
        project(tasks, &["worker_agent"]).replace("A goal of a test.", prose)
    };
    let first = task("task-001: Keep", "echo kept >> keep.log")
        + &task("task-002: Change (after: task-001)", "echo one >> change.log")
        + &task("task-003: Remove", "true")
        + &task("task-004: Depend (after: task-002)", "echo depended >> depend.log");
    let fleet = fleet(text("First.", &first)).start().await;
    fleet.until_goal(Status::Complete).await;
    let kept = fleet.store.task(&id("task-001")).await.unwrap().unwrap();

    let second = task("task-001: Keep", "echo kept >> keep.log")
        + &task("task-002: Change (after: task-001)", "echo two >> change.log")
        + &task("task-004: Depend (after: task-002)", "echo depended >> depend.log")
        + &task("task-005: Add (after: task-002)", "cp change.log add.log");
    fleet.project.write("INSTRUCTIONS.md", &text("First.", &second));
    let goal = until_goal_is(&fleet, "is complete again", |goal| {
        goal.generation == 2 && goal.status == Status::Complete
    })
    .await;
    assert_eq!((goal.counts.done, goal.counts.total()), (4, 4));
    let difference = goal.difference.unwrap_or_default();
    assert!(!difference.is_empty());
    assert!(String::from_utf8_lossy(&fleet.orch(&["status"]).stdout).contains("last plan"));
    assert_eq!(fleet.store.task(&id("task-003")).await.unwrap(), None);
    assert_eq!(fleet.store.task(&id("task-001")).await.unwrap().unwrap().finished, kept.finished);
    for (file, text) in [
        ("keep.log", "kept\n"),
        ("change.log", "one\ntwo\n"),
        ("depend.log", "depended\n"),
        ("add.log", "one\ntwo\n"),
    ] {
        assert_eq!(fleet.read(fleet.work(file)), text, "{file}; {difference}");
    }

    // Neither other words nor REPARSE run anything again.
    let completions = fleet.events("task-complete").await.len();
    let hash = goal.spec_hash;
    fleet.project.write("INSTRUCTIONS.md", &text("Second.", &second));
    until_goal_is(&fleet, "has the new words", |goal| goal.spec_hash != hash).await;
    edit(&fleet, "echo REPARSE >> heartbeat/worker_agent.md");
    let goal = until_goal_is(&fleet, "has served REPARSE", |goal| {
        goal.reparses == 1 && goal.planning.reparses == 1
    })
    .await;
    assert_eq!((goal.status, goal.generation), (Status::Complete, 2));
    assert_eq!(fleet.events("task-complete").await.len(), completions);
    assert_eq!(fleet.store.figures(&goal_001()).await.unwrap().contradiction(), None);
}

#[tokio::test]
async fn running_task_should_finish_when_it_changes_and_end_when_it_is_removed() {
    let gated = |word: &str| format!("{GATED}\necho {word} >> words");
    let text = |tasks: &str| project(tasks, &["worker_agent"]);
    let old = task("task-001: Change", &gated("old"));
    let fleet = fleet(text(&old)).start().await;
    let agent = fleet.until_registered("worker_agent").await;
    let block = shell(&fleet, 1).await;

    let new = task("task-001: Change", &gated("new"));
    let second = task("task-002: Remove (after: task-001)", GATED);
    let third = task("task-003: Go on (after: task-001)", "echo went on >> words");
    fleet.project.write("INSTRUCTIONS.md", &text(&(new.clone() + &second + &third)));
    until_goal_is(&fleet, "has the new plan", |goal| goal.generation == 2).await;
    assert_eq!(fleet.until_task("task-001", State::Running).await.attempt, 1);
    assert!(block.is_alive(), "it was interrupted");
    open(&fleet, "task-001");
    let done = fleet.until_task("task-001", State::Done).await;
    assert_eq!((done.attempt, done.failures, done.losses), (2, 0, 0));
    assert_eq!(fleet.read(fleet.work("words")), "old\nnew\n");

    let block = shell(&fleet, 3).await;
    fleet.project.write("INSTRUCTIONS.md", &text(&(new + &third)));
    fleet.until_goal(Status::Complete).await;
    wait_until("the removed task's block is ended", DEADLINE, || async {
        if block.is_alive() { Err(block.to_string()) } else { Ok(()) }
    })
    .await;
    assert_eq!(fleet.read(fleet.work("words")), "old\nnew\nwent on\n");
    let now = fleet.until_registered("worker_agent").await;
    assert_eq!(now.pid, agent.pid);
    assert_eq!(fleet.events("task-complete").await.len(), 2);
    assert_eq!(fleet.store.figures(&goal_001()).await.unwrap().contradiction(), None);
}
