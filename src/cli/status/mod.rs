//! `orch status`: one look at everything, once or again and again.
//!
//! What cannot be read of one record is shown as a problem and hides nothing else. Only
//! Redis itself being away is an error, and under `--watch` not even that.

mod llm;
mod render;
mod watch;

pub(crate) use render::since;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use store::agent::Agent;
use store::event::Event;
use store::lead::Leader;
use store::{Error, Store};

use self::llm::{GoalView, LlmView};
use super::Exit;
use super::args::{Globals, Output};
use super::connect::Session;
use super::output::{self, Screen};
use crate::report::{ControllerReport, Problem, Standby};

/// How many directives are shown, of those among so many last events.
const DIRECTIVES: usize = 5;
const SEARCHED: usize = 1_000;

/// Show goals, agents, controllers and problems
///
/// Goals with their progress and what they cost; agents with what their process does and
/// which task they run; model calls under way and usage limits, where there are any;
/// controllers with their last pass and what waits longest; which orchestrator leads and
/// which stand by; problems in the control files. Exits 0 whatever it shows.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    output: Output,

    /// Show it again every second, in place on a terminal, until Ctrl-C
    #[arg(long, short)]
    watch: bool,
}

/// Everything there is to see, at one moment.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct View {
    /// When it was looked at.
    pub(crate) at: Timestamp,
    /// Where, without a password.
    pub(crate) redis: String,
    /// For people: times of day are told in it.
    #[serde(skip)]
    pub(crate) zone: TimeZone,
    pub(crate) goals: Vec<GoalView>,
    pub(crate) llm: LlmView,
    pub(crate) agents: Vec<Agent>,
    pub(crate) controllers: Vec<ControllerReport>,
    pub(crate) leaders: Vec<Leader>,
    pub(crate) standbys: Vec<Standby>,
    pub(crate) problems: Vec<Problem>,
    /// The last directives of heartbeat files and what came of each, oldest first.
    pub(crate) directives: Vec<Event>,
}

pub(crate) async fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    let session = Session::open(globals).await?;
    if args.watch {
        return watch::run(&session, args.output, globals).await;
    }
    let view = session.known(look(&session).await)?;
    show(&view, args.output, &Screen::now(globals))?;
    Ok(Exit::Done)
}

fn show(view: &View, output: Output, screen: &Screen) -> anyhow::Result<()> {
    if output.is_json() {
        return output::print_json(view);
    }
    Ok(output::print(&render::text(view, screen.width, screen.paint))?)
}

/// Looks at everything. An error is about Redis itself.
async fn look(session: &Session) -> Result<View, Error> {
    let store = &session.store;
    let mut problems = declared_problems(store).await?;
    problems.extend(of_redis(store).await);
    let goals = goals(store, &mut problems).await?;
    let agents = kept(store.agents().await, &mut problems)?;
    let leaders = kept(store.leaders().await, &mut problems)?;
    let mut controllers: Vec<ControllerReport> = Vec::new();
    for (name, json) in kept(store.controller_reports().await, &mut problems)? {
        controllers.extend(parsed(
            &format!("the report of controller {name}"),
            &json,
            &mut problems,
        ));
    }
    let mut standbys: Vec<Standby> = Vec::new();
    for json in kept(store.standbys().await, &mut problems)? {
        standbys.extend(parsed("what a standby says", &json, &mut problems));
    }
    standbys.sort_by(|a, b| (&a.host, a.pid).cmp(&(&b.host, b.pid)));
    Ok(View {
        at: Timestamp::now(),
        redis: session.target.options.url.to_string(),
        zone: TimeZone::system(),
        goals,
        llm: llm::read(store, &mut problems).await?,
        agents,
        controllers,
        leaders,
        standbys,
        directives: directives(store).await?,
        problems,
    })
}

/// What is wrong with the server itself, though it answers. Who may not ask is not told.
async fn of_redis(store: &Store) -> Option<Problem> {
    let why = store.server().await.ok()?.refuses_writes?;
    Some(Problem::error(format!(
        "Redis refuses every write, and what is shown here may be out of date: {why}"
    )))
}

async fn declared_problems(store: &Store) -> Result<Vec<Problem>, Error> {
    let mut found = Vec::new();
    if let Some(json) = kept(store.problems().await.map(Vec::from_iter), &mut found)?.pop() {
        let listed: Option<Vec<Problem>> = parsed("the list of problems", &json, &mut found);
        found.extend(listed.unwrap_or_default());
    }
    Ok(found)
}

async fn directives(store: &Store) -> Result<Vec<Event>, Error> {
    let mut events = store.last_events(SEARCHED).await?;
    events.retain(|event| event.kind == "directive");
    Ok(events.split_off(events.len().saturating_sub(DIRECTIVES)))
}

async fn goals(store: &Store, problems: &mut Vec<Problem>) -> Result<Vec<GoalView>, Error> {
    let mut goals = Vec::new();
    for id in kept(store.goal_ids().await, problems)? {
        let goal = store.goal(&id).await.map(Vec::from_iter);
        for goal in kept(goal, problems)? {
            goals.push(llm::with_cost(store, goal, problems).await?);
        }
    }
    Ok(goals)
}

/// What was read; what could not be understood becomes a problem.
fn kept<T>(read: Result<Vec<T>, Error>, problems: &mut Vec<Problem>) -> Result<Vec<T>, Error> {
    match read {
        Ok(values) => Ok(values),
        Err(error) if output::is_about_redis(&error) => Err(error),
        Err(error) => {
            problems.push(Problem::error(reconcile::error_chain(&error)));
            Ok(Vec::new())
        }
    }
}

fn parsed<T: serde::de::DeserializeOwned>(
    what: &str,
    json: &str,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    match serde_json::from_str(json) {
        Ok(value) => Some(value),
        Err(error) => {
            problems.push(Problem::error(format!(
                "{what} in Redis cannot be read ({error}): is the orchestrator of another version?"
            )));
            None
        }
    }
}
