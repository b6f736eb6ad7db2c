//! What goes wrong, and how often: the seed draws a temper once, and then each fault.

use std::time::Duration;

use process::Identity;
use tokio::time::Instant;

use crate::link::Fault;
use crate::oracle;
use crate::processes::{Process, SpawnFault};
use crate::resp::Words;
use crate::world::{Saved, World};

/// How many steps of a simulation are faulty.
const STEPS: std::ops::Range<u64> = 150..400;

/// How often what happens, each in per mille of the steps.
struct Temper {
    link: u32,
    process: u32,
    people: u32,
    clock: u32,
    restore: u32,
    /// How soon what is held back arrives, and what is repeated.
    release: u32,
    repeat: u32,
    /// How many of a hundred steps stop in the middle, so that others go on first.
    split: u32,
    /// How many of a hundred times time passes though somebody could go on, and how much,
    /// in milliseconds at most.
    pace: (u32, u64),
}

impl Temper {
    fn draw(random: &mut fastrand::Rng) -> Self {
        let mut some = |most: u32| if random.bool() { random.u32(0..=most) } else { 0 };
        let (link, process, people) = (some(200), some(40), some(40));
        // A clock that was set forward and back, and a Redis that forgot all that was
        // granted meanwhile: no rule made of these two alone can keep epochs growing.
        let clock = some(15);
        let restore = if clock == 0 { some(8) } else { 0 };
        let (repeat, split) = (some(120), some(40));
        let release = if split > 0 { random.u32(100..400) } else { random.u32(5..150) };
        // Where it passes fast, silence lasts longer than a lease.
        let pace = if random.u32(0..3) == 0 { (30, 600) } else { (8, 100) };
        Self { link, process, people, clock, restore, release, repeat, split, pace }
    }
}

impl World {
    /// Steps with faults, until the seed has enough of them.
    pub(crate) async fn be_faulty(&mut self) {
        let temper = Temper::draw(&mut self.random);
        let steps = self.random.u64(STEPS);
        if self.random.bool() {
            self.start_orchestrator().await;
            self.follow().await;
        }
        while self.steps < steps && self.checks.violations.is_empty() {
            self.interfere(&temper).await;
            let due = self.due();
            if due.is_empty() {
                let most = self.idle().max(Duration::from_millis(10));
                self.pass(most.min(Duration::from_secs(1))).await;
                continue;
            }
            if self.chance(temper.pace.0) {
                let time = Duration::from_millis(self.random.u64(1..=temper.pace.1));
                self.pass(time).await;
                continue;
            }
            let at = due[self.random.usize(0..due.len())];
            if self.random.u32(0..1000) < temper.link {
                let fault = Fault::ALL[self.random.usize(0..Fault::ALL.len())];
                let after = [0, 0, 0, 1, 1, 2, 3][self.random.usize(0..7)];
                self.lanes[at].link.arm(after, fault);
            } else if self.chance(temper.split) {
                self.lanes[at].link.arm(self.random.u32(0..3), Fault::Hold);
            }
            self.step(at).await;
        }
    }

    async fn interfere(&mut self, temper: &Temper) {
        let mut happens = |per_mille: u32| self.random.u32(0..1000) < per_mille;
        let (process, people, clock, restore) = (
            happens(temper.process),
            happens(temper.people),
            happens(temper.clock),
            happens(temper.restore),
        );
        let (release, repeat, save) =
            (happens(temper.release), happens(temper.repeat), happens(20));
        if process {
            self.strike().await;
        }
        if people {
            self.bother();
        }
        if clock {
            let seconds = [3_600, -3_600, 60, -60][self.random.usize(0..4)];
            self.clock.jump(seconds);
            self.fault("clock jumped", format!("by {seconds} s"));
        }
        if restore && let Some(saved) = self.saved.take() {
            self.upstream.restore(&saved.content);
            self.checks.restored(&saved.ledger);
            self.fault("redis restored", "");
            // It takes a while, so that nothing is granted twice in one microsecond. Whoever
            // goes on as time passes already asks the restored one.
            self.pass(Duration::from_millis(10)).await;
        }
        if save && temper.restore > 0 {
            self.saved = Some(Saved {
                content: self.upstream.snapshot(),
                ledger: self.checks.ledger.clone(),
            });
            self.tell("redis is saved");
        }
        if release {
            self.release().await;
        }
        if repeat {
            self.repeat().await;
        }
    }

