//! What metrics say at one moment, and the two forms in which that is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::registry::Registry;

use super::catalog::{ALL, Kind, Metric};

/// The upper bounds of durations, in seconds.
pub(super) const SECONDS: [f64; 16] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0,
    7_200.0,
];

/// A value under one set of labels.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Number(f64),
    Histogram(Histogram),
}

/// How often something was how large.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Histogram {
    pub(super) sum: f64,
    /// Upper bound and how many were in between; the last bound is infinity.
    pub(super) buckets: Vec<(f64, u64)>,
}

impl Histogram {
    fn new() -> Self {
        let bounds = SECONDS.into_iter().chain([f64::INFINITY]);
        Self { sum: 0.0, buckets: bounds.map(|bound| (bound, 0)).collect() }
    }

    fn observe(&mut self, value: f64) {
        self.sum += value;
        if let Some((_, count)) = self.buckets.iter_mut().find(|(bound, _)| value <= *bound) {
            *count += 1;
        }
    }
}

/// The values of one metric, by those of its labels.
type Series = BTreeMap<Vec<String>, Value>;

/// Values of metrics.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(BTreeMap<&'static str, Series>);

impl Samples {
    fn entry(&mut self, metric: &'static Metric, labels: &[&str], none: Value) -> &mut Value {
        debug_assert_eq!(metric.labels.len(), labels.len(), "{}", metric.stem);
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        self.0.entry(metric.stem).or_default().entry(labels).or_insert(none)
    }

    /// Adds to a counter or gauge, which is 0 before.
    pub(super) fn add(&mut self, metric: &'static Metric, labels: &[&str], amount: f64) {
        debug_assert_ne!(metric.kind, Kind::Histogram, "{}", metric.stem);
        match self.entry(metric, labels, Value::Number(0.0)) {
            Value::Number(number) => *number += amount,
            Value::Histogram(_) => {}
        }
    }

    /// Adds whole things.
    pub(super) fn count(&mut self, metric: &'static Metric, labels: &[&str], amount: u64) {
        self.add(metric, labels, float(amount));
    }

    /// Adds one value to a histogram of durations.
    pub(super) fn observe(&mut self, metric: &'static Metric, labels: &[&str], took: Duration) {
        match self.entry(metric, labels, Value::Histogram(Histogram::new())) {
            Value::Histogram(histogram) => histogram.observe(took.as_secs_f64()),
            Value::Number(_) => {}
        }
    }

    /// A histogram that has no value yet, so that the first one shows as a change.
    pub(super) fn begin(&mut self, metric: &'static Metric, labels: &[&str]) {
        self.entry(metric, labels, Value::Histogram(Histogram::new()));
    }

    /// A histogram that somebody else made.
    pub(super) fn histogram(&mut self, metric: &'static Metric, labels: &[&str], of: Histogram) {
        *self.entry(metric, labels, Value::Histogram(Histogram::new())) = Value::Histogram(of);
    }

    /// A counter or gauge; none where it was never told.
    #[cfg(test)]
    pub(super) fn number(&self, metric: &'static Metric, labels: &[&str]) -> Option<f64> {
        match self
            .0
            .get(metric.stem)?
            .get(&labels.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>())?
        {
            Value::Number(number) => Some(*number),
            Value::Histogram(_) => None,
        }
    }

    /// How many values a histogram has, and their sum.
    #[cfg(test)]
    pub(super) fn observed(&self, metric: &'static Metric, labels: &[&str]) -> Option<(u64, f64)> {
        match self
            .0
            .get(metric.stem)?
            .get(&labels.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>())?
        {
            Value::Histogram(h) => Some((h.buckets.iter().map(|(_, n)| n).sum(), h.sum)),
            Value::Number(_) => None,
        }
    }

    /// Puts `others` in: counters and gauges that both have are added up.
    pub(super) fn merge(&mut self, others: Self) {
        for (stem, series) in others.0 {
            let ours = self.0.entry(stem).or_default();
            for (labels, value) in series {
                match (ours.get_mut(&labels), value) {
                    (Some(Value::Number(ours)), Value::Number(theirs)) => *ours += theirs,
                    (_, value) => _ = ours.insert(labels, value),
                }
            }
        }
    }

    /// All values of a label, whichever metric has it.
    pub(super) fn values_of(&self, label: &str) -> BTreeSet<String> {
        let mut values = BTreeSet::new();
        for (series, at) in self.with_label(label) {
            values.extend(series.keys().filter_map(|labels| labels.get(at).cloned()));
        }
        values
    }

    fn with_label(&self, label: &str) -> impl Iterator<Item = (&Series, usize)> {
        ALL.iter().filter_map(move |metric| {
            let at = metric.labels.iter().position(|name| *name == label)?;
            Some((self.0.get(metric.stem)?, at))
        })
    }

    /// Forgets what is told under this value of a label.
    pub(super) fn forget(&mut self, label: &str, value: &str) {
        for metric in ALL {
            if let Some(at) = metric.labels.iter().position(|name| *name == label)
                && let Some(series) = self.0.get_mut(metric.stem)
            {
                series.retain(|labels, _| labels.get(at).is_none_or(|has| has != value));
            }
        }
    }

