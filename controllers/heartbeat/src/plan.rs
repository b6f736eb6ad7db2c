//! What to do about one agent's heartbeat: a pure function of what was seen.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use control_files::directives::{Additions, LastLine, additions};
use model::{AgentName, GoalId};
use store::directive::Consumed;

/// Lines of one pass; the next pass goes on. It bounds the time of a pass, so that
/// answers to a very long file come while it is worked off.
pub const LINES_PER_PASS: usize = 500;

/// A file that keeps changing while lines of it are gone is waited for no longer.
const LONGEST_POSTPONEMENT: Duration = Duration::from_secs(2);

/// What was seen of one agent.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Its name.
    pub agent: AgentName,
    /// Its heartbeat file; `None` where the agent is not declared.
    pub heartbeat: Option<Heartbeat>,
    /// What its process shows of itself.
    pub sign: Sign,
    /// What is recorded of that.
    pub recorded: Option<Liveness>,
    /// Whether a person paused it.
    pub paused: bool,
}

/// A heartbeat file, and what was consumed of it.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// The agent's goal.
    pub goal: GoalId,
    /// Where the file is.
    pub path: PathBuf,
    /// What is in it.
    pub content: Content,
    /// How long it has been as it is.
    pub unchanged: Duration,
    /// How long its lines have been held back.
    pub postponed: Duration,
    /// What was consumed of it, or of another file before it.
    pub consumed: Consumed,
}

impl Heartbeat {
    /// Whether what was consumed is of this very file.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.consumed.path == self.path.to_string_lossy()
    }
}

/// What is in a heartbeat file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// There is no such file, which is no error: a person makes one who wants to.
    Missing,
    /// Its text.
    Text(String),
    /// It cannot be read, and why.
    Unreadable(String),
    /// It is not this agent's alone, and what to do.
    Conflict(String),
}

/// What an agent's process shows of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// No process holds the name.
    Absent,
    /// We have just begun to look: nothing can be said of its beat.
    FirstSeen,
    /// Its beat changed while we looked, less than one TTL ago.
    Beats,
    /// Its beat has stood still for so long, since we began to look or for a TTL at least.
    Still(Duration),
}

/// Whether an agent gives signs of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// Its beat changes.
    Beating,
    /// Its beat has stood still for one TTL.
    Silent,
    /// It left or was buried.
    Gone,
}

impl Liveness {
    /// The word in Redis.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Beating => "beating",
            Self::Silent => "silent",
            Self::Gone => "gone",
        }
    }

    /// What is recorded of an agent; a word of another version counts as nothing.
    pub(crate) fn recorded(agent: &store::agent::Agent) -> Option<Self> {
        let word = agent.status.liveness.as_deref()?;
        [Self::Beating, Self::Silent, Self::Gone].into_iter().find(|is| is.as_str() == word)
    }
}

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// Whose heartbeat.
    pub agent: &'a AgentName,
    /// What to do with the file's lines.
    pub lines: Lines<'a>,
    /// Whether the file of answers is to be kept.
    pub answer: bool,
    /// What is wrong with the heartbeat file.
    pub problem: Option<&'a str>,
    /// The liveness to record, where another is recorded.
    pub liveness: Option<Liveness>,
}

/// What to do with the lines of a heartbeat file.
#[derive(Debug, Clone)]
pub enum Lines<'a> {
    /// Nothing.
    Leave,
    /// Lines are gone, and the file may be half-way rewritten: look again.
    Settle {
        /// When.
        look_again: Duration,
    },
    /// Apply what was added, as far as one pass goes.
    Apply {
        /// What was added.
        added: Additions<'a>,
        /// When a last line that may be half-way written is to be looked at again.
        look_again: Option<Duration>,
    },
}

/// What follows from `snapshot` where an agent may be silent for less than `ttl`.
#[must_use]
pub fn decide(snapshot: &Snapshot, ttl: Duration) -> Plan<'_> {
    let liveness = liveness(snapshot.sign, snapshot.recorded, ttl);
    let mut plan = Plan {
        agent: &snapshot.agent,
        lines: Lines::Leave,
        answer: snapshot.heartbeat.is_some(),
        problem: None,
        liveness: liveness.filter(|is| snapshot.recorded != Some(*is)),
    };
    let Some(heartbeat) = &snapshot.heartbeat else { return plan };
    match &heartbeat.content {
        Content::Missing => {}
        Content::Text(text) => plan.lines = lines(heartbeat, text),
        Content::Unreadable(problem) => plan.problem = Some(problem),
        Content::Conflict(problem) => {
            plan.problem = Some(problem);
            plan.answer = false;
        }
    }
    plan
}