    /// A request arrives that did before.
    async fn repeat(&mut self) {
        let sight = self.checks.sight();
        let late = |burst: &[Words]| oracle::must_refuse(sight, burst);
        let lateness = |burst: &[Words]| late(burst).map_or(0, |late| 1 + u8::from(late.is_close));
        let Some(request) = self.sent.any(&mut self.random, lateness) else { return };
        let late = late(&request);
        let replies = self.upstream.exchange(&request);
        let refused = replies.first().is_some_and(|reply| oracle::is_refusal(reply));
        match late {
            Some(late) => {
                self.fault("late request", &late.why);
                if !refused {
                    self.checks.violations.push(late.why);
                }
            }
            None => self.fault("request repeated", ""),
        }
        self.follow().await;
    }

    /// One held request arrives, or one link is mended.
    async fn release(&mut self) {
        let ill: Vec<usize> = (0..self.lanes.len())
            .filter(|at| self.lanes[*at].link.is_held() || self.lanes[*at].link.is_cut())
            .collect();
        if ill.is_empty() {
            return;
        }
        let at = ill[self.random.usize(0..ill.len())];
        let pid = self.lanes[at].pid;
        if self.lanes[at].link.is_cut() {
            self.tell(format!("{pid} is connected again"));
            for lane in self.lanes.iter().filter(|lane| lane.pid == pid) {
                lane.link.cut(false);
            }
            return;
        }
        self.lanes[at].link.release();
        if !self.frozen.contains_key(&pid) {
            self.step(at).await;
        }
    }

    /// Something happens to a process.
    async fn strike(&mut self) {
        let all = self.table.all();
        let what = self.random.u32(0..11);
        match what {
            6 => {
                let fault = [SpawnFault::TimesOut, SpawnFault::Refused, SpawnFault::DiesAtOnce]
                    [self.random.usize(0..3)];
                self.table.fail_spawn(Some(fault));
                return self.fault("start of a process failed", format!("{fault:?}"));
            }
            7 => {
                self.table.make_stubborn();
                return self.fault("process ignores SIGTERM", "the next one");
            }
            8 => {
                self.planner.failures.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                return self.fault("planner failed", "");
            }
            9 if self.orchestrators.len() < 3 => {
                self.fault("second orchestrator", "");
                self.start_orchestrator().await;
                return self.follow().await;
            }
            _ => {}
        }
        if what == 10 {
            let agents: Vec<_> = all.iter().filter_map(|one| one.request.clone()).collect();
            if !agents.is_empty() && all.len() < 16 {
                let request = agents[self.random.usize(0..agents.len())].clone();
                self.fault("agent started by hand", &request.name);
                self.table.start(Some(request));
                self.follow().await;
            }
            return;
        }
        if all.is_empty() {
            return;
        }
        let process = self.victim();
        match what {
            0..=2 => {
                self.fault("process killed", process.to_string());
                self.table.end(process.pid);
                self.follow().await;
            }
            3 | 4 => {
                let time = Duration::from_millis(self.random.u64(10..1_200) * 10);
                self.fault("process stopped", format!("{process} for {time:?}"));
                self.frozen.insert(process.pid, Instant::now() + time);
            }
            _ => {
                self.fault("process cut off", process.to_string());
                for lane in self.lanes.iter().filter(|lane| lane.pid == process.pid) {
                    lane.link.cut(true);
                }
            }
        }
    }

    /// One of the processes; every other time one that runs a task, where there is one.
    fn victim(&mut self) -> Identity {
        let holds = |process: &Process| {
            let tasks = &self.checks.sight().tasks;
            let name = process.request.as_ref().map(|request| &request.name);
            tasks.iter().any(|task| task.status == "running" && Some(&task.owner) == name)
        };
        let mut all = self.table.all();
        let holders: Vec<Process> = all.iter().filter(|one| holds(one)).cloned().collect();
        if !holders.is_empty() && self.random.bool() {
            all = holders;
        }
        all[self.random.usize(0..all.len())].identity
    }

    /// Somebody edits a file.
    fn bother(&mut self) {
        let heartbeats = self.random.bool();
        let done = if heartbeats {
            let running = self.checks.sight().tasks.iter().filter(|t| t.status == "running");
            let running: Vec<String> = running.map(|task| task.id.clone()).collect();
            self.people.direct(&mut self.random, &running)
        } else {
            self.people.edit(&mut self.random).to_owned()
        };
        let spoilt = !heartbeats && self.people.is_spoilt();
        let kind = if spoilt { "control file spoilt" } else { "control file edited" };
        self.fault(kind, done);
        self.saved_file(heartbeats);
    }
}
