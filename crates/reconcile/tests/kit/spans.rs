//! What is traced and logged: a span per pass, linked to what woke it; an error once.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::bench::{Doing, bench, fault, none, settings, somebody_listens, takes};
use reconcile::{Outcome, Settings};
use tokio::time::sleep;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Subscriber, info_span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Captured {
    /// Every span: its id, and its name and fields.
    spans: Vec<(Id, String)>,
    /// Which follows from which.
    links: Vec<(Id, Id)>,
    /// `LEVEL fields @ innermost span`.
    events: Vec<String>,
}

#[derive(Clone, Default)]
struct Capture(Arc<Mutex<Captured>>);

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Capture {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut text = attributes.metadata().name().to_owned();
        attributes.record(&mut Fields(&mut text));
        if context.span(id).unwrap().parent().is_some() {
            text.push_str(" has a parent");
        }
        self.0.lock().unwrap().spans.push((id.clone(), text));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut captured = self.0.lock().unwrap();
        let span = captured.spans.iter_mut().rev().find(|(other, _)| other == id);
        values.record(&mut Fields(&mut span.unwrap().1));
    }

    fn on_follows_from(&self, span: &Id, follows: &Id, context: Context<'_, S>) {
        assert!(context.span(follows).is_some(), "the waking span must still be open");
        self.0.lock().unwrap().links.push((span.clone(), follows.clone()));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut text = event.metadata().level().to_string();
        event.record(&mut Fields(&mut text));
        let within = context.event_span(event).map_or("nothing", |span| span.name());
        self.0.lock().unwrap().events.push(format!("{text} @ {within}"));
    }
}

impl Capture {
    fn install() -> (Self, DefaultGuard) {
        somebody_listens();
        let capture = Self::default();
        let subscriber = tracing_subscriber::registry().with(capture.clone());
        (capture, tracing::subscriber::set_default(subscriber))
    }

    fn passes(&self) -> Vec<String> {
        let captured = self.0.lock().unwrap();
        let passes = captured.spans.iter().filter(|(_, text)| text.starts_with("reconcile "));
        passes.map(|(_, text)| text.clone()).collect()
    }

    /// The spans that the first span starting with `text` follows from.
    fn followed_by(&self, text: &str) -> Vec<String> {
        let captured = self.0.lock().unwrap();
        let spans = &captured.spans;
        let (id, _) = spans.iter().find(|(_, other)| other.starts_with(text)).unwrap();
        let links = captured.links.iter().filter(|(span, _)| span == id);
        let name = |follows| spans.iter().find(|(id, _)| id == follows).unwrap().1.clone();
        links.map(|(_, follows)| name(follows)).collect()
    }

    fn events(&self, level: &str) -> Vec<String> {
        let captured = self.0.lock().unwrap();
        captured.events.iter().filter(|text| text.starts_with(level)).cloned().collect()
    }
}