fn lines<'a>(heartbeat: &'a Heartbeat, text: &'a str) -> Lines<'a> {
    let seen = if heartbeat.is_known() { heartbeat.consumed.seen.as_str() } else { "" };
    let left =
        |settle: Duration| settle.checked_sub(heartbeat.unchanged).filter(|left| !left.is_zero());
    let pending_for = left(Additions::PENDING_SETTLE);
    let last = if pending_for.is_some() { LastLine::Wait } else { LastLine::Take };
    let added = additions(seen, text, last);
    if added.removed() > 0
        && heartbeat.postponed < LONGEST_POSTPONEMENT
        && let Some(look_again) = left(Additions::REWRITE_SETTLE)
    {
        return Lines::Settle { look_again };
    }
    let look_again = added.pending().and(pending_for);
    if look_again.is_none() && added.steps().next().is_none() {
        return Lines::Leave;
    }
    Lines::Apply { added, look_again }
}

/// `None` where nothing is to be said: an agent that never was is not gone.
pub(crate) fn liveness(sign: Sign, recorded: Option<Liveness>, ttl: Duration) -> Option<Liveness> {
    // What a predecessor saw stands until we saw otherwise.
    let as_before = match recorded {
        Some(Liveness::Silent) => Liveness::Silent,
        Some(Liveness::Beating | Liveness::Gone) | None => Liveness::Beating,
    };
    match sign {
        Sign::Absent => recorded.map(|_| Liveness::Gone),
        Sign::FirstSeen => Some(as_before),
        Sign::Beats => Some(Liveness::Beating),
        Sign::Still(still) if still >= ttl => Some(Liveness::Silent),
        Sign::Still(_) => Some(as_before),
    }
}

