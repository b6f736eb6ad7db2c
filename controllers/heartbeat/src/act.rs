//! Carrying out a plan. A stale one is harmless: the script compares the version.

use std::sync::Arc;

use control_files::directives::{self, Additions, Line, ack_path, parse_line};
use model::{AgentName, Declared};
use reconcile::Outcome;
use store::directive::{Action, Consumed, Outcome as Applied, Seen, Step};
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::ack::Ack;
use crate::plan::{Heartbeat, LINES_PER_PASS, Lines, Plan, Snapshot};
use crate::{Reconciler, write};

/// How much of a line is kept with its answer, in characters.
const KEPT_LINE_CHARS: usize = 200;

impl Reconciler {
    pub(crate) async fn carry_out(
        &self,
        declared: &Arc<Declared>,
        snapshot: &Snapshot,
        plan: &Plan<'_>,
    ) -> Result<Outcome, store::Error> {
        let mut outcome = Outcome::unchanged();
        let mut answers = None;
        if let Some(liveness) = plan.liveness {
            let fields = [("liveness", liveness.as_str().to_owned())];
            self.store.note_agent(&self.lead, plan.agent, "agent-liveness", &fields).await?;
            outcome.acted = true;
        }
        self.note_postponement(plan);
        let mut problems: Vec<String> = plan.problem.map(str::to_owned).into_iter().collect();
        if let Some(heartbeat) = &snapshot.heartbeat {
            match &plan.lines {
                Lines::Leave => {}
                Lines::Settle { look_again } => outcome = outcome.again_after(*look_again),
                Lines::Apply { added, look_again } => {
                    reconcile::note_plan(plan);
                    let span = reconcile::action("apply");
                    let apply = self.apply(plan.agent, heartbeat, added);
                    let worked = apply.instrument(span).await?;
                    outcome.acted |= worked.steps > 0;
                    let more = (!worked.all).then_some(std::time::Duration::ZERO);
                    let again = more.into_iter().chain(*look_again);
                    outcome = again.fold(outcome, Outcome::again_after);
                }
            }
            if plan.answer {
                match self.answer(snapshot, heartbeat, outcome.acted).await? {
                    Ok(Answered { text, written }) => {
                        outcome.acted |= written;
                        answers = text;
                    }
                    Err(error) => problems.push(reconcile::error_chain(&error)),
                }
            }
        }
        let is_done = matches!(plan.lines, Lines::Leave) && problems.is_empty();
        self.settle(declared, snapshot, is_done && !outcome.acted, answers.as_deref());
        self.show(plan.agent, problems);
        Ok(outcome)
    }

    fn note_postponement(&self, plan: &Plan<'_>) {
        let mut memory = self.memory();
        match plan.lines {
            Lines::Settle { .. } => {
                memory.postponed.entry(plan.agent.clone()).or_insert_with(Instant::now);
            }
            Lines::Leave | Lines::Apply { .. } => {
                memory.postponed.remove(plan.agent);
            }
        }
    }

    fn show(&self, agent: &AgentName, problems: Vec<String>) {
        let text = problems.join("; ");
        if self.problems.set(agent, problems) && !text.is_empty() {
            tracing::warn!(target: "orchestrator", %agent, problem = text, "Heartbeat has a problem");
        }
    }

    async fn apply(
        &self,
        agent: &AgentName,
        heartbeat: &Heartbeat,
        added: &Additions<'_>,
    ) -> Result<Worked, store::Error> {
        let mut version = heartbeat.consumed.version.clone();
        let mut steps = 0;
        for step in added.steps().take(LINES_PER_PASS) {
            let action = step.line.as_deref().and_then(action);
            let line = step.line.as_deref().map(shown).unwrap_or_default();
            let wanted = Step {
                agent,
                goal: &heartbeat.goal,
                path: &heartbeat.path,
                version: &version,
                seen: match &step.seen {
                    directives::Seen::Append(text) => Seen::Append(text),
                    directives::Seen::Replace(text) => Seen::Replace(text),
                },
                line: action.as_ref().map(|action| (line.as_str(), action)),
            };
            match self.store.apply(&self.lead, &wanted).await? {
                Applied::Applied(answer) => {
                    tracing::info!(target: "orchestrator", %agent, line, answer, "Directive was applied");
                }
                Applied::Refused(answer) => {
                    tracing::warn!(target: "orchestrator", %agent, line, answer, "Directive was refused");
                }
                Applied::Noted => {}
                Applied::Stale => return Ok(Worked { steps, all: false }),
            }
            steps += 1;
            version = next(&version);
        }
        Ok(Worked { steps, all: added.added() <= LINES_PER_PASS })
    }

