//! Zero-shot classification, retrieval, linear probe; tables and reports of their results.

use anyhow::{Result, bail};
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clap::{Args, Parser, Subcommand};
use clip_burn::backend::{Job, with_backend};
use clip_burn::cli::ComputeArgs;
use clip_burn::clip::{LoadOptions, Pretrained};
use clip_burn::eval::datasets::retrieval::{RetrievalData, RetrievalOptions, retrieval};
use clip_burn::eval::datasets::{choice, classification};
use clip_burn::eval::features::{IMAGE_FEATURES, TEXT_FEATURES};
use clip_burn::eval::grid::{self, DEFAULT_OUTPUT, GridOutcome, expand_list, run_grid};
use clip_burn::eval::probe::{FeatureCache, ProbeOptions, linear_probe, weights_digest};
use clip_burn::eval::prompts::{PromptSources, Prompts};
use clip_burn::eval::results::{RunResult, load_all, metric_names, save_csv};
use clip_burn::eval::{EvalError, Extraction, Features, report, tasks};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: clip_burn::MiMalloc = clip_burn::MiMalloc;

/// Evaluate CLIP models as CLIP_benchmark does
#[derive(Parser)]
#[command(after_help = "Examples:
  eval zero-shot --model hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K --dataset imagenet --root imagenet/ --output in.json
  eval retrieval --model model/ --format karpathy --annotations dataset_coco.json --images coco/ --output coco.json
  eval linear-probe --model model/ --dataset wds/cifar10 --root 'data/wds_{dataset}' --fewshot-k 16
  eval build results/ --output table.csv
  eval report results/ --output report.html
--model, --dataset and --language take lists (a,b or FILE.txt); every combination is one run and one file.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Classify images by prompts made of class names
    ZeroShot(ZeroShot),
    /// Find images by caption and captions by image
    Retrieval(Retrieval),
    /// Train a linear layer on frozen image embeddings
    LinearProbe(LinearProbe),
    /// Choose the right caption among similar ones: SugarCrepe, Winoground
    Choice(Choice),
    /// Result files → one CSV
    Build {
        /// Result files, or folders of them
        #[arg(required = true)]
        results: Vec<PathBuf>,
        #[arg(long, default_value = "benchmark.csv")]
        output: PathBuf,
    },
    /// Result files → one HTML page
    Report {
        /// Result files, or folders of them
        #[arg(required = true)]
        results: Vec<PathBuf>,
        #[arg(long, default_value = "report.html")]
        output: PathBuf,
    },
}

#[derive(Args, Clone)]
struct Run {
    #[command(flatten)]
    compute: ComputeArgs,
    /// For bare checkpoint files: their config (a JSON file or a preset name)
    #[arg(long)]
    config: Option<String>,
    /// Seed of random weights, of the choice of shots and of a probe
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Images or texts at a time
    #[arg(long, default_value_t = 64)]
    batch_size: usize,
    /// Unreadable images that are skipped before a run fails
    #[arg(long, default_value_t = 0)]
    max_bad: usize,
    /// Result file; {dataset}, {model}, {pretrained}, {language} and {task} are filled in
    #[arg(long, default_value = DEFAULT_OUTPUT)]
    output: String,
    /// Leave out runs whose result file exists
    #[arg(long)]
    skip_existing: bool,
    /// Data set language(s): en, cn, ar, it, jp for prompts; any that the captions have
    #[arg(long, default_value = "en")]
    language: Vec<String>,
}

#[derive(Args, Clone)]
struct DataArgs {
    /// imagenet, imagenetv2, imagenet_sketch, imagenet-a, imagenet-r, imagenet-o, objectnet, folder[/NAME], wds/NAME
    #[arg(long, required = true)]
    dataset: Vec<String>,
    /// Folder of the data set; {dataset} is its name and {dataset_cleaned} its name with - for /
    #[arg(long)]
    root: String,
    /// Split to score [default: val, and test for wds]
    #[arg(long)]
    split: Option<String>,
}

