//! From nothing to trained and evaluated CLIPs in minutes on two CPU cores, with no download.
//!
//! Makes a small captioned world, trains each method on it with the same budget, evaluates zero-shot classification and
//! retrieval, prints a table and writes a report.

mod llm2clip;
mod table;

use anyhow::{Context, Result};
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clap::Parser;
use clip_burn::backend::{Job, with_backend};
use clip_burn::cli::{ComputeArgs, parse};
use clip_burn::clip::LoadOptions;
use clip_burn::data::scenes::{
    Scenes, Split, TEMPLATES, Words, contact_sheet,
    write::{ImageFormat, write_imagenet, write_karpathy, write_webdataset},
};
use clip_burn::eval::datasets::caption::caption_shards;
use clip_burn::eval::datasets::image_folder;
use clip_burn::eval::datasets::retrieval::{RetrievalOptions, retrieval as read_retrieval};
use clip_burn::eval::prompts::{ClassName, Prompts, Templates};
use clip_burn::eval::tasks::caption::{Shown, caption};
use clip_burn::eval::tasks::{Outcome, retrieval::retrieval, zero_shot::zero_shot};
use clip_burn::eval::{Extraction, RunResult, report};
use clip_burn::methods;
use clip_burn::models::Model;
use clip_burn::train::logs::read_metrics;
use clip_burn::train::logs::report::Report;
use clip_burn::train::{DataTable, Launch, Recipe, SourceConfig};
use maud::html;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::time::Duration;
use table::{Clock, RECALL_AT, Table};

#[global_allocator]
static ALLOCATOR: clip_burn::MiMalloc = clip_burn::MiMalloc;

/// Train and evaluate small CLIPs on a built-in captioned world; needs no arguments and no download
#[derive(Parser)]
#[command(after_help = "Example:
  cargo run --example quickstart

Writes runs/quickstart/: data/ (images, annotations), a folder for each method (checkpoints, logs, the trained model
directory), results/ and report.html.")]
struct Arguments {
    /// Where to write; an earlier run there is replaced
    #[arg(long, default_value = "runs/quickstart")]
    out: PathBuf,
    /// Optimizer steps of each method, at least the 20 of their warm-up; the recipes have 250
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(20..))]
    steps: u64,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Only train by this recipe
    #[arg(long, hide = true)]
    train: Option<PathBuf>,
}

/// Name, folder and recipe of each method; users copy the recipes.
const METHODS: [(&str, &str, &str); 4] = [
    ("CLIP", "clip", include_str!("../../recipes/scenes.toml")),
    ("LaCLIP", "laclip", clip_burn::laclip::recipes::SCENES),
    (
        "LLM2CLIP",
        llm2clip::FOLDER,
        clip_burn::llm2clip::recipes::STAGE2_SCENES,
    ),
    ("CLIPS", "clips", clip_burn::clips::recipes::SCENES),
];

/// What recipes name beside themselves.
const FILES: [(&str, &str); 2] = [
    (
        "scenes_vocab.txt",
        clip_burn::clips::recipes::SCENES_VOCABULARY,
    ),
    (
        llm2clip::STAGE1,
        clip_burn::llm2clip::recipes::STAGE1_SCENES,
    ),
];

fn main() -> ExitCode {
    clip_burn::cli::run(run)
}

fn run() -> Result<()> {
    let arguments: Arguments = parse();
    arguments.compute.check()?;
    let compute = arguments.compute.clone();
    with_backend(compute.backend, compute.precision, Quickstart(arguments))
}

struct Quickstart(Arguments);

/// What is kept of a trained method.
struct Trained {
    name: &'static str,
    recipe: Recipe,
    results: Vec<RunResult>,
}

impl Job for Quickstart {
    type Out = Result<()>;

