//! What Prometheus is told of a whole fleet, and what the fleet bears of it.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use model::goal::Status;
use model::task::State;
use process::Signal;
use testkit::{free_port, http_get, in_path, wait_until};

use crate::support::{Builder, DEADLINE, Fleet, agents, fleet, goal, identity, signal, task};

/// Waits for the file `go`.
const WAITING: &str = "until test -e \"$ORCH_PROJECT/go\"; do sleep 0.05; done; echo x > out.md";
const HOW: &str = "make prometheus";

fn with_tasks(metrics: u16) -> Builder {
    let tasks = task("task-001: Wait (artifacts: out.md)", WAITING)
        + &task("task-002: Join (after: task-001; role: worker)", "true");
    fleet(agents(&["worker_agent"]) + &goal(&tasks)).args(&["--metrics-addr", &metrics.to_string()])
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

/// One value of a scrape: that of the line that begins so.
pub(crate) fn value(scrape: &str, series: &str) -> Option<f64> {
    let line = scrape.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    line.parse().ok()
}

pub(crate) async fn until_value(port: u16, series: &str, wanted: f64) -> String {
    wait_until(&format!("{series} is {wanted}"), DEADLINE, async || {
        let scrape = http_get(port, "/metrics", "text/plain")?;
        match value(&scrape, series) {
            Some(found) if (found - wanted).abs() < 1e-9 => Ok(scrape),
            other => Err(format!("{other:?} in {scrape}")),
        }
    })
    .await
}

/// A Prometheus that reads this fleet as `deploy/prometheus` says, but more often.
struct Prometheus {
    port: u16,
    child: Child,
}

impl Prometheus {
    async fn start(program: &Path, fleet: &Fleet, metrics: u16) -> Self {
        let from = deploy().join("prometheus");
        let config = std::fs::read_to_string(from.join("prometheus.yml")).unwrap();
        assert!(config.contains("127.0.0.1:9464") && config.contains("15s"), "{config}");
        let config =
            config.replace("127.0.0.1:9464", &format!("127.0.0.1:{metrics}")).replace("15s", "1s");
        fleet.project.write("prometheus/prometheus.yml", &config);
        let rules = std::fs::read_to_string(from.join("alerts.yml")).unwrap();
        fleet.project.write("prometheus/alerts.yml", &rules);
        let port = free_port();
        let child = fleet
            .project
            .command(program)
            .args([
                "--config.file=prometheus/prometheus.yml",
                "--storage.tsdb.path=prometheus/data",
            ])
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(fleet.path("prometheus/log")).unwrap())
            .spawn()
            .unwrap();
        let prometheus = Self { port, child };
        prometheus.until("up{job=\"orch\"}", 1.0, fleet).await;
        prometheus
    }

    fn ask(&self, path: &str) -> Result<serde_json::Value, String> {
        let answer = http_get(self.port, path, "*/*")?;
        serde_json::from_str(&answer).map_err(|error| format!("{error}: {answer}"))
    }

    /// What a query finds.
    fn results(&self, query: &str) -> Result<Vec<serde_json::Value>, String> {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.ask(&format!("/api/v1/query?query={escaped}"))?;
        answer["data"]["result"].as_array().cloned().ok_or_else(|| answer.to_string())
    }

    /// The only value of a query.
    fn query(&self, query: &str) -> Result<f64, String> {
        let value = |one: &serde_json::Value| one["value"][1].as_str()?.parse().ok();
        match &self.results(query)?[..] {
            [one] => value(one).ok_or_else(|| one.to_string()),
            other => Err(format!("{other:?}")),
        }
    }

    async fn until(&self, query: &str, wanted: f64, fleet: &Fleet) {
        wait_until(&format!("{query} is {wanted}"), DEADLINE, async || match self.query(query) {
            Ok(found) if (found - wanted).abs() < 1e-9 => Ok(()),
            other => Err(format!("{other:?}\n{}", fleet.read(fleet.path("prometheus/log")))),
        })
        .await;
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[tokio::test]
async fn prometheus_should_see_the_tasks_and_the_kill_of_an_agent() {
    let Some(program) = in_path("prometheus", HOW) else { return };
    let metrics = free_port();
    let fleet = with_tasks(metrics).start().await;
    fleet.until_task("task-001", State::Running).await;
    let prometheus = Prometheus::start(&program, &fleet, metrics).await;
    let tasks = |role: &str, state: &str| {
        format!("orch_tasks{{goal=\"goal-001\",role=\"{role}\",state=\"{state}\"}}")
    };
    prometheus.until(&tasks("*", "running"), 1.0, &fleet).await;
    prometheus.until(&tasks("worker", "blocked"), 1.0, &fleet).await;

    fleet.finish_after_a_kill().await;

    for (query, wanted) in [
        (tasks("worker", "done").as_str(), 1.0),
        ("sum by (goal, state) (orch_tasks{state=\"done\"})", 2.0),
        ("sum(orch_tasks)", 2.0),
        ("sum(orch_goals{status=\"complete\"})", 1.0),
        ("orch_agents{phase=\"running\"}", 1.0),
        ("orch_agent_restarts_total{agent=\"worker_agent\"}", 1.0),
        ("orch_agent_deaths_total{agent=\"worker_agent\"}", 1.0),
        ("orch_recovery_duration_seconds_count", 1.0),
        ("orch_recovery_leg_duration_seconds_count{leg=\"run-again\"}", 1.0),
        ("orch_task_transitions_total{cause=\"claim\"}", 3.0),
        ("orch_task_transitions_total{cause=\"lose\"}", 1.0),
        ("orch_task_transitions_total{cause=\"complete\"}", 2.0),
        ("orch_task_wait_duration_seconds_count", 3.0),
        ("orch_task_attempt_duration_seconds_count{outcome=\"complete\"}", 2.0),
        ("sum(orch_leader)", 4.0),
        ("sum(orch_controller_running)", 4.0),
        ("count(orch_controller_resyncs_total > 0)", 4.0),
        ("count(orch_controller_passes_total{controller=\"agent\"} > 0)", 1.0),
        ("orch_redis_up", 1.0),
        ("count(orch_project_disk_free_bytes > 0)", 1.0),
        ("count(orch_redis_call_duration_seconds_count{call=\"take the lead\"} > 0)", 1.0),
        ("count(orch_agent_redis_call_duration_seconds_count{call=\"complete a task\"} > 0)", 1.0),
        ("count(ALERTS{alertstate=\"firing\",severity=\"critical\"}) or vector(0)", 0.0),
    ] {
        prometheus.until(query, wanted, &fleet).await;
    }

    assert_files_ask_for_what_is_told(&prometheus, metrics).await;
}

/// What the dashboard, the rules and the documentation ask for is there, or would be.
async fn assert_files_ask_for_what_is_told(prometheus: &Prometheus, metrics: u16) {
    let listed = http_get(metrics, "/", "*/*").unwrap();
    let known: BTreeSet<&str> =
        listed.split('`').filter(|word| word.starts_with("orch_")).collect();
    for file in ["deploy/grafana/orch.json", "deploy/prometheus/alerts.yml", "docs/metrics.md"] {
        for name in names(&read(file)) {
            let parts = ["_bucket", "_count", "_sum"];
            let whole = parts.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
            assert!(known.contains(name) || known.contains(whole), "{name} of {file}");
        }
    }
    let board: serde_json::Value = serde_json::from_str(&read("deploy/grafana/orch.json")).unwrap();
    let targets = targets(&board);
    assert!(targets.len() > 40, "{targets:?}");
    for (query, legend) in targets {
        // As Grafana does before it asks.
        let query = query.replace("$__rate_interval", "4m").replace("$goal", ".*");
        assert!(!query.contains('$'), "{query}");
        // No model was asked, and what should never happen did not.
        let may_be_none = query.contains("orch_llm_") || query.ends_with("> 0");
        let found = wait_until(&query, DEADLINE, async || match prometheus.results(&query)? {
            found if found.is_empty() && !may_be_none => Err("it finds nothing".to_owned()),
            found => Ok(found),
        })
        .await;
        let shown = legend.split("{{").skip(1).filter_map(|rest| rest.split_once("}}"));
        for (label, _) in shown {
            let lacks = found.iter().find(|series| series["metric"][label].is_null());
            assert_eq!(lacks, None, "{label} of {query}");
        }
    }
    let docs = read("docs/metrics.md");
    let questions = docs.lines().filter_map(|line| line.split_once("? | `")?.1.strip_suffix("` |"));
    let questions: Vec<String> = questions.map(|query| query.replace("\\|", "|")).collect();
    assert!(questions.len() > 5, "{questions:?}");
    for query in questions {
        prometheus.results(&query).unwrap_or_else(|error| panic!("{query}: {error}"));
    }
    let rules = prometheus.ask("/api/v1/rules").unwrap();
    let groups = rules["data"]["groups"].as_array().unwrap();
    for rule in groups.iter().flat_map(|group| group["rules"].as_array().unwrap()) {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
}

/// A file of the repository.
fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// What a dashboard asks, wherever it does, and how it names what is found.
fn targets(board: &serde_json::Value) -> Vec<(&str, &str)> {
    if let Some(query) = board["expr"].as_str() {
        return vec![(query, board["legendFormat"].as_str().unwrap_or_default())];
    }
    let fields = board.as_object().into_iter().flat_map(serde_json::Map::values);
    fields.chain(board.as_array().into_iter().flatten()).flat_map(targets).collect()
}

/// The metrics of ours that a text names.
fn names(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("orch_"))
        .collect()
}

#[test]
fn files_for_prometheus_should_please_promtool() {
    let Some(promtool) = in_path("promtool", HOW) else { return };
    let folder = deploy().join("prometheus");
    for args in [
        &["check", "config", "prometheus.yml"][..],
        &["check", "rules", "--lint=all", "--lint-fatal", "alerts.yml"],
        &["test", "rules", "alerts_test.yml"],
    ] {
        let mut command = std::process::Command::new(&promtool);
        let output = command.args(args).current_dir(&folder).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
    }
    // Each alert is tested, and says where it is told what to do.
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
    let (rules, tests) = (read(folder.join("alerts.yml")), read(folder.join("alerts_test.yml")));
    let docs = read(deploy().join("../docs/metrics.md"));
    let alerts: Vec<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 15, "{alerts:?}");
    for alert in alerts {
        assert!(tests.contains(alert), "{alert} is not tested");
        let runbook = format!("runbook: docs/metrics.md#{}\n", alert.to_lowercase());
        assert!(rules.contains(&runbook), "{alert} names no runbook");
        assert!(docs.contains(&format!("### {alert}\n")), "{alert} is not in docs/metrics.md");
    }
    // Grafana is not at hand; that it is JSON and every panel asks for something is seen.
    let board: serde_json::Value =
        serde_json::from_str(&read(deploy().join("grafana/orch.json"))).unwrap();
    for panel in board["panels"].as_array().unwrap().iter().filter(|p| p["type"] != "row") {
        assert!(panel["targets"].as_array().is_some_and(|targets| !targets.is_empty()), "{panel}");
    }
}

#[tokio::test]
async fn counts_should_go_on_where_a_killed_orchestrator_was_last_asked() {
    let metrics = free_port();
    let claims = "orch_task_transitions_total{goal=\"goal-001\",cause=\"claim\"}";
    let fleet = with_tasks(metrics).start().await;
    fleet.until_task("task-001", State::Running).await;
    until_value(metrics, claims, 1.0).await;

    // The first claim was told, what follows was not: its successor tells that, once, also
    // where somebody broke what says what waits for what.
    fleet.redis("HSET dag:goal-001:deps ghost broken");
    fleet.kill_orchestrator().await;
    let before = fleet.until_registered("worker_agent").await;
    signal(identity(&before), Signal::KILL);
    fleet.until_replaced("worker_agent", &before).await;
    fleet.until_task("task-001", State::Running).await;
    fleet.kill_orchestrator().await;
    fleet.project.write("go", "");
    fleet.until_goal(Status::Complete).await;
    let scrape = until_value(metrics, claims, 2.0).await;
    assert_eq!(value(&scrape, "orch_recovery_duration_seconds_count"), Some(1.0), "{scrape}");
    assert_eq!(value(&scrape, "orch_task_wait_duration_seconds_count"), Some(2.0), "{scrape}");
}

#[tokio::test]
async fn port_that_is_taken_should_be_told_and_had_once_it_is_free() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = taken.local_addr().unwrap().port();
    let fleet = with_tasks(metrics).start().await;
    fleet.project.write("go", "");
    fleet.until_goal(Status::Complete).await;
    let warning = format!("Cannot tell metrics at 127.0.0.1:{metrics}");
    assert!(fleet.log().contains(&warning), "{}", fleet.log());
    drop(taken);
    until_value(metrics, "orch_tasks{goal=\"goal-001\",role=\"worker\",state=\"done\"}", 1.0).await;
}

