//! The orchestrator: the one place where real parts are wired together.
//!
//! A process stands by until it leads; then one term begins: its controllers are
//! built anew, with the right to write of that term, and run beside each other until
//! the lead is lost or the process is told to end.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use model::AgentSpec;
use model::lease::Epoch;
use process::Identity;
use reconcile::{CancellationToken, Policy, Stats, supervise};
use store::lead::Controller;
use store::server::Kept;
use store::{Lead, Store};
use supervisor::SpawnRequest;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::declared::{self, Source};
use crate::election::Election;
use crate::follow::follow;
use crate::metrics::{Metrics, serve};
use crate::planner::{self, Planner};
use crate::publish::{Problems, publish};
use crate::settings::Orchestrator;
use crate::systemg::{SPAWN_LIMIT, Systemg};
use crate::telemetry::Export;
use crate::wakes::{Wakers, follow_events, follow_files};
use crate::{host, paths};

/// The longest pause after a pass that failed.
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
/// How often a wait for Redis is told.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// Wait between looks at a Redis that is not there yet.
const START_LOOK: Duration = Duration::from_millis(200);
/// How long a spawned agent may take to register.
const REGISTER_LIMIT: Duration = Duration::from_secs(15);
/// Between a term that broke and the next.
const BROKEN_PAUSE: Duration = Duration::from_secs(1);
/// How long a term's parts may take to end.
const TERM_END_LIMIT: Duration = Duration::from_millis(200);
/// How long our agents may take to end when we do: systemg kills a service one second
/// after it asked it to end.
const LAST_GRACE: Duration = Duration::from_millis(500);

/// Runs the orchestrator until it is told to end.
pub(crate) async fn orchestrate(
    settings: Orchestrator,
    export: Option<Export>,
) -> anyhow::Result<()> {
    let cancel = cancelled_by_signals()?;
    let store = Store::new(&settings.common.redis).await?;
    let metrics = settings.metrics.map(|address| {
        let metrics = Metrics::new(&store, settings.common.project.clone(), export.clone());
        // Its end is that of the process.
        tokio::spawn(serve(address, Arc::clone(&metrics), cancel.clone()));
        metrics
    });
    tokio::select! {
        () = cancel.cancelled() => return Ok(()),
        ready = wait_for_redis(&store, &settings) => ready?,
    }
    let this = Identity::this().context("reading our own start time from /proc")?;
    let fleet = store.fleet().await?;
    let source = declared::follow(
        settings.common.project.clone(),
        settings.instructions.clone(),
        settings.resync,
        cancel.clone(),
    );
    let host = host::name();
    let election = Election::new(store.clone(), this, &host, &settings.controllers);
    // Now: once the file is replaced by a newer build, its path is no longer told.
    let program = std::env::current_exe().context("finding our own program")?;
    let fleet = Fleet { store, settings, source, id: fleet, host, program, export, metrics };
    while let Some(epoch) = election.win(&cancel).await {
        fleet.look_for_lost_data().await?;
        let term = cancel.child_token();
        let mut parts = fleet.begin_term(epoch, &election, &term)?;
        let end = tokio::select! {
            biased;
            lost = election.keep(epoch, &cancel) => if lost { End::Lost } else { End::Told },
            // They end when we do, too.
            _ = parts.join_next() => if cancel.is_cancelled() { End::Told } else { End::Broken },
        };
        term.cancel();
        end_term(parts).await;
        if let Some(metrics) = &fleet.metrics {
            metrics.end_term(!matches!(end, End::Told)).await;
        }
        match end {
            End::Lost => {}
            End::Told => {
                fleet.leave(epoch).await;
                election.resign().await;
                break;
            }
            End::Broken => {
                // systemg starts us anew, and the agents are adopted.
                if fleet.source.problems.has_changed().is_err() {
                    anyhow::bail!(
                        "nobody follows {} any more",
                        fleet.settings.instructions.display()
                    );
                }
                tracing::error!(target: "orchestrator", "A part of the term ended by itself; all start over");
                sleep(BROKEN_PAUSE).await;
            }
        }
    }
    Ok(())
}

/// Why a term is over.
enum End {
    /// Another process leads, or Redis forgot that we do.
    Lost,
    /// We were told to end.
    Told,
    /// One of its parts is gone, and nobody else would notice.
    Broken,
}

fn cancelled_by_signals() -> anyhow::Result<CancellationToken> {
    let cancel = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("listening to signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening to signals")?;
    let token = cancel.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!(target: "orchestrator", "Told to end");
        token.cancel();
    });
    Ok(cancel)
}

