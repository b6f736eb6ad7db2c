//! The waterfall: one line per span, its time as a bar. Pure.

use std::collections::HashMap;
use std::time::Duration;

use jiff::tz::TimeZone;
use traces::{Span, SpanId, Status};
use unicode_width::UnicodeWidthStr;

use super::super::text::{Paint, Tone, count, fit, one_line, safe, span as long};
use super::super::units::{time, tokens, usd};

/// Columns of a name with its indent, at most.
const NAME: usize = 34;
/// Columns of a duration.
const TOOK: usize = 8;
/// Columns of a time of day, and of a blank after each column.
const CLOCK: usize = 12;
/// The narrowest and the widest bar.
const BAR: (usize, usize) = (10, 40);
/// The most characters of a reason.
const REASON: usize = 120;

/// Spans to show, each trace with its parts before the whole.
pub(super) struct Shown<'a> {
    pub(super) spans: &'a [Span],
    /// Of a goal's attempts only the whole is shown.
    pub(super) is_goal: bool,
    /// The most attempts and recoveries.
    pub(super) most: usize,
    pub(super) is_complete: bool,
    /// Where spans end that are not over.
    pub(super) now_us: u64,
    /// Whose times of day are shown.
    pub(super) zone: TimeZone,
}

impl Shown<'_> {
    pub(super) fn text(&self, width: usize, paint: Paint) -> String {
        let mut parts: HashMap<SpanId, Vec<&Span>> = HashMap::new();
        let mut roots: Vec<&Span> = Vec::new();
        for span in self.spans {
            match span.parent {
                Some(parent) => parts.entry(parent).or_default().push(span),
                None => roots.push(span),
            }
        }
        for list in parts.values_mut() {
            list.sort_by_key(|span| span.start_us);
        }
        // A goal's own trace stands before what was done for it.
        roots.sort_by_key(|span| (span.start_us, span.name != "goal", span.place));
        let hidden = roots.len().saturating_sub(self.most);
        let lines = self.lines(&roots[hidden..], &parts);
        let mut out = self.table(&lines, width, paint);
        if hidden > 0 {
            let what = count(hidden as u64, "earlier one is", "earlier ones are");
            out.push_str(&format!("{what} not shown: --count 0 shows all\n"));
        }
        if !self.is_complete {
            out.push_str("older events are gone from the stream: what came before is not shown\n");
        }
        out.push_str(&self.sum(&roots, paint));
        out
    }

    /// Depth first, each span with its depth.
    fn lines<'s>(
        &self,
        roots: &[&'s Span],
        parts: &HashMap<SpanId, Vec<&'s Span>>,
    ) -> Vec<(usize, &'s Span)> {
        let mut lines = Vec::new();
        let mut stack: Vec<(usize, &Span)> = roots.iter().rev().map(|span| (0, *span)).collect();
        while let Some((depth, span)) = stack.pop() {
            lines.push((depth, span));
            if self.is_goal && span.name != "goal" && span.name != "plan" {
                continue;
            }
            let below = parts.get(&span.place.span).into_iter().flatten().rev();
            stack.extend(below.map(|part| (depth + 1, *part)));
        }
        lines
    }

    fn table(&self, lines: &[(usize, &Span)], width: usize, paint: Paint) -> String {
        let begin = lines.iter().map(|(_, span)| span.start_us).min().unwrap_or(0);
        let end = lines.iter().map(|(_, span)| self.end(span)).max().unwrap_or(begin);
        let names: Vec<String> =
            lines.iter().map(|(depth, span)| "  ".repeat(*depth) + &self.name(span)).collect();
        let name = names.iter().map(|name| name.width()).max().unwrap_or(0).min(NAME);
        let used = CLOCK + 2 + name + 2 + TOOK + 2;
        let bar = width.saturating_sub(used + 2).clamp(BAR.0, BAR.1);
        let rest = width.saturating_sub(used + bar + 2);
        let mut out = String::new();
        for ((_, span), named) in lines.iter().zip(&names) {
            let (tone, note) = (self.tone(span), self.note(span));
            let clock = time(span.start_us).map_or_else(String::new, |at| {
                at.to_zoned(self.zone.clone()).strftime("%H:%M:%S%.3f").to_string()
            });
            let filled = paint.tone(tone, &self.bar(span, begin, end, bar));
            let named = fit(named, name);
            let blank = " ".repeat(name.saturating_sub(named.width()));
            let took = took(self.end(span).saturating_sub(span.start_us));
            let line = format!("{}  {named}{blank}  {filled}  {took:>TOOK$}", paint.dim(&clock));
            out.push_str(&line);
            if !note.is_empty() && rest > 12 {
                out.push_str(&format!("  {}", paint.tone(tone, &fit(&note, rest))));
            } else if !note.is_empty() {
                let indent = CLOCK + 4;
                let note = fit(&note, width.saturating_sub(indent));
                out.push_str(&format!("\n{}{}", " ".repeat(indent), paint.tone(tone, &note)));
            }
            out.push('\n');
        }
        out
    }

    fn end(&self, span: &Span) -> u64 {
        span.end_us.unwrap_or(self.now_us).max(span.start_us)
    }

    fn name(&self, span: &Span) -> String {
        let agent = span.text("orch.agent");
        safe(&match span.name.as_str() {
            "attempt" => {
                let number = span.number("orch.attempt").unwrap_or(0);
                let task = if self.is_goal { span.text("orch.task") } else { "attempt" };
                format!("{task} #{number} {agent}")
            }
            "recovery" => format!("recovery of {agent}"),
            "goal" => {
                let plan = span.number("orch.generation").unwrap_or(0);
                format!("{} plan {plan}", span.text("orch.goal"))
            }
            name => name.to_owned(),
        })
    }

    fn bar(&self, span: &Span, begin: u64, end: u64, columns: usize) -> String {
        let whole = end.saturating_sub(begin).max(1);
        let place = |at: u64| {
            let part = u128::from(at.saturating_sub(begin)) * columns as u128 / u128::from(whole);
            usize::try_from(part).unwrap_or(columns).min(columns)
        };
        let from = place(span.start_us).min(columns.saturating_sub(1));
        let to = place(self.end(span)).max(from + 1);
        let open = span.end_us.is_none();
        let last = if open { ">" } else { "#" };
        let filled = "#".repeat(to - from - 1) + last;
        format!("{}{filled}{}", ".".repeat(from), ".".repeat(columns - to))
    }

    fn tone(&self, span: &Span) -> Tone {
        match &span.status {
            Status::Error(_) => Tone::Bad,
            Status::Ok => Tone::Good,
            Status::Unset if span.name == "wait" => Tone::Faint,
            Status::Unset if span.end_us.is_none() => Tone::Busy,
            Status::Unset => Tone::Plain,
        }
    }

    fn note(&self, span: &Span) -> String {
        let why = match (&span.status, span.text("orch.outcome")) {
            // Its whole says it.
            _ if span.name == "execute" || span.name == "run" => String::new(),
            (Status::Error(text), outcome) => {
                let text = one_line(text, REASON);
                if outcome.is_empty() || outcome == text {
                    text
                } else {
                    format!("{}: {text}", word(outcome))
                }
            }
            (Status::Ok | Status::Unset, "" | "ok") => String::new(),
            (Status::Ok | Status::Unset, outcome) => word(outcome).to_owned(),
        };
        let input = span.number("gen_ai.usage.input_tokens").unwrap_or(0);
        let output = span.number("gen_ai.usage.output_tokens").unwrap_or(0);
        let used = (input + output > 0).then(|| {
            let tokens = tokens(u64::try_from(input + output).unwrap_or(0));
            format!("{} {tokens} tokens", span.text("orch.llm.step"))
        });
        let cost = span.number("orch.llm.usd_micros").and_then(|n| u64::try_from(n).ok()).map(usd);
        let last = span.notes.last().filter(|_| span.name == "plan").map(|note| &note.text);
        let last = last.map(|text| one_line(text, REASON));
        let all = [Some(why).filter(|why| !why.is_empty()), used, cost, last];
        safe(&all.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }

    /// What it was altogether.
    fn sum(&self, roots: &[&Span], paint: Paint) -> String {
        let named = |name: &str| roots.iter().filter(|span| span.name == name).count() as u64;
        let mut words = vec![count(named("attempt"), "attempt", "attempts")];
        let recoveries = named("recovery");
        if recoveries > 0 {
            words.push(count(recoveries, "recovery", "recoveries"));
        }
        let costs: Vec<u64> = self
            .spans
            .iter()
            .filter_map(|span| span.number("orch.llm.usd_micros"))
            .filter_map(|micros| u64::try_from(micros).ok())
            .collect();
        if !costs.is_empty() {
            words.push(usd(costs.iter().sum()));
        }
        let begin = roots.iter().map(|span| span.start_us).min().unwrap_or(0);
        let end = roots.iter().map(|span| self.end(span)).max().unwrap_or(begin);
        words.push(format!("{} in all", took(end.saturating_sub(begin))));
        format!("{}\n", paint.bold(&words.join(", ")))
    }
}

