//! What each stage does.

use super::blocks::Blocks;
use super::contrastive::{Contrast, ContrastiveOptions, TripletRows};
use super::data::TextTable;
use super::predict::{LmOptions, MntpOptions, Objective, Predict, PredictionRows};
use super::rate::CaptionSet;
use super::tables::{LlmTable, LmTable, precision};
use super::tuned::{TunedEncoder, TunedLlama, WholeLlama};
use crate::CaptionEncoder;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use eval::Extraction;
use eval::metrics::retrieval::{Ties, recall_at};
use eval::tasks::caption_retrieval::caption_ranks;
use llm::lm::Masking;
use llm::{Encoder, LlamaConfig, Pretrained, SaveOptions, Tokenizer, Visibility};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use train::trainer::collective::World;
use train::{BoxError, Launch, Outcome, Recipe, Result, Run, TrainError, prepared, run, together};

/// A kind of training in stage 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// A small Llama from scratch.
    Lm,
    /// Masked next-token prediction.
    Mntp,
    /// Caption-contrastive tuning.
    Contrastive,
}

/// In their order.
pub const STAGES: [(&str, Stage); 3] = [
    ("lm", Stage::Lm),
    ("mntp", Stage::Mntp),
    ("contrastive", Stage::Contrastive),
];

/// What a stage left.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The stage.
    pub stage: Stage,
    /// Steps done.
    pub steps: u64,
    /// True if the run was stopped before its last step.
    pub stopped: bool,
    /// Seconds of training.
    pub seconds: f64,
    /// Directory of the language model, if the stage came to its end.
    pub llm: Option<PathBuf>,
    /// Caption-to-caption retrieval before and after, where it is validated.
    pub captions: Option<[f64; 2]>,
}

fn failed<E: Into<BoxError>>(what: &'static str) -> impl Fn(E) -> TrainError {
    move |source| TrainError::Task {
        what,
        source: source.into(),
    }
}

const DATA: &str = "opening [data]";
const MODEL: &str = "loading [model]";
const WRITING: &str = "writing the language model";

/// Where the language model of a tuned stage goes.
fn destination(recipe: &Recipe) -> Result<PathBuf> {
    let path = recipe.out().join("llm");
    match path.exists() {
        true => Err(TrainError::Config(format!(
            "{}: there is a language model already; remove it, or choose another run.out",
            path.display()
        ))),
        false => Ok(path),
    }
}

fn summary<T>(stage: Stage, outcome: &Outcome<T>, llm: PathBuf) -> Summary {
    Summary {
        stage,
        steps: outcome.progress.step,
        stopped: outcome.stopped,
        seconds: outcome.seconds,
        llm: (!outcome.stopped).then_some(llm),
        captions: None,
    }
}

pub(super) fn lm<B: AutodiffBackend>(
    mut recipe: Recipe,
    launch: &Launch,
    device: &Device<B::InnerBackend>,
) -> Result<Summary> {
    let (options, table): (LmOptions, LmTable) = (recipe.section()?, recipe.section()?);
    let data: TextTable = recipe.section()?;
    let texts = data.texts(recipe.run.seed).map_err(failed(DATA))?;
    let tokenizer =
        Tokenizer::train(&texts, table.vocab_size).map_err(failed("training the tokenizer"))?;
    if table.num_attention_heads == 0
        || !table.hidden_size.is_multiple_of(table.num_attention_heads)
    {
        return Err(TrainError::Config(format!(
            "model.hidden_size = {} is no multiple of model.num_attention_heads = {}",
            table.hidden_size, table.num_attention_heads
        )));
    }
    let config = LlamaConfig {
        hidden_size: table.hidden_size,
        intermediate_size: table.intermediate_size,
        num_hidden_layers: table.num_hidden_layers,
        num_attention_heads: table.num_attention_heads,
        num_key_value_heads: table.num_key_value_heads,
        head_dim: table.hidden_size / table.num_attention_heads,
        max_position_embeddings: Some(table.max_position_embeddings),
        ..LlamaConfig::tiny(tokenizer.vocab_size())
    };
    config
        .check()
        .map_err(|what| TrainError::Config(format!("[model]: {what}")))?;
    let blocks = Blocks::new(
        "the texts",
        &texts,
        &tokenizer,
        config.vocab_size,
        options.block,
    );
    let blocks = Arc::new(blocks.map_err(failed(DATA))?);
    let model = config.init::<B>(
        recipe.run.seed,
        precision("precision", &table.precision)?,
        device,
    );
    let objective = Objective::Next {
        bos: tokenizer.bos(),
    };
    let task = Predict::<WholeLlama<B::InnerBackend>>::new(
        Visibility::Causal,
        None,
        tokenizer,
        config,
        PathBuf::new(),
    );
    let outcome = predict::<B, _>(
        &recipe, &data, &task, model, blocks, objective, launch, device,
    )?;
    Ok(summary(Stage::Lm, &outcome, recipe.out().join("model")))
}