    /// As text in the form of OpenMetrics 1.0.
    pub(super) fn open_metrics(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        // It fails only where writing to a string does.
        _ = encode(&mut text, &registry);
        text
    }

    /// As text in the form that Prometheus had before OpenMetrics, for who asks for no other.
    pub(super) fn classic(self) -> String {
        let counters: BTreeSet<String> =
            ALL.iter().filter(|m| m.kind == Kind::Counter).map(|m| m.family()).collect();
        let mut text = String::new();
        for line in self.open_metrics().lines() {
            let mut words = line.splitn(4, ' ');
            let (hash, what, name, rest) =
                (words.next(), words.next(), words.next().unwrap_or(""), words.next());
            match (hash, what) {
                (Some("#"), Some("EOF" | "UNIT")) => {}
                // There a counter's name is that of its value.
                (Some("#"), Some(what)) if counters.contains(name) => {
                    _ = writeln!(text, "# {what} {name}_total {}", rest.unwrap_or(""));
                }
                _ => _ = writeln!(text, "{line}"),
            }
        }
        text
    }
}

impl Collector for Samples {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in ALL {
            let Some(series) = self.0.get(metric.stem) else { continue };
            let (name, unit) = (metric.prefixed(), metric.unit());
            let mut encoder = encoder.encode_descriptor(
                &name,
                metric.help,
                unit.as_ref(),
                metric.metric_type(),
            )?;
            for (values, value) in series {
                let labels: Vec<(&str, &str)> =
                    metric.labels.iter().copied().zip(values.iter().map(String::as_str)).collect();
                if labels.is_empty() {
                    write(metric.kind, value, &mut encoder)?;
                } else {
                    write(metric.kind, value, &mut encoder.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}

fn write(kind: Kind, value: &Value, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
    match (value, kind) {
        (Value::Number(number), Kind::Counter) => {
            encoder.encode_counter::<NoLabelSet, _, f64>(number, None)
        }
        (Value::Number(number), Kind::Gauge | Kind::Histogram) => encoder.encode_gauge(number),
        (Value::Histogram(of), _) => {
            let count = of.buckets.iter().map(|(_, count)| count).sum();
            encoder.encode_histogram::<NoLabelSet>(of.sum, count, &of.buckets, None)
        }
    }
}

/// A whole number as metrics have it: exact up to 2^53.
pub(super) const fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::metrics::catalog as m;

    /// One value of every metric, under labels that are hard to write.
    fn everything() -> Samples {
        let mut samples = Samples::default();
        for metric in ALL {
            let labels = vec!["a \"quoted\" \\ and\nbroken \u{e9}"; metric.labels.len()];
            match metric.kind {
                Kind::Counter | Kind::Gauge => samples.count(metric, &labels, 7),
                Kind::Histogram => samples.observe(metric, &labels, Duration::from_millis(30)),
            }
        }
        samples
    }

    #[test]
    fn every_metric_should_please_promtool() {
        let Some(promtool) = testkit::in_path("promtool", "make prometheus") else { return };
        let mut child = Command::new(promtool)
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let text = everything().classic();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let said = child.wait_with_output().unwrap();
        assert!(said.status.success() && said.stderr.is_empty(), "{said:?}\n{text}");
    }

    #[test]
    fn both_forms_should_tell_the_same_under_the_same_names() {
        let values = |text: &str| {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let (open, classic) = (everything().open_metrics(), everything().classic());
        assert_eq!(values(&open), values(&classic));
        assert!(open.ends_with("# EOF\n") && !classic.contains("# EOF"));
        assert!(open.contains("# TYPE orch_task_transitions counter\n"), "{open}");
        assert!(classic.contains("# TYPE orch_task_transitions_total counter\n"), "{classic}");
        for metric in ALL {
            assert!(classic.contains(&format!("# TYPE {} ", metric.name())), "{}", metric.name());
        }
    }

    #[test]
    fn label_value_should_be_forgotten_with_all_that_was_told_under_it() {
        let mut samples = Samples::default();
        samples.count(&m::TRANSITIONS, &["old", "claim"], 1);
        samples.count(&m::TRANSITIONS, &["new", "claim"], 1);
        samples.count(&m::DEATHS, &["old"], 1);
        samples.forget("goal", "old");
        assert_eq!(samples.number(&m::TRANSITIONS, &["old", "claim"]), None);
        assert_eq!(samples.number(&m::TRANSITIONS, &["new", "claim"]), Some(1.0));
        assert_eq!(samples.number(&m::DEATHS, &["old"]), Some(1.0));
    }

    #[test]
    fn merge_should_add_counts_and_keep_histograms() {
        let (mut ours, mut theirs) = (Samples::default(), Samples::default());
        ours.count(&m::DEATHS, &["a"], 0);
        theirs.count(&m::DEATHS, &["a"], 2);
        theirs.observe(&m::WAIT, &[], Duration::from_secs(3));
        ours.merge(theirs);
        assert_eq!(ours.number(&m::DEATHS, &["a"]), Some(2.0));
        assert_eq!(ours.observed(&m::WAIT, &[]), Some((1, 3.0)));
    }
}
