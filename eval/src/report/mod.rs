//! All results as one self-contained HTML page: it opens from a file path, needs no network and no script.

mod bars;
mod found;
mod gallery;
mod pictures;
mod tables;

use std::path::Path;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::error::Result;
use crate::files;
use crate::published::Published;
use crate::results::RunResult;

pub use found::{Found, Sought, save_found};
pub use pictures::Pictures;

const STYLE: &str = include_str!("style.css");
const GALLERY_STYLE: &str = include_str!("gallery.css");

/// Writes the report of some results. `skipped` are files that were left out, with the reason.
pub fn save_report(
    results: &[RunResult],
    skipped: &[String],
    pictures: &Pictures,
    path: &Path,
) -> Result<()> {
    let page = page(results, skipped, pictures).into_string();
    files::write(path, page.as_bytes())
}

/// The pictures that were found for the example queries of one's own results, and those that were captioned, to put into
/// another page.
pub fn gallery(results: &[RunResult]) -> Markup {
    let runs: Vec<&RunResult> = results.iter().collect();
    html! {
        style { (PreEscaped(GALLERY_STYLE)) }
        (gallery::queries(&runs, &Pictures::All))
        (gallery::captions(&runs, &Pictures::All))
    }
}

/// A picture file as a data URI, so that a page needs no file beside it.
///
/// # Errors
///
/// Names the file if it cannot be read.
pub fn data_uri(path: &Path, media_type: &str) -> Result<String> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let bytes = std::fs::read(path).map_err(crate::error::EvalError::io(path))?;
    Ok(format!(
        "data:{media_type};base64,{}",
        STANDARD.encode(bytes)
    ))
}

/// The page.
pub fn page(results: &[RunResult], skipped: &[String], pictures: &Pictures) -> Markup {
    let published = Published::load();
    let models: std::collections::BTreeSet<_> =
        results.iter().map(RunResult::model_fullname).collect();
    let datasets: std::collections::BTreeSet<_> = results.iter().map(|r| &r.dataset).collect();
    html! {
        (DOCTYPE)
        html lang="en" {
            (head("Evaluation report"))
            body {
                header {
                    h1 { "Evaluation report" }
                    p.lead {
                        (count(models.len(), "model")) " · " (count(datasets.len(), "data set")) " · "
                        (count(results.len(), "run"))
                    }
                }
                main {
                    @if !skipped.is_empty() {
                        div.warning {
                            strong { (count(skipped.len(), "file")) " left out" }
                            ul { @for reason in skipped { li { (reason) } } }
                        }
                    }
                    (tables::overview(results))
                    @for (task, title) in TASKS {
                        @let runs: Vec<&RunResult> = results.iter().filter(|r| r.task == task).collect();
                        @if !runs.is_empty() {
                            section {
                                h2 { (title) }
                                (tables::metrics(&runs))
                                (bars::against_published(&runs, &published))
                                (tables::confusions(&runs))
                                (gallery::queries(&runs, pictures))
                                (gallery::captions(&runs, pictures))
                            }
                        }
                    }
                    (tables::circumstances(results))
                }
                footer { "Scores are percentages unless they are ranks. Made by clip-burn." }
            }
        }
    }
}

fn head(title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            title { (title) }
            style { (PreEscaped(GALLERY_STYLE)) (PreEscaped(STYLE)) }
        }
    }
}

const TASKS: [(&str, &str); 7] = [
    ("zeroshot_classification", "Zero-shot classification"),
    ("zeroshot_retrieval", "Zero-shot retrieval"),
    ("caption_retrieval", "Caption-to-caption retrieval"),
    ("linear_probe", "Linear probe"),
    ("knn_probe", "Nearest neighbours"),
    ("image_caption_selection", "Image–caption selection"),
    ("image_captioning", "Captions"),
];

/// The metric that stands for a run where there is room for one only.
fn main_metric(run: &RunResult) -> Option<&'static str> {
    const BY_RANK: [&str; 10] = [
        "mean_average_precision",
        "acc1",
        "lp_acc1",
        "knn_acc1",
        "image_retrieval_recall@1",
        "image_retrieval_recall@5",
        "caption_retrieval_recall@1",
        "text_acc",
        "acc",
        "cider_d",
    ];
    BY_RANK.into_iter().find(|name| run.metric(name).is_some())
}

/// Names for people.
fn label(metric: &str) -> String {
    match metric {
        "acc1" | "lp_acc1" | "knn_acc1" => "top-1".into(),
        "acc5" | "lp_acc5" | "knn_acc5" => "top-5".into(),
        "mean_average_precision" => "mAP".into(),
        "bleu4" => "BLEU-4".into(),
        "cider_d" => "CIDEr-D".into(),
        "token_acc" => "token accuracy".into(),
        other => other
            .trim_start_matches("lp_")
            .trim_start_matches("knn_")
            .replace("per_class", "per-class")
            .replace("caption_retrieval_recall@", "caption → caption R@")
            .replace("caption_retrieval_", "caption → caption ")
            .replace("image_retrieval_recall@", "text → image R@")
            .replace("text_retrieval_recall@", "image → text R@")
            .replace("image_retrieval_", "text → image ")
            .replace("text_retrieval_", "image → text ")
            .replace('_', " "),
    }
}

