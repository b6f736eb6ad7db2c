//! What Jaeger shows of a fleet, asked by Jaeger's own API: `make test-jaeger`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};

use model::task::State;
use serde_json::Value;
use testkit::{free_port, http_get, wait_until};

use crate::support::{DEADLINE, agents, fleet, goal, task};

/// The project's Jaeger, as systemg starts it.
struct Jaeger {
    child: Child,
    page: u16,
    otlp: u16,
}

impl Drop for Jaeger {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Jaeger {
    fn start() -> Self {
        let (page, otlp) = (free_port(), free_port());
        let child = Command::new("sh")
            .args([concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/observe.sh"), "jaeger"])
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint(otlp))
            .env("ORCH_JAEGER_PORT", page.to_string())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, page, otlp }
    }

    /// What the API has to say, as the page asks it.
    fn ask(&self, path: &str) -> Result<Value, String> {
        let text = http_get(self.page, &format!("/api/{path}"), "application/json")?;
        let json: Value = serde_json::from_str(&text).map_err(|_| text.clone())?;
        if json["errors"].is_null() { Ok(json["data"].clone()) } else { Err(text) }
    }

    fn traces(&self, service: &str, operation: &str) -> Result<Vec<Trace>, String> {
        let path = format!("traces?service={service}&operation={operation}&lookback=1h&limit=1000");
        let data = self.ask(&path)?;
        Ok(data.as_array().into_iter().flatten().map(Trace::new).collect())
    }
}

fn endpoint(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

#[derive(Debug)]
struct Trace {
    id: String,
    spans: Vec<Span>,
}

#[derive(Debug)]
struct Span {
    id: String,
    name: String,
    service: String,
    parent: Option<String>,
    tags: BTreeMap<String, String>,
}

impl Trace {
    fn new(data: &Value) -> Self {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let spans = data["spans"].as_array().unwrap().iter().map(|span| Span {
            id: text(&span["spanID"]),
            name: text(&span["operationName"]),
            service: text(&data["processes"][text(&span["processID"])]["serviceName"]),
            parent: span["references"].as_array().into_iter().flatten().find_map(|reference| {
                (reference["refType"] == "CHILD_OF" && reference["traceID"] == data["traceID"])
                    .then(|| text(&reference["spanID"]))
            }),
            tags: span["tags"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|tag| (text(&tag["key"]), text(&tag["value"])))
                .collect(),
        });
        Self { id: text(&data["traceID"]), spans: spans.collect() }
    }

    fn names(&self) -> BTreeSet<&str> {
        self.spans.iter().map(|span| span.name.as_str()).collect()
    }

    fn root(&self) -> &Span {
        self.spans.iter().find(|span| span.parent.is_none()).unwrap_or_else(|| panic!("{self:#?}"))
    }
}

/// The names of what Jaeger knows by this path.
fn known(jaeger: &Jaeger, path: &str) -> Result<BTreeSet<String>, String> {
    let data = jaeger.ask(path)?;
    Ok(data
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect())
}

#[ignore = "needs Jaeger: make test-jaeger"]
#[tokio::test]
async fn kill_and_recovery_should_be_shown_by_jaeger() {
    let jaeger = Jaeger::start();
    wait_until("Jaeger answers", DEADLINE, async || jaeger.ask("services")).await;
    let waiting = "until test -e \"$ORCH_PROJECT/go\"; do sleep 0.05; done; echo x > out.md";
    let tasks = task("task-001: Wait (artifacts: out.md)", waiting)
        + &task("task-002: Join (after: task-001)", "true");
    let fleet = fleet(agents(&["worker_agent"]) + &goal(&tasks))
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint(jaeger.otlp))
        .env("OTEL_BSP_SCHEDULE_DELAY", "200")
        .start()
        .await;
    fleet.until_task("task-001", State::Running).await;
    fleet.finish_after_a_kill().await;

    let all: BTreeSet<String> =
        ["attempt", "goal", "reconcile", "recovery"].map(str::to_owned).into();
    wait_until("Jaeger knows all operations", DEADLINE, async || {
        let services = known(&jaeger, "services")?;
        let operations = known(&jaeger, "services/orchestrator/operations")?;
        let is_all = ["agent", "orchestrator"].iter().all(|name| services.contains(*name))
            && operations.is_superset(&all);
        if is_all { Ok(()) } else { Err(format!("{services:?} {operations:?}")) }
    })
    .await;
    let attempts = wait_until("all attempts are told", DEADLINE, async || {
        let attempts = jaeger.traces("orchestrator", "attempt")?;
        let agents = attempts.iter().filter(|trace| trace.names().contains("execute")).count();
        if agents == 3 { Ok(attempts) } else { Err(format!("{attempts:#?}")) }
    })
    .await;
    // Over the border of the process, in one picture.
    let join = attempts.iter().find(|trace| trace.root().tags["orch.task"] == "task-002").unwrap();
    let execute = join.spans.iter().find(|span| span.name == "execute").unwrap();
    assert_eq!(
        (execute.service.as_str(), execute.parent.as_ref()),
        ("agent", Some(&join.root().id))
    );

    let [recovery] = &jaeger.traces("orchestrator", "recovery").unwrap()[..] else {
        panic!("not one recovery")
    };
    assert_eq!(recovery.names(), ["recovery", "respawn", "run again"].into());
    assert_eq!(recovery.root().tags["orch.agent"], "worker_agent");

    let mut seen = BTreeSet::new();
    for operation in &all {
        for trace in jaeger.traces("orchestrator", operation).unwrap() {
            let ids: BTreeSet<&str> = trace.spans.iter().map(|span| span.id.as_str()).collect();
            for span in &trace.spans {
                let has_whole = span.parent.as_ref().is_none_or(|id| ids.contains(id.as_str()));
                assert!(has_whole, "an orphan: {span:#?}");
            }
            seen.insert(trace.id);
        }
    }
    // 3 attempts, a goal, a recovery, and passes of the controllers.
    assert!(seen.len() > 5, "{seen:?}");
}
