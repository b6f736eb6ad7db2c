//! Goals: what is declared of them, how planning them goes, and where they stand.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::GoalId;
use model::goal::{Counts, Status};
use model::task::State;
use redis::cmd;
use serde::Serialize;

use crate::connection::Store;
use crate::error::Error;
use crate::lead::Lead;
use crate::record::{Fields, Hash};
use crate::{keys, script};

/// Delayed tasks that one promotion looks at.
const PROMOTED_PER_CALL: usize = 1_000;

/// Records that one step of a repair looks at: some tens of milliseconds of Redis' time.
const REPAIR_CHUNK: usize = 2_000;

/// A goal as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Goal {
    /// Its id.
    pub id: GoalId,
    /// Where it stands.
    pub status: Status,
    /// One line for people.
    pub title: String,
    /// Fingerprint of the declaration whose plan is in force.
    pub spec_hash: String,
    /// Which plan is in force; 0 is none yet.
    pub generation: u64,
    /// When it was first declared (ISO 8601).
    pub created: Option<String>,
    /// When it became complete or failed (ISO 8601).
    pub finished: Option<String>,
    /// Why it stands where it stands.
    pub reason: Option<String>,
    /// How many tasks the plan has.
    pub tasks: u64,
    /// How many tasks are in each state.
    pub counts: Counts,
    /// How often `REPARSE` was asked for.
    pub reparses: u64,
    /// How planning goes.
    pub planning: Planning,
    /// Where the last plan differed from the one before, in words.
    pub difference: Option<String>,
    /// What keeps its tasks from running that no task can say, such as a role that no agent has.
    pub problem: Option<String>,
    /// Whether it is declared now.
    pub declared: bool,
    /// What is wanted, in prose, as far as whoever works on it is told.
    pub text: String,
    /// Whether what builders make is reviewed.
    pub review: bool,
    /// What its model calls may cost, in millionths of a US dollar; any where absent.
    pub budget_micros: Option<u64>,
    /// What they cost so far.
    pub cost_micros: u64,
    /// Until when its tasks may ask no model, as somebody wrote it: ISO 8601, or what
    /// else a person may have said.
    pub spending_cap_until: Option<String>,
}

/// How planning a goal goes; persisted, so that a restart does not start it over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Planning {
    /// Which declaration the attempts were for.
    pub spec_hash: String,
    /// Which `REPARSE` was served.
    pub reparses: u64,
    /// How many attempts failed.
    pub attempts: u32,
    /// Why the last one failed.
    pub error: Option<String>,
    /// No attempt before this time, in milliseconds since the epoch.
    pub not_before_ms: u64,
    /// Why it waits though nothing failed, such as for a usage limit.
    pub held: Option<String>,
    /// With which provider, model and budget the above came to be: it counts for
    /// those only.
    pub means: String,
}

/// The figures from which drift is seen without looking at every task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// What the scripts counted.
    pub counts: Counts,
    /// Tasks in the plan.
    pub nodes: u64,
    /// Tasks in the ready queues and the delayed set.
    pub queued: u64,
    /// Whether one that was counted is no number.
    pub is_broken: bool,
}

impl Figures {
    /// Why these figures cannot be right, if they cannot.
    #[must_use]
    pub fn contradiction(&self) -> Option<&'static str> {
        let c = &self.counts;
        if c.total() != self.nodes {
            Some("the counts do not add up to the number of tasks")
        } else if self.is_broken {
            Some("one of the counts is no number")
        } else if c.ready != self.queued {
            Some("not every ready task is in a queue")
        } else if c.blocked > 0 && [c.ready, c.running, c.failed] == [0; 3] {
            Some("tasks are blocked though nothing is left to wait for")
        } else {
            None
        }
    }
}

/// How many READY tasks of a goal may be claimed, and how many wait for their time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queues {
    /// By role; `None` is any agent of the goal.
    pub claimable: Vec<(Option<String>, u64)>,
    /// Those that wait for a retry.
    pub delayed: u64,
}