/// As a service we may well be there before Redis is, or while it is away; ending would
/// only make systemg wait longer each time. What a person must mend is not waited for.
async fn wait_for_redis(store: &Store, settings: &Orchestrator) -> anyhow::Result<()> {
    let url = &settings.common.redis.url;
    let mut tell_at = Instant::now();
    loop {
        let error = match store.server().await {
            Ok(server) => {
                tracing::info!(target: "orchestrator", version = server.version, %url, "Connected to Redis");
                if let Err(error) = store.forget_other_scripts().await {
                    tracing::warn!(target: "orchestrator", %error, "Scripts of other versions stay in Redis");
                }
                return Ok(());
            }
            Err(error) => error,
        };
        if !error.is_transient() {
            return Err(error).with_context(|| format!("Redis at {url}"));
        }
        if Instant::now() >= tell_at {
            let error = reconcile::error_chain(&error);
            tracing::error!(target: "orchestrator", %url, error, "Waiting for Redis");
            tell_at = Instant::now() + TELL_EVERY;
        }
        sleep(START_LOOK).await;
    }
}

async fn end_term(mut parts: JoinSet<()>) {
    let all = async { while parts.join_next().await.is_some() {} };
    if timeout(TERM_END_LIMIT, all).await.is_err() {
        tracing::warn!(target: "orchestrator", "A part of the term did not end in time");
    }
}

/// What does not change from term to term.
struct Fleet {
    store: Store,
    settings: Orchestrator,
    source: Source,
    id: String,
    host: String,
    /// What agents are started with.
    program: PathBuf,
    /// Where traces go, if anywhere.
    export: Option<Export>,
    /// What is told of all this, if it is.
    metrics: Option<Arc<Metrics>>,
}

impl Fleet {
    /// Whether Redis forgot all that it knew of us. The agents are fenced and end; what was
    /// done is nowhere on record, so it is done again.
    async fn look_for_lost_data(&self) -> anyhow::Result<()> {
        match self.store.keep_fleet(&self.id).await {
            Ok(Kept::Same) => {}
            Ok(Kept::Lost) => {
                tracing::error!(target: "orchestrator", url = %self.settings.common.redis.url,
                "Redis has lost its data: all goals are planned anew and run from the start")
            }
            // What was started from now on would bear a name that nobody looks for.
            Ok(Kept::Other(other)) => anyhow::bail!(
                "Redis has lost its data, and another orchestrator made the project's id anew \
                 ({other}): starting over under that one"
            ),
            Err(error) => {
                tracing::warn!(target: "orchestrator", %error, "Cannot see whether Redis lost its data")
            }
        }
        Ok(())
    }

    /// Starts everything that runs while we lead.
    fn begin_term(
        &self,
        epoch: Epoch,
        election: &Election,
        term: &CancellationToken,
    ) -> anyhow::Result<JoinSet<()>> {
        let mut parts = JoinSet::new();
        let mut stats = Vec::new();
        let mut wakers = Wakers::default();
        let heartbeats = heartbeat_controller::Problems::new();
        for controller in &self.settings.controllers {
            let lead = Lead::new(*controller, epoch);
            match controller {
                Controller::Agent => {
                    let (controller, waker, s) = agent_controller::controller(
                        self.agent_parts()?,
                        lead,
                        self.agent_settings(),
                    );
                    wakers.agent = Some(waker);
                    self.run(&mut parts, controller, &s, term, true);
                    stats.push((Controller::Agent, s));
                }
                Controller::Dag => {
                    let (controller, waker, s) = dag_controller::controller(
                        self.store.clone(),
                        self.planner(lead, term),
                        self.source.declared.clone(),
                        lead,
                        self.dag_settings(),
                    );
                    wakers.dag = Some(waker);
                    self.run(&mut parts, controller, &s, term, true);
                    stats.push((Controller::Dag, s));
                }
                Controller::Lease => {
                    let (controller, _, s) =
                        lease_reaper::controller(self.store.clone(), lead, self.lease_settings());
                    self.run(&mut parts, controller, &s, term, false);
                    stats.push((Controller::Lease, s));
                }
                Controller::Heartbeat => {
                    let (controller, waker, s) = heartbeat_controller::controller(
                        self.store.clone(),
                        self.settings.common.project.clone(),
                        self.source.declared.clone(),
                        heartbeats.clone(),
                        lead,
                        self.heartbeat_settings(),
                    );
                    wakers.heartbeat = Some(waker);
                    self.run(&mut parts, controller, &s, term, true);
                    stats.push((Controller::Heartbeat, s));
                }
            }
        }
        parts.spawn(follow_events(self.store.clone(), wakers.clone(), term.clone()));
        self.tell(&mut parts, &stats, term);
        parts.spawn(follow_files(self.source.declared.clone(), wakers, term.clone()));
        parts.spawn(publish(
            self.store.clone(),
            Problems::new(self.source.problems.clone(), heartbeats),
            stats,
            election.candidate().clone(),
            term.clone(),
        ));
        Ok(parts)
    }

