//! Every metric there is: its name, what it says, and who tells it.
//!
//! `docs/metrics.md` shows this list, and nothing else can be told; see
//! [`Samples`](super::samples::Samples).

use std::fmt::Write as _;

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// In front of every name.
const PREFIX: &str = "orch_";

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only grows, from 0 when the process starts; its name ends with `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often something was how large, from 0 when the process starts.
    Histogram,
}

/// Who tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The process that leads the goals, for the whole fleet.
    Fleet,
    /// Each process of the orchestrator, for itself.
    Process,
}

/// In what it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum In {
    /// Things.
    Items,
    Seconds,
    Bytes,
    /// US dollars.
    Usd,
}

/// One metric.
#[derive(Debug)]
pub(crate) struct Metric {
    /// Without prefix, unit and `_total`.
    pub(crate) stem: &'static str,
    pub(crate) kind: Kind,
    pub(crate) unit: In,
    pub(crate) labels: &'static [&'static str],
    pub(crate) whose: Whose,
    pub(crate) help: &'static str,
}

impl Metric {
    /// With prefix and unit.
    pub(crate) fn family(&self) -> String {
        let unit = self.unit().map(|unit| format!("_{}", unit.as_str())).unwrap_or_default();
        format!("{PREFIX}{}{unit}", self.stem)
    }

    /// As in a query; without the `_bucket`, `_count` or `_sum` of a histogram.
    pub(crate) fn name(&self) -> String {
        let total = if self.kind == Kind::Counter { "_total" } else { "" };
        format!("{}{total}", self.family())
    }

    /// With the prefix alone.
    pub(crate) fn prefixed(&self) -> String {
        format!("{PREFIX}{}", self.stem)
    }

    pub(crate) fn unit(&self) -> Option<Unit> {
        match self.unit {
            In::Items => None,
            In::Seconds => Some(Unit::Seconds),
            In::Bytes => Some(Unit::Bytes),
            In::Usd => Some(Unit::Other("usd".to_owned())),
        }
    }

    pub(crate) const fn metric_type(&self) -> MetricType {
        match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        }
    }
}

macro_rules! metrics {
    ($($id:ident: $whose:ident $kind:ident $unit:ident $stem:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(crate) static $id: Metric = Metric {
            stem: $stem,
            kind: Kind::$kind,
            unit: In::$unit,
            labels: &[$($label),*],
            whose: Whose::$whose,
            help: $help,
        };)*

        /// All of them, as the documentation lists them.
        pub(crate) static ALL: &[&Metric] = &[$(&$id),*];
    };
}

metrics! {
    TASKS: Fleet Gauge Items "tasks" ["goal", "role", "state"] "Tasks of a declared goal by the role that they ask for and by state: blocked, ready, running, done, failed; the role * is any";
    CLAIMABLE: Fleet Gauge Items "tasks_claimable" ["goal", "role"] "READY tasks that an agent of the role may claim now; * is any role";
    DELAYED: Fleet Gauge Items "tasks_delayed" ["goal"] "READY tasks that wait for a retry, or are parked";
    GOALS: Fleet Gauge Items "goals" ["status"] "Declared goals by status: draft, active, complete, failed";
    TRANSITIONS: Fleet Counter Items "task_transitions" ["goal", "cause"] "Changes of tasks by cause: claim, complete, retry, fail, lose, release, detour, drop, reset, revise, block, unblock";
    WAIT: Fleet Histogram Seconds "task_wait_duration" [] "How long tasks were READY until they were claimed; retries count their delay";
    ATTEMPT: Fleet Histogram Seconds "task_attempt_duration" ["outcome"] "How long attempts took from claim to end, by what ended them: a cause of orch_task_transitions_total";
    REPAIRS: Fleet Counter Items "task_repairs" ["goal"] "Tasks whose record in Redis was gone or damaged, and began anew";
    PLANNING: Fleet Counter Items "goal_planning_troubles" ["goal", "trouble"] "Attempts at planning that gave no plan: retry, failed, held";

    AGENTS: Fleet Gauge Items "agents" ["phase"] "Agents by phase: pending, starting, running, draining, restarting, crash-loop, gone";
    LIVENESS: Fleet Gauge Items "agents_liveness" ["liveness"] "Agents by their signs of life: beating, silent, gone";
    BUSY: Fleet Gauge Items "agents_busy" ["goal", "role"] "Agents that run a task";
    PAUSED: Fleet Gauge Items "agents_paused" [] "Agents that a person has paused";
    RESTARTS: Fleet Counter Items "agent_restarts" ["agent"] "How often the agent was started again, ever: kept in Redis";
    DEATHS: Fleet Counter Items "agent_deaths" ["agent"] "Processes of the agent that were found dead";
    RECOVERY: Fleet Histogram Seconds "recovery_duration" [] "From the death of an agent noticed until it is back and the task that it ran runs again";
    RECOVERY_LEG: Fleet Histogram Seconds "recovery_leg_duration" ["leg"] "From the death of an agent noticed until it is registered again (respawn), until the task that it ran is claimed again (run-again)";
    FENCES: Fleet Counter Items "agent_fences" ["call"] "Calls of agents that were refused because another process or another attempt is current, ever: kept in Redis";
    AGENT_CALL: Fleet Histogram Seconds "agent_redis_call_duration" ["call"] "How long calls of agents to Redis took with all their tries, ever: kept in Redis, at most 10 seconds old";
    AGENT_CALL_ERRORS: Fleet Counter Items "agent_redis_call_errors" ["call", "error"] "Calls of agents that Redis did not answer after all tries: unavailable, denied, failed; kept in Redis";

    LLM_CALLS: Fleet Counter Items "llm_calls" ["provider", "model", "step", "outcome"] "Calls of models by outcome: ok, malformed, failed, refused, denied, limit, budget, timed-out, cancelled";
    LLM_TIME: Fleet Histogram Seconds "llm_call_duration" ["provider", "model"] "How long calls of models took";
    LLM_COST: Fleet Counter Usd "llm_cost" ["provider", "model"] "What calls of models cost, as far as that is known";
    LLM_UNPRICED: Fleet Counter Items "llm_unpriced_calls" ["provider", "model"] "Calls of models whose cost is not known";
    LLM_TOKENS: Fleet Counter Items "llm_tokens" ["provider", "model", "type"] "Tokens: input (without those from a cache), output, cache_read, cache_write";
    GOAL_COST: Fleet Counter Usd "goal_cost" ["goal"] "What the goal's calls of models cost, ever: kept in Redis";
    GOAL_BUDGET: Fleet Gauge Usd "goal_budget" ["goal"] "What the goal's calls of models may cost; absent where there is no budget";
    LLM_SLOTS: Fleet Gauge Items "llm_slots" ["use"] "Calls of models: used, under way now; most, that may be at once";
    LLM_WAITING: Fleet Gauge Items "llm_waiting" [] "Callers that wait for a slot";
    LLM_HELD: Fleet Gauge Items "llm_held" ["provider"] "1 while a usage limit holds the provider's calls, else 0";
    LLM_HOLD_LEFT: Fleet Gauge Seconds "llm_hold_remaining" ["provider"] "How long the usage limit still holds; absent where none does";
    LLM_HOLDS: Fleet Counter Items "llm_holds" ["provider"] "Usage limits that were hit or became longer";

    PROBLEMS: Fleet Gauge Items "control_file_problems" ["severity"] "What is wrong in the control files now: error, warning";
    DIRECTIVES: Fleet Counter Items "directives" ["outcome"] "Directives of heartbeat files that were answered, by outcome";
    LEADER_CHANGES: Fleet Counter Items "leader_changes" ["controller"] "How often another process, or the same anew, began to lead";
    DATA_LOSSES: Fleet Counter Items "redis_data_losses" [] "How often Redis had forgotten the fleet";
    REDIS_MEMORY: Fleet Gauge Bytes "redis_memory" [] "Memory that Redis has in use";
    REDIS_REFUSES: Fleet Gauge Items "redis_refuses_writes" [] "1 while Redis refuses all writes, as with a full disk, else 0";

    BUILD: Process Gauge Items "build_info" ["version"] "Always 1";
    STARTED: Process Gauge Seconds "start_timestamp" [] "When the process began, since the epoch";
    LEADS: Process Gauge Items "leader" ["controller"] "1 where this process leads for the controller, else 0";
    RUNNING: Process Gauge Items "controller_running" ["controller"] "1 while the controller's loop runs in this process, else 0";
    PASSES: Process Counter Items "controller_passes" ["controller"] "Passes that ended, in whichever way";
    ACTED: Process Counter Items "controller_acted" ["controller"] "Passes that changed something";
    FAILURES: Process Counter Items "controller_failures" ["controller", "reason"] "Passes that failed: error, panic, timeout; and resync, that could not list the keys";
    RESYNCS: Process Counter Items "controller_resyncs" ["controller"] "Resyncs that listed all keys";
    LOOP_RESTARTS: Process Counter Items "controller_restarts" ["controller"] "How often the controller's loop itself was restarted";
    KEYS: Process Gauge Items "controller_keys" ["controller", "place"] "Keys in the controller's queue: queued, running, backing_off (failed, and wait)";
    OLDEST: Process Gauge Seconds "controller_oldest_key_age" ["controller"] "For how long the oldest request waits for a pass that succeeds; 0 where none waits";
    REDIS_UP: Process Gauge Items "redis_up" [] "1 where Redis answered for this scrape, else 0; then nothing is told of the fleet's state";
    CALL: Process Histogram Seconds "redis_call_duration" ["call"] "How long calls to Redis took with all their tries, without those that wait for news";
    CALL_ERRORS: Process Counter Items "redis_call_errors" ["call", "error"] "Calls that Redis did not answer after all tries: unavailable, denied, failed";
    CALL_RETRIES: Process Counter Items "redis_call_retries" ["call"] "Tries besides the first ones";
    CONTROLLER_FENCES: Process Counter Items "controller_fences" ["call"] "Writes that were refused because this process leads no more";
    SPANS_LOST: Process Counter Items "spans_lost" [] "Spans of this process that the collector did not take, without those that found no room in the queue; absent where no collector is named";
    DISK_FREE: Process Gauge Bytes "project_disk_free" [] "Room for us on the disk of the project's folder";
    DISK_SIZE: Process Gauge Bytes "project_disk_size" [] "Size of the disk of the project's folder";
    SCRAPE: Process Gauge Seconds "scrape_duration" [] "How long it took to read the fleet's state for this scrape";
}

/// The list as `docs/metrics.md` shows it.
pub(crate) fn table(whose: Whose) -> String {
    let mut text = String::from("| metric | type | labels | what |\n| --- | --- | --- | --- |\n");
    for metric in ALL.iter().filter(|metric| metric.whose == whose) {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let (name, labels) = (metric.name(), labels.join(", "));
        _ = writeln!(text, "| `{name}` | {kind} | {labels} | {} |", metric.help);
    }
    text
}