pub(super) fn mntp<B: AutodiffBackend>(
    mut recipe: Recipe,
    launch: &Launch,
    device: &Device<B::InnerBackend>,
) -> Result<Summary> {
    let (options, table): (MntpOptions, LlmTable) = (recipe.section()?, recipe.section()?);
    let data: TextTable = recipe.section()?;
    let llm = destination(&recipe)?;
    let load = table.load()?;
    let Pretrained {
        model,
        tokenizer,
        config,
        ..
    } = Pretrained::<B>::load(&table.llm, &load, device).map_err(failed(MODEL))?;
    let model = model
        .with_lora(&options.lora, recipe.run.seed, device)
        .map_err(failed(MODEL))?;
    let masking = Masking {
        share: options.share,
        ..Masking::llm2clip(&tokenizer).map_err(failed(MODEL))?
    };
    masking.check().map_err(failed("[method]"))?;
    let texts = data.texts(recipe.run.seed).map_err(failed(DATA))?;
    let blocks = Blocks::new(
        "the texts",
        &texts,
        &tokenizer,
        config.vocab_size,
        options.block,
    );
    let blocks = Arc::new(blocks.map_err(failed(DATA))?);
    drop(texts);
    let task = Predict::<TunedLlama<B::InnerBackend>>::new(
        Visibility::Bidirectional,
        Some(options.lora),
        tokenizer,
        config,
        table.llm,
    );
    let objective = Objective::Masked(masking);
    let outcome = predict::<B, _>(
        &recipe, &data, &task, model, blocks, objective, launch, device,
    )?;
    let summary = summary(Stage::Mntp, &outcome, llm.clone());
    if !outcome.stopped {
        // The model is given away, so that its weights are in memory once.
        let tuned = outcome.model;
        whole(&llm, launch, |path| tuned.merged().save(path, load.weights))?;
    }
    Ok(summary)
}

#[allow(clippy::too_many_arguments)] // what a run is made of
fn predict<B: AutodiffBackend, T: super::predict::FromLlama<B::InnerBackend>>(
    recipe: &Recipe,
    data: &TextTable,
    task: &Predict<T>,
    model: llm::Llama<B>,
    blocks: Arc<Blocks>,
    objective: Objective,
    launch: &Launch,
    device: &Device<B::InnerBackend>,
) -> Result<Outcome<T>> {
    let sampler = data::Sampler::shuffled(data::Source::len(&*blocks), recipe.run.seed)
        .sharded(launch.world.rank(), launch.world.size())
        .map_err(failed(DATA))?;
    let (loader, group) = (data.loader.clone(), recipe.run.accumulate);
    run(Run {
        task,
        model,
        recipe,
        batches: &mut prepared(PredictionRows(objective), blocks, sampler, loader, group),
        collective: launch.collective(),
        validate: None,
        launch,
        device: device.clone(),
    })
}

