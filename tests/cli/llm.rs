//! What verbs say of language models: costs, limits, budgets, slots, instructions.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::TaskSpec;
use model::task::State;
use store::agent::Incarnation;
use store::llm::{Begin, Begun, Caller, End, LimitHit, Recorded, Spent};
use store::task::{Detour, DetourKind, Detoured, Grant, Settled};

use crate::support::{CHAIN, Worker, World, goal_id, orch, task_id};

const TWO: &[(&str, &[&str])] = &[("task-001", &[]), ("task-002", &[])];

/// One call of an agent for the task it holds.
struct Call<'a> {
    id: &'a str,
    agent: &'a Worker<'a>,
    grant: &'a Grant,
    provider: &'a str,
}

impl Call<'_> {
    fn caller(&self) -> Caller<'_> {
        Caller::Agent {
            agent: &self.agent.name,
            incarnation: self.agent.incarnation,
            task: Some((&self.grant.task, self.grant.epoch)),
        }
    }

    async fn begin(&self, slots: u32) -> Begun {
        let begin = Begin {
            call: self.id,
            caller: self.caller(),
            goal: &self.grant.goal,
            provider: self.provider,
            step: "execute",
            slots,
            ttl_ms: 30_000,
            session: Some(Recorded {
                session: "0f3c",
                provider: self.provider,
                host: "box",
                log: "/x/1.log",
            }),
        };
        self.agent.store.begin_call(&begin).await.unwrap()
    }

    async fn end(&self, cost_micros: Option<u64>, limit: Option<LimitHit<'_>>) {
        let end = End {
            call: self.id,
            caller: self.caller(),
            goal: &self.grant.goal,
            provider: self.provider,
            model: Some(if self.provider == "codex" { "model-x" } else { "model-c" }),
            step: "execute",
            outcome: if limit.is_some() { "limit" } else { "ok" },
            spent: Spent {
                cost_micros,
                input_tokens: 1_234,
                output_tokens: 321,
                cache_read_tokens: 40_000,
                cache_write_tokens: 0,
            },
            duration_ms: 12_000,
            prompt: "execute/1 abc",
            limit,
        };
        self.agent.store.end_call(&end).await.unwrap();
    }

    /// Begins and ends it.
    async fn make(&self, cost_micros: Option<u64>) {
        let begun = self.begin(2).await;
        assert!(matches!(begun, Begun::Granted { .. }), "{begun:?}");
        self.end(cost_micros, None).await;
    }
}

async fn budget(world: &World, goal: &str, micros: u64) {
    let lead = world.lead().await;
    let fields = [("budget", micros.to_string())];
    world.store.note_goal(&lead, &goal_id(goal), "", &fields).await.unwrap();
}

fn in_micros(ahead: Duration) -> u64 {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + ahead;
    u64::try_from(at.as_micros()).unwrap()
}

