use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;
use crate::answers::{Execution, ExecutionStatus, Plan, Selection, Summary};
use crate::{Limit, Permissions};

type Outcome = Result<Reply, Failure>;

fn prompt() -> Prompt {
    Prompt { text: "Do the THING.".into(), id: "execute/1 0123456789ab".into() }
}

fn request(session: Session) -> Request {
    Request {
        step: Step::Prompt,
        prompt: String::new(),
        schema: None,
        model: None,
        session,
        permissions: Permissions::default(),
        budget_micros: None,
        folder: PathBuf::from("/"),
        scratch: PathBuf::from("/"),
        log: PathBuf::from("/log"),
        timeout: Duration::from_secs(1),
    }
}

fn used(cost_micros: Option<u64>) -> Usage {
    Usage { cost_micros, input_tokens: 10, output_tokens: 1, ..Usage::default() }
}

fn says(value: Value) -> Outcome {
    Ok(Reply {
        text: value.to_string(),
        value: Some(value),
        usage: used(Some(5)),
        model: Some("m".into()),
        session: Some("s-1".into()),
    })
}

fn chatters(text: &str) -> Outcome {
    let usage = used(None);
    Ok(Reply { value: None, text: text.into(), usage, model: None, session: Some("s-1".into()) })
}

fn fails(kind: FailureKind, message: &str) -> Outcome {
    Err(Failure::new(kind, message).with_usage(used(Some(2))))
}

fn done() -> Value {
    json!({"status": "done", "outputs": [], "notes": "", "follow_ups": []})
}

/// What was asked in each call, and how long was waited.
#[derive(Default)]
struct Seen {
    requests: Vec<Request>,
    pauses: Vec<Duration>,
}

async fn run<T: Answer>(
    request: Request,
    script: impl IntoIterator<Item = Outcome>,
    check: impl Fn(&T) -> Result<(), String>,
) -> (Result<Asked<T>, Failure>, Seen) {
    let script = RefCell::new(script.into_iter().collect::<VecDeque<_>>());
    let seen = RefCell::new(Seen::default());
    let call = async |request: Request| {
        seen.borrow_mut().requests.push(request);
        script.borrow_mut().pop_front().expect("no further call")
    };
    let pause = async |delay| seen.borrow_mut().pauses.push(delay);
    let asked = ask_with(request, &prompt(), call, check, pause).await;
    (asked, seen.into_inner())
}

async fn execute(
    session: Session,
    script: impl IntoIterator<Item = Outcome>,
) -> (Result<Asked<Execution>, Failure>, Seen) {
    run(request(session), script, |_| Ok(())).await
}

#[tokio::test]
async fn answer_should_come_with_what_it_took() {
    let (asked, seen) = execute(Session::New("u".into()), [says(done())]).await;
    let asked = asked.unwrap();
    assert_eq!(asked.value.status, ExecutionStatus::Done);
    assert_eq!((asked.calls, asked.usage), (1, used(Some(5))));
    assert_eq!(asked.prompt, "execute/1 0123456789ab");
    assert_eq!((asked.session.as_deref(), asked.model.as_deref()), (Some("s-1"), Some("m")));
    let sent = &seen.requests[0];
    assert_eq!((sent.step, sent.prompt.as_str()), (Step::Execute, "Do the THING."));
    assert_eq!(sent.schema, Some(schema::<Execution>()));
    assert_eq!(sent.session, Session::New("u".into()));
}

#[tokio::test]
async fn unusable_answer_should_be_repaired_with_the_whole_task_and_the_error() {
    let script = [chatters("Sure! {"), says(json!({"summary": "It is there."}))];
    let (asked, seen) = run::<Summary>(request(Session::Ephemeral), script, |_| Ok(())).await;
    let asked = asked.unwrap();
    assert_eq!((asked.calls, asked.usage.cost_micros, asked.usage.input_tokens), (2, Some(5), 20));
    let repair = &seen.requests[1];
    for part in ["Do the THING.", "Sure! {", "the answer holds no JSON"] {
        assert!(repair.prompt.contains(part), "{part}: {}", repair.prompt);
    }
    assert_eq!(repair.session, Session::Ephemeral);
    assert!(seen.pauses.is_empty());
}

