//! What spans follow from which events.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic of a test is its report"
)]

use std::collections::{BTreeSet, HashMap};

use store::event::Event;
use traces::{Builder, Span, SpanId, Status};

/// Events from lines of `<millisecond> <kind> name=value ..`; `_` in a value is a blank.
fn events(lines: &str) -> Vec<Event> {
    let line = |(number, line): (usize, &str)| {
        let mut words = line.split_whitespace();
        let millis = words.next().unwrap();
        let kind = words.next().unwrap().to_owned();
        let pair = |word: &str| {
            let (name, value) = word.split_once('=').unwrap();
            (name.to_owned(), value.replace('_', " "))
        };
        Event { id: format!("{millis}-{number}"), kind, fields: words.map(pair).collect() }
    };
    lines.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate().map(line).collect()
}

fn spans(lines: &str, waits_for: &[(&str, &str)]) -> Vec<Span> {
    let mut builder = Builder::new("fleet");
    let list = waits_for.iter().map(|(id, dep)| ((*id).to_owned(), vec![(*dep).to_owned()]));
    builder.dependencies(list);
    let mut spans: Vec<Span> =
        events(lines).iter().flat_map(|event| builder.event(event)).collect();
    spans.extend(builder.open());
    assert_sound(&spans);
    spans
}

/// No orphans, no id twice, no part outside of its whole.
fn assert_sound(spans: &[Span]) {
    let by_id: HashMap<SpanId, &Span> = spans.iter().map(|span| (span.place.span, span)).collect();
    assert_eq!(by_id.len(), spans.len(), "an id is there twice");
    for span in spans {
        assert!(span.end_us.is_none_or(|end| end >= span.start_us), "{span:?}");
        let names: BTreeSet<_> = span.attributes.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), span.attributes.len(), "an attribute is there twice: {span:?}");
        let Some(parent) = span.parent else { continue };
        let whole = by_id.get(&parent).unwrap_or_else(|| panic!("an orphan: {span:?}"));
        assert_eq!(whole.place.trace, span.place.trace);
        let inside = span.start_us >= whole.start_us
            && whole.end_us.is_none_or(|end| span.end_us.is_some_and(|own| own <= end));
        assert!(inside, "{span:?} outside of {whole:?}");
    }
}

/// Spans as a tree, each with its times in milliseconds.
/// The part of an attempt before its grant, which has its links.
fn wait<'a>(spans: &'a [Span], attempt: &Span) -> &'a Span {
    spans.iter().find(|s| s.name == "wait" && s.parent == Some(attempt.place.span)).unwrap()
}

fn tree(spans: &[Span]) -> String {
    let mut out = String::new();
    branch(spans, None, 0, &mut out);
    out
}

fn branch(spans: &[Span], parent: Option<SpanId>, depth: usize, out: &mut String) {
    let mut parts: Vec<&Span> = spans.iter().filter(|span| span.parent == parent).collect();
    parts.sort_by_key(|span| (span.start_us, span.end_us));
    for span in parts {
        let end = span.end_us.map_or_else(|| "..".to_owned(), |end| (end / 1_000).to_string());
        let status = match &span.status {
            Status::Unset => String::new(),
            Status::Ok => " ok".to_owned(),
            Status::Error(text) => format!(" error: {text}"),
        };
        let kinds: Vec<&str> = span.links.iter().map(|link| link.kind).collect();
        let links = if kinds.is_empty() { String::new() } else { format!(" -> {kinds:?}") };
        let (indent, start) = ("  ".repeat(depth), span.start_us / 1_000);
        out.push_str(&format!("{indent}{} {start}-{end}{status}{links}\n", span.name));
        branch(spans, Some(span.place.span), depth + 1, out);
    }
}

const PLAN: &str = "
    100 goal-declare goal=g
    150 llm-call call=c0 goal=g task= step=decompose provider=claude model=m outcome=malformed ms=30
    190 llm-call call=c1 goal=g task= step=decompose provider=claude model=m outcome=ok ms=30
    200 goal-accept goal=g generation=1 tasks=2
    210 task-claim goal=g task=a from=ready to=running generation=1 agent=w1 incarnation=5 epoch=7 attempt=1
";