#[tokio::test(start_paused = true)]
async fn the_span_of_a_pass_should_follow_from_the_spans_that_woke_it() {
    let (capture, _guard) = Capture::install();
    let bench = bench(settings(), none, |_, _| takes(SECOND));
    info_span!("file-changed").in_scope(|| {
        bench.waker.wake("a");
        bench.waker.wake("a");
    });
    info_span!("process-died").in_scope(|| bench.waker.wake("a"));
    bench.waker.wake("b");
    let _running = bench.start();
    bench.until(|now| now.passes == 2).await;
    let pass = |key| {
        format!(
            "reconcile controller=\"scripted\" key={key} trigger=\"wake\" outcome=\"unchanged\""
        )
    };
    assert_eq!(capture.passes(), [pass("a"), pass("b")]);
    assert_eq!(capture.followed_by(&pass("a")), ["file-changed", "process-died"]);
    assert!(capture.followed_by(&pass("b")).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_wakes_should_keep_few_spans_open() {
    let (capture, _guard) = Capture::install();
    let bench = bench(settings(), none, |_, _| takes(SECOND));
    for number in 0..1000 {
        info_span!("event", number).in_scope(|| bench.waker.wake("a"));
    }
    let _running = bench.start();
    bench.until(|now| now.passes == 1).await;
    assert_eq!(capture.followed_by("reconcile").len(), 4);
}

#[tokio::test(start_paused = true)]
async fn spans_should_name_what_triggered_the_pass_and_what_came_of_it() {
    let (capture, _guard) = Capture::install();
    let pass = |_, before| -> Doing<Outcome> {
        Box::pin(async move {
            match before {
                0 => Ok(Outcome::acted().again_after(SECOND)),
                1 => Err(fault("no")),
                2 => panic!("oh"),
                3 => std::future::pending().await,
                _ => Ok(Outcome::unchanged()),
            }
        })
    };
    let keys = |_| Box::pin(async { Ok(vec!["a"]) }) as _;
    let bench = bench(settings(), keys, pass);
    let _running = bench.start();
    bench.until(|now| now.passes == 5).await;
    let expected = [
        "trigger=\"resync\" outcome=\"acted\" next_in_ms=1000",
        "trigger=\"again\" outcome=\"failed\" otel.status_code=\"ERROR\" \
         otel.status_description=\"no\" next_in_ms=",
        "trigger=\"retry\" outcome=\"panicked\" otel.status_code=\"ERROR\"",
        "trigger=\"retry\" outcome=\"timed out\" otel.status_code=\"ERROR\"",
        "trigger=\"retry\" outcome=\"unchanged\"",
    ];
    let passes = capture.passes();
    assert_eq!(passes.len(), expected.len());
    for (pass, part) in passes.iter().zip(expected) {
        assert!(pass.contains(part), "{pass} / {part}");
    }
    assert!(!passes[4].contains("next_in_ms"), "{}", passes[4]);
}

#[tokio::test(start_paused = true)]
async fn passes_that_find_nothing_should_log_nothing() {
    let (capture, _guard) = Capture::install();
    let settings = Settings { resync: SECOND, ..settings() };
    let keys = |_| Box::pin(async { Ok(vec!["a", "b"]) }) as _;
    let bench = bench(settings, keys, |_, _| takes(Duration::ZERO));
    let _running = bench.start();
    bench.until(|now| now.passes == 20).await;
    let events = capture.0.lock().unwrap().events.clone();
    assert!(events.is_empty(), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn an_error_should_be_logged_once_per_change_of_its_text() {
    let (capture, _guard) = Capture::install();
    let pass = |_, before| -> Doing<Outcome> {
        Box::pin(async move {
            match before {
                0..5 => Err(fault("first")),
                5..10 => Err(fault("second")),
                _ => Ok(Outcome::unchanged()),
            }
        })
    };
    let bench = bench(settings(), none, pass);
    let _running = bench.start();
    bench.waker.wake("a");
    bench.until(|now| now.passes == 11).await;
    let warnings = capture.events("WARN");
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("error=\"first\"") && warnings[0].ends_with("@ reconcile"));
    assert!(warnings[1].contains("error=\"second\""), "{warnings:?}");
    let infos = capture.events("INFO");
    assert_eq!(infos, ["INFO message=reconcile recovered failures=10 @ reconcile"]);
}

#[tokio::test(start_paused = true)]
async fn a_failing_resync_should_be_logged_once_and_so_should_its_recovery() {
    let (capture, _guard) = Capture::install();
    let keys = |before| -> Doing<Vec<crate::bench::Key>> {
        Box::pin(async move { if before < 6 { Err(fault("no")) } else { Ok(vec![]) } })
    };
    let bench = bench(settings(), keys, |_, _| takes(SECOND));
    let _running = bench.start();
    bench.until(|now| now.resyncs == 1).await;
    sleep(SECOND).await;
    assert_eq!(capture.events("WARN").len(), 1);
    assert_eq!(capture.events("INFO").len(), 1);
}
