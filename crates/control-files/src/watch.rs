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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    struct Scene {
        folder: tempfile::TempDir,
        watch: Watch,
        reports: Receiver<PathBuf>,
    }

    impl Scene {
        fn new(paths: &[&str]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (report, reports) = mpsc::channel();
            let watch = Watch::new(move |path| drop(report.send(path))).unwrap();
            let scene = Self { folder, watch, reports };
            scene.set(paths);
            scene
        }

        fn path(&self, path: &str) -> PathBuf {
            self.folder.path().canonicalize().unwrap().join(path)
        }

        fn set(&self, paths: &[&str]) {
            self.watch.set(paths.iter().map(|path| self.path(path)).collect()).unwrap();
        }

        fn sh(&self, script: &str) {
            let status =
                Command::new("sh").arg("-ec").arg(script).current_dir(&self.folder).status();
            assert!(status.unwrap().success(), "{script}");
        }

        /// Waits until `path` is reported; what else was reported before.
        #[track_caller]
        fn expect(&self, path: &str) -> Vec<PathBuf> {
            let path = self.path(path);
            let deadline = Instant::now() + DEADLINE;
            let mut others = Vec::new();
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                match self.reports.recv_timeout(left) {
                    Ok(found) if found == path => return others,
                    Ok(other) => others.push(other),
                    Err(error) => panic!("{path:?} was not reported: {error}; {others:?} were"),
                }
            }
        }

        /// Waits until `path` is reported with this content: a report that is
        /// still under way from before must not satisfy.
        #[track_caller]
        fn expect_content(&self, path: &str, content: &str) {
            loop {
                self.expect(path);
                if std::fs::read_to_string(self.path(path)).is_ok_and(|text| text == content) {
                    return;
                }
            }
        }

        /// That nothing but `sentinel` is reported for what happened so far.
        fn expect_nothing_but(&self, sentinel: &str) {
            self.sh(&format!("echo >> {sentinel}"));
            assert_eq!(self.expect(sentinel), Vec::<PathBuf>::new());
        }
    }

    #[test]
    fn appending_and_every_way_of_saving_should_be_reported() {
        let scene = Scene::new(&["a.md"]);
        scene.sh("echo one > a.md");
        scene.expect_content("a.md", "one\n");
        scene.sh("echo two >> a.md");
        scene.expect_content("a.md", "one\ntwo\n");
        // As vim does with backupcopy=no: the old file away, a new one in its place.
        scene.sh("mv a.md a.md~; echo three > a.md; rm a.md~");
        scene.expect_content("a.md", "three\n");
        // As most other programs do: written beside, then renamed over.
        scene.sh("echo four > .a.tmp; mv .a.tmp a.md");
        scene.expect_content("a.md", "four\n");
        scene.sh("rm a.md; echo five > a.md");
        scene.expect_content("a.md", "five\n");
        scene.sh("echo six > a.md");
        scene.expect_content("a.md", "six\n");
    }

    #[test]
    fn removal_should_be_reported() {
        let scene = Scene::new(&["a.md", "b.md"]);
        scene.sh("echo one > a.md");
        scene.expect_content("a.md", "one\n");
        // What is reported from here on is about the removal.
        scene.sh("echo > b.md");
        scene.expect("b.md");
        scene.sh("rm a.md");
        scene.expect("a.md");
    }

    #[test]
    fn folders_that_come_go_and_come_back_should_be_followed() {
        let scene = Scene::new(&["x/y/z/a.md"]);
        for round in 0..20 {
            scene.sh(&format!("mkdir -p x/y/z; echo {round} > x/y/z/a.md"));
            scene.expect_content("x/y/z/a.md", &format!("{round}\n"));
            scene.sh(&format!("echo {round} >> x/y/z/a.md"));
            scene.expect_content("x/y/z/a.md", &format!("{round}\n{round}\n"));
            // In turn at once and with a pause for the removal to be noticed.
            scene.sh(["rm -r x", "rm -r x/y", "mv x w; rm -r w"][round % 3]);
            if round % 2 == 0 {
                scene.expect("x/y/z/a.md");
            }
        }
    }

    #[test]
    fn folder_that_is_replaced_by_another_should_be_followed() {
        let scene = Scene::new(&["x/a.md"]);
        scene.sh("mkdir x; echo old > x/a.md");
        scene.expect_content("x/a.md", "old\n");
        scene.sh("mkdir y; echo new > y/a.md; mv x z; mv y x");
        scene.expect_content("x/a.md", "new\n");
        scene.sh("echo newer > x/a.md");
        scene.expect_content("x/a.md", "newer\n");
    }

    #[test]
    fn folder_renamed_from_above_should_be_noticed_when_set_again() {
        let scene = Scene::new(&["x/y/a.md"]);
        scene.sh("mkdir -p x/y; echo old > x/y/a.md");
        scene.expect_content("x/y/a.md", "old\n");
        scene.sh("mv x z; mkdir -p x/y; echo new > x/y/a.md");
        scene.set(&["x/y/a.md"]);
        scene.expect_content("x/y/a.md", "new\n");
        scene.sh("echo newer > x/y/a.md");
        scene.expect_content("x/y/a.md", "newer\n");
    }

    #[test]
    fn other_files_and_reading_should_not_be_reported() {
        let scene = Scene::new(&[]);
        scene.sh("echo one > a.md; echo > b.md; mkdir sub");
        scene.set(&["a.md", "b.md"]);
        scene.sh("echo ack > a.ack.md; echo ack >> a.ack.md; mv a.ack.md c.md; rm c.md; mkdir d");
        scene.sh("cat a.md; cat < a.md; test -r a.md; ls -l . > sub/out");
        scene.expect_nothing_but("b.md");
    }

    #[test]
    fn set_should_replace_what_is_watched() {
        let scene = Scene::new(&["a.md", "x/b.md"]);
        scene.sh("mkdir x; echo one > a.md; echo two > x/b.md");
        scene.expect_content("x/b.md", "two\n");
        scene.set(&["x/b.md"]);
        // Reports from before the change of mind may be on their way.
        scene.sh("echo two > x/b.md");
        scene.expect("x/b.md");
        while scene.reports.try_recv().is_ok() {}
        scene.sh("echo more >> a.md");
        scene.sh("echo end >> x/b.md");
        assert!(!scene.expect("x/b.md").contains(&scene.path("a.md")));
    }

    #[test]
    fn file_behind_a_link_should_be_followed() {
        let scene = Scene::new(&[]);
        scene.sh("mkdir x; echo one > x/real.md");
        symlink("x/real.md", scene.path("a.md")).unwrap();
        scene.set(&["a.md"]);
        scene.sh("echo two > x/real.md");
        scene.expect_content("a.md", "two\n");
        scene.sh("echo three > x/other.md; ln -sfn x/other.md a.md");
        scene.expect_content("a.md", "three\n");
        scene.sh("echo four > x/other.md");
        scene.expect_content("a.md", "four\n");
    }

    #[test]
    fn thousand_appended_lines_should_end_in_a_report_that_sees_them_all() {
        let scene = Scene::new(&["a.md"]);
        scene.sh("i=0; while [ $i -lt 1000 ]; do echo PAUSE >> a.md; i=$((i+1)); done");
        scene.expect_content("a.md", &"PAUSE\n".repeat(1000));
    }

    #[test]
    fn folder_in_which_somebody_works_should_be_followed_when_replaced() {
        let scene = Scene::new(&["x/a.md", "b.md"]);
        scene.sh("mkdir x; echo old > x/a.md");
        scene.expect_content("x/a.md", "old\n");
        let mut inside = Command::new("sleep");
        let mut inside = inside.arg("60").current_dir(scene.path("x")).spawn().unwrap();
        scene.sh("rm -r x");
        scene.expect("x/a.md");
        scene.sh("mkdir x; echo new > x/a.md");
        scene.expect_content("x/a.md", "new\n");
        scene.sh("echo newer > x/a.md");
        scene.expect_content("x/a.md", "newer\n");
        inside.kill().unwrap();
        inside.wait().unwrap();
    }

    #[test]
    fn limit_should_be_told_with_what_to_raise() {
        let error = Error::folder(Path::new("/p"), notify::Error::new(ErrorKind::MaxFilesWatch));
        assert!(error.to_string().contains("raise fs.inotify.max_user_watches"), "{error}");
    }
}
