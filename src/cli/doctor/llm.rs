//! Checks of language models: are the programs there that agents and planners ask?
//!
//! Whether anybody is logged in, and whether a model exists, only a call would show; none
//! is made here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{AgentSpec, Declared, GoalSpec, Provider};
use process::{Command, Status};

use super::Check;
use crate::cli::text::{count, first_line};
use crate::settings::Llm;

/// How long a program may take to say its version.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much of what it says is of interest.
const OUTPUT_BYTES: usize = 4 * 1024;
/// Modes in which a model's program asks nobody.
const RISKY: [&str; 2] = ["bypassPermissions", "danger-full-access"];
/// How many names a finding lists.
const NAMED: usize = 5;

/// Who asks one provider.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Use {
    /// Agents with tasks that only a model can do, and goals that only a model can plan.
    needed_by: Vec<String>,
    /// Agents whose every task runs its shell block.
    spared: u64,
}

pub(super) async fn checks(declared: Option<&Declared>, llm: &Llm) -> Vec<Check> {
    let nothing = Declared::default();
    let declared = declared.unwrap_or(&nothing);
    let mut checks = Vec::new();
    for (provider, of) in uses(declared, llm) {
        checks.push(match provider {
            Provider::Offline => offline(&of),
            Provider::Claude | Provider::Codex => program(provider, &of, llm).await,
            Provider::Command => command(&of, llm),
        });
    }
    checks.extend(permissions(declared));
    checks
}

/// Every provider that somebody is declared to ask.
fn uses(declared: &Declared, llm: &Llm) -> BTreeMap<Provider, Use> {
    let mut uses: BTreeMap<Provider, Use> = BTreeMap::new();
    for agent in declared.agents.values() {
        let of = uses.entry(agent.provider.unwrap_or(llm.provider)).or_default();
        if needs_model(declared.goals.get(&agent.goal), agent, llm.provider) {
            of.needed_by.push(agent.name.to_string());
        } else {
            of.spared += 1;
        }
    }
    for goal in declared.goals.values() {
        let planner = goal.provider.unwrap_or(llm.provider);
        if goal.plan_for(planner).is_none() {
            uses.entry(planner).or_default().needed_by.push(goal.id.to_string());
        }
    }
    uses
}

/// Whether the agent may meet a task that only a model can do.
fn needs_model(goal: Option<&GoalSpec>, agent: &AgentSpec, of_the_run: Provider) -> bool {
    let planner = goal.and_then(|goal| goal.provider).unwrap_or(of_the_run);
    let Some(tasks) = goal.and_then(|goal| goal.plan_for(planner)) else { return true };
    let is_for = |role: Option<&model::Role>| role.is_none_or(|role| *role == agent.role);
    goal.is_some_and(|goal| goal.review)
        || tasks.iter().any(|task| task.spec.run.is_none() && is_for(task.spec.role.as_ref()))
}

impl Use {
    /// `for a, b and 3 more`.
    fn users(&self) -> String {
        let shown: Vec<&str> = self.needed_by.iter().take(NAMED).map(String::as_str).collect();
        let more = self.needed_by.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("for {}{more}", shown.join(", "))
    }

    /// What is missing matters only where somebody needs it.
    fn missing(&self, provider: Provider, found: String, advice: String) -> Check {
        let name = provider.as_str();
        if self.needed_by.is_empty() {
            let spared = count(self.spared, "agent's tasks", "agents' tasks");
            return Check::ok(
                name,
                format!("{found}; not needed: all of {spared} run shell blocks"),
            );
        }
        Check::fail(name, format!("{found}, needed {}", self.users()), advice)
    }
}

fn offline(of: &Use) -> Check {
    let name = Provider::Offline.as_str();
    if of.needed_by.is_empty() {
        return Check::ok(name, "no model is asked: every task runs its shell block");
    }
    Check::warn(
        name,
        format!("no model is asked, and one is needed {}", of.users()),
        "set ORCH_LLM_PROVIDER or `Provider:` to claude, codex or command; or pin every goal's \
         tasks, each with a shell block",
    )
}

