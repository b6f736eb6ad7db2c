//! All fuzz targets on a stable toolchain, for some seconds: with the committed seeds, with
//! mutations of them that are the same in every run, and with hostile inputs that would be
//! too large to be committed.
//!
//! A failure names the file below `target/fuzz-finds` that holds the input. `make fuzz
//! TARGET=..` looks on for as long as one likes.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic of a test is its report"
)]

mod generate;
mod json;
mod mutate;

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use fuzzing::{TARGETS, Target};

use crate::mutate::Mutator;

/// How many mutations each target gets.
const MUTATIONS: u64 = 4_000;
/// An execution that takes this long has no end: the slowest takes a second.
const NO_END: Duration = Duration::from_secs(120);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The seeds of a target, by name of their file.
fn seeds(name: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = folder().join("seeds").join(name);
    let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    files
        .map(|file| {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(&path).unwrap())
        })
        .collect()
}

/// Runs `target` on `data`, and panics with where `data` is found where that goes wrong.
fn run(name: &str, target: Target, what: &str, data: &[u8]) {
    // The default hook has told of the panic itself.
    if catch_unwind(AssertUnwindSafe(|| target(data))).is_err() {
        panic!("{name} fails on {what}: {}", keep(name, data).display());
    }
}

/// Writes an input to where a person finds it.
fn keep(name: &str, data: &[u8]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../fuzz-finds");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    fs::write(&path, data).unwrap();
    path
}

/// All of one target, in a thread of its own: an input that takes for ever must not hang
/// the test run.
fn smoke(name: &'static str) {
    let (_, target) = *TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    let (sender, receiver) = mpsc::channel::<Option<(String, Vec<u8>)>>();
    let seeds = seeds(name);
    assert!(!seeds.is_empty(), "{name} has no seeds");
    let thread = thread::spawn(move || {
        for (file, seed) in &seeds {
            sender.send(Some((file.clone(), seed.clone()))).unwrap();
            run(name, target, file, seed);
        }
        for (what, data) in generate::hostile(seeds.values()).chain(json::hostile(seeds.values())) {
            sender.send(Some((what.clone(), data.clone()))).unwrap();
            run(name, target, &what, &data);
        }
        let words = mutate::words(&folder().join("dict").join(format!("{name}.dict")));
        let seeds = seeds.into_values().collect();
        let mut mutator = Mutator::new(0x6f72_6368, seeds, words);
        for number in 0..MUTATIONS {
            let data = mutator.next();
            let what = format!("mutation {number}");
            sender.send(Some((what.clone(), data.clone()))).unwrap();
            run(name, target, &what, &data);
        }
        sender.send(None).unwrap();
    });
    let mut present = None;
    loop {
        match receiver.recv_timeout(NO_END) {
            Ok(Some(next)) => present = Some(next),
            Ok(None) | Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let (what, data) = present.unwrap();
                panic!("{name} does not end on {what}: {}", keep(name, &data).display());
            }
        }
    }
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

macro_rules! targets {
    ($($test:ident: $name:literal,)+) => {
        $(#[test]
        fn $test() {
            smoke($name);
        })+

        #[test]
        fn every_target_should_have_a_test_and_a_fuzz_target() {
            let known: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(known, [$($name),+]);
            let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
            for name in known {
                let path = format!("fuzz_targets/{name}.rs");
                assert!(manifest.contains(&format!("path = \"{path}\"")), "{path}");
                let source = fs::read_to_string(folder().join(&path)).unwrap();
                assert!(source.contains(&format!("fuzzing::{name}(data)")), "{path}");
            }
        }
    };
}

targets! {
    claude_should_be_read_whatever_it_prints: "claude",
    codex_should_be_read_whatever_it_prints: "codex",
    command_should_be_read_whatever_it_prints: "command",
    heartbeat_should_be_read_whatever_is_in_it: "heartbeat",
    history_should_be_judged_whatever_is_in_it: "history",
    instructions_should_be_read_whatever_is_in_them: "instructions",
    redis_should_be_read_whatever_is_in_it: "redis",
    replies_should_be_read_whatever_a_model_says: "replies",
    sysg_should_be_read_whatever_it_prints: "sysg",
}