#[tokio::test]
async fn cost_should_be_told_per_goal_agent_model_and_task() {
    let world = World::new().await;
    assert_eq!(world.orch(&["cost"]).ok(), "no model was asked yet\n");
    world.plan("goal-001", TWO).await;
    world.plan("goal-002", &[("other", &[])]).await;
    budget(&world, "goal-001", 5_000_000).await;
    let agent = world.register_asking("research_agent", "goal-001", "claude").await;
    let second = world.register_asking("codex_agent", "goal-002", "codex").await;
    let (grant, other) = (agent.claim().await, second.claim().await);
    let call = |id| Call { id, agent: &agent, grant: &grant, provider: "claude" };
    call("a").make(Some(420_000)).await;
    call("b").make(Some(50_000)).await;
    Call { id: "c", agent: &second, grant: &other, provider: "codex" }.make(None).await;

    let text = world.orch(&["cost"]).ok();
    for part in ["goal-001", "$0.47", "$5.00", "research_agent", "model-c", "model-x", "80.0k"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let unpriced = text.lines().find(|line| line.starts_with("codex_agent")).unwrap();
    assert!(unpriced.contains(" ? ") && text.contains("? what 1 call cost is not known"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");

    let json = world.orch(&["cost", "--format", "json"]).json();
    assert_eq!((&json["total"]["calls"], &json["total"]["usd"]), (&3.into(), &0.47.into()));
    assert_eq!(json["total"]["unpriced_calls"], 1, "{json:#}");
    assert_eq!(json["goals"][0]["goal"], "goal-001", "{json:#}");
    assert_eq!(json["goals"][0]["left_usd"], 4.53, "{json:#}");
    assert_eq!(json["agents"][1]["agent"], "codex_agent", "{json:#}");
    assert_eq!(json["models"][0]["model"], "model-c", "{json:#}");
    assert_eq!(
        (&json["planning"]["calls"], &json["model_unknown"]["calls"]),
        (&0.into(), &0.into())
    );

    let text = world.orch(&["cost", "goal-001"]).ok();
    assert!(text.starts_with("$4.53 of the budget of $5.00 is left\n"), "{text}");
    assert!(text.contains("task-001") && !text.contains("task-002"), "{text}");
    let json = world.orch(&["cost", "goal-001", "--format", "json"]).json();
    assert_eq!(json["tasks"][0]["task"], grant.task.as_str(), "{json:#}");
    assert_eq!((&json["tasks"][0]["calls"], &json["tasks"][0]["usd"]), (&2.into(), &0.47.into()));
    assert!(world.orch(&["tasks", "goal-001"]).ok().contains("$0.47"));
    let error = world.orch(&["cost", "goal-003"]).failed(4);
    assert!(error.contains("there is no goal `goal-003`"), "{error}");
}

#[tokio::test]
async fn status_should_show_calls_and_limits_only_where_there_are_any() {
    let world = World::new().await;
    world.plan("goal-001", TWO).await;
    let agent = world.register_asking("research_agent", "goal-001", "claude").await;
    let second = world.register_asking("review_agent", "goal-001", "claude").await;
    let text = world.orch(&["status"]).ok();
    assert!(!text.contains("LLM") && !text.contains("cost"), "{text}");

    let (grant, other) = (agent.claim().await, second.claim().await);
    let call = Call { id: "a", agent: &agent, grant: &grant, provider: "claude" };
    let late = Call { id: "b", agent: &second, grant: &other, provider: "claude" };
    assert!(matches!(call.begin(1).await, Begun::Granted { .. }));
    assert!(matches!(late.begin(1).await, Begun::Waiting { .. }));
    let text = world.orch(&["status"]).ok();
    assert!(text.contains("1 of 1 slot in use, 1 waits"), "{text}");
    assert!(text.contains("waits for an LLM slot"), "{text}");
    let json = world.orch(&["status", "--format", "json"]).json();
    assert_eq!(json["llm"]["slots"], 1, "{json:#}");
    assert_eq!(json["llm"]["in_use"][0]["holder"], "agent:research_agent", "{json:#}");
    assert_eq!(json["llm"]["waiting"][0]["holder"], "agent:review_agent", "{json:#}");
    let json = world.orch(&["explain", other.task.as_str(), "--format", "json"]).json();
    assert_eq!(json["verdict"], "waits-for-slot", "{json:#}");

    let message = "You've hit your session limit\x1b[2J";
    let until_us = Some(in_micros(Duration::from_secs(7_800)));
    call.end(Some(42_300), Some(LimitHit { until_us, message })).await;
    let text = world.orch(&["status"]).ok();
    assert!(text.contains("claude: usage limit until "), "{text}");
    assert!(text.contains("(in 2 h 10 min)"), "{text}");
    assert!(text.contains("cost: $0.0423, 1 call"), "{text}");
    // What the store mirrors of it into the goal is told once.
    assert!(!text.contains("spending_cap_until") && !text.contains('\x1b'), "{text}");
    let json = world.orch(&["status", "--format", "json"]).json();
    assert_eq!(json["llm"]["holds"][0]["provider"], "claude", "{json:#}");
    assert_eq!(json["goals"][0]["cost"]["usd"], 0.0423, "{json:#}");
    assert!(json["goals"][0]["cost"]["budget"].is_null(), "{json:#}");
}

#[tokio::test]
async fn explain_should_tell_limits_budgets_and_caps_apart() {
    let world = World::new().await;
    world.plan("goal-001", CHAIN).await;
    let agent = world.register_asking("research_agent", "goal-001", "claude").await;
    let grant = agent.claim().await;
    let call = Call { id: "a", agent: &agent, grant: &grant, provider: "claude" };
    call.make(Some(420_000)).await;
    let holder = agent.holder(&grant.task, grant.epoch);
    world.store.release(holder, "claude says: Please run /login").await.unwrap();
    let verdict = || {
        let json = world.orch(&["explain", "task-001", "--format", "json"]).json();
        (json["verdict"].as_str().unwrap().to_owned(), json)
    };
    let (word, json) = verdict();
    assert_eq!((word.as_str(), &json["cost"]["usd"]), ("handed-back", &0.42.into()), "{json:#}");
    assert_eq!(json["session"]["session"], "0f3c", "{json:#}");
    let text = world.orch(&["explain", "task-001"]).ok();
    assert!(text.contains("research_agent handed it back: claude says: Please run"), "{text}");

    let key = "goal:goal-001:spending_cap_until";
    world.redis(&["SET", key, "2100-01-01T00:00:00Z"]);
    assert_eq!(verdict().0, "spending-cap");
    let text = world.orch(&["status"]).ok();
    assert!(text.contains("asks no model until 1 Jan 2100"), "{text}");
    world.redis(&["DEL", key]);

    budget(&world, "goal-001", 400_000).await;
    assert_eq!(verdict().0, "goal-budget-spent");
    let text = world.orch(&["status"]).ok();
    assert!(text.contains("budget of $0.40 is spent ($0.42): raise `Budget:` in"), "{text}");
    budget(&world, "goal-001", 9_000_000).await;
    assert_eq!(verdict().0, "handed-back");

    // A limit that a call of another goal hit holds this one as well.
    world.plan("goal-002", &[("other", &[])]).await;
    let second = world.register_asking("other_agent", "goal-002", "claude").await;
    let other = second.claim().await;
    let call = Call { id: "b", agent: &second, grant: &other, provider: "claude" };
    assert!(matches!(call.begin(2).await, Begun::Granted { .. }));
    let until_us = Some(in_micros(Duration::from_secs(7_800)));
    call.end(None, Some(LimitHit { until_us, message: "You've hit your weekly limit" })).await;
    let (word, json) = verdict();
    let because = json["because"].to_string();
    assert_eq!(word, "usage-limit", "{json:#}");
    assert!(because.contains("claude is at its usage limit until"), "{json:#}");
    assert!(because.contains("weekly limit"), "{json:#}");
}

#[tokio::test]
async fn parked_task_should_be_explained_and_retried() {
    let world = World::new().await;
    world.plan("goal-001", CHAIN).await;
    let agent = world.register_asking("research_agent", "goal-001", "claude").await;
    let grant = agent.claim().await;
    let call = Call { id: "a", agent: &agent, grant: &grant, provider: "claude" };
    call.make(Some(1_020_000)).await;
    let reason = "task-001 has spent $1.02 of its budget of $1.00";
    let holder = agent.holder(&grant.task, grant.epoch);
    assert_eq!(world.store.park(holder, reason).await.unwrap(), Settled::Parked);

    let json = world.orch(&["explain", "task-001", "--format", "json"]).json();
    assert_eq!(json["verdict"], "task-budget-spent", "{json:#}");
    let text = world.orch(&["tasks"]).ok();
    assert!(text.contains(reason) && text.contains("`orch retry task-001`"), "{text}");
    assert!(!text.contains("due in"), "{text}");
    let text = world.orch(&["explain", "task-002"]).ok();
    assert!(text.contains("The root cause: the budget of task-001 is spent."), "{text}");

    assert!(world.orch(&["retry", "task-001"]).ok().contains("task-001 is ready"));
    let json = world.orch(&["explain", "task-001", "--format", "json"]).json();
    assert_eq!((&json["verdict"], &json["cost"]["usd"]), (&"about-to-start".into(), &0.0.into()));
    let error = world.orch(&["retry", "task-001"]).failed(1);
    assert!(error.contains("not failed, and its budget is not spent"), "{error}");
}

#[tokio::test]
async fn task_should_be_said_to_wait_for_what_was_put_in_front_of_it() {
    let world = World::new().await;
    world.plan("goal-001", TWO).await;
    let agent = world.register_asking("research_agent", "goal-001", "claude").await;
    let grant = agent.claim().await;
    let spec = TaskSpec::new(task_id("task-001__fix1"), "Fix: Title of task-001");
    let detour =
        Detour { spec: &spec, error: "a test is missing", limit: 3, kind: DetourKind::Review };
    let holder = agent.holder(&grant.task, grant.epoch);
    let made = world.store.detour(holder, &detour).await.unwrap();
    assert!(matches!(made, Detoured::Inserted { round: 1, .. }), "{made:?}");
    assert_eq!(world.state("task-001").await, State::Blocked);
    let json = world.orch(&["explain", "task-001", "--format", "json"]).json();
    assert_eq!(json["verdict"], "waits-for-detour", "{json:#}");
    assert_eq!(json["detours"]["review"], 1, "{json:#}");
    assert!(json["because"].to_string().contains("by task-001__fix1: round 1 of 3"), "{json:#}");
    let text = world.orch(&["events", "--task", "task-001"]).ok();
    assert!(text.contains("task-detour"), "{text}");
}

#[tokio::test]
async fn events_should_tell_calls_in_units_for_people() {
    let world = World::new().await;
    world.plan("goal-001", TWO).await;
    let agent = world.register_asking("research_agent", "goal-001", "claude").await;
    let grant = agent.claim().await;
    Call { id: "call-7", agent: &agent, grant: &grant, provider: "claude" }
        .make(Some(42_300))
        .await;
    let text = world.orch(&["events", "-n", "1", "--task", "task-001"]).ok();
    let expected = "llm-call         goal=goal-001 task=task-001 agent=research_agent step=execute \
                    provider=claude model=model-c outcome=ok took=12s cost=$0.0423 in=1.2k \
                    cached=40.0k out=321\n";
    assert!(text.ends_with(expected), "{text}");
    let json = world.orch(&["events", "-n", "1", "--format", "json"]).json();
    assert_eq!((&json["call"], &json["usd_micros"]), (&"call-7".into(), &"42300".into()));
}

#[tokio::test]
async fn history_should_show_what_an_agent_was_told() {
    let world = World::new().await;
    let error = world.orch(&["instructions", "history", "research_agent"]).failed(4);
    assert!(error.contains("there is no agent `research_agent`: none was declared yet"), "{error}");
    world.plan("goal-001", TWO).await;
    world.plan("goal-002", &[("other", &[])]).await;
    let agent = world.register("research_agent", "goal-001").await;
    let history = |args: &[&str]| {
        world.orch(&[&["instructions", "history", "research_agent"], args].concat())
    };
    assert!(history(&[]).ok().starts_with("nothing that research_agent was told"));
    let note = async |incarnation: Incarnation, goal: &str, hash: &str, text: &str| {
        let (name, goal) = (&agent.name, goal_id(goal));
        world.store.note_instructions(name, incarnation, &goal, hash, text).await.unwrap()
    };
    let first = note(agent.incarnation, "goal-001", "aa11", "# One\x1b[2J\n").await;
    let second = note(agent.incarnation, "goal-001", "bb22", "# Two").await;
    assert_eq!((first, second), (Some(1), Some(2)));

    let text = history(&[]).ok();
    let rows: Vec<&str> = text.lines().skip(1).collect();
    assert!(rows[0].contains(" 2 ") && rows[0].contains("bb22"), "{text}");
    assert!(rows[1].contains(" 1 ") && rows[1].contains("aa11"), "{text}");
    // Not a terminal: as it is.
    assert_eq!(history(&["--show", "1"]).ok(), "# One\x1b[2J\n");
    assert_eq!(history(&["--show", "2"]).ok(), "# Two\n");
    assert!(history(&["--show", "3"]).failed(4).contains("there are 1, 2"));
    let json = history(&["--format", "json"]).json();
    assert_eq!((&json[0]["version"], &json[0]["bytes"]), (&2.into(), &5.into()), "{json:#}");
    assert!(json[0].get("text").is_none(), "{json:#}");
    assert_eq!(history(&["--show", "2", "--format", "json"]).json()["text"], "# Two");

    note(agent.incarnation, "goal-002", "cc33", "# Other").await;
    let error = history(&["--show", "1"]).failed(4);
    assert!(error.contains("--goal: goal-001, goal-002"), "{error}");
    assert_eq!(history(&["--show", "1", "--goal", "goal-002"]).ok(), "# Other\n");
}

fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn doctor_should_check_the_programs_of_models_that_somebody_asks() {
    let world = World::new().await;
    let folder = world.project.path();
    orch(folder, &["init", "--redis-port", "7001"]).ok();
    let sysg = script(folder, "sysg", "echo 'sysg 0.69.2'");
    let good = script(folder, "good", "echo '2.1.197 (Claude Code)'");
    let (sysg, good) = (sysg.to_str().unwrap(), good.to_str().unwrap());
    let doctor = |args: &[&str]| {
        let all =
            [&["doctor", "--sysg", sysg, "--format", "json", "--llm-provider"], args].concat();
        let said = world.orch(&all);
        let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        let checks = json["checks"].as_array().unwrap().clone();
        let grade = move |name: &str| {
            let check = checks.iter().find(|check| check["name"] == name);
            check.map(|check| check["grade"].as_str().unwrap().to_owned())
        };
        (said.code, grade, json)
    };
    // The new project's plan is for those without a model.
    let (code, grade, json) = doctor(&["claude", "--claude-cli", "/no/such/claude"]);
    assert_eq!((code, grade("claude").as_deref()), (1, Some("fail")), "{json:#}");
    // Pinned for all, every task of it runs its shell block.
    let file = folder.join("INSTRUCTIONS.md");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("#### Tasks without a model", "#### Tasks")).unwrap();
    let (code, grade, json) = doctor(&["claude", "--claude-cli", "/no/such/claude"]);
    assert_eq!((code, grade("claude").as_deref()), (0, Some("ok")), "{json:#}");

    let agents = "## Agents\n### a\n- Goal: g\n- Permission mode: bypassPermissions\n\n\
                  ### b\n- Goal: g\n- Provider: codex\n\n## Goals\n### g\nText.\n";
    std::fs::write(folder.join("INSTRUCTIONS.md"), agents).unwrap();
    let missing = ["claude", "--claude-cli", "/no/such/claude", "--codex-cli", good];
    let (code, grade, json) = doctor(&missing);
    assert_eq!((code, grade("claude").as_deref()), (1, Some("fail")), "{json:#}");
    assert_eq!(grade("codex").as_deref(), Some("ok"), "{json:#}");
    assert_eq!(grade("permissions").as_deref(), Some("warn"), "{json:#}");
    let (code, grade, json) = doctor(&["claude", "--claude-cli", good, "--codex-cli", good]);
    assert_eq!((code, grade("claude").as_deref()), (0, Some("ok")), "{json:#}");
    assert!(json.to_string().contains("2.1.197 (Claude Code)"), "{json:#}");

    let (code, grade, json) = doctor(&["command", "--codex-cli", good]);
    assert_eq!((code, grade("command").as_deref()), (1, Some("fail")), "{json:#}");
    assert_eq!(grade("claude"), None, "{json:#}");
}