    /// Brings the file of answers up to date.
    async fn answer(
        &self,
        snapshot: &Snapshot,
        heartbeat: &Heartbeat,
        acted: bool,
    ) -> Result<Result<Answered, write::Error>, store::Error> {
        // Applying has just changed it, and whether the agent is paused.
        let (consumed, paused) = if acted {
            let agent = self.store.agent(&snapshot.agent).await?;
            (self.store.consumed(&snapshot.agent).await?, agent.paused)
        } else {
            (heartbeat.consumed.clone(), snapshot.paused)
        };
        let Consumed { path, applied, refused, .. } = consumed;
        if path != heartbeat.path.to_string_lossy() || applied + refused == 0 {
            return Ok(Ok(Answered { text: None, written: false }));
        }
        let answers = self.store.answers(&snapshot.agent).await?;
        let file = heartbeat.path.file_name().unwrap_or_default().to_string_lossy();
        let (agent, answers) = (&snapshot.agent, answers.as_slice());
        let text = Ack { agent, file: &file, paused, applied, refused, answers }.to_string();
        let (root, ack) = (self.project_root.clone(), ack_path(&heartbeat.path));
        let write = move || {
            let written = write::replace(&root, &ack, &text)?;
            Ok(Answered { text: Some(text), written })
        };
        Ok(write::blocking(write).await)
    }
}

/// What the file of answers holds now; no text where there need not be one.
struct Answered {
    text: Option<String>,
    written: bool,
}

/// What came of applying lines.
struct Worked {
    steps: usize,
    /// Whether no line is left.
    all: bool,
}

/// The version after one more step. The store promises only that it changes: where
/// this guess is wrong the next step is stale, and the next pass reads again.
fn next(version: &str) -> String {
    version.parse::<u64>().map_or_else(|_| "1".to_owned(), |number| (number + 1).to_string())
}

/// What a line asks for; `None` where it says nothing.
fn action(line: &str) -> Option<Action> {
    let directive = match parse_line(line) {
        Line::Blank | Line::Comment => return None,
        Line::Refused(why) => return Some(Action::Refused(why)),
        Line::Directive(directive) => directive,
    };
    Some(match directive {
        directives::Directive::Pause => Action::Pause,
        directives::Directive::Resume => Action::Resume,
        directives::Directive::Reparse => Action::Reparse,
        directives::Directive::DropTask(task) => Action::DropTask(task),
        directives::Directive::Elevate(task, priority) => Action::Elevate(task, priority),
        directives::Directive::FlushMemory => Action::FlushMemory,
    })
}

/// A line as it is kept: one of a megabyte must not fill the events with itself.
fn shown(line: &str) -> String {
    let line = line.trim();
    let mut text: String = line.chars().take(KEPT_LINE_CHARS).collect();
    if text.len() < line.len() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_should_be_guessed_as_the_script_counts_it() {
        assert_eq!((next(""), next("1"), next("41")), ("1".into(), "2".into(), "42".into()));
    }

    #[test]
    fn kept_line_should_be_bounded() {
        assert_eq!(shown("  PAUSE # a\t"), "PAUSE # a");
        assert_eq!(shown(&"ä".repeat(200)), "ä".repeat(200));
        assert_eq!(shown(&"ä".repeat(1_000_000)), format!("{}…", "ä".repeat(200)));
    }
}
