use super::legs::{Figures, Leg, Timeline, Victim, figures};
use store::event::Event;

const AT: u64 = 1_000_000;

fn event(millis: u64, kind: &str, fields: &[(&str, &str)]) -> Event {
    Event {
        id: format!("{millis}-0"),
        kind: kind.to_owned(),
        fields: fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
    }
}

fn agent(held: Option<(&str, u64)>) -> Victim {
    Victim::Agent {
        name: "a".to_owned(),
        incarnation: 7,
        held: held.map(|(task, epoch)| (task.to_owned(), epoch)),
    }
}

fn seen(timeline: &Timeline) -> Vec<(Leg, u64)> {
    timeline.legs().iter().map(|(leg, millis)| (*leg, *millis)).collect()
}

/// What the scripts emit when an agent that ran t1 is killed.
fn death(at: u64) -> [Event; 4] {
    [
        event(at + 2, "task-lose", &[("task", "t1"), ("agent", "a"), ("incarnation", "7")]),
        event(at + 2, "agent-death", &[("agent", "a"), ("incarnation", "7"), ("task", "t1")]),
        event(at + 30, "agent-register", &[("agent", "a"), ("incarnation", "9")]),
        event(at + 34, "task-claim", &[("task", "t1"), ("agent", "b"), ("incarnation", "3")]),
    ]
}

#[test]
fn timeline_of_a_killed_agent_should_have_every_leg() {
    let mut timeline = Timeline::new(agent(Some(("t1", 5))), AT, true);
    let legs: Vec<Option<Leg>> = death(AT).iter().map(|e| timeline.apply(e)).collect();
    let expected = [Leg::LeaseReleased, Leg::Detected, Leg::Registered, Leg::RunningAgain];
    assert_eq!(legs, expected.map(Some));
    assert_eq!(
        seen(&timeline),
        [
            (Leg::Detected, 2),
            (Leg::LeaseReleased, 2),
            (Leg::Registered, 30),
            (Leg::RunningAgain, 34)
        ]
    );
    assert_eq!(timeline.awaited(), []);
    // Later ones of the same kind change nothing.
    assert_eq!(death(AT + 500).map(|e| timeline.apply(&e)), [None; 4]);
    assert_eq!(timeline.see(Leg::Converged, AT + 40), Some(Leg::Converged));
    assert_eq!(timeline.legs()[&Leg::Converged], 40);
}

#[test]
fn timeline_should_know_what_is_still_to_come() {
    let mut timeline = Timeline::new(agent(Some(("t1", 5))), AT, true);
    assert_eq!(timeline.awaited(), [Leg::Detected, Leg::Registered, Leg::LeaseReleased]);
    timeline.apply(&death(AT)[0]);
    assert_eq!(timeline.awaited(), [Leg::Detected, Leg::Registered, Leg::RunningAgain]);
    let idle = Timeline::new(agent(None), AT, true);
    assert_eq!(idle.awaited(), [Leg::Detected, Leg::Registered]);
}

#[test]
fn timeline_should_not_count_what_concerns_others_or_came_before() {
    let mut timeline = Timeline::new(agent(Some(("t1", 5))), AT, true);
    let others = [
        event(AT - 1, "agent-death", &[("agent", "a"), ("incarnation", "7")]),
        event(AT + 1, "agent-death", &[("agent", "b"), ("incarnation", "7")]),
        event(AT + 1, "agent-death", &[("agent", "a"), ("incarnation", "6")]),
        event(AT + 1, "agent-register", &[("agent", "a"), ("incarnation", "7")]),
        event(AT + 1, "task-lose", &[("task", "t9"), ("agent", "b"), ("incarnation", "3")]),
        event(AT + 1, "task-claim", &[("task", "t1"), ("agent", "a"), ("incarnation", "7")]),
        event(AT + 1, "leader", &[("holder", "x")]),
    ];
    for event in &others {
        assert_eq!(timeline.apply(event), None, "{event:?}");
    }
    assert!(timeline.legs().is_empty());
}

#[test]
fn task_that_ended_just_before_the_fault_should_not_be_waited_for() {
    let mut timeline = Timeline::new(agent(Some(("t1", 5))), AT, true);
    let done =
        |epoch| event(AT, "task-complete", &[("task", "t1"), ("agent", "a"), ("epoch", epoch)]);
    timeline.apply(&done("4"));
    assert!(timeline.awaited().contains(&Leg::LeaseReleased), "of another grant");
    timeline.apply(&done("5"));
    assert_eq!(timeline.awaited(), [Leg::Detected, Leg::Registered]);
}

#[test]
fn agent_that_is_asked_to_end_should_hand_its_task_back() {
    let mut timeline = Timeline::new(agent(Some(("t1", 5))), AT, true);
    let release =
        event(AT + 3, "task-release", &[("task", "t1"), ("agent", "a"), ("incarnation", "7")]);
    assert_eq!(timeline.apply(&release), Some(Leg::LeaseReleased));
    let gone = event(AT + 4, "agent-deregister", &[("agent", "a"), ("incarnation", "7")]);
    assert_eq!(timeline.apply(&gone), Some(Leg::Detected));
}

#[test]
fn stopped_agent_should_be_awaited_only_once_somebody_noticed() {
    let mut timeline = Timeline::new(agent(Some(("t1", 5))), AT, false);
    assert_eq!(timeline.awaited(), []);
    timeline.apply(&death(AT)[1]);
    assert_eq!(timeline.awaited(), [Leg::Registered, Leg::LeaseReleased]);
}

#[test]
fn timeline_of_the_orchestrator_should_tell_when_another_leads() {
    let mut timeline = Timeline::new(Victim::Orchestrator { holder: "h-1".into() }, AT, true);
    assert_eq!(timeline.awaited(), [Leg::Detected]);
    assert_eq!(timeline.apply(&event(AT + 1, "leader", &[("holder", "h-1")])), None);
    let next = event(AT + 90, "leader", &[("holder", "h-2")]);
    assert_eq!(timeline.apply(&next), Some(Leg::Detected));
    assert_eq!((seen(&timeline), timeline.awaited()), (vec![(Leg::Detected, 90)], vec![]));
}

#[test]
fn timeline_of_redis_should_tell_when_work_goes_on() {
    let mut timeline = Timeline::new(Victim::Redis, AT, true);
    assert_eq!(timeline.apply(&event(AT, "task-claim", &[("task", "t1")])), None);
    let claim = event(AT + 80, "task-claim", &[("task", "t1")]);
    assert_eq!(timeline.apply(&claim), Some(Leg::ClaimingAgain));
    assert_eq!(timeline.awaited(), [Leg::RedisBack]);
}

#[test]
fn figures_should_be_of_the_nearest_rank() {
    assert_eq!(figures(&[]), None);
    let one = Figures { count: 1, p50: 4, p90: 4, p99: 4, max: 4 };
    assert_eq!(figures(&[4]), Some(one));
    let hundred: Vec<u64> = (1..=100).rev().collect();
    let expected = Figures { count: 100, p50: 50, p90: 90, p99: 99, max: 100 };
    assert_eq!(figures(&hundred), Some(expected));
    let few = Figures { count: 5, p50: 3, p90: 9, p99: 9, max: 9 };
    assert_eq!(figures(&[9, 1, 4, 3, 2]), Some(few));
}
