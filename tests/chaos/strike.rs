//! The faults, and what ends each of them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use model::TaskId;
use process::{Identity, Signal};
use testkit::{Mode, wait_until_blocking};

use crate::files;
use crate::kind::{Broken, Kind, Service, Word};
use crate::scene::{Scene, TTL, Target, Targets, heartbeat};
use crate::support::DEADLINE;

/// A fault under way.
pub(crate) struct Active {
    /// What was hit, for people.
    pub(crate) what: String,
    /// When it is to be over.
    pub(crate) until: Instant,
    ended: Vec<Ended>,
    undo: Undo,
}

/// A process of a service that systemg has to start again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) service: Service,
    pub(crate) process: Identity,
    pub(crate) at: Instant,
}

/// What ends a fault that does not end by itself.
enum Undo {
    Nothing,
    /// Let these go on.
    Continue(Vec<Identity>),
    /// Start sysg again as a person does, once this supervisor is gone.
    StartSysg(Identity),
    Forward,
    /// End Redis, and let it find this folder in the place of its own.
    Swap(PathBuf, Identity),
    /// Put the file back with this text.
    Save(PathBuf, String),
    /// Once this agent is gone, declare it again.
    Declare(Identity),
    /// Add this to the file.
    Append(PathBuf, &'static str),
}

/// Begins a fault, which hits these agents where it hits agents.
pub(crate) fn begin(
    kind: Kind,
    scene: &Scene,
    targets: &Targets,
    victims: &[Target],
    random: &mut fastrand::Rng,
) -> Active {
    use Service::{Orchestrator, Redis};
    let agents: Vec<Identity> = victims.iter().map(|agent| agent.process).collect();
    let names: Vec<&str> = victims.iter().map(|agent| agent.name.as_str()).collect();
    let short = Duration::from_millis(random.u64(200..1_500));
    let long = TTL + Duration::from_millis(random.u64(500..3_000));
    let (orchestrator, redis) = (targets.orchestrator, targets.redis);
    match kind {
        Kind::AgentKill | Kind::AgentsKill => ended(&agents, Signal::KILL, names.join(" "), &[]),
        Kind::AgentTerm => ended(&agents, Signal::TERM, names.join(" "), &[]),
        Kind::AgentPause => stopped(agents, short, names.join(" ") + " "),
        Kind::AgentHang | Kind::AgentsHang => stopped(agents, long, names.join(" ") + " "),
        Kind::OrchestratorKill => {
            ended(&[orchestrator], Signal::KILL, String::new(), &[Orchestrator])
        }
        Kind::OrchestratorTerm => {
            ended(&[orchestrator], Signal::TERM, String::new(), &[Orchestrator])
        }
        Kind::OrchestratorPause => stopped(vec![orchestrator], short, String::new()),
        Kind::OrchestratorHang => stopped(vec![orchestrator], long, String::new()),
        Kind::RedisKill => ended(&[redis], Signal::KILL, String::new(), &[Redis]),
        Kind::RedisTerm => ended(&[redis], Signal::TERM, String::new(), &[Redis]),
        Kind::RedisPause => stopped(vec![redis], short, String::new()),
        Kind::RedisHang => stopped(vec![redis], long, String::new()),
        Kind::RedisOlder => {
            let copy = scene.fleet.copy_of_redis();
            // So that what Redis forgets is more than tasks.
            send(&agents, Signal::KILL);
            let what =
                format!("from {:.1} s ago, {} killed since", long.as_secs_f64(), names.join(" "));
            let until = Instant::now() + long;
            Active { what, until, ended: Vec::new(), undo: Undo::Swap(copy, redis) }
        }
        Kind::RedisEmpty => {
            let empty = scene.fleet.path(".orch/redis-empty");
            std::fs::create_dir(&empty).unwrap();
            let (what, until) = ("its data is gone".to_owned(), Instant::now());
            Active { what, until, ended: Vec::new(), undo: Undo::Swap(empty, redis) }
        }
        Kind::SysgKill => without_sysg(&[], targets, short),
        Kind::AllKill => {
            let mut all: Vec<Identity> = targets.agents.iter().map(|agent| agent.process).collect();
            all.extend([orchestrator, redis]);
            without_sysg(&all, targets, short)
        }
        Kind::NetSlow => {
            let delay = Duration::from_millis(random.u64(5..100));
            network(scene, Mode::Delay(delay), short * 2, format!("{delay:?} each way, "))
        }
        Kind::NetCut => {
            scene.proxy.cut();
            network(scene, Mode::Forward, Duration::ZERO, String::new())
        }
        Kind::NetRefused => {
            let active = network(scene, Mode::Refuse, short, String::new());
            scene.proxy.cut();
            active
        }
        Kind::NetSilent => network(scene, Mode::Blackhole, short, String::new()),
        Kind::NetSilentLong => network(scene, Mode::Blackhole, long, String::new()),
        Kind::NetRepliesLost => network(scene, Mode::DropReplies, short, String::new()),
        Kind::NetCutOnReply => network(scene, Mode::CutOnReply, short, String::new()),
        Kind::Instructions(how) => {
            let text = scene.plan.instructions(None);
            damaged(scene, "INSTRUCTIONS.md", text, how, short, random)
        }
        Kind::Heartbeat(how) => {
            let file = heartbeat(&victims[0].name);
            let text = scene.fleet.read(scene.fleet.path(&file));
            damaged(scene, &file, text, how, short, random)
        }
        Kind::AgentUndeclared => {
            let [victim] = victims else { panic!("{victims:?}") };
            let without = scene.plan.instructions(Some(&victim.name));
            files::save(&scene.fleet.path("INSTRUCTIONS.md"), &without);
            let (what, until) = (names.join(" "), Instant::now() + short);
            Active { what, until, ended: Vec::new(), undo: Undo::Declare(victim.process) }
        }
        Kind::Directive(word) => directive(scene, &victims[0], word, short, random),
    }
}

impl Active {
    /// Ends it. What systemg has to start again.
    pub(crate) fn end(mut self, scene: &Scene) -> Vec<Ended> {
        match self.undo {
            Undo::Nothing => {}
            Undo::Continue(processes) => send(&processes, Signal::CONT),
            Undo::StartSysg(before) => {
                // Also as a zombie: sysg takes one for a supervisor that does not answer.
                wait_until_blocking("the killed supervisor is gone", DEADLINE, || {
                    let there = std::path::Path::new("/proc").join(before.pid.to_string()).exists();
                    if there { Err(before.to_string()) } else { Ok(()) }
                });
                scene.fleet.project.start();
            }
            Undo::Forward => scene.proxy.set(Mode::Forward),
            Undo::Swap(folder, redis) => {
                scene.fleet.swap_redis(&folder, redis);
                // What it said last is read by now.
                std::thread::sleep(Duration::from_millis(20));
                scene.witness.data_is_older();
                self.ended.push(Ended::now(Service::Redis, redis));
            }
            Undo::Save(path, text) => files::save(&path, &text),
            Undo::Declare(agent) => {
                wait_until_blocking("an agent that nobody declares ends", DEADLINE, || {
                    if agent.is_alive() { Err(scene.fleet.log()) } else { Ok(()) }
                });
                let path = scene.fleet.path("INSTRUCTIONS.md");
                files::save(&path, &scene.plan.instructions(None));
            }
            Undo::Append(path, text) => files::append(&path, text),
        }
        self.ended
    }
}

impl Ended {
    fn now(service: Service, process: Identity) -> Self {
        Self { service, process, at: Instant::now() }
    }
}

/// What is gone meanwhile needs no signal.
fn send(processes: &[Identity], signal: Signal) {
    for process in processes {
        process::signal(process, signal).unwrap();
    }
}

fn ended(processes: &[Identity], signal: Signal, what: String, services: &[Service]) -> Active {
    send(processes, signal);
    let ended = services.iter().zip(processes).map(|(of, one)| Ended::now(*of, *one)).collect();
    Active { what, until: Instant::now(), ended, undo: Undo::Nothing }
}

fn stopped(processes: Vec<Identity>, pause: Duration, what: String) -> Active {
    send(&processes, Signal::STOP);
    let what = format!("{what}for {:.1} s", pause.as_secs_f64());
    let until = Instant::now() + pause;
    Active { what, until, ended: Vec::new(), undo: Undo::Continue(processes) }
}

fn without_sysg(others: &[Identity], targets: &Targets, pause: Duration) -> Active {
    send(&[targets.sysg], Signal::KILL);
    send(others, Signal::KILL);
    let what = format!("started again after {:.1} s", pause.as_secs_f64());
    let until = Instant::now() + pause;
    Active { what, until, ended: Vec::new(), undo: Undo::StartSysg(targets.sysg) }
}

fn network(scene: &Scene, mode: Mode, pause: Duration, what: String) -> Active {
    scene.proxy.set(mode);
    let what =
        if pause.is_zero() { what } else { format!("{what}for {:.1} s", pause.as_secs_f64()) };
    let until = Instant::now() + pause;
    Active { what, until, ended: Vec::new(), undo: Undo::Forward }
}

fn damaged(
    scene: &Scene,
    file: &str,
    text: String,
    how: Broken,
    pause: Duration,
    random: &mut fastrand::Rng,
) -> Active {
    let path = scene.fleet.path(file);
    files::damage(&path, &text, how, &scene.fleet.project.home().join("elsewhere.md"), random);
    let what = format!("{file} for {:.1} s", pause.as_secs_f64());
    let until = Instant::now() + pause;
    Active { what, until, ended: Vec::new(), undo: Undo::Save(path, text) }
}

fn directive(
    scene: &Scene,
    agent: &Target,
    word: Word,
    pause: Duration,
    random: &mut fastrand::Rng,
) -> Active {
    let path = scene.fleet.path(&heartbeat(&agent.name));
    let any = &scene.plan.tasks[random.usize(..scene.plan.tasks.len())];
    let running = agent.task.as_ref().map_or(any.as_str(), TaskId::as_str);
    let line = match word {
        Word::Pause => "PAUSE".to_owned(),
        Word::Drop => format!("DROP-TASK {running}"),
        Word::Elevate => format!("ELEVATE {any} {}", random.u32(..100)),
        Word::Flush => "FLUSH-MEMORY".to_owned(),
        Word::Reparse => "REPARSE".to_owned(),
    };
    files::append(&path, &format!("{line}\n"));
    let what = format!("{}: {line}", agent.name);
    let (until, undo) = match word {
        Word::Pause => (Instant::now() + pause, Undo::Append(path, "RESUME\n")),
        Word::Drop | Word::Elevate | Word::Flush | Word::Reparse => (Instant::now(), Undo::Nothing),
    };
    Active { what, until, ended: Vec::new(), undo }
}