impl Store {
    /// How many READY tasks wait in which queue.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer or holds something else there.
    pub async fn queues(&self, id: &GoalId) -> Result<Queues, Error> {
        let roles = self.goal_roles(id).await?;
        let mut pipeline = redis::pipe();
        pipeline.cmd("ZCARD").arg(keys::dag(id, "delayed"));
        pipeline.cmd("ZCARD").arg(keys::dag(id, "ready"));
        for role in &roles {
            pipeline.cmd("ZCARD").arg(keys::dag(id, &format!("ready:{role}")));
        }
        let mut numbers =
            self.ask_all::<Vec<u64>>("read a goal's queues", &pipeline).await?.into_iter();
        let delayed = numbers.next().unwrap_or(0);
        let roles = std::iter::once(None).chain(roles.into_iter().map(Some));
        Ok(Queues { claimable: roles.zip(numbers).collect(), delayed })
    }

    /// Every goal that was ever declared, by id.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer or holds something else there.
    pub async fn goal_ids(&self) -> Result<Vec<GoalId>, Error> {
        let mut ids: Vec<String> = self.ask("list goals", cmd("SMEMBERS").arg(keys::GOALS)).await?;
        ids.sort();
        ids.into_iter()
            .map(|id| {
                GoalId::new(id.clone()).map_err(|_| Error::malformed(keys::GOALS, &id, "goal ids"))
            })
            .collect()
    }

