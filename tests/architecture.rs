//! The rooms of the project, and which may use which: read from `cargo metadata`, so
//! that it cannot drift from what is built.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic of a test is its report"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// The longest source file, in lines.
const MAX_LINES: usize = 600;

/// What each package may use of the workspace, outside of its tests.
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("process", &[]),
    ("reconcile", &[]),
    ("store", &["model"]),
    ("audit", &["model", "store"]),
    ("traces", &["store"]),
    (
        "fuzzing",
        &["audit", "control-files", "model", "process", "providers", "store", "supervisor"],
    ),
    ("control-files", &["model"]),
    ("supervisor", &["model", "process"]),
    ("providers", &["model", "process"]),
    ("testkit", &["process"]),
    ("sim", &[]),
    ("agent-controller", &["model", "process", "reconcile", "store", "supervisor"]),
    ("dag-controller", &["control-files", "model", "reconcile", "store"]),
    ("lease-reaper", &["model", "reconcile", "store"]),
    ("heartbeat-controller", &["control-files", "model", "reconcile", "store"]),
    (
        "sysg-orchestrator",
        &[
            "agent-controller",
            "audit",
            "control-files",
            "dag-controller",
            "heartbeat-controller",
            "lease-reaper",
            "model",
            "process",
            "providers",
            "reconcile",
            "store",
            "supervisor",
            "traces",
        ],
    ),
];

/// What packages may use from elsewhere, where that is part of what they are.
const MAY_USE_ELSEWHERE: &[(&str, &[&str])] = &[
    ("model", &["petgraph", "serde", "thiserror"]),
    (
        "reconcile",
        &["backoff", "fastrand", "futures", "thiserror", "tokio", "tokio-util", "tracing"],
    ),
];

/// Crates that only some packages may use directly.
const RESERVED: &[(&str, &[&str])] =
    &[("redis", &["store", "testkit"]), ("backoff", &["reconcile"]), ("petgraph", &["model"])];

fn metadata() -> Metadata {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        // Without the platform it asks for packages that no build here has fetched.
        .other_options(["--offline", "--locked", "--filter-platform", &platform].map(str::to_owned))
        .exec()
        .expect("cargo metadata")
}

fn uses(package: &Package) -> BTreeSet<String> {
    package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind == DependencyKind::Normal)
        .map(|dependency| dependency.name.clone())
        .collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn packages_should_use_only_what_their_room_may() {
    let metadata = metadata();
    let packages = metadata.workspace_packages();
    let ours: BTreeSet<String> = packages.iter().map(|package| package.name.to_string()).collect();
    let table: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    assert_eq!(ours, table.keys().map(|name| (*name).to_owned()).collect(), "a room is missing");
    for package in packages {
        let used = uses(package);
        let of_ours: BTreeSet<String> = used.intersection(&ours).cloned().collect();
        let allowed = set(table[package.name.as_str()]);
        let excess: Vec<_> = of_ours.difference(&allowed).collect();
        assert!(excess.is_empty(), "{} may not use {excess:?}", package.name);
        if let Some((_, allowed)) =
            MAY_USE_ELSEWHERE.iter().find(|(name, _)| *name == package.name.as_str())
        {
            let allowed = set(allowed);
            let excess: Vec<_> = used.difference(&allowed).filter(|n| !ours.contains(*n)).collect();
            assert!(excess.is_empty(), "{} may not use {excess:?}", package.name);
        }
        for (reserved, users) in RESERVED {
            let may = users.contains(&package.name.as_str());
            assert!(may || !used.contains(*reserved), "{} may not use {reserved}", package.name);
        }
    }
}

#[test]
fn controllers_should_have_the_same_files() {
    for controller in ["agent", "dag", "lease-reaper", "heartbeat"] {
        for file in ["lib.rs", "observe.rs", "plan.rs", "act.rs"] {
            let path = root().join("controllers").join(controller).join("src").join(file);
            assert!(path.is_file(), "{} is missing", path.display());
        }
    }
}

#[test]
fn versions_and_lints_should_stand_in_the_workspace_only() {
    for package in metadata().workspace_packages() {
        let manifest = package.manifest_path.as_std_path();
        if manifest == root().join("Cargo.toml") {
            continue;
        }
        let text = fs::read_to_string(manifest).unwrap();
        assert!(text.contains("[lints]\nworkspace = true"), "{}: lints", package.name);
        let mut section = "";
        for line in text.lines() {
            if line.starts_with('[') {
                section = line;
            } else if section.contains("dependencies") && !line.is_empty() && !line.starts_with('#')
            {
                let inherits = line.contains("workspace = true");
                assert!(inherits, "{}: `{line}` belongs into the workspace", package.name);
            }
        }
    }
}

#[test]
fn files_should_be_short_enough_to_read() {
    let mut long = Vec::new();
    for path in sources(&root()) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        if lines > MAX_LINES {
            long.push(format!("{} has {lines} lines", path.display()));
        }
    }
    assert!(long.is_empty(), "more than {MAX_LINES} lines: {long:?}");
}

#[test]
fn unsafe_code_should_stay_in_its_place() {
    let place = Path::new("crates/process/src/unsafe_calls.rs");
    for path in sources(&root()) {
        let text = fs::read_to_string(&path).unwrap();
        let allows = ["allow(unsafe_code", "expect(unsafe_code"];
        let inside = path.ends_with(place) || path.ends_with(file!());
        assert!(inside || !allows.iter().any(|a| text.contains(a)), "{}", path.display());
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust and Lua files of the project.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" {
                found.extend(sources(&path));
            }
        } else if name.ends_with(".rs") || name.ends_with(".lua") {
            found.push(path);
        }
    }
    found
}
