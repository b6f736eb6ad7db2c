//! The desired state: INSTRUCTIONS.md as it is now, as far as it can be trusted.
//!
//! What cannot be read or understood changes nothing: for it the last good
//! declaration stays in force, also across a restart, for which the last good file is
//! kept beside our state. What is wrong is shown instead.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use control_files::instructions::{self, Parsed, SETTLE};
use control_files::{Watch, read};
use model::Declared;
use reconcile::CancellationToken;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use crate::paths;
use crate::report::Problem;

/// The same texts are understood anew after so long: paths that they name may lead elsewhere
/// by then, where no event told of it.
const UNDERSTAND_EVERY: Duration = Duration::from_secs(60);

/// What is declared, and what is wrong with the declaration.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// In force.
    pub(crate) declared: watch::Receiver<Arc<Declared>>,
    /// Whether it was ever read. Until then what is in force is not that nothing is
    /// wanted: it is unknown.
    pub(crate) known: watch::Receiver<bool>,
    /// Shown.
    pub(crate) problems: watch::Receiver<Arc<Vec<Problem>>>,
}

/// Reads the file now and follows it until `cancel`.
pub(crate) fn follow(
    project: PathBuf,
    file: PathBuf,
    resync: Duration,
    cancel: CancellationToken,
) -> Source {
    let (declared, declared_out) = watch::channel(Arc::default());
    let (known, known_out) = watch::channel(false);
    let (problems, problems_out) = watch::channel(Arc::default());
    let mut follower = Follower {
        project,
        file,
        declared,
        known,
        problems,
        texts: None,
        changed_at: Instant::now(),
        understood_at: None,
        reads: BTreeSet::new(),
    };
    follower.restore();
    follower.look(true);
    tokio::spawn(async move { follower.run(resync, cancel).await });
    Source { declared: declared_out, known: known_out, problems: problems_out }
}

/// A file's state as far as it tells whether to read again: the texts of all files
/// that were read.
type Texts = Vec<(PathBuf, Result<String, Problem>)>;

struct Follower {
    project: PathBuf,
    file: PathBuf,
    declared: watch::Sender<Arc<Declared>>,
    known: watch::Sender<bool>,
    problems: watch::Sender<Arc<Vec<Problem>>>,
    /// As read last.
    texts: Option<Texts>,
    changed_at: Instant,
    /// When these very texts were last understood and taken as settled.
    understood_at: Option<Instant>,
    /// Files besides `file` that the declaration was made of.
    reads: BTreeSet<PathBuf>,
}

impl Follower {
    async fn run(mut self, resync: Duration, cancel: CancellationToken) {
        let changed = Arc::new(Notify::new());
        let notify = Arc::clone(&changed);
        // Without a watch the resync notices, only later.
        let mut watch = Watch::new(move |_| notify.notify_one())
            .inspect_err(
                |error| tracing::warn!(target: "orchestrator", %error, "Cannot watch files"),
            )
            .ok();
        let mut woken = true;
        loop {
            if let Some(watch) = &mut watch {
                let mut paths = self.reads.clone();
                paths.insert(self.file.clone());
                if let Err(error) = watch.set(paths) {
                    tracing::warn!(target: "orchestrator", %error, "Cannot watch files");
                }
            }
            let settling = self.look(woken);
            let wait = settling.unwrap_or(resync).min(resync);
            tokio::select! {
                () = cancel.cancelled() => return,
                event = timeout(wait, changed.notified()) => woken = event.is_ok(),
            }
        }
    }

    /// What was in force when the process before this one ended.
    fn restore(&mut self) {
        let Ok(text) = std::fs::read_to_string(paths::last_good(&self.project)) else { return };
        let parsed = instructions::parse(&self.project, &self.file, &text).settled();
        self.declared.send_replace(Arc::new(parsed.declared));
        self.known.send_replace(true);
    }

    fn read(&self) -> Texts {
        std::iter::once(&self.file)
            .chain(&self.reads)
            .map(|path| {
                let text = read::read(&self.project, path)
                    .map_err(|error| Problem::unreadable(&self.project, path, &error));
                (path.clone(), text)
            })
            .collect()
    }

    /// Looks at the file. When to look again, where that is soon. `woken` is whether something
    /// happened in the folders.
    fn look(&mut self, woken: bool) -> Option<Duration> {
        let mut texts = self.read();
        let now = Instant::now();
        let same = self.texts.as_ref() == Some(&texts);
        if !same {
            self.changed_at = now;
        }
        let is_recent = |at: Instant| now.duration_since(at) < UNDERSTAND_EVERY;
        if same && !woken && self.understood_at.is_some_and(is_recent) {
            return None;
        }
        self.understood_at = None;
        let text = match texts.first_mut() {
            Some((_, Ok(text))) => std::mem::take(text),
            Some((_, Err(problem))) => {
                self.publish_problems(vec![problem.clone()]);
                self.texts = Some(texts);
                return None;
            }
            None => return None,
        };
        let parsed = instructions::parse(&self.project, &self.file, &text);
        let age = now.duration_since(self.changed_at);
        let settled = !parsed.unsettled || age >= SETTLE;
        if settled {
            self.understood_at = Some(now);
        }
        if !same || settled {
            self.take(if settled { parsed.settled() } else { parsed }, &text);
        }
        if let Some((_, first)) = texts.first_mut() {
            *first = Ok(text);
        }
        self.texts = Some(texts);
        (!settled).then(|| SETTLE.saturating_sub(age))
    }

    fn take(&mut self, parsed: Parsed, text: &str) {
        let merged = instructions::merge(&self.declared.borrow(), &parsed);
        self.publish_problems(parsed.diagnostics.iter().map(Problem::from).collect());
        if parsed.is_valid() && !parsed.unsettled {
            self.keep(text);
        }
        let usable = !parsed.unsettled && !parsed.broken.whole_file;
        self.reads = parsed.reads;
        self.declared.send_if_modified(|declared| {
            let changed = **declared != merged;
            if changed {
                tracing::info!(target: "orchestrator", agents = merged.agents.len(),
                    goals = merged.goals.len(), "Instructions are in force");
                *declared = Arc::new(merged);
            }
            changed
        });
        if usable {
            self.known.send_replace(true);
        }
    }

    fn publish_problems(&self, problems: Vec<Problem>) {
        self.problems.send_if_modified(|shown| {
            let changed = **shown != problems;
            if changed {
                for problem in &problems {
                    let place = problem.place();
                    tracing::warn!(target: "orchestrator", place, problem = problem.message, "Control file");
                }
                *shown = Arc::new(problems);
            }
            changed
        });
    }

    fn keep(&self, text: &str) {
        let path = paths::last_good(&self.project);
        let write = || {
            if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
                return Ok(());
            }
            std::fs::create_dir_all(paths::state_folder(&self.project))?;
            let draft = path.with_extension("tmp");
            std::fs::write(&draft, text)?;
            std::fs::rename(&draft, &path)
        };
        if let Err(error) = write() {
            tracing::warn!(target: "orchestrator", path = %path.display(), %error, "Cannot keep a copy");
        }
    }
}
