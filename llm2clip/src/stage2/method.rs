//! Stage 2 as a method of recipes.

use super::prepare::{FieldWeight, ImagesAndVectors};
use super::task::Align;
use crate::adapter::AdapterConfig;
use crate::checkpoint::{Llm2ClipOptions, is_llm2clip};
use crate::encoder::Llm2Clip;
use crate::identity::identity;
use crate::network::{Network, NetworkConfig};
use crate::teacher::{Teacher, TextSide};
use burn::module::Param;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clip::nn::init::Init;
use clip::preprocess::Augment;
use clip::{VisionOptions, VisionTower};
use data::Source;
use data::store::{Store, WithStore};
use llm::{Encoder, LoadOptions};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use train::image_text::validation::Validation;
use train::{
    BoxError, DataTable, Launch, ModelTable, Outcome, Recipe, Result, Run, Section, TrainError,
    prepared, run,
};

/// The `[method]` table of `name = "llm2clip"`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Always `llm2clip`.
    pub name: Name,
    /// Directory of the language model that made the vectors. It is loaded for validations only; the trained model's
    /// directory names it.
    pub llm: Option<PathBuf>,
    /// Stores of vectors that `embed_captions` made of the `[data]`. None: the shards bring theirs (`embeddings`).
    #[serde(default)]
    pub stores: Vec<PathBuf>,
    /// The captions that are drawn, one for each visit of an image. None: all that are stored, all alike.
    #[serde(default)]
    pub captions: Vec<FieldWeight>,
    /// Dimension of a new projection in place of the vision tower's own, from where training starts. Absent: its own.
    pub embed_dim: Option<usize>,
    /// The text adapter, where the model does not bring one.
    #[serde(default)]
    pub adapter: AdapterOptions,
}

/// `[method.adapter]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdapterOptions {
    /// Residual blocks.
    pub blocks: usize,
    /// Hidden width of a block over its width.
    pub expansion: usize,
    /// Whether vectors are brought to unit length first.
    pub normalize: bool,
}

impl Default for AdapterOptions {
    fn default() -> Self {
        let AdapterConfig {
            blocks,
            expansion,
            normalize,
            ..
        } = AdapterConfig::new(0, 0);
        Self {
            blocks,
            expansion,
            normalize,
        }
    }
}

/// The name of this method.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Name {
    /// LLM2CLIP, stage 2.
    Llm2clip,
}

impl Section for Options {
    const NAME: &'static str = "method";

    fn resolve(&mut self, folder: &Path) {
        for path in self.llm.iter_mut().chain(&mut self.stores) {
            let resolved = folder.join(&*path);
            // The trained directory names them.
            *path = std::path::absolute(&resolved).unwrap_or(resolved);
        }
    }
}

fn failed<E: Into<BoxError>>(what: &'static str) -> impl Fn(E) -> TrainError {
    move |source| TrainError::Task {
        what,
        source: source.into(),
    }
}

/// Trains as a recipe says: loads the vision tower of `[model]`, or an LLM2CLIP model to go on with, joins `[data]` with the
/// stored vectors, and writes the trained model directory.
///
/// # Errors
///
/// Those of [`train::run()`]; when the tables do not go together, vectors are missing, or were made by another language
/// model.
pub fn train<B: AutodiffBackend>(
    mut recipe: Recipe,
    launch: &Launch,
    device: Device<B::InnerBackend>,
) -> Result<Outcome<Llm2Clip<B::InnerBackend>>> {
    let mut options: Options = recipe.section()?;
    let table: ModelTable = recipe.section()?;
    let data: DataTable = recipe.section()?;
    if data.captions.is_some() {
        let what = "LLM2CLIP draws its captions by method.captions; remove [data.captions] from the recipe";
        return Err(TrainError::Config(what.into()));
    }
    let validation = Validation::open(&mut recipe)?.among(launch.world.clone());
    if let Some(best) = &recipe.checkpoint.best {
        validation.check_best(best)?;
    }
    let (source, sampler) = data.open(recipe.run.seed, launch.world.rank(), launch.world.size())?;
    let opened = open_stores(&options)?;
    let source: Arc<dyn Source> = match opened.stores.is_empty() {
        true => source,
        false => {
            let joined = WithStore::new(source, opened.stores.clone());
            Arc::new(joined.map_err(failed("joining [data] with method.stores"))?)
        }
    };
    let width = check_captions(&mut options, source.as_ref())?;
    let teacher = match (&options.llm, validation.is_empty()) {
        (Some(llm), false) => {
            let precision = table.precision()?;
            let load = LoadOptions {
                precision,
                weights: precision,
            };
            let encoder = Encoder::load(llm, None, &load, &device);
            Teacher::Llm {
                encoder: encoder.map_err(failed("loading method.llm"))?,
                batch: 32,
            }
        }
        _ => Teacher::Stores(opened.stores.clone()),
    };
    let start = start::<B>(&table, &options, width, recipe.run.seed, &device)?;
    let augment = Augment::new(data.augment.clone(), start.1.preprocess.size)
        .map_err(|error| TrainError::Config(format!("data.augment: {error}")))?;
    let prepare = ImagesAndVectors {
        augment,
        captions: options.captions.clone().into(),
        width,
    };
    let task = Align::<B> {
        config: start.1,
        text_side: TextSide {
            llm: options.llm.clone(),
            identity: opened.llm,
            stores: options.stores.clone(),
        },
        teacher,
        compute: table.precision()?.compute(),
    };
    let mut rate = |model: &Llm2Clip<B::InnerBackend>| validation.rate(model, &device);
    run(Run {
        task: &task,
        model: start.0,
        recipe: &recipe,
        batches: &mut prepared(prepare, source, sampler, data.loader, recipe.run.accumulate),
        collective: launch.collective(),
        validate: match validation.is_empty() {
            true => None,
            false => Some(&mut rate),
        },
        launch,
        device: device.clone(),
    })
}