#[test]
fn goal_should_be_one_trace_from_its_declaration_to_its_end() {
    let ended = format!(
        "{PLAN} 290 task-complete goal=g task=a from=running to=done epoch=7
        300 goal-complete goal=g generation=1"
    );
    insta::assert_snapshot!(tree(&spans(&ended, &[])), @r#"
    goal 100-300 ok
      plan 100-200 ok
        chat m 120-150 error: malformed
        chat m 160-190 ok
      run 200-300 ok
    attempt 200-290 ok
      wait 200-210 -> ["goal"]
      execute 210-290 ok
    "#);
    let failed = format!("{PLAN} 250 goal-failed goal=g generation=1 reason=a_failed");
    assert!(tree(&spans(&failed, &[])).contains("goal 100-250 error: a failed"));
    let replaced = format!("{PLAN} 260 goal-accept goal=g generation=2 tasks=3");
    let shown = tree(&spans(&replaced, &[]));
    assert!(shown.contains("goal 100-260\n") && shown.contains("goal 260-..\n"), "{shown}");
}

#[test]
fn attempt_should_tell_its_wait_its_calls_and_how_it_ended() {
    let lines = format!("{PLAN}
        230 llm-call call=c2 goal=g task=a epoch=7 step=execute provider=claude model=m outcome=ok ms=10 input_tokens=5
        240 llm-call call=c3 goal=g task=a epoch=6 step=execute provider=claude model=m outcome=ok ms=10
        250 task-retry goal=g task=a from=running to=ready generation=1 epoch=7 attempt=1 reason=exit_1
        260 task-claim goal=g task=a from=ready to=running generation=1 agent=w2 incarnation=6 epoch=8 attempt=2
        270 task-complete goal=g task=a from=running to=done generation=1 epoch=8 attempt=2
        270 task-unblock goal=g task=b from=blocked to=ready generation=1
        275 task-claim goal=g task=b from=ready to=running generation=1 agent=w2 incarnation=6 epoch=9 attempt=1");
    let spans = spans(&lines, &[("b", "a")]);
    insta::assert_snapshot!(tree(&spans), @r#"
    goal 100-..
      plan 100-200 ok
        chat m 120-150 error: malformed
        chat m 160-190 ok
      run 200-..
    attempt 200-250 error: exit 1
      wait 200-210 -> ["goal"]
      execute 210-250 error: exit 1
        chat m 220-230 ok
    attempt 250-270 ok
      wait 250-260 -> ["goal"]
      execute 260-270 ok
    attempt 270-..
      wait 270-275 -> ["goal", "dependency"]
      execute 275-..
    "#);
    let of = |epoch| spans.iter().find(|span| span.number("orch.epoch") == Some(epoch)).unwrap();
    let second = of(8);
    assert!(
        wait(&spans, of(9))
            .links
            .iter()
            .any(|link| link.kind == "dependency" && link.to == second.place)
    );
    let goal = spans.iter().find(|span| span.name == "goal").unwrap();
    let links = &wait(&spans, second).links;
    assert!(links.iter().any(|link| link.kind == "goal" && link.to == goal.place));
    let call = spans.iter().find(|span| span.text("orch.llm.step") == "execute").unwrap();
    assert_eq!(call.number("gen_ai.usage.input_tokens"), Some(5));
    assert_eq!(call.text("gen_ai.system"), "claude");
}

#[test]
fn choice_should_be_part_of_the_attempt_that_it_led_to() {
    let lines = format!("{PLAN}
        220 task-unblock goal=g task=b from=blocked to=ready generation=1
        240 llm-call call=c2 goal=g task= agent=w2 step=select provider=claude model=m outcome=malformed ms=10
        260 llm-call call=c3 goal=g task= agent=w2 step=select provider=claude model=m outcome=ok ms=10
        265 task-claim goal=g task=b from=ready to=running generation=1 agent=w2 incarnation=6 epoch=9 attempt=1
        280 task-complete goal=g task=b from=running to=done generation=1 epoch=9 attempt=1
        290 llm-call call=c4 goal=g task= agent=w2 step=select provider=claude model=m outcome=ok ms=10
        291 agent-register agent=w2 incarnation=7
        292 llm-call call=c5 goal=g task= agent=w3 step=select provider=claude model=m outcome=ok ms=1
        6000 task-claim goal=g task=c from=ready to=running generation=1 agent=w3 incarnation=8 epoch=10 attempt=1
        6001 task-claim goal=g task=d from=ready to=running generation=1 agent=w2 incarnation=7 epoch=11 attempt=1
        6002 goal-accept goal=g generation=2 tasks=3");
    let shown = tree(&spans(&lines, &[]));
    let chosen = "attempt 220-280 ok
  wait 220-265 -> [\"goal\"]
  select 230-260 ok
    chat m 230-240 error: malformed
    chat m 250-260 ok
  execute 265-280 ok
";
    assert!(shown.contains(chosen), "{shown}");
    // Neither what a dead process chose, nor what was chosen long ago, nor as planning.
    assert_eq!(shown.matches("chat m").count(), 4, "{shown}");
}

const DEATH: &str = "
    300 task-lose goal=g task=a from=running to=ready agent=w1 incarnation=5 epoch=7 attempt=1 reason=its_process_ended
    300 agent-death agent=w1 incarnation=5 task=a reason=its_process_ended
";

#[test]
fn recovery_should_be_one_trace_until_the_task_runs_again() {
    let lines = format!("{PLAN}{DEATH}
        330 agent-register agent=w1 incarnation=6
        340 task-claim goal=g task=a from=ready to=running generation=1 agent=w1 incarnation=6 epoch=8 attempt=2");
    let all = spans(&lines, &[]);
    insta::assert_snapshot!(tree(&all), @r#"
    goal 100-..
      plan 100-200 ok
        chat m 120-150 error: malformed
        chat m 160-190 ok
      run 200-..
    attempt 200-300 error: its process ended
      wait 200-210 -> ["goal"]
      execute 210-300 error: its process ended
    attempt 300-..
      wait 300-340 -> ["goal", "recovery"]
      execute 340-..
    recovery 300-340 ok
      respawn 300-330 ok
      run again 300-340 ok -> ["attempt"]
    "#);
    let recovery = all.iter().find(|span| span.name == "recovery").unwrap();
    let second = all.iter().find(|span| span.number("orch.epoch") == Some(8)).unwrap();
    let links = &wait(&all, second).links;
    assert!(links.iter().any(|link| link.kind == "recovery" && link.to == recovery.place));
    let again = all.iter().find(|span| span.name == "run again").unwrap();
    assert_eq!(again.links[0].to, second.place);

    // Another agent may take it, and before the first is back.
    let sooner = format!(
        "{PLAN}{DEATH}
        310 task-claim goal=g task=a from=ready to=running agent=w2 incarnation=9 epoch=8 attempt=2
        330 agent-register agent=w1 incarnation=6"
    );
    let shown = tree(&spans(&sooner, &[]));
    assert!(
        shown.contains("run again 300-310 ok") && shown.contains("recovery 300-330 ok"),
        "{shown}"
    );
    let twice = format!(
        "{PLAN}{DEATH}
        330 agent-register agent=w1 incarnation=6
        335 agent-death agent=w1 incarnation=6 task= reason=its_process_ended"
    );
    let shown = tree(&spans(&twice, &[]));
    assert!(
        shown.contains("recovery 300-335 error") && shown.contains("recovery 335-..\n"),
        "{shown}"
    );
}

#[test]
fn history_that_begins_in_the_middle_or_goes_back_should_be_borne() {
    let lines = "
        500 task-complete goal=g task=a from=running to=done epoch=7
        510 goal-complete goal=g generation=1
        520 agent-register agent=w1 incarnation=6
        530 llm-call call=c goal=g task=a epoch=7 outcome=ok ms=99999999
        540 task-claim goal=g task=b from=ready to=running generation=1 agent=w1 incarnation=6 epoch=8 attempt=1
        400 task-complete goal=g task=b from=running to=done epoch=8
        x goal-accept
        550 task-claim";
    let shown = tree(&spans(lines, &[]));
    assert_eq!(shown, "attempt 540-540 ok\n  wait 540-540 -> [\"goal\"]\n  execute 540-540 ok\n");
}

#[test]
fn same_events_should_make_the_same_spans() {
    let lines = format!("{PLAN}{DEATH}");
    assert_eq!(spans(&lines, &[]), spans(&lines, &[]));
}

#[test]
fn otlp_should_be_in_its_json_form() {
    let lines = format!("{PLAN}{DEATH}");
    let request = traces::otlp::request(&spans(&lines, &[]), "1.0", 999_000);
    let resources = request["resourceSpans"].as_array().unwrap();
    assert_eq!(resources.len(), 2, "one of the orchestrator's, one of the agent's");
    let of_agent = &resources[1];
    assert_eq!(of_agent["resource"]["attributes"][0]["value"]["stringValue"], "agent");
    assert_eq!(of_agent["scopeSpans"][0]["spans"][0]["name"], "execute");
    let attempt = resources[0]["scopeSpans"][0]["spans"].as_array().unwrap().iter();
    let attempt = attempt.rev().find(|span| span["name"] == "attempt").unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(attempt).unwrap(), @r#"
    {
      "attributes": [
        {
          "key": "orch.goal",
          "value": {
            "stringValue": "g"
          }
        },
        {
          "key": "orch.task",
          "value": {
            "stringValue": "a"
          }
        },
        {
          "key": "orch.attempt",
          "value": {
            "intValue": "1"
          }
        },
        {
          "key": "orch.epoch",
          "value": {
            "intValue": "7"
          }
        },
        {
          "key": "orch.generation",
          "value": {
            "intValue": "1"
          }
        },
        {
          "key": "orch.agent",
          "value": {
            "stringValue": "w1"
          }
        },
        {
          "key": "orch.incarnation",
          "value": {
            "intValue": "5"
          }
        },
        {
          "key": "orch.outcome",
          "value": {
            "stringValue": "lose"
          }
        },
        {
          "key": "orch.reason",
          "value": {
            "stringValue": "its process ended"
          }
        }
      ],
      "endTimeUnixNano": "300000000",
      "events": [],
      "kind": 1,
      "links": [],
      "name": "attempt",
      "parentSpanId": "",
      "spanId": "8d56ad6846794672",
      "startTimeUnixNano": "200000000",
      "status": {
        "code": 2,
        "message": "its process ended"
      },
      "traceId": "538641e7fd5b0b01fbfd0b907d81255c"
    }
    "#);
}
