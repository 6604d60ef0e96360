//! Which words does the caption of an image have? A network that is no CLIP, trained by clip-burn's engine.

use burn::backend::{Autodiff, Flex};
use burn::prelude::*;
use burn::tensor::activation::{relu, sigmoid, softplus};
use burn::tensor::backend::AutodiffBackend;
use clip_burn::clip::checkpoint::{collect, write_safetensors};
use clip_burn::clip::nn::{Linear, init::Init};
use clip_burn::clip::preprocess::decode;
use clip_burn::data::{CollateError, Sample};
use clip_burn::train::trainer::collective::Single;
use clip_burn::train::{
    BoxError, DataTable, Embedded, Embeddings, Launch, Losses, MeanLoss, Pass, Prepare, Recipe, Run, Section, Task,
    Trained, prepared, run,
};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The recipe's `[method]`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    name: String,
    width: usize,
    words: Vec<String>,
}

impl Section for Options {
    const NAME: &'static str = "method";
}

#[derive(Module, Debug)]
struct Network<B: Backend> {
    hidden: Linear<B>,
    head: Linear<B>,
}

impl<B: Backend> Network<B> {
    /// `[n, pixels]` → a logit for each word, `[n, words]`.
    fn forward(&self, pixels: Tensor<B, 2>) -> Tensor<B, 2> {
        self.head.forward(relu(self.hidden.forward(pixels)))
    }
}

/// Pixels in [0, 1] and 1 for each word that the caption has.
struct Batch {
    pixels: Vec<f32>,
    words: Vec<f32>,
    n: usize,
}

impl Prepare for Options {
    type Item = (Vec<f32>, Vec<f32>);
    type Batch = Batch;

    fn item(&self, sample: Sample, _: &mut ChaCha8Rng) -> Result<Self::Item, BoxError> {
        let caption = sample.captions.web.first().ok_or("no caption")?;
        let has = |word: &String| f32::from(caption.split(' ').any(|w| w.starts_with(word.as_str())));
        let pixels = decode(&sample.image)?.into_raw().into_iter();
        Ok((pixels.map(|level| f32::from(level) / 255.0).collect(), self.words.iter().map(has).collect()))
    }

    fn batch(&self, items: Vec<Self::Item>) -> Result<Batch, CollateError> {
        let n = items.len();
        let (pixels, words): (Vec<_>, Vec<_>) = items.into_iter().unzip();
        Ok(Batch { pixels: pixels.concat(), words: words.concat(), n })
    }
}

impl<B: AutodiffBackend> Task<B> for Options {
    type Model = Network<B>;
    type Batch = Batch;
    type Trained = Words<B::InnerBackend>;

    fn embed(&self, model: &Network<B>, batch: &Batch, pass: &mut Pass<B>) -> Result<Embedded<B>, BoxError> {
        let rows = |values: &[f32]| {
            let data = TensorData::new(values.to_vec(), [batch.n, values.len() / batch.n]);
            Tensor::<B, 2>::from_data(data, pass.device())
        };
        let (logits, wanted) = (model.forward(rows(&batch.pixels)), rows(&batch.words));
        let sum = (softplus(logits.clone(), 1.0) - logits * wanted).sum(); // binary cross-entropy
        let count = batch.words.len();
        Ok(Embedded::default().with_mean(MeanLoss { name: "words", sum, count, weight: 1.0 }))
    }

    fn loss(&self, _: &Network<B>, _: Embeddings<B>) -> Result<Losses<B>, BoxError> {
        Err("there are no embeddings to compare".into())
    }

    fn samples(&self, batch: &Batch) -> usize {
        batch.n
    }

    fn trained(&self, model: Network<B::InnerBackend>) -> Words<B::InnerBackend> {
        Words(model)
    }
}

struct Words<B: Backend>(Network<B>);

impl<B: Backend> Trained for Words<B> {
    fn write_into(&self, dir: &Path) -> Result<(), BoxError> {
        Ok(write_safetensors(&dir.join("model.safetensors"), &collect(&self.0))?)
    }
}

fn main() -> anyhow::Result<()> {
    let settings: Vec<String> = std::env::args().skip(1).collect();
    let mut recipe = Recipe::load(Path::new("recipe.toml"), &settings)?;
    let (options, data): (Options, DataTable) = (recipe.section()?, recipe.section()?);
    let (source, sampler) = data.open(recipe.run.seed, 0, 1)?;
    let sample = decode(&source.get(0)?.image)?;
    let (device, mut init) = (Default::default(), Init::seeded(recipe.run.seed));
    let model = Network::<Autodiff<Flex>> {
        hidden: Linear::new(sample.as_raw().len(), options.width, &mut init, &device),
        head: Linear::new(options.width, options.words.len(), &mut init, &device),
    };
    let outcome = run(Run {
        task: &options,
        model,
        recipe: &recipe,
        batches: &mut prepared(options.clone(), source, sampler, data.loader, recipe.run.accumulate),
        collective: &Single,
        validate: None,
        launch: &Launch::latest(),
        device,
    })?;
    let pixels = sample.into_raw().into_iter().map(|level| f32::from(level) / 255.0).collect::<Vec<_>>();
    let pixels = Tensor::<Flex, 1>::from_data(TensorData::from(pixels.as_slice()), &device).unsqueeze();
    let scores = sigmoid(outcome.model.0.forward(pixels)).into_data();
    for (word, score) in options.words.iter().zip(scores.iter::<f32>()) {
        println!("{word} {score:.2}");
    }
    Ok(())
}
