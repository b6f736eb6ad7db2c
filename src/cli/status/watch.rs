//! `orch status --watch`: the same again every second until Ctrl-C.
//!
//! On a terminal each look is written over the last one, line by line and without
//! clearing first, so that nothing flickers. While Redis is away the last look stays,
//! under a line that says so.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::{View, look, render, show};
use crate::cli::Exit;
use crate::cli::args::{Globals, Output};
use crate::cli::connect::Session;
use crate::cli::output::{self, Screen};
use crate::cli::text::{fit, safe, span};

const EVERY: Duration = Duration::from_secs(1);
/// A look that takes longer is reported as Redis being away; it goes on meanwhile.
const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) async fn run(
    session: &Session,
    output: Output,
    globals: &Globals,
) -> anyhow::Result<Exit> {
    tokio::select! {
        ended = watch(session, output, globals) => ended,
        pressed = tokio::signal::ctrl_c() => {
            pressed?;
            Ok(Exit::Done)
        }
    }
}

struct Last {
    view: Option<View>,
    seen: Instant,
}

async fn watch(session: &Session, output: Output, globals: &Globals) -> anyhow::Result<Exit> {
    let mut last = Last { view: None, seen: Instant::now() };
    let mut drawn = false;
    loop {
        let began = Instant::now();
        let looking = look(session);
        tokio::pin!(looking);
        let result = tokio::select! {
            result = &mut looking => result,
            () = sleep(PATIENCE) => {
                draw(&last, Some("it does not answer"), output, globals, &mut drawn)?;
                looking.await
            }
        };
        match result {
            Ok(view) => {
                last = Last { view: Some(view), seen: Instant::now() };
                draw(&last, None, output, globals, &mut drawn)?;
            }
            Err(error) => {
                let error = reconcile::error_chain(&error);
                draw(&last, Some(&error), output, globals, &mut drawn)?;
            }
        }
        sleep_until(began + EVERY).await;
    }
}

fn draw(
    last: &Last,
    away: Option<&str>,
    output: Output,
    globals: &Globals,
    drawn: &mut bool,
) -> anyhow::Result<()> {
    let screen = Screen::now(globals);
    if output.is_json() {
        return match (away, &last.view) {
            (None, Some(view)) => show(view, output, &screen),
            (Some(_), _) | (None, None) => Ok(()),
        };
    }
    let mut text = String::new();
    if let Some(why) = away {
        let what = match last.view {
            Some(_) => format!("Redis is away; seen {} ago: {why}", span(last.seen.elapsed())),
            None => format!("Redis is away: {why}"),
        };
        text.push_str(&screen.paint.red(&fit(&safe(&what), screen.width)));
        text.push('\n');
    }
    if let Some(view) = &last.view {
        text.push_str(&render::text(view, screen.width, screen.paint));
    }
    match screen.height {
        None => text.push('\n'),
        Some(height) => {
            text = in_place(&text, height, !*drawn);
            *drawn = true;
        }
    }
    Ok(output::print(&text)?)
}

/// `text` over what stood there: from the top, each line to its end, then the rest.
fn in_place(text: &str, height: usize, first: bool) -> String {
    let lines: Vec<&str> = text.lines().collect();
    // The last row stays free: a line end there would scroll.
    let room = height.saturating_sub(1).max(1);
    let cut = lines.len() > room;
    let shown = if cut { room.saturating_sub(1) } else { lines.len() };
    let mut out = String::from(if first { "\x1b[2J\x1b[H" } else { "\x1b[H" });
    for line in lines.iter().take(shown) {
        out.push_str(line);
        out.push_str("\x1b[K\n");
    }
    if cut {
        out.push_str(&format!("… {} more lines: see `orch status`\x1b[K\n", lines.len() - shown));
    }
    out.push_str("\x1b[J");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_should_be_written_over_the_last_one_and_never_scroll() {
        assert_eq!(in_place("a\nb\n", 10, true), "\x1b[2J\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
        let tall = in_place(&"x\n".repeat(50), 10, false);
        assert_eq!(tall.matches('\n').count(), 9);
        assert!(tall.starts_with("\x1b[Hx") && tall.contains("42 more lines"), "{tall}");
    }
}
