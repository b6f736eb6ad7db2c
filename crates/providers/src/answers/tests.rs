use model::{GoalId, GoalSpec, Role, TaskId, TaskSpec};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn goal() -> GoalSpec {
    GoalSpec {
        id: GoalId::new("g-1").unwrap(),
        title: "A goal".into(),
        text: "text".into(),
        priority: 4,
        max_attempts: Some(2),
        timeout_secs: Some(60),
        folder: Some("out".into()),
        provider: None,
        model: None,
        budget_micros: None,
        review: false,
        tasks: None,
        tasks_are_fallback: false,
        spec_hash: String::new(),
    }
}

const ANY: PlanLimits<'_> = PlanLimits { max_tasks: 50, roles: &[] };

fn plan(value: Value) -> Result<model::Dag, String> {
    parse::<Plan>(&value)?.into_dag(&goal(), &ANY)
}

/// Walks a schema and checks what strict mode demands.
fn assert_strict(schema: &Value, path: &str) {
    let object = schema.as_object().unwrap_or_else(|| panic!("{path}: {schema}"));
    for key in object.keys() {
        let known = strict_keys().contains(&key.as_str());
        assert!(known, "{path}: `{key}` is refused by strict mode");
    }
    if let Some(properties) = object.get("properties") {
        let properties = properties.as_object().unwrap();
        let names: Vec<&Value> = schema["required"].as_array().unwrap().iter().collect();
        assert!(properties.keys().eq(names.iter().map(|name| name.as_str().unwrap())), "{path}");
        assert_eq!(schema["additionalProperties"], false, "{path}");
        for (name, inner) in properties {
            assert_strict(inner, &format!("{path}.{name}"));
        }
    } else {
        assert_ne!(schema["type"], "object", "{path}: an object without properties");
    }
    if let Some(items) = object.get("items") {
        assert_strict(items, &format!("{path}[]"));
    }
    assert!(object.contains_key("type") || object.contains_key("anyOf"), "{path}: {schema}");
}

fn strict_keys() -> [&'static str; 8] {
    let more = ["required", "additionalProperties"];
    ["type", "description", "properties", "items", "enum", "anyOf", more[0], more[1]]
}

#[test]
fn schemas_should_fit_strict_mode() {
    let all = [
        schema::<Plan>(),
        schema::<Selection>(),
        schema::<Execution>(),
        schema::<Summary>(),
        schema::<Review>(),
        schema::<Recovery>(),
    ];
    for schema in &all {
        assert_eq!(schema["type"], "object");
        assert_strict(schema, "");
    }
    let node = &all[0]["properties"]["nodes"]["items"];
    assert_eq!(node["properties"]["role"]["type"], json!(["string", "null"]));
    assert_eq!(node["properties"]["priority"]["type"], json!(["integer", "null"]));
    assert_eq!(node["properties"]["expected_artifacts"]["items"]["type"], "string");
    assert!(!node.to_string().contains("verify"), "what a model writes gets to no shell");
    assert_eq!(all[0]["properties"]["goal_id"]["type"], "string");
    assert_eq!(all[1]["properties"]["confidence"]["type"], "number");
    assert_eq!(all[2]["properties"]["status"]["enum"], json!(["done", "failed", "blocked"]));
    assert_eq!(all[4]["properties"]["verdict"]["enum"], json!(["pass", "fail"]));
    assert_eq!(all[5]["properties"]["recoverable"]["type"], "boolean");
}

#[test]
fn plan_of_the_reference_should_become_a_dag_with_what_the_goal_says() {
    let dag = plan(json!({
        "goal_id": "g-1",
        "nodes": [
            {"id": "b", "title": " Write\nit ", "priority": 10, "expected_artifacts": ["./r//b.md", "r/b.md"]},
            {"id": "a", "title": "Count", "expected_artifacts": [], "role": "", "description": "all"},
        ],
        "edges": [{"source": "a", "target": "b"}],
    }))
    .unwrap();
    assert_eq!(dag.dependencies(0), &[1]);
    let [b, a] = dag.tasks() else { panic!() };
    assert_eq!((b.title.as_str(), b.priority), ("Write it", 10));
    assert_eq!(b.expected_artifacts, ["r/b.md"]);
    let mut expected = TaskSpec::new(TaskId::new("a").unwrap(), "Count");
    expected.priority = 4;
    expected.timeout_secs = Some(60);
    expected.max_attempts = Some(2);
    expected.folder = Some("out".into());
    expected.metadata.insert("description".into(), "all".into());
    assert_eq!(a, &expected);
}

#[test]
fn commands_of_a_model_should_not_become_commands() {
    let dag = plan(json!({"nodes": [
        {"id": "a", "title": "A", "verify": ["rm -rf /"], "run": "rm -rf /", "metadata": {"x": "y"}}
    ]}));
    let task = dag.unwrap().tasks()[0].clone();
    assert!(task.verify.is_empty() && task.run.is_none() && task.metadata.is_empty());
}