impl fmt::Display for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.agent)?;
        match &self.lines {
            Lines::Leave => f.write_str("no line")?,
            Lines::Settle { look_again } => {
                write!(f, "lines are gone, look again in {look_again:?}")?;
            }
            Lines::Apply { added, look_again } => {
                match added.added() {
                    0 => f.write_str("no line")?,
                    1 => f.write_str("apply 1 line")?,
                    more => write!(f, "apply {more} lines")?,
                }
                if let Some(look_again) = look_again {
                    write!(f, ", one has no end yet, look again in {look_again:?}")?;
                }
            }
        }
        if let Some(problem) = self.problem {
            write!(f, "; problem: {problem}")?;
        }
        if let Some(liveness) = self.liveness {
            write!(f, "; record {}", liveness.as_str())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(30);

    fn snapshot(heartbeat: Option<Heartbeat>) -> Snapshot {
        Snapshot {
            agent: AgentName::new("a").unwrap(),
            heartbeat,
            sign: Sign::Absent,
            recorded: None,
            paused: false,
        }
    }

    /// A file of which `seen` was consumed under `of`.
    fn heartbeat(of: &str, seen: &str, content: Content, unchanged_ms: u64) -> Heartbeat {
        Heartbeat {
            goal: GoalId::new("g").unwrap(),
            path: PathBuf::from("/p/a.md"),
            content,
            unchanged: Duration::from_millis(unchanged_ms),
            postponed: Duration::ZERO,
            consumed: Consumed { path: of.into(), seen: seen.into(), ..Consumed::default() },
        }
    }

    fn plan(seen: &str, text: &str, unchanged_ms: u64) -> String {
        let content = Content::Text(text.to_owned());
        let snapshot = snapshot(Some(heartbeat("/p/a.md", seen, content, unchanged_ms)));
        decide(&snapshot, TTL).to_string()
    }

    #[test]
    fn added_lines_should_be_applied_and_an_unfinished_one_waited_for() {
        for (seen, text, unchanged_ms, expected) in [
            ("", "", 0, "a: no line"),
            ("PAUSE\n", "PAUSE\n", 0, "a: no line"),
            ("", "PAUSE\n", 0, "a: apply 1 line"),
            ("PAUSE\n", "PAUSE\nRESUME\nnonsense\n", 0, "a: apply 2 lines"),
            // Only what was consumed changes.
            ("", "# Heartbeat\n", 0, "a: no line"),
            ("", "PAU", 0, "a: no line, one has no end yet, look again in 2s"),
            ("", "PAUSE\nRES", 500, "a: apply 1 line, one has no end yet, look again in 1.5s"),
            ("PAUSE\n", "PAUSE\nRES", 2_000, "a: apply 1 line"),
            ("PAUSE\n", "PAUSE", 0, "a: no line"),
        ] {
            assert_eq!(plan(seen, text, unchanged_ms), expected, "{seen:?} {text:?}");
        }
    }

    #[test]
    fn lines_should_count_as_gone_only_when_the_file_has_settled() {
        assert_eq!(plan("PAUSE\n", "", 0), "a: lines are gone, look again in 100ms");
        assert_eq!(plan("PAUSE\n", "RESUME\n", 40), "a: lines are gone, look again in 60ms");
        assert_eq!(plan("PAUSE\n", "RESUME\n", 100), "a: apply 1 line");
        assert_eq!(plan("PAUSE\n", "", 100), "a: no line");
        let mut changing = heartbeat("/p/a.md", "PAUSE\n", Content::Text("RESUME\n".to_owned()), 0);
        changing.postponed = LONGEST_POSTPONEMENT;
        assert_eq!(decide(&snapshot(Some(changing)), TTL).to_string(), "a: apply 1 line");
    }

    #[test]
    fn file_under_another_path_should_be_new() {
        let text = Content::Text("PAUSE\n".to_owned());
        let moved = snapshot(Some(heartbeat("/p/old.md", "PAUSE\n", text, 0)));
        assert_eq!(decide(&moved, TTL).to_string(), "a: apply 1 line");
    }

    #[test]
    fn file_that_cannot_be_used_should_be_a_problem_and_no_more() {
        let of = |content| {
            let snapshot = snapshot(Some(heartbeat("/p/a.md", "PAUSE\n", content, 0)));
            let plan = decide(&snapshot, TTL);
            (plan.to_string(), plan.answer)
        };
        assert_eq!(of(Content::Missing), ("a: no line".to_owned(), true));
        let (text, answer) = of(Content::Unreadable("a FIFO".to_owned()));
        assert_eq!((text.as_str(), answer), ("a: no line; problem: a FIFO", true));
        let (text, answer) = of(Content::Conflict("of b".to_owned()));
        assert_eq!((text.as_str(), answer), ("a: no line; problem: of b", false));
        let undeclared = snapshot(None);
        let plan = decide(&undeclared, TTL);
        assert_eq!((plan.to_string().as_str(), plan.answer), ("a: no line", false));
    }

    #[test]
    fn liveness_should_change_only_by_what_was_seen() {
        use Liveness::{Beating, Gone, Silent};
        let still = |secs| Sign::Still(Duration::from_secs(secs));
        for (sign, recorded, expected) in [
            (Sign::Absent, None, None),
            (Sign::Absent, Some(Beating), Some(Gone)),
            (Sign::Absent, Some(Silent), Some(Gone)),
            (Sign::Absent, Some(Gone), None),
            (Sign::FirstSeen, None, Some(Beating)),
            (Sign::FirstSeen, Some(Gone), Some(Beating)),
            (Sign::FirstSeen, Some(Beating), None),
            (Sign::FirstSeen, Some(Silent), None),
            (Sign::Beats, Some(Silent), Some(Beating)),
            (Sign::Beats, Some(Beating), None),
            (still(0), Some(Silent), None),
            (still(29), Some(Beating), None),
            (still(29), Some(Silent), None),
            (still(30), Some(Beating), Some(Silent)),
            (still(90), Some(Silent), None),
        ] {
            let snapshot = Snapshot { sign, recorded, ..snapshot(None) };
            assert_eq!(decide(&snapshot, TTL).liveness, expected, "{sign:?} {recorded:?}");
        }
    }
}
