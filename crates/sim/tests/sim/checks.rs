//! What must hold after every step, and what history has shown so far.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use audit::Checker;
use process::Identity;
use store::event::Event;
use tokio::time::Instant;

use crate::agent::{Accepted, TTL};
use crate::resp::{Reply, Words};
use crate::upstream::Upstream;

/// How many changes Redis counts, and, unless it is as many as given, all tasks, leases,
/// registrations and counts, as lines of words.
const LOOK: &str = r"
local changes = redis.call('INFO', 'persistence'):match('rdb_changes_since_last_save:(%d+)')
local out = {changes}
if changes == ARGV[1] then return out end
local function say(...) out[#out + 1] = table.concat({...}, '|') end
local function get(key, ...)
  local v = redis.call('HMGET', key, ...)
  for i = 1, select('#', ...) do v[i] = v[i] or '' end
  return unpack(v)
end
local leases = {}
local held = redis.call('HGETALL', 'leases')
for i = 1, #held, 2 do leases[held[i]] = held[i + 1] end
local goals = redis.call('SMEMBERS', 'goals')
table.sort(goals)
for _, g in ipairs(goals) do
  local ids = redis.call('HKEYS', 'dag:' .. g .. ':nodes')
  table.sort(ids)
  for _, id in ipairs(ids) do
    say('task', g, id, leases[id] or '', get('task:' .. id, 'status', 'owner',
      'epoch', 'incarnation', 'generation', 'waiting', 'failures', 'max_attempts', 'not_before'))
  end
  say('counts', g, get('goal:' .. g, 'status', 'generation'))
  local counts, by_role = {}, redis.call('HGETALL', 'dag:' .. g .. ':counts')
  for i = 1, #by_role, 2 do
    local s = string.match(by_role[i], '^(%a+):')
    counts[s] = (counts[s] or 0) + tonumber(by_role[i + 1])
  end
  for _, s in ipairs({'blocked', 'ready', 'running', 'done', 'failed'}) do
    say('count', g, s, counts[s] or 0)
  end
end
local agents = redis.call('SMEMBERS', 'agents')
table.sort(agents)
for _, a in ipairs(agents) do
  say('agent', a, get('agent:' .. a .. ':registered', 'pid', 'start_time', 'incarnation', 'beat',
    'task', 'epoch'))
end
for _, c in ipairs({'agent', 'dag', 'lease', 'heartbeat'}) do
  say('leader', c, redis.call('HGET', 'orchestrator:leader', c) or '')
end
local ids = {}
for id in pairs(leases) do ids[#ids + 1] = id end
table.sort(ids)
for _, id in ipairs(ids) do say('lease', id) end
return out";

/// How the reaper says that a holder fell silent.
const SILENT: &str = "its agent gave no sign of life";

/// One task as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) goal: String,
    pub(crate) id: String,
    pub(crate) lease: String,
    pub(crate) status: String,
    pub(crate) owner: String,
    pub(crate) epoch: String,
    pub(crate) incarnation: String,
    pub(crate) generation: String,
    pub(crate) waiting: String,
    pub(crate) failures: u32,
    pub(crate) max_attempts: u32,
    pub(crate) is_delayed: bool,
}

impl Task {
    /// Whether it waits before it is tried again.
    pub(crate) fn is_waiting(&self) -> bool {
        self.status == "ready" && self.is_delayed
    }
}

/// One agent's registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registered {
    pub(crate) name: String,
    pub(crate) pid: String,
    pub(crate) start_time: String,
    pub(crate) incarnation: String,
    pub(crate) beat: String,
    pub(crate) task: String,
    pub(crate) epoch: String,
}

/// What Redis holds, as far as it is looked at after each step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sight {
    pub(crate) tasks: Vec<Task>,
    pub(crate) goals: BTreeMap<String, String>,
    counts: BTreeMap<(String, String), i64>,
    pub(crate) agents: Vec<Registered>,
    pub(crate) leases: Vec<String>,
    /// By controller, as Redis has them.
    pub(crate) leaders: BTreeMap<String, String>,
}