async fn program(provider: Provider, of: &Use, llm: &Llm) -> Check {
    let name = provider.as_str();
    let cli = llm.programs.get(&provider).map_or(name, String::as_str);
    let advice = format!(
        "install it, or say where it is: --{name}-cli, ORCH_{}_CLI; `Provider:` in \
         INSTRUCTIONS.md and ORCH_LLM_PROVIDER choose another",
        name.to_uppercase()
    );
    let Some(path) = located(cli) else {
        return of.missing(provider, format!("{cli} is {}", where_not(cli)), advice);
    };
    match version(&path).await {
        Ok(version) => {
            let users =
                if of.needed_by.is_empty() { String::new() } else { format!(", {}", of.users()) };
            Check::ok(name, format!("{version}, {}{users}", path.display()))
        }
        Err(why) => of.missing(provider, format!("{} {why}", path.display()), advice),
    }
}

/// The first line of what `--version` prints; else what went wrong.
async fn version(path: &Path) -> Result<String, String> {
    let asked = Command::new(path).args(["--version"]).timeout(PATIENCE).max_bytes(OUTPUT_BYTES);
    let ended = asked
        .run()
        .await
        .map_err(|error| format!("cannot be run: {}", reconcile::error_chain(&error)))?;
    let said = |text: &str| first_line(text.trim());
    match ended.status {
        Status::Exited(0) => Ok(said(&ended.stdout.text)),
        Status::TimedOut => Err(format!("did not tell its version within {PATIENCE:?}")),
        Status::Exited(code) => {
            Err(format!("--version ended with code {code}: {}", said(&ended.stderr.text)))
        }
        Status::Signalled(signal) => Err(format!("--version was ended by signal {signal}")),
        Status::Cancelled => Err("--version was given up".to_owned()),
    }
}

/// Any program may stand here, and what it would make of an argument nobody knows: it is
/// looked for and not run.
fn command(of: &Use, llm: &Llm) -> Check {
    let (name, provider) = (Provider::Command.as_str(), Provider::Command);
    let advice =
        "name a program that reads a request and writes a reply: --llm-cli, ORCH_COMMAND_CLI";
    let Some(cli) = llm.programs.get(&provider) else {
        return of.missing(provider, "no program is named".to_owned(), advice.to_owned());
    };
    match located(cli) {
        Some(path) if of.needed_by.is_empty() => Check::ok(name, path.display().to_string()),
        Some(path) => Check::ok(name, format!("{}, {}", path.display(), of.users())),
        None => of.missing(provider, format!("{cli} is {}", where_not(cli)), advice.to_owned()),
    }
}

/// Where a program is, as the kernel and the shell look for it.
fn located(program: &str) -> Option<PathBuf> {
    let runs = |path: &Path| {
        path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
    };
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| runs(path));
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| runs(path))
}

fn where_not(program: &str) -> &'static str {
    if program.contains('/') { "no program there" } else { "not in PATH" }
}

