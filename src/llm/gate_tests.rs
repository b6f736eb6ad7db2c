//! Callers that are dropped: at each stage of a call, on a real Redis.

use std::path::PathBuf;

use providers::command::Program;
use providers::{Permissions, Step};
use store::Options;
use store::agent::Registration;
use store::llm::{CostOf, Slots};
use tempfile::TempDir;
use testkit::{DEADLINE, FaultProxy, Mode, RedisServer, wait_until};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;

/// One slot, and a model's program that leaves a file and then hangs.
struct World {
    folder: TempDir,
    store: Store,
    server: RedisServer,
}

impl World {
    async fn new() -> Self {
        let server = RedisServer::start();
        let store = open(&server.url()).await;
        Self { folder: tempfile::tempdir().unwrap(), store, server }
    }

    fn gate(&self, store: &Store) -> Gate {
        let script = "touch \"$0/asked\"; sleep 1000".to_owned();
        let args = vec!["-c".to_owned(), script, self.folder.path().display().to_string()];
        Gate {
            store: store.clone(),
            provider: Arc::new(Program { program: "sh".to_owned(), args }),
            host: "box".to_owned(),
            slots: 1,
            // So that nothing ends by itself.
            slot_ttl: Duration::from_secs(3_600),
        }
    }

    async fn errand(&self, name: &str) -> Errand {
        let (agent, goal) = (AgentName::new(name).unwrap(), GoalId::new("g").unwrap());
        let registration = Registration {
            agent: &agent,
            pid: 7,
            host: "box",
            start_time: 7,
            role: &"any".parse().unwrap(),
            goal: &goal,
            spec_hash: "spec",
            provider: "command",
        };
        let incarnation = self.store.register(&registration, 60_000).await.unwrap();
        let party = Party::Agent { agent, incarnation, task: None };
        Errand { party, goal, prompt: "execute/1 0".to_owned() }
    }

    /// Somebody calls, over a store that need not be ours.
    async fn call(&self, name: &str, store: &Store) -> JoinHandle<Result<Reply, Failure>> {
        let (gate, errand) = (self.gate(store), self.errand(name).await);
        let folder = self.folder.path().to_owned();
        tokio::spawn(async move {
            let launcher = Launcher {
                environment: vec!["PATH".to_owned()],
                marker: format!("gate-test-{}", folder.display()),
                cancel: CancellationToken::new(),
                systemg: None,
            };
            gate.call(&errand, &request(folder), &launcher).await
        })
    }

    async fn until_slots(&self, what: &str, is_so: impl Fn(&Slots) -> bool) {
        wait_until(what, DEADLINE, || async {
            let slots = self.store.slots().await.unwrap();
            if is_so(&slots) { Ok(()) } else { Err(format!("{slots:?}")) }
        })
        .await;
    }

    async fn recorded(&self) -> u64 {
        self.store.costs(CostOf::Goal(&GoalId::new("g").unwrap())).await.unwrap().calls
    }

    fn was_asked(&self) -> bool {
        self.folder.path().join("asked").exists()
    }
}

async fn open(url: &str) -> Store {
    let url: store::RedisUrl = url.parse().unwrap();
    Store::new(&Options::from(url)).await.unwrap()
}

fn request(folder: PathBuf) -> Request {
    Request {
        step: Step::Execute,
        prompt: "Do it.".to_owned(),
        schema: None,
        model: None,
        session: Session::Ephemeral,
        permissions: Permissions::default(),
        budget_micros: None,
        scratch: folder.clone(),
        log: folder.join("log"),
        folder,
        timeout: Duration::from_secs(3_600),
    }
}

fn begin(errand: &Errand) -> Begin<'_> {
    Begin {
        call: "1",
        caller: errand.party.caller(),
        goal: &errand.goal,
        provider: "command",
        step: "execute",
        slots: 1,
        ttl_ms: 3_600_000,
        session: None,
    }
}

fn holds(slots: &Slots, holder: &str) -> bool {
    slots.in_use.iter().any(|slot| slot.holder == holder)
}

/// Regression: it was recorded as a call whose cost nobody knows.
#[tokio::test]
async fn caller_that_is_dropped_in_the_queue_should_leave_it_and_make_no_call() {
    let world = World::new().await;
    let other = world.errand("other").await;
    let begin = begin(&other);
    assert!(matches!(world.store.begin_call(&begin).await.unwrap(), Begun::Granted { .. }));
    let call = world.call("ours", &world.store).await;
    world.until_slots("it waits", |slots| slots.waiting.len() == 1).await;
    call.abort();
    world.until_slots("nobody waits", |slots| slots.waiting.is_empty()).await;
    // The slot that it waited for is the next one's.
    world.store.give_up_call(&begin.caller, &other.goal, "1").await.unwrap();
    let next = Begin { call: "2", ..begin };
    assert!(matches!(world.store.begin_call(&next).await.unwrap(), Begun::Granted { .. }));
    assert_eq!((world.recorded().await, world.was_asked()), (0, false));
}

/// Regression: nobody else got the slot for its time to live.
#[tokio::test]
async fn caller_that_is_dropped_before_it_hears_of_its_slot_should_give_it_back() {
    let world = World::new().await;
    // Redis knows the scripts: asked for one that it does not know, it only says so.
    let other = world.errand("other").await;
    world.store.begin_call(&begin(&other)).await.unwrap();
    world.store.give_up_call(&other.party.caller(), &other.goal, "1").await.unwrap();
    let proxy = FaultProxy::start(world.server.port());
    let cut_off = open(&proxy.url()).await;
    // So that the connection is there when replies begin to be lost.
    cut_off.holds().await.unwrap();
    proxy.set(Mode::DropReplies);
    let call = world.call("ours", &cut_off).await;
    world.until_slots("Redis granted it", |slots| holds(slots, "agent:ours")).await;
    call.abort();
    proxy.set(Mode::Forward);
    world.until_slots("the slot is free", |slots| slots.in_use.is_empty()).await;
    assert_eq!((world.recorded().await, world.was_asked()), (0, false));
}

#[tokio::test]
async fn caller_that_is_dropped_in_its_call_should_free_the_slot_and_be_counted() {
    let world = World::new().await;
    let call = world.call("ours", &world.store).await;
    wait_until("the model is asked", DEADLINE, || async {
        if world.was_asked() { Ok(()) } else { Err(format!("{call:?}")) }
    })
    .await;
    call.abort();
    world.until_slots("the slot is free", |slots| slots.in_use.is_empty()).await;
    wait_until("it is counted", DEADLINE, || async {
        let calls = world.recorded().await;
        if calls == 1 { Ok(()) } else { Err(calls.to_string()) }
    })
    .await;
}