/// Percent for scores, plain for everything else.
fn value(metric: &str, value: f64) -> String {
    let is_score = ["acc", "recall", "precision", "bleu"]
        .iter()
        .any(|part| metric.contains(part));
    if is_score {
        format!("{:.2}", value * 100.0)
    } else {
        plain(value)
    }
}

fn plain(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-3 {
        format!("{value:.1e}")
    } else {
        format!("{value:.4}")
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned()
    }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::ImageRef;
    use crate::results::tests::{known_run, run};
    use crate::results::{Details, Hit, Query};
    use serde_json::json;

    #[test]
    fn the_page_holds_tables_bars_and_pictures_and_loads_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let picture = dir.path().join("cat.png");
        image::RgbImage::from_pixel(300, 200, image::Rgb([200, 30, 30]))
            .save(&picture)
            .unwrap();
        let classification = run(
            "imagenet1k",
            "mine <b>",
            "zeroshot_classification",
            json!({"acc1": 0.6543, "acc5": null}),
        );
        let mut retrieval = run(
            "flickr30k",
            "mine",
            "zeroshot_retrieval",
            json!({"image_retrieval_recall@1": 0.5}),
        );
        let hit = |path: &std::path::Path, right| Hit {
            image: ImageRef::File(path.into()),
            score: 0.3,
            right,
        };
        retrieval.details = Some(Details {
            queries: vec![Query {
                text: "a cat & a <dog>".into(),
                rank: 2,
                hits: vec![
                    hit(&dir.path().join("gone.png"), false),
                    hit(&picture, true),
                ],
                right: None,
            }],
            ..Details::default()
        });
        let page = page(
            &[classification, retrieval],
            &["x.json: foreign".into()],
            &Pictures::All,
        )
        .into_string();
        for expected in [
            "65.43",
            "ViT-L-14",
            "a cat &amp; a &lt;dog&gt;",
            "data:image/jpeg;base64,",
            "x.json: foreign",
        ] {
            assert!(page.contains(expected), "{expected}");
        }
        assert!(page.contains("gone.png"), "a missing picture is named");
        for external in ["<script", "http://", "https://", "src=\"/", "file://"] {
            assert!(!page.contains(external), "{external}");
        }
    }

    #[test]
    fn the_overview_tells_a_probe_with_few_shots_from_one_with_all_images() {
        let probe = |shots: i32, accuracy: f64| {
            let metrics = json!({"lp_acc1": accuracy, "fewshot_k": shots});
            run("cifar10", "mine", "linear_probe", metrics)
        };
        let zero_shot = run(
            "cifar10",
            "mine",
            "zeroshot_classification",
            json!({"acc1": 0.11}),
        );
        let page = page(
            &[probe(-1, 0.33), probe(16, 0.22), zero_shot],
            &[],
            &Pictures::All,
        )
        .into_string();
        let overview = &page[page.find("Overview").unwrap()..page.find("<h2>Zero-shot").unwrap()];
        for part in [
            "linear probe, 16 shots, top-1",
            "linear probe, top-1",
            "11.00",
            "22.00",
            "33.00",
        ] {
            assert!(overview.contains(part), "{part}");
        }
    }

    #[test]
    fn runs_of_other_prompts_are_two_rows_and_a_part_of_the_classes_is_no_published_score() {
        let mut runs = [
            known_run("openai80", "abcdef01", 0.6),
            known_run("simple", "abcdef01", 0.5),
        ];
        runs.iter_mut()
            .for_each(|run| run.dataset = "imagenet1k".into());
        let bars = |page: &str| page.matches("title=\"this run\"").count();
        let whole = page(&runs, &[], &Pictures::All).into_string();
        assert!(whole.contains(" · openai80") && whole.contains(" · simple"));
        assert_eq!(bars(&whole), 2);
        let details = runs[1].details.as_mut().unwrap();
        (details.classes, details.all_classes) = (12, Some(1000));
        let part = page(&runs, &[], &Pictures::All).into_string();
        assert!(part.contains("12 of 1000 classes"));
        assert_eq!(bars(&part), 1);
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(value("acc1", 0.63321), "63.32");
        assert_eq!(value("image_retrieval_mean_rank", 12.5), "12.5");
        assert_eq!(value("weight_decay", 1e-6), "1.0e-6");
        assert_eq!(label("text_retrieval_recall@5"), "image → text R@5");
        assert_eq!(label("knn_mean_per_class_recall"), "mean per-class recall");
    }
}
