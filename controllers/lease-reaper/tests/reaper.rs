//! The reaper against a real Redis, run by the real kit.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests: the panic is the report")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use lease_reaper::{Settings, controller};
use model::lease::Epoch;
use model::task::State;
use model::{AgentName, Dag, GoalId, Role, TaskId, TaskSpec};
use reconcile::{CancellationToken, Policy, Stats};
use store::agent::{Beat, Incarnation, Registration};
use store::lead::{Answer, Candidate, Controller};
use store::task::{Claim, Settled};
use store::{Lead, Options, Store};
use testkit::{DEADLINE, RedisServer, wait_until};
use tokio_util::task::AbortOnDropHandle;

/// Of the agents' own records; the reaper's TTL is apart from it.
const AGENT_TTL_MS: u64 = 60_000;
const TTL: Duration = Duration::from_secs(3);

struct World {
    redis: RedisServer,
    store: Store,
}

/// A task that an agent runs.
struct Held {
    agent: AgentName,
    incarnation: Incarnation,
    task: TaskId,
    epoch: Epoch,
}

impl World {
    async fn new(tasks: &[&str]) -> Self {
        let redis = RedisServer::start();
        let store = Store::new(&Options::from(redis.url().parse::<store::RedisUrl>().unwrap()))
            .await
            .unwrap();
        let world = Self { redis, store };
        let tasks = tasks.iter().map(|id| TaskSpec::new(TaskId::new(*id).unwrap(), "t")).collect();
        let dag = Dag::new(tasks, &[]).unwrap();
        let lead = world.lead(Controller::Dag, "orch-1").await;
        world.store.accept(&lead, &goal(), dag, "hash", "a goal").await.unwrap();
        world
    }

    /// Makes `holder` the leader, whoever it was before.
    async fn lead(&self, controller: Controller, holder: &str) -> Lead {
        let leaders = self.store.leaders().await.unwrap();
        let dead: Vec<_> = leaders.iter().map(|leader| (leader.controller, leader.pulse)).collect();
        let candidate =
            Candidate { holder: holder.to_owned(), pid: 1, start_time: 1, host: "here".to_owned() };
        match self.store.lead(&candidate, &[controller], &dead).await.unwrap() {
            Answer::Held(epoch) => Lead::new(controller, epoch),
            Answer::Standby(leader) => panic!("{leader:?} leads"),
        }
    }

    /// A new process of agent `name` that claims a task.
    async fn claim(&self, name: &str, pid: u32) -> Held {
        let agent = AgentName::new(name).unwrap();
        let registration = Registration {
            agent: &agent,
            pid,
            host: "here",
            start_time: 1,
            role: &Role::new("any").unwrap(),
            goal: &goal(),
            spec_hash: "hash",
            provider: "",
        };
        let incarnation = self.store.register(&registration, AGENT_TTL_MS).await.unwrap();
        let claim = self.store.claim(&agent, incarnation, AGENT_TTL_MS, None).await.unwrap();
        let Claim::Granted(grant) = claim else { panic!("{claim:?}") };
        Held { agent, incarnation, task: grant.task, epoch: grant.epoch }
    }

    /// Renews; whether the lease is still held.
    async fn beat(&self, held: &Held) -> bool {
        let holds = Some((&held.task, held.epoch));
        let beat = self.store.beat(&held.agent, held.incarnation, AGENT_TTL_MS, holds, "").await;
        match beat.unwrap() {
            Beat::Ok { lease, .. } => lease == Some(true),
            Beat::Fenced => false,
        }
    }

    async fn is_held(&self, held: &Held) -> bool {
        let pulse = self.store.lease(&held.task).await.unwrap();
        pulse.is_some_and(|pulse| pulse.epoch == held.epoch)
    }

    async fn wait_until_ready(&self, task: &TaskId) {
        wait_until("the task is ready again", DEADLINE, async || {
            let task = self.store.task(task).await.unwrap().unwrap();
            if task.status == State::Ready { Ok(()) } else { Err(format!("{task:?}")) }
        })
        .await;
    }

    async fn lost(&self) -> Vec<String> {
        let events = self.store.last_events(1_000).await.unwrap();
        let lost = events.iter().filter(|event| event.kind == "task-lose");
        lost.map(|event| event.field("task").to_owned()).collect()
    }
}

fn goal() -> GoalId {
    GoalId::new("goal-001").unwrap()
}

/// A reaper that runs until this is dropped.
struct Reaper {
    stats: Stats,
    waker: reconcile::Waker<TaskId>,
    _run: AbortOnDropHandle<()>,
}

