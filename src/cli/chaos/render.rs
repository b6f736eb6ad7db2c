//! What a run shows: one line per fault as it goes, and figures at the end.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::audited::Audited;
use super::legs::{Figures, Leg, Timeline, figures};
use super::plan::{Blow, Plan};
use super::schedule::{Kind, Planned};
use super::targets::{Found, Target};
use crate::cli::output;
use crate::cli::text::{Column, Paint, Table, Tone, count, safe, span};
use crate::cli::units;

/// Where live lines go: beside a JSON answer, to standard error.
#[derive(Debug, Clone, Copy)]
pub(super) struct Live {
    pub(super) beside: bool,
    pub(super) paint: Paint,
}

impl Live {
    pub(super) fn say(self, text: &str) -> anyhow::Result<()> {
        if self.beside {
            output::tell(text);
            return Ok(());
        }
        Ok(output::print(text)?)
    }

    /// A leg, where one was just seen.
    pub(super) fn leg(self, leg: Option<Leg>, timeline: &Timeline) -> anyhow::Result<()> {
        let Some((leg, millis)) = leg.and_then(|leg| timeline.legs().get_key_value(&leg)) else {
            return Ok(());
        };
        let text = format!("+{millis} ms {leg}");
        let tone = if *leg == Leg::Converged { Tone::Good } else { Tone::Plain };
        self.say(&format!(" | {}", self.tone(tone, &text)))
    }

    /// What is missing at the limit.
    pub(super) fn failed(self, missing: &[String]) -> anyhow::Result<()> {
        let text = format!("NOT converged: {}", safe(&missing.join("; ")));
        self.say(&format!(" | {}", self.tone(Tone::Bad, &text)))
    }

    fn tone(self, tone: Tone, text: &str) -> String {
        // Standard error is told plain text.
        if self.beside { text.to_owned() } else { self.paint.tone(tone, text) }
    }
}

/// One fault that was sent, and what came of it.
#[derive(Debug, Clone)]
pub(super) struct Struck {
    pub(super) number: usize,
    pub(super) at: Timestamp,
    pub(super) target: Target,
    pub(super) timeline: Timeline,
    /// What was missing at the end; empty where it converged.
    pub(super) missing: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Fault<'a> {
    number: usize,
    at: Timestamp,
    kind: Kind,
    name: &'a str,
    pid: u32,
    signal: Blow,
    task: Option<&'a str>,
    legs: &'a BTreeMap<Leg, u64>,
    converged: bool,
    missing: &'a [String],
}

/// `17:02:03  #3 kill research_agent (pid 4711) running task-004`.
pub(super) fn begin(number: usize, at: Timestamp, blow: Blow, target: &Target) -> String {
    let time = at.strftime("%H:%M:%S");
    format!("{time}  #{number} {blow} {}", whom(target))
}

fn whom(target: &Target) -> String {
    let task = target.victim.task().map_or_else(String::new, |task| format!(" running {task}"));
    safe(&format!("{} (pid {}){task}", target.name, target.process.pid))
}

/// What a run may hit, and how.
pub(super) fn targets(plan: &Plan, found: &Found) -> String {
    let faults = count(u64::from(plan.count()), "fault", "faults");
    let every = units::wait(plan.every);
    let every = if plan.every.subsec_millis() == 0 { every } else { format!("{:?}", plan.every) };
    let mut text =
        format!("Seed {}: {faults}, one every {every}: {}. ", plan.seed, plan.blow.says());
    text.push_str("Each hits one of:\n");
    for target in &found.targets {
        text.push_str(&format!("  {:<12} {}\n", target.kind, whom(target)));
    }
    for (kind, why) in &found.missing {
        text.push_str(&format!("  {kind:<12} none: {}\n", safe(why)));
    }
    text
}

/// What is to come, with whom each would hit now.
pub(super) fn schedule(steps: &[(Planned, Option<&Target>)]) -> String {
    let mut text = String::new();
    for (number, (planned, target)) in (1..).zip(steps) {
        let whom = target.map_or_else(|| planned.kind.to_string(), whom);
        text.push_str(&format!("  #{number} after {}: {whom}\n", span(planned.after)));
    }
    text
}

/// The same for programs.
pub(super) fn dry_json(
    plan: &Plan,
    found: &Found,
    steps: &[(Planned, Option<&Target>)],
    missing: &[String],
) -> Value {
    let schedule: Vec<Value> = steps
        .iter()
        .map(|(planned, target)| {
            json!({
                "after_ms": planned.after.as_millis(),
                "kind": planned.kind,
                "name": target.map(|target| &target.name),
            })
        })
        .collect();
    let targets: Vec<_> = found.targets.iter().map(Target::shown).collect();
    let without: BTreeMap<Kind, &str> =
        found.missing.iter().map(|(kind, why)| (*kind, why.as_str())).collect();
    json!({
        "dry_run": true, "seed": plan.seed, "signal": plan.blow, "targets": targets,
        "without": without, "schedule": schedule, "missing": missing,
    })
}