#[test]
fn plan_should_be_refused_with_the_place_and_what_is_allowed() {
    let node = |id: &str| json!({"id": id, "title": "T"});
    let with = |key: &str, value: Value| {
        let mut node = node("a");
        node[key] = value;
        json!({"nodes": [node]})
    };
    let edge = |source: &str, target: &str| json!({"nodes": [node("a"), node("b")], "edges": [{"source": source, "target": target}]});
    let table = [
        (json!([1]), "expected one JSON object, not a list"),
        (json!({}), "missing field `nodes`"),
        (json!({"nodes": []}), "the plan has no tasks"),
        (json!({"nodes": [{"title": "T"}]}), "nodes[0]: missing field `id`"),
        (json!({"nodes": [node("a"), node("a:b")]}), "nodes[1].id: the id `a:b` contains ':'"),
        (json!({"nodes": [node(&"x".repeat(65))]}), "nodes[0].id: the id has 65 bytes"),
        (json!({"nodes": [node("a"), node("a")]}), "two tasks have the id `a`"),
        (with("title", json!("\n ")), "nodes[0].title: `a` has none"),
        (with("title", json!(null)), "nodes[0].title: expected a text, not null"),
        (with("priority", json!(-1)), "nodes[0].priority: `-1` is no priority: expected a whole"),
        (with("priority", json!(1_000_001)), "nodes[0].priority: `1000001` is no priority"),
        (with("priority", json!(1.5)), "nodes[0].priority: `1.5` is no priority"),
        (with("priority", json!("high")), "nodes[0].priority: `high` is no priority"),
        (
            with("expected_artifacts", json!(["ok", "/etc/x"])),
            "nodes[0].expected_artifacts[1]: `/etc/x` is absolute",
        ),
        (with("expected_artifacts", json!(["a/../../x"])), "leaves the working folder"),
        (with("expected_artifacts", json!(["a\u{0}b"])), "has control characters"),
        (with("expected_artifacts", json!(["./"])), "write the path of a file"),
        (
            with("expected_artifacts", json!((0..101).map(|n| n.to_string()).collect::<Vec<_>>())),
            "at most 100",
        ),
        (with("role", json!("a b")), "nodes[0].role: the id `a b` contains ' '"),
        (edge("a", "c"), "`c`"),
        (edge("a", "a"), "wait for each other in a circle: a -> a"),
        (
            json!({"goal_id": "g-2", "nodes": [node("a")]}),
            "goal_id: the plan is for `g-2`, but the goal is `g-1`",
        ),
        (json!({"nodes": vec![node("a"); 51]}), "the plan has 51 tasks; at most 50"),
    ];
    for (value, expected) in table {
        let error = plan(value.clone()).unwrap_err();
        assert!(error.contains(expected), "{value}\n{error}\nshould contain {expected}");
        assert!(error.len() < 1_000, "{error}");
    }
}

#[test]
fn mistakes_should_be_told_together() {
    let nodes: Vec<Value> =
        (0..10).map(|n| json!({"id": format!("t{n}"), "title": "", "role": "x"})).collect();
    let error = plan(json!({"nodes": nodes})).unwrap_err();
    assert!(error.starts_with("nodes[0].title: ") && error.contains("; nodes[7].title: "));
    assert!(error.ends_with("; and 2 more"), "{error}");
}

#[test]
fn role_that_nobody_has_should_be_refused_with_those_there_are() {
    let roles = [Role::new("research").unwrap(), Role::new("analysis").unwrap()];
    let limits = PlanLimits { max_tasks: 5, roles: &roles };
    let with = |role: Value| {
        let value = json!({"nodes": [{"id": "a", "title": "T", "role": role}]});
        parse::<Plan>(&value).unwrap().check(&goal(), &limits)
    };
    assert_eq!(with(json!("analysis")), Ok(()));
    assert_eq!(with(json!(null)), Ok(()));
    let error = with(json!("wizard")).unwrap_err();
    assert!(
        error.contains("nobody has the role `wizard`: use one of research, analysis"),
        "{error}"
    );
}

#[test]
fn long_title_should_be_cut_and_kept_in_the_description() {
    let title = "ä".repeat(300);
    let dag = plan(json!({"nodes": [{"id": "a", "title": title, "description": "more\u{1b}[2J"}]}));
    let task = dag.unwrap().tasks()[0].clone();
    assert_eq!(task.title.chars().count(), 200);
    assert!(task.title.ends_with('…'));
    assert_eq!(task.metadata["description"], format!("{title}\n\nmore\u{fffd}[2J"));
}