    /// One goal; `None` where it was never declared.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer or holds something else there.
    pub async fn goal(&self, id: &GoalId) -> Result<Option<Goal>, Error> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("HGETALL").arg(keys::goal(id));
        pipeline.cmd("HGETALL").arg(keys::dag(id, "counts"));
        pipeline.cmd("HGET").arg(keys::goal_cost(id)).arg("usd_micros");
        pipeline.cmd("GET").arg(keys::spending_cap(id));
        let (goal, counts, cost, spending_cap_until): (Fields, Fields, Option<u64>, _) =
            self.ask_all("read a goal", &pipeline).await?;
        let hash = Hash::new(keys::goal(id), goal);
        let counts = Hash::new(keys::dag(id, "counts"), counts);
        let goal = Goal::decode(id.clone(), &hash, &counts)?;
        Ok(goal.map(|goal| Goal { cost_micros: cost.unwrap_or(0), spending_cap_until, ..goal }))
    }

    /// How many tasks of a goal are in each state, by the role that they ask for; '' is any.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer or holds something else there.
    pub async fn counts_by_role(&self, id: &GoalId) -> Result<BTreeMap<String, Counts>, Error> {
        let key = keys::dag(id, "counts");
        let counts = self.ask("read a goal's counts", cmd("HGETALL").arg(&key)).await?;
        Ok(read_counts(&Hash::new(key, counts)))
    }

    /// The figures of a goal's plan in force.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer or holds something else there.
    pub async fn figures(&self, id: &GoalId) -> Result<Figures, Error> {
        let mut roles = self.roles(id).await?;
        let malformed = |_| Error::malformed(keys::dag(id, "*"), "", "the figures of a plan");
        // One transaction, so that no transition falls between the figures; again where a
        // plan with other roles came before it.
        let (counts, numbers) = loop {
            let mut pipeline = redis::pipe();
            pipeline.atomic();
            pipeline.cmd("SMEMBERS").arg(keys::dag(id, "roles"));
            pipeline.cmd("HGETALL").arg(keys::dag(id, "counts"));
            pipeline.cmd("HLEN").arg(keys::dag(id, "nodes"));
            pipeline.cmd("ZCARD").arg(keys::dag(id, "delayed"));
            pipeline.cmd("ZCARD").arg(keys::dag(id, "ready"));
            for role in &roles {
                pipeline.cmd("ZCARD").arg(keys::dag(id, &format!("ready:{role}")));
            }
            let values: Vec<redis::Value> =
                self.ask_all("read a goal's figures", &pipeline).await?;
            let mut values = values.into_iter();
            let mut next = || values.next().unwrap_or(redis::Value::Nil);
            let present: BTreeSet<String> = redis::from_redis_value(next()).map_err(malformed)?;
            let counts: Fields = redis::from_redis_value(next()).map_err(malformed)?;
            if present == roles {
                let numbers = values.map(redis::from_redis_value::<u64>);
                break (counts, numbers.collect::<Result<Vec<_>, _>>().map_err(malformed)?);
            }
            roles = present;
        };
        let hash = Hash::new(keys::dag(id, "counts"), counts);
        Ok(Figures {
            counts: sum(&read_counts(&hash)),
            is_broken: hash.names().any(|name| hash.number::<u64>(name).is_err()),
            nodes: numbers.first().copied().unwrap_or(0),
            queued: numbers.iter().skip(1).sum(),
        })
    }

    async fn roles(&self, id: &GoalId) -> Result<BTreeSet<String>, Error> {
        self.ask("read a goal's roles", cmd("SMEMBERS").arg(keys::dag(id, "roles"))).await
    }

    /// Writes what is declared of a goal or how planning it goes, and an event of
    /// `kind` unless that is empty; makes the goal a draft where it is new. An
    /// empty value removes the field.
    ///
    /// # Errors
    /// [`Error::NotLeader`], or Redis did not answer.
    pub async fn note_goal(
        &self,
        lead: &Lead,
        id: &GoalId,
        kind: &str,
        fields: &[(&str, String)],
    ) -> Result<(), Error> {
        let args = (self.now(), lead.controller(), lead.epoch().0, id.as_str(), kind, fields);
        self.call("note a goal", &script::GOAL_NOTE, args).await?.led()?;
        Ok(())
    }

    /// Records how planning a goal goes.
    ///
    /// # Errors
    /// [`Error::NotLeader`], or Redis did not answer.
    pub async fn note_planning(
        &self,
        lead: &Lead,
        id: &GoalId,
        kind: &str,
        planning: &Planning,
    ) -> Result<(), Error> {
        let fields = [
            ("plan_spec_hash", planning.spec_hash.clone()),
            ("plan_reparses", planning.reparses.to_string()),
            ("plan_attempts", planning.attempts.to_string()),
            ("plan_error", planning.error.clone().unwrap_or_default()),
            ("plan_not_before", planning.not_before_ms.to_string()),
            ("plan_held", planning.held.clone().unwrap_or_default()),
            ("plan_means", planning.means.clone()),
        ];
        self.note_goal(lead, id, kind, &fields).await
    }

    /// Sets the status that follows from `counts`. Whether it changed; `false`
    /// also where the counts or the plan changed since they were read.
    ///
    /// # Errors
    /// [`Error::NotLeader`], or Redis did not answer.
    pub async fn roll_up(
        &self,
        lead: &Lead,
        id: &GoalId,
        generation: u64,
        counts: &Counts,
        reason: &str,
    ) -> Result<bool, Error> {
        let args = (
            (self.now(), lead.controller(), lead.epoch().0, id.as_str(), generation),
            (counts.status().as_str(), reason),
            (counts.blocked, counts.ready, counts.running, counts.done, counts.failed),
        );
        let reply = self.call("set a goal's status", &script::GOAL_ROLLUP, args).await?.led()?;
        Ok(reply.verdict() == "changed")
    }

    /// Makes tasks claimable whose time has come. When the next one is due.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer; promoting again is safe.
    pub async fn promote(&self, id: &GoalId) -> Result<Option<Duration>, Error> {
        let args = (self.now(), id.as_str(), PROMOTED_PER_CALL);
        let reply = self.call("promote delayed tasks", &script::PROMOTE, args).await?;
        if reply.word(0).is_empty() {
            return Ok(None);
        }
        let (due, now) = (reply.number(0)?, reply.number(1)?);
        Ok(Some(Duration::from_micros(due.saturating_sub(now))))
    }

    /// Recounts a goal and puts every task where its state says. How many changes
    /// that took.
    ///
    /// # Errors
    /// [`Error::NotLeader`], or Redis did not answer.
    pub async fn repair(&self, lead: &Lead, id: &GoalId) -> Result<u64, Error> {
        let what = "repair a goal";
        let ids: Vec<String> = self.ask(what, cmd("HKEYS").arg(keys::dag(id, "nodes"))).await?;
        let lead = (lead.controller(), lead.epoch().0);
        let mut changes = 0;
        for chunk in ids.chunks(REPAIR_CHUNK) {
            let args = (self.now(), lead, id.as_str(), "", chunk);
            changes += self.call(what, &script::REPAIR, args).await?.led()?.number(0)?;
        }
        let args = (self.now(), lead, id.as_str(), changes);
        self.call(what, &script::REPAIR, args).await?.led()?.number(0)
    }
}