#[derive(Args, Clone)]
struct ZeroShot {
    /// Model directories, checkpoint files (with --config), presets (random weights) or hf-hub:ORG/NAME
    #[arg(long, required = true)]
    model: Vec<String>,
    #[command(flatten)]
    data: DataArgs,
    /// openai80, laclip7, simple or a file
    #[arg(long)]
    templates: Option<String>,
    /// File of class names: JSON or one per line
    #[arg(long)]
    classnames: Option<PathBuf>,
    /// Keep class names and templates in the result
    #[arg(long)]
    dump_prompts: bool,
    #[command(flatten)]
    run: Run,
}

#[derive(Args, Clone)]
struct Retrieval {
    /// Model directories, checkpoint files (with --config), presets (random weights) or hf-hub:ORG/NAME
    #[arg(long, required_unless_present = "image_features")]
    model: Vec<String>,
    /// karpathy, coco, flickr, blip, urban1k, docci, sharegpt4v, xm3600, chinese-clip, wds or jsonl
    #[arg(long)]
    format: String,
    /// Annotation file (a folder for urban1k and wds)
    #[arg(long)]
    annotations: PathBuf,
    /// Folder that image paths are relative to
    #[arg(long)]
    images: Option<PathBuf>,
    #[arg(long, default_value = "test")]
    split: String,
    #[arg(long, value_delimiter = ',', default_value = "1,5,10")]
    recall_k: Vec<usize>,
    /// Name of the data set in results [default: of the annotation file]
    #[arg(long)]
    name: Option<String>,
    /// Use only the first captions of an image
    #[arg(long)]
    max_captions: Option<usize>,
    /// Read line breaks inside captions as spaces
    #[arg(long)]
    join_lines: bool,
    /// Score stored embeddings in place of a model: safetensors with `image_features`
    #[arg(long, requires = "text_features", conflicts_with = "model")]
    image_features: Option<PathBuf>,
    /// Likewise with `text_features`
    #[arg(long, requires = "image_features")]
    text_features: Option<PathBuf>,
    #[command(flatten)]
    run: Run,
}

#[derive(Args, Clone)]
struct LinearProbe {
    /// Model directories, checkpoint files (with --config), presets (random weights) or hf-hub:ORG/NAME
    #[arg(long, required = true)]
    model: Vec<String>,
    #[command(flatten)]
    data: DataArgs,
    #[arg(long, default_value = "train")]
    train_split: String,
    /// Split on which the weight decay is chosen
    #[arg(long, conflicts_with = "val_proportion")]
    val_split: Option<String>,
    /// Share of the training split on which the weight decay is chosen
    #[arg(long, default_value_t = 0.0)]
    val_proportion: f64,
    /// Training images per class [default: all]
    #[arg(long)]
    fewshot_k: Option<usize>,
    #[arg(long, default_value_t = 10)]
    epochs: usize,
    #[arg(long, default_value_t = 0.1)]
    lr: f64,
    /// Folder where embeddings are kept
    #[arg(long, default_value = "features")]
    feature_root: PathBuf,
    #[command(flatten)]
    run: Run,
}