struct Opened {
    stores: Vec<Arc<Store>>,
    /// Identity of the language model, where something says it.
    llm: Option<String>,
}

/// Opens the stores, which must all be of one language model: that of `method.llm`, if it is named.
fn open_stores(options: &Options) -> Result<Opened> {
    let what = "opening method.stores";
    let stores = options
        .stores
        .iter()
        .map(|path| Store::open(path).map(Arc::new));
    let stores: Vec<_> = stores.collect::<Result<_, _>>().map_err(failed(what))?;
    let expected = match (&options.llm, stores.first()) {
        (Some(llm), _) => {
            let options =
                llm::EncoderOptions::of_directory(llm).map_err(failed("reading method.llm"))?;
            let identity = identity(llm, &options).map_err(failed("reading method.llm"))?;
            Some((identity, llm.clone()))
        }
        (None, Some(first)) => Some((
            first.info().llm.clone(),
            first.info().llm_path.clone().into(),
        )),
        (None, None) => None,
    };
    if let Some((identity, path)) = &expected {
        for store in &stores {
            store.check_llm(identity, path).map_err(failed(what))?;
        }
    }
    Ok(Opened {
        stores,
        llm: expected.map(|(identity, _)| identity),
    })
}

/// Fills in which captions are drawn, and finds how long their vectors are.
fn check_captions(options: &mut Options, source: &dyn Source) -> Result<usize> {
    let what = "reading the first stored vector";
    let sample = source.get(0).map_err(failed(what))?;
    let Some(stored) = sample.embeddings else {
        let what = "no stored vectors: name method.stores, made by embed_captions, or `embeddings` of webdataset shards";
        return Err(TrainError::Config(what.into()));
    };
    let there = stored.fields();
    if options.captions.is_empty() {
        let all = there.iter().map(|field| FieldWeight {
            field: field.to_string(),
            weight: 1.0,
        });
        options.captions = all.collect();
    }
    let usable = |c: &FieldWeight| c.weight.is_finite() && c.weight >= 0.0;
    if let Some(bad) = options.captions.iter().find(|c| !usable(c)) {
        return Err(TrainError::Config(format!(
            "method.captions: the weight of `{}` is {}; it must be a finite number of at least 0",
            bad.field, bad.weight
        )));
    }
    let has = |c: &FieldWeight| there.iter().any(|name| name.eq_ignore_ascii_case(&c.field));
    if !options.captions.iter().any(|c| c.weight > 0.0 && has(c)) {
        let wanted: Vec<_> = options.captions.iter().map(|c| c.field.as_str()).collect();
        return Err(TrainError::Config(format!(
            "method.captions names [{}], but the stored vectors are those of [{}]",
            wanted.join(", "),
            there.join(", ")
        )));
    }
    let vector = stored.read(there[0]).map_err(failed(what))?;
    Ok(vector.len())
}

/// The network to start from: a whole LLM2CLIP model, or a vision tower beside a new adapter.
fn start<B: AutodiffBackend>(
    table: &ModelTable,
    options: &Options,
    width: usize,
    seed: u64,
    device: &Device<B>,
) -> Result<(Network<B>, NetworkConfig)> {
    let loading = "loading [model]";
    let clip = table.options(seed)?;
    let scale = |found: Option<f32>| table.init_logit_scale.or(found);
    if is_llm2clip(&table.name) {
        let load = Llm2ClipOptions {
            clip,
            without_teacher: true,
            ..Llm2ClipOptions::default()
        };
        let mut model = Llm2Clip::load(&table.name, &load, device).map_err(failed(loading))?;
        let adapter = model.config.adapter;
        if adapter.width != width || options.embed_dim.is_some_and(|d| d != adapter.embed_dim) {
            return Err(TrainError::Config(format!(
                "{}: its adapter takes vectors of length {} and gives {}; the stored vectors have {width}, and \
                 method.embed_dim is {:?}",
                table.name, adapter.width, adapter.embed_dim, options.embed_dim
            )));
        }
        if let Some(scale) = scale(None) {
            model.network.logit_scale = Param::from_data([scale], device);
        }
        return Ok((model.network, model.config));
    }
    let vision = VisionOptions {
        model: clip,
        head: options.embed_dim,
    };
    let vision = VisionTower::load(&table.name, &vision, device).map_err(failed(loading))?;
    let AdapterOptions {
        blocks,
        expansion,
        normalize,
    } = options.adapter;
    let config = NetworkConfig {
        preprocess: vision.preprocess.config().clone(),
        adapter: AdapterConfig {
            width,
            embed_dim: vision.config.embed_dim,
            blocks,
            expansion,
            normalize,
        },
        vision: vision.config,
    };
    // The release inherits the scale of the pre-trained CLIP; without one it is that of a new CLIP.
    let scale = scale(vision.logit_scale).unwrap_or((1f32 / 0.07).ln());
    let network = Network {
        visual: vision.tower,
        text: config
            .adapter
            .init(&mut Init::seeded(seed.wrapping_add(1)), device),
        logit_scale: Param::from_data([scale], device),
    };
    Ok((network, config))
}
