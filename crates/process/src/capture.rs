//! Output of which only the beginning and the end are kept.
//!
//! A program may print without end; whoever reads it must neither stop reading
//! (the program would block) nor keep everything. The first half of the limit
//! holds how it began, the second what it said last, and a line between them
//! tells how much is missing.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What one stream said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// The text; what is not UTF-8 is replaced. Where bytes are missing, a line
    /// `[... N bytes left out ...]` stands in their place.
    pub text: String,
    /// How many bytes are missing; 0 where the text is whole.
    pub left_out_bytes: u64,
}

/// Keeps the first and the last bytes of a stream.
#[derive(Debug)]
pub(crate) struct Capture {
    head_limit: usize,
    tail_limit: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
}

impl Capture {
    pub(crate) fn new(max_bytes: usize) -> Self {
        let tail_limit = max_bytes / 2;
        let head_limit = max_bytes - tail_limit;
        Self { head_limit, tail_limit, head: Vec::new(), tail: VecDeque::new(), total: 0 }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = self.head_limit - self.head.len();
        let (first, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(first);
        let rest = &rest[rest.len().saturating_sub(self.tail_limit)..];
        let excess = (self.tail.len() + rest.len()).saturating_sub(self.tail_limit);
        self.tail.drain(..excess);
        self.tail.extend(rest);
    }

    fn left_out_bytes(&self) -> u64 {
        self.total - self.head.len() as u64 - self.tail.len() as u64
    }

    pub(crate) fn into_captured(self) -> Captured {
        let left_out_bytes = self.left_out_bytes();
        let mut bytes = self.head;
        if left_out_bytes > 0 {
            bytes.extend_from_slice(gap(left_out_bytes).as_bytes());
        }
        bytes.extend(self.tail);
        // Copied only where it is not text as it stands.
        let text = String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        Captured { text, left_out_bytes }
    }
}

fn gap(left_out_bytes: u64) -> String {
    format!("\n[... {left_out_bytes} bytes left out ...]\n")
}

/// A bounded file that can be read while it grows.
///
/// Up to the limit it only grows. Each time it would pass the limit, what stands
/// after its first half is replaced by the most recent bytes: a follower sees it
/// shrink, as with any log that is truncated, and what a crash leaves behind
/// shows how it began and what was said shortly before.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    /// None once a write has failed: a full disk must not stop the program.
    file: Option<File>,
    /// Where our part begins: what others wrote before is kept.
    start: u64,
    /// How long our part is in the file now.
    written: u64,
    max_bytes: u64,
    capture: Capture,
}

impl Log {
    pub(crate) fn open(path: &Path, max_bytes: usize) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        let start = file.seek(SeekFrom::End(0))?;
        Ok(Self {
            path: path.to_owned(),
            file: Some(file),
            start,
            written: 0,
            max_bytes: max_bytes as u64,
            capture: Capture::new(max_bytes),
        })
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.capture.push(bytes);
        let fits = self.written + bytes.len() as u64 <= self.max_bytes;
        self.attempt(|log, file| {
            if fits {
                file.write_all(bytes)?;
                log.written += bytes.len() as u64;
                return Ok(());
            }
            // Half of what could be kept, so that there is room to grow again.
            log.rewrite(file, log.capture.tail_limit / 2)
        });
    }

    /// Brings the file to its final form.
    pub(crate) fn finish(mut self) {
        if self.capture.left_out_bytes() > 0 {
            self.attempt(|log, file| log.rewrite(file, log.capture.tail_limit));
        }
    }

    fn rewrite(&mut self, file: &mut File, keep: usize) -> io::Result<()> {
        let capture = &mut self.capture;
        let tail = capture.tail.make_contiguous();
        let tail = &tail[tail.len().saturating_sub(keep)..];
        let missing = capture.total - capture.head.len() as u64 - tail.len() as u64;
        let gap = if missing > 0 { gap(missing) } else { String::new() };
        file.set_len(self.start)?;
        file.seek(SeekFrom::Start(self.start))?;
        file.write_all(&capture.head)?;
        file.write_all(gap.as_bytes())?;
        file.write_all(tail)?;
        self.written = (capture.head.len() + gap.len() + tail.len()) as u64;
        Ok(())
    }

    fn attempt(&mut self, write: impl FnOnce(&mut Self, &mut File) -> io::Result<()>) {
        let Some(mut file) = self.file.take() else {
            return;
        };
        match write(self, &mut file) {
            Ok(()) => self.file = Some(file),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "output log given up");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(max_bytes: usize, pieces: &[&str]) -> Captured {
        let mut capture = Capture::new(max_bytes);
        for piece in pieces {
            capture.push(piece.as_bytes());
        }
        capture.into_captured()
    }

    #[test]
    fn capture_should_keep_all_up_to_the_limit() {
        let whole = captured(8, &["abc", "", "defgh"]);
        assert_eq!(whole, Captured { text: "abcdefgh".into(), left_out_bytes: 0 });
    }

    #[test]
    fn capture_should_keep_both_ends_past_the_limit() {
        let text = "abcd\n[... 3 bytes left out ...]\nhijk";
        for pieces in [&["abcdefghijk"][..], &["abcdefg", "hijk"], &["a", "bcdefghi", "j", "k"]] {
            assert_eq!(captured(8, pieces), Captured { text: text.into(), left_out_bytes: 3 });
        }
        assert_eq!(captured(0, &["abc"]).left_out_bytes, 3);
    }

    #[test]
    fn log_should_stay_bounded_and_readable_while_it_grows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "before\n").unwrap();
        let mut log = Log::open(&path, 1000).unwrap();
        for line in 0..1000 {
            log.push(format!("line {line}\n").as_bytes());
            let now = std::fs::read_to_string(&path).unwrap();
            assert!(now.starts_with("before\nline 0\n"), "{now}");
            assert!(now.ends_with(&format!("line {line}\n")), "{now}");
            assert!(now.len() <= 1050, "{}", now.len());
        }
        log.finish();
        let end = std::fs::read_to_string(&path).unwrap();
        assert!(end.contains("bytes left out ...]\n"), "{end}");
        assert!((1000..1050).contains(&end.len()), "{}", end.len());
    }
}
