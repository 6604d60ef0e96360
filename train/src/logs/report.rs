//! `report.html`: the curves of a run in one file that needs nothing else.

use crate::error::{Result, TrainError};
use crate::logs::{Entry, Kind, read_metrics};
use crate::recipe::Recipe;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use std::collections::BTreeMap;
use std::path::Path;

/// A page of sections.
pub struct Report {
    title: String,
    sections: Vec<(String, Markup)>,
}

impl Report {
    /// An empty page.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            sections: Vec::new(),
        }
    }

    /// Adds a section of any content.
    pub fn section(mut self, title: impl Into<String>, content: Markup) -> Self {
        self.sections.push((title.into(), content));
        self
    }

    /// Adds one chart per value of the log.
    pub fn curves(self, title: impl Into<String>, entries: &[Entry]) -> Self {
        let charts = charts(entries);
        let content = html! {
            @if charts.is_empty() { p { "The log has no entries." } }
            div.charts { @for chart in &charts { (chart.draw()) } }
        };
        self.section(title, content)
    }

    /// Writes the page.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (self.title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    h1 { (self.title) }
                    @for (title, content) in &self.sections { h2 { (title) } (content) }
                }
            }
        };
        files::write(path, page.into_string().as_bytes()).map_err(TrainError::io(path))
    }
}

/// Writes the report of a finished run beside its logs.
///
/// # Errors
///
/// When the log cannot be read or the report cannot be written.
pub fn write_run(recipe: &Recipe) -> Result<()> {
    let out = recipe.out();
    let name = out
        .file_name()
        .map_or("training".into(), |n| n.to_string_lossy().into_owned());
    let entries = read_metrics(&out.join("metrics.jsonl"))?;
    Report::new(format!("Training: {name}"))
        .section("Result", last_values(&entries))
        .curves("Curves", &entries)
        .section("Recipe", html! { pre { (recipe.to_toml()) } })
        .write(&out.join("report.html"))
}

/// The latest values of training and validation as a table.
pub fn last_values(entries: &[Entry]) -> Markup {
    let last = |kind| entries.iter().rev().find(|e| e.kind == kind);
    html! {
        table {
            tr { th { "after step" } th {} th.number { "value" } }
            @for entry in [last(Kind::Train), last(Kind::Validation)].into_iter().flatten() {
                @for (name, value) in entry.values.iter().chain(&entry.speed) {
                    tr { td { (entry.step) } td { (name) } td.number { (number(*value)) } }
                }
            }
        }
    }
}

const STYLE: &str = "\
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; \
  color: #1b1f24; background: #fff }\n\
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #d5dae0 }\n\
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(21rem, 1fr)); gap: 1.2rem }\n\
figure { margin: 0 } figcaption { font-weight: 600; margin-bottom: .2rem }\n\
svg { width: 100%; height: auto } svg text { font-size: 11px; fill: #57606a }\n\
.grid { stroke: #e4e8ec } .raw { fill: none; stroke: #9cc2f0 } \
.line { fill: none; stroke: #1f6feb; stroke-width: 2; stroke-linejoin: round } .dot { fill: #1f6feb }\n\
table { border-collapse: collapse } th, td { padding: .2rem .9rem .2rem 0; text-align: left } \
.number { text-align: right; font-variant-numeric: tabular-nums }\n\
pre { background: #f4f6f8; padding: 1rem; overflow-x: auto; border-radius: 6px }\n\
img { max-width: 100% }\n";

/// Points of one value over the steps.
struct Chart<'a> {
    name: &'a str,
    points: Vec<(f64, f64)>,
    smoothed: bool,
}

const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 58.0;
const BOTTOM: f64 = 24.0;
const MARGIN: f64 = 8.0;
/// More points than these are averaged in groups.
const MOST_POINTS: usize = 600;

fn charts(entries: &[Entry]) -> Vec<Chart<'_>> {
    let mut by_name: BTreeMap<(u8, &str), Vec<(f64, f64)>> = BTreeMap::new();
    for entry in entries {
        let validation = entry.kind == Kind::Validation;
        for (name, value) in entry
            .values
            .iter()
            .chain(&entry.speed)
            .filter(|(_, v)| v.is_finite())
        {
            let order = match name.as_str() {
                "loss" => 0,
                _ if validation => 1,
                _ => 2,
            };
            let points = by_name.entry((order, name)).or_default();
            points.push((entry.step as f64, *value));
        }
    }
    by_name
        .into_iter()
        .filter(|(_, points)| points.len() > 1) // one value says no more than the table of results
        .map(|((order, name), points)| {
            let smoothed = order != 1 && !["lr", "logit_scale"].contains(&name);
            Chart {
                name,
                points: thin(points),
                smoothed,
            }
        })
        .collect()
}