impl Sight {
    fn read(lines: &[String]) -> Self {
        let mut sight = Self::default();
        for line in lines {
            let words: Vec<String> = line.split('|').map(str::to_owned).collect();
            let word = |n: usize| words.get(n).cloned().unwrap_or_default();
            match words[0].as_str() {
                "task" => sight.tasks.push(Task {
                    goal: word(1),
                    id: word(2),
                    lease: word(3),
                    status: word(4),
                    owner: word(5),
                    epoch: word(6),
                    incarnation: word(7),
                    generation: word(8),
                    waiting: word(9),
                    failures: word(10).parse().unwrap_or(0),
                    max_attempts: word(11).parse().unwrap_or(0),
                    is_delayed: !word(12).is_empty(),
                }),
                "counts" => _ = sight.goals.insert(word(1), word(2)),
                "count" => {
                    let count = word(3).parse().expect("a count");
                    sight.counts.insert((word(1), word(2)), count);
                }
                "agent" => sight.agents.push(Registered {
                    name: word(1),
                    pid: word(2),
                    start_time: word(3),
                    incarnation: word(4),
                    beat: word(5),
                    task: word(6),
                    epoch: word(7),
                }),
                "lease" => sight.leases.push(word(1)),
                "leader" => _ = sight.leaders.insert(word(1), word(2)),
                other => panic!("an unknown word {other}"),
            }
        }
        sight
    }

    /// What is wrong with it, by itself.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut counts = BTreeMap::new();
        for key in self.counts.keys() {
            counts.insert(key.clone(), 0i64);
        }
        let mut owners = BTreeSet::new();
        for task in &self.tasks {
            *counts.entry((task.goal.clone(), task.status.clone())).or_default() += 1;
            let running = task.status == "running";
            if running == task.lease.is_empty() {
                faults.push(format!(
                    "{} is {} and its lease is `{}`",
                    task.id, task.status, task.lease
                ));
            }
            if task.failures > task.max_attempts {
                faults.push(format!(
                    "{} failed {} times of {}",
                    task.id, task.failures, task.max_attempts
                ));
            }
            if !running {
                continue;
            }
            if !task.lease.starts_with(&format!("{}:", task.epoch)) {
                faults
                    .push(format!("{} has epoch {} and lease {}", task.id, task.epoch, task.lease));
            }
            if !owners.insert(&task.owner) {
                faults.push(format!("{} holds two tasks, one is {}", task.owner, task.id));
            }
            let holder = self.agents.iter().find(|agent| agent.name == task.owner);
            let holds = holder.is_some_and(|agent| {
                (&agent.task, &agent.epoch, &agent.incarnation)
                    == (&task.id, &task.epoch, &task.incarnation)
            });
            if !holds {
                faults.push(format!(
                    "{} runs for {}, whose registration is {holder:?}",
                    task.id, task.owner
                ));
            }
        }
        faults.extend(self.agents.iter().filter_map(|agent| self.vain(agent)));
        if counts != self.counts {
            faults.push(format!("the counts are {:?} and should be {counts:?}", self.counts));
        }
        faults
    }

    /// A registration that names a task which it does not hold.
    fn vain(&self, agent: &Registered) -> Option<String> {
        let is_it = |task: &&Task| {
            task.id == agent.task
                && task.status == "running"
                && (&task.owner, &task.epoch) == (&agent.name, &agent.epoch)
        };
        let holds = agent.task.is_empty() || self.tasks.iter().any(|task| is_it(&task));
        (!holds).then(|| {
            let task = self.tasks.iter().find(|task| task.id == agent.task);
            format!("{} is registered with {}, which is {task:?}", agent.name, agent.task)
        })
    }
}

/// What a restored Redis knows less.
#[derive(Clone, Default)]
pub(crate) struct Ledger {
    /// Who has each agent's name, as far as events told.
    present: BTreeMap<String, String>,
    /// Completions that Redis told of, by task and generation.
    completed: BTreeMap<(String, String), String>,
    /// Answers to lines of heartbeat files.
    pub(crate) answers: BTreeMap<String, u32>,
    sight: Sight,
}

/// Since when what is seen of something has been the same.
#[derive(Default)]
struct Still(BTreeMap<String, Stood>);

struct Stood {
    value: String,
    since: Instant,
    /// For how long the longest of what was seen at `since` before that had been the same.
    before: Duration,
}

impl Still {
    fn see(&mut self, what: &str, value: String, now: Instant) {
        let known = self.0.get(what);
        if known.is_some_and(|stood| stood.value == value) {
            return;
        }
        let before = self.so_long_until(what, now);
        self.0.insert(what.to_owned(), Stood { value, since: now, before });
    }

    /// For how long.
    fn so_long(&self, what: &str, now: Instant) -> Duration {
        self.0.get(what).map_or(Duration::ZERO, |stood| now.duration_since(stood.since))
    }

    /// For how long at most as it was seen by who looked at `now`, before or after others took
    /// their steps.
    fn so_long_until(&self, what: &str, now: Instant) -> Duration {
        let before = self.0.get(what).filter(|stood| stood.since == now);
        before.map_or(Duration::ZERO, |stood| stood.before).max(self.so_long(what, now))
    }
}

