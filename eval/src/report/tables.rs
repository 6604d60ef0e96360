//! Tables of metrics, of mistakes, and of what a run was made from.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::{count, label, main_metric, value};
use crate::results::{RunResult, metric_names, row_names};

/// Models against data sets, one number each, the best of a column marked.
pub(super) fn overview(results: &[RunResult]) -> Markup {
    let column = |run: &RunResult| (run.dataset.clone(), kind(run), run.language.clone());
    let columns: BTreeSet<_> = results.iter().map(column).collect();
    let names = row_names(results);
    let models: BTreeSet<_> = names.iter().cloned().collect();
    if models.len() * columns.len() < 3 {
        return html! {};
    }
    let cell = |model: &String, key: &(String, String, String)| {
        let mut named = results.iter().zip(&names).rev();
        let (run, _) = named.find(|(run, name)| *name == model && column(run) == *key)?;
        let metric = main_metric(run)?;
        run.metric(metric).map(|v| (metric, v))
    };
    let best = |key| {
        models
            .iter()
            .filter_map(|m| cell(m, key))
            .map(|c| c.1)
            .fold(f64::MIN, f64::max)
    };
    html! {
        section {
            h2 { "Overview" }
            div.scroll { table {
                thead { tr {
                    th { "model" }
                    @for key @ (dataset, kind, language) in &columns {
                        @let metric = models.iter().find_map(|m| cell(m, key)).map(|c| c.0).unwrap_or_default();
                        th.number {
                            (dataset) @if language != "en" { " (" (language) ")" }
                            small { (kind) @if !kind.is_empty() { ", " } (label(metric)) }
                        }
                    }
                } }
                tbody { @for model in &models { tr {
                    th { (model) }
                    @for key in &columns {
                        @match cell(model, key) {
                            Some((metric, v)) => td.number.best[v == best(key) && models.len() > 1] { (value(metric, v)) },
                            None => td.number.none { "–" },
                        }
                    }
                } } }
            } }
        }
    }
}

/// What tells runs on the same data set apart, beside the metric's name. Scores among some of the classes stand in a
/// column of their own.
fn kind(run: &RunResult) -> String {
    let partial = run
        .details
        .as_ref()
        .and_then(|d| Some((d.classes, d.all_classes?)));
    if let Some((classes, all)) = partial {
        return format!("{classes} of {all} classes");
    }
    let probe = match run.task.as_str() {
        "linear_probe" => "linear probe",
        "knn_probe" => "kNN",
        _ => return String::new(),
    };
    match run.metric("fewshot_k") {
        Some(shots) if shots > 0.0 => format!("{probe}, {shots} shots"),
        _ => probe.into(),
    }
}

/// All metrics of some runs.
pub(super) fn metrics(runs: &[&RunResult]) -> Markup {
    let owned: Vec<RunResult> = runs.iter().map(|run| (*run).clone()).collect();
    let names = metric_names(&owned);
    let rows = row_names(&owned);
    let languages: BTreeSet<_> = runs.iter().map(|run| &run.language).collect();
    html! {
        div.scroll { table {
            thead { tr {
                th { "data set" }
                th { "model" }
                @if languages.len() > 1 { th { "language" } }
                @for name in &names { th.number { (label(name)) } }
            } }
            tbody { @for (run, row) in runs.iter().zip(&rows) { tr {
                th { (run.dataset) @if run.is_partial() { small { (kind(run)) } } }
                td {
                    (run.model) @if !run.pretrained.is_empty() { " " span.tag { (run.pretrained) } }
                    (row.strip_prefix(&run.model_fullname()).unwrap_or_default())
                }
                @if languages.len() > 1 { td { (run.language) } }
                @for name in &names {
                    @match run.metrics.get(name) {
                        Some(v) if v.is_number() => td.number { (value(name, v.as_f64().unwrap_or_default())) },
                        Some(v) if !v.is_null() => td.number { (v) },
                        _ => td.number.none { "–" },
                    }
                }
            } } }
        } }
    }
}

/// Whole percent, at most a hundred: both numbers are what a file says.
fn percent(part: usize, of: usize) -> usize {
    (part.saturating_mul(100) / of.max(1)).min(100)
}

/// The most frequent mistakes of every classifier.
pub(super) fn confusions(runs: &[&RunResult]) -> Markup {
    html! {
        @for run in runs {
            @let confusions = run.details.as_ref().map(|d| d.confusions.as_slice()).unwrap_or_default();
            @if !confusions.is_empty() {
                details {
                    summary { "Most frequent mistakes: " (run.dataset) ", " (run.model_fullname()) }
                    div.scroll { table.narrow {
                        thead { tr { th { "class" } th { "taken for" } th.number { "images" } th { } } }
                        tbody { @for c in confusions { tr {
                            td { (c.class) }
                            td { (c.predicted) }
                            td.number { (c.images) " of " (c.of) }
                            td { div.meter { i style={ "width:" (percent(c.images, c.of)) "%" } {} } }
                        } } }
                    } }
                }
            }
        }
    }
}

/// Sizes, notes and unreadable images of every run.
pub(super) fn circumstances(results: &[RunResult]) -> Markup {
    let known: Vec<_> = results
        .iter()
        .filter_map(|r| r.details.as_ref().map(|d| (r, d)))
        .collect();
    if known.is_empty() {
        return html! {};
    }
    html! {
        section {
            h2 { "Runs" }
            @for (run, details) in known {
                div.run {
                    h3 { (run.dataset) " · " (run.model_fullname()) " · " (run.task) }
                    p {
                        @if !details.split.is_empty() { "split " code { (details.split) } ", " }
                        (count(details.images, "image"))
                        @if details.texts > 0 { ", " (count(details.texts, "text")) }
                        @if details.classes > 0 { ", " (details.classes) " classes" }
                        ", language " (run.language)
                    }
                    @if let Some(prompts) = &details.prompts {
                        p { "prompts " (prompts.label()) ", such as “" (prompts.example) "”" }
                    }
                    @if let Some(from) = &details.provenance {
                        p {
                            code { (from.model) }
                            @if !from.identity.is_empty() { " (" (from.identity) ")" }
                            @if !from.precision.is_empty() { ", " (from.precision) }
                            @if !from.backend.is_empty() { " on " (from.backend) }
                            ", version " (from.version)
                            @if !from.options.is_empty() { ", " (from.label()) }
                        }
                    }
                    @if !details.notes.is_empty() { ul { @for note in &details.notes { li { (note) } } } }
                    @if !details.bad_images.is_empty() {
                        details {
                            summary.bad { (count(details.bad_images.len(), "image")) " could not be read" }
                            ul { @for bad in &details.bad_images { li { (bad.reason) } } }
                        }
                    }
                }
            }
        }
    }
}
