//! From nothing to a trained and evaluated CLIP in minutes on two CPU cores, with no download.
//!
//! Makes a small captioned world, trains plain CLIP on its web captions, evaluates zero-shot classification and
//! retrieval, prints a table and writes a report.

use anyhow::{Context, Result};
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clap::Parser;
use clip_burn::backend::{BackendArg, Job, with_backend};
use clip_burn::clip::{Precision, Pretrained};
use clip_burn::data::scenes::{
    Scenes, ScenesConfig, Split, TEMPLATES, Words, contact_sheet,
    write::{ImageFormat, write_imagenet, write_karpathy, write_webdataset},
};
use clip_burn::eval::datasets::image_folder;
use clip_burn::eval::datasets::retrieval::{RetrievalOptions, retrieval as read_retrieval};
use clip_burn::eval::prompts::{ClassName, Prompts, Templates};
use clip_burn::eval::tasks::{retrieval::retrieval, zero_shot::zero_shot};
use clip_burn::eval::{Extraction, RunResult, report};
use clip_burn::methods;
use clip_burn::train::logs::read_metrics;
use clip_burn::train::report::Report;
use clip_burn::train::{Recipe, Resume};
use maud::{Markup, html};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: clip_burn::MiMalloc = clip_burn::MiMalloc;

/// Train and evaluate a small CLIP on a built-in captioned world; needs no arguments and no download
#[derive(Parser)]
#[command(after_help = "Example:
  cargo run --release --example quickstart

Writes runs/quickstart/: data/ (shards, images, annotations), clip/ (checkpoints, logs, the trained model directory),
results/ and report.html.")]
struct Arguments {
    /// Where to write; an earlier run there is replaced
    #[arg(long, default_value = "runs/quickstart")]
    out: PathBuf,
    /// Optimizer steps
    #[arg(long)]
    steps: Option<u64>,
    /// flex, ndarray, wgpu, cuda or cuda:N, as far as compiled in
    #[arg(long, default_value_t)]
    backend: BackendArg,
}

/// The recipe of the training run; users copy it from here.
const RECIPE: &str = include_str!("../recipes/scenes.toml");
/// Of the model in the recipe.
const IMAGE_SIZE: u32 = 48;
const TRAIN_IMAGES: usize = 8000;
const TEST_IMAGES: usize = 480;
const SHARD: usize = 1000;
const RECALL_AT: [usize; 3] = [1, 5, 10];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    with_backend(arguments.backend, Precision::F32, Quickstart(arguments))
}

struct Quickstart(Arguments);

impl Job for Quickstart {
    type Out = Result<()>;

    fn run<B: Backend>(self, device: B::Device) -> Result<()>
    where
        Autodiff<B>: AutodiffBackend<InnerBackend = B>,
    {
        let Self(arguments) = self;
        let out = fresh_folder(&arguments.out)?;
        let mut clock = Clock::start();

        eprintln!("making {TRAIN_IMAGES} training and {TEST_IMAGES} test images");
        let world = Scenes::new(ScenesConfig {
            image_size: IMAGE_SIZE,
            train_size: TRAIN_IMAGES,
            test_size: TEST_IMAGES,
            ..ScenesConfig::default()
        })?;
        write_world(&world, &out.join("data"))?;
        clock.lap("making the data");

        let steps = arguments.steps.map(|steps| format!("run.steps={steps}"));
        let recipe = recipe(&out, steps)?;
        let model = methods::train::<Autodiff<B>>(&recipe, Resume::No, device.clone())?.model;
        clock.lap("training");

        let results = evaluate(&model, &world, &out, &device)?;
        clock.lap("evaluating");

        for result in &results {
            result.save(&out.join("results").join(format!("{}.json", result.dataset)))?;
        }
        let rows = rows(&results, &world);
        print_table(&rows, &clock);
        let page = out.join("report.html");
        write_report(&page, &rows, &clock, &results, &recipe, &out)?;
        println!("\nreport: {}", page.display());
        println!("model directory: {}", recipe.out().join("model").display());
        Ok(())
    }
}

/// Removes what an earlier run left, and only that: any other folder is refused.
fn fresh_folder(out: &Path) -> Result<PathBuf> {
    const MARK: &str = ".quickstart";
    if out.exists() {
        let ours = out.join(MARK).is_file();
        let empty = out
            .read_dir()
            .is_ok_and(|mut entries| entries.next().is_none());
        anyhow::ensure!(
            ours || empty,
            "{}: not written by this example; remove it or choose another --out",
            out.display()
        );
        std::fs::remove_dir_all(out).with_context(|| out.display().to_string())?;
    }
    std::fs::create_dir_all(out.join("results")).with_context(|| out.display().to_string())?;
    std::fs::write(out.join(MARK), "").with_context(|| out.display().to_string())?;
    Ok(out.canonicalize()?)
}

/// The world in the formats that real data sets have.
fn write_world(world: &Scenes, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    write_webdataset(
        world,
        Split::Train,
        &folder.join("train"),
        SHARD,
        ImageFormat::Png,
    )?;
    write_karpathy(
        world,
        Split::Test,
        &folder.join("retrieval"),
        ImageFormat::Png,
    )?;
    write_imagenet(
        world,
        Split::Test,
        &folder.join("classes"),
        ImageFormat::Png,
    )?;
    contact_sheet(world, Split::Train, 12, 3).save(folder.join("sheet.png"))?;
    Ok(())
}

