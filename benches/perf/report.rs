//! What was measured: printed, and kept as JSON, as a chart and as a table in
//! `docs/performance`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::chart;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/performance");
const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
/// Around the tables in the folder's README and in ours.
const BEGIN: &str = "<!-- figures: written by make bench -->\n";
const END: &str = "<!-- end of figures -->";

/// The unit of rates.
pub(crate) const RATE: &str = "tasks/s";

/// What a figure is wanted to be.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

impl Wanted {
    pub(crate) fn value(self) -> f64 {
        let (Self::AtLeast(value) | Self::AtMost(value)) = self;
        value
    }

    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }

    fn text(self) -> String {
        let sign = if matches!(self, Self::AtLeast(_)) { "≥" } else { "≤" };
        format!("{sign} {}", number(self.value()))
    }
}

/// One number, with the least and the greatest of the rounds that gave it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) value: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
    pub(crate) rounds: usize,
    pub(crate) wanted: Option<Wanted>,
}

/// The figures of one case.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) case: String,
    command: String,
    date: String,
    machine: String,
    pub(crate) figures: Vec<Figure>,
}

impl Report {
    pub(crate) fn new(case: &str) -> Self {
        Self {
            case: case.to_owned(),
            command: match case {
                crate::PEERS => "make bench-peers".to_owned(),
                case => format!("make bench CASES={case}"),
            },
            date: output("date", &["-u", "+%Y-%m-%d"]),
            machine: machine(),
            figures: Vec::new(),
        }
    }

    /// The median of some rounds, in `unit`.
    pub(crate) fn add(&mut self, name: impl Into<String>, unit: &str, rounds: &[f64]) {
        self.push(name.into(), unit, rounds, 0.5, None);
    }

    /// The median of some rounds, and what it is wanted to be.
    pub(crate) fn want(
        &mut self,
        name: impl Into<String>,
        unit: &str,
        rounds: &[f64],
        wanted: Wanted,
    ) {
        self.push(name.into(), unit, rounds, 0.5, Some(wanted));
    }

    /// The median and the 99th percentile of some samples, with what each is wanted to be.
    pub(crate) fn percentiles(
        &mut self,
        name: &str,
        unit: &str,
        samples: &[f64],
        wanted: [Option<f64>; 2],
    ) {
        for ((part, share), most) in [("p50", 0.5), ("p99", 0.99)].into_iter().zip(wanted) {
            self.push(format!("{name}, {part}"), unit, samples, share, most.map(Wanted::AtMost));
        }
    }

    fn push(
        &mut self,
        name: String,
        unit: &str,
        rounds: &[f64],
        share: f64,
        wanted: Option<Wanted>,
    ) {
        self.figures.push(Figure {
            name,
            unit: unit.to_owned(),
            value: quantile(rounds, share),
            least: quantile(rounds, 0.0),
            greatest: quantile(rounds, 1.0),
            rounds: rounds.len(),
            wanted,
        });
    }

    /// Prints it, and writes what `docs/performance` holds of it.
    pub(crate) fn finish(&self) {
        println!("{}: {}", self.case, self.machine);
        for figure in &self.figures {
            let verdict = figure.verdict().map_or_else(String::new, |text| format!("  {text}"));
            println!(
                "  {:<56} {:>9} {:<14} ({} to {}){verdict}",
                figure.name,
                number(figure.value),
                figure.unit,
                number(figure.least),
                number(figure.greatest)
            );
        }
        let json = serde_json::to_string_pretty(self).expect("a report is JSON") + "\n";
        fs::write(file(&self.case, "json"), json).expect("docs/performance can be written");
        write_between(&Path::new(FOLDER).join("README.md"), &table());
        if self.case == crate::PEERS {
            write_between(Path::new(README), &self.beside_each_other());
        }
    }
}

impl Report {
    /// The best rate of each program with each shape of plan, of figures whose names are
    /// `<shape>: <program>, ..`.
    fn beside_each_other(&self) -> String {
        let mut best: BTreeMap<(&str, &str), f64> = BTreeMap::new();
        let (mut shapes, mut programs) = (Vec::new(), Vec::new());
        for figure in self.figures.iter().filter(|figure| figure.unit == RATE) {
            let Some((shape, rest)) = figure.name.split_once(": ") else { continue };
            let program = rest.split(',').next().unwrap_or(rest);
            let rate = best.entry((program, shape)).or_default();
            *rate = rate.max(figure.value);
            for (name, names) in [(shape, &mut shapes), (program, &mut programs)] {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        let mut text = format!("\n| {RATE} | {} |\n|", shapes.join(" | "));
        text.push_str(&" --- |".repeat(shapes.len() + 1));
        for program in programs {
            let _ = write!(text, "\n| {program} |");
            for shape in &shapes {
                let rate = best.get(&(program, shape)).copied();
                let _ = write!(text, " {} |", rate.map_or_else(String::new, number));
            }
        }
        text.push_str("\n\n");
        text
    }
}

impl Figure {
    fn verdict(&self) -> Option<String> {
        let wanted = self.wanted?;
        let word = if wanted.is_met(self.value) { "reached" } else { "**missed**" };
        Some(format!("{}: {word}", wanted.text()))
    }
}

fn write_between(file: &Path, table: &str) {
    let text = fs::read_to_string(file).expect("a page that has figures");
    let (head, rest) = text.split_once(BEGIN).expect("where the figures begin");
    let (_, tail) = rest.split_once(END).expect("where the figures end");
    fs::write(file, format!("{head}{BEGIN}{table}{END}{tail}")).expect("it can be written");
}

fn file(case: &str, ending: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{case}.{ending}"))
}

/// All reports that are there, and their charts beside them.
fn table() -> String {
    let mut text = String::new();
    for case in crate::CASES {
        let Ok(json) = fs::read(file(case, "json")) else { continue };
        let report: Report = serde_json::from_slice(&json).expect("a report that we wrote");
        fs::write(file(case, "svg"), chart::svg(&report)).expect("docs/performance can be written");
        let Report { command, date, machine, figures, .. } = report;
        let _ = write!(
            text,
            "\n### {case}\n\n`{command}`, {date}, {machine}.\n\n\
             ![{case}]({case}.svg)\n\n\
             | | median | rounds | wanted |\n| --- | ---: | --- | --- |\n"
        );
        for figure in &figures {
            let _ = writeln!(
                text,
                "| {} | {} {} | {}: {} to {} | {} |",
                figure.name,
                number(figure.value),
                figure.unit,
                figure.rounds,
                number(figure.least),
                number(figure.greatest),
                figure.verdict().unwrap_or_default()
            );
        }
    }
    text.push('\n');
    text
}

/// The value below which this share of the values lies; of one half, the middle one.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "an index within the values"
    )]
    let index = ((values.len() - 1) as f64 * share).ceil() as usize;
    values[index]
}

/// Three digits that matter, and all before the point.
pub(crate) fn number(value: f64) -> String {
    let digits = match value.abs() {
        small if small < 1.0 => 3,
        small if small < 10.0 => 2,
        small if small < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let names: Vec<&str> = cpus
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map(|(_, name)| name)
        .collect();
    let redis = output("redis-server", &["--version"]);
    let version = redis.split(" v=").nth(1).and_then(|rest| rest.split(' ').next());
    format!(
        "{} cores of {}, Redis {}",
        names.len(),
        names.first().unwrap_or(&"an unknown kind"),
        version.unwrap_or("unknown")
    )
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let stdout = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&stdout).trim().to_owned()
}