#[tokio::test]
async fn answer_that_the_check_refuses_should_be_repaired_with_its_reason() {
    let choice =
        |id: &str| says(json!({"selected_task_id": id, "justification": "", "confidence": 1}));
    let offered = |chosen: &Selection| match chosen.selected_task_id.as_str() {
        "a" => Ok(()),
        _ => Err("not offered: choose a".to_owned()),
    };
    let script = [choice("x"), choice("a")];
    let (asked, seen) = run(request(Session::Ephemeral), script, offered).await;
    assert_eq!(asked.unwrap().value.selected_task_id.as_str(), "a");
    assert!(seen.requests[1].prompt.contains("not offered: choose a"));
}

#[tokio::test]
async fn work_should_be_repaired_in_its_session_without_the_task() {
    let script = [chatters("I did it."), chatters("Really."), says(done())];
    let (asked, seen) = execute(Session::New("u".into()), script).await;
    assert_eq!(asked.unwrap().calls, 3);
    for (repair, came) in seen.requests[1..].iter().zip(["I did it.", "Really."]) {
        assert_eq!(repair.session, Session::Resume("s-1".into()));
        assert!(!repair.prompt.contains("THING") && repair.prompt.contains(came));
        assert!(repair.prompt.contains("do not do it again"), "{}", repair.prompt);
    }
}

#[tokio::test]
async fn repair_should_fall_back_to_the_whole_task_where_the_session_is_gone() {
    let gone = fails(FailureKind::Refused, "session not found: s-1");
    let script = [chatters("I did it."), gone, says(done())];
    let (asked, seen) = execute(Session::New("u".into()), script).await;
    assert_eq!(asked.unwrap().usage.cost_micros, Some(7));
    let last = &seen.requests[2];
    assert!(last.prompt.contains("Do the THING.") && last.prompt.contains("I did it."));
    assert!(matches!(&last.session, Session::New(id) if id != "u"), "{:?}", last.session);
    // Where nothing was asked in that session yet, its loss is the caller's to handle.
    let gone = fails(FailureKind::Failed, "session not found: s-0");
    let (asked, seen) = execute(Session::Resume("s-0".into()), [gone]).await;
    assert_eq!(
        (asked.unwrap_err().message.as_str(), seen.requests.len()),
        ("session not found: s-0", 1)
    );
}

#[tokio::test]
async fn malformed_failure_should_be_repaired_anew_where_no_session_is_known() {
    let script = [fails(FailureKind::Malformed("gibber".into()), "no JSON line"), says(done())];
    let (asked, seen) = execute(Session::New("u".into()), script).await;
    assert_eq!(asked.unwrap().usage.cost_micros, Some(7));
    let repair = &seen.requests[1];
    assert!(repair.prompt.contains("THING") && repair.prompt.contains("gibber"));
    assert!(repair.prompt.contains("no JSON line"));
    assert!(matches!(&repair.session, Session::New(id) if id != "u" && id.len() == 36));
}

#[tokio::test]
async fn failed_call_should_be_made_again_after_growing_delays() {
    let failed = || fails(FailureKind::Failed, "exit code 1");
    let (asked, seen) = execute(Session::Ephemeral, [failed(), failed(), says(done())]).await;
    assert_eq!(asked.unwrap().calls, 3);
    let [first, second] = seen.pauses[..] else { panic!("{:?}", seen.pauses) };
    assert!((0.75..=1.25).contains(&first.as_secs_f64()), "{first:?}");
    assert!((1.5..=2.5).contains(&second.as_secs_f64()), "{second:?}");
    assert!(seen.requests.iter().all(|request| request.prompt == "Do the THING."));
}

