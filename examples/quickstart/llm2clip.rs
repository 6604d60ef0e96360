//! What LLM2CLIP needs before its vision tower can be trained: a language model, tuned, and its vectors of all captions.

use anyhow::Result;
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clip_burn::clip::Precision;
use clip_burn::data::store::StoreType;
use clip_burn::llm::{Encoder, LoadOptions};
use clip_burn::llm2clip::extract::Extractor;
use clip_burn::llm2clip::identity;
use clip_burn::llm2clip::stage1::Plan;
use clip_burn::train::{DataTable, Launch, Recipe};

/// Where the method is trained, beside its recipe.
pub const FOLDER: &str = "llm2clip";
/// The recipe of the language model.
pub const STAGE1: &str = "llm2clip_stage1.toml";

const LM: &str = "llm2clip_stage1/lm";
const TUNED: &str = "llm2clip_stage1/contrastive";
const STORE: &str = "llm2clip_store";
/// Captions that the recipe of the vision tower trains on.
const FIELDS: [&str; 2] = ["web", "synthetic"];
/// Texts at a time, and samples in a file of the store.
const BATCH: usize = 32;
const PART: usize = 4096;

/// What the recipe of the vision tower names, beside itself.
pub fn settings() -> Vec<String> {
    vec![
        format!("method.llm={TUNED}/llm"),
        format!("method.stores=[\"{STORE}\"]"),
    ]
}

/// Trains a small Llama on the captions, tunes it, and stores its vectors. For either, half the steps of the other methods: a good
/// language model takes ten times as many, more than a first look has time for.
pub fn prepare<B: Backend>(recipe: &Recipe, steps: u64, device: &Device<B>) -> Result<()>
where
    Autodiff<B>: AutodiffBackend<InnerBackend = B>,
{
    let out = recipe.out();
    let folder = out.parent().unwrap_or(&out);
    let mut overrides = vec![
        format!("lm.run.out={LM}"),
        format!("contrastive.run.out={TUNED}"),
        format!("contrastive.model.llm={LM}/model"),
    ];
    for stage in ["lm", "contrastive"] {
        overrides.push(format!("{stage}.run.steps={}", (steps / 2).max(20)));
    }
    let plan = Plan::load(&folder.join(STAGE1), &overrides, &[])?;
    plan.run::<Autodiff<B>>(&Launch::default(), device, &mut |_| ())?;

    let (path, precision) = (folder.join(TUNED).join("llm"), Precision::F32);
    let load = LoadOptions {
        precision,
        weights: precision,
    };
    let encoder = Encoder::<B>::load(&path, None, &load, device)?;
    let extractor = Extractor {
        identity: identity(&path, &encoder.options)?,
        encoder,
        path,
        precision,
        batch: BATCH,
        device: device.clone(),
    };
    let (source, _) = recipe.clone().section::<DataTable>()?.open(0, 0, 1)?;
    let (fields, settings) = (FIELDS.map(String::from), (StoreType::F32, PART));
    let store = folder.join(STORE);
    extractor.into_store(source.as_ref(), &fields, settings, &store, &mut |_| ())?;
    Ok(())
}