#[tokio::test]
async fn who_asks_and_does_not_listen_should_hinder_nobody() {
    let metrics = free_port();
    let fleet = with_tasks(metrics).start().await;
    fleet.until_task("task-001", State::Running).await;
    until_value(metrics, "orch_redis_up", 1.0).await;
    let mut silent = Vec::new();
    for at in 0..40 {
        let mut stream = TcpStream::connect(("127.0.0.1", metrics)).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        // Half of a request, or none.
        if at % 2 == 0 {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHo").unwrap();
        }
        silent.push(stream);
    }
    fleet.project.write("go", "");
    fleet.until_goal(Status::Complete).await;
    until_value(metrics, "orch_tasks{goal=\"goal-001\",role=\"worker\",state=\"done\"}", 1.0).await;
    drop(silent);

    // Whatever else is asked has an answer, too.
    assert!(http_get(metrics, "/other", "*/*").unwrap_err().contains(" 404 "));
    let open = http_get(metrics, "/metrics", "application/openmetrics-text;version=1.0.0").unwrap();
    assert!(open.ends_with("# EOF\n"), "{open}");
    let no_redis = fleet.redis_process();
    signal(no_redis, Signal::STOP);
    let scrape = until_value(metrics, "orch_redis_up", 0.0).await;
    signal(no_redis, Signal::CONT);
    assert_eq!(value(&scrape, "orch_agents_paused"), None, "an old state is told: {scrape}");
    until_value(metrics, "orch_agents_paused", 0.0).await;
}