pub(crate) struct Checks {
    upstream: Upstream,
    script: Vec<u8>,
    /// How many changes Redis counted at the last look.
    changes: u64,
    last_event: String,
    events: u64,
    checker: Checker,
    pub(crate) ledger: Ledger,
    /// Completions that a restored Redis took back, by task and epoch.
    undone: BTreeSet<(String, String)>,
    found: usize,
    leases: Still,
    beats: Still,
    /// Before that, beats count for nothing: a restored Redis took some back, and what
    /// shows the same beat twice looks silent.
    beats_count_from: Instant,
    pub(crate) violations: Vec<String>,
}

/// What a look shows.
pub(crate) struct Seen {
    pub(crate) events: Vec<Event>,
    pub(crate) tokens: Vec<bool>,
}

impl Checks {
    pub(crate) fn new(upstream: &Upstream) -> Self {
        let script = upstream.load_own(LOOK);
        Self {
            upstream: upstream.clone(),
            script,
            changes: u64::MAX,
            last_event: "-".to_owned(),
            events: 0,
            checker: Checker::new(),
            ledger: Ledger::default(),
            undone: BTreeSet::new(),
            found: 0,
            leases: Still::default(),
            beats: Still::default(),
            beats_count_from: Instant::now(),
            violations: Vec::new(),
        }
    }

    pub(crate) fn sight(&self) -> &Sight {
        &self.ledger.sight
    }

    /// Looks at Redis; takes what lies in the inboxes of `listening`, as their blocking
    /// reads would.
    pub(crate) fn look(&mut self, listening: &[String]) -> Seen {
        let word = |text: &str| text.as_bytes().to_vec();
        let mut requests: Vec<Words> =
            vec![vec![word("XRANGE"), word("events"), word(&self.last_event), word("+")]];
        for agent in listening {
            requests.push(vec![word("LPOP"), word(&format!("agent:{agent}:inbox"))]);
        }
        requests.push(vec![
            word("EVALSHA"),
            self.script.clone(),
            word("0"),
            word(&self.changes.saturating_add(self.upstream.own_changes()).to_string()),
        ]);
        let mut replies = self.upstream.ask_all(&requests);
        let lines = replies.pop().map(Reply::texts).unwrap_or_default();
        let tokens = replies.split_off(1).iter().map(|reply| !reply.text().is_empty()).collect();
        let events: Vec<Event> = replies.remove(0).list().into_iter().map(read_event).collect();
        if let Some(last) = events.last() {
            self.last_event = format!("({}", last.id);
        }
        for event in &events {
            self.event(event);
        }
        let errors = self.upstream.errors();
        self.violations.extend(errors.iter().map(|error| format!("Redis answered {error}")));
        let (changes, lines) = lines.split_first().expect("the number of changes");
        let changes: u64 = changes.parse().expect("a number");
        self.changes = changes.saturating_sub(self.upstream.own_changes());
        if !lines.is_empty() {
            self.see(Sight::read(lines));
        }
        Seen { events, tokens }
    }

    /// Something changed.
    fn see(&mut self, sight: Sight) {
        let now = Instant::now();
        for task in &sight.tasks {
            self.leases.see(&task.id, task.lease.clone(), now);
        }
        for agent in &sight.agents {
            self.beats.see(&agent.name, format!("{} {}", agent.incarnation, agent.beat), now);
        }
        self.compare(&sight);
        self.ledger.sight = sight;
    }