/// The cause of a transition as people say it.
fn word(outcome: &str) -> &str {
    match outcome {
        "complete" => "done",
        "retry" => "failed, to be tried again",
        "fail" => "failed for good",
        "lose" => "lost",
        "release" => "handed back",
        "drop" => "dropped",
        "detour" => "sent back",
        other => other,
    }
}

/// A duration to the millisecond where it is short.
fn took(micros: u64) -> String {
    match micros {
        0..1_000 => "<1 ms".to_owned(),
        1_000..1_000_000 => format!("{} ms", micros / 1_000),
        _ => long(Duration::from_micros(micros)),
    }
}

#[cfg(test)]
mod tests {
    use store::event::Event;
    use traces::Builder;

    use super::*;

    const PLAIN: Paint = Paint { on: false };

    /// A task that failed once, lost its agent, and was done by another.
    fn spans() -> Vec<Span> {
        let at = 1_773_828_930_000_u64;
        let event = |millis: u64, line: &str| {
            let mut words = line.split_whitespace();
            let kind = words.next().unwrap().to_owned();
            let pairs = words.map(|word| word.split_once('=').unwrap());
            let fields = pairs.map(|(name, value)| (name.to_owned(), value.replace('_', " ")));
            Event { id: format!("{}-0", at + millis), kind, fields: fields.collect() }
        };
        let claim = |epoch: u64, agent: &str, attempt: u64| {
            format!(
                "task-claim goal=g task=a from=ready to=running generation=1 epoch={epoch} agent={agent} incarnation={epoch} attempt={attempt}"
            )
        };
        let events = [
            event(0, "goal-accept goal=g generation=1 tasks=1"),
            event(200, &claim(1, "w1", 1)),
            event(
                1_400,
                "llm-call call=c goal=g task=a epoch=1 step=execute provider=claude model=m outcome=ok ms=1000 \
                 usd_micros=42300 input_tokens=1200 output_tokens=300",
            ),
            event(
                1_600,
                "task-retry goal=g task=a from=running to=ready epoch=1 reason=report.md_is_missing\x1b[2J",
            ),
            event(2_600, &claim(2, "w1", 2)),
            event(
                3_000,
                "task-lose goal=g task=a from=running to=ready agent=w1 incarnation=2 epoch=2 reason=its_process_ended",
            ),
            event(3_000, "agent-death agent=w1 incarnation=2 task=a reason=its_process_ended"),
            event(3_030, &claim(3, "w2", 3)),
            event(3_041, "agent-register agent=w1 incarnation=4"),
        ];
        let mut builder = Builder::new("f");
        let mut spans: Vec<Span> = events.iter().flat_map(|event| builder.event(event)).collect();
        spans.extend(builder.open().into_iter().filter(|span| span.name != "goal"));
        spans.retain(|span| {
            span.text("orch.goal") != "g" || span.name == "attempt" || span.parent.is_some()
        });
        spans
    }