#[tokio::test]
async fn goal_that_is_gone_should_be_told_no_more_and_a_damaged_one_left_out() {
    let metrics = free_port();
    let fleet = with_tasks(metrics).start().await;
    fleet.until_task("task-001", State::Running).await;
    let done = "orch_task_transitions_total{goal=\"goal-001\",cause=\"claim\"}";
    // Damaged by hand: it is left out, all others are told.
    fleet.redis("SADD goals odd");
    fleet.redis("HSET goal:odd status odd");
    let scrape = until_value(metrics, done, 1.0).await;
    assert_eq!(value(&scrape, "orch_redis_up"), Some(1.0), "{scrape}");
    assert!(
        scrape.contains("orch_tasks{goal=\"goal-001\"") && !scrape.contains("\"odd\""),
        "{scrape}"
    );
    // Until they are counted anew.
    fleet.redis("HSET dag:goal-001:counts done:worker -1");
    let blocked = "orch_tasks{goal=\"goal-001\",role=\"worker\",state=\"blocked\"}";
    until_value(metrics, blocked, 1.0).await;
    fleet
        .until("the counts are right", async || {
            let told = fleet.redis("HGET dag:goal-001:counts done:worker");
            if told == "0" { Ok(()) } else { Err(told) }
        })
        .await;
    let other = agents(&["other_agent"]) + &goal(&task("task-009: Other", "true"));
    fleet.project.write("INSTRUCTIONS.md", &other.replace("goal-001", "goal-002"));
    fleet.project.write("go", "");
    wait_until("nothing is told of it", DEADLINE, async || {
        let scrape = http_get(metrics, "/metrics", "text/plain")?;
        let is_there = ["goal-001", "worker_agent"].iter().any(|gone| scrape.contains(gone));
        if is_there || !scrape.contains("goal-002") { Err(scrape) } else { Ok(()) }
    })
    .await;
}
