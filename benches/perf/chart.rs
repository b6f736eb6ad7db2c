//! Figures as bars: one group for each unit, on a scale of its own.

use std::fmt::Write as _;

use crate::report::{Figure, Report, number};

const WIDTH: f64 = 860.0;
/// Where names end and bars begin, and how long a bar may be.
const LEFT: f64 = 380.0;
const LONGEST: f64 = 340.0;
/// How wide a number is.
const LABEL: f64 = 44.0;
const ROW: f64 = 24.0;
const HEAD: f64 = 34.0;
/// The longest and the shortest bar of a group that is drawn in proportion differ by so
/// much at most; beyond, lengths are logarithms.
const SPREAD: f64 = 50.0;

/// The report as an SVG image, readable on light and on dark.
pub(crate) fn svg(report: &Report) -> String {
    let mut units: Vec<&str> = Vec::new();
    for figure in &report.figures {
        if !units.contains(&figure.unit.as_str()) {
            units.push(&figure.unit);
        }
    }
    let mut body = String::new();
    let mut y = 10.0;
    for unit in units {
        let figures: Vec<&Figure> =
            report.figures.iter().filter(|figure| figure.unit == unit).collect();
        y = group(&mut body, &figures, unit, y);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
         <title>{}</title>\n\
         <rect width=\"{WIDTH}\" height=\"{y}\" rx=\"6\" fill=\"#fff\"/>\n{body}</svg>\n",
        escaped(&report.case)
    )
}

/// Draws one group from `y` downwards, and says where it ends.
fn group(body: &mut String, figures: &[&Figure], unit: &str, mut y: f64) -> f64 {
    let scale = Scale::of(figures);
    let note = if scale.least.is_some() { ", logarithmic" } else { "" };
    let _ = writeln!(
        body,
        "<text x=\"{LEFT}\" y=\"{:.0}\" fill=\"#57606a\">{}{note}</text>",
        y + 18.0,
        escaped(unit)
    );
    y += HEAD;
    for figure in figures {
        row(body, figure, &scale, y);
        y += ROW;
    }
    y + 10.0
}

fn row(body: &mut String, figure: &Figure, scale: &Scale, y: f64) {
    let (end, low, high) = (
        LEFT + scale.length(figure.value),
        LEFT + scale.length(figure.least),
        LEFT + scale.length(figure.greatest),
    );
    let (middle, base) = (y + 7.0, y + 12.0);
    let mark = figure.wanted.map(|wanted| LEFT + scale.length(wanted.value()));
    let label = end.max(high) + 6.0;
    let label =
        mark.filter(|x| (label - 4.0..label + LABEL).contains(x)).map_or(label, |x| x + 6.0);
    let _ = writeln!(
        body,
        "<text x=\"{:.0}\" y=\"{base:.0}\" text-anchor=\"end\" fill=\"#1f2328\">{}</text>\n\
         <rect x=\"{LEFT}\" y=\"{y:.0}\" width=\"{:.1}\" height=\"14\" fill=\"#4c8eda\"/>\n\
         <path d=\"M{low:.1} {middle:.0}H{high:.1}\" stroke=\"#0b3d70\"/>\n\
         <text x=\"{:.1}\" y=\"{base:.0}\" fill=\"#1f2328\">{}</text>",
        LEFT - 10.0,
        escaped(&figure.name),
        end - LEFT,
        label,
        number(figure.value)
    );
    if let Some(x) = mark {
        let (top, bottom) = (y - 3.0, y + 17.0);
        let _ = writeln!(
            body,
            "<path d=\"M{x:.1} {top:.0}V{bottom:.0}\" stroke=\"#cf222e\" stroke-width=\"2\"/>"
        );
    }
}

struct Scale {
    greatest: f64,
    /// Where a bar has no length, if lengths are logarithms.
    least: Option<f64>,
}

impl Scale {
    fn of(figures: &[&Figure]) -> Self {
        let wanted = figures.iter().filter_map(|figure| figure.wanted).map(|it| it.value());
        let greatest =
            figures.iter().map(|figure| figure.greatest).chain(wanted).fold(0.0, f64::max);
        let least = figures.iter().map(|figure| figure.value).filter(|value| *value > 0.0);
        let least = least.fold(f64::INFINITY, f64::min);
        Self { greatest, least: (greatest / least > SPREAD).then_some(least / 2.0) }
    }

    fn length(&self, value: f64) -> f64 {
        let share = match self.least {
            None => value / self.greatest,
            Some(least) => (value.max(least) / least).ln() / (self.greatest / least).ln(),
        };
        (share * LONGEST).clamp(1.0, LONGEST)
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