#[derive(Args, Clone)]
struct Choice {
    /// Model directories, checkpoint files (with --config), presets (random weights) or hf-hub:ORG/NAME
    #[arg(long, required = true)]
    model: Vec<String>,
    /// sugarcrepe or winoground
    #[arg(long)]
    format: String,
    #[arg(long)]
    annotations: PathBuf,
    #[arg(long)]
    images: PathBuf,
    #[command(flatten)]
    run: Run,
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        Command::Build { results, output } => {
            let (results, skipped) = load_all(&results)?;
            skipped
                .iter()
                .for_each(|reason| eprintln!("left out: {reason}"));
            save_csv(&results, &output)?;
            println!("{}: {} results", output.display(), results.len());
            Ok(ExitCode::SUCCESS)
        }
        Command::Report { results, output } => {
            let (results, skipped) = load_all(&results)?;
            skipped
                .iter()
                .for_each(|reason| eprintln!("left out: {reason}"));
            report::save_report(&results, &skipped, &output)?;
            println!("{}: {} results", output.display(), results.len());
            Ok(ExitCode::SUCCESS)
        }
        Command::Retrieval(args) if args.image_features.is_some() => stored_embeddings(&args),
        Command::ZeroShot(args) => on_backend(args.run.clone(), Task::ZeroShot(args)),
        Command::Retrieval(args) => on_backend(args.run.clone(), Task::Retrieval(args)),
        Command::LinearProbe(args) => on_backend(args.run.clone(), Task::LinearProbe(args)),
        Command::Choice(args) => on_backend(args.run.clone(), Task::Choice(args)),
    }
}

enum Task {
    ZeroShot(ZeroShot),
    Retrieval(Retrieval),
    LinearProbe(LinearProbe),
    Choice(Choice),
}

struct Grid {
    run: Run,
    task: Task,
}

fn on_backend(run: Run, task: Task) -> Result<ExitCode> {
    run.compute.check()?;
    let (backend, precision) = (run.compute.backend, run.compute.precision);
    with_backend(backend, precision, Grid { run, task })
}

impl Job for Grid {
    type Out = Result<ExitCode>;

    fn run<B: Backend>(self, device: B::Device) -> Self::Out
    where
        Autodiff<B>: AutodiffBackend<InnerBackend = B>,
    {
        let Self { run, task } = self;
        let (models, datasets, name) = match &task {
            Task::ZeroShot(args) => (
                &args.model,
                expand_list(&args.data.dataset)?,
                "zeroshot_classification",
            ),
            Task::Retrieval(args) => (&args.model, vec![args.name()], "zeroshot_retrieval"),
            Task::LinearProbe(args) => (
                &args.model,
                expand_list(&args.data.dataset)?,
                "linear_probe",
            ),
            Task::Choice(args) => (
                &args.model,
                vec![stem(&args.annotations)],
                "image_caption_selection",
            ),
        };
        let models = expand_list(models)?;
        let languages = expand_list(&run.language)?;
        let jobs = grid::jobs(&models, &datasets, &languages, name, &run.output, |model| {
            names(model, &run.config)
        })?;
        let mut loaded: Option<(String, Pretrained<B>)> = None;
        let outcome = run_grid(&jobs, run.skip_existing, |job| {
            if loaded.as_ref().is_none_or(|(model, _)| *model != job.model) {
                loaded = None; // two models never share the memory
                let options = LoadOptions {
                    config: run.config.clone(),
                    precision: run.compute.precision,
                    seed: run.seed,
                    ..LoadOptions::default()
                };
                let model = Pretrained::load(&job.model, &options, &device)
                    .map_err(|e| EvalError::Encoder(e.to_string()))?;
                loaded = Some((job.model.clone(), model));
            }
            let Some((_, encoder)) = &loaded else {
                unreachable!("loaded above")
            };
            let mut result = match &task {
                Task::ZeroShot(args) => args.evaluate(encoder, job, &device),
                Task::Retrieval(args) => args.evaluate(encoder, job, &device),
                Task::LinearProbe(args) => args.evaluate(encoder, job, &device),
                Task::Choice(args) => args.evaluate(encoder, job, &device),
            }?;
            (result.model, result.pretrained) = names(&job.model, &run.config);
            print(&result, &job.output);
            Ok(result)
        });
        Ok(summary(&outcome))
    }
}

