//! Runs beside published scores.

use maud::{Markup, html};

use super::{label, value};
use crate::published::Published;
use crate::results::{RunResult, row_names};

/// Published scores shown per chart; those nearest to the runs stay.
const PUBLISHED: usize = 14;

/// Metrics that are compared, where both sides have them.
const COMPARED: [&str; 5] = [
    "acc1",
    "mean_per_class_recall",
    "mean_average_precision",
    "image_retrieval_recall@1",
    "text_retrieval_recall@1",
];

struct Bar {
    name: String,
    source: String,
    score: f64,
    ours: bool,
}

/// One chart per data set and metric that has published scores.
///
/// Runs that chose among some of the classes only are left out: their task was another, and easier, one.
pub(super) fn against_published(runs: &[&RunResult], published: &Published) -> Markup {
    let runs: Vec<&RunResult> = runs
        .iter()
        .copied()
        .filter(|run| !run.is_partial())
        .collect();
    let names: Vec<String> = row_names(&runs.iter().map(|run| (*run).clone()).collect::<Vec<_>>());
    let runs: Vec<(&RunResult, &str)> = runs
        .into_iter()
        .zip(names.iter().map(String::as_str))
        .collect();
    let mut datasets: Vec<&str> = runs
        .iter()
        .map(|(run, _)| published.dataset_name(&run.dataset))
        .collect();
    datasets.sort_unstable();
    datasets.dedup();
    html! {
        div.charts {
            @for dataset in datasets {
                @for metric in COMPARED {
                    @let bars = bars(&runs, published, dataset, metric);
                    @if !bars.is_empty() {
                        figure {
                            figcaption { strong { (dataset) } " · " (label(metric)) }
                            @for bar in bars {
                                div.bar.ours[bar.ours] title=(bar.source) {
                                    span.name { (bar.name) }
                                    span.track { i style={ "width:" (format!("{:.2}", bar.score * 100.0)) "%" } {} }
                                    span.score { (value(metric, bar.score)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Highest first. Empty without runs or without published scores.
fn bars(
    runs: &[(&RunResult, &str)],
    published: &Published,
    dataset: &str,
    metric: &str,
) -> Vec<Bar> {
    let ours: Vec<Bar> = runs
        .iter()
        .filter(|(run, _)| published.dataset_name(&run.dataset) == dataset)
        .filter_map(|(run, name)| {
            let score = run.metric(metric)?;
            Some(Bar {
                name: name.to_string(),
                source: "this run".into(),
                score,
                ours: true,
            })
        })
        .collect();
    let mut others: Vec<Bar> = published
        .scores(dataset, metric)
        .into_iter()
        .map(|(row, score)| Bar {
            name: format!("{} {}", row.model, row.pretrained),
            source: row.source.clone(),
            score,
            ours: false,
        })
        .collect();
    if ours.is_empty() || others.is_empty() {
        return Vec::new();
    }
    let distance = |bar: &Bar| {
        ours.iter()
            .map(|o| (o.score - bar.score).abs())
            .fold(f64::MAX, f64::min)
    };
    others.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
    others.truncate(PUBLISHED);
    let mut bars: Vec<Bar> = ours.into_iter().chain(others).collect();
    bars.sort_by(|a, b| b.score.total_cmp(&a.score));
    bars
}