    fn run<B: Backend>(self, device: B::Device) -> Result<()>
    where
        Autodiff<B>: AutodiffBackend<InnerBackend = B>,
    {
        let Self(arguments) = self;
        if let Some(recipe) = &arguments.train {
            let recipe = load(recipe, &arguments)?;
            if recipe.out().ends_with(llm2clip::FOLDER) {
                llm2clip::prepare::<B>(&recipe, arguments.steps, &device)?;
            }
            methods::train::<Autodiff<B>>(recipe, &Launch::default(), device)?;
            return Ok(());
        }
        let out = fresh_folder(&arguments.out)?;
        for (name, text) in FILES {
            std::fs::write(out.join(name), text)?;
        }
        let mut recipes = Vec::new();
        for (_, folder, text) in METHODS {
            let path = out.join(folder).with_extension("toml");
            std::fs::write(&path, text).with_context(|| path.display().to_string())?;
            recipes.push(load(&path, &arguments)?);
        }
        let mut clock = Clock::start();

        let world = world(recipes[0].clone())?;
        write_world(&world, &out.join("data"))?;
        clock.lap("making the data".into());

        train_all(&arguments, &recipes)?;
        clock.lap("training".into());

        let mut methods = Vec::new();
        for ((name, folder, _), recipe) in METHODS.into_iter().zip(recipes) {
            let model = recipe.out().join("model");
            let options = LoadOptions {
                precision: arguments.compute.precision,
                ..LoadOptions::default()
            };
            let model = Model::load(&model.to_string_lossy(), &options, &device)?;
            let results = evaluate::<B>(&model, folder, &world, &out, &device)?;
            for result in &results {
                let file = format!("{folder}_{}.json", result.dataset);
                result.save(&out.join("results").join(file))?;
            }
            methods.push(Trained {
                name,
                recipe,
                results,
            });
        }
        clock.lap("evaluating".into());

        let table = Table::new(&methods, &world);
        table.print(&clock);
        let page = out.join("report.html");
        write_report(&page, &table, &clock, &methods, &out)?;
        println!("\nreport: {}", page.display());
        for method in &methods {
            let model = method.recipe.out().join("model");
            println!("model directory, {}: {}", method.name, model.display());
        }
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

/// A recipe with its run beside it, in a folder of the same name.
fn load(path: &Path, arguments: &Arguments) -> Result<Recipe> {
    let out = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut settings = vec![
        format!("run.out={out}"),
        format!("model.precision={}", arguments.compute.precision),
    ];
    settings.push(format!("run.steps={}", arguments.steps));
    if out == llm2clip::FOLDER {
        settings.extend(llm2clip::settings());
    }
    Ok(Recipe::load(path, &settings)?)
}

/// Trains every method in a process of its own. A process keeps about one core busy, so on a CPU as many run side by side as
/// there are cores, the longest first; on a device they take turns.
fn train_all(arguments: &Arguments, recipes: &[Recipe]) -> Result<()> {
    let ComputeArgs { backend, precision } = arguments.compute;
    let on_cpu = backend.on_cpu();
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let at_once = if on_cpu { cores.min(recipes.len()) } else { 1 };
    let mut running: Vec<(PathBuf, Child)> = Vec::new();
    // The last one has the captioner.
    for (index, recipe) in recipes.iter().rev().enumerate() {
        while running.len() >= at_once {
            end_one(&mut running)?;
        }
        let out = recipe.out();
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--train").arg(out.with_extension("toml"));
        command.arg("--backend").arg(backend.to_string());
        command.arg("--precision").arg(precision.to_string());
        command.arg("--steps").arg(arguments.steps.to_string());
        if on_cpu {
            command.env("RAYON_NUM_THREADS", (cores / at_once).to_string());
            if index > 0 {
                command.stderr(File::create(out.with_extension("log"))?); // one progress bar at a time
            }
        }
        running.push((out, command.spawn()?));
    }
    while !running.is_empty() {
        end_one(&mut running)?;
    }
    Ok(())
}

/// Waits until one of the trainings has ended; where it failed, the others are of no use either.
fn end_one(running: &mut Vec<(PathBuf, Child)>) -> Result<()> {
    loop {
        for place in 0..running.len() {
            let Some(status) = running[place].1.try_wait()? else {
                continue;
            };
            let (out, _) = running.swap_remove(place);
            if status.success() {
                return Ok(());
            }
            for (_, child) in running {
                let _ = child.kill().and_then(|()| child.wait());
            }
            let said = std::fs::read_to_string(out.with_extension("log")).unwrap_or_default();
            anyhow::bail!("{} was not trained\n{said}", out.display());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The world that a recipe trains on.
fn world(mut recipe: Recipe) -> Result<Scenes> {
    let sources = recipe.section::<DataTable>()?.sources;
    let scenes = sources.into_iter().find_map(|source| match source {
        SourceConfig::Scenes(config) => Some(config.world),
        _ => None,
    });
    Ok(Scenes::new(scenes.context("the recipe has no scenes")?)?)
}

/// The test images of the world in the formats that real data sets have.
fn write_world(world: &Scenes, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let (test, png) = (Split::Test, ImageFormat::Png);
    write_karpathy(world, test, &folder.join("retrieval"), png)?;
    write_imagenet(world, test, &folder.join("classes"), png)?;
    write_webdataset(world, test, &folder.join("shards"), world.len(test), png)?;
    contact_sheet(world, Split::Train, 12, 3).save(folder.join("sheet.png"))?;
    Ok(())
}

fn evaluate<B: Backend>(
    model: &Model<B>,
    method: &str,
    world: &Scenes,
    out: &Path,
    device: &Device<B>,
) -> Result<Vec<RunResult>> {
    let options = Extraction::default();
    let named = |outcome: Outcome, dataset: &str| outcome.named(dataset, "scenes", method, "en");
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
    if let Ok(captioner) = model.captioner() {
        let unseen = caption_shards("00000.tar", &out.join("data/shards"), "synthetic")?;
        let outcome = caption(captioner, &unseen, Shown::Own, &options, device)?;
        results.push(named(outcome, "captions"));
    }
    Ok(results)
}

fn write_report(
    page: &Path,
    table: &Table,
    clock: &Clock,
    methods: &[Trained],
    out: &Path,
) -> Result<()> {
    let sheet = report::data_uri(&out.join("data/sheet.png"), "image/png")?;
    let mut report = Report::new("Quickstart: CLIP on a small captioned world")
        .section("Result", table.html(clock))
        .section(
            "Images and captions",
            html! { img src=(sheet) alt="training images with their captions"; },
        );
    for method in methods {
        let metrics = read_metrics(&method.recipe.out().join("metrics.jsonl"))?;
        report = report.curves(format!("Training {}", method.name), &metrics);
    }
    for method in methods {
        let title = format!("What {} finds", method.name);
        report = report.section(&title, report::gallery(&method.results));
    }
    for method in methods {
        let title = format!("Recipe of {}", method.name);
        report = report.section(&title, html! { pre { (method.recipe.to_toml()) } });
    }
    report.write(page)?;
    Ok(())
}
