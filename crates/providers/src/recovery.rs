//! Failures that are known: what an agent can do about them, and what it cannot.
//!
//! The table is tried before a model is asked: it costs nothing and says the same each
//! time. It holds only what programs say in the same words everywhere.

/// What to do before a failed task is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    /// In one line.
    pub title: String,
    /// In order.
    pub steps: Vec<String>,
}

/// What only a person can mend, and why. Looked at before [`REMEDIES`]: a full disk
/// fails in many ways.
const HOPELESS: &[(&[&str], &str)] = &[
    (
        &["no space left on device", "enospc", "disk quota exceeded"],
        "the disk is full: a person has to make room",
    ),
    (
        &["cannot allocate memory", "out of memory", "oom-kill"],
        "the memory does not suffice: a person has to give more or split the task",
    ),
    (
        &[
            "authentication failed",
            "authentication required",
            "invalid api key",
            "permission denied (publickey",
            "401 unauthorized",
            "403 forbidden",
            "could not read username",
            "not logged in",
        ],
        "a login or a key is missing: a person has to provide it",
    ),
    (
        &["read-only file system", "erofs"],
        "the folder cannot be written at all: a person has to mount it otherwise",
    ),
];

/// Stands for `<script>: <line>: <command>: not found`, as plain shells say it: without
/// its beginning it says nothing of commands.
const SHELL_NOT_FOUND: &str = ": <line>: <command>: not found";

struct Known {
    /// Any of them, in lower case, in an error in lower case.
    patterns: &'static [&'static str],
    title: &'static str,
    steps: &'static [&'static str],
}

/// The first that fits counts, so the more telling stands before the more general.
const REMEDIES: &[Known] = &[
    Known {
        patterns: &[
            "modulenotfounderror",
            "no module named",
            "cannot find module",
            "cannot find package",
            "err_module_not_found",
            "unresolved import",
            "can't find crate",
            "no matching package named",
            "package is not installed",
        ],
        title: "Provide the missing module or package",
        steps: &[
            "Read in the error which module is missing, and which file asks for it.",
            "Look whether the project has it under another name or path, or names it in a \
             manifest whose packages were never installed.",
            "Install it with the project's own package manager into the project, never for the \
             whole machine, and record it in the manifest.",
            "Load the module once the way the task does, and see that it works.",
        ],
    },
    Known {
        patterns: &[
            "command not found",
            "executable file not found",
            "is not recognized as an internal or external command",
            SHELL_NOT_FOUND,
        ],
        title: "Provide the missing command",
        steps: &[
            "Read in the error which command is missing.",
            "Look whether it exists under another name or outside of PATH, or whether a tool \
             that is there does the same.",
            "Otherwise install it into the project's folder with a package manager that is \
             there.",
            "Run it once with its version flag, and write down for the task how to call it.",
        ],
    },
    Known {
        patterns: &[
            "merge conflict",
            "conflict (content)",
            "automatic merge failed",
            "you have unmerged paths",
            "<<<<<<< head",
        ],
        title: "Resolve the merge conflict",
        steps: &[
            "List the files with conflicts.",
            "Resolve each so that the intent of both sides is kept; where they contradict each \
             other, what the goal asks for counts.",
            "See that no conflict marker is left, and build or test what the files belong to.",
            "Conclude the merge.",
        ],
    },
    Known {
        patterns: &["address already in use", "eaddrinuse", "port is already allocated"],
        title: "Free the port, or use another one",
        steps: &[
            "Find which process listens on the port.",
            "Where an earlier attempt of this task left it running, end that process by its \
             id. End nothing else.",
            "Otherwise change the configuration in the working folder to a free port on \
             loopback, and write down which.",
        ],
    },
    Known {
        patterns: &["permission denied", "eacces", "operation not permitted"],
        title: "Make the file accessible, or use a place that is",
        steps: &[
            "Read in the error which file or folder it is about, and look at its owner and mode.",
            "Where it lies in the working folder and is ours, give it the mode that it needs (a \
             script: the right to be executed).",
            "Where it lies outside, leave it as it is, and move what the task writes into the \
             working folder.",
        ],
    },
    Known {
        patterns: &["no such file or directory", "enoent", "filenotfounderror", "file not found"],
        title: "Provide the missing file, or correct its path",
        steps: &[
            "Read in the error which path is missing, and from which folder it was looked for.",
            "Look whether the file lies elsewhere or under another name; then correct the path \
             where it is written.",
            "Where an earlier task should have left it, make it the way that task describes, \
             with real content.",
            "Make missing folders above it, and see that the path exists.",
        ],
    },
];

