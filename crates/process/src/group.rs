//! Ending everything that a child has started.
//!
//! A program that is asked to end may leave others behind: members of its
//! process group (a shell's background jobs, which hold its output open), and
//! processes that left the group by setsid(2). The first are known by their
//! group, the second by a variable in the environment that they inherited. What
//! also clears its environment, or overwrites it with a title as redis-server
//! does, escapes; only a cgroup would hold it.

use std::io;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::identity::{Stat, signal};
use crate::{Identity, find_by_env, scan};

/// How long to wait for killed processes to be gone: one that hangs in the
/// kernel (a dead network disk) cannot be ended by anybody.
const KILL_WAIT: Duration = Duration::from_secs(10);
/// First and last pause between two looks.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// Kills (SIGKILL) all processes of our user but ourselves that carry the
/// environment variable `name` with a value that satisfies `value_matches`,
/// and waits until none is left, as they may fork meanwhile. Returns how many
/// were killed. Blocks the thread, rarely for more than some milliseconds.
///
/// # Errors
/// Where `/proc` cannot be read, or where one is still there 10 s later.
pub fn end_marked(name: &str, value_matches: impl Fn(&str) -> bool) -> io::Result<usize> {
    end_all(|| find_by_env(name, &value_matches))
}

/// One child's process group and what may have left it.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) leader: Pid,
    /// When the leader started, in clock ticks since boot: what began before it cannot
    /// come of it, and need not be looked at more closely.
    pub(crate) since: u64,
    pub(crate) marker: Option<(String, String)>,
}

impl Group {
    /// Signals all members. The leader must not have been waited for yet: until
    /// then, nobody else can get its number.
    pub(crate) fn signal(&self, signal: Signal) {
        // Fails only where the group is empty, which is as good.
        let _ = kill_process_group(self.leader, signal);
    }

    /// Members that live: the leader, once it is a zombie, is none.
    pub(crate) fn members(&self) -> io::Result<Vec<Identity>> {
        self.living(|group, _| group)
    }

    /// Kills what lives of the group and what has left it, until none is left.
    pub(crate) fn end(&self) -> io::Result<usize> {
        self.signal(Signal::KILL);
        end_all(|| self.stragglers())
    }

    /// As [`Group::end`], without waiting.
    pub(crate) fn end_now(&self) {
        self.signal(Signal::KILL);
        for identity in self.stragglers().unwrap_or_default() {
            let _ = signal(&identity, Signal::KILL);
        }
    }

    fn stragglers(&self) -> io::Result<Vec<Identity>> {
        let is_marked = |pid| {
            let of = |(name, value): &(String, String)| scan::has_env(pid, name, |v| v == value);
            self.marker.as_ref().is_some_and(of)
        };
        self.living(|is_member, pid| is_member || is_marked(pid))
    }

    /// Living processes that `picked` picks, told whether each is a member.
    fn living(&self, picked: impl Fn(bool, u32) -> bool) -> io::Result<Vec<Identity>> {
        let group = self.leader.as_raw_nonzero().get().unsigned_abs();
        let living = scan::pids()?.filter_map(|pid| {
            let stat = Stat::read(pid).ok()??;
            let start_time = stat.start_time;
            let is_ours = start_time >= self.since
                && stat.is_living()
                && picked(stat.group == Some(group), pid);
            is_ours.then_some(Identity { pid, start_time })
        });
        Ok(living.collect())
    }
}

fn end_all(find: impl Fn() -> io::Result<Vec<Identity>>) -> io::Result<usize> {
    let deadline = Instant::now() + KILL_WAIT;
    let mut pause = PAUSES.0;
    let mut ended = std::collections::BTreeSet::new();
    loop {
        let found = find()?;
        let Some(first) = found.first() else {
            return Ok(ended.len());
        };
        if Instant::now() > deadline {
            let text = format!("process {first} does not end on SIGKILL: it hangs in the kernel");
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        for identity in found {
            if signal(&identity, Signal::KILL)? {
                ended.insert(identity);
            }
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSES.1);
    }
}