#[tokio::test]
async fn last_failure_should_say_what_was_wrong_each_time() {
    let script = [
        fails(FailureKind::Failed, "exit code 1"),
        chatters("no"),
        says(json!({"status": "finished"})),
    ];
    let (asked, _) = execute(Session::Ephemeral, script).await;
    let failure = asked.unwrap_err();
    let FailureKind::Malformed(came) = &failure.kind else { panic!("{failure:?}") };
    assert!(came.contains("finished"));
    assert_eq!(
        failure.message,
        "no usable answer to execute/1 0123456789ab in 3 calls: call 1: exit code 1; call 2: the \
         answer holds no JSON; call 3: status: `finished` is no status: expected done, failed or \
         blocked"
    );
    let sum = Usage { cost_micros: Some(7), input_tokens: 30, output_tokens: 3, ..used(None) };
    assert_eq!(failure.usage, sum);
}

#[tokio::test]
async fn what_will_not_go_better_should_be_returned_at_once() {
    for kind in [
        FailureKind::Refused,
        FailureKind::Denied,
        FailureKind::Limit(Limit { until: None }),
        FailureKind::Budget,
        FailureKind::TimedOut,
        FailureKind::Cancelled,
    ] {
        let script = [fails(FailureKind::Failed, "exit code 1"), fails(kind.clone(), "no")];
        let (asked, seen) = execute(Session::Ephemeral, script).await;
        let failure = asked.unwrap_err();
        assert_eq!((failure.kind, failure.message.as_str()), (kind, "no"));
        assert_eq!((failure.usage.cost_micros, seen.requests.len()), (Some(4), 2));
    }
}

#[tokio::test]
async fn budget_should_hold_for_all_calls_together() {
    let mut request = request(Session::Ephemeral);
    request.budget_micros = Some(7);
    let wrong = || says(json!({"status": 5}));
    let (asked, seen) = run::<Execution>(request, [wrong(), wrong()], |_| Ok(())).await;
    let failure = asked.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Budget, "{}", failure.message);
    assert_eq!(failure.usage.cost_micros, Some(10));
    let budgets: Vec<_> = seen.requests.iter().map(|request| request.budget_micros).collect();
    assert_eq!(budgets, [Some(7), Some(2)]);
}

#[tokio::test]
async fn ask_should_be_usable_where_its_future_must_be_send() {
    struct Planner(String);
    trait Plans {
        fn plan(&self, goal: &str) -> impl Future<Output = Result<Plan, Failure>> + Send;
    }
    impl Plans for Planner {
        async fn plan(&self, goal: &str) -> Result<Plan, Failure> {
            let call = async |request: Request| {
                tokio::task::yield_now().await;
                assert!(request.prompt.starts_with("Do"), "{}", self.0);
                says(json!({"goal_id": goal, "nodes": [], "edges": []}))
            };
            let check = |plan: &Plan| match plan.goal_id.as_deref() {
                Some(id) if id == goal => Ok(()),
                Some(_) | None => Err("another goal".to_owned()),
            };
            Ok(ask(request(Session::Ephemeral), &prompt(), call, check).await?.value)
        }
    }
    async fn generic<T: Answer>(check: impl Fn(&T) -> Result<(), String> + Send) -> bool {
        let call = async |_: Request| says(done());
        ask(request(Session::Ephemeral), &prompt(), call, check).await.is_ok()
    }
    let planned = tokio::spawn(async { Planner("p".into()).plan("g").await }).await.unwrap();
    assert_eq!(planned.unwrap().goal_id.as_deref(), Some("g"));
    assert!(tokio::spawn(generic::<Execution>(|_| Ok(()))).await.unwrap());
}

#[tokio::test]
async fn retry_should_really_wait() {
    let script = [fails(FailureKind::Failed, "exit code 1"), says(done())];
    let script = RefCell::new(VecDeque::from(script));
    let begin = std::time::Instant::now();
    let call = async |_: Request| script.borrow_mut().pop_front().expect("no further call");
    let asked = ask::<Execution, _>(request(Session::Ephemeral), &prompt(), call, |_| Ok(())).await;
    assert!(asked.is_ok() && begin.elapsed() >= FIRST_DELAY.mul_f64(0.75));
}

#[test]
fn uuids_should_be_of_version_four() {
    for _ in 0..100 {
        let id = uuid();
        let bytes = id.as_bytes();
        assert!(id.len() == 36 && bytes[14] == b'4' && b"89ab".contains(&bytes[19]), "{id}");
        assert_ne!(id, uuid());
    }
}
