//! What all tasks share: their options, and running every model on every data set.

use anyhow::{Result, bail};
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clap::Args;
use clip_burn::backend::{Job, with_backend};
use clip_burn::cli::{ComputeArgs, DistArgs, Shard, in_flags, warn_of_random};
use clip_burn::clip::{LoadOptions, is_random};
use clip_burn::eval::grid::{
    self, DEFAULT_OUTPUT, Existing, GridOutcome, expand_list, model_names, run_grid,
};
use clip_burn::eval::provenance::Provenance;
use clip_burn::eval::results::{RunResult, metric_names};
use clip_burn::eval::{EvalError, Extraction, TextEncoder};
use clip_burn::models::Model;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Options of every task.
#[derive(Args, Clone)]
pub struct Run {
    #[command(flatten)]
    pub compute: ComputeArgs,
    /// For bare checkpoint files: their config (a JSON file or a preset name)
    #[arg(long)]
    pub config: Option<String>,
    /// A tokenizer in place of the models' own: tokenizer.json, vocab.txt, or a folder with one of them
    #[arg(long)]
    pub tokenizer: Option<PathBuf>,
    /// For LLM2CLIP models: the directory of their language model, in place of the one that they name
    #[arg(long)]
    pub llm: Option<PathBuf>,
    /// Side of the images in pixels, if not the model's own; position embeddings are resized
    #[arg(long, alias = "force-image-size")]
    pub image_size: Option<usize>,
    /// Seed of random weights, of the choice of shots and of a probe
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Images or texts at a time
    #[arg(long, default_value_t = 64)]
    pub batch_size: usize,
    /// Unreadable images that are skipped before a run fails
    #[arg(long, default_value_t = 0)]
    pub max_bad: usize,
    /// Result file; {dataset}, {model}, {pretrained}, {language} and {task} are filled in
    #[arg(long, default_value = DEFAULT_OUTPUT)]
    pub output: String,
    /// Leave out runs whose result file exists
    #[arg(long)]
    pub skip_existing: bool,
    /// Replace result files that exist
    #[arg(long, conflicts_with = "skip_existing")]
    pub overwrite: bool,
    /// Do share I of N of the runs only, I counted from 0: every N-th of the grid
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    #[command(flatten)]
    pub dist: DistArgs,
    /// Names of the models in results, one for each --model [default: of their run or file]
    #[arg(long)]
    pub model_name: Vec<String>,
    /// Data set language(s): en, cn, ar, it, jp for prompts; any that the captions have
    #[arg(long, default_value = "en")]
    pub language: Vec<String>,
}

impl Run {
    /// What to do with result files that are there.
    pub fn existing(&self) -> Existing {
        match (self.skip_existing, self.overwrite) {
            (true, _) => Existing::Skip,
            (_, true) => Existing::Replace,
            _ => Existing::Refuse,
        }
    }

    /// The runs of this process. Of neighbours in the grid every process gets one, for they cost alike; a model that several have
    /// is loaded by each.
    pub fn share(jobs: Vec<grid::Job>, shard: Option<Shard>) -> Vec<grid::Job> {
        let share = shard.unwrap_or(Shard::WHOLE);
        let mine = jobs.into_iter().enumerate();
        mine.filter_map(|(place, job)| share.takes(place).then_some(job))
            .collect()
    }

    /// What the model and the weights of `models` are called in results.
    fn names(&self, models: &[String]) -> Result<BTreeMap<String, (String, String)>, EvalError> {
        let given = expand_list(&self.model_name)?;
        if !given.is_empty() && given.len() != models.len() {
            return Err(EvalError::Option {
                option: "model_name",
                reason: format!("{} names for {} models", given.len(), models.len()),
            });
        }
        let name = |(place, model): (usize, &String)| {
            let (mut architecture, mut weights) = model_names(model, self.config.as_deref());
            match given.get(place) {
                // Of a checkpoint file the architecture is known, and the name is that of the weights.
                Some(name) if Path::new(model).is_file() => weights = name.clone(),
                Some(name) => architecture = name.clone(),
                None => {}
            }
            (model.clone(), (architecture, weights))
        };
        Ok(models.iter().enumerate().map(name).collect())
    }

    pub fn extraction(&self) -> Extraction {
        Extraction {
            batch_size: self.batch_size,
            max_bad: self.max_bad,
            progress: std::io::stderr().is_terminal(),
            ..Extraction::default()
        }
    }
}

/// A sub-command that runs models on data sets.
pub trait Task {
    /// What it scores.
    type Model<B: Backend>: Loadable<B>;

    /// Its name in results.
    fn name(&self) -> &'static str;

    fn run(&self) -> &Run;

    fn models(&self) -> Vec<String>;

    fn datasets(&self) -> Result<Vec<String>, EvalError>;

    /// Data sets of a collection that are not on disk, with what must be where.
    fn absent(&self) -> Vec<String> {
        Vec::new()
    }

    /// Options that change the result and are kept in it, where they are not the default.
    fn options(&self) -> Vec<(&'static str, Option<String>)> {
        Vec::new()
    }

    /// One run. Names of model and weights, and where they are from, are filled in afterwards.
    fn evaluate<B: Backend>(
        &self,
        model: &Loaded<Self::Model<B>>,
        job: &grid::Job,
        device: &B::Device,
    ) -> Result<RunResult, EvalError>;
}

/// A model in memory.
pub struct Loaded<M> {
    /// What the command line calls it.
    argument: String,
    /// The model.
    pub model: M,
    /// What it is, wherever it was loaded from.
    pub identity: String,
}