/// What an agent can do about `error`, where that is known.
///
/// `None` says nothing of whether a model may know more; see [`hopeless`].
#[must_use]
pub fn known(error: &str) -> Option<Remedy> {
    let error = error.to_lowercase();
    if reason(&error).is_some() {
        return None;
    }
    let found = REMEDIES.iter().find(|known| known.patterns.iter().any(|p| fits(p, &error)))?;
    let steps = found.steps.iter().map(|step| (*step).to_owned()).collect();
    Some(Remedy { title: found.title.to_owned(), steps })
}

/// Why only a person can mend `error`, where that is known: then no model need be asked.
#[must_use]
pub fn hopeless(error: &str) -> Option<&'static str> {
    reason(&error.to_lowercase())
}

fn reason(error: &str) -> Option<&'static str> {
    let found = HOPELESS.iter().find(|(patterns, _)| patterns.iter().any(|p| fits(p, error)));
    found.map(|(_, why)| *why)
}

fn fits(pattern: &str, error: &str) -> bool {
    if pattern != SHELL_NOT_FOUND {
        return error.contains(pattern);
    }
    error.lines().any(|line| {
        let mut parts = line.trim_end().rsplit(": ");
        parts.next() == Some("not found")
            && parts.next().is_some_and(|command| !command.contains(' '))
            && parts.next().is_some_and(|line| line.parse::<u32>().is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_should_get_the_remedy_of_what_it_says() {
        let table = [
            ("sh: 1: jq: not found", "missing command"),
            ("bash: line 3: tokei: command not found\nexit status 127", "missing command"),
            ("ModuleNotFoundError: No module named 'yaml'", "module or package"),
            (
                "Error: Cannot find module 'left-pad'\n  code: 'MODULE_NOT_FOUND'",
                "module or package",
            ),
            ("error[E0432]: unresolved import `serde`", "module or package"),
            ("CONFLICT (content): Merge conflict in src/lib.rs", "merge conflict"),
            ("Error: listen EADDRINUSE: address already in use :::3000", "port"),
            ("./build.sh: Permission denied", "accessible"),
            ("cat: data/lines.tsv: No such file or directory", "missing file"),
        ];
        for (error, title) in table {
            let remedy = known(error).unwrap_or_else(|| panic!("{error}"));
            assert!(remedy.title.contains(title), "{error}: {}", remedy.title);
            assert!(remedy.steps.len() >= 3 && hopeless(error).is_none(), "{error}");
        }
    }

    #[test]
    fn what_only_a_person_can_mend_should_get_no_remedy() {
        for error in [
            "cp: error writing 'a': No space left on device",
            "git@example.org: Permission denied (publickey).",
            "HTTP/1.1 401 Unauthorized",
            "mkdir: cannot create directory 'x': Read-only file system\nNo such file or directory",
        ] {
            assert_eq!(known(error), None, "{error}");
            assert!(hopeless(error).is_some_and(|why| why.contains("a person")), "{error}");
        }
    }

    #[test]
    fn unknown_error_should_be_left_to_others() {
        let other = "GET https://example.org/x: 404: not found";
        for error in ["assertion failed: 3 == 4", "report.md has 0 bytes", other, ""] {
            assert_eq!((known(error), hopeless(error)), (None, None), "{error}");
        }
    }

    #[test]
    fn patterns_should_be_in_lower_case_and_steps_in_one_line() {
        let hopeless = HOPELESS.iter().flat_map(|(patterns, _)| *patterns);
        for pattern in REMEDIES.iter().flat_map(|known| known.patterns).chain(hopeless) {
            assert_eq!(*pattern, pattern.to_lowercase());
        }
        for step in REMEDIES.iter().flat_map(|known| known.steps) {
            assert!(!step.contains("  ") && !step.contains('\n'), "{step}");
        }
    }
}
