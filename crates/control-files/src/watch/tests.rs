//! On real files, changed by real programs.

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
        let status = Command::new("sh").arg("-ec").arg(script).current_dir(&self.folder).status();
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
