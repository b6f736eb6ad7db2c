//! How far agents are from what Redis itself can do: plans that agents drain, beside the
//! very same script called by a client that does nothing else.
//!
//! That client is ours and not `redis-benchmark`: each call has to name the task and the
//! epoch that the call before it granted, and all that `redis-benchmark` can vary are
//! random numbers. It would name most tasks several times or never, and what is completed
//! already, or not by its holder, is refused at a fraction of the cost. Ours is built alike:
//! one thread that polls all connections, each with one call on its way.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use model::{AgentName, GoalId, Role};
use rustix::event::{PollFd, PollFlags, poll};
use store::agent::Registration;
use store::task::Claim;
use testkit::RedisServer;

use crate::drain;
use crate::report::{Report, Wanted};
use crate::world::{GOAL, World};

const ROUNDS: usize = 5;
/// Of a lease: longer than all takes.
const TTL_MS: u64 = 600_000;
/// Arguments of the script that completes a task: more and fewer than of any other that an
/// agent calls here.
const ARGUMENTS: usize = 11;

pub(crate) async fn measure() -> Report {
    let call = overheard().await;
    let mut report = Report::new("ceiling");
    let [mut ours, mut theirs] = [Vec::new(), Vec::new()];
    let [mut hops, mut trips] = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let (rate, server) = drain::rate_and_server("drain", 16).await;
        ours.push(rate);
        theirs.push(ceiling("drain", 16, server, &call).await);
        let (rate, server) = drain::rate_and_server("chain", 1).await;
        hops.push(1_000.0 / rate);
        trips.push(1_000.0 / ceiling("chain", 1, server, &call).await);
    }
    let ratios = |some: &[f64], others: &[f64]| -> Vec<f64> {
        some.iter().zip(others).map(|(one, other)| one / other).collect()
    };
    report.add("drain, 16 agents", "tasks/s", &ours);
    report.add("drain, the bare script on 16 connections", "tasks/s", &theirs);
    let name = "drain, 16 agents to the bare script";
    report.want(name, "x", &ratios(&ours, &theirs), Wanted::AtLeast(0.8));
    report.add("chain, a hop of 1 agent", "ms", &hops);
    report.add("chain, a round trip of the bare script", "ms", &trips);
    let name = "chain, a hop to a round trip";
    report.want(name, "x", &ratios(&hops, &trips), Wanted::AtMost(1.5));
    report
}

/// What an agent calls to complete a task and be granted the next, word by word: the
/// function's name, its number of keys, its arguments.
async fn overheard() -> Vec<String> {
    let mut world = World::new().await;
    world.join(1).await;
    let mut monitor = TcpStream::connect(("127.0.0.1", world.server.port())).unwrap();
    monitor.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    monitor.write_all(b"MONITOR\r\n").unwrap();
    world.accept(drain::plan_of("drain", 10)).await;
    world.until_done(10).await;
    let (mut heard, mut part) = (Vec::new(), vec![0; 1 << 20]);
    loop {
        let length = monitor.read(&mut part).expect("a completion among what Redis was told");
        heard.extend_from_slice(&part[..length]);
        let text = String::from_utf8_lossy(&heard);
        let calls =
            text.lines().filter_map(|line| line.split_once("\"FCALL\" \"")?.1.strip_suffix('"'));
        let mut calls = calls.map(|call| call.split("\" \"").map(str::to_owned));
        if let Some(call) = calls.find(|words| words.clone().count() == 2 + ARGUMENTS) {
            return call.collect();
        }
    }
}

/// One connection, and what its last call granted.
struct Client {
    stream: TcpStream,
    agent: AgentName,
    incarnation: u64,
    reply: Vec<u8>,
}

/// Tasks per second by the bare script.
async fn ceiling(shape: &str, connections: usize, server: RedisServer, call: &[String]) -> f64 {
    // Its scripts it keeps.
    redis::cmd("FLUSHALL").exec(&mut server.connection()).unwrap();
    let world = World::on(server).await;
    let tasks = drain::tasks_of(shape);
    world.accept(drain::plan_of(shape, tasks)).await;
    let mut clients = Vec::new();
    for n in 0..connections {
        let mut client = Client::new(&world, n).await;
        let (name, incarnation) = (&client.agent, store::agent::Incarnation(client.incarnation));
        match world.store.claim(name, incarnation, TTL_MS, None).await.unwrap() {
            Claim::Granted(grant) => {
                client.send(call, grant.task.as_str(), &grant.epoch.to_string());
                clients.push(client);
            }
            // The others have taken all that there is.
            Claim::Empty => {}
            other @ (Claim::Held { .. } | Claim::Taken | Claim::Fenced) => panic!("{other:?}"),
        }
    }
    drive(clients, call);
    #[allow(clippy::cast_precision_loss, reason = "some thousands")]
    let rate = tasks as f64 / world.drained(tasks).await.as_secs_f64();
    rate
}

/// Completes and takes tasks until each client has found nothing more.
fn drive(mut clients: Vec<Client>, call: &[String]) {
    let mut part = [0; 4_096];
    while !clients.is_empty() {
        let mut ready: Vec<PollFd<'_>> =
            clients.iter().map(|client| PollFd::new(&client.stream, PollFlags::IN)).collect();
        poll(&mut ready, None).unwrap();
        let ready: Vec<bool> = ready.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut ready = ready.into_iter();
        clients.retain_mut(|client| {
            if ready.next() != Some(true) {
                return true;
            }
            let length = client.stream.read(&mut part).unwrap();
            assert!(length > 0, "Redis hung up");
            client.reply.extend_from_slice(&part[..length]);
            // Else it is not all there.
            let Ok(reply) = redis::parse_redis_value(&client.reply) else { return true };
            client.reply.clear();
            let words: Vec<String> = redis::from_redis_value(reply).unwrap();
            match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["done", "granted", task, epoch, ..] => client.send(call, task, epoch),
                ["done", "empty"] => return false,
                ref other => panic!("{other:?}"),
            }
            true
        });
    }
}

impl Client {
    async fn new(world: &World, n: usize) -> Self {
        let agent = AgentName::new(format!("a{n}_agent")).unwrap();
        let registration = Registration {
            agent: &agent,
            pid: 1,
            host: "here",
            start_time: 1,
            role: &Role::new("worker").unwrap(),
            goal: &GoalId::new(GOAL).unwrap(),
            spec_hash: "",
            provider: "offline",
        };
        let incarnation = world.store.register(&registration, TTL_MS).await.unwrap().0;
        let stream = TcpStream::connect(("127.0.0.1", world.server.port())).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, agent, incarnation, reply: Vec::new() }
    }

    fn send(&mut self, call: &[String], task: &str, epoch: &str) {
        // Name, number of keys and time; agent, incarnation, task and epoch; the rest.
        let (first, rest) = (&call[..3], &call[7..]);
        let mut words = redis::cmd("FCALL");
        words.arg(first).arg(self.agent.as_str()).arg(self.incarnation);
        words.arg(task).arg(epoch).arg(rest);
        self.stream.write_all(&words.get_packed_command()).unwrap();
    }
}