/// Why a run ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Somebody wanted it to end, by this.
    Asked(&'static str),
    /// No process of this kind was there to be hit.
    Nobody(Kind),
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked(by) => write!(f, "ended by {by}"),
            Self::Nobody(kind) => write!(f, "ended because no {kind} was left to hit"),
        }
    }
}

/// What came of a run.
pub(super) struct Summary<'a> {
    pub(super) plan: &'a Plan,
    pub(super) struck: &'a [Struck],
    /// Why it ended before its time.
    pub(super) cut: Option<Cut>,
    /// What the audit said; else why there is none.
    pub(super) audited: Result<Audited, String>,
}

impl Summary<'_> {
    fn has_converged(&self) -> bool {
        let gone = matches!(self.cut, Some(Cut::Nobody(_)));
        let all = self.struck.iter().all(|struck| struck.missing.is_empty());
        all && !gone && !self.struck.is_empty()
    }

    /// Whether everything came back, and no promise was broken.
    pub(super) fn is_good(&self) -> bool {
        self.has_converged() && self.audited.as_ref().is_ok_and(Audited::is_clean)
    }

    fn legs(&self) -> BTreeMap<Leg, Figures> {
        let times = |leg: Leg| -> Vec<u64> {
            self.struck.iter().filter_map(|s| s.timeline.legs().get(&leg).copied()).collect()
        };
        Leg::ALL.into_iter().filter_map(|leg| Some((leg, figures(&times(leg))?))).collect()
    }

    /// For people.
    pub(super) fn text(&self, width: usize, paint: Paint) -> String {
        let mut out = String::from("\n");
        let mut table = Table::new(vec![
            Column::left("LEG", 20),
            Column::right("COUNT", 7),
            Column::right("P50", 10),
            Column::right("P90", 10),
            Column::right("P99", 10),
            Column::right("MAX", 10),
        ]);
        for (leg, of) in self.legs() {
            let mut cells = vec![leg.to_string(), of.count.to_string()];
            cells.extend([of.p50, of.p90, of.p99, of.max].map(|millis| format!("{millis} ms")));
            table.row(cells.into_iter().map(|cell| (cell, Tone::Plain)));
        }
        if !table.is_empty() {
            out.push_str(&table.render(0, width, paint));
            out.push('\n');
        }
        if let Some(cut) = self.cut {
            out.push_str(&format!("{cut}\n"));
        }
        match &self.audited {
            Ok(audited) => out.push_str(&audited.text(width, paint)),
            Err(why) => out.push_str(&format!("{}: {}\n", paint.red("no audit"), safe(why))),
        }
        out.push_str(&self.verdict(paint));
        if self.plan.blow.ends() && self.struck.iter().any(|s| s.target.kind == Kind::Sysg) {
            out.push_str(
                "sysg was ended, and nothing but you starts it again: `sysg start --daemonize`\n",
            );
        }
        out
    }

    fn verdict(&self, paint: Paint) -> String {
        let faults = count(self.struck.len() as u64, "fault", "faults");
        let seed = self.plan.seed;
        let bad: Vec<&Struck> =
            self.struck.iter().filter(|struck| !struck.missing.is_empty()).collect();
        if self.has_converged() {
            return format!("{} after {faults} (seed {seed})\n", paint.green("converged"));
        }
        let mut text = format!("{} (seed {seed})", paint.red("NOT converged"));
        if self.struck.is_empty() {
            text.push_str(": there was no fault");
        } else {
            text.push_str(&format!(": {} of {faults}", bad.len()));
        }
        text.push('\n');
        for struck in bad {
            text.push_str(&format!(
                "  #{} {}: {}\n",
                struck.number,
                whom(&struck.target),
                safe(&struck.missing.join("; "))
            ));
        }
        text
    }

    /// For programs; documented in docs/cli.md and stable.
    pub(super) fn json(&self) -> Value {
        let faults: Vec<Fault<'_>> = self
            .struck
            .iter()
            .map(|struck| Fault {
                number: struck.number,
                at: struck.at,
                kind: struck.target.kind,
                name: &struck.target.name,
                pid: struck.target.process.pid,
                signal: self.plan.blow,
                task: struck.target.victim.task(),
                legs: struck.timeline.legs(),
                converged: struck.missing.is_empty(),
                missing: &struck.missing,
            })
            .collect();
        json!({
            "seed": self.plan.seed, "signal": self.plan.blow, "faults": faults,
            "legs": self.legs(), "cut": self.cut.map(|cut| cut.to_string()),
            "converged": self.has_converged(),
            "audit": self.audited.as_ref().ok().map(Audited::json),
            "audit_error": self.audited.as_ref().err(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use audit::{EventId, Report, Rule, Violation};
    use process::Identity;

    use super::*;
    use crate::cli::chaos::legs::Victim;

    const PLAIN: Paint = Paint { on: false };

    fn plan(kind: Kind) -> Plan {
        let fault = Planned { after: Duration::ZERO, kind, pick: 0 };
        let every = Duration::from_secs(5);
        Plan { seed: 42, blow: Blow::Kill, every, during: None, faults: vec![fault; 2] }
    }

    fn struck(number: usize, kind: Kind, legs: &[(Leg, u64)], missing: &[&str]) -> Struck {
        let held = Some(("task-004".to_owned(), 5));
        let victim = match kind {
            Kind::Agent => Victim::Agent { name: "r_agent".to_owned(), incarnation: 1, held },
            Kind::Orchestrator => Victim::Orchestrator { holder: String::new() },
            Kind::Redis => Victim::Redis,
            Kind::Sysg => Victim::Sysg,
        };
        let mut timeline = Timeline::new(victim.clone(), 1_000, true);
        for (leg, millis) in legs {
            timeline.see(*leg, 1_000 + millis);
        }
        let name = if kind == Kind::Agent { "r_agent" } else { kind.as_str() }.to_owned();
        Struck {
            number,
            at: Timestamp::from_second(1_773_828_930).unwrap(),
            target: Target { kind, name, process: Identity { pid: 4711, start_time: 9 }, victim },
            timeline,
            missing: missing.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    fn audited(violations: Vec<Violation>) -> Result<Audited, String> {
        let report = Report { events: 9, tasks: 2, violations, ..Report::default() };
        Ok(Audited::of(report, EventId::default()))
    }

    fn violation() -> Violation {
        let text = "it was accepted".to_owned();
        Violation { rule: Rule::S3, text, goal: None, task: None, agent: None, events: Vec::new() }
    }

    #[test]
    fn fault_should_be_one_line_that_names_its_victim() {
        let struck = struck(3, Kind::Agent, &[], &[]);
        assert_eq!(
            begin(3, struck.at, Blow::Kill, &struck.target),
            "10:15:30  #3 kill r_agent (pid 4711) running task-004"
        );
        let found = Found {
            targets: vec![struck.target],
            missing: vec![(Kind::Redis, "it is elsewhere".to_owned())],
        };
        insta::assert_snapshot!(targets(&plan(Kind::Agent), &found), @r"
        Seed 42: 2 faults, one every 5 s: SIGKILL. Each hits one of:
          agent        r_agent (pid 4711) running task-004
          redis        none: it is elsewhere
        ");
    }

    #[test]
    fn summary_should_end_with_a_verdict() {
        let plan = plan(Kind::Agent);
        let well = [
            struck(1, Kind::Agent, &[(Leg::Detected, 2), (Leg::Converged, 40)], &[]),
            struck(2, Kind::Agent, &[(Leg::Detected, 4), (Leg::Converged, 1_500)], &[]),
        ];
        let of = |struck, cut, audited| Summary { plan: &plan, struck, cut, audited };
        let summary = of(&well, None, audited(Vec::new()));
        assert!(summary.is_good());
        insta::assert_snapshot!(summary.text(80, PLAIN), @r"

        LEG        COUNT    P50      P90      P99      MAX
        detected       2   2 ms     4 ms     4 ms     4 ms
        converged      2  40 ms  1500 ms  1500 ms  1500 ms

        audit clean over 9 events and 2 tasks
        converged after 2 faults (seed 42)
        ");
        assert_eq!(summary.json()["legs"]["converged"]["p99"], 1_500);

        let ill = [struck(1, Kind::Sysg, &[], &["r_agent is not registered: crash-loop"])];
        let summary = of(&ill, Some(Cut::Asked("Ctrl-C")), audited(Vec::new()));
        assert!(!summary.is_good());
        insta::assert_snapshot!(summary.text(80, PLAIN), @r"

        ended by Ctrl-C
        audit clean over 9 events and 2 tasks
        NOT converged (seed 42): 1 of 1 fault
          #1 sysg (pid 4711): r_agent is not registered: crash-loop
        sysg was ended, and nothing but you starts it again: `sysg start --daemonize`
        ");
        assert_eq!(summary.json()["faults"][0]["missing"][0], ill[0].missing[0]);
    }

    #[test]
    fn run_should_be_good_only_with_faults_with_all_mended_and_a_clean_audit() {
        let plan = plan(Kind::Agent);
        let well = [struck(1, Kind::Agent, &[], &[])];
        let good = |struck, cut, audited| Summary { plan: &plan, struck, cut, audited }.is_good();
        assert!(good(&well, None, audited(Vec::new())));
        assert!(good(&well, Some(Cut::Asked("Ctrl-C")), audited(Vec::new())));
        assert!(!good(&well, Some(Cut::Nobody(Kind::Agent)), audited(Vec::new())));
        assert!(!good(&well, None, audited(vec![violation()])));
        assert!(!good(&well, None, Err("Redis is away".to_owned())));
        assert!(!good(&[], None, audited(Vec::new())));
    }
}