fn recipe(out: &Path, steps: Option<String>) -> Result<Recipe> {
    let path = out.join("recipe.toml");
    let shards = RECIPE
        .replace("../runs/quickstart/data", "data")
        .replace("../runs/scenes", "clip");
    std::fs::write(&path, shards).with_context(|| path.display().to_string())?;
    Ok(Recipe::load(&path, &steps.into_iter().collect::<Vec<_>>())?)
}

fn evaluate<B: Backend>(
    model: &Pretrained<B>,
    world: &Scenes,
    out: &Path,
    device: &Device<B>,
) -> Result<Vec<RunResult>> {
    let options = Extraction::default();
    let named = |outcome: clip_burn::eval::tasks::Outcome, dataset: &str| {
        outcome.named(dataset, "clip", "web captions", "en")
    };
    let mut results = Vec::new();
    let images = image_folder("scenes", &out.join("data/classes"), "images")?;
    for (dataset, words) in [("web_words", Words::Web), ("synonyms", Words::Synonyms)] {
        let prompts = Prompts {
            classes: world
                .class_names(words)
                .into_iter()
                .map(ClassName::from)
                .collect(),
            templates: Templates::Shared(TEMPLATES.iter().map(|t| t.to_string()).collect()),
        };
        let outcome = zero_shot(model, &images, &prompts, &options, device)?;
        results.push(named(outcome, dataset));
    }
    let folder = out.join("data/retrieval");
    let pairs = read_retrieval(
        "karpathy",
        &folder.join("dataset_scenes.json"),
        &folder.join("images"),
        &RetrievalOptions {
            split: "test".into(),
            ..RetrievalOptions::default()
        },
    )?;
    let outcome = retrieval(model, &pairs, &RECALL_AT, &options, device)?;
    results.push(named(outcome, "retrieval"));
    Ok(results)
}

/// Wall clock by phase.
struct Clock {
    last: Instant,
    laps: Vec<(&'static str, Duration)>,
}

impl Clock {
    fn start() -> Self {
        Self {
            last: Instant::now(),
            laps: Vec::new(),
        }
    }

    fn lap(&mut self, phase: &'static str) {
        self.laps.push((phase, self.last.elapsed()));
        self.last = Instant::now();
    }
}

/// A metric with what guessing would give.
struct Row {
    name: String,
    value: f64,
    chance: f64,
}

fn rows(results: &[RunResult], world: &Scenes) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut push = |result: &RunResult, metric: &str, name: String, chance: f64| {
        if let Some(value) = result.metric(metric) {
            rows.push(Row {
                name,
                value,
                chance,
            });
        }
    };
    for result in results {
        match result.dataset.as_str() {
            "retrieval" => {
                let details = result.details.clone().unwrap_or_default();
                for k in RECALL_AT {
                    let images = k as f64 / details.images as f64;
                    push(
                        result,
                        &format!("image_retrieval_recall@{k}"),
                        format!("text → image, recall@{k}"),
                        images,
                    );
                }
                for k in RECALL_AT {
                    let texts = any_of_five(k, details.texts);
                    push(
                        result,
                        &format!("text_retrieval_recall@{k}"),
                        format!("image → text, recall@{k}"),
                        texts,
                    );
                }
            }
            words => {
                let name = format!("zero-shot accuracy, {}", words.replace('_', " "));
                push(result, "acc1", name, world.chance());
            }
        }
    }
    rows
}

/// Probability that `k` of `texts` captions drawn at random hold one of the five right ones.
fn any_of_five(k: usize, texts: usize) -> f64 {
    let miss: f64 = (0..5)
        .map(|i| (texts - k - i) as f64 / (texts - i) as f64)
        .product();
    1.0 - miss
}

fn print_table(rows: &[Row], clock: &Clock) {
    println!("{:<36} {:>8} {:>8}", "", "CLIP", "chance");
    for row in rows {
        println!(
            "{:<36} {:>7.1}% {:>7.1}%",
            row.name,
            100.0 * row.value,
            100.0 * row.chance
        );
    }
    println!();
    for (phase, time) in &clock.laps {
        println!("{phase:<36} {:>7.1}s", time.as_secs_f64());
    }
}

fn write_report(
    page: &Path,
    rows: &[Row],
    clock: &Clock,
    results: &[RunResult],
    recipe: &Recipe,
    out: &Path,
) -> Result<()> {
    let sheet = report::data_uri(&out.join("data/sheet.png"), "image/png")?;
    Report::new("Quickstart: plain CLIP on a small captioned world")
        .section("Result", table(rows, clock))
        .curves(
            "Training",
            &read_metrics(&recipe.out().join("metrics.jsonl"))?,
        )
        .section(
            "Images and captions",
            html! { img src=(sheet) alt="training images with their captions"; },
        )
        .section("Retrieval", report::gallery(results))
        .section("Recipe", html! { pre { (recipe.to_toml()) } })
        .write(page)?;
    Ok(())
}

fn table(rows: &[Row], clock: &Clock) -> Markup {
    html! {
        table {
            tr { th { "metric" } th { "CLIP" } th { "chance" } }
            @for row in rows {
                tr {
                    td { (row.name) }
                    td { (format!("{:.1} %", 100.0 * row.value)) }
                    td { (format!("{:.1} %", 100.0 * row.chance)) }
                }
            }
        }
        table {
            tr { th { "phase" } th { "seconds" } }
            @for (phase, time) in &clock.laps {
                tr { td { (phase) } td { (format!("{:.1}", time.as_secs_f64())) } }
            }
        }
    }
}