impl Chart<'_> {
    fn draw(&self) -> Markup {
        let (x0, x1) = range(self.points.iter().map(|p| p.0));
        let (y0, y1) = range(self.points.iter().map(|p| p.1));
        let place = |&(x, y): &(f64, f64)| {
            let x = LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - MARGIN);
            let y = HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - BOTTOM - MARGIN);
            (x, y)
        };
        let path = |points: &[(f64, f64)]| {
            let place = |p| {
                let (x, y) = place(p);
                format!("{x:.1},{y:.1}")
            };
            points.iter().map(place).collect::<Vec<_>>().join(" ")
        };
        let smooth = smooth(&self.points);
        let line = if self.smoothed { &smooth } else { &self.points };
        let ticks = (0..=4).map(|i| y0 + (y1 - y0) * f64::from(i) / 4.0);
        html! {
            figure {
                figcaption { (self.name) }
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(self.name) {
                    @for value in ticks {
                        @let y = place(&(x0, value)).1;
                        line.grid x1=(LEFT) x2=(WIDTH - MARGIN) y1=(y) y2=(y) {}
                        text x=(LEFT - 6.0) y=(y + 4.0) text-anchor="end" { (tick(value, y0, y1)) }
                    }
                    text x=(LEFT) y=(HEIGHT - 6.0) { (x0) }
                    text x=(WIDTH - MARGIN) y=(HEIGHT - 6.0) text-anchor="end" { "step " (x1) }
                    @if self.smoothed { polyline.raw points=(path(&self.points)) {} }
                    polyline.line points=(path(line)) {}
                    @if line.len() < 30 {
                        @for (x, y) in line.iter().map(place) { circle.dot cx=(x) cy=(y) r="3" {} }
                    }
                }
            }
        }
    }
}

/// Smallest and largest value, a little apart even if they are equal.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
    if high > low {
        (low, high)
    } else {
        (low - 0.5, low + 0.5)
    }
}

/// A moving average over about a twentieth of the points.
fn smooth(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let reach = points.len() / 40;
    let mean = |i: usize| {
        let window = &points[i.saturating_sub(reach)..(i + reach + 1).min(points.len())];
        window.iter().map(|p| p.1).sum::<f64>() / window.len() as f64
    };
    points
        .iter()
        .enumerate()
        .map(|(i, p)| (p.0, mean(i)))
        .collect()
}

fn thin(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let group = points.len().div_ceil(MOST_POINTS);
    let mean = |part: &[(f64, f64)]| {
        let n = part.len() as f64;
        (part[0].0, part.iter().map(|p| p.1).sum::<f64>() / n)
    };
    points.chunks(group.max(1)).map(mean).collect()
}

/// Four significant digits.
fn number(value: f64) -> String {
    let size = value.abs();
    match size {
        0.0 => "0".into(),
        s if !(1e-3..1e5).contains(&s) => format!("{value:.2e}"),
        s if s >= 100.0 => format!("{value:.0}"),
        s if s >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// A value on an axis from `low` to `high`, with enough digits to tell its neighbours apart.
fn tick(value: f64, low: f64, high: f64) -> String {
    let size = low.abs().max(high.abs());
    if !(1e-3..1e5).contains(&size) {
        return number(value);
    }
    let digits = -((high - low) / 4.0).log10().floor();
    format!("{value:.*}", digits.clamp(0.0, 6.0) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(n: u64) -> Vec<Entry> {
        let entry = |step: u64| Entry {
            kind: Kind::Train,
            step,
            epoch: 0.0,
            samples: step,
            values: [("loss".to_string(), 1.0 / step as f64)].into(),
            speed: BTreeMap::new(),
        };
        (1..=n).map(entry).collect()
    }

    #[test]
    fn many_points_are_averaged_and_few_are_kept() {
        assert_eq!(charts(&entries(5))[0].points.len(), 5);
        assert_eq!(charts(&entries(6000))[0].points.len(), 600);
    }

    #[test]
    fn the_page_stands_alone_and_escapes_what_it_shows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        let report = Report::new("a < b").curves("Curves", &entries(10));
        report.write(&path).unwrap();
        let page = std::fs::read_to_string(path).unwrap();
        assert!(page.contains("a &lt; b") && page.contains("<polyline"));
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("src="));
    }

    #[test]
    fn the_marks_of_an_axis_can_be_told_apart() {
        assert_eq!(tick(2.6593, 2.6589, 2.6601), "2.6593");
        assert_eq!(tick(41.69, 3.07, 54.57), "42");
        assert_eq!(tick(2.5e-4, 0.0, 5e-4), "2.50e-4");
    }

    #[test]
    fn a_constant_value_is_drawn_and_a_single_one_is_not() {
        let twice = [entries(1), entries(1)].concat();
        assert!(charts(&twice)[0].draw().into_string().contains("circle"));
        assert!(charts(&entries(1)).is_empty());
        let folder = tempfile::tempdir().unwrap();
        Report::new("x")
            .curves("Curves", &[])
            .write(&folder.path().join("r.html"))
            .unwrap();
    }
}
