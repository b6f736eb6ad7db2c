//! What people and accidents do to control files.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::kind::Broken;

/// The size of [`Broken::Huge`].
const HUGE_BYTES: u64 = 1 << 30;

/// Breaks the file at `path`, which holds `text`; `outside` is where a link may lead.
pub(crate) fn damage(
    path: &Path,
    text: &str,
    how: Broken,
    outside: &Path,
    random: &mut fastrand::Rng,
) {
    match how {
        Broken::Half => fs::write(path, half(text, random)).unwrap(),
        Broken::Gone => fs::remove_file(path).unwrap(),
        Broken::Pipe => replace(path, |path| mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap()),
        Broken::Link => {
            fs::write(outside, "## Agents\n\n### z_agent\n- Goal: goal-001\n\nPAUSE\n").unwrap();
            replace(path, |path| std::os::unix::fs::symlink(outside, path).unwrap());
        }
        Broken::Huge => {
            replace(path, |path| File::create(path).unwrap().set_len(HUGE_BYTES).unwrap());
        }
    }
}

/// Puts the file back as an editor does: beside it, then by rename.
pub(crate) fn save(path: &Path, text: &str) {
    replace(path, |path| fs::write(path, text).unwrap());
}

/// Adds lines as `echo .. >>` does.
pub(crate) fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn replace(path: &Path, make: impl FnOnce(&Path)) {
    let draft = path.with_extension("draft");
    _ = fs::remove_file(&draft);
    make(&draft);
    fs::rename(&draft, path).unwrap();
}

/// A part of it that ends within a line.
fn half<'a>(text: &'a str, random: &mut fastrand::Rng) -> &'a str {
    let within: Vec<usize> = text
        .char_indices()
        .filter(|(at, _)| *at > 0 && !text[..*at].ends_with('\n'))
        .map(|(at, _)| at)
        .collect();
    within.get(random.usize(..within.len().max(1))).map_or("", |at| &text[..*at])
}