/// Agents whose model may do anything that their user may.
fn permissions(declared: &Declared) -> Option<Check> {
    let risky: Vec<String> = declared
        .agents
        .values()
        .filter_map(|agent| {
            let mode = agent.permission_mode.as_deref().filter(|mode| RISKY.contains(mode))?;
            Some(format!("{}: {mode}", agent.name))
        })
        .collect();
    (!risky.is_empty()).then(|| {
        Check::warn(
            "permissions",
            format!("{}: the model runs any command, and asks nobody", risky.join(", ")),
            "name what it may do with `Tools:` and a narrower `Permission mode:`; use this one in a \
             container or virtual machine only",
        )
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use control_files::instructions::parse;

    use super::super::Grade;
    use super::*;

    fn declared(text: &str) -> Declared {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("INSTRUCTIONS.md");
        std::fs::write(&file, text).unwrap();
        parse(folder.path(), &file, text).declared
    }

    fn llm(provider: Provider, programs: &[(Provider, &Path)]) -> Llm {
        Llm {
            provider,
            model: None,
            programs: programs
                .iter()
                .map(|(provider, path)| (*provider, path.display().to_string()))
                .collect(),
            extra_args: Vec::new(),
            use_sysg: false,
            slots: 2,
        }
    }

    fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    const AGENTS: &str = "## Agents\n### a\n- Goal: g\n### b\n- Goal: g\n- Provider: codex\n";
    const PINNED: &str = "## Goals\n### g\nText.\n#### Tasks\n- t1: One\n  ```sh\n  true\n  ```\n";
    const PROSE: &str = "## Goals\n### g\nText.\n";

    #[test]
    fn providers_should_be_those_that_somebody_asks() {
        let of = uses(&declared(&format!("{PROSE}\n{AGENTS}")), &llm(Provider::Claude, &[]));
        assert_eq!(of[&Provider::Claude].needed_by, ["a", "g"]);
        assert_eq!(of[&Provider::Codex].needed_by, ["b"]);
        assert_eq!(of.len(), 2);
        let of = uses(&declared(&format!("{PINNED}\n{AGENTS}")), &llm(Provider::Offline, &[]));
        assert_eq!(of[&Provider::Offline], Use { needed_by: vec![], spared: 1 });
        assert_eq!(of[&Provider::Codex], Use { needed_by: vec![], spared: 1 });
    }

    #[tokio::test]
    async fn missing_program_should_fail_only_where_it_is_needed() {
        let nowhere = Path::new("/no/such/claude");
        let llm = llm(Provider::Claude, &[(Provider::Claude, nowhere)]);
        let agent = "\n## Agents\n### a\n- Goal: g\n";
        let needed = checks(Some(&declared(&format!("{PROSE}{agent}"))), &llm).await;
        assert_eq!(needed[0].grade, Grade::Fail, "{needed:?}");
        assert!(needed[0].found.contains("needed for a, g"), "{needed:?}");
        let spared = checks(Some(&declared(&format!("{PINNED}{agent}"))), &llm).await;
        assert_eq!((spared.len(), spared[0].grade), (1, Grade::Ok), "{spared:?}");
        assert!(spared[0].found.contains("not needed"), "{spared:?}");
    }

    #[tokio::test]
    async fn version_should_be_told_by_the_program_itself() {
        let folder = tempfile::tempdir().unwrap();
        let good = script(folder.path(), "good", "echo '2.1.197 (Claude Code)'; echo more");
        let bad = script(folder.path(), "bad", "echo 'no such option' >&2; exit 2");
        let slow = script(folder.path(), "slow", "exec sleep 60");
        assert_eq!(version(&good).await.as_deref(), Ok("2.1.197 (Claude Code) …"));
        let said = version(&bad).await.unwrap_err();
        assert!(said.contains("code 2: no such option"), "{said}");
        let said = version(&slow).await.unwrap_err();
        assert!(said.contains("within 5s"), "{said}");
    }

    #[test]
    fn command_should_be_named_and_there() {
        let folder = tempfile::tempdir().unwrap();
        let there = script(folder.path(), "mine", "exit 1");
        let of = Use { needed_by: vec!["a".into()], spared: 0 };
        let grade =
            |programs: &[(Provider, &Path)]| command(&of, &llm(Provider::Command, programs)).grade;
        assert_eq!(grade(&[]), Grade::Fail);
        assert_eq!(grade(&[(Provider::Command, Path::new("/no/such"))]), Grade::Fail);
        assert_eq!(grade(&[(Provider::Command, &there)]), Grade::Ok);
    }

    #[test]
    fn offline_should_be_warned_of_where_a_model_is_needed() {
        assert_eq!(offline(&Use::default()).grade, Grade::Ok);
        let of = Use { needed_by: vec!["g".into()], spared: 0 };
        assert_eq!(offline(&of).grade, Grade::Warn);
    }

    #[test]
    fn modes_that_ask_nobody_should_be_warned_of() {
        let text =
            format!("{PROSE}\n## Agents\n### a\n- Goal: g\n- Permission mode: {}\n", RISKY[0]);
        let check = permissions(&declared(&text)).unwrap();
        assert!(check.grade == Grade::Warn && check.found.contains("a: bypassPermissions"));
        assert_eq!(permissions(&declared(PROSE)), None);
    }
}