impl Reaper {
    fn start(store: &Store, lead: Lead, resync: Duration) -> Self {
        let backoff = Policy { first: Duration::from_millis(20), ..Policy::default() };
        let kit = reconcile::Settings { resync, backoff, ..reconcile::Settings::default() };
        let settings = Settings { ttl: TTL, kit };
        let (controller, waker, stats) = controller(store.clone(), lead, settings);
        let run = tokio::spawn(async move {
            controller.run(CancellationToken::new()).await.unwrap();
        });
        Self { stats, waker, _run: AbortOnDropHandle::new(run) }
    }

    async fn wait_until_looked(&self, times: u64) {
        let target = self.stats.snapshot().resyncs + times;
        wait_until("the reaper has looked", DEADLINE, async || {
            let now = self.stats.snapshot();
            let idle = now.queued + now.in_flight == 0;
            if now.resyncs >= target && idle { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await;
    }
}

#[tokio::test]
async fn silent_lease_should_be_reaped_and_a_beating_one_never() {
    let world = World::new(&["task-001", "task-002"]).await;
    let silent = world.claim("silent_agent", 1).await;
    let beating = world.claim("beating_agent", 2).await;
    let lead = world.lead(Controller::Lease, "orch-1").await;
    // The resync is far longer than the TTL: the reaper must look more often.
    let reaper = Reaper::start(&world.store, lead, Duration::from_secs(600));

    wait_until("the silent lease is reaped", DEADLINE, async || {
        assert!(world.beat(&beating).await, "a beating lease was reaped");
        if world.is_held(&silent).await { Err("held") } else { Ok(()) }.map_err(str::to_owned)
    })
    .await;
    // More than a TTL more, counted in the reaper's own looks.
    let looks = reaper.stats.snapshot().resyncs + 6;
    wait_until("six more looks", DEADLINE, async || {
        assert!(world.beat(&beating).await, "a beating lease was reaped");
        let now = reaper.stats.snapshot();
        if now.resyncs >= looks { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;

    assert_eq!(world.lost().await, [silent.task.to_string()]);
    let task = world.store.task(&silent.task).await.unwrap().unwrap();
    assert_eq!((task.status, task.losses, task.failures), (State::Ready, 1, 0));
    let reason = task.reason.unwrap();
    assert!(reason.starts_with("its agent gave no sign of life for "), "{reason}");
    assert!(!world.beat(&silent).await, "the late holder must be fenced");
    let late = store::task::Holder {
        agent: &silent.agent,
        incarnation: silent.incarnation,
        task: &silent.task,
        epoch: silent.epoch,
    };
    let settled = world.store.complete(late, "[]", "", None).await.unwrap().0;
    assert_eq!(settled, Settled::Fenced);
    assert_eq!(reaper.stats.snapshot().acted, 1);
}

#[tokio::test]
async fn healthy_leases_should_cost_one_read_per_resync_and_no_pass() {
    let world = World::new(&["task-001", "task-002", "task-003"]).await;
    let held = [world.claim("a", 1).await, world.claim("b", 2).await, world.claim("c", 3).await];
    let lead = world.lead(Controller::Lease, "orch-1").await;
    let reaper = Reaper::start(&world.store, lead, Duration::from_secs(600));
    wait_until("four looks", DEADLINE, async || {
        for one in &held {
            assert!(world.beat(one).await);
        }
        let now = reaper.stats.snapshot();
        if now.resyncs >= 4 { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    let now = reaper.stats.snapshot();
    assert_eq!((now.passes, now.failures, now.resync_failures), (0, 0, 0), "{now:?}");
}

#[tokio::test]
async fn pulse_that_was_judged_should_not_be_reaped_once_it_changed() {
    let world = World::new(&["task-001"]).await;
    let held = world.claim("a", 1).await;
    let lead = world.lead(Controller::Lease, "orch-1").await;
    let judged = world.store.lease(&held.task).await.unwrap().unwrap();
    assert!(world.beat(&held).await);
    let reaped = world.store.reap(&lead, &held.task, judged, "late").await.unwrap();
    assert_eq!(reaped, store::lease::Reaped::Stale);
    assert!(world.is_held(&held).await);
}

#[tokio::test]
async fn reaper_should_fail_and_change_nothing_once_another_leads() {
    let world = World::new(&["task-001"]).await;
    let held = world.claim("a", 1).await;
    let old = world.lead(Controller::Lease, "orch-1").await;
    world.lead(Controller::Lease, "orch-2").await;
    let reaper = Reaper::start(&world.store, old, Duration::from_secs(600));
    wait_until("the reaper is refused", DEADLINE, async || {
        let now = reaper.stats.snapshot();
        match now.last_error {
            Some(error) if error.text.contains("another process leads now") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(world.is_held(&held).await);
    assert_eq!(world.lost().await, [""; 0]);
}

/// We and the holders are stopped together for longer than a TTL and go on, as with
/// SIGSTOP or a paused virtual machine: this runtime has one thread, so a thread that
/// sleeps stops the reaper and everything else of this process.
#[tokio::test]
async fn reaper_that_was_stopped_should_look_again_before_it_reaps() {
    let world = World::new(&["task-001"]).await;
    let held = world.claim("a", 1).await;
    let lead = world.lead(Controller::Lease, "orch-1").await;
    let reaper = Reaper::start(&world.store, lead, Duration::from_secs(600));
    // Silent for most of a TTL already, so that a part of the gap would be enough.
    reaper.wait_until_looked(3).await;
    std::thread::sleep(TTL + TTL / 2);
    reaper.wait_until_looked(1).await;
    assert!(world.is_held(&held).await, "reaped for time in which nobody looked");
    assert!(world.beat(&held).await);
    reaper.wait_until_looked(2).await;
    assert!(world.is_held(&held).await);
    // It is no amnesty: who stays silent is reaped.
    world.wait_until_ready(&held.task).await;
}

#[tokio::test]
async fn redis_that_was_away_should_be_no_silence_of_the_holders() {
    let world = World::new(&["task-001"]).await;
    let held = world.claim("a", 1).await;
    let lead = world.lead(Controller::Lease, "orch-1").await;
    let reaper = Reaper::start(&world.store, lead, Duration::from_secs(600));
    reaper.wait_until_looked(3).await;
    world.redis.pause();
    tokio::time::sleep(TTL + TTL / 2).await;
    world.redis.resume();
    // The look that waited has begun before the pause: two more are the first new ones.
    reaper.wait_until_looked(2).await;
    assert!(world.is_held(&held).await, "reaped for time in which nobody could beat");
    assert!(world.beat(&held).await);
    world.wait_until_ready(&held.task).await;
}

#[tokio::test]
async fn new_leader_should_begin_its_count_at_first_sight() {
    let world = World::new(&["task-001"]).await;
    let held = world.claim("a", 1).await;
    let first = world.lead(Controller::Lease, "orch-1").await;
    let reaper = Reaper::start(&world.store, first, Duration::from_secs(600));
    reaper.wait_until_looked(3).await;
    drop(reaper);
    let second = world.lead(Controller::Lease, "orch-2").await;
    let reaper = Reaper::start(&world.store, second, Duration::from_secs(600));
    reaper.waker.wake(held.task.clone());
    reaper.wait_until_looked(1).await;
    assert!(world.is_held(&held).await);
    world.wait_until_ready(&held.task).await;
}

#[tokio::test]
async fn wake_for_a_lease_that_ended_should_do_nothing() {
    let world = World::new(&["task-001"]).await;
    let lead = world.lead(Controller::Lease, "orch-1").await;
    let reaper = Reaper::start(&world.store, lead, Duration::from_secs(600));
    reaper.waker.wake(TaskId::new("task-001").unwrap());
    reaper.waker.wake(TaskId::new("no-such-task").unwrap());
    wait_until("both passes ended", DEADLINE, async || {
        let now = reaper.stats.snapshot();
        if now.passes >= 2 { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    let now = reaper.stats.snapshot();
    assert_eq!((now.acted, now.failures), (0, 0), "{now:?}");
}

#[tokio::test]
async fn lease_without_its_task_should_be_cleared_away() {
    let world = World::new(&["task-001"]).await;
    let lead = world.lead(Controller::Lease, "orch-1").await;
    let mut redis = TcpStream::connect(("127.0.0.1", world.redis.port())).unwrap();
    redis.write_all(b"HSET leases gone 5:1\r\n").unwrap();
    let mut reply = [0; 4];
    redis.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b":1\r\n");
    let _reaper = Reaper::start(&world.store, lead, Duration::from_secs(600));
    wait_until("the litter is gone", DEADLINE, async || {
        let leases = world.store.leases().await.unwrap();
        if leases.is_empty() { Ok(()) } else { Err(format!("{leases:?}")) }
    })
    .await;
}