pub(super) fn contrastive<B: AutodiffBackend>(
    mut recipe: Recipe,
    launch: &Launch,
    device: &Device<B::InnerBackend>,
) -> Result<Summary> {
    let (options, table): (ContrastiveOptions, LlmTable) = (recipe.section()?, recipe.section()?);
    let data: TextTable = recipe.section()?;
    let pairs = recipe
        .section::<CaptionSet>()?
        .open()
        .map_err(failed("opening [validation]"))?;
    let llm = destination(&recipe)?;
    let load = table.load()?;
    let encoder = Encoder::<B>::load(&table.llm, options.encoder.clone(), &load, device);
    let Encoder {
        model,
        tokenizer,
        config,
        options: encoder,
    } = encoder.map_err(failed(MODEL))?;
    let model = model
        .with_lora(&options.lora, recipe.run.seed, device)
        .map_err(failed(MODEL))?;
    let (rank, replicas) = (launch.world.rank(), launch.world.size());
    let batch = data.loader.batch_size * recipe.run.accumulate * replicas;
    let (source, sampler) = data
        .triplets(recipe.run.seed, batch)
        .map_err(failed(DATA))?;
    let sampler = sampler.sharded(rank, replicas).map_err(failed(DATA))?;
    let rows = TripletRows {
        tokenizer: tokenizer.clone(),
        options: encoder.clone(),
        vocab_size: config.vocab_size,
    };
    let task = Contrast {
        scale: options.scale,
        options: encoder,
        lora: options.lora,
        tokenizer,
        config,
        base: table.llm,
    };
    let mut rate =
        |tuned: &TunedEncoder<B::InnerBackend>| -> Result<BTreeMap<String, f64>, BoxError> {
            let pairs = pairs.as_deref().unwrap_or_default();
            let encoder = CaptionEncoder::new(tuned.encoder.clone(), RATED, device);
            let all = Extraction {
                batch_size: pairs.len(),
                ..Extraction::default()
            };
            let ranks = caption_ranks(&encoder, pairs, &all)?;
            let top1 = recall_at(&ranks, 1, Ties::Stable).unwrap_or_default();
            Ok([("captions_top1".to_string(), top1)].into())
        };
    let validated = pairs.as_ref().is_some_and(|pairs| !pairs.is_empty());
    let before = match validated {
        true => {
            let inner = burn::module::AutodiffModule::valid(&model);
            let start = train::Task::<B>::trained(&task, inner);
            let rated = rate(&start).map_err(failed("rating the model at the start"))?;
            rated.get("captions_top1").copied()
        }
        false => None,
    };
    let (loader, group) = (data.loader.clone(), recipe.run.accumulate);
    let outcome = run(Run {
        task: &task,
        model,
        recipe: &recipe,
        batches: &mut prepared(rows, source, sampler, loader, group),
        collective: launch.collective(),
        validate: match validated {
            true => Some(&mut rate),
            false => None,
        },
        launch,
        device: device.clone(),
    })?;
    let mut summary = summary(Stage::Contrastive, &outcome, llm.clone());
    if !outcome.stopped {
        if let Some(before) = before {
            let rated = rate(&outcome.model).map_err(failed("rating the model at the end"))?;
            summary.captions = Some([before, rated["captions_top1"]]);
        }
        let options = SaveOptions {
            weights: load.weights,
            ..SaveOptions::default()
        };
        // The model is given away, so that its weights are in memory once.
        let tuned = outcome.model;
        whole(&llm, launch, |path| tuned.merged().save(path, &options))?;
    }
    Ok(summary)
}

/// Captions at a time when a model is rated.
const RATED: usize = 64;

/// Writes a directory beside its place and then there: the first replica does, and the others wait for it.
fn whole(path: &Path, launch: &Launch, write: impl FnOnce(&Path) -> llm::Result<()>) -> Result<()> {
    let written = match launch.world.rank() {
        0 => written(path, write),
        _ => Ok(()),
    };
    together(written, &*launch.world)
}

fn written(path: &Path, write: impl FnOnce(&Path) -> llm::Result<()>) -> Result<()> {
    let io = |source| TrainError::Io {
        path: path.into(),
        source,
    };
    let partial = files::partial(path);
    if partial.exists() {
        std::fs::remove_dir_all(&partial).map_err(io)?;
    }
    write(&partial).map_err(failed(WRITING))?;
    files::replace(&partial, path).map_err(io)
}