    fn shown(spans: &[Span], width: usize) -> String {
        let shown = Shown {
            spans,
            is_goal: false,
            most: 9,
            is_complete: true,
            now_us: 1_773_828_934_000_000,
            zone: TimeZone::UTC,
        };
        shown.text(width, PLAIN)
    }

    #[test]
    fn task_should_be_a_waterfall_of_its_attempts_and_recoveries() {
        let spans: Vec<Span> =
            spans().into_iter().filter(|span| span.name != "plan" && span.name != "run").collect();
        insta::assert_snapshot!(shown(&spans, 120), @r"
        10:15:30.000  attempt #1 w1   ################........................     1.6 s  failed, to be tried again: report.md …
        10:15:30.000    wait          ##......................................    200 ms
        10:15:30.200    execute       ..##############........................     1.4 s
        10:15:30.400      chat m      ....##########..........................     1.0 s  execute 1.5k tokens, $0.0423
        10:15:31.600  attempt #2 w1   ................##############..........     1.4 s  lost: its process ended
        10:15:31.600    wait          ................##########..............     1.0 s
        10:15:32.600    execute       ..........................####..........    400 ms
        10:15:33.000  recovery of w1  ..............................#.........     41 ms
        10:15:33.000    respawn       ..............................#.........     41 ms
        10:15:33.000    run again     ..............................#.........     30 ms
        10:15:33.000  attempt #3 w2   ..............................#########>     1.0 s
        10:15:33.000    wait          ..............................#.........     30 ms
        10:15:33.030    execute       ..............................#########>    970 ms
        3 attempts, 1 recovery, $0.0423, 4.0 s in all
        ");
    }

    #[test]
    fn waterfall_should_fit_and_be_printable() {
        for width in [40, 60, 80, 200] {
            let text = shown(&spans(), width);
            let widest = text.lines().map(UnicodeWidthStr::width).max().unwrap();
            assert!(
                widest <= width.max(CLOCK + 2 + NAME + 2 + BAR.0 + 2 + TOOK),
                "{width}: {text}"
            );
            assert!(!text.contains('\x1b'), "{text:?}");
        }
    }

    #[test]
    fn what_is_hidden_should_be_told() {
        let spans = spans();
        let shown = Shown {
            spans: &spans,
            is_goal: true,
            most: 1,
            is_complete: false,
            now_us: 0,
            zone: TimeZone::UTC,
        };
        let text = shown.text(80, PLAIN);
        assert!(text.contains("not shown: --count 0"), "{text}");
        assert!(text.contains("older events are gone"), "{text}");
    }

    #[test]
    fn took_should_be_short() {
        let shown: Vec<String> =
            [0, 999, 41_000, 999_999, 1_500_000, 600_000_000].into_iter().map(took).collect();
        assert_eq!(shown, ["<1 ms", "<1 ms", "41 ms", "999 ms", "1.5 s", "10 min"]);
    }
}