    /// Tells of all that happens, where it is asked for. One process does: the one that
    /// leads the goals.
    fn tell(
        &self,
        parts: &mut JoinSet<()>,
        stats: &[(Controller, Stats)],
        term: &CancellationToken,
    ) {
        let leads_goals = stats.iter().any(|(controller, _)| *controller == Controller::Dag);
        if let Some(metrics) = &self.metrics {
            metrics.begin_term(stats, leads_goals);
            if leads_goals {
                parts.spawn(follow(self.store.clone(), Arc::clone(metrics), term.clone()));
            }
        }
        if let Some(export) = self.export.clone().filter(|_| leads_goals) {
            parts.spawn(follow(self.store.clone(), Arc::new(export), term.clone()));
        }
    }

    /// Runs a controller beside the others: what happens to it happens to it alone. One
    /// that acts on the declaration waits until there is one, lest it take a file that
    /// was never readable for the wish to have no agents.
    fn run<R: reconcile::Reconciler>(
        &self,
        parts: &mut JoinSet<()>,
        controller: reconcile::Controller<R>,
        stats: &Stats,
        term: &CancellationToken,
        needs_declaration: bool,
    ) {
        let (stats, term) = (stats.clone(), term.clone());
        let mut known = self.source.known.clone();
        parts.spawn(async move {
            if needs_declaration {
                tokio::select! {
                    () = term.cancelled() => return,
                    known = known.wait_for(|known| *known) => if known.is_err() { return },
                }
            }
            supervise(&stats, Policy::default(), &term, || controller.run(term.clone())).await;
        });
    }

    /// As the orchestrator ends, so do its agents; their tasks are READY again.
    async fn leave(&self, epoch: Epoch) {
        if !self.settings.controllers.contains(&Controller::Agent) {
            return;
        }
        let lead = Lead::new(Controller::Agent, epoch);
        let grace = self.settings.common.grace.min(LAST_GRACE);
        match agent_controller::drain(&self.store, &lead, &self.id, &self.host, grace).await {
            Ok(ended) => tracing::info!(target: "orchestrator", ended, "Agents have ended"),
            Err(error) => tracing::error!(target: "orchestrator",
                error = reconcile::error_chain(&error), "Agents may be left"),
        }
    }

    fn kit(&self) -> reconcile::Settings {
        // Short, because no wake shortens it: after the last fault everything is to
        // have converged within 30 s.
        let backoff = Policy { max: LONGEST_BACKOFF, ..Policy::default() };
        reconcile::Settings { resync: self.settings.resync, backoff, ..Default::default() }
    }

    fn planner(&self, lead: Lead, term: &CancellationToken) -> Planner {
        // What a planner of ours started before us, and nobody waits for any more.
        let left = planner::marked(&self.id);
        let marked = |value: &str| value.starts_with(&left);
        match process::end_marked(agent_controller::attempt::MARKER, marked) {
            Ok(0) => {}
            Ok(ended) => {
                tracing::info!(target: "orchestrator", ended, "Ended what a planner had left")
            }
            Err(error) => {
                tracing::warn!(target: "orchestrator", %error, "A planner may have left something")
            }
        }
        let settings = &self.settings;
        Planner {
            store: self.store.clone(),
            lead,
            declared: self.source.declared.clone(),
            llm: settings.llm.clone(),
            project: settings.common.project.clone(),
            slot_ttl: settings.common.lease_ttl,
            fleet: self.id.clone(),
            sysg: settings.sysg.clone(),
            cancel: term.clone(),
        }
    }

    fn dag_settings(&self) -> dag_controller::Settings {
        let usual = dag_controller::Settings::default();
        let kit = reconcile::Settings { pass_timeout: usual.kit.pass_timeout, ..self.kit() };
        dag_controller::Settings { kit, planning_limit: planner::PLANNING_LIMIT, ..usual }
    }

    fn lease_settings(&self) -> lease_reaper::Settings {
        lease_reaper::Settings { ttl: self.settings.common.lease_ttl, kit: self.kit() }
    }

    fn heartbeat_settings(&self) -> heartbeat_controller::Settings {
        heartbeat_controller::Settings { ttl: self.settings.common.lease_ttl, kit: self.kit() }
    }