/// Runs all models of a task on all its data sets.
pub fn on_backend(task: impl Task) -> Result<ExitCode> {
    let run = task.run();
    let (mut shard, mut compute) = (run.shard, run.compute.clone());
    let shares = run.dist.join(&mut shard, &mut compute)?;
    let done = compute
        .check()
        .and_then(|()| with_backend(compute.backend, compute.precision, Grid { task, shard }));
    let mut code = ExitCode::SUCCESS;
    let mine = done.map(|done| code = done);
    // Each run is a file of its own: there is nothing to put together.
    shares.then(mine, || Ok(()))?;
    Ok(code)
}

struct Grid<T> {
    task: T,
    shard: Option<Shard>,
}

impl<T: Task> Job for Grid<T> {
    type Out = Result<ExitCode>;

    fn run<B: Backend>(self, device: B::Device) -> Self::Out
    where
        Autodiff<B>: AutodiffBackend<InnerBackend = B>,
    {
        let Self { task, shard } = self;
        let run = task.run();
        let (models, datasets) = (expand_list(&task.models())?, task.datasets()?);
        for set in task.absent() {
            eprintln!("not on disk: {set}");
        }
        let languages = expand_list(&run.language)?;
        if let Some(config) = &run.config
            && !models.iter().any(|model| bare(model))
        {
            bail!(
                "--config {config}: none of the models is a checkpoint file, so it would not be used"
            );
        }
        let names = run.names(&models)?;
        let name = |model: &str| names[model].clone();
        let jobs = grid::jobs(
            &models,
            &datasets,
            &languages,
            task.name(),
            &run.output,
            name,
        )?;
        let mut loaded: Option<Loaded<T::Model<B>>> = None;
        let evaluate = |job: &grid::Job| {
            if loaded
                .as_ref()
                .is_none_or(|model| model.argument != job.model)
            {
                loaded = None; // two models never share the memory
                loaded = Some(load(&job.model, run, &device)?);
            }
            let Some(model) = &loaded else {
                unreachable!("loaded above")
            };
            let mut result = task.evaluate(model, job, &device)?;
            (result.model, result.pretrained) = name(&job.model);
            let provenance = Provenance {
                backend: B::name(&device),
                precision: run.compute.precision.to_string(),
                seed: Some(run.seed),
                options: options(&task),
                ..Provenance::new(&job.model, &model.identity)
            };
            result.details.get_or_insert_default().provenance = Some(provenance);
            Ok(result)
        };
        let outcome = run_grid(&Run::share(jobs, shard), run.existing(), evaluate, print);
        Ok(summary(&outcome))
    }
}

/// The options of a task and of every task that are not the default, as provenance keeps them.
pub fn options(task: &impl Task) -> BTreeMap<String, String> {
    let run = task.run();
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let of_all = [
        ("config", run.config.clone()),
        ("tokenizer", path(&run.tokenizer)),
        ("llm", path(&run.llm)),
        ("image-size", run.image_size.map(|side| side.to_string())),
    ];
    let all = task.options().into_iter().chain(of_all);
    all.filter_map(|(name, value)| Some((name.to_string(), value?)))
        .collect()
}

/// Whether a model is a checkpoint file, of which --config says what it is.
fn bare(model: &str) -> bool {
    Path::new(model).is_file() && !is_random(model)
}

/// What a task can score.
pub trait Loadable<B: Backend>: TextEncoder<B> + Sized {
    /// Loads what a `--model` names.
    fn load(argument: &str, run: &Run, device: &B::Device) -> Result<Self, EvalError>;
}

impl<B: Backend> Loadable<B> for Model<B> {
    fn load(argument: &str, run: &Run, device: &B::Device) -> Result<Self, EvalError> {
        let options = LoadOptions {
            // One of several models may be a bare file, which alone needs it.
            config: run.config.clone().filter(|_| bare(argument)),
            tokenizer: run.tokenizer.clone(),
            precision: run.compute.precision,
            seed: run.seed,
            image_size: run.image_size.map(|side| [side, side]),
            ..LoadOptions::default()
        };
        warn_of_random(argument);
        let model = Model::load_with_llm(argument, &options, run.llm.as_deref(), device);
        model.map_err(|error| EvalError::Encoder(format!("{error:#}")))
    }
}

fn load<B: Backend, M: Loadable<B>>(
    argument: &str,
    run: &Run,
    device: &B::Device,
) -> Result<Loaded<M>, EvalError> {
    let model = M::load(argument, run, device)?;
    Ok(Loaded {
        argument: argument.into(),
        identity: model.identity()?.unwrap_or_default(),
        model,
    })
}

/// A file name without its extension, for names in results.
pub fn stem(path: &Path) -> String {
    path.file_stem()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

/// Tells what a run found.
pub fn print(result: &RunResult, output: &Path) {
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
        for note in &details.notes {
            println!("  note: {note}");
        }
        for bad in &details.bad_images {
            println!("  skipped: {}", bad.reason);
        }
    }
    println!("  → {}", output.display());
}

/// Tells what was left out and what failed.
pub fn summary(outcome: &GridOutcome) -> ExitCode {
    let runs = |n: usize| format!("{n} run{}", if n == 1 { "" } else { "s" });
    if !outcome.skipped.is_empty() {
        let runs = runs(outcome.skipped.len());
        eprintln!("{runs} left out because the result exists");
    }
    for (job, error) in &outcome.failed {
        let reason = in_flags(error);
        eprintln!("failed: {} on {}: {reason}", job.model, job.dataset);
    }
    if outcome.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
