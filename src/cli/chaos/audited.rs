//! What the audit says of the time of a run.

use audit::{EventId, Report, Violation};
use serde_json::{Value, json};
use store::Store;
use store::event::Position;

use crate::cli::text::{Paint, count, paragraph, safe};

/// The most violations that are shown; `orch audit` shows all.
const SHOWN: usize = 10;

/// The history, held against the promises after a run.
///
/// All of it that is kept is looked at, because what an event means follows from those
/// before it. But what had gone wrong before the run began is not laid at its door.
pub(super) struct Audited {
    report: Report,
    during: Vec<Violation>,
    before: usize,
}

/// The first of all places after `position`.
pub(super) fn begin_after(position: &Position) -> EventId {
    let (millis, number) = position.0.split_once('-').unwrap_or((&position.0, "0"));
    let number: u64 = number.parse().unwrap_or(0);
    EventId { millis: millis.parse().unwrap_or(0), number: number.saturating_add(1) }
}

impl Audited {
    /// # Errors
    /// [`store::Error`] where Redis did not answer, or holds what cannot be read.
    pub(super) async fn read(store: &Store, begin: EventId) -> Result<Self, store::Error> {
        Ok(Self::of(audit::audit(store, None).await?, begin))
    }

    pub(super) fn of(mut report: Report, begin: EventId) -> Self {
        // What only the state shows is as it is now, so it counts.
        let is_new =
            |found: &Violation| found.events.iter().max().is_none_or(|last| *last >= begin);
        let found = std::mem::take(&mut report.violations);
        let (during, before): (Vec<_>, Vec<_>) = found.into_iter().partition(is_new);
        Self { report, during, before: before.len() }
    }

    pub(super) fn is_clean(&self) -> bool {
        // Where more were found than are kept, those of the run may be among them.
        self.during.is_empty() && self.report.more_violations == 0
    }

    pub(super) fn text(&self, width: usize, paint: Paint) -> String {
        let report = &self.report;
        let of = format!(
            "{} and {}",
            count(report.events, "event", "events"),
            count(report.tasks, "task", "tasks")
        );
        let mut out = if self.is_clean() {
            format!("audit {} over {of}\n", paint.green("clean"))
        } else {
            let found = self.during.len() as u64 + report.more_violations;
            let found = count(found, "violation", "violations");
            format!("audit: {} over {of}; `orch audit` shows the events\n", paint.red(&found))
        };
        for found in self.during.iter().take(SHOWN) {
            let whose = [&found.task, &found.goal, &found.agent].into_iter().flatten().next();
            let whose = whose.map_or_else(String::new, |name| format!("{}: ", safe(name)));
            let lead = format!("  {} ", found.rule.as_str());
            paragraph(&mut out, &lead, &format!("{whose}{}", safe(&found.text)), width);
        }
        if self.before > 0 {
            let before = count(self.before as u64, "violation is", "violations are");
            out.push_str(&format!("  {before} from before this run: see `orch audit`\n"));
        }
        for limit in report.limits() {
            paragraph(&mut out, "  ? ", &limit, width);
        }
        out
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "clean": self.is_clean(),
            "events": self.report.events,
            "tasks": self.report.tasks,
            "complete": self.report.complete,
            "violations": self.during,
            "more_violations": self.report.more_violations,
            "violations_before": self.before,
        })
    }
}

#[cfg(test)]
mod tests {
    use audit::Rule;

    use super::*;

    fn violation(millis: &[u64]) -> Violation {
        Violation {
            rule: Rule::S3,
            text: "it was accepted".into(),
            goal: None,
            task: Some("t1".into()),
            agent: None,
            events: millis.iter().map(|m| EventId { millis: *m, number: 0 }).collect(),
        }
    }

    fn audited(violations: Vec<Violation>) -> Audited {
        let begin = begin_after(&Position("100-4".into()));
        assert_eq!(begin, EventId { millis: 100, number: 5 });
        Audited::of(Report { events: 9, tasks: 2, violations, ..Report::default() }, begin)
    }

    #[test]
    fn audit_should_count_only_what_went_wrong_since_the_run_began() {
        let plain = Paint { on: false };
        let old = audited(vec![violation(&[99, 100])]);
        assert!(old.is_clean());
        insta::assert_snapshot!(old.text(80, plain), @r"
        audit clean over 9 events and 2 tasks
          1 violation is from before this run: see `orch audit`
        ");
        // Its cause may be older; what the state shows has no events.
        for events in [&[99, 101][..], &[]] {
            let new = audited(vec![violation(events)]);
            assert!(!new.is_clean(), "{events:?}");
            let text = new.text(80, plain);
            assert!(
                text.contains("audit: 1 violation") && text.contains("S3 t1: it was"),
                "{text}"
            );
            assert_eq!(new.json()["violations"][0]["rule"], "S3");
        }
    }
}