#[test]
fn numbers_and_lists_should_be_read_as_they_are_meant() {
    let value = json!({"nodes": [
        {"id": 7, "title": "T", "priority": "10", "expected_artifacts": "a.txt"},
        {"id": "b", "title": "T", "priority": 10.0, "expected_artifacts": null, "extra": [1]},
    ]});
    // Some answer with a text that holds the JSON.
    let plan: Plan = parse(&json!(value.to_string())).unwrap();
    assert_eq!((plan.nodes[0].id.as_str(), plan.nodes[0].priority), ("7", Some(10)));
    assert_eq!(plan.nodes[0].expected_artifacts, ["a.txt"]);
    assert_eq!(plan.nodes[1].priority, Some(10));
}

#[test]
fn selection_should_be_one_of_those_offered() {
    let candidates = ["a", "b"].map(|id| TaskSpec::new(TaskId::new(id).unwrap(), "T"));
    let chosen = |id: &str| parse::<Selection>(&json!({"selected_task_id": id})).unwrap();
    assert_eq!(chosen("b").check(&candidates), Ok(()));
    assert_eq!(
        chosen("c").check(&candidates),
        Err("selected_task_id: `c` was not offered: choose one of a, b".into())
    );
    assert!(parse::<Selection>(&json!({"selected_task_id": "a b"})).is_err());
}

#[test]
fn execution_should_be_read_in_the_forms_that_models_use() {
    let outputs = |value: Value| {
        let value = json!({"status": "DONE", "outputs": value, "notes": ["a", "b"]});
        let said: Execution = parse(&value).unwrap();
        assert_eq!((said.status, said.notes.as_str()), (ExecutionStatus::Done, "a\nb"));
        said.outputs
            .into_iter()
            .map(|o| format!("{}={}", o.path, o.description))
            .collect::<Vec<_>>()
    };
    assert_eq!(outputs(json!([{"path": "a", "description": "x"}, "b"])), ["a=x", "b="]);
    assert_eq!(outputs(json!({"a": "x", "b": {"lines": 3}})), ["a=x", "b=lines: 3"]);
    assert_eq!(outputs(json!({"path": "a", "description": "x"})), ["a=x"]);
    assert_eq!(outputs(json!("a")), ["a="]);
    assert_eq!(outputs(json!(null)), Vec::<String>::new());
    let bare: Execution = parse(&json!({"status": "blocked"})).unwrap();
    assert!(bare.outputs.is_empty() && bare.notes.is_empty() && bare.follow_ups.is_empty());
    let error = parse::<Execution>(&json!({"status": "done", "outputs": [{"file": "a"}]}));
    assert_eq!(error.unwrap_err(), "outputs: [0] has no `path`");
    let error = parse::<Execution>(&json!({"status": "maybe"})).unwrap_err();
    assert_eq!(error, "status: `maybe` is no status: expected done, failed or blocked");
    assert_eq!(parse::<Execution>(&json!({})).unwrap_err(), "missing field `status`");
}

#[test]
fn texts_should_be_bounded() {
    let long = "ä ".repeat(100_000);
    let said: Execution = parse(&json!({
        "status": "done", "notes": long, "follow_ups": vec![long.clone(); 100],
        "outputs": vec![json!({"path": long, "description": long}); 1_000],
    }))
    .unwrap();
    assert!(said.notes.len() < 17_000 && said.notes.contains("[cut here"));
    assert_eq!((said.outputs.len(), said.follow_ups.len()), (500, 20));
    let lengths = said.outputs.iter().flat_map(|o| [o.path.len(), o.description.len()]);
    assert!(lengths.chain(said.follow_ups.iter().map(String::len)).all(|n| n < 1_100));
    let said: Summary = parse(&json!({"summary": ["first\nline", long]})).unwrap();
    assert_eq!(said.summary.chars().count(), MAX_SUMMARY_CHARS);
    assert!(said.summary.starts_with("first line ä") && said.summary.ends_with('…'));
    let error = parse::<Execution>(&json!({"status": long})).unwrap_err();
    assert!(error.len() < 700, "{error}");
}

#[test]
fn judgements_that_say_too_little_should_be_refused() {
    let said: Review =
        parse(&json!({"verdict": "Fail", "findings": [{"file": "a", "what": "b"}]})).unwrap();
    assert_eq!((said.verdict, said.findings), (Verdict::Fail, vec!["file: a; what: b".to_owned()]));
    assert!(parse::<Review>(&json!({"verdict": "pass"})).is_ok());
    assert!(parse::<Review>(&json!({"verdict": "fail"})).unwrap_err().contains("at least one"));
    assert!(parse::<Summary>(&json!({"summary": " "})).unwrap_err().contains("empty"));
}