impl ZeroShot {
    fn evaluate<B: Backend>(
        &self,
        encoder: &Pretrained<B>,
        job: &grid::Job,
        device: &B::Device,
    ) -> Result<RunResult, EvalError> {
        let split = self.data.split(&job.dataset);
        let data = classification(&job.dataset, &self.data.root(&job.dataset), &split)?;
        let sources = PromptSources {
            class_file: self.classnames.as_deref(),
            templates: self.templates.as_deref(),
            own_classes: data.classes.as_deref(),
            own_templates: data.templates.as_ref(),
        };
        let prompts = Prompts::find(&data.name, &job.language, &sources)?;
        let mut outcome =
            tasks::zero_shot::zero_shot(encoder, &data, &prompts, &self.run.extraction(), device)?;
        outcome.details.split = split;
        let mut result = outcome.named(&data.name, "", "", &job.language);
        if self.dump_prompts {
            (result.classnames, result.templates) =
                (Some(prompts.classes), Some(prompts.templates));
        }
        Ok(result)
    }
}

impl Retrieval {
    fn name(&self) -> String {
        self.name
            .clone()
            .unwrap_or_else(|| match self.format.as_str() {
                "urban1k" | "docci" | "sharegpt4v" | "xm3600" => self.format.clone(),
                _ => stem(&self.annotations),
            })
    }

    fn data(&self, language: &str) -> Result<RetrievalData, EvalError> {
        let options = RetrievalOptions {
            split: self.split.clone(),
            language: language.into(),
            max_captions: self.max_captions,
            join_lines: self.join_lines,
        };
        let images = self.images.as_deref().unwrap_or(Path::new(""));
        retrieval(&self.format, &self.annotations, images, &options)
    }

    fn evaluate<B: Backend>(
        &self,
        encoder: &Pretrained<B>,
        job: &grid::Job,
        device: &B::Device,
    ) -> Result<RunResult, EvalError> {
        let data = self.data(&job.language)?;
        let options = self.run.extraction();
        let mut outcome =
            tasks::retrieval::retrieval(encoder, &data, &self.recall_k, &options, device)?;
        outcome.details.split = self.split.clone();
        Ok(outcome.named(&job.dataset, "", "", &job.language))
    }
}

/// Retrieval without a model: no backend is started.
fn stored_embeddings(args: &Retrieval) -> Result<ExitCode> {
    let (Some(image_file), Some(text_file)) = (&args.image_features, &args.text_features) else {
        bail!("--image-features and --text-features go together");
    };
    let language = args.run.language.first().map_or("en", String::as_str);
    let data = args.data(language)?;
    let images = Features::open(image_file, IMAGE_FEATURES)?;
    let texts = Features::open(text_file, TEXT_FEATURES)?;
    let options = args.run.extraction();
    let mut outcome =
        tasks::retrieval::retrieval_of_features(&data, &images, &texts, &args.recall_k, &options)?;
    outcome.details.split = args.split.clone();
    let (dataset, model) = (args.name(), stem(image_file));
    let parts = [dataset.as_str(), &model, "features", language, outcome.task];
    let output = PathBuf::from(RunResult::file_name(&args.run.output, parts));
    let result = outcome.named(&dataset, &model, "features", language);
    result.save(&output)?;
    print(&result, &output);
    Ok(ExitCode::SUCCESS)
}

impl LinearProbe {
    fn evaluate<B: Backend>(
        &self,
        encoder: &Pretrained<B>,
        job: &grid::Job,
        device: &B::Device,
    ) -> Result<RunResult, EvalError> {
        let model = match Path::new(&job.model) {
            path if path.exists() => weights_digest(path)?,
            _ => format!("{} {}", job.model, self.run.seed),
        };
        let cache = FeatureCache {
            dir: self.feature_root.clone(),
            model: format!("{model} {}", self.run.compute.precision),
        };
        let root = self.data.root(&job.dataset);
        let mut bad = Vec::new();
        let mut split = |name: &str| {
            let data = classification(&job.dataset, &root, name)?;
            let (features, unreadable) =
                cache.features(encoder, &data, &self.run.extraction(), device)?;
            bad.extend(unreadable);
            Ok::<_, EvalError>(features)
        };
        let test_split = self.data.split(&job.dataset);
        let (train, test) = (split(&self.train_split)?, split(&test_split)?);
        let val = self.val_split.as_deref().map(split).transpose()?;
        let options = ProbeOptions {
            fewshot_k: self.fewshot_k,
            epochs: self.epochs,
            lr: self.lr,
            batch_size: self.run.batch_size,
            seed: self.run.seed,
            val_proportion: self.val_proportion,
        };
        let mut outcome = linear_probe::<B>(&train, val.as_ref(), &test, &options, device)?;
        outcome.details.split = test_split;
        outcome.details.bad_images = bad;
        Ok(outcome.named(&job.dataset, "", "", &job.language))
    }
}