    fn agent_settings(&self) -> agent_controller::Settings {
        let common = &self.settings.common;
        agent_controller::Settings {
            limits: agent_controller::plan::Limits {
                ttl: common.lease_ttl,
                register: REGISTER_LIMIT,
                grace: common.grace,
            },
            respawn: Policy::default().at_once(),
            kit: reconcile::Settings { workers: 8, pass_timeout: SPAWN_LIMIT * 2, ..self.kit() },
        }
    }

    fn agent_parts(&self) -> anyhow::Result<agent_controller::Parts<Systemg>> {
        Ok(agent_controller::Parts {
            store: self.store.clone(),
            supervisor: Systemg::new(self.settings.sysg.clone()),
            processes: agent_controller::Kernel,
            declared: self.source.declared.clone(),
            fleet: self.id.clone(),
            host: self.host.clone(),
            command: agent_command(&self.settings, &self.id, self.program.clone())?,
        })
    }
}

/// How an agent is started: everything as arguments, because systemg gives it its
/// service's environment and the folder `/`.
fn agent_command(
    settings: &Orchestrator,
    fleet: &str,
    program: PathBuf,
) -> anyhow::Result<agent_controller::Command> {
    let common = &settings.common;
    let mut shared: Vec<String> = Vec::new();
    let mut add = |name: &str, value: String| shared.extend([name.to_owned(), value]);
    let redis_file = match &settings.redis_url_file {
        Some(file) => Some(file.clone()),
        None if common.redis.url.has_secret() => Some(write_secret(settings)?),
        None => None,
    };
    match redis_file {
        Some(file) => add("--redis-url-file", file.display().to_string()),
        None => add("--redis-url", common.redis.url.expose().to_owned()),
    }
    if let Some(ca) = &common.redis.ca_file {
        add("--redis-ca", ca.display().to_string());
    }
    let seconds = |duration: Duration| duration.as_secs_f64().to_string();
    add("--project", common.project.display().to_string());
    add("--lease-ttl", seconds(common.lease_ttl));
    add("--heartbeat-interval", seconds(common.heartbeat_interval));
    add("--grace", seconds(common.grace));
    add("--log-style", common.log.style.as_str().to_owned());
    add("--color", "never".to_owned());
    if let Some(sysg) = &settings.sysg {
        add("--sysg", sysg.display().to_string());
    }
    if settings.metrics.is_some() {
        shared.push("--measure".to_owned());
    }
    let fleet = fleet.to_owned();
    let llm = settings.llm.clone();
    Ok(Arc::new(move |spec: &AgentSpec| {
        let mut args: Vec<String> = ["run", "--role", "agent"].map(str::to_owned).to_vec();
        let mut add = |name: &str, value: String| args.extend([name.to_owned(), value]);
        add(agent_controller::arguments::AGENT_NAME, spec.name.to_string());
        add(agent_controller::arguments::FLEET, fleet.clone());
        add("--agent-role", spec.role.to_string());
        add("--goal-id", spec.goal.to_string());
        add("--instructions", spec.instructions.display().to_string());
        add("--heartbeat", spec.heartbeat.display().to_string());
        add("--log-level", spec.log_level.to_string());
        add("--spec-hash", spec.spec_hash.clone());
        if let Some(cadence) = spec.cadence {
            add("--cadence", seconds(cadence));
        }
        args.extend(shared.iter().cloned());
        args.extend(llm.as_asked(spec.provider, spec.model.as_deref()).arguments());
        let tools = spec.tools.iter().map(|tool| ("--llm-tool", tool));
        let modes = spec.permission_mode.iter().map(|mode| ("--llm-permission-mode", mode));
        let names = spec.environment.iter().map(|name| ("--llm-env", name));
        // As one word, for a value may begin with a dash.
        let settings = tools.chain(modes).chain(names);
        args.extend(settings.map(|(flag, value)| format!("{flag}={value}")));
        SpawnRequest { name: spec.name.to_string(), program: program.clone(), args }
    }))
}

/// A password must not stand on a command line, where `ps` shows it.
fn write_secret(settings: &Orchestrator) -> anyhow::Result<PathBuf> {
    let path = paths::redis_url_file(&settings.common.project);
    let write = |path: &Path| {
        std::fs::create_dir_all(paths::state_folder(&settings.common.project))?;
        // A file that was there may be readable by others.
        _ = std::fs::remove_file(path);
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
        std::io::Write::write_all(&mut file, settings.common.redis.url.expose().as_bytes())
    };
    write(&path).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}
