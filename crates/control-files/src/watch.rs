//! Telling when control files change.
//!
//! A watch on a file is lost when an editor saves by rename, so folders are
//! watched: the one each file lies in, or the nearest that exists where that one
//! does not yet. Files may appear, vanish, be replaced or be links, and so may
//! their folders; each change of what a path leads to is reported by the path
//! as it was given. Reading a file is no change, and neither is anything that
//! happens to other files in the same folder.
//!
//! A report is a hint: several changes within [`COALESCE`] make one, and one may
//! come without a change. Nothing depends on it alone: where the kernel has no
//! watches left, [`Watch::set`] says so, and whoever looks at the files again
//! from time to time loses only speed. It also repairs watches: a folder that
//! was renamed from above is noticed at the next [`Watch::set`].
//!
//! Changes are gathered here rather than by a debouncer that ticks, so that an
//! idle process sleeps.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use notify::event::ModifyKind;
use notify::{ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

/// How long changes are gathered before they are reported.
pub const COALESCE: Duration = Duration::from_millis(20);

/// How often folders are looked at again at once while they keep changing under
/// us; after that there is a pause.
const MAX_ROUNDS: usize = 8;

/// Why something is not watched. It is still found by looking.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No watching at all.
    #[error(
        "cannot start watching files: if the limit is reached, raise \
         fs.inotify.max_user_instances; until then changes are found more slowly"
    )]
    Start(#[source] notify::Error),
    /// The kernel's limit for this user.
    #[error(
        "cannot watch the folder `{}`: no inotify watches are left; raise \
         fs.inotify.max_user_watches; until then changes in it are found more slowly",
        .folder.display()
    )]
    Limit {
        /// Which folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: notify::Error,
    },
    /// Anything else about one folder.
    #[error("cannot watch the folder `{}`: check its permissions", .folder.display())]
    Folder {
        /// Which folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: notify::Error,
    },
    /// The watching thread is gone.
    #[error("watching files has stopped: make a new watch")]
    Stopped,
}

impl Error {
    fn folder(folder: &Path, source: notify::Error) -> Self {
        let folder = folder.to_owned();
        if matches!(source.kind, ErrorKind::MaxFilesWatch) {
            return Self::Limit { folder, source };
        }
        Self::Folder { folder, source }
    }
}

enum Message {
    Event(notify::Result<Event>),
    Set(BTreeSet<PathBuf>, Sender<Result<(), Error>>),
    Stop,
}

/// A watch on a set of paths that may change. Dropping it ends it; a report that
/// is under way then may still arrive.
#[derive(Debug)]
pub struct Watch {
    messages: Sender<Message>,
}

impl Watch {
    /// Starts watching nothing. `on_change` is called, on a thread of its own,
    /// with each path that may have changed; it must not call [`Watch::set`].
    ///
    /// # Errors
    /// [`Error::Start`] where the system has no inotify instance left.
    pub fn new(on_change: impl Fn(PathBuf) + Send + 'static) -> Result<Self, Error> {
        let (messages, inbox) = mpsc::channel();
        let events = messages.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // Our own reading makes these: they must not even wake the thread.
            let reading = matches!(&event, Ok(event) if event.kind.is_access());
            if !reading {
                // The receiver is gone only once nobody wants to know any more.
                let _ = events.send(Message::Event(event));
            }
        })
        .map_err(Error::Start)?;
        let state = State::new(watcher);
        std::thread::Builder::new()
            .name("control-files".to_owned())
            .spawn(move || run(state, &inbox, on_change))
            .map_err(|error| Error::Start(notify::Error::io(error)))?;
        Ok(Self { messages })
    }

    /// Watches `paths`, which are absolute, and nothing else. What changes from
    /// here on is reported; what they are now is for the caller to read.
    ///
    /// # Errors
    /// The first [`Error`]; all other paths are watched nevertheless.
    pub fn set(&self, paths: BTreeSet<PathBuf>) -> Result<(), Error> {
        let (answer, answered) = mpsc::channel();
        self.messages.send(Message::Set(paths, answer)).map_err(|_| Error::Stopped)?;
        answered.recv().map_err(|_| Error::Stopped)?
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // A thread that is gone already needs no telling.
        let _ = self.messages.send(Message::Stop);
    }
}

