//! What a process of the orchestrator says of itself.

use std::collections::BTreeMap;
use std::path::Path;

use reconcile::{Life, Snapshot, Stats};
use store::calls::Calls;
use store::lead::Controller;

use super::catalog as m;
use super::fleet::told_by_calls;
use super::samples::{Samples, float};

/// The controllers of this process: those of the present term, and what those of former
/// terms have done, so that their counters go on.
#[derive(Debug, Default)]
pub(super) struct Controllers {
    now: Vec<(Controller, Stats)>,
    before: BTreeMap<Controller, Totals>,
}

/// What a controller has done.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    passes: u64,
    acted: u64,
    errors: u64,
    panics: u64,
    timeouts: u64,
    resyncs: u64,
    resync_failures: u64,
    restarts: u64,
}

impl Totals {
    const fn plus(self, s: &Snapshot) -> Self {
        Self {
            passes: self.passes + s.passes,
            acted: self.acted + s.acted,
            errors: self.errors + (s.failures - s.panics - s.timeouts),
            panics: self.panics + s.panics,
            timeouts: self.timeouts + s.timeouts,
            resyncs: self.resyncs + s.resyncs,
            resync_failures: self.resync_failures + s.resync_failures,
            restarts: self.restarts + s.restarts,
        }
    }
}

impl Controllers {
    pub(super) fn begin_term(&mut self, stats: &[(Controller, Stats)]) {
        self.end_term();
        self.now = stats.to_vec();
    }

    pub(super) fn end_term(&mut self) {
        for (controller, stats) in std::mem::take(&mut self.now) {
            let before = self.before.entry(controller).or_default();
            *before = before.plus(&stats.snapshot());
        }
    }

    pub(super) fn tell(&self, samples: &mut Samples) {
        for controller in Controller::ALL {
            let name = controller.as_str();
            let stats = self.now.iter().find(|(of, _)| *of == controller);
            samples.count(&m::LEADS, &[name], u64::from(stats.is_some()));
            let snapshot = stats.map(|(_, stats)| stats.snapshot());
            let before = self.before.get(&controller).copied();
            if snapshot.is_none() && before.is_none() {
                continue;
            }
            let mut totals = before.unwrap_or_default();
            let (mut running, mut places, mut oldest) = (false, [0; 3], 0.0);
            if let Some(now) = &snapshot {
                totals = totals.plus(now);
                running = now.life == Life::Running;
                places = [now.queued, now.in_flight, now.backing_off];
                oldest = now.oldest.as_ref().map_or(0.0, |oldest| oldest.age.as_secs_f64());
            }
            samples.count(&m::RUNNING, &[name], u64::from(running));
            samples.add(&m::OLDEST, &[name], oldest);
            for (place, count) in ["queued", "running", "backing_off"].into_iter().zip(places) {
                let count = u64::try_from(count).unwrap_or(u64::MAX);
                samples.count(&m::KEYS, &[name, place], count);
            }
            samples.count(&m::PASSES, &[name], totals.passes);
            samples.count(&m::ACTED, &[name], totals.acted);
            samples.count(&m::RESYNCS, &[name], totals.resyncs);
            samples.count(&m::LOOP_RESTARTS, &[name], totals.restarts);
            for (reason, count) in [
                ("error", totals.errors),
                ("panic", totals.panics),
                ("timeout", totals.timeouts),
                ("resync", totals.resync_failures),
            ] {
                samples.count(&m::FAILURES, &[name, reason], count);
            }
        }
    }
}

/// This process' calls to Redis.
pub(super) fn calls(calls: &Calls, samples: &mut Samples) {
    for (what, call) in calls.so_far() {
        told_by_calls(samples, &what, &call, &m::CALL, &m::CALL_ERRORS);
        samples.count(&m::CALL_RETRIES, &[&what], call.retries);
        samples.count(&m::CONTROLLER_FENCES, &[&what], call.fenced);
    }
}

/// How much room there is where the project lies. Nothing where that cannot be known.
/// May block as long as the file system does.
pub(super) fn disk(project: &Path) -> Option<(u64, u64)> {
    let disk = rustix::fs::statvfs(project).ok()?;
    Some((disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_blocks.saturating_mul(disk.f_frsize)))
}

/// What never changes.
pub(super) fn build(started: jiff::Timestamp, samples: &mut Samples) {
    samples.count(&m::BUILD, &[env!("CARGO_PKG_VERSION")], 1);
    let since = u64::try_from(started.as_millisecond()).unwrap_or(0);
    samples.add(&m::STARTED, &[], float(since) / 1e3);
}