    /// How many events there were so far.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    fn event(&mut self, event: &Event) {
        self.events += 1;
        self.checker.event(event);
        match event.kind.as_str() {
            "task-complete" => {
                let key = (event.field("task").to_owned(), event.field("generation").to_owned());
                let epoch = event.field("epoch").to_owned();
                self.judge_holder(event);
                if let Some(before) = self.ledger.completed.insert(key.clone(), epoch.clone()) {
                    let (task, generation) = key;
                    self.violations.push(format!(
                        "{task} of plan {generation} was completed under {before} and again under {epoch}"
                    ));
                }
            }
            "directive" => {
                let line = event.field("line");
                let answers = self.ledger.answers.entry(line.to_owned()).or_default();
                *answers += 1;
                // What is written half-way says less than all.
                if *answers > 1 && line.contains(" # n") {
                    self.violations.push(format!("`{line}` was answered {answers} times"));
                }
            }
            "agent-register" => {
                let (agent, incarnation) = (event.field("agent"), event.field("incarnation"));
                self.ledger.present.insert(agent.to_owned(), incarnation.to_owned());
            }
            "agent-death" | "agent-deregister" => {
                let (agent, incarnation) = (event.field("agent"), event.field("incarnation"));
                let present = self.ledger.present.remove(agent);
                if let Some(present) = present.filter(|present| present != incarnation) {
                    self.violations.push(format!(
                        "the end of {agent}'s {incarnation} ended {present}, who has the name"
                    ));
                }
            }
            "task-lose" if event.field("reason").starts_with(SILENT) => {
                let task = event.field("task");
                let still = self.leases.so_long(task, Instant::now());
                if still < TTL && Instant::now() >= self.beats_count_from {
                    self.violations
                        .push(format!("{task} was reaped {still:?} after its last beat"));
                }
            }
            _ => {}
        }
    }

    /// Whoever completes has the name as the event is written. That the agent is told may take
    /// until another has it: a reply waits while its process is stopped.
    fn judge_holder(&mut self, event: &Event) {
        let (agent, incarnation) = (event.field("agent"), event.field("incarnation"));
        let present = self.ledger.present.get(agent).map_or("nobody", String::as_str);
        if present != incarnation {
            let task = event.field("task");
            self.violations.push(format!(
                "{task} was completed by incarnation {incarnation} of {agent}, and {present} has the name"
            ));
        }
    }

    fn compare(&mut self, sight: &Sight) {
        self.violations.extend(sight.faults());
        let before = &self.ledger.sight;
        for task in &sight.tasks {
            let was = before.tasks.iter().find(|old| old.id == task.id);
            let same_plan = was.is_some_and(|was| was.generation == task.generation);
            if same_plan && was.is_some_and(|was| was.status == "done") && task.status != "done" {
                self.violations.push(format!("{} was done and is {}", task.id, task.status));
            }
        }
        let found = self.checker.finish(&audit::State::default()).violations;
        for violation in &found[self.found.min(found.len())..] {
            self.violations.push(format!("{}: {}", violation.rule, violation.text));
        }
        self.found = found.len();
    }

    /// The agent controller killed a process that it had not asked to leave. It looks at the
    /// beat right before that, however long ago it saw that it stood still.
    pub(crate) fn killed(&mut self, name: &str, process: Identity) {
        let is_it = |agent: &&Registered| {
            agent.name == name
                && agent.pid == process.pid.to_string()
                && agent.start_time == process.start_time.to_string()
        };
        let now = Instant::now();
        let still = self.beats.so_long_until(name, now);
        let known = self.ledger.sight.agents.iter().any(|agent| is_it(&agent));
        if still < TTL && known && now >= self.beats_count_from {
            self.violations
                .push(format!("{name} {process} was killed {still:?} after its last beat"));
        }
    }

    /// An agent was told that its completion counts.
    pub(crate) fn accepted(&mut self, agent: &str, accepted: &Accepted) {
        let Accepted { task, generation, epoch } = accepted;
        // A task that a new plan kept is completed under that plan.
        let told: Vec<&String> = self
            .ledger
            .completed
            .iter()
            .filter(|((id, _), _)| id == task.as_str())
            .map(|(_, epoch)| epoch)
            .collect();
        let is_undone = self.undone.contains(&(task.to_string(), epoch.to_string()));
        if !is_undone && !told.iter().any(|told| **told == epoch.to_string()) {
            self.violations.push(format!(
                "{agent} was told that {task} of plan {generation} is done under {epoch}; the events say {told:?}"
            ));
        }
    }

    /// Redis came back as it was at `ledger`.
    pub(crate) fn restored(&mut self, ledger: &Ledger) {
        self.checker.restored();
        let before = std::mem::replace(&mut self.ledger, ledger.clone());
        let completed = before.completed.into_iter().map(|((task, _), epoch)| (task, epoch));
        self.undone.extend(completed);
        self.changes = u64::MAX;
        self.beats_count_from = Instant::now() + TTL;
        self.last_event = "$".to_owned();
        let last = self.upstream.ask(&["XREVRANGE", "events", "+", "-", "COUNT", "1"]).list();
        self.last_event = last
            .into_iter()
            .next()
            .map_or("-".to_owned(), |entry| format!("({}", read_event(entry).id));
    }

    /// The history against the state.
    pub(crate) fn finish(&mut self, state: &audit::State) {
        let found = self.checker.finish(state).violations;
        for violation in found.iter().skip(self.found) {
            let task = violation.task.clone().unwrap_or_default();
            self.violations.push(format!("{}: {task}: {}", violation.rule, violation.text));
        }
    }
}

fn read_event(entry: Reply) -> Event {
    let mut parts = entry.list();
    let fields = parts.pop().expect("fields").texts();
    let id = parts.pop().expect("an id").text();
    let mut fields: BTreeMap<String, String> =
        fields.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
    let kind = fields.remove("kind").unwrap_or_default();
    Event { id, kind, fields }
}
