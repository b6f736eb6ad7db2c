//! The DAG controller: declared goals, their plans, and where they stand.
//!
//! # Flow
//! The key is a goal's id. Each pass reads the goal (`observe.rs`), decides
//! (`plan.rs`, pure) and acts (`act.rs`):
//! - declared and unknown: it becomes a draft; no longer declared: that is noted, and
//!   all it has done stays as its history.
//! - no plan for what is declared, or a `REPARSE` that was not served: the
//!   [`Planner`] makes one *beside* the passes (`work.rs`), one at a time per goal; a
//!   later pass puts it in force. Failures are counted in Redis, wait longer each
//!   time, and end after [`MAX_ATTEMPTS`]; a refusal ends them at once. Then the
//!   goal shows why, until its declaration changes (also who plans it, or for how much)
//!   or somebody writes `REPARSE`.
//! - planning that has to wait for a usage limit or a budget is a hold, not a failure:
//!   it costs no attempt, survives a restart, and is tried again when it is over.
//! - the goal's budget, its text and whether it is reviewed are noted for those who work
//!   on it whenever they differ: noting plans nothing again.
//! - delayed tasks whose time has come are made claimable.
//! - the status follows from the counts; the reason of a failure names the tasks.
//! - figures that contradict each other are repaired.
//! - tasks that no declared agent may take are shown as the goal's `problem`.
//!
//! # Guarantees
//! - A plan in force stays in force until another was accepted whole: whatever
//!   planning does, work goes on.
//! - A planner that hangs, panics or fails holds up neither other goals nor its own
//!   goal's upkeep; it is ended when its plan is not wanted any more, at
//!   [`Settings::planning_limit`], and with the controller.
//! - A crash between any two steps is harmless: each is decided anew from Redis. At
//!   most one planning is repeated.
//! - Every write but the promotion of due tasks, which anybody may do, is fenced by
//!   the leader's epoch.
//! - Where desired equals actual nothing is written and one round trip is read; the
//!   figures are read each [`Settings::drift_check`], and before the status changes.
//!   However many wakes come, a goal is looked at each 10 ms at most.
//!
//! # Assumptions
//! - The process leads for this controller; with the term the instance is dropped.
//! - Readiness is kept by the store's scripts; here only drift is repaired. One look
//!   is enough to see drift: the figures are one transaction but for the set of
//!   roles, which grows only when a plan is accepted, and that is done by this very
//!   key's passes, or by a former leader, who is fenced.
//!
//! # Caveats
//! - An attempt is counted when it has failed. Who kills the orchestrator during
//!   each attempt has it planned again and again.
//! - How many goals are planned at a time is bounded by the planner alone.
//! - Drift that a repair does not mend, such as a circle that somebody wrote into
//!   Redis by hand, becomes the goal's `problem` and is left alone until the figures
//!   change: a repair reads the whole plan. `REPARSE` writes the plan anew.

mod act;
mod memory;
mod observe;
mod plan;
mod planner;
mod work;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use model::{Declared, GoalId};
use reconcile::{Outcome, Policy, Reconciler, Stats, Waker};
use store::{Lead, Store};
use tokio::sync::watch;
use tokio::time::Instant;

pub use plan::{MAX_ATTEMPTS, NEVER_MS};
pub use planner::{PlanError, PlanErrorKind, Planner};
pub use store::Error;

use memory::Memory;
use work::LateWaker;

/// Two looks at one goal are at least so far apart: thousands of tasks may end in a
/// second, each with a wake, and one look sees them all.
const LOOK_GAP: Duration = Duration::from_millis(10);

/// How long a hold whose end nobody knows lasts before planning is tried again.
pub const HOLD_RETRY: Duration = Duration::from_secs(10);

/// How the controller runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Workers, resync, backoff of passes.
    pub kit: reconcile::Settings,
    /// How long planning waits after it failed.
    pub planning_backoff: Policy,
    /// How long one planning may take, repairs and waiting for a slot included. No pass
    /// waits for it.
    pub planning_limit: Duration,
    /// How long after a look at a goal's figures the next is due.
    pub drift_check: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        // A plan of a million tasks takes a while to write.
        let pass_timeout = Duration::from_secs(300);
        Self {
            kit: reconcile::Settings { pass_timeout, ..reconcile::Settings::default() },
            planning_backoff: Policy { first: Duration::from_secs(5), ..Policy::default() },
            planning_limit: Duration::from_secs(30 * 60),
            drift_check: Duration::from_secs(10),
        }
    }
}

/// A controller for the goals of `declared`, what wakes it, and its statistics. It
/// lives for one term of `lead`.
///
/// Wake a goal after its tasks' events, and all (`Waker::resync`) after the
/// declarations changed or a `REPARSE`; what is missed the resync finds.
pub fn controller<P: Planner>(
    store: Store,
    planner: P,
    declared: watch::Receiver<Arc<Declared>>,
    lead: Lead,
    settings: Settings,
) -> (reconcile::Controller<Goals<P>>, Waker<GoalId>, Stats) {
    let goals = reconciler(store, planner, declared, lead, settings);
    let waker = Arc::clone(&goals.waker);
    let (controller, wake, stats) = reconcile::controller(goals, settings.kit);
    // Nothing has been spawned yet, so nobody can have missed it.
    _ = OnceLock::set(&waker, wake.clone());
    (controller, wake, stats)
}

/// The same without its loop, for one who decides himself when which pass runs: nothing
/// but the next pass notices that a planner has ended.
pub fn reconciler<P: Planner>(
    store: Store,
    planner: P,
    declared: watch::Receiver<Arc<Declared>>,
    lead: Lead,
    settings: Settings,
) -> Goals<P> {
    Goals {
        store,
        planner: Arc::new(planner),
        declared,
        lead,
        settings,
        memory: Memory::default(),
        waker: LateWaker::default(),
    }
}

/// Reconciles goals; see the crate.
pub struct Goals<P> {
    store: Store,
    planner: Arc<P>,
    declared: watch::Receiver<Arc<Declared>>,
    lead: Lead,
    settings: Settings,
    memory: Memory,
    waker: LateWaker,
}

impl<P: Planner> Reconciler for Goals<P> {
    type Key = GoalId;
    type Error = Error;

    fn name(&self) -> &'static str {
        "dag"
    }

    /// What is declared, and what was declared ever.
    async fn keys(&self) -> Result<Vec<GoalId>, Error> {
        let mut ids: BTreeSet<GoalId> = self.declared.borrow().goals.keys().cloned().collect();
        ids.extend(self.store.goal_ids().await?);
        Ok(ids.into_iter().collect())
    }

    async fn reconcile(&self, id: &GoalId) -> Result<Outcome, Error> {
        let now = Instant::now();
        let rest = self.memory.of(id, |notes| {
            let since = notes.looked.map(|at| now.duration_since(at));
            let rest = since.and_then(|since| LOOK_GAP.checked_sub(since));
            if rest.is_none() {
                notes.looked = Some(now);
            }
            rest
        });
        if let Some(rest) = rest {
            return Ok(Outcome::unchanged().again_after(rest));
        }
        let seen = self.observe(id).await?;
        let plan = plan::decide(&seen);
        if !plan.steps.is_empty() {
            tracing::debug!(goal = %id, %plan, "decided");
            let words: Vec<&str> = plan.steps.iter().map(plan::Step::word).collect();
            reconcile::note_plan(&words.join("; "));
        }
        self.act(id, &seen, plan).await
    }
}