impl Choice {
    fn evaluate<B: Backend>(
        &self,
        encoder: &Pretrained<B>,
        job: &grid::Job,
        device: &B::Device,
    ) -> Result<RunResult, EvalError> {
        let data = match self.format.as_str() {
            "sugarcrepe" => choice::sugar_crepe(&self.annotations, &self.images)?,
            "winoground" => choice::winoground(&self.annotations, &self.images)?,
            other => {
                let reason = format!("`{other}` is neither sugarcrepe nor winoground");
                return Err(EvalError::Option {
                    option: "--format",
                    reason,
                });
            }
        };
        let outcome = tasks::choice::choice(encoder, &data, &self.run.extraction(), device)?;
        Ok(outcome.named(&data.name, "", "", &job.language))
    }
}

impl Run {
    fn extraction(&self) -> Extraction {
        Extraction {
            batch_size: self.batch_size,
            max_bad: self.max_bad,
            progress: std::io::stderr().is_terminal(),
        }
    }
}

impl DataArgs {
    fn root(&self, dataset: &str) -> PathBuf {
        let short = dataset
            .trim_start_matches("wds/")
            .trim_start_matches("folder/");
        let cleaned = short.replace('/', "-");
        self.root
            .replace("{dataset_cleaned}", &cleaned)
            .replace("{dataset}", short)
            .into()
    }

    fn split(&self, dataset: &str) -> String {
        let default = if dataset.starts_with("wds") {
            "test"
        } else {
            "val"
        };
        self.split.clone().unwrap_or_else(|| default.into())
    }
}

/// Names of architecture and weights for results.
fn names(model: &str, config: &Option<String>) -> (String, String) {
    let path = Path::new(model.trim_start_matches("local-dir:"));
    if let Some(name) = model.strip_prefix("hf-hub:") {
        (name.into(), "hf-hub".into())
    } else if path.is_dir() {
        (
            path.file_name()
                .map_or(model.into(), |n| n.to_string_lossy().into_owned()),
            "local".into(),
        )
    } else if path.is_file() {
        (
            config
                .as_deref()
                .map_or("checkpoint".into(), |c| stem(Path::new(c))),
            stem(path),
        )
    } else {
        (model.into(), "random".into())
    }
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

fn print(result: &RunResult, output: &Path) {
    println!(
        "{} · {} · {}",
        result.dataset,
        result.model_fullname(),
        result.task
    );
    for name in metric_names(std::slice::from_ref(result)) {
        println!("  {name:<28} {}", result.metrics[&name]);
    }
    if let Some(details) = &result.details {
        details
            .notes
            .iter()
            .for_each(|note| println!("  note: {note}"));
        details
            .bad_images
            .iter()
            .for_each(|bad| println!("  skipped: {}", bad.reason));
    }
    println!("  → {}", output.display());
}

fn summary(outcome: &GridOutcome) -> ExitCode {
    if !outcome.skipped.is_empty() {
        eprintln!(
            "{} runs left out, their results exist",
            outcome.skipped.len()
        );
    }
    for (job, reason) in &outcome.failed {
        eprintln!("failed: {} on {}: {reason}", job.model, job.dataset);
    }
    if outcome.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