impl Goal {
    /// Reads `goal:<id>` and its plan's counts; `None` where it was never declared. What
    /// it cost, and until when its provider holds it, stand elsewhere.
    ///
    /// # Errors
    /// [`Error::Malformed`] names the field that is not as this version writes it.
    pub fn decode(id: GoalId, hash: &Hash, counts: &Hash) -> Result<Option<Self>, Error> {
        if hash.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            id,
            status: hash.required("status", "a goal status")?,
            title: hash.text("title"),
            spec_hash: hash.text("spec_hash"),
            generation: hash.number("generation")?,
            created: hash.some("created"),
            finished: hash.some("finished"),
            reason: hash.some("reason"),
            tasks: hash.number("tasks")?,
            counts: sum(&read_counts(counts)),
            reparses: hash.number("reparses")?,
            planning: Planning {
                spec_hash: hash.text("plan_spec_hash"),
                reparses: hash.number("plan_reparses")?,
                attempts: hash.number("plan_attempts")?,
                error: hash.some("plan_error"),
                not_before_ms: hash.number("plan_not_before")?,
                held: hash.some("plan_held"),
                means: hash.text("plan_means"),
            },
            difference: hash.some("difference"),
            problem: hash.some("problem"),
            declared: hash.text("declared") != "0",
            text: hash.text("text"),
            review: hash.text("review") == "1",
            budget_micros: hash.parsed("budget", "a number")?,
            cost_micros: 0,
            spending_cap_until: None,
        }))
    }
}

/// How many tasks are in each state by the role that they ask for; '' is any. What is no
/// number counts as none, as it does for the scripts: a repair sees it in the [`Figures`].
fn read_counts(hash: &Hash) -> BTreeMap<String, Counts> {
    let roles = hash.names().filter_map(|name| Some(name.split_once(':')?.1));
    let roles: BTreeSet<&str> = roles.collect();
    let counts = |role: &str| {
        let number = |state: State| hash.number(&format!("{state}:{role}")).unwrap_or_default();
        Counts {
            blocked: number(State::Blocked),
            ready: number(State::Ready),
            running: number(State::Running),
            done: number(State::Done),
            failed: number(State::Failed),
        }
    };
    roles.into_iter().map(|role| (role.to_owned(), counts(role))).collect()
}

/// All roles together.
fn sum(roles: &BTreeMap<String, Counts>) -> Counts {
    roles.values().fold(Counts::default(), |sum, of| Counts {
        blocked: sum.blocked.saturating_add(of.blocked),
        ready: sum.ready.saturating_add(of.ready),
        running: sum.running.saturating_add(of.running),
        done: sum.done.saturating_add(of.done),
        failed: sum.failed.saturating_add(of.failed),
    })
}