#[test]
fn rescue_should_need_a_title_steps_and_confidence() {
    let judged = |confidence: Value| {
        parse::<Recovery>(&json!({
            "recoverable": "true", "reason": "r", "remediation_title": "t",
            "remediation_steps": "s", "confidence": confidence,
        }))
    };
    let worth = |confidence| judged(confidence).unwrap().is_worth_trying();
    assert!(worth(json!(0.75)) && worth(json!("0.8")) && worth(json!("90%")));
    assert!(!worth(json!(0.7)) && !worth(json!(null)));
    for wrong in [json!(1.1), json!(-0.1), json!("NaN"), json!("sure"), json!([])] {
        let error = judged(wrong).unwrap_err();
        assert_eq!(error, "confidence: expected a number from 0 to 1");
    }
    let empty = json!({"recoverable": true, "remediation_title": "t", "confidence": 1});
    assert!(parse::<Recovery>(&empty).unwrap_err().starts_with("remediation_steps: "));
    assert!(!parse::<Recovery>(&json!({"recoverable": false})).unwrap().is_worth_trying());
}

fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("nodes"),
        Just("edges"),
        Just("id"),
        Just("title"),
        Just("source"),
        Just("target"),
        Just("status"),
        Just("outputs"),
        Just("path"),
        Just("notes"),
        Just("verdict"),
        Just("recoverable"),
        Just("confidence"),
        Just("priority"),
        Just("done"),
        Just("a"),
        Just("summary"),
        Just("goal_id"),
        Just("g-1"),
        Just("selected_task_id"),
        Just("findings"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((word.clone().prop_map(str::to_owned), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn reads_without_panic<T: Answer>(value: &Value) -> Result<(), TestCaseError> {
    if let Err(error) = parse::<T>(value) {
        prop_assert!(!error.is_empty() && error.len() < 1_500, "{}", error);
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_json_should_be_read_or_refused(value in any_json()) {
        reads_without_panic::<Plan>(&value)?;
        reads_without_panic::<Selection>(&value)?;
        reads_without_panic::<Execution>(&value)?;
        reads_without_panic::<Summary>(&value)?;
        reads_without_panic::<Review>(&value)?;
        reads_without_panic::<Recovery>(&value)?;
        let nodes = json!({"nodes": value, "edges": value});
        if let Ok(dag) = plan(nodes) { prop_assert!(!dag.tasks().is_empty()); }
    }

    #[test]
    fn plan_that_lost_a_part_should_be_a_dag_or_an_error(
        count in 1usize..8,
        pairs in prop::collection::vec((0usize..8, 0usize..8), 0..12),
        lost_nodes in prop::collection::vec(0usize..8, 0..3),
        lost_field in prop_oneof![Just("id"), Just("title"), Just("priority"), Just("none")],
        cut in 0.0f64..1.0,
    ) {
        let mut nodes: Vec<Value> = (0..count)
            .map(|n| json!({"id": format!("t{n}"), "title": "T", "priority": n}))
            .collect();
        let edges: Vec<Value> = pairs.iter().filter(|(a, b)| a < b && *b < count)
            .map(|(a, b)| json!({"source": format!("t{a}"), "target": format!("t{b}")}))
            .collect();
        let whole = json!({"goal_id": "g-1", "nodes": nodes, "edges": edges});
        let dag = plan(whole.clone());
        prop_assert!(dag.is_ok(), "{:?}", dag);
        // As half a JSON in a text: never a plan.
        let text = whole.to_string();
        let half = &text[..(text.len() as f64 * cut) as usize];
        prop_assert!(plan(json!(half)).is_err());
        // As JSON that was closed too early.
        for at in lost_nodes {
            if at < nodes.len() { nodes.remove(at); }
        }
        if let Some(fields) = nodes.last_mut().and_then(Value::as_object_mut) {
            fields.remove(lost_field);
        }
        let kept: Vec<&str> = nodes.iter().filter_map(|node| node["id"].as_str()).collect();
        let dangling = edges.iter()
            .any(|edge| ["source", "target"].iter().any(|end| !kept.contains(&edge[end].as_str().unwrap())));
        match plan(json!({"nodes": nodes, "edges": edges})) {
            Ok(dag) => {
                prop_assert!(!dangling && dag.tasks().len() == nodes.len());
            }
            Err(error) => prop_assert!(!error.is_empty()),
        }
    }
}

/// Regression: each artifact was compared with all before it, and only then were there
/// found to be too many. Were it so, this would take minutes.
#[test]
fn plan_with_very_many_artifacts_should_be_refused_in_linear_time() {
    let artifacts: Vec<String> = (0..200_000).map(|n| format!("out/{n}.txt")).collect();
    let task = json!({ "id": "a", "title": "A", "expected_artifacts": artifacts });
    let problem = plan(json!({ "nodes": [task] })).unwrap_err();
    assert!(problem.contains("200000 files; at most 100"), "{problem}");
}