fn run(mut state: State, inbox: &Receiver<Message>, on_change: impl Fn(PathBuf)) {
    let mut due: Option<Instant> = None;
    loop {
        let message = match due {
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => inbox.recv_timeout(due.saturating_duration_since(Instant::now())),
        };
        match message {
            Ok(Message::Event(event)) => state.take(event),
            Ok(Message::Set(paths, answer)) => {
                let result = state.set(paths);
                // The caller may have given up waiting.
                let _ = answer.send(result);
            }
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if due.is_some_and(|due| due <= Instant::now()) {
            due = None;
            if state.unsettled {
                state.renew_and_report();
            }
            std::mem::take(&mut state.changed).into_iter().for_each(&on_change);
        }
        if due.is_none() && (state.unsettled || !state.changed.is_empty()) {
            due = Some(Instant::now() + COALESCE);
        }
    }
}

fn is_gone(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
        ErrorKind::Generic(_)
        | ErrorKind::WatchNotFound
        | ErrorKind::InvalidConfig(_)
        | ErrorKind::MaxFilesWatch => false,
    }
}

/// Which folder is meant, however it is called.
type Identity = (u64, u64);

struct State {
    watcher: RecommendedWatcher,
    /// The paths of interest, as given.
    wanted: BTreeSet<PathBuf>,
    /// Watched folders by their real paths.
    folders: BTreeMap<PathBuf, Identity>,
    /// What is wanted of which watched folder.
    plan: Plan,
    /// What is to be reported.
    changed: BTreeSet<PathBuf>,
    /// Folders came and went too fast to say which are watched: look again soon.
    unsettled: bool,
}

/// What to watch for the sake of the wanted paths.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// Real folders, and the wanted paths that hang on each.
    folders: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
    /// Real paths of files, and the wanted paths that lead there.
    files: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
    /// Folders that do not exist yet, and the wanted paths that lie beyond.
    awaited: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
}

impl Plan {
    fn new(wanted: &BTreeSet<PathBuf>) -> Self {
        let mut plan = Self::default();
        for path in wanted {
            plan.add(path, path);
            // Where it is a link, what it leads to counts as well.
            let is_link = path.symlink_metadata().is_ok_and(|data| data.is_symlink());
            if let Some(target) = is_link.then(|| path.canonicalize().ok()).flatten() {
                plan.add(&target, path);
            }
        }
        plan.add_folders_above();
        plan
    }

    /// The folder above tells when one is replaced, which would not say so itself
    /// while somebody still works in it. What lies above all of them is not ours.
    fn add_folders_above(&mut self) {
        let mut folders = self.folders.keys();
        let Some(mut top) = folders.next().map(PathBuf::as_path) else { return };
        for folder in folders {
            top = top.ancestors().find(|top| folder.starts_with(top)).unwrap_or(top);
        }
        let above: Vec<_> = self
            .folders
            .iter()
            .filter(|(folder, _)| *folder != top)
            .filter_map(|(folder, wanted)| Some((folder.parent()?.to_owned(), wanted.clone())))
            .collect();
        for (folder, wanted) in above {
            self.folders.entry(folder).or_default().extend(wanted);
        }
    }

    fn add(&mut self, place: &Path, wanted: &Path) {
        let mut next = place;
        for folder in place.ancestors().skip(1) {
            let name = next.file_name().unwrap_or_default();
            if let Ok(real) = folder.canonicalize()
                && real.is_dir()
            {
                let child = real.join(name);
                if next == place {
                    self.files.entry(child).or_default().insert(wanted.to_owned());
                } else {
                    self.awaited.entry(child).or_default().insert(wanted.to_owned());
                }
                self.folders.entry(real).or_default().insert(wanted.to_owned());
                return;
            }
            next = folder;
        }
    }
}

impl State {
    fn new(watcher: RecommendedWatcher) -> Self {
        Self {
            watcher,
            wanted: BTreeSet::new(),
            folders: BTreeMap::new(),
            plan: Plan::default(),
            changed: BTreeSet::new(),
            unsettled: false,
        }
    }

