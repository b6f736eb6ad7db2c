//! Playing seeds, on two Redis servers at once, and telling what came of it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use testkit::RedisServer;
use tokio::runtime::Builder;

use crate::upstream::Upstream;
use crate::world::World;

/// How many seeds are played at a time.
const PLAYERS: usize = 2;

/// After how many seeds it is said how far they are.
const PROGRESS: u64 = 1_000;

/// What came of one seed.
#[derive(Default)]
pub(crate) struct Played {
    pub(crate) seed: u64,
    pub(crate) steps: u64,
    pub(crate) seconds: f64,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    pub(crate) violations: Vec<String>,
    pub(crate) trace: Vec<String>,
    /// Of all that happened.
    pub(crate) digest: u64,
}

/// One Redis, on which one seed after the other is played.
pub(crate) struct Player {
    upstream: Upstream,
    _server: RedisServer,
}

impl Player {
    pub(crate) fn new() -> Self {
        let server = RedisServer::options().unix_socket().start();
        Self { upstream: Upstream::new(&server), _server: server }
    }

    pub(crate) fn play(&mut self, seed: u64) -> Played {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            // One that keeps time from moving, and one for the product.
            .max_blocking_threads(2)
            .build()
            .expect("a runtime");
        let upstream = self.upstream.clone();
        runtime.block_on(async move {
            // While this waits, time moves only when it is told to.
            let (stop, stopped) = std::sync::mpsc::channel::<()>();
            let held = tokio::task::spawn_blocking(move || stopped.recv());
            let mut world = World::new(seed, &upstream);
            world.be_faulty().await;
            if world.checks.violations.is_empty() {
                world.converge().await;
            }
            world.judge().await;
            let played = Played {
                seed,
                steps: world.steps,
                seconds: world.clock.elapsed().as_secs_f64(),
                faults: std::mem::take(&mut world.faults),
                violations: std::mem::take(&mut world.checks.violations),
                digest: digest(seed, &world.trace),
                trace: std::mem::take(&mut world.trace),
            };
            drop(world);
            drop(stop);
            _ = held.await;
            played
        })
    }
}

impl World {
    /// The history against what it led to.
    async fn judge(&mut self) {
        if !self.checks.violations.is_empty() {
            return;
        }
        let link = self.link();
        let store = link.store().await;
        let state = audit::read_state(&store, None).await.expect("the state");
        self.checks.finish(&state);
    }
}

/// The same for the same steps, within one build.
fn digest(seed: u64, trace: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, trace).hash(&mut hasher);
    hasher.finish()
}

/// Plays one seed and prints all of it.
pub(crate) fn one(seed: u64) {
    let played = Player::new().play(seed);
    for line in &played.trace {
        println!("{line}");
    }
    println!("seed {seed}: {} steps, {:.1} s of virtual time", played.steps, played.seconds);
    assert!(played.violations.is_empty(), "seed {seed}: {:#?}", played.violations);
}

/// Plays many and prints the sum.
pub(crate) fn many(first: u64, count: u64, most_failures: usize) {
    let began = Instant::now();
    let next = Arc::new(AtomicU64::new(first));
    let sum: Arc<Mutex<Sum>> = Arc::default();
    let players: Vec<_> = (0..PLAYERS)
        .map(|_| {
            let (next, sum) = (Arc::clone(&next), Arc::clone(&sum));
            std::thread::spawn(move || {
                let mut player = Player::new();
                while sum.lock().expect("no panic").failed.len() < most_failures {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let played = player.play(seed);
                    sum.lock().expect("no panic").add(played);
                }
            })
        })
        .collect();
    let panicked = players.into_iter().filter_map(|player| player.join().err()).count();
    let sum = sum.lock().expect("no panic");
    sum.print(began.elapsed().as_secs_f64());
    assert_eq!(panicked, 0, "a simulation panicked: see above");
    let failed: Vec<u64> = sum.failed.iter().map(|played| played.seed).collect();
    assert!(failed.is_empty(), "promises are broken: replay with `make sim SEED={}`", failed[0]);
}

#[derive(Default)]
struct Sum {
    seeds: u64,
    steps: u64,
    /// Whatever the order in which seeds ended.
    digest: u64,
    virtual_seconds: f64,
    faults: BTreeMap<&'static str, u64>,
    failed: Vec<Played>,
}

impl Sum {
    fn add(&mut self, played: Played) {
        self.seeds += 1;
        self.steps += played.steps;
        self.digest = self.digest.wrapping_add(played.digest);
        self.virtual_seconds += played.seconds;
        for (kind, count) in &played.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        if !played.violations.is_empty() {
            println!("seed {} breaks a promise (replay: make sim SEED={0})", played.seed);
            for violation in &played.violations {
                println!("  {violation}");
            }
            self.failed.push(played);
        }
        if self.seeds.is_multiple_of(PROGRESS) {
            let violations = self.failed.len();
            println!("{} seeds played, {} steps; {violations} failed", self.seeds, self.steps);
        }
    }

    fn print(&self, seconds: f64) {
        println!("seeds           {}", self.seeds);
        println!("steps           {}", self.steps);
        println!("digest          {:016x}", self.digest);
        println!("virtual time    {:.0} s", self.virtual_seconds);
        println!("faults          {}", self.faults.values().sum::<u64>());
        for (kind, count) in &self.faults {
            println!("  {count:>8}  {kind}");
        }
        let violations: usize = self.failed.iter().map(|played| played.violations.len()).sum();
        println!("violations      {violations}");
        println!("seconds         {seconds:.1}");
    }
}