    fn set(&mut self, paths: BTreeSet<PathBuf>) -> Result<(), Error> {
        self.changed.retain(|path| paths.contains(path));
        let known = std::mem::replace(&mut self.wanted, paths);
        let changed = self.renew();
        // What is new here is read by the caller; what was here before and hangs
        // on another folder now has changed unseen.
        let moved = changed.1.into_iter().filter(|path| known.contains(path));
        self.changed.extend(moved);
        changed.0
    }

    fn take(&mut self, event: notify::Result<Event>) {
        let event = match event {
            Ok(event) if event.need_rescan() => {
                tracing::warn!("file events were lost; looking at all control files");
                return self.look_at_all();
            }
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(%error, "watching control files failed; looking at all of them");
                return self.look_at_all();
            }
        };
        let structural = match event.kind {
            EventKind::Access(_) | EventKind::Other => return,
            EventKind::Create(_)
            | EventKind::Remove(_)
            | EventKind::Any
            | EventKind::Modify(ModifyKind::Name(_) | ModifyKind::Any) => true,
            EventKind::Modify(
                ModifyKind::Data(_) | ModifyKind::Metadata(_) | ModifyKind::Other,
            ) => false,
        };
        let mut renew = false;
        for path in &event.paths {
            if let Some(wanted) = self.plan.files.get(path) {
                self.changed.extend(wanted.iter().cloned());
                renew |= structural;
            }
            if !structural {
                continue;
            }
            // What came and went before we looked must be reported, too: somebody
            // may have read it in between.
            if let Some(wanted) = self.plan.awaited.get(path) {
                self.changed.extend(wanted.iter().cloned());
                renew = true;
            }
            // The folder itself went: its watch must, too, or it follows the
            // folder to its new place.
            if self.folders.remove(path).is_some() {
                let _ = self.watcher.unwatch(path);
                self.changed.extend(self.plan.folders.get(path).into_iter().flatten().cloned());
                renew = true;
            }
        }
        if renew {
            self.renew_and_report();
        }
    }

    fn look_at_all(&mut self) {
        self.changed.extend(self.wanted.iter().cloned());
        self.renew_and_report();
    }

    fn renew_and_report(&mut self) {
        let (result, moved) = self.renew();
        self.changed.extend(moved);
        if let Err(error) = result {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "a control file is not watched");
        }
    }

    /// Makes what is watched what should be. Returns the first error, and the
    /// paths that hang on a folder whose watch is new: they may have changed
    /// before it was in place.
    fn renew(&mut self) -> (Result<(), Error>, BTreeSet<PathBuf>) {
        let mut moved = BTreeSet::new();
        let mut failed: BTreeMap<PathBuf, Error> = BTreeMap::new();
        self.unsettled = true;
        for _ in 0..MAX_ROUNDS {
            self.plan = Plan::new(&self.wanted);
            let mut added = false;
            for (folder, wanted) in &self.plan.folders {
                let Ok(identity) = folder.metadata().map(|data| (data.dev(), data.ino())) else {
                    added = true;
                    continue;
                };
                if self.folders.get(folder) == Some(&identity) || failed.contains_key(folder) {
                    continue;
                }
                // A watch of an earlier folder of this name would stay on that one.
                let _ = self.watcher.unwatch(folder);
                self.folders.remove(folder);
                match self.watcher.watch(folder, RecursiveMode::NonRecursive) {
                    Ok(()) => {
                        self.folders.insert(folder.clone(), identity);
                        moved.extend(wanted.iter().cloned());
                        added = true;
                    }
                    // Gone between our looking and the watching.
                    Err(error) if is_gone(&error) => added = true,
                    Err(error) => {
                        failed.insert(folder.clone(), Error::folder(folder, error));
                    }
                }
            }
            // With the new watches in place, a folder that came into being in the
            // meantime shows now; a later one makes an event.
            if !added {
                self.unsettled = false;
                break;
            }
        }
        let unneeded: Vec<PathBuf> =
            self.folders.keys().filter(|f| !self.plan.folders.contains_key(*f)).cloned().collect();
        for folder in unneeded {
            self.folders.remove(&folder);
            let _ = self.watcher.unwatch(&folder);
        }
        (failed.into_values().next().map_or(Ok(()), Err), moved)
    }
}
